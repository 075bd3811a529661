//! The model and SAEs of a finished run, opened again: to encode a sentence that somebody types, and to ask the weights
//! what a feature means.
//!
//! The manifest says where the files were and what they held. Sizes of the model's files, its tokenizer and every SAE's
//! encoder are held against it, so that what is typed is computed as the run was, or not at all.

mod meaning;
mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use llamascope_compute::{Cpu, Device, Kernel, Precision};
use llamascope_model::{Batch, Checkpoint, Llama};
use llamascope_record::Tokens;
use llamascope_record::run::{Manifest, SaeInfo};
use llamascope_sae::{Convention, Decoder, Sae};

pub use meaning::Logits;
pub(crate) use meaning::largest;
pub use store::Moment;

use crate::Error;
use crate::engine::{self, Encoded, encode, tensors};

/// Most tokens of a typed sentence.
pub const MAX_TOKENS: usize = 1024;

/// Why weights cannot be used. Full sentences with the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum LiveError {
    /// The run does not say which weights it used, or they are not where they were.
    #[error("{0}")]
    Missing(String),
    /// They are not what they were.
    #[error("{0}")]
    Changed(String),
    /// The files hold no decoder or no unembedding.
    #[error("{0}")]
    NoDecoder(String),
    /// A text that cannot be encoded.
    #[error("{0}")]
    Text(String),
    /// In a box, because it is much larger than the others.
    #[error(transparent)]
    Failed(Box<Error>),
}

impl From<Error> for LiveError {
    fn from(error: Error) -> Self {
        LiveError::Failed(Box::new(error))
    }
}

/// Where the weights of a run are on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights {
    model: PathBuf,
    saes: BTreeMap<usize, PathBuf>,
}

/// Looks for the weights of the run in the folder `run`: where they were, or at the same place seen from the folder that
/// the run was started in. Opens nothing.
///
/// # Errors
/// [`LiveError::Missing`] and [`LiveError::Changed`].
pub fn find(run: &Path, manifest: &Manifest) -> Result<Weights, LiveError> {
    let missing = |what: &str, path: &str| {
        LiveError::Missing(format!(
            "{what} of this run is not at {path} any more: put it back there, or repeat the run with `llamascope run`"
        ))
    };
    if manifest.model.path.is_empty() {
        let text = "the run's run.json does not say where its model was: repeat the run with `llamascope run`";
        return Err(LiveError::Missing(text.into()));
    }
    let home = started_in(run, manifest);
    let place = |what: &str, path: &str| {
        let seen_from_home = home.as_ref().map(|home| home.join(path)).filter(|path| path.exists());
        let there = Some(PathBuf::from(path)).filter(|path| path.exists());
        seen_from_home.or(there).ok_or_else(|| missing(what, path))
    };
    for file in &manifest.model.files {
        let path = place("the model", &file.path)?;
        let bytes = path.metadata().map_or(0, |metadata| metadata.len());
        if bytes != file.bytes {
            return Err(LiveError::Changed(format!(
                "{} has {bytes} bytes, it had {} when the run was made: put the old file back, or repeat the run",
                path.display(),
                file.bytes
            )));
        }
    }
    let sae = |sae: &SaeInfo| Ok((sae.layer, place(&format!("the SAE of layer {}", sae.layer), &sae.path)?));
    let saes = manifest.saes.iter().map(sae).collect::<Result<_, LiveError>>()?;
    Ok(Weights { model: place("the model", &manifest.model.path)?, saes })
}

/// Where the SAEs of a run are on this machine, by layer: those that are still there.
pub fn find_saes(run: &Path, manifest: &Manifest) -> BTreeMap<usize, PathBuf> {
    let home = started_in(run, manifest);
    let place = |path: &str| {
        let seen_from_home = home.as_ref().map(|home| home.join(path));
        seen_from_home.into_iter().chain([PathBuf::from(path)]).find(|path| path.exists())
    };
    manifest.saes.iter().filter_map(|sae| Some((sae.layer, place(&sae.path)?))).collect()
}

