//! Dictionaries of exemplars: a stand-in where no trained SAEs exist.
//!
//! Every feature is one token of a text, seen as a direction: its activation, centred on the mean of the text and scaled
//! to equal variance in every dimension. A feature is active where a token's activation points the same way, so it
//! answers "which tokens is this one like?", and one threshold for all gives the mean L0 that was asked for. Nothing is
//! trained and nothing is reconstructed.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use llamascope_compute::{Cpu, Device, Precision, Rows, Tensor};
use llamascope_model::{Batch, Checkpoint, llama::each_layer};
use llamascope_record::sentence::read_sentences;
use llamascope_record::{Site, Tap, Tokens};
use llamascope_sae::{LlamaScopeFile, save_llama_scope};

use crate::Error;
use crate::config::LayerSelection;
use crate::fetch::HubOptions;
use crate::observer::{Observer, Progress};
use crate::source::open_model;

/// Rows that go through the layers together.
const CHUNK_ROWS: usize = 1024;
/// Rows from which the threshold is taken.
const THRESHOLD_ROWS: usize = 1000;
/// A row longer than this many times the median is an attention sink, not a word.
const MASSIVE: f32 = 10.0;
/// A number this many standard deviations of the usual rows away is part of what makes a row massive.
const SINK: f32 = 5.0;

/// What dictionaries to make.
#[derive(Clone, Debug)]
pub struct DictionarySpec {
    /// At which layers, each after its residual addition.
    pub layers: LayerSelection,
    /// Features over the model's width.
    pub expansion: usize,
    /// Active features a token, on average over the text.
    pub l0: usize,
    /// Tokens that are read at most.
    pub max_tokens: usize,
    /// Threads; none means all cores.
    pub threads: Option<NonZeroUsize>,
}

/// The texts of input files, in order.
///
/// # Errors
/// Files that cannot be read.
pub fn read_texts(files: &[PathBuf], text_column: Option<&str>) -> Result<Vec<String>, Error> {
    let mut texts = Vec::new();
    for file in files {
        let read = read_sentences(file, &file.to_string_lossy(), text_column)?;
        texts.extend(read.sentences.into_iter().map(|sentence| sentence.text));
    }
    Ok(texts)
}

/// Runs the texts through the model and writes a dictionary a layer into `root`, in the Llama Scope layout.
///
/// # Errors
/// A model that cannot be opened, too little text, an interruption, a full disk.
pub fn make(
    model: &str,
    texts: &[String],
    spec: &DictionarySpec,
    root: &Path,
    hub: &HubOptions,
    observer: &dyn Observer,
) -> Result<Vec<PathBuf>, Error> {
    let threads = spec.threads.map_or(0, NonZeroUsize::get);
    let device = Cpu::new(threads, Precision::F32)
        .map_err(|error| Error::Unavailable(format!("cannot start {threads} threads: {error}")))?;
    let (checkpoint, _) = open_model(model, None, &spec.layers, hub, observer)?;
    let layers = spec.layers.resolve(checkpoint.config.n_layers)?;
    let tokens = tokenise(&checkpoint, &device, texts, spec.max_tokens)?;
    let count: usize = tokens.iter().map(|tokens| tokens.output_positions().count()).sum();
    let d_sae = spec.expansion * checkpoint.config.d_model;
    if count < d_sae {
        return Err(Error::Mismatch(format!(
            "the text has {count} tokens, {d_sae} features need at least as many: give more text or a smaller --expansion"
        )));
    }
    observer.stage(&format!("reading the activations of {count} tokens at {} layers", layers.len()));
    let (ids, activations) = collect(&device, &checkpoint, &tokens, &layers, observer)?;
    let mut folders = Vec::new();
    for (layer, rows) in layers.iter().zip(activations) {
        let dictionary = Exemplars::choose(&device, &ids, &rows, d_sae, spec.l0);
        folders.push(dictionary.save(root, *layer, spec.l0)?);
    }
    Ok(folders)
}

