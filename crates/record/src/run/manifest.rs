//! The manifest of a run: what ran, on what, with which result. Stored as `run.json`; unknown keys are ignored when it
//! is read and missing ones take their defaults.

use serde::{Deserialize, Deserializer, Serialize};

/// Version of the run folder's format that this program writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// A format version; by default the one that this program writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FormatVersion(pub u32);

impl Default for FormatVersion {
    fn default() -> Self {
        FormatVersion(FORMAT_VERSION)
    }
}

/// What a run is. Files are described as they were when the run started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// Version of the folder's format.
    pub format_version: FormatVersion,
    /// Name and version of the program that wrote the run, such as `llamascope 0.1.0`.
    pub program: String,
    /// Whether every row of every sentence is there; set last.
    pub complete: bool,
    /// How far the run came.
    pub status: Status,
    /// When it started, as RFC 3339 writes it.
    pub started: String,
    /// The settings after defaults and flags, under the keys of the configuration file.
    pub config: serde_json::Value,
    /// The model.
    pub model: ModelInfo,
    /// The dictionaries, one a layer, in ascending order of layers.
    pub saes: Vec<SaeInfo>,
    /// What computed.
    pub device: DeviceInfo,
    /// How much was read and written.
    pub counts: Counts,
    /// What came out of each layer, in ascending order.
    pub layers: Vec<LayerSummary>,
    /// Fingerprint of all rows, see [`Fingerprint`](super::Fingerprint); there when the run is complete.
    pub fingerprint: Option<String>,
    /// Where the time went.
    pub timings: Timings,
    /// Most memory that was resident at once, in bytes, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// How many waves of sentences went through the layers.
    pub waves: u64,
    /// Memory budget by which the sentences were divided, in bytes.
    pub memory_bytes: u64,
    /// BLAKE3 of `sentences.jsonl` in hexadecimal.
    pub sentences_blake3: Option<String>,
    /// BLAKE3 of `rows.b3sum` in hexadecimal, which holds that of every file of rows; there when all rows are.
    pub rows_blake3: Option<String>,
}

/// How far a run came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is at work, or was killed.
    #[default]
    Running,
    /// Everything is there.
    Complete,
    /// The user stopped it.
    Interrupted,
    /// An error ended it.
    Failed,
}

/// The model of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelInfo {
    /// As the configuration names it: hub id, folder or file.
    pub id: String,
    /// Where it was found on this machine.
    pub path: String,
    /// Architecture according to its configuration, such as `LlamaForCausalLM`.
    pub architecture: String,
    /// Number of decoder layers.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Size of the vocabulary.
    pub vocab: usize,
    /// The files with its weights.
    pub files: Vec<FileInfo>,
    /// BLAKE3 over the hashes of the embedding and of each layer that was run, in hexadecimal, if it was computed.
    pub weights_blake3: Option<String>,
    /// BLAKE3 of the tokenizer's file in hexadecimal.
    pub tokenizer_blake3: String,
}

/// A file of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileInfo {
    /// Where it lies.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

/// The dictionary of one layer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SaeInfo {
    /// Layer that it reads, from 0.
    pub layer: usize,
    /// Hook point that it reads, such as `blocks.3.hook_resid_post`.
    pub hook: String,
    /// Where it was found on this machine.
    pub path: String,
    /// Format of its files.
    pub format: String,
    /// Convention by which it is applied: `saelens`, `openmoss` or `neuronpedia`.
    pub convention: String,
    /// Activation function, such as `jumprelu` or `topk`.
    pub activation: String,
    /// Width of its input.
    pub d_in: usize,
    /// Number of its features.
    pub d_sae: usize,
    /// BLAKE3 of its encoder in hexadecimal; empty until the run is complete.
    pub blake3: String,
    /// Mean norm of the decoder's rows, where the decoder was read; finite.
    pub decoder_norm_mean: Option<f64>,
    /// Active features a token that it was trained for, where its files tell; finite.
    pub l0_target: Option<f64>,
}

/// What computed a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceInfo {
    /// Its name.
    pub name: String,
    /// The kernels in use.
    pub kernel: String,
    /// Number of threads.
    pub threads: usize,
    /// Precision that was asked for, such as `float32`.
    pub dtype: String,
}

/// How much went through a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Sentences, empty ones included.
    pub sentences: u64,
    /// Sentences without a token other than BOS.
    pub empty_sentences: u64,
    /// Blank lines of the input files.
    pub blank_lines: u64,
    /// Sentences that were cut to the model's context.
    pub truncated: u64,
    /// Tokens, BOS included.
    pub tokens: u64,
    /// Rows of all layers together.
    pub rows: u64,
}

/// What came out of one layer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LayerSummary {
    /// The layer, from 0.
    pub layer: usize,
    /// Hook point that was read.
    pub hook: String,
    /// Number of features of its dictionary.
    pub d_sae: usize,
    /// Number of rows.
    pub rows: u64,
    /// Active features over all rows.
    pub nnz: u64,
    /// Mean number of active features a row.
    #[serde(deserialize_with = "ratio")]
    pub l0_mean: f64,
    /// Largest number of active features in a row.
    pub l0_max: u64,
    /// How many features were active at least once.
    pub features_seen: u64,
    /// Fingerprint of the layer's rows.
    pub fingerprint: String,
}

/// Where the time of a run went, in seconds (parts may overlap), and how much was computed. Unlike all else, this depends on
/// the machine and on how the work was divided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timings {
    /// Opening and checking model and dictionaries.
    pub load_s: f64,
    /// Turning text into tokens.
    pub tokenize_s: f64,
    /// The model's layers.
    pub forward_s: f64,
    /// The dictionaries.
    pub encode_s: f64,
    /// Writing rows.
    pub write_s: f64,
    /// Values that were computed in full f32 to find the active ones, all layers together: `rows * d_sae` of each where
    /// nothing was ruled out before.
    pub candidates: u64,
    /// From start to end.
    pub total_s: f64,
    /// Tokens a second.
    #[serde(deserialize_with = "ratio")]
    pub tokens_per_s: f64,
}

/// Reads a ratio; one of nothing to nothing, which JSON can only write as null, is 0.
fn ratio<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
