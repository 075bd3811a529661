//! How good SAEs are: reconstruction, sparsity, and what the model loses when it has to go on with the reconstruction.
//!
//! Every chunk of contexts goes through the layers once, side by side with variants of itself: at an SAE's site each
//! variant has its rows replaced (by the reconstruction, the mean row or zeros) and runs on to the logits, where its
//! loss is held against the plain model's. Definitions: `docs/evaluation.md`.

mod calibrate;
mod loss;
mod measure;
mod splice;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use llamascope_compute::{Cpu, Device, Kernel, Precision, Rows};
use llamascope_model::{Batch, Checkpoint, Llama};
use llamascope_record::{Site, Tap, Tokens};
use llamascope_report::evaluation::{Evaluation, LayerEvaluation, SetFigures};
use llamascope_sae::{Convention, Decoder, Format, Sae};

use crate::Error;
use crate::config::{self, LayerSelection};
use crate::corpus::{Context, Corpus, CorpusSpec, Position};
use crate::engine::encode;
use crate::observer::{Observer, Progress};
use crate::run::Surroundings;
use crate::source::{open_model, open_saes};

pub(crate) use calibrate::{Calibration, calibrate};
use loss::Losses;
pub(crate) use measure::norms;
use measure::{Density, Fidelity, Losing};
use splice::{Kind, Sets, Variant};

/// Rows that go through the layers together.
const CHUNK_ROWS: usize = 512;
/// A row longer than this many times the median is a massive activation (Sun et al. 2024, arXiv 2402.17762).
pub const MASSIVE: f64 = 10.0;

/// What to evaluate, on what.
#[derive(Clone, Debug)]
pub struct EvalSpec {
    /// Folder, .gguf file or hub id.
    pub model: String,
    /// Revision on the hub.
    pub revision: Option<String>,
    /// Release name or folder.
    pub sae: String,
    /// At which layers.
    pub layers: LayerSelection,
    /// One reading of Llama Scope files; none means all that differ for the SAE at hand.
    pub convention: Option<Convention>,
    /// The text.
    pub files: Vec<PathBuf>,
    /// Column or key that holds it.
    pub text_column: Option<String>,
    /// Tokens to read at most.
    pub tokens: u64,
    /// Most tokens of a context.
    pub context: usize,
    /// Precision of the model.
    pub dtype: config::Precision,
    /// Threads; none means all cores.
    pub threads: Option<NonZeroUsize>,
}

/// Which rows of a site are looked at. The others keep their clean values and count nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowSet {
    All,
    NoBos,
    Typical,
}

impl RowSet {
    pub(crate) const COUNT: usize = 3;
    pub(crate) const ALL: [RowSet; Self::COUNT] = [RowSet::All, RowSet::NoBos, RowSet::Typical];

    fn name(self) -> &'static str {
        match self {
            RowSet::All => "all",
            RowSet::NoBos => "no_bos",
            RowSet::Typical => "typical",
        }
    }

    /// Whether a row belongs to it.
    fn has(self, bos: bool, norm: f64, massive: f64) -> bool {
        match self {
            RowSet::All => true,
            RowSet::NoBos => !bos,
            RowSet::Typical => !bos && norm <= massive,
        }
    }
}

/// One SAE in one convention, and what was found of it.
struct Subject {
    sae: Sae,
    decoder: Decoder,
    /// Place of its tap among the taps.
    tap: usize,
    /// By set of rows.
    found: [Found; RowSet::COUNT],
}

/// What is measured over one set of rows.
struct Found {
    fidelity: Fidelity,
    density: Density,
    losing: Losing,
}

impl Found {
    fn new(d_sae: usize) -> Found {
        Found { fidelity: Fidelity::default(), density: Density::new(d_sae), losing: Losing::default() }
    }
}

