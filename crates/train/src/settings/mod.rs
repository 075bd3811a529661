//! What a training is told: a YAML file with the keys of [`KEYS`].

mod file;
mod keys;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use llamascope_pipeline::config::{Choice, LayerSelection, Precision};
use llamascope_record::Site;
use serde_json::Value;

pub use file::SettingsError;
pub use keys::{KEYS, Key};

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The `k` largest values of each row (Gao et al. 2024).
    TopK,
    /// The `n k` largest values of a batch of `n` rows (Bussmann et al. 2024).
    BatchTopK,
    /// All positive values, with a penalty on their sum (Bricken et al. 2023).
    Relu,
}

impl Choice for Kind {
    const NAMES: &'static [(&'static str, Self)] =
        &[("topk", Self::TopK), ("batch_topk", Self::BatchTopK), ("relu", Self::Relu)];
    const ALIASES: &'static [(&'static str, &'static str)] =
        &[("batchtopk", "batch_topk"), ("standard", "relu"), ("l1", "relu"), ("jumprelu", "batch_topk")];
}

/// How weights are stored in the end. While they are trained they are f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// As they were trained.
    Float32,
    /// Both matrices rounded to 8 bits of precision.
    Bfloat16,
}

impl Choice for Stored {
    const NAMES: &'static [(&'static str, Self)] = &[("float32", Self::Float32), ("bfloat16", Self::Bfloat16)];
    const ALIASES: &'static [(&'static str, &'static str)] =
        &[("fp32", "float32"), ("f32", "float32"), ("bf16", "bfloat16")];
}

/// A file layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `hyperparams.json` and `checkpoints/final.safetensors`.
    LlamaScope,
    /// `cfg.json` and `sae_weights.safetensors`.
    Saelens,
}

impl Choice for Layout {
    const NAMES: &'static [(&'static str, Self)] = &[("llama_scope", Self::LlamaScope), ("saelens", Self::Saelens)];
    const ALIASES: &'static [(&'static str, &'static str)] = &[("sae_lens", "saelens"), ("llamascope", "llama_scope")];
}

/// Everything a training is told; [`KEYS`] says how it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Hub id, folder in Hugging Face layout, or .gguf file.
    pub model_id: String,
    /// Branch, tag or commit of the model on the hub.
    pub revision: Option<String>,
    /// A safetensors file of rows instead of model and text: a tensor `layer.N`, `[rows, d_model]`, for each layer.
    pub activations: Option<PathBuf>,
    /// Layers to train an SAE for, all in one pass over the model: `[5, 10, 20]`.
    pub layers: LayerSelection,
    /// What of a layer: resid_post, attn_out or mlp_out.
    pub site: Site,
    /// Files or folders of text: .txt, .csv, .jsonl.
    pub text: Vec<PathBuf>,
    /// Column or key that holds the text.
    pub text_column: Option<String>,
    /// Tokens to train on.
    pub tokens: u64,
    /// Tokens of a context: text is cut into pieces of so many.
    pub context: usize,
    /// How often the text may be read if it is shorter than `tokens`.
    pub epochs: u64,
    /// Tokens with an activation longer than so many times the median are left out; 0 keeps all.
    pub massive: f64,
    /// Rows of each layer that are shuffled together.
    pub buffer: usize,
    /// How often each row is trained on.
    pub reuse: usize,
    /// Which features are active.
    pub kind: Kind,
    /// Features over the model's width.
    pub expansion: usize,
    /// Active features a token, for topk and batch_topk.
    pub k: usize,
    /// `k` at the beginning; three times `k` unless given.
    pub k_start: Option<usize>,
    /// Share of the steps in which k falls to its value, and the penalty grows to its own.
    pub k_anneal: f64,
    /// Weight of the sum of values, for relu.
    pub l1: f64,
    /// Whether the result has one threshold for all tokens, set for k active features a token on average.
    pub jumprelu: bool,
    /// Rows of a step.
    pub batch: usize,
    /// Learning rate of Adam.
    pub learning_rate: f64,
    /// Share of the steps in which the learning rate rises.
    pub warm_up: f64,
    /// Share of the steps, the last, in which it falls to 0.
    pub decay: f64,
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Longest gradient of an SAE.
    pub clip: f64,
    /// Weight of the loss that revives dead features; 0 leaves them dead.
    pub aux_coefficient: f64,
    /// Dead features that a token is shown to; half the model's width unless given.
    pub aux_k: Option<usize>,
    /// Rows that a feature is not active on after which a feature is dead.
    pub dead_after: u64,
    /// Seed of everything random.
    pub seed: u64,
    /// Folder of checkpoints, metrics and SAEs.
    pub output_dir: PathBuf,
    /// First part of the SAEs' names.
    pub name: Option<String>,
    /// How weights are stored in the end: bfloat16 or float32.
    pub weights: Stored,
    /// How SAEs are written in the end: `llama_scope`, `saelens` or both.
    pub layouts: Vec<Layout>,
    /// Time between two checkpoints.
    pub checkpoint_minutes: f64,
    /// Steps between two lines of metrics.jsonl.
    pub log_every: u64,
    /// Precision of the model's matrix products: float32, float16 or bfloat16.
    pub dtype: Precision,
    /// Number of threads; all cores unless given. It changes no number.
    pub threads: Option<NonZeroUsize>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            model_id: String::new(),
            revision: None,
            activations: None,
            layers: LayerSelection::Only(Default::default()),
            site: Site::ResidPost,
            text: Vec::new(),
            text_column: None,
            tokens: 4_000_000,
            context: 128,
            epochs: 1,
            massive: 10.0,
            buffer: 32_768,
            reuse: 1,
            kind: Kind::BatchTopK,
            expansion: 8,
            k: 50,
            k_start: None,
            k_anneal: 0.1,
            l1: 5.0,
            jumprelu: true,
            batch: 1024,
            learning_rate: 2e-3,
            warm_up: 0.02,
            decay: 0.2,
            beta1: 0.9,
            beta2: 0.999,
            clip: 1.0,
            aux_coefficient: 1.0 / 32.0,
            aux_k: None,
            dead_after: 200_000,
            seed: 0,
            output_dir: "saes".into(),
            name: None,
            weights: Stored::Bfloat16,
            layouts: vec![Layout::LlamaScope],
            checkpoint_minutes: 5.0,
            log_every: 50,
            dtype: Precision::Float32,
            threads: None,
        }
    }
}

