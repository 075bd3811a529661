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
#[allow(missing_docs)]
pub enum Stored {
    Float32,
    Bfloat16,
}

impl Choice for Stored {
    const NAMES: &'static [(&'static str, Self)] = &[("float32", Self::Float32), ("bfloat16", Self::Bfloat16)];
    const ALIASES: &'static [(&'static str, &'static str)] =
        &[("fp32", "float32"), ("f32", "float32"), ("bf16", "bfloat16")];
}

/// A file layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Layout {
    LlamaScope,
    Saelens,
}

impl Choice for Layout {
    const NAMES: &'static [(&'static str, Self)] = &[("llama_scope", Self::LlamaScope), ("saelens", Self::Saelens)];
    const ALIASES: &'static [(&'static str, &'static str)] = &[("sae_lens", "saelens"), ("llamascope", "llama_scope")];
}

/// Everything a training is told. What each setting means stands in [`KEYS`].
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Settings {
    pub model_id: String,
    pub revision: Option<String>,
    pub activations: Option<PathBuf>,
    pub layers: LayerSelection,
    pub site: Site,
    pub text: Vec<PathBuf>,
    pub text_column: Option<String>,
    pub tokens: u64,
    pub context: usize,
    pub epochs: u64,
    pub massive: f64,
    pub buffer: usize,
    pub reuse: usize,
    pub kind: Kind,
    pub expansion: usize,
    pub k: usize,
    pub k_start: Option<usize>,
    pub k_anneal: f64,
    pub l1: f64,
    pub jumprelu: bool,
    pub batch: usize,
    pub learning_rate: f64,
    pub warm_up: f64,
    pub decay: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub clip: f64,
    pub aux_coefficient: f64,
    pub aux_k: Option<usize>,
    pub dead_after: u64,
    pub seed: u64,
    pub output_dir: PathBuf,
    pub name: Option<String>,
    pub weights: Stored,
    pub layouts: Vec<Layout>,
    pub checkpoint_minutes: f64,
    pub log_every: u64,
    pub dtype: Precision,
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
            learning_rate: 1e-3,
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
    pub(crate) fn k_at(&self, step: u64, d: usize) -> usize {
        let start = self.k_start.unwrap_or(d).max(self.k) as f64;
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
        assert_eq!((settings.k_at(0, 576), settings.k_at(total / 10 + 1, 576), settings.k_at(total, 576)), (576, 50, 50));
        let rates = [0, total / 2, total - 1].map(|step| settings.learning_rate_at(step));
        assert!(rates[0] < 1e-4 && rates[1] == 1e-3 && rates[2] > 0.0 && rates[2] < 1e-5, "{rates:?}");
        assert_eq!(settings.l1_at(total), 0.0);
        let relu = Settings { kind: Kind::Relu, ..settings };
        assert_eq!((relu.l1_at(0), relu.l1_at(total)), (0.0, 5.0));
    }
}
