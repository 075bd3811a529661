//! The engine: layer by layer, all rows of a wave through each, and at a tapped layer through its SAE.

use std::ops::Range;
use std::time::{Duration, Instant};

use llamascope_compute::{Device, EncoderSpec, Rows, Select, Tensor};
use llamascope_model::{Batch, Checkpoint, LayerWeights, Llama};
use llamascope_record::{SparseRows, Tokens};
use llamascope_sae::{Activation, Sae};

use crate::Error;
use crate::ahead::ReadAhead;
use crate::observer::{Observer, Progress};
use crate::wave::Waves;

/// What is to be extracted.
pub struct Extraction<'a, D: Device> {
    /// Where it runs.
    pub device: &'a D,
    /// The model.
    pub checkpoint: &'a Checkpoint,
    /// At most one a layer, in ascending order of layers.
    pub saes: &'a [Sae],
    /// All sentences.
    pub tokens: &'a [Tokens],
    /// How they are divided.
    pub waves: &'a Waves,
}

/// The rows of some sentences at one layer: of each sentence one for every token that is not BOS.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The layer.
    pub layer: usize,
    /// The sentences, in order.
    pub sentences: Range<usize>,
    /// Their rows, one sentence after the other.
    pub rows: SparseRows,
    /// Values that were computed in full f32 to find them.
    pub candidates: u64,
}

/// What the engine measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Time in the model's layers.
    pub forward: Duration,
    /// Time in the SAEs.
    pub encode: Duration,
    /// BLAKE3 over the embedding and the layers that were run, in order: type, shape and bytes of each tensor.
    pub weights_blake3: String,
    /// BLAKE3 of each SAE's encoder as it is used: matrix, biases, gains, thresholds.
    pub sae_blake3: Vec<String>,
}

/// A chunk on its way through the layers.
struct Chunk<R> {
    sentences: Range<usize>,
    batch: Batch,
    /// Rows that are output: all but BOS.
    output: Vec<usize>,
    residual: R,
}

impl<D: Device> Extraction<'_, D> {
    /// Runs all waves up to the last tapped layer. `sink` gets every layer's sentences in ascending order.
    ///
    /// # Errors
    /// Tensors that are missing, rows that are not finite, an interruption, and whatever `sink` returns.
    pub fn run(
        &self,
        observer: &dyn Observer,
        mut sink: impl FnMut(Encoded) -> Result<(), Error>,
    ) -> Result<Measured, Error> {
        let mut measured = Measured::default();
        let mut hasher = blake3::Hasher::new();
        let Some(last_layer) = self.saes.last().map(|sae| sae.tap.layer) else {
            return Ok(measured);
        };
        let longest = self.tokens.iter().map(Tokens::len).max().unwrap_or(0);
        let rows = self.tokens.iter().map(|tokens| tokens.len() as u64).sum();
        let work = (0..=last_layer).map(|layer| self.work_per_row(layer)).collect::<Result<Vec<_>, Error>>()?;
        let llama = Llama::new(self.device, self.checkpoint, longest);
        let mut progress = Progress {
            waves: self.waves.waves.len(),
            last_layer,
            total: rows * work.iter().sum::<u64>(),
            tokens: rows,
            ..Progress::default()
        };
        let embedding = self.checkpoint.embedding()?;
        self.device.on_host(|| hash_tensor(&mut hasher, &embedding));
        let read_ahead = ReadAhead::start();
        for (number, wave) in self.waves.waves.iter().enumerate() {
            progress.wave = number + 1;
            let chunks = wave.iter().map(|sentences| self.chunk(&llama, sentences.clone()));
            let mut chunks = chunks.collect::<Result<Vec<_>, Error>>()?;
            if self.waves.streaming {
                embedding.dont_need();
            }
            let mut next = Some(self.checkpoint.layer(0)?);
            for (layer, work) in work.iter().enumerate() {
                let weights = next.take().expect("set in the round before");
                if layer < last_layer {
                    let ahead = self.checkpoint.layer(layer + 1)?;
                    let encoder = self.sae(layer + 1).map(|sae| &sae.w_enc);
                    read_ahead.read(tensors(&ahead).chain(encoder).cloned());
                    next = Some(ahead);
                }
                let sae = self.sae(layer);
                if number == 0 {
                    self.device.on_host(|| hash_layer(&mut hasher, &weights));
                    measured.sae_blake3.extend(sae.map(|sae| self.device.on_host(|| hash_sae(sae))));
                }
                let encoder = sae.map(|sae| (sae, self.device.encoder(&sae.w_enc)));
                let block = llama.layer(&weights);
                for chunk in &mut chunks {
                    if observer.cancelled() {
                        return Err(Error::Interrupted { run: None });
                    }
                    progress.layer = layer;
                    observer.progress(progress);
                    let started = Instant::now();
                    let mut tapped = None;
                    block.forward(&mut chunk.residual, &chunk.batch, sae.map(|sae| sae.tap.site), |rows| {
                        tapped = Some(self.device.gather(rows, &chunk.output));
                    });
                    self.check_finite(layer, chunk)?;
                    measured.forward += started.elapsed();
                    if let (Some((sae, encoder)), Some(rows)) = (&encoder, tapped) {
                        let started = Instant::now();
                        let (rows, candidates) = encode(self.device, sae, encoder, rows)?;
                        measured.encode += started.elapsed();
                        sink(Encoded { layer, sentences: chunk.sentences.clone(), rows, candidates })?;
                    }
                    progress.done += chunk.batch.n() as u64 * work;
                }
                if self.waves.streaming {
                    tensors(&weights).for_each(Tensor::dont_need);
                    sae.iter().for_each(|sae| sae.w_enc.dont_need());
                }
            }
        }
        observer.progress(progress);
        measured.weights_blake3 = hasher.finalize().to_hex().to_string();
        Ok(measured)
    }

    /// The SAE of a layer.
    fn sae(&self, layer: usize) -> Option<&Sae> {
        self.saes.iter().find(|sae| sae.tap.layer == layer)
    }

    /// Multiplications for a row in a layer and its SAE.
    fn work_per_row(&self, layer: usize) -> Result<u64, Error> {
        let size = |tensor: &Tensor| (tensor.n_rows() * tensor.n_cols()) as u64;
        let sae = self.sae(layer).map_or(0, |sae| size(&sae.w_enc));
        Ok(tensors(&self.checkpoint.layer(layer)?).map(size).sum::<u64>() + sae)
    }

    fn chunk(&self, llama: &Llama<'_, D>, sentences: Range<usize>) -> Result<Chunk<D::Rows>, Error> {
        let tokens = &self.tokens[sentences.clone()];
        let batch = Batch::new(tokens);
        let starts = batch.spans().iter().map(|span| span.start);
        let output = starts.zip(tokens).flat_map(|(start, t)| t.output_positions().map(move |p| start + p)).collect();
        Ok(Chunk { sentences, residual: llama.embed(&batch)?, batch, output })
    }

    fn check_finite(&self, layer: usize, chunk: &Chunk<D::Rows>) -> Result<(), Error> {
        let Some(row) = self.device.non_finite_row(&chunk.residual) else {
            return Ok(());
        };
        let spans = chunk.batch.spans();
        let at = spans.iter().position(|span| span.contains(&row)).expect("spans cover all rows");
        Err(Error::NonFinite {
            layer,
            sentence: chunk.sentences.start + at,
            place: String::new(),
            position: row - spans[at].start,
            dtype: self.device.info().dtype,
        })
    }
}

