//! How a training goes: a line of `metrics.jsonl` for some steps at a time.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::dictionary::Outcome;

/// File of the metrics in the output folder.
pub const METRICS: &str = "metrics.jsonl";

/// What was measured of one layer over some steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerMetrics {
    /// The layer.
    pub layer: usize,
    /// Mean of `|x' - x|^2` over rows, scaled to a mean length of `sqrt(d_model)`.
    pub mse: f64,
    /// `1 - sum |x' - x|^2 / sum |x - mean|^2` over the rows of the steps.
    pub explained_variance: f64,
    /// Mean number of active features.
    pub l0: f64,
    /// Share of the features that have not been active for `dead_after` rows.
    pub dead_fraction: f64,
    /// Mean length of the gradient before it is clipped.
    pub gradient_norm: f64,
}

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Steps so far.
    pub step: u64,
    /// Tokens read so far, those left out too.
    pub tokens: u64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// `k` of the last step; none for ReLU.
    pub k: Option<usize>,
    /// Tokens a second of this sitting.
    pub tokens_per_s: f64,
    /// By layer.
    pub layers: Vec<LayerMetrics>,
}

/// Sums over the steps since the last line.
#[derive(Clone, Default)]
pub(crate) struct Window {
    steps: u64,
    rows: u64,
    squared_error: f64,
    variance: f64,
    active: u64,
    gradient_norm: f64,
}

impl Window {
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        self.steps += 1;
        self.rows += outcome.rows;
        self.squared_error += outcome.losses.squared_error;
        self.variance += outcome.variance;
        self.active += outcome.active;
        self.gradient_norm += outcome.losses.gradient_norm;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.steps == 0
    }

    pub(crate) fn metrics(&self, layer: usize, dead_fraction: f64) -> LayerMetrics {
        let rows = self.rows.max(1) as f64;
        LayerMetrics {
            layer,
            mse: self.squared_error / rows,
            explained_variance: 1.0 - self.squared_error / self.variance.max(f64::MIN_POSITIVE),
            l0: self.active as f64 / rows,
            dead_fraction,
            gradient_norm: self.gradient_norm / self.steps.max(1) as f64,
        }
    }
}

/// The lines of a folder up to a step; without a file, none.
pub(crate) fn read(folder: &Path, last_step: u64) -> Vec<Metrics> {
    let text = std::fs::read_to_string(folder.join(METRICS)).unwrap_or_default();
    let lines = text.lines().map_while(|line| serde_json::from_str::<Metrics>(line).ok());
    lines.take_while(|metrics| metrics.step <= last_step).collect()
}

/// Makes the file hold these lines and no others.
pub(crate) fn rewrite(folder: &Path, lines: &[Metrics]) -> Result<(), Error> {
    let path = folder.join(METRICS);
    let text: String = lines.iter().map(line).collect();
    std::fs::write(&path, text).map_err(|source| Error::Io { path, source })
}

/// Adds a line to the file.
pub(crate) fn append(folder: &Path, metrics: &Metrics) -> Result<(), Error> {
    let path = folder.join(METRICS);
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
    let written = file.and_then(|mut file| file.write_all(line(metrics).as_bytes()));
    written.map_err(|source| Error::Io { path, source })
}

fn line(metrics: &Metrics) -> String {
    serde_json::to_string(metrics).expect("numbers and lists") + "\n"
}