fn tokenise(checkpoint: &Checkpoint, device: &Cpu, texts: &[String], max_tokens: usize) -> Result<Vec<Tokens>, Error> {
    let mut tokens = device.on_host(|| checkpoint.tokenizer.encode_batch(texts))?;
    let mut left = max_tokens;
    for tokens in &mut tokens {
        tokens.truncate(left.min(checkpoint.config.context));
        left -= tokens.len();
    }
    tokens.retain(|tokens| !tokens.is_empty());
    Ok(tokens)
}

/// The ids of all output tokens, and their rows at each layer.
fn collect(
    device: &Cpu,
    checkpoint: &Checkpoint,
    tokens: &[Tokens],
    layers: &[usize],
    observer: &dyn Observer,
) -> Result<(Vec<u32>, Vec<Rows>), Error> {
    let last = layers.last().copied().unwrap_or(0);
    let total: usize = tokens.iter().map(Tokens::len).sum();
    let (mut ids, mut numbers) = (Vec::new(), vec![Vec::new(); layers.len()]);
    let mut done = 0;
    let mut rest = tokens;
    while !rest.is_empty() {
        let mut rows = 0;
        let count = rest.iter().take_while(|tokens| {
            rows += tokens.len();
            rows <= CHUNK_ROWS
        });
        let (chunk, after) = rest.split_at(count.count().max(1));
        rest = after;
        let batch = Batch::new(chunk);
        let starts: Vec<usize> = batch.spans().iter().map(|span| span.start).collect();
        let output: Vec<usize> = starts
            .iter()
            .zip(chunk)
            .flat_map(|(start, tokens)| tokens.output_positions().map(move |position| start + position))
            .collect();
        ids.extend(chunk.iter().flat_map(|tokens| tokens.output_positions().map(|position| tokens.ids[position])));
        each_layer(device, checkpoint, &batch, Site::ResidPost, last, |layer, rows| {
            if let Ok(index) = layers.binary_search(&layer) {
                numbers[index].extend_from_slice(device.gather(&rows, &output).data());
            }
        })?;
        if observer.cancelled() {
            return Err(Error::Interrupted { run: None });
        }
        done += batch.n();
        observer.progress(Progress {
            wave: 1,
            waves: 1,
            layer: last,
            last_layer: last,
            done: done as u64,
            total: total as u64,
            tokens: total as u64,
        });
    }
    let d = checkpoint.config.d_model;
    Ok((ids, numbers.into_iter().map(|numbers| Rows::from_vec(numbers.len() / d, d, numbers)).collect()))
}

/// A dictionary of one layer.
struct Exemplars {
    encoder: Tensor,
    bias: Tensor,
    decoder: Tensor,
    mean: Tensor,
    threshold: f64,
}

impl Exemplars {
    fn choose(device: &Cpu, ids: &[u32], rows: &Rows, d_sae: usize, l0: usize) -> Self {
        let d = rows.d();
        let (usual, massive) = usual_and_massive_rows(rows);
        let (mean, deviation) = moments(rows, &usual);
        let sinks = sink_dimensions(rows, &massive, &deviation);
        let mut encoder = Vec::with_capacity(d_sae * d);
        let mut decoder = vec![0f32; d * d_sae];
        for (feature, row) in exemplars(ids, &usual, d_sae).into_iter().enumerate() {
            let centred: Vec<f32> = rows.row(row).iter().zip(&mean).map(|(x, mean)| x - mean).collect();
            let length = norm(&centred);
            let scaled = centred.iter().zip(&deviation).zip(&sinks);
            let scaled: Vec<f32> = scaled.map(|((x, dev), sink)| if *sink { 0.0 } else { x / dev }).collect();
            let scaled_length = norm(&scaled);
            encoder.extend(scaled.iter().zip(&deviation).map(|(x, deviation)| x / scaled_length / deviation));
            for (column, x) in centred.iter().enumerate() {
                decoder[column * d_sae + feature] = x / length;
            }
        }
        let encoder = Tensor::from_f32_rounded_to_bf16("encoder.weight", vec![d_sae, d], &encoder);
        // The bias belongs to the weights as they are stored.
        let at_mean = |weights: &[f32]| weights.iter().zip(&mean).map(|(w, mean)| w * mean).sum::<f32>();
        let bias: Vec<f32> = encoder.to_f32().chunks_exact(d).map(|weights| -at_mean(weights)).collect();
        let threshold = threshold(device, rows, &usual, &encoder, &bias, l0);
        Exemplars {
            encoder,
            bias: Tensor::from_f32("encoder.bias", vec![d_sae], &bias),
            decoder: Tensor::from_f32_rounded_to_bf16("decoder.weight", vec![d, d_sae], &decoder),
            mean: Tensor::from_f32("decoder.bias", vec![d], &mean),
            threshold,
        }
    }

