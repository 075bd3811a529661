//! What features stand for, looked up in a corpus: where each is strongest, how often it is active, on which tokens, and
//! which tokens it promotes. Contexts stream through the model; what is kept of them has a bound for each feature.

mod promoted;
mod strongest;
#[cfg(test)]
mod tests;

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use llamascope_compute::{Cpu, Device};
use llamascope_model::{Batch, Checkpoint, Llama};
use llamascope_record::explored::{self, Feature, Header};
use llamascope_record::{Tap, Tokens};
use llamascope_sae::{Convention, Decoder, Sae};

use crate::Error;
use crate::config::{self, LayerSelection};
use crate::corpus::{Context, Corpus, CorpusSpec, Position};
use crate::engine::{encode, hash_sae};
use crate::eval::{Calibration, calibrate, check_finite, norms, open_device};
use crate::fetch::is_local;
use crate::observer::{Observer, Progress};
use crate::run::Surroundings;
use crate::source::{open_model, open_saes};

use strongest::{Chunk, Pieces, Place, Strongest};

/// Rows that go through the layers together.
const CHUNK_ROWS: usize = 1024;

/// What to explore, in which text.
#[derive(Clone, Debug)]
pub struct ExploreSpec {
    /// Folder, .gguf file or hub id.
    pub model: String,
    /// Revision on the hub.
    pub revision: Option<String>,
    /// Release name or folder.
    pub sae: String,
    /// At which layers.
    pub layers: LayerSelection,
    /// The reading of Llama Scope files.
    pub convention: Convention,
    /// The text.
    pub files: Vec<PathBuf>,
    /// Column or key that holds it.
    pub text_column: Option<String>,
    /// Tokens to read at most.
    pub tokens: Option<u64>,
    /// Most tokens of a context.
    pub context: usize,
    /// What is kept of each feature.
    pub keep: Keep,
    /// Precision of the model.
    pub dtype: config::Precision,
    /// Threads; none means all cores.
    pub threads: Option<NonZeroUsize>,
    /// Where the files are written; none means beside each SAE.
    pub output: Option<PathBuf>,
}

/// How much is kept of each feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Contexts.
    pub contexts: usize,
    /// Tokens before the strongest one of a context.
    pub before: usize,
    /// Tokens behind it.
    pub after: usize,
    /// Token types, and promoted tokens.
    pub types: usize,
}

impl Default for Keep {
    fn default() -> Keep {
        Keep { contexts: 6, before: 12, after: 6, types: 5 }
    }
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Where it is.
    pub path: PathBuf,
    /// The layer.
    pub layer: usize,
    /// Its size.
    pub bytes: u64,
    /// Features that were active.
    pub seen: usize,
    /// Of so many.
    pub d_sae: usize,
    /// Rows that were looked at.
    pub rows: u64,
    /// Active features a row.
    pub l0_mean: f64,
}

/// One SAE, and what was found of it.
struct Explorer {
    sae: Sae,
    encoder: <Cpu as Device>::Encoder,
    folder: PathBuf,
    found: Strongest,
}

/// Reads the text and writes a file for each SAE.
///
/// # Errors
/// What cannot be opened or written, a text that is too short, rows that are not finite, an interruption (of which the
/// observer is told what it leaves).
pub fn explore(
    spec: &ExploreSpec,
    surroundings: &Surroundings,
    observer: &dyn Observer,
) -> Result<Vec<Written>, Error> {
    let mut written = Vec::new();
    let result = explore_into(spec, surroundings, observer, &mut written);
    if result.as_ref().is_err_and(Error::is_interruption) {
        let layers: Vec<String> = written.iter().map(|file: &Written| file.layer.to_string()).collect();
        observer.warn(&match layers.is_empty() {
            true => "nothing was written: files are made when the whole text was read".to_owned(),
            false => format!("finished and kept: the files of layers {}", layers.join(", ")),
        });
    }
    result.map(|()| written)
}

