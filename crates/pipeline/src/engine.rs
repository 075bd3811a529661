//! The engine: layer by layer, all rows of a wave through each, and at a tapped layer through its SAE.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use blake3::Hash;

use llamascope_compute::{Device, EncoderSpec, Rows, Select, Tensor};
use llamascope_model::{Batch, Checkpoint, LayerWeights, Llama};
use llamascope_record::run::Ledger;
use llamascope_record::{SparseRows, Tokens};
use llamascope_sae::{Activation, Sae};

use crate::Error;
use crate::ahead::ReadAhead;
use crate::observer::{Observer, Progress};
use crate::residual::{Kept, Occasion, Saved};
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
    /// How they are divided: what is still to be run of them.
    pub waves: &'a Waves,
    /// What is there from before: rows of its files are not encoded again, weights must be those that it names.
    pub before: &'a Ledger,
    /// Chunks that were on their way.
    pub kept: &'a Kept,
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
}

/// What the engine gives.
#[derive(Clone, Debug)]
pub enum Output {
    /// Weights were read for the first time; comes before any rows that were computed with them.
    Weights {
        /// Which ones.
        part: String,
        /// Their BLAKE3.
        blake3: Hash,
    },
    /// Rows of some sentences.
    Rows(Encoded),
    /// A chunk of the present wave between two layers, to go on with after a stop. Comes after all rows of the layers
    /// behind it.
    Residual(Saved),
}

/// What the engine measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Time in the model's layers.
    pub forward: Duration,
    /// Time in the SAEs.
    pub encode: Duration,
    /// Values that were computed in full f32 to find the active ones.
    pub candidates: u64,
    /// BLAKE3 over the hashes of the embedding and of the layers up to the last one, in order; each is over type, shape
    /// and bytes of its tensors.
    pub weights_blake3: String,
    /// BLAKE3 of each SAE's encoder as it is used: matrix, biases, gains, thresholds.
    pub sae_blake3: Vec<String>,
}

/// The embedding as a part of the weights.
pub(crate) const EMBEDDING: &str = "embedding";

/// A layer as a part of the weights.
pub(crate) fn part_of_layer(layer: usize) -> String {
    format!("layer {layer}")
}

/// An SAE as a part of the weights.
pub(crate) fn part_of_sae(layer: usize) -> String {
    format!("SAE of layer {layer}")
}

/// A chunk on its way through the layers.
struct Chunk<R> {
    sentences: Range<usize>,
    batch: Batch,
    /// Rows that are output: all but BOS.
    output: Vec<usize>,
    residual: R,
    /// The layer that it enters next.
    next: usize,
}