/// The folder that a run was started in, if its output folder was named relative to that.
fn started_in(run: &Path, manifest: &Manifest) -> Option<PathBuf> {
    let output = Path::new(manifest.config.get("output_dir")?.as_str()?);
    let mut folder = std::path::absolute(run).ok()?.parent()?.to_owned();
    for part in output.components().rev() {
        match part {
            std::path::Component::Normal(name) if folder.file_name() == Some(name) => folder.pop(),
            std::path::Component::CurDir => true,
            _ => return None,
        };
    }
    Some(folder)
}

/// An open model with the SAEs of a run, which are opened when they are first needed.
pub struct Session {
    device: Cpu,
    checkpoint: Checkpoint,
    weights: Weights,
    /// What the run knows of them.
    known: Vec<SaeInfo>,
    /// Whether the weights are larger than what may stay in memory.
    streaming: bool,
    saes: Mutex<BTreeMap<usize, Arc<Sae>>>,
    decoders: Mutex<BTreeMap<usize, Arc<Decoder>>>,
    /// Time that opening has taken since it was last told.
    loading: Mutex<Duration>,
}

/// A typed sentence, encoded.
#[derive(Clone, Debug)]
pub struct Typed {
    /// Its tokens, BOS included.
    pub tokens: Tokens,
    /// Of each layer asked for one row for every token that is not BOS.
    pub layers: Vec<Encoded>,
    /// Seconds that it took, from text to rows.
    pub seconds: f64,
    /// Seconds of opening model and SAEs before that; 0 where they were open.
    pub load_seconds: f64,
}

impl Session {
    /// Opens the model of a run. `memory` is the budget in bytes: weights that do not fit are dropped behind the work.
    ///
    /// # Errors
    /// A model that cannot be opened, or has another shape or tokenizer than the run's.
    pub fn open(
        weights: Weights,
        manifest: &Manifest,
        memory: u64,
        kernel: Option<Kernel>,
    ) -> Result<Session, LiveError> {
        let started = Instant::now();
        let precision = match manifest.device.dtype.as_str() {
            "float16" => Precision::F16,
            "bfloat16" => Precision::Bf16,
            _ => Precision::F32,
        };
        let device = Cpu::with_kernel(0, precision, kernel.unwrap_or_else(Kernel::detect))
            .map_err(|error| Error::Unavailable(format!("cannot start threads: {error}")))?;
        let checkpoint = Checkpoint::open(&weights.model).map_err(Error::from)?;
        let changed = |what: &str| {
            LiveError::Changed(format!(
                "{}: {what} is not what it was when the run was made: put the old files back, or repeat the run",
                weights.model.display()
            ))
        };
        let (now, then) = (&checkpoint.config, &manifest.model);
        if (now.n_layers, now.d_model, now.vocab) != (then.n_layers, then.d_model, then.vocab) {
            return Err(changed("the model's shape"));
        }
        let tokenizer = checkpoint.tokenizer.to_json().map_err(Error::from)?;
        if blake3::hash(tokenizer.as_bytes()).to_hex().as_str() != then.tokenizer_blake3 {
            return Err(changed("the tokenizer"));
        }
        let bytes: u64 = then.files.iter().map(|file| file.bytes).sum();
        Ok(Session {
            device,
            checkpoint,
            streaming: bytes > memory / 2,
            known: manifest.saes.clone(),
            weights,
            saes: Mutex::default(),
            decoders: Mutex::default(),
            loading: Mutex::new(started.elapsed()),
        })
    }