/// Evaluates SAEs on a text.
///
/// # Errors
/// What cannot be opened, a text that is too short, SAEs whose site cannot be replaced, rows that are not finite, an
/// interruption.
pub fn evaluate(spec: &EvalSpec, surroundings: &Surroundings, observer: &dyn Observer) -> Result<Evaluation, Error> {
    let device = open_device(spec.dtype, spec.threads, surroundings.kernel)?;
    // Losses are those of the whole model: every layer is needed.
    let (checkpoint, _) =
        open_model(&spec.model, spec.revision.as_deref(), &LayerSelection::All, &surroundings.hub, observer)?;
    let corpus = Corpus::open(&CorpusSpec {
        files: spec.files.clone(),
        text_column: spec.text_column.clone(),
        context: spec.context.min(checkpoint.config.context),
        max_tokens: Some(spec.tokens),
        shuffle: None,
    })?;
    let mut taps = Vec::new();
    let mut subjects = open_subjects(spec, &checkpoint, surroundings, &mut taps, observer)?;
    let calibration = calibrate(&device, &checkpoint, &corpus, &taps, observer)?;
    let mut evaluation = Evaluation {
        model: spec.model.clone(),
        dtype: device.info().dtype,
        input: spec.files.iter().map(|file| file.display().to_string()).collect(),
        input_blake3: corpus.blake3().to_owned(),
        context: spec.context.min(checkpoint.config.context),
        contexts: 0,
        tokens: 0,
        predictions: 0,
        loss: 0.0,
        perplexity: 0.0,
        layers: Vec::new(),
    };
    observer.stage(&format!("evaluating {} SAEs", subjects.len()));
    let pass = Pass { device: &device, checkpoint: &checkpoint, taps: &taps, calibration: &calibration, observer };
    let mut contexts = corpus.contexts(&checkpoint.tokenizer, Position::default());
    let mut clean_sum = 0.0;
    loop {
        let batch = device.on_host(|| contexts.batch(CHUNK_ROWS))?;
        if batch.is_empty() {
            break;
        }
        let clean = pass.chunk(&batch, &mut subjects, evaluation.tokens)?;
        clean_sum += clean.iter().sum::<f64>();
        evaluation.predictions += clean.len() as u64;
        evaluation.contexts += batch.len() as u64;
        evaluation.tokens += batch.iter().map(|context| context.tokens.len() as u64).sum::<u64>();
    }
    evaluation.loss = clean_sum / evaluation.predictions as f64;
    evaluation.perplexity = evaluation.loss.exp();
    evaluation.layers = subjects.iter().map(|subject| subject.figures(&calibration)).collect();
    Ok(evaluation)
}

pub(crate) fn open_device(
    dtype: config::Precision,
    threads: Option<NonZeroUsize>,
    kernel: Option<Kernel>,
) -> Result<Cpu, Error> {
    let precision = match dtype {
        config::Precision::Float32 => Precision::F32,
        config::Precision::Float16 => Precision::F16,
        config::Precision::Bfloat16 => Precision::Bf16,
    };
    let threads = threads.map_or(0, NonZeroUsize::get);
    Cpu::with_kernel(threads, precision, kernel.unwrap_or_else(Kernel::detect))
        .map_err(|error| Error::Unavailable(format!("cannot start {threads} threads: {error}")))
}

