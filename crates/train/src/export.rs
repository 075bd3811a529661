//! The end of a training: weights rounded to how they are stored, one threshold for all tokens, and files that others
//! read.
//!
//! Training ends with a choice of the largest values, which knows other tokens (BatchTopK) or counts (TopK). What is
//! written has a threshold instead, as Llama Scope has it (He et al. 2024, arXiv 2410.20526): the value that `k`
//! features a row exceed on average over the rows in the buffer. The rows of the decoder have length 1, so that all
//! readings of that layout (see `docs/numerics.md`) mean the same.

use std::path::{Path, PathBuf};

use llamascope_compute::{Cpu, Rows, Select, Tensor};
use llamascope_record::{Site, Tap};
use llamascope_sae::{Activation, LlamaScopeFile, SaelensFile, save_llama_scope, save_saelens};
use serde::Serialize;

use crate::Error;
use crate::dictionary::Dictionary;
use crate::gradient;
use crate::parameters::Parameters;
use crate::select::batch_top_k;
use crate::settings::{Kind, Layout, Settings, Stored};

/// Rows that are encoded together.
const ROWS: usize = 4096;

/// What was written of a layer, measured on the rows in the buffer with the weights as they are stored. They are rows
/// of the training text: `llamascope eval` measures on other text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Exported {
    /// The layer.
    pub layer: usize,
    /// Folders of the SAE.
    pub folders: Vec<PathBuf>,
    /// Threshold on values of scaled rows; none for TopK.
    pub threshold: Option<f32>,
    /// Mean length of the rows that it was trained on.
    pub average_norm: f32,
    /// Median length of all rows.
    pub median_norm: f32,
    /// Mean number of active features.
    pub l0: f64,
    /// `1 - sum |x' - x|^2 / sum |x - mean|^2`.
    pub explained_variance: f64,
    /// Features that were active on none of these rows.
    pub silent_fraction: f64,
    /// Features that have not been active for `dead_after` rows of training.
    pub dead_fraction: f64,
    /// How many rows these numbers are of.
    pub rows: usize,
}

/// Rounds, sets the threshold, writes and measures. `rows` are those of the layer in the buffer.
pub(crate) fn export(
    cpu: &Cpu,
    settings: &Settings,
    name: &str,
    dictionary: &Dictionary,
    rows: &Rows,
) -> Result<Exported, Error> {
    let tap = Tap { layer: dictionary.layer, site: settings.site };
    let (factor, norm) = (dictionary.measured.factor(), dictionary.measured.mean_norm);
    let rounded = rounded(dictionary, settings.weights, 1.0);
    let (activation, threshold) = activation(cpu, settings, &rounded, rows);
    let mut folders = Vec::new();
    for layout in &settings.layouts {
        folders.push(match layout {
            Layout::LlamaScope => {
                let [w_enc, b_enc, w_dec, b_dec] = rounded.arrays();
                let (f, d) = (rounded.f, rounded.d);
                let file = LlamaScopeFile {
                    tap,
                    encoder: &tensor(settings.weights, vec![f, d], w_enc),
                    encoder_bias: &Tensor::from_f32("encoder.bias", vec![f], b_enc),
                    decoder: &tensor(settings.weights, vec![d, f], &turned(w_dec, f, d)),
                    decoder_bias: &Tensor::from_f32("decoder.bias", vec![d], b_dec),
                    jump_relu_threshold: f64::from(threshold.unwrap_or(0.0)) / f64::from(factor),
                    average_norm: f64::from(norm),
                    top_k: settings.k,
                };
                save_llama_scope(&settings.output_dir, name, &file)?
            }
            Layout::Saelens => {
                let scaled = self::rounded(dictionary, settings.weights, factor);
                let [w_enc, b_enc, w_dec, b_dec] = scaled.arrays();
                let (f, d) = (scaled.f, scaled.d);
                let file = SaelensFile {
                    tap,
                    model: name,
                    context: settings.context,
                    encoder: &tensor(settings.weights, vec![d, f], &turned(w_enc, f, d)),
                    encoder_bias: &Tensor::from_f32("b_enc", vec![f], b_enc),
                    decoder: &tensor(settings.weights, vec![f, d], w_dec),
                    decoder_bias: &Tensor::from_f32("b_dec", vec![d], b_dec),
                    activation: &activation,
                };
                let site = if tap.site == Site::ResidPost { "resid_post" } else { tap.site.hook() };
                let folder = settings.output_dir.join("saelens").join(format!("layer_{:02}_{site}", tap.layer));
                save_saelens(&folder, &file)?;
                folder
            }
        });
    }
    let measured = measure(cpu, settings, dictionary, &rounded, &activation, rows);
    Ok(Exported { folders, threshold, ..measured })
}