    /// The SAE of a layer, held against what the run used.
    fn sae(&self, layer: usize) -> Result<Arc<Sae>, LiveError> {
        let mut open = self.saes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(sae) = open.get(&layer) {
            return Ok(sae.clone());
        }
        let known = self.known.iter().find(|known| known.layer == layer);
        let (Some(known), Some(path)) = (known, self.weights.saes.get(&layer)) else {
            return Err(LiveError::Missing(format!("the run has no SAE for layer {layer}")));
        };
        let started = Instant::now();
        let convention = known.convention.parse().unwrap_or(Convention::default());
        let sae = Sae::open(path, convention).map_err(Error::from)?;
        // A run that did not come to its end names no hash.
        let same = known.blake3.is_empty() || engine::hash_sae(&sae).to_hex().as_str() == known.blake3;
        if !same || (sae.d_sae(), sae.d_in()) != (known.d_sae, known.d_in) || sae.tap.to_string() != known.hook {
            return Err(LiveError::Changed(format!(
                "{} does not hold the SAE that the run was made with: put the old files back, or repeat the run",
                path.display()
            )));
        }
        if sae.d_in() != self.checkpoint.config.d_model || sae.tap.layer >= self.checkpoint.config.n_layers {
            return Err(LiveError::Changed(format!("{} is not an SAE of this model", path.display())));
        }
        *self.loading.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) += started.elapsed();
        Ok(open.entry(layer).or_insert(Arc::new(sae)).clone())
    }

    fn decoder(&self, layer: usize) -> Result<Arc<Decoder>, LiveError> {
        let sae = self.sae(layer)?;
        let mut open = self.decoders.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(decoder) = open.get(&layer) {
            return Ok(decoder.clone());
        }
        let none =
            |error| LiveError::NoDecoder(format!("the SAE of layer {layer} has no decoder that can be read: {error}"));
        let decoder = Arc::new(Decoder::open(&sae).map_err(none)?);
        Ok(open.entry(layer).or_insert(decoder).clone())
    }

    /// Encodes a text at some of the run's layers. The same text gives the same rows as in the run, to the bit.
    ///
    /// # Errors
    /// A text without tokens or with more than [`MAX_TOKENS`], SAEs that have changed, rows that are not finite.
    pub fn encode(&self, text: &str, layers: &[usize]) -> Result<Typed, LiveError> {
        let saes = layers.iter().map(|layer| self.sae(*layer)).collect::<Result<Vec<_>, _>>()?;
        let loading = std::mem::take(&mut *self.loading.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        let started = Instant::now();
        let tokens = self.checkpoint.tokenizer.encode(text).map_err(Error::from)?;
        let output: Vec<usize> = tokens.output_positions().collect();
        let most = MAX_TOKENS.min(self.checkpoint.config.context);
        if output.is_empty() {
            return Err(LiveError::Text("the text has no tokens: type a sentence".into()));
        }
        if tokens.len() > most {
            let text = format!(
                "the text has {} tokens, at most {most} can be typed: put it into a file for `llamascope run`",
                tokens.len()
            );
            return Err(LiveError::Text(text));
        }
        let mut found = Vec::new();
        let device = &self.device;
        let llama = Llama::new(device, &self.checkpoint, tokens.len());
        let batch = Batch::new([&tokens]);
        let mut residual = llama.embed(&batch).map_err(Error::from)?;
        for layer in 0..=layers.iter().copied().max().unwrap_or(0) {
            let weights = self.checkpoint.layer(layer).map_err(Error::from)?;
            let sae = saes.iter().find(|sae| sae.tap.layer == layer);
            let mut tapped = None;
            llama.layer(&weights).forward(&mut residual, &batch, sae.map(|sae| sae.tap.site), |rows| {
                tapped = Some(device.gather(rows, &output));
            });
            if let Some(position) = device.non_finite_row(&residual) {
                let dtype = device.info().dtype;
                return Err(Error::NonFinite { layer, sentence: 0, place: String::new(), position, dtype }.into());
            }
            if let (Some(sae), Some(rows)) = (sae, tapped) {
                let (rows, _) = encode(device, sae, &device.encoder(&sae.w_enc), rows)?;
                found.push(Encoded { layer, sentences: 0..1, rows });
            }
            if self.streaming {
                tensors(&weights).for_each(|tensor| tensor.dont_need());
                saes.iter().filter(|sae| sae.tap.layer == layer).for_each(|sae| sae.w_enc.dont_need());
            }
        }
        let (seconds, load_seconds) = (started.elapsed().as_secs_f64(), loading.as_secs_f64());
        Ok(Typed { tokens, layers: found, seconds, load_seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_knows_the_folder_it_was_started_in() {
        let manifest =
            |output: &str| Manifest { config: serde_json::json!({"output_dir": output}), ..Manifest::default() };
        let home = |run: &str, output: &str| started_in(Path::new(run), &manifest(output));
        assert_eq!(home("/a/b/outputs/run_1", "outputs"), Some("/a/b".into()));
        assert_eq!(home("/a/b/outputs/deep/run_1", "./outputs/deep"), Some("/a/b".into()));
        assert_eq!(home("/a/b/elsewhere/run_1", "outputs"), None);
        assert_eq!(home("/a/b/run_1", "../b"), None);
    }
}