/// Opens the SAEs in every convention asked for; `taps` gets their sites, in order.
fn open_subjects(
    spec: &EvalSpec,
    checkpoint: &Checkpoint,
    surroundings: &Surroundings,
    taps: &mut Vec<Tap>,
    observer: &dyn Observer,
) -> Result<Vec<Subject>, Error> {
    let first = spec.convention.unwrap_or_default();
    let saes = open_saes(&spec.sae, first, &spec.layers, checkpoint, &surroundings.hub, observer)?;
    let mut subjects = Vec::new();
    for sae in saes {
        if sae.tap.site == Site::MlpIn {
            return Err(Error::Unavailable(format!(
                "{}: a transcoder reads one site and writes another ({}); llamascope eval takes SAEs of the residual stream, \
                 of attention's or of the MLP's output",
                sae.path.display(),
                sae.tap
            )));
        }
        let differ = sae.decoder_norm.is_some_and(|norms| !norms.is_unit());
        let others: &[Convention] = match (spec.convention, sae.format) {
            (None, Format::LlamaScope) if differ => &Convention::ALL[1..],
            _ => &[],
        };
        let path = sae.path.clone();
        let others = others.iter().map(|convention| Sae::open(&path, *convention).map_err(Error::from));
        for sae in std::iter::once(Ok(sae)).chain(others) {
            let sae = sae?;
            let decoder = Decoder::open(&sae)?;
            if taps.last() != Some(&sae.tap) {
                taps.push(sae.tap);
            }
            let found = RowSet::ALL.map(|_| Found::new(sae.d_sae()));
            subjects.push(Subject { decoder, tap: taps.len() - 1, found, sae });
        }
    }
    Ok(subjects)
}

/// What all chunks have in common.
struct Pass<'a> {
    device: &'a Cpu,
    checkpoint: &'a Checkpoint,
    taps: &'a [Tap],
    calibration: &'a Calibration,
    observer: &'a dyn Observer,
}

impl Pass<'_> {
    /// Runs a chunk of contexts; gives the plain model's losses.
    fn chunk(&self, contexts: &[Context], subjects: &mut [Subject], done: u64) -> Result<Vec<f64>, Error> {
        let tokens: Vec<&Tokens> = contexts.iter().map(|context| &context.tokens).collect();
        let batch = Batch::new(tokens.iter().copied());
        let bos: Vec<bool> = tokens.iter().flat_map(|tokens| tokens.bos.iter().copied()).collect();
        let longest = tokens.iter().map(|tokens| tokens.len()).max().unwrap_or(0);
        let llama = Llama::new(self.device, self.checkpoint, longest);
        let mut clean = llama.embed(&batch)?;
        let (mut variants, mut sets): (Vec<Variant>, Vec<Sets>) = (Vec::new(), Vec::new());
        for layer in 0..self.checkpoint.config.n_layers {
            self.tell(layer, done, batch.n())?;
            let block = llama.layer(&self.checkpoint.layer(layer)?);
            for variant in &mut variants {
                if self.observer.cancelled() {
                    return Err(Error::Interrupted { run: None });
                }
                block.forward(&mut variant.rows, &batch, None, |_| {});
            }
            let Some(tap) = self.taps.iter().position(|tap| tap.layer == layer) else {
                block.forward(&mut clean, &batch, None, |_| {});
                check_finite(self.device, layer, contexts, &clean)?;
                continue;
            };
            let site = self.taps[tap].site;
            let before = (site != Site::ResidPost).then(|| clean.clone());
            let mut tapped = None;
            block.forward(&mut clean, &batch, Some(site), |rows| tapped = Some(rows.clone()));
            check_finite(self.device, layer, contexts, &clean)?;
            let tapped = tapped.expect("the site was asked for");
            let masks = Sets::new(&bos, &norms(&tapped), self.calibration.taps[tap].massive);
            let mut replacements = vec![
                (Kind::Mean, splice::repeated(&self.calibration.taps[tap].mean, tapped.n())),
                (Kind::Zero, Rows::zeros(tapped.n(), tapped.d())),
            ];
            for (number, subject) in subjects.iter_mut().enumerate().filter(|(_, subject)| subject.tap == tap) {
                replacements.push((Kind::Sae(number), subject.look(self.device, &tapped, &masks)?));
            }
            for (kind, replacement) in &replacements {
                for set in masks.distinct() {
                    let mut rows = splice::replaced(&tapped, replacement, masks.mask(set));
                    if let Some(before) = &before {
                        // Inside a layer the rows take part in what follows: the layer runs again with them.
                        let mut residual = before.clone();
                        block.forward(&mut residual, &batch, Some(site), |out| *out = rows.clone());
                        rows = residual;
                    }
                    variants.push(Variant { tap, kind: *kind, set, rows });
                }
            }
            sets.push(masks);
        }
        let losses = Losses { device: self.device, llama: &llama, tokens: &tokens, observer: self.observer };
        let rows = losses.rows();
        let (clean, others) = losses.compute(&clean, &variants)?;
        for (number, subject) in subjects.iter_mut().enumerate() {
            let masks = &sets[subject.tap];
            for (set, found) in subject.found.iter_mut().enumerate() {
                let counted = || (0..rows.len()).filter(|index| masks.mask(set)[rows[*index]]);
                found.losing.clean(counted().map(|index| clean[index]));
                let same = variants.iter().zip(&others).filter(|(variant, _)| {
                    variant.tap == subject.tap && variant.set == masks.same_as(set) && variant.kind.is_of(number)
                });
                for (variant, losses) in same {
                    found.losing.replaced(variant.kind, counted().map(|index| losses[index]));
                }
            }
        }
        Ok(clean)
    }

    fn tell(&self, layer: usize, done: u64, rows: usize) -> Result<(), Error> {
        if self.observer.cancelled() {
            return Err(Error::Interrupted { run: None });
        }
        let layers = self.checkpoint.config.n_layers as u64;
        self.observer.progress(Progress {
            wave: 1,
            waves: 1,
            layer,
            last_layer: self.checkpoint.config.n_layers - 1,
            done: done * layers + rows as u64 * layer as u64,
            total: self.calibration.tokens * layers,
            tokens: self.calibration.tokens,
        });
        Ok(())
    }
}

