//! Waves: as many sentences at once as memory allows, in chunks that share one pass of a layer.

use std::ops::Range;

use llamascope_model::Config;

/// Rows of a chunk, where memory allows: enough for a matrix product to run at full speed.
const CHUNK_ROWS: usize = 1024;
/// Rows of a wave when the weights stay in memory anyhow: a larger wave would only delay the first results.
const RESIDENT_WAVE_ROWS: usize = 8192;

/// How sentences go through the layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waves {
    /// Each wave's chunks, each chunk a range of sentences; together all sentences in order.
    pub waves: Vec<Vec<Range<usize>>>,
    /// Whether the weights are larger than what may stay in memory: layers are then dropped behind.
    pub streaming: bool,
}

/// Divides sentences of these `lengths` under a budget of `memory` bytes. `layer_bytes` is the largest layer with its
/// SAE, `all_bytes` all that is read.
pub fn plan(config: &Config, lengths: &[usize], memory: u64, layer_bytes: u64, all_bytes: u64) -> Waves {
    let streaming = all_bytes > memory / 2;
    // While a layer runs, the next one is read ahead.
    let weights = if streaming { 2 * layer_bytes } else { all_bytes };
    let left = memory.saturating_sub(weights);
    let chunk_rows = (left / 2 / scratch_bytes_per_row(config)).clamp(32, CHUNK_ROWS as u64) as usize;
    let wave_rows = (left / 2 / residual_bytes_per_row(config)).max(chunk_rows as u64) as usize;
    let wave_rows = if streaming { wave_rows } else { wave_rows.min(RESIDENT_WAVE_ROWS) };

    let mut waves: Vec<Vec<Range<usize>>> = Vec::new();
    let (mut in_wave, mut in_chunk) = (usize::MAX, usize::MAX);
    for (sentence, &rows) in lengths.iter().enumerate() {
        // A sentence longer than a wave still goes through, alone.
        if in_wave.saturating_add(rows) > wave_rows {
            waves.push(Vec::new());
            (in_wave, in_chunk) = (0, usize::MAX);
        }
        let wave = waves.last_mut().expect("a wave was begun");
        match wave.last_mut() {
            Some(chunk) if in_chunk.saturating_add(rows) <= chunk_rows => chunk.end = sentence + 1,
            _ => {
                wave.push(sentence..sentence + 1);
                in_chunk = 0;
            }
        }
        in_chunk += rows;
        in_wave += rows;
    }
    Waves { waves, streaming }
}

impl Waves {
    /// What is left of the waves when sentences are done in part: `done` tells what of a sentence is, and nothing is left
    /// of one that is `all` done. A chunk is divided where its sentences have not come equally far.
    pub fn rest<Done: PartialEq>(self, done: impl Fn(usize) -> Done, all: &Done) -> Waves {
        let divided = |chunk: Range<usize>| {
            let mut pieces: Vec<(Range<usize>, Done)> = Vec::new();
            for sentence in chunk {
                let done = done(sentence);
                match pieces.last_mut() {
                    Some((piece, so_far)) if *so_far == done => piece.end = sentence + 1,
                    _ => pieces.push((sentence..sentence + 1, done)),
                }
            }
            pieces.into_iter().filter(|(_, done)| done != all).map(|(piece, _)| piece)
        };
        let waves = self.waves.into_iter().map(|wave| wave.into_iter().flat_map(divided).collect());
        Waves { waves: waves.filter(|wave: &Vec<_>| !wave.is_empty()).collect(), streaming: self.streaming }
    }
}

/// Bytes of the residual stream of a row.
fn residual_bytes_per_row(config: &Config) -> u64 {
    4 * config.d_model as u64
}

/// Bytes that a row needs while its chunk is inside a layer: norm, packed copy, q, k, v, attention, and the MLP's two
/// halves with a packed copy.
fn scratch_bytes_per_row(config: &Config) -> u64 {
    let attention = config.head_dim * (2 * config.n_heads + 2 * config.n_kv_heads);
    4 * (3 * config.d_model + attention + 3 * config.d_ff) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use llamascope_model::{Rope, RopeLayout, RopeScaling};

    fn config() -> Config {
        Config {
            n_layers: 32,
            d_model: 4096,
            n_heads: 32,
            n_kv_heads: 8,
            head_dim: 128,
            d_ff: 14336,
            vocab: 128_256,
            rms_eps: 1e-5,
            context: 131_072,
            rope: Rope { theta: 5e5, scaling: RopeScaling::None, layout: RopeLayout::Halves },
            tied_head: false,
        }
    }

    #[test]
    fn every_sentence_is_in_one_chunk_in_order() {
        let lengths: Vec<usize> = (0..500).map(|i| i * 7919 % 90).collect();
        for memory in [1 << 20, 1 << 30, 3 << 30, 64 << 30] {
            let plan = plan(&config(), &lengths, memory, 700 << 20, 16 << 30);
            let sentences: Vec<usize> = plan.waves.iter().flatten().cloned().flatten().collect();
            assert!(sentences.iter().copied().eq(0..500));
            assert!(plan.waves.iter().all(|wave| !wave.is_empty()));
            assert_eq!(plan.streaming, memory < 32 << 30);
        }
    }

    #[test]
    fn a_wave_keeps_to_the_budget_and_a_long_sentence_goes_alone() {
        let lengths = [10, 5000, 10, 300, 300, 300, 300];
        let plan = plan(&config(), &lengths, (1400 << 20) + (96 << 20), 700 << 20, 16 << 30);
        for chunk in plan.waves.iter().flatten() {
            let rows: usize = lengths[chunk.clone()].iter().sum();
            assert!(chunk.len() == 1 || rows <= CHUNK_ROWS, "{chunk:?}");
        }
        assert!(plan.waves.iter().any(|wave| wave.len() == 1 && wave[0] == (1..2)));
    }

    #[test]
    fn a_tight_budget_makes_more_waves() {
        let lengths = vec![100; 400];
        let count = |memory| plan(&config(), &lengths, memory, 700 << 20, 16 << 30).waves.len();
        assert_eq!(count(4 << 30), 1);
        assert!(count(1500 << 20) > 1);
    }

    #[test]
    fn the_rest_keeps_chunks_apart_that_have_not_come_equally_far() {
        let waves = Waves { waves: vec![vec![0..3, 3..6], vec![6..9]], streaming: false };
        let done = |sentence| [2, 2, 2, 2, 1, 1, 2, 0, 2][sentence];
        let rest = waves.clone().rest(done, &2).waves;
        assert_eq!((rest.len(), rest.concat()), (2, vec![4..6, 7..8]));
        let done = |sentence| [0, 1, 1, 0, 0, 0, 2, 2, 2][sentence];
        assert_eq!(waves.clone().rest(done, &2).waves, [vec![0..1, 1..3, 3..6]]);
        assert_eq!(waves.clone().rest(|_| 0, &2), waves);
    }

    #[test]
    fn no_sentences_make_no_waves() {
        assert!(plan(&config(), &[], 1 << 30, 1, 1).waves.is_empty());
    }
}