/// Sparse rows of `rows` by one SAE, and how many values were computed in full f32 to find them.
///
/// # Errors
/// Rows that are not in canonical form: values that are not finite.
pub fn encode<D: Device>(
    device: &D,
    sae: &Sae,
    encoder: &D::Encoder,
    rows: D::Rows,
) -> Result<(SparseRows, u64), Error> {
    let rows = if sae.changes_rows() {
        let mut host: Rows = device.download(&rows);
        sae.prepare_rows(host.data_mut());
        device.upload(host)
    } else {
        rows
    };
    let select = match &sae.activation {
        Activation::Relu => Select::Positive,
        Activation::JumpRelu(thresholds) => Select::Above(thresholds),
        Activation::TopK(k) => Select::TopK(*k),
    };
    let spec = EncoderSpec { scale: sae.scale, bias: &sae.bias, gain: sae.gain.as_deref(), select };
    let sparse = device.encode(&rows, encoder, &spec);
    let rows = SparseRows::new(sae.d_sae(), sparse.ptr, sparse.ids, sparse.vals)
        .map_err(|source| Error::Rows { layer: sae.tap.layer, source })?;
    Ok((rows, sparse.candidates as u64))
}

/// The matrices of a layer.
pub(crate) fn tensors(weights: &LayerWeights) -> impl Iterator<Item = &Tensor> {
    let LayerWeights { q, k, v, o, gate, up, down, .. } = weights;
    [q, k, v, o, gate, up, down].into_iter()
}

fn hash_tensor(hasher: &mut blake3::Hasher, tensor: &Tensor) {
    hasher.update(format!("{} {:?}", tensor.dtype(), tensor.shape()).as_bytes());
    hasher.update_rayon(tensor.bytes());
}

fn hash_numbers(hasher: &mut blake3::Hasher, numbers: &[f32]) {
    hasher.update(&(numbers.len() as u64).to_le_bytes());
    numbers.iter().for_each(|x| {
        hasher.update(&x.to_le_bytes());
    });
}

pub(crate) fn hash_sae(sae: &Sae) -> String {
    let mut hasher = blake3::Hasher::new();
    hash_tensor(&mut hasher, &sae.w_enc);
    hasher.update(format!("{} {:?}", sae.scale, sae.input_norm).as_bytes());
    for numbers in [Some(&sae.bias), sae.input_bias.as_ref(), sae.gain.as_ref()] {
        hash_numbers(&mut hasher, numbers.map_or(&[], Vec::as_slice));
    }
    match &sae.activation {
        Activation::Relu => hasher.update(b"relu"),
        Activation::TopK(k) => hasher.update(format!("topk {k}").as_bytes()),
        Activation::JumpRelu(thresholds) => {
            hash_numbers(&mut hasher, thresholds);
            hasher.update(b"jumprelu")
        }
    };
    hasher.finalize().to_hex().to_string()
}

fn hash_layer(hasher: &mut blake3::Hasher, weights: &LayerWeights) {
    hash_numbers(hasher, &weights.attn_norm);
    hash_numbers(hasher, &weights.mlp_norm);
    tensors(weights).for_each(|tensor| hash_tensor(hasher, tensor));
}