impl Subject {
    /// Encodes and decodes rows, notes how well that went over each set, and gives the reconstruction.
    fn look(&mut self, device: &Cpu, rows: &Rows, sets: &Sets) -> Result<Rows, Error> {
        let encoder = device.encoder(&self.sae.w_enc);
        let (features, _) = encode(device, &self.sae, &encoder, rows.clone())?;
        let decoded = self.decoder.decode(&features, rows.data());
        let decoded = Rows::from_vec(rows.n(), rows.d(), decoded);
        for (set, found) in self.found.iter_mut().enumerate() {
            for row in (0..rows.n()).filter(|row| sets.mask(set)[*row]) {
                let (ids, _) = features.row(row);
                found.fidelity.add(rows.row(row), decoded.row(row), ids.len());
                found.density.add(ids);
            }
        }
        Ok(decoded)
    }

    fn figures(&self, calibration: &Calibration) -> LayerEvaluation {
        let figures = |set: RowSet| {
            let Found { fidelity, density, losing } = &self.found[set as usize];
            losing.figures(density.figures(fidelity.figures()))
        };
        let tap = &calibration.taps[self.tap];
        LayerEvaluation {
            layer: self.sae.tap.layer,
            hook: self.sae.tap.to_string(),
            sae: self.sae.path.display().to_string(),
            convention: self.sae.convention.map_or("native", Convention::name).to_owned(),
            d_sae: self.sae.d_sae(),
            median_norm: tap.median,
            massive_norm: tap.massive,
            typical: figures(RowSet::Typical),
            sets: RowSet::ALL.map(|set| SetFigures { rows_of: set.name(), figures: figures(set) }).into(),
        }
    }
}

/// Rows that are not finite are an error that says where.
pub(crate) fn check_finite(device: &Cpu, layer: usize, contexts: &[Context], rows: &Rows) -> Result<(), Error> {
    let Some(row) = device.non_finite_row(rows) else { return Ok(()) };
    let mut first = 0;
    for context in contexts {
        let position = row - first;
        if position < context.tokens.len() {
            return Err(Error::NonFinite {
                layer,
                sentence: context.document as usize,
                place: format!(", token {} of the document", context.offset),
                position,
                dtype: device.info().dtype,
            });
        }
        first += context.tokens.len();
    }
    unreachable!("every row is of a context")
}

#[cfg(test)]
mod tests;