fn explore_into(
    spec: &ExploreSpec,
    surroundings: &Surroundings,
    observer: &dyn Observer,
    written: &mut Vec<Written>,
) -> Result<(), Error> {
    if spec.output.is_none() && !is_local(Path::new(&spec.sae)) {
        return Err(Error::Unavailable(format!(
            "`{}` has no folder of its own to write into: name one with --output-dir",
            spec.sae
        )));
    }
    let device = open_device(spec.dtype, spec.threads, surroundings.kernel)?;
    // The unembedding tells what features promote: every file is needed.
    let (checkpoint, _) =
        open_model(&spec.model, spec.revision.as_deref(), &LayerSelection::All, &surroundings.hub, observer)?;
    let context = spec.context.min(checkpoint.config.context);
    let corpus = Corpus::open(&CorpusSpec {
        files: spec.files.clone(),
        text_column: spec.text_column.clone(),
        context,
        max_tokens: spec.tokens,
        shuffle: None,
    })?;
    let saes = open_saes(&spec.sae, spec.convention, &spec.layers, &checkpoint, &surroundings.hub, observer)?;
    let open = |sae: Sae| {
        let beside = if sae.path.is_dir() { Some(sae.path.as_path()) } else { sae.path.parent() };
        let folder = spec.output.as_deref().or(beside).unwrap_or(Path::new(".")).to_owned();
        fs::create_dir_all(&folder).map_err(|source| Error::Io { path: folder.clone(), source })?;
        Ok(Explorer { encoder: device.encoder(&sae.w_enc), folder, found: Strongest::new(sae.d_sae(), spec.keep), sae })
    };
    let mut explorers = saes.into_iter().map(open).collect::<Result<Vec<Explorer>, Error>>()?;
    let taps: Vec<Tap> = explorers.iter().map(|explorer| explorer.sae.tap).collect();
    let calibration = calibrate(&device, &checkpoint, &corpus, &taps, observer)?;
    observer.stage(&format!("looking for {} layers' features in {} tokens", taps.len(), calibration.tokens));
    let mut pass = Pass {
        device: &device,
        checkpoint: &checkpoint,
        corpus: &corpus,
        calibration: &calibration,
        observer,
        pieces: Pieces::default(),
        rows: vec![0; taps.len()],
    };
    let mut contexts = corpus.contexts(&checkpoint.tokenizer, Position::default());
    let mut tokens = 0;
    loop {
        let batch = device.on_host(|| contexts.batch(CHUNK_ROWS))?;
        if batch.is_empty() {
            break;
        }
        pass.chunk(&batch, &mut explorers, tokens)?;
        tokens += batch.iter().map(|context| context.tokens.len() as u64).sum::<u64>();
    }
    let Pass { mut pieces, rows, .. } = pass;
    for ((explorer, usual), rows) in explorers.into_iter().zip(&calibration.taps).zip(rows) {
        let header = Header {
            format: explored::FORMAT.into(),
            version: explored::VERSION,
            program: surroundings.program.clone(),
            layer: explorer.sae.tap.layer,
            hook: explorer.sae.tap.to_string(),
            d_sae: explorer.sae.d_sae(),
            convention: explorer.sae.convention.map_or("native", Convention::name).to_owned(),
            sae_blake3: device.on_host(|| hash_sae(&explorer.sae)).to_hex().to_string(),
            model: spec.model.clone(),
            input: spec.files.iter().map(|file| file.display().to_string()).collect(),
            input_blake3: corpus.blake3().to_owned(),
            context,
            tokens,
            rows,
            massive_norm: usual.massive,
        };
        written.push(finish(&device, &checkpoint, explorer, &header, &mut pieces, observer)?);
    }
    Ok(())
}