impl Settings {
    /// All settings by key, in the order of [`KEYS`].
    pub fn to_json(&self) -> Value {
        KEYS.iter().map(|key| (key.name.to_owned(), (key.get)(self))).collect::<serde_json::Map<_, _>>().into()
    }

    /// New rows in each half of the buffer.
    pub(crate) fn half(&self) -> usize {
        self.buffer / 2
    }

    /// Batches between two refills of the buffer.
    pub(crate) fn steps_per_refill(&self) -> u64 {
        (self.half() * self.reuse / self.batch) as u64
    }

    /// Batches in all: the buffer begins full, and after each but the last round half of it is new.
    pub(crate) fn total_steps(&self) -> u64 {
        (self.tokens / self.half() as u64).saturating_sub(1) * self.steps_per_refill()
    }

    /// The number of active features in mind at a step.
    pub(crate) fn k_at(&self, step: u64) -> usize {
        let start = self.k_start.unwrap_or(self.k.saturating_mul(3)).max(self.k) as f64;
        let way = progress(step, self.k_anneal * self.total_steps() as f64);
        (start + (self.k as f64 - start) * way).round() as usize
    }

    /// The learning rate at a step: from 0 up, level, and down to 0.
    pub(crate) fn learning_rate_at(&self, step: u64) -> f64 {
        let total = self.total_steps() as f64;
        let up = progress(step + 1, self.warm_up * total);
        let down = progress(self.total_steps() - step.min(self.total_steps()), self.decay * total);
        self.learning_rate * up.min(down)
    }

    /// The weight of the sum of values at a step, which grows from 0 while `k` would fall.
    pub(crate) fn l1_at(&self, step: u64) -> f64 {
        match self.kind {
            Kind::Relu => self.l1 * progress(step, self.k_anneal * self.total_steps() as f64),
            Kind::TopK | Kind::BatchTopK => 0.0,
        }
    }
}

/// How much of a phase is over.
fn progress(step: u64, phase: f64) -> f64 {
    if phase > 0.0 { (step as f64 / phase).min(1.0) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_go_where_they_should() {
        let settings = Settings { tokens: 1_000_000, buffer: 4096, batch: 1024, reuse: 2, ..Settings::default() };
        let total = settings.total_steps();
        assert_eq!(total, (1_000_000 / 2048 - 1) * 4);
        assert_eq!([0, total / 10 + 1, total].map(|step| settings.k_at(step)), [150, 50, 50]);
        let rates = [0, total / 2, total - 1].map(|step| settings.learning_rate_at(step));
        assert!(rates[0] < 1e-4 && rates[1] == 2e-3 && rates[2] > 0.0 && rates[2] < 1e-5, "{rates:?}");
        assert_eq!(settings.l1_at(total), 0.0);
        let relu = Settings { kind: Kind::Relu, ..settings };
        assert_eq!((relu.l1_at(0), relu.l1_at(total)), (0.0, 5.0));
    }
}
