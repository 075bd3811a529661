//! Where rows come from: a model that reads a corpus, or a file of rows.

use std::path::Path;

use llamascope_compute::{Cpu, Device, Rows, Tensor};
use llamascope_model::Checkpoint;
use llamascope_pipeline::Observer;
use llamascope_pipeline::activations::Activations;
use llamascope_pipeline::corpus::{Corpus, Position};
use llamascope_record::{Tap, Tokens};
use llamascope_weights::TensorMap;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Rows that go through the model together.
const CHUNK_ROWS: usize = 1024;

/// A place in the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    /// How often the data has been read to the end.
    pub epoch: u64,
    /// In the corpus.
    pub corpus: Position,
    /// In the file of rows.
    pub row: u64,
}

/// A source of rows, by layer.
pub(crate) enum Source<'a> {
    Model { corpus: &'a Corpus, checkpoint: &'a Checkpoint, activations: Activations<'a, Cpu>, cpu: &'a Cpu },
    File { tensors: Vec<Tensor> },
}

impl<'a> Source<'a> {
    /// A model that is read at these places while it reads the corpus.
    pub(crate) fn model(
        cpu: &'a Cpu,
        checkpoint: &'a Checkpoint,
        corpus: &'a Corpus,
        taps: Vec<Tap>,
        context: usize,
    ) -> Self {
        Source::Model { corpus, checkpoint, activations: Activations::new(cpu, checkpoint, taps, context), cpu }
    }

    /// A file of rows, with those of each layer under `layer.N`.
    pub(crate) fn file(path: &Path, layers: &[usize]) -> Result<Self, Error> {
        let wrong = |what: String| Error::Rows { path: path.into(), what };
        let map = TensorMap::open_file(path)?;
        let mut tensors: Vec<Tensor> = Vec::new();
        for layer in layers {
            let name = format!("layer.{layer}");
            let tensor = map.get(&name)?;
            if tensor.shape().len() != 2 || tensor.dtype().block_len() != 1 {
                return Err(wrong(format!("`{name}` is {:?}, expected floats [rows, d_model]", tensor.shape())));
            }
            if let Some(first) = tensors.first().filter(|first| first.shape() != tensor.shape()) {
                let (was, is) = (first.shape(), tensor.shape());
                return Err(wrong(format!(
                    "`{name}` is {is:?}, the layer before it {was:?}: all must have the same rows"
                )));
            }
            tensors.push(tensor);
        }
        Ok(Source::File { tensors })
    }

    /// Width of a row.
    pub(crate) fn d(&self) -> usize {
        match self {
            Source::Model { checkpoint, .. } => checkpoint.config.d_model,
            Source::File { tensors } => tensors[0].n_cols(),
        }
    }

    /// What tells this data from other data.
    pub(crate) fn fingerprint(&self) -> String {
        match self {
            Source::Model { corpus, .. } => corpus.blake3().to_owned(),
            Source::File { tensors } => {
                let mut hasher = blake3::Hasher::new();
                tensors.iter().for_each(|tensor| {
                    hasher.update(tensor.bytes());
                });
                hasher.finalize().to_hex().to_string()
            }
        }
    }

    /// Tokens from the beginning, BOS not counted, until `enough` have been counted or the text ends.
    pub(crate) fn count(&self, enough: u64, observer: &dyn Observer) -> Result<u64, Error> {
        let Source::Model { corpus, checkpoint, cpu, .. } = self else {
            let Source::File { tensors } = self else { unreachable!("the only other kind") };
            return Ok(tensors[0].n_rows() as u64);
        };
        let mut contexts = corpus.contexts(&checkpoint.tokenizer, Position::default());
        let mut count = 0;
        while count < enough {
            let batch = cpu.on_host(|| contexts.batch(1 << 20).map_err(Error::from))?;
            if batch.is_empty() {
                break;
            }
            count += batch.iter().map(|context| context.tokens.output_positions().count() as u64).sum::<u64>();
            if observer.cancelled() {
                return Err(Error::Interrupted { kept: "nothing was begun".into() });
            }
        }
        Ok(count)
    }

    /// Reads rows from `from` on and hands them to `take` with the place behind them, some hundred at a time and all
    /// layers', until that returns false. At the end of the data it begins again, at most `epochs` times in all. Tells
    /// whether there was enough.
    pub(crate) fn read(
        &self,
        from: Place,
        epochs: u64,
        observer: &dyn Observer,
        mut take: impl FnMut(Vec<Rows>, Place) -> bool,
    ) -> Result<bool, Error> {
        let mut place = from;
        while place.epoch < epochs {
            match self {
                Source::Model { corpus, checkpoint, activations, cpu } => {
                    let mut contexts = corpus.contexts(&checkpoint.tokenizer, place.corpus);
                    loop {
                        let batch = cpu.on_host(|| contexts.batch(CHUNK_ROWS).map_err(Error::from))?;
                        if batch.is_empty() {
                            break;
                        }
                        let tokens: Vec<Tokens> = batch.into_iter().map(|context| context.tokens).collect();
                        let rows = activations.rows(&tokens, observer)?;
                        place.corpus = contexts.position();
                        if !take(rows, place) {
                            return Ok(true);
                        }
                    }
                }
                Source::File { tensors } => {
                    let n = tensors[0].n_rows();
                    while (place.row as usize) < n {
                        let range = place.row as usize..n.min(place.row as usize + CHUNK_ROWS);
                        place.row = range.end as u64;
                        if !take(tensors.iter().map(|tensor| rows_of(tensor, range.clone())).collect(), place) {
                            return Ok(true);
                        }
                    }
                }
            }
            place = Place { epoch: place.epoch + 1, ..Place::default() };
        }
        Ok(false)
    }
}

fn rows_of(tensor: &Tensor, range: std::ops::Range<usize>) -> Rows {
    let d = tensor.n_cols();
    let mut numbers = vec![0.0; range.len() * d];
    tensor
        .dtype()
        .dequantize(&tensor.bytes()[range.start * tensor.row_bytes()..range.end * tensor.row_bytes()], &mut numbers);
    Rows::from_vec(range.len(), d, numbers)
}