/// Asks the weights what the features promote, and writes the file.
fn finish(
    device: &Cpu,
    checkpoint: &Checkpoint,
    explorer: Explorer,
    header: &Header,
    pieces: &mut Pieces,
    observer: &dyn Observer,
) -> Result<Written, Error> {
    let Explorer { sae, folder, found, .. } = explorer;
    let mut features = found.features(pieces);
    observer.stage(&format!("layer {}: tokens that {} features promote", header.layer, features.len()));
    match Decoder::open(&sae) {
        Ok(decoder) => {
            promoted::fill(device, checkpoint, &decoder, &mut features, pieces, found.keep().types, observer)?
        }
        Err(error) => observer.warn(&format!("layer {}: no promoted tokens: {error}", header.layer)),
    }
    let texts = pieces.used_by(&mut features);
    let active: u64 = features.iter().map(|feature: &Feature| feature.rows).sum();
    let seen = features.len();
    let path = explored::write(&folder, header, &texts, features)?;
    let bytes = path.metadata().map_or(0, |metadata| metadata.len());
    let l0_mean = active as f64 / header.rows.max(1) as f64;
    Ok(Written { path, layer: header.layer, bytes, seen, d_sae: header.d_sae, rows: header.rows, l0_mean })
}

/// What all chunks have in common.
struct Pass<'a> {
    device: &'a Cpu,
    checkpoint: &'a Checkpoint,
    corpus: &'a Corpus,
    calibration: &'a Calibration,
    observer: &'a dyn Observer,
    pieces: Pieces,
    /// Rows that were looked at, by tap.
    rows: Vec<u64>,
}

impl Pass<'_> {
    /// Takes contexts up to the last tapped layer. `done` tokens went before.
    fn chunk(&mut self, contexts: &[Context], explorers: &mut [Explorer], done: u64) -> Result<(), Error> {
        let tokens: Vec<&Tokens> = contexts.iter().map(|context| &context.tokens).collect();
        let batch = Batch::new(tokens.iter().copied());
        let places: Vec<Place> = (0..).zip(&tokens).flat_map(|(n, tokens)| Place::all(n, tokens)).collect();
        let texts = contexts.iter().map(|context| strongest::texts(context, self.corpus)).collect::<Result<_, _>>()?;
        let texts: Vec<Vec<u32>> = self.pieces.intern_all(texts);
        let types: Vec<u32> =
            tokens.iter().flat_map(|tokens| tokens.strs.iter()).map(|text| self.pieces.intern(text)).collect();
        let chunk = Chunk { contexts, texts: &texts, types: &types, places: &places };
        let longest = tokens.iter().map(|tokens| tokens.len()).max().unwrap_or(0);
        let llama = Llama::new(self.device, self.checkpoint, longest);
        let mut x = llama.embed(&batch)?;
        let last = explorers.iter().map(|explorer| explorer.sae.tap.layer).max().unwrap_or(0);
        for layer in 0..=last {
            self.tell(layer, last, done, batch.n())?;
            let at = explorers.iter().position(|explorer| explorer.sae.tap.layer == layer);
            let block = llama.layer(&self.checkpoint.layer(layer)?);
            let mut tapped = None;
            block.forward(&mut x, &batch, at.map(|at| explorers[at].sae.tap.site), |rows| tapped = Some(rows.clone()));
            check_finite(self.device, layer, contexts, &x)?;
            let (Some(at), Some(rows)) = (at, tapped) else { continue };
            let massive = self.calibration.taps[at].massive;
            let lengths = norms(&rows);
            let kept: Vec<usize> = (0..rows.n()).filter(|row| !places[*row].bos && lengths[*row] <= massive).collect();
            let Explorer { sae, encoder, found, .. } = &mut explorers[at];
            let (features, _) = encode(self.device, sae, encoder, self.device.gather(&rows, &kept))?;
            self.rows[at] += kept.len() as u64;
            found.add(&chunk, &kept, &features);
        }
        Ok(())
    }

    fn tell(&self, layer: usize, last_layer: usize, done: u64, rows: usize) -> Result<(), Error> {
        if self.observer.cancelled() {
            return Err(Error::Interrupted { run: None });
        }
        let (layers, tokens) = (last_layer as u64 + 1, self.calibration.tokens);
        let done = done * layers + rows as u64 * layer as u64;
        self.observer.progress(Progress { wave: 1, waves: 1, layer, last_layer, done, total: tokens * layers, tokens });
        Ok(())
    }
}