impl<D: Device> Extraction<'_, D> {
    /// Runs all waves up to the last tapped layer. `sink` gets every layer's sentences in ascending order, `measured` what it
    /// took, also where it ends early.
    ///
    /// # Errors
    /// Tensors that are missing or not what they were, rows that are not finite, an interruption, and whatever `sink`
    /// returns.
    pub fn run(
        &self,
        observer: &dyn Observer,
        mut sink: impl FnMut(Output) -> Result<(), Error>,
        measured: &mut Measured,
    ) -> Result<(), Error> {
        let mut hashes = BTreeMap::new();
        let Some(last_layer) = self.saes.last().map(|sae| sae.tap.layer) else {
            return Ok(());
        };
        let longest = self.tokens.iter().map(Tokens::len).max().unwrap_or(0);
        let in_waves = self.waves.waves.iter().flatten().flat_map(|sentences| &self.tokens[sentences.clone()]);
        let rows = in_waves.map(|tokens| tokens.len() as u64).sum();
        let work = (0..=last_layer).map(|layer| self.work_per_row(layer)).collect::<Result<Vec<_>, Error>>()?;
        let llama = Llama::new(self.device, self.checkpoint, longest);
        let mut progress = Progress {
            waves: self.waves.waves.len(),
            last_layer,
            total: rows * work.iter().sum::<u64>(),
            tokens: rows,
            ..Progress::default()
        };
        let mut occasion = Occasion::new();
        let read_ahead = ReadAhead::start();
        for (number, wave) in self.waves.waves.iter().enumerate() {
            progress.wave = number + 1;
            let mut chunks = Vec::new();
            for sentences in wave {
                let chunk = match self.kept.take(sentences) {
                    Some(saved) => self.kept_chunk(saved),
                    None => {
                        let embedding = || Ok(hash_tensors(&[], [&self.checkpoint.embedding()?].into_iter()));
                        self.hold(EMBEDDING.into(), &mut hashes, embedding, &mut sink)?;
                        self.chunk(&llama, sentences.clone())?
                    }
                };
                progress.done += chunk.batch.n() as u64 * work[..chunk.next].iter().sum::<u64>();
                chunks.push(chunk);
            }
            if self.waves.streaming {
                self.checkpoint.embedding()?.dont_need();
            }
            let first_layer = chunks.iter().map(|chunk| chunk.next).min().unwrap_or(0);
            let mut next = Some(self.checkpoint.layer(first_layer)?);
            for (layer, work) in work.iter().enumerate().skip(first_layer) {
                let weights = next.take().expect("set in the round before");
                if layer < last_layer {
                    let ahead = self.checkpoint.layer(layer + 1)?;
                    let encoder = self.sae(layer + 1).map(|sae| &sae.w_enc);
                    read_ahead.read(tensors(&ahead).chain(encoder).cloned());
                    next = Some(ahead);
                }
                let sae = self.sae(layer);
                self.hold(part_of_layer(layer), &mut hashes, || Ok(hash_layer(&weights)), &mut sink)?;
                if let Some(sae) = sae {
                    self.hold(part_of_sae(layer), &mut hashes, || Ok(hash_sae(sae)), &mut sink)?;
                }
                let encoder = sae.map(|sae| (sae, self.device.encoder(&sae.w_enc)));
                let block = llama.layer(&weights);
                for at in 0..chunks.len() {
                    if observer.cancelled() {
                        self.keep(&chunks, Some(Occasion::AT_A_STOP), &mut sink)?;
                        return Err(Error::Interrupted { run: None });
                    }
                    let chunk = &mut chunks[at];
                    if chunk.next > layer {
                        continue;
                    }
                    progress.layer = layer;
                    observer.progress(progress);
                    let started = Instant::now();
                    let encoder = encoder.as_ref().filter(|_| !self.before.has(layer, &chunk.sentences));
                    let mut tapped = None;
                    // On the device's own threads all the while: a hand-over at every operation would cost more.
                    let site = encoder.map(|(sae, _)| sae.tap.site);
                    self.device.on_host(|| {
                        block.forward(&mut chunk.residual, &chunk.batch, site, |rows| {
                            tapped = Some(self.device.gather(rows, &chunk.output));
                        });
                    });
                    // Before what overflows: bytes that somebody wrote may be the cause.
                    unaltered(tensors(&weights))?;
                    self.check_finite(layer, chunk)?;
                    measured.forward += started.elapsed();
                    if let (Some((sae, encoder)), Some(rows)) = (encoder, tapped) {
                        let started = Instant::now();
                        let (rows, candidates) = encode(self.device, sae, encoder, rows)?;
                        measured.encode += started.elapsed();
                        measured.candidates += candidates;
                        unaltered([&sae.w_enc].into_iter())?;
                        sink(Output::Rows(Encoded { layer, sentences: chunk.sentences.clone(), rows }))?;
                    }
                    chunk.next = layer + 1;
                    progress.done += chunk.batch.n() as u64 * work;
                }
                if layer < last_layer && occasion.is_there() {
                    let begun = Instant::now();
                    self.keep(&chunks, None, &mut sink)?;
                    occasion.used(begun);
                }
                if self.waves.streaming {
                    tensors(&weights).for_each(Tensor::dont_need);
                    sae.iter().for_each(|sae| sae.w_enc.dont_need());
                }
            }
        }
        observer.progress(progress);
        self.sum_up(last_layer, measured, hashes, &mut sink)
    }

    /// Hashes a part of the weights when it is first read, and holds it against what the run read before.
    fn hold(
        &self,
        part: String,
        hashes: &mut BTreeMap<String, Hash>,
        hash: impl FnOnce() -> Result<Hash, Error> + Send,
        sink: &mut impl FnMut(Output) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if hashes.contains_key(&part) {
            return Ok(());
        }
        let blake3 = self.device.on_host(hash)?;
        match self.before.weights(&part) {
            Some(before) if before != blake3 => return Err(Error::Weights { part, before, now: blake3 }),
            Some(_) => {}
            None => sink(Output::Weights { part: part.clone(), blake3 })?,
        }
        hashes.insert(part, blake3);
        Ok(())
    }

    /// The hashes of all weights: those that were not read this time are known from before, or are read now.
    fn sum_up(
        &self,
        last_layer: usize,
        measured: &mut Measured,
        mut hashes: BTreeMap<String, Hash>,
        sink: &mut impl FnMut(Output) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut of = |part: String, hash: &(dyn Fn() -> Result<Hash, Error> + Sync)| {
            if let Some(before) = self.before.weights(&part) {
                return Ok(before);
            }
            self.hold(part.clone(), &mut hashes, hash, sink)?;
            Ok::<_, Error>(hashes[&part])
        };
        let mut all = blake3::Hasher::new();
        let embedding = || Ok(hash_tensors(&[], [&self.checkpoint.embedding()?].into_iter()));
        all.update(of(EMBEDDING.into(), &embedding)?.as_bytes());
        for layer in 0..=last_layer {
            all.update(of(part_of_layer(layer), &|| Ok(hash_layer(&self.checkpoint.layer(layer)?)))?.as_bytes());
        }
        for sae in self.saes {
            let hash = of(part_of_sae(sae.tap.layer), &|| Ok(hash_sae(sae)))?;
            measured.sae_blake3.push(hash.to_hex().to_string());
        }
        measured.weights_blake3 = all.finalize().to_hex().to_string();
        Ok(())
    }

    /// Gives the chunks of a wave to be kept, unless they are more than `most` bytes.
    fn keep(
        &self,
        chunks: &[Chunk<D::Rows>],
        most: Option<usize>,
        sink: &mut impl FnMut(Output) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let width = self.checkpoint.config.d_model;
        let bytes: usize = chunks.iter().map(|chunk| 4 * chunk.batch.n() * width).sum();
        if most.is_some_and(|most| bytes > most) {
            return Ok(());
        }
        for (at, chunk) in chunks.iter().enumerate() {
            let rows = self.device.download(&chunk.residual);
            let last = at + 1 == chunks.len();
            sink(Output::Residual(Saved { sentences: chunk.sentences.clone(), next: chunk.next, rows, last }))?;
        }
        Ok(())
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
        let (batch, output) = self.batch(&sentences);
        let residual = llama.embed(&batch)?;
        unaltered([&self.checkpoint.embedding()?].into_iter())?;
        Ok(Chunk { sentences, residual, batch, output, next: 0 })
    }

    /// A chunk that was on its way.
    fn kept_chunk(&self, saved: Saved) -> Chunk<D::Rows> {
        let (batch, output) = self.batch(&saved.sentences);
        let residual = self.device.upload(saved.rows);
        Chunk { sentences: saved.sentences, residual, batch, output, next: saved.next }
    }

    /// The rows of some sentences, and which of them are output.
    fn batch(&self, sentences: &Range<usize>) -> (Batch, Vec<usize>) {
        let tokens = &self.tokens[sentences.clone()];
        let batch = Batch::new(tokens);
        let starts = batch.spans().iter().map(|span| span.start);
        let output = starts.zip(tokens).flat_map(|(start, t)| t.output_positions().map(move |p| start + p)).collect();
        (batch, output)
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

/// Whether the files under these are still what they were when they were opened: what was computed from a file that
/// somebody wrote to meanwhile is worth nothing.
fn unaltered<'a>(mut tensors: impl Iterator<Item = &'a Tensor>) -> Result<(), Error> {
    tensors.find_map(Tensor::altered).map_or(Ok(()), |what| Err(Error::Altered { what }))
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

pub(crate) fn hash_sae(sae: &Sae) -> Hash {
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
    hasher.finalize()
}

fn hash_layer(weights: &LayerWeights) -> Hash {
    hash_tensors(&[&weights.attn_norm, &weights.mlp_norm], tensors(weights))
}

fn hash_tensors<'a>(norms: &[&[f32]], tensors: impl Iterator<Item = &'a Tensor>) -> Hash {
    let mut hasher = blake3::Hasher::new();
    norms.iter().for_each(|norm| hash_numbers(&mut hasher, norm));
    tensors.for_each(|tensor| hash_tensor(&mut hasher, tensor));
    hasher.finalize()
}
