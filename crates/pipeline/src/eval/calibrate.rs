//! What must be known of a site before its rows can be judged: how long a usual row is, and the mean of usual rows.

use llamascope_compute::{Cpu, Device};
use llamascope_model::{Batch, Checkpoint, Llama};
use llamascope_record::Tap;

use super::{CHUNK_ROWS, MASSIVE, RowSet, check_finite, norms};
use crate::Error;
use crate::corpus::{Context, Corpus, Position};
use crate::observer::Observer;

/// Tokens, from the beginning of the text, that means are taken from. Medians are those of the first chunk of them.
const CALIBRATION_ROWS: usize = 8192;
/// Tokens below which no figure means anything.
const LEAST_TOKENS: u64 = 64;

/// What was found.
pub(crate) struct Calibration {
    /// Tokens of the whole text, as far as it is read.
    pub tokens: u64,
    /// By tap.
    pub taps: Vec<Usual>,
}

/// The usual rows of a site.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usual {
    /// Median length, BOS left out.
    pub median: f64,
    /// Length above which a row is massive.
    pub massive: f64,
    /// Mean of the rows that are neither BOS nor massive, `[d]`.
    pub mean: Vec<f32>,
}

/// Runs the beginning of a text up to the last tap: its first chunk for the lengths, then all of it for the means.
pub(crate) fn calibrate(
    device: &Cpu,
    checkpoint: &Checkpoint,
    corpus: &Corpus,
    taps: &[Tap],
    observer: &dyn Observer,
) -> Result<Calibration, Error> {
    observer.stage("reading the text");
    let mut contexts = corpus.contexts(&checkpoint.tokenizer, Position::default());
    let (mut kept, mut rows) = (Vec::new(), 0);
    loop {
        if observer.cancelled() {
            return Err(Error::Interrupted { run: None });
        }
        let batch = device.on_host(|| contexts.batch(CHUNK_ROWS))?;
        if batch.is_empty() {
            break;
        }
        if rows < CALIBRATION_ROWS {
            rows += batch.iter().map(|context| context.tokens.len()).sum::<usize>();
            kept.push(batch);
        }
    }
    let tokens = contexts.position().tokens;
    if tokens < LEAST_TOKENS {
        return Err(Error::Mismatch(format!(
            "the text has {tokens} tokens in contexts of two or more, figures need at least {LEAST_TOKENS}: give more text, or a \
             larger --tokens"
        )));
    }
    observer.stage(&format!("looking for massive rows among {rows} tokens"));
    let mut lengths = vec![Vec::new(); taps.len()];
    each_row(device, checkpoint, &kept[..1], taps, observer, |tap, bos, norm, _| {
        if !bos {
            lengths[tap].push(norm);
        }
    })?;
    let mut found: Vec<Usual> = lengths.into_iter().map(usual_length).collect();
    let mut sums = vec![(0u64, vec![0f64; checkpoint.config.d_model]); taps.len()];
    each_row(device, checkpoint, &kept, taps, observer, |tap, bos, norm, row| {
        if RowSet::Typical.has(bos, norm, found[tap].massive) {
            let (count, sum) = &mut sums[tap];
            *count += 1;
            sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
        }
    })?;
    for (usual, (count, sum)) in found.iter_mut().zip(sums) {
        usual.mean = sum.into_iter().map(|sum| (sum / count.max(1) as f64) as f32).collect();
    }
    Ok(Calibration { tokens, taps: found })
}

fn usual_length(mut lengths: Vec<f64>) -> Usual {
    lengths.sort_unstable_by(f64::total_cmp);
    let median = lengths.get(lengths.len() / 2).copied().unwrap_or(0.0);
    Usual { median, massive: MASSIVE * median, mean: Vec::new() }
}

/// Shows every row of every tap: tap, whether it is BOS, length, numbers.
fn each_row(
    device: &Cpu,
    checkpoint: &Checkpoint,
    batches: &[Vec<Context>],
    taps: &[Tap],
    observer: &dyn Observer,
    mut see: impl FnMut(usize, bool, f64, &[f32]),
) -> Result<(), Error> {
    let last = taps.iter().map(|tap| tap.layer).max().unwrap_or(0);
    for contexts in batches {
        let tokens = || contexts.iter().map(|context| &context.tokens);
        let batch = Batch::new(tokens());
        let bos: Vec<bool> = tokens().flat_map(|tokens| tokens.bos.iter().copied()).collect();
        let llama = Llama::new(device, checkpoint, tokens().map(|tokens| tokens.len()).max().unwrap_or(0));
        let mut x = llama.embed(&batch)?;
        for layer in 0..=last {
            if observer.cancelled() {
                return Err(Error::Interrupted { run: None });
            }
            let block = llama.layer(&checkpoint.layer(layer)?);
            let tap = taps.iter().position(|tap| tap.layer == layer);
            block.forward(&mut x, &batch, tap.map(|tap| taps[tap].site), |rows| {
                let lengths = norms(rows);
                for row in 0..rows.n() {
                    see(tap.unwrap_or(0), bos[row], lengths[row], rows.row(row));
                }
            });
            check_finite(device, layer, contexts, &x)?;
        }
    }
    Ok(())
}