    fn save(&self, root: &Path, layer: usize, l0: usize) -> Result<PathBuf, Error> {
        let file = LlamaScopeFile {
            tap: Tap { layer, site: Site::ResidPost },
            encoder: &self.encoder,
            encoder_bias: &self.bias,
            decoder: &self.decoder,
            decoder_bias: &self.mean,
            jump_relu_threshold: self.threshold,
            // With this length the dataset-wise normalisation is the identity.
            average_norm: (self.encoder.n_cols() as f64).sqrt(),
            top_k: l0,
        };
        Ok(save_llama_scope(root, "Exemplar", &file)?)
    }
}

fn norm(row: &[f32]) -> f32 {
    row.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE)
}

/// The rows that are not massive, and those that are.
fn usual_and_massive_rows(rows: &Rows) -> (Vec<usize>, Vec<usize>) {
    let norms: Vec<f32> = (0..rows.n()).map(|row| norm(rows.row(row))).collect();
    let mut sorted = norms.clone();
    sorted.sort_by(f32::total_cmp);
    let limit = MASSIVE * sorted[sorted.len() / 2];
    (0..rows.n()).partition(|row| norms[*row] <= limit)
}

/// The dimensions in which massive rows stand out from the usual ones: features that read them would all be active
/// there at once.
fn sink_dimensions(rows: &Rows, massive: &[usize], deviation: &[f32]) -> Vec<bool> {
    let stands_out = |d: usize| massive.iter().any(|row| rows.row(*row)[d].abs() > SINK * deviation[d]);
    (0..rows.d()).map(stands_out).collect()
}

/// Mean and standard deviation by dimension.
fn moments(rows: &Rows, which: &[usize]) -> (Vec<f32>, Vec<f32>) {
    let n = which.len() as f64;
    let mut sums = vec![(0f64, 0f64); rows.d()];
    for row in which {
        for (sum, x) in sums.iter_mut().zip(rows.row(*row)) {
            sum.0 += *x as f64;
            sum.1 += *x as f64 * *x as f64;
        }
    }
    let moments = sums.iter().map(|(sum, squares)| {
        let mean = sum / n;
        (mean as f32, (squares / n - mean * mean).max(1e-12).sqrt() as f32)
    });
    moments.unzip()
}

/// `d_sae` of the rows: the first occurrence of every token of the vocabulary, then the second, and so on, so that
/// frequent tokens do not fill the dictionary.
fn exemplars(ids: &[u32], usual: &[usize], d_sae: usize) -> Vec<usize> {
    let mut occurrences = std::collections::BTreeMap::<u32, usize>::new();
    let mut ranked: Vec<(usize, usize)> = usual
        .iter()
        .map(|row| {
            let seen = occurrences.entry(ids[*row]).or_default();
            *seen += 1;
            (*seen, *row)
        })
        .collect();
    ranked.sort_unstable();
    // Massive rows have been left out: if that leaves too few, the last ones serve more than once.
    ranked.iter().cycle().take(d_sae).map(|(_, row)| *row).collect()
}

/// The value that `l0` features of a row exceed on average.
fn threshold(device: &Cpu, rows: &Rows, usual: &[usize], encoder: &Tensor, bias: &[f32], l0: usize) -> f64 {
    let step = (usual.len() / THRESHOLD_ROWS).max(1);
    let sample: Vec<usize> = usual.iter().copied().step_by(step).collect();
    let mut values = device.linear(&device.gather(rows, &sample), encoder);
    let (n, d_sae) = (values.n(), values.d());
    for row in values.data_mut().chunks_exact_mut(d_sae) {
        row.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
    }
    let nth = (n * l0).min(n * d_sae - 1);
    let (_, value, _) = values.data_mut().select_nth_unstable_by(nth, |a, b| b.total_cmp(a));
    f64::from(value.max(0.0))
}