/// The weights as they are stored, for rows that have still to be multiplied by `factor`. What rounding the encoder
/// changes for a row at the mean of the data goes into its biases, which are not rounded.
fn rounded(dictionary: &Dictionary, stored: Stored, factor: f32) -> Parameters {
    let Parameters { d, f, .. } = dictionary.parameters;
    let [w_enc, b_enc, w_dec, b_dec] = dictionary.parameters.arrays();
    let scaled = |w: &[f32], factor: f32| -> Vec<f32> { w.iter().map(|w| w * factor).collect() };
    let exact = scaled(w_enc, factor);
    let encoder = round(stored, &exact);
    let mean: Vec<f64> = dictionary.measured.mean.iter().map(|m| f64::from(*m) / f64::from(factor)).collect();
    let lost = exact.chunks_exact(d).zip(encoder.chunks_exact(d)).map(|(exact, rounded)| {
        exact.iter().zip(rounded).zip(&mean).map(|((a, b), mean)| (f64::from(*a) - f64::from(*b)) * mean).sum::<f64>()
    });
    let biases = b_enc.iter().zip(lost).map(|(b, lost)| (f64::from(*b) + lost) as f32).collect();
    let decoder = round(stored, &scaled(w_dec, 1.0 / factor));
    debug_assert_eq!(encoder.len(), f * d);
    Parameters::new(d, [encoder, biases, decoder, scaled(b_dec, 1.0 / factor)])
}

fn tensor(stored: Stored, shape: Vec<usize>, numbers: &[f32]) -> Tensor {
    match stored {
        Stored::Float32 => Tensor::from_f32("w", shape, numbers),
        Stored::Bfloat16 => Tensor::from_f32_rounded_to_bf16("w", shape, numbers),
    }
}

fn round(stored: Stored, numbers: &[f32]) -> Vec<f32> {
    tensor(stored, vec![numbers.len()], numbers).to_f32()
}

/// `[f, d]` to `[d, f]`.
fn turned(matrix: &[f32], f: usize, d: usize) -> Vec<f32> {
    let mut turned = vec![0.0; f * d];
    for (feature, row) in matrix.chunks_exact(d).enumerate() {
        row.iter().enumerate().for_each(|(column, x)| turned[column * f + feature] = *x);
    }
    turned
}

/// What makes a value active in the end, and the threshold if there is one.
fn activation(cpu: &Cpu, settings: &Settings, parameters: &Parameters, rows: &Rows) -> (Activation, Option<f32>) {
    match settings.kind {
        Kind::Relu => (Activation::Relu, Some(0.0)),
        Kind::TopK if !settings.jumprelu => (Activation::TopK(settings.k), None),
        Kind::TopK | Kind::BatchTopK => {
            // The threshold of some rows, and from there that of all.
            let some = rows.n().min(ROWS / 4);
            let sample = Rows::from_vec(some, rows.d(), rows.data()[..some * rows.d()].to_vec());
            let mut guess = 0.0;
            batch_top_k(cpu, parameters, &sample, settings.k, &mut guess);
            let chosen = batch_top_k(cpu, parameters, rows, settings.k, &mut guess);
            let least = chosen.vals.iter().copied().reduce(f32::min).unwrap_or(0.0);
            (Activation::JumpRelu(vec![least; parameters.f]), Some(least))
        }
    }
}

fn measure(
    cpu: &Cpu,
    settings: &Settings,
    dictionary: &Dictionary,
    parameters: &Parameters,
    activation: &Activation,
    rows: &Rows,
) -> Exported {
    let (d, f) = (parameters.d, parameters.f);
    let mut seen = vec![false; f];
    let (mut active_features, mut squared_error, mut variance) = (0u64, 0f64, 0f64);
    for chunk in rows.data().chunks(d * ROWS) {
        let x = Rows::from_vec(chunk.len() / d, d, chunk.to_vec());
        let select = match activation {
            Activation::Relu => Select::Positive,
            Activation::JumpRelu(thresholds) => Select::Above(thresholds),
            Activation::TopK(k) => Select::TopK(*k),
        };
        let active = gradient::encode(cpu, parameters, &x, select);
        active_features += active.ids.len() as u64;
        active.ids.iter().for_each(|id| seen[*id as usize] = true);
        squared_error += gradient::sum_of_squares(cpu, &gradient::errors(cpu, parameters, &x, &active));
        let distance = |row: &[f32]| -> f64 {
            row.iter().zip(&dictionary.measured.mean).map(|(x, m)| f64::from(x - m).powi(2)).sum()
        };
        variance += chunk.chunks_exact(d).map(distance).sum::<f64>();
    }
    let n = rows.n().max(1) as f64;
    Exported {
        layer: dictionary.layer,
        folders: Vec::new(),
        threshold: None,
        average_norm: dictionary.measured.mean_norm,
        median_norm: dictionary.measured.median,
        l0: active_features as f64 / n,
        explained_variance: 1.0 - squared_error / variance.max(f64::MIN_POSITIVE),
        silent_fraction: seen.iter().filter(|seen| !**seen).count() as f64 / f as f64,
        dead_fraction: dictionary.dead(settings) as f64 / f as f64,
        rows: rows.n(),
    }
}

/// `training.json` beside the SAEs: what they were trained on, how, and what came of it.
pub(crate) fn write_record(folder: &Path, record: &serde_json::Value) -> Result<(), Error> {
    let path = folder.join("training.json");
    let temporary = path.with_added_extension("tmp");
    let written = std::fs::write(&temporary, format!("{record:#}\n")).and_then(|()| std::fs::rename(&temporary, &path));
    written.map_err(|source| Error::Io { path, source })
}
