//! What a run is told to do: a config file, overridden by flags, over defaults.
//!
//! Relative paths mean what they mean to any program: relative to the current folder, not to the config file. They are
//! kept as typed, so that a run can be repeated from its record on another machine.

mod choice;
mod error;
mod file;
mod layers;
mod memory;
#[cfg(test)]
mod tests;
pub mod yaml;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use llamascope_sae::Convention;
use serde_json::{Value, json};

pub use choice::{Choice, DeviceChoice, Precision, hint, quoted, shown};
pub use error::{ConfigError, ValueError};
pub use file::{ConfigFile, MAX_CONFIG_BYTES};
pub use layers::LayerSelection;
pub use memory::{format_memory, parse_memory};

/// Every key of a config file and the flag that overrides it.
pub const KEYS: [(&str, &str); 13] = [
    ("model_id", "--model"),
    ("sae_release", "--sae"),
    ("dtype", "--dtype"),
    ("device", "--device"),
    ("layers", "--layers"),
    ("input_csvs", "--input"),
    ("output_dir", "--output-dir"),
    ("text_column", "--text-column"),
    ("sae_convention", "--sae-convention"),
    ("memory", "--memory"),
    ("threads", "--threads"),
    ("truncate", "--truncate"),
    ("revision", "--revision"),
];

/// Settings that somebody gave: a config file over the defaults, flags over the config file. The keys mean the same as
/// in [`RunConfig`].
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Overrides {
    pub model_id: Option<String>,
    pub sae_release: Option<String>,
    pub dtype: Option<Precision>,
    pub device: Option<DeviceChoice>,
    pub layers: Option<LayerSelection>,
    pub input_csvs: Option<Vec<PathBuf>>,
    pub output_dir: Option<PathBuf>,
    pub text_column: Option<String>,
    pub sae_convention: Option<Convention>,
    pub memory: Option<u64>,
    pub threads: Option<NonZeroUsize>,
    pub truncate: Option<bool>,
    pub revision: Option<String>,
}

impl Overrides {
    /// These settings where they are given, those below elsewhere.
    pub fn over(self, below: Overrides) -> Overrides {
        Overrides {
            model_id: self.model_id.or(below.model_id),
            sae_release: self.sae_release.or(below.sae_release),
            dtype: self.dtype.or(below.dtype),
            device: self.device.or(below.device),
            layers: self.layers.or(below.layers),
            input_csvs: self.input_csvs.or(below.input_csvs),
            output_dir: self.output_dir.or(below.output_dir),
            text_column: self.text_column.or(below.text_column),
            sae_convention: self.sae_convention.or(below.sae_convention),
            memory: self.memory.or(below.memory),
            threads: self.threads.or(below.threads),
            truncate: self.truncate.or(below.truncate),
            revision: self.revision.or(below.revision),
        }
    }
}

/// Everything a run is told, complete.
#[derive(Clone, Debug, PartialEq)]
pub struct RunConfig {
    /// Hub id, folder in Hugging Face layout, or GGUF file.
    pub model_id: String,
    /// Release name, or folder that holds the SAEs.
    pub sae_release: String,
    /// Precision of the computation; float32 unless given.
    pub dtype: Precision,
    /// Where it runs; auto unless given.
    pub device: DeviceChoice,
    /// Layers to analyse; all unless given.
    pub layers: LayerSelection,
    /// Input files, joined in this order; at least one.
    pub input_csvs: Vec<PathBuf>,
    /// Where run folders are made; `outputs` unless given.
    pub output_dir: PathBuf,
    /// Column (CSV with a header) or key (JSON lines) that holds the sentence; none means that a record is a sentence.
    pub text_column: Option<String>,
    /// Reading of Llama Scope checkpoints; saelens unless given.
    pub sae_convention: Convention,
    /// Memory budget in bytes; none means that the program decides.
    pub memory: Option<u64>,
    /// Number of threads; none means that the program decides.
    pub threads: Option<NonZeroUsize>,
    /// Whether sentences longer than the model's context are cut rather than refused.
    pub truncate: bool,
    /// Branch, tag or commit of the model on the hub.
    pub revision: Option<String>,
}

impl RunConfig {
    /// Flags over the file over the defaults.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] for a model, SAEs or input that nobody gave.
    pub fn resolve(file: Option<ConfigFile>, flags: Overrides) -> Result<Self, ConfigError> {
        let (path, below) = file.map(|file| (file.path, file.settings)).unzip();
        let given = flags.over(below.unwrap_or_default());
        let missing = |key: &'static str| {
            let (_, flag) = KEYS.iter().find(|(name, _)| *name == key).expect("a key of the list");
            ConfigError::Missing { key, flag, file: path.clone() }
        };
        Ok(RunConfig {
            model_id: given.model_id.ok_or_else(|| missing("model_id"))?,
            sae_release: given.sae_release.ok_or_else(|| missing("sae_release"))?,
            dtype: given.dtype.unwrap_or(Precision::Float32),
            device: given.device.unwrap_or(DeviceChoice::Auto),
            layers: given.layers.unwrap_or(LayerSelection::All),
            input_csvs: given.input_csvs.filter(|files| !files.is_empty()).ok_or_else(|| missing("input_csvs"))?,
            output_dir: given.output_dir.unwrap_or_else(|| "outputs".into()),
            text_column: given.text_column,
            sae_convention: given.sae_convention.unwrap_or(Convention::Saelens),
            memory: given.memory,
            threads: given.threads,
            truncate: given.truncate.unwrap_or(false),
            revision: given.revision,
        })
    }

    /// The configuration for a run's record, with the keys of a config file in their order; settings without a value
    /// are left out. [`ConfigFile::parse`] reads it back (paths that are not Unicode come back changed).
    pub fn to_json(&self) -> Value {
        let layers = match &self.layers {
            LayerSelection::All => json!("all"),
            LayerSelection::Only(layers) => json!(layers),
        };
        let files: Vec<_> = self.input_csvs.iter().map(|file| file.to_string_lossy()).collect();
        let mut config = json!({
            "model_id": self.model_id,
            "sae_release": self.sae_release,
            "dtype": self.dtype.name(),
            "device": self.device.name(),
            "layers": layers,
            "input_csvs": files,
            "output_dir": self.output_dir.to_string_lossy(),
            "text_column": self.text_column,
            "sae_convention": self.sae_convention.name(),
            "memory": self.memory.map(format_memory),
            "threads": self.threads,
            "truncate": self.truncate,
            "revision": self.revision,
        });
        config.as_object_mut().expect("made as one").retain(|_, value| !value.is_null());
        config
    }
}

/// Most threads that anyone can ask for.
const MAX_THREADS: usize = 4_096;

/// Reads a number of threads.
///
/// # Errors
/// Not a whole number from 1 to 4096.
pub fn parse_threads(text: &str) -> Result<NonZeroUsize, ValueError> {
    let threads = text.parse().ok().filter(|threads: &NonZeroUsize| threads.get() <= MAX_THREADS);
    let expected = "a whole number from 1 to 4096";
    threads.ok_or_else(|| ValueError::Form { found: choice::quoted(text), expected })
}
