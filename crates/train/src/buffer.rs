//! The rows that are trained on at present, shuffled. Half of them are new after every round; all layers share one
//! order, so that the rows of a batch are those of the same tokens everywhere.

use llamascope_compute::{Cpu, Device, Rows};
use rayon::prelude::*;

use crate::random::Random;

/// Rows of each layer, and how often they have been served.
pub(crate) struct Buffer {
    pub d: usize,
    /// By layer, `[n, d]`.
    pub rows: Vec<Vec<f32>>,
    /// By row, before the round at present.
    pub uses: Vec<u8>,
    seed: u64,
}

impl Buffer {
    /// An empty one.
    pub(crate) fn new(layers: usize, d: usize, seed: u64) -> Self {
        Buffer { d, rows: vec![Vec::new(); layers], uses: Vec::new(), seed }
    }

    /// How many rows a layer has.
    pub(crate) fn len(&self) -> usize {
        self.uses.len()
    }

    /// Takes in rows of every layer.
    pub(crate) fn push(&mut self, rows: &[Vec<f32>]) {
        for (held, rows) in self.rows.iter_mut().zip(rows) {
            held.extend_from_slice(rows);
        }
        self.uses.resize(self.rows[0].len() / self.d, 0);
    }

    /// The rows of a round from place `from` to `to`, in order: permutation after permutation.
    fn order(&self, round: u64, from: usize, to: usize) -> Vec<u32> {
        let n = self.len();
        let laps = from / n..=(to.max(1) - 1) / n;
        let orders =
            laps.clone().flat_map(|lap| Random::new(self.seed, "order", round << 8 | lap as u64).permutation(n));
        orders.skip(from - laps.start() * n).take(to - from).collect()
    }

    /// The `batch`th batch of a round: which rows.
    pub(crate) fn batch(&self, round: u64, batch: u64, size: usize) -> Vec<u32> {
        let from = batch as usize * size;
        self.order(round, from, from + size)
    }

    /// Those rows of a layer.
    pub(crate) fn gather(&self, cpu: &Cpu, layer: usize, which: &[u32]) -> Rows {
        let (d, held) = (self.d, &self.rows[layer]);
        let mut picked = Rows::zeros(which.len(), d);
        cpu.on_host(|| {
            let rows = picked.data_mut().par_chunks_mut(d).zip(which).with_min_len(64);
            rows.for_each(|(out, row)| out.copy_from_slice(&held[*row as usize * d..][..d]));
        });
        picked
    }

    /// Ends a round in which `served` rows were served: the `leave` rows that were served most often make room.
    pub(crate) fn end_round(&mut self, round: u64, served: usize, leave: usize) {
        for row in self.order(round, 0, served) {
            self.uses[row as usize] = self.uses[row as usize].saturating_add(1);
        }
        let mut by_use = self.order(round, 0, self.len());
        by_use.sort_by_key(|row| std::cmp::Reverse(self.uses[*row as usize]));
        let mut stays = vec![true; self.len()];
        by_use[..leave.min(self.len())].iter().for_each(|row| stays[*row as usize] = false);
        let d = self.d;
        for rows in &mut self.rows {
            let mut to = 0;
            for (from, _) in stays.iter().enumerate().filter(|(_, stays)| **stays) {
                rows.copy_within(from * d..(from + 1) * d, to * d);
                to += 1;
            }
            rows.truncate(to * d);
        }
        let mut at = 0..;
        self.uses.retain(|_| stays[at.next().expect("without end")]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llamascope_compute::Precision;

    fn filled(n: usize) -> Buffer {
        let mut buffer = Buffer::new(2, 1, 3);
        buffer.push(&[(0..n).map(|i| i as f32).collect(), (0..n).map(|i| i as f32 + 0.5).collect()]);
        buffer
    }

    #[test]
    fn every_row_is_served_as_often_as_was_asked_for() {
        for reuse in [1, 2, 3] {
            let (size, batch, half) = (80usize, 10usize, 40usize);
            let mut buffer = filled(size);
            let cpu = Cpu::new(1, Precision::F32).unwrap();
            let mut served = vec![0usize; 2000];
            let mut next = size;
            for round in 0..40 {
                let batches = (half * reuse / batch) as u64;
                for b in 0..batches {
                    let which = buffer.batch(round, b, batch);
                    let (first, second) = (buffer.gather(&cpu, 0, &which), buffer.gather(&cpu, 1, &which));
                    for (a, b) in first.data().iter().zip(second.data()) {
                        assert_eq!(a + 0.5, *b);
                        served[*a as usize] += 1;
                    }
                }
                buffer.end_round(round, half * reuse, half);
                assert_eq!(buffer.len(), size - half);
                let new: Vec<f32> = (next..next + half).map(|i| i as f32).collect();
                buffer.push(&[new.clone(), new.iter().map(|x| x + 0.5).collect()]);
                next += half;
            }
            // Those that came early have all left again.
            let early = &served[..1000];
            let total: usize = early.iter().sum();
            assert!(early.iter().all(|count| count.abs_diff(reuse) <= reuse.saturating_sub(1)), "{reuse}: {early:?}");
            assert!((total as f64 / 1000.0 - reuse as f64).abs() < 0.1, "{reuse}: {total}");
        }
    }

    #[test]
    fn the_order_is_that_of_the_seed_and_round() {
        let buffer = filled(30);
        assert_eq!(buffer.batch(2, 1, 20), buffer.batch(2, 1, 20));
        assert_ne!(buffer.batch(2, 1, 20), buffer.batch(3, 1, 20));
        let mut lap = [buffer.batch(2, 0, 20), buffer.batch(2, 1, 20)].concat();
        lap.truncate(30);
        lap.sort_unstable();
        assert!(lap.into_iter().eq(0..30));
    }
}
