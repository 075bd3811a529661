//! Sparse encoding at the speed of bf16 with the answer of f32, to the bit.
//!
//! A first pass multiplies in bf16 and bounds its own error ([`bounds`](super::bounds)); whatever could be active in f32, by
//! that bound, is computed again as the f32 path computes it.

use std::ops::Range;

use rayon::prelude::*;

use super::Precision;
use super::bounds::{Feature, Glance, RowBound, RowBounds, WeightNorms, glance, threshold_of};
use super::encode::{Active, LOOKED_AT, gather, ones, tasks};
use super::gemm;
use super::kernel::{KC, Kernel, chained_depth};
use super::packed::Packed;
use super::scattered::{Scattered, TOGETHER};
use super::tiles::{Tiles, unpack_f32};
use crate::{Dtype, EncoderSpec, Rows, Select, Sparse, Tensor};

/// Rows whose candidates a thread computes at a time.
const EXACT_ROWS: usize = 32;

/// The active features of every row. The first pass runs on `tiles` that round both operands to bf16.
pub(super) fn encode<T: Tiles>(tiles: T, x: &Rows, w: &Tensor, norms: &WeightNorms, spec: &EncoderSpec<'_>) -> Sparse {
    let kernel = tiles.kernel();
    let k = x.d();
    let depth = kernel.bf16_depth(k) + chained_depth(k);
    let bounds = RowBounds::new(kernel, x, depth);
    let packed = Packed::new(tiles, x, None);
    let candidates: Vec<Vec<Candidate>> = tasks(tiles, x.n(), w.n_rows(), &spec.select)
        .into_par_iter()
        .with_max_len(1)
        .map(|(rows, blocks)| {
            let mut possible = Possible::new(rows, spec.select);
            T::with_scratch(|scratch| {
                for block in blocks {
                    let features = (block.n0..block.n0 + block.n).map(|id| Feature::new(id, norms, spec));
                    let features: Vec<Feature> = features.collect();
                    let glances: Vec<Glance> = features.chunks(LOOKED_AT).map(Glance::new).collect();
                    gemm::multiply(&packed, [w], block, scratch, |row, [dots]| {
                        possible.take(kernel, (row, bounds.of(row)), dots, block.n0, &features, &glances);
                    });
                    possible.forget_if_many(spec.select);
                }
            });
            possible.finish(spec.select)
        })
        .collect();

    let by_row = CandidatesByRow::new(x.n(), &candidates);
    let rows = (0..x.n()).into_par_iter().step_by(EXACT_ROWS);
    let active: Vec<Vec<Active>> =
        rows.map(|row| by_row.exact(kernel, row..x.n().min(row + EXACT_ROWS), x, w, spec)).collect();
    Sparse { candidates: by_row.ids.len(), ..gather(x.n(), &active, spec) }
}

/// What may be active, row after row.
struct CandidatesByRow {
    /// Where each row's begin, and where the last row's end.
    starts: Vec<usize>,
    ids: Vec<u32>,
}

impl CandidatesByRow {
    fn new(n: usize, candidates: &[Vec<Candidate>]) -> Self {
        let mut starts = vec![0usize; n + 1];
        candidates.iter().flatten().for_each(|candidate| starts[candidate.row as usize + 1] += 1);
        for row in 0..n {
            starts[row + 1] += starts[row];
        }
        let (mut ids, mut next) = (vec![0u32; starts[n]], starts.clone());
        for candidate in candidates.iter().flatten() {
            let at = &mut next[candidate.row as usize];
            ids[*at] = candidate.id;
            *at += 1;
        }
        CandidatesByRow { starts, ids }
    }

    /// What is active in some rows, as the f32 path computes it.
    fn exact(&self, kernel: Kernel, rows: Range<usize>, x: &Rows, w: &Tensor, spec: &EncoderSpec<'_>) -> Vec<Active> {
        let of_row = |row: usize| {
            let ids = &self.ids[self.starts[row]..self.starts[row + 1]];
            ids.chunks(TOGETHER).map(move |ids| (row, ids))
        };
        let mut groups = rows.flat_map(of_row).peekable();
        let (mut active, mut unpacked) = (Vec::new(), Vec::new());
        while let Some((row, ids)) = groups.next() {
            let ahead = groups.peek().map_or(ids, |(_, ids)| ids);
            let dots = exact_dots(kernel, x.row(row), w, ids, ahead, &mut unpacked);
            for (&id, dot) in ids.iter().zip(dots) {
                let h = spec.scale.mul_add(dot, spec.bias[id as usize]);
                let value = spec.gain.map_or(h, |gain| h * gain[id as usize]);
                if value > threshold_of(spec.select, id as usize) && value > 0.0 {
                    active.push(Active { row: row as u32, id, value });
                }
            }
        }
        active
    }
}

/// A feature that may be active, with what its value is at the least and at the most.
#[derive(Clone, Copy)]
struct Candidate {
    row: u32,
    id: u32,
    lower: f32,
    upper: f32,
}

/// The candidates of a task so far.
struct Possible {
    rows: Range<usize>,
    candidates: Vec<Candidate>,
    /// By row, what a value surely needs to be among the `k` largest: the `k`th largest of the lower bounds.
    floors: Vec<f32>,
    /// Number of candidates from which on they are gone through for what is no longer possible.
    limit: usize,
    /// By feature, whether it is worth a closer look.
    glances: Vec<u32>,
}

impl Possible {
    fn new(rows: Range<usize>, select: Select<'_>) -> Self {
        let (floors, candidates) = (vec![0.0; rows.len()], Vec::new());
        let mut possible = Possible { rows, candidates, floors, limit: usize::MAX, glances: Vec::new() };
        if let Select::TopK(k) = select {
            possible.limit = possible.enough(k);
        }
        possible
    }

    fn enough(&self, k: usize) -> usize {
        k.saturating_add(16).saturating_mul(2 * self.rows.len())
    }

    /// Dot products of the first pass of a row with the features from `n0` on.
    fn take(
        &mut self,
        kernel: Kernel,
        (row, bound): (usize, RowBound),
        dots: &[f32],
        n0: usize,
        features: &[Feature],
        glances: &[Glance],
    ) {
        let floor = self.floors[row - self.rows.start];
        self.glances.resize(glances.len(), 0);
        glance(kernel, dots, glances, bound, floor, &mut self.glances);
        for (some, &bits) in self.glances.iter().enumerate() {
            for at in ones(bits).map(|i| some * LOOKED_AT + i) {
                let feature = &features[at];
                let (lower, upper) = feature.bounds(dots[at], bound);
                if (upper > feature.threshold) & (upper >= floor) {
                    self.candidates.push(Candidate { row: row as u32, id: (n0 + at) as u32, lower, upper });
                }
            }
        }
    }

    fn forget_if_many(&mut self, select: Select<'_>) {
        if let Select::TopK(k) = select
            && self.candidates.len() > self.limit
        {
            self.forget(k);
            self.limit = self.candidates.len().saturating_add(self.enough(k) / 2);
        }
    }

    /// Drops what is surely not among the `k` largest of its row.
    fn forget(&mut self, k: usize) {
        if k == 0 {
            self.candidates.clear();
        }
        self.candidates.sort_unstable_by(|a, b| a.row.cmp(&b.row).then(b.lower.total_cmp(&a.lower)));
        for row in self.candidates.chunk_by(|a, b| a.row == b.row) {
            if let Some(last) = row.get(k - 1) {
                let floor = &mut self.floors[last.row as usize - self.rows.start];
                *floor = floor.max(last.lower);
            }
        }
        let (floors, start) = (&self.floors, self.rows.start);
        self.candidates.retain(|candidate| candidate.upper >= floors[candidate.row as usize - start]);
    }

    fn finish(mut self, select: Select<'_>) -> Vec<Candidate> {
        if let Select::TopK(k) = select {
            self.forget(k);
        }
        self.candidates
    }
}

/// `w[ids[i]] . x` in the order of the f32 path: chunks of `KC`, each a chain from 0. What comes next is `ahead`.
fn exact_dots(
    kernel: Kernel,
    x: &[f32],
    w: &Tensor,
    ids: &[u32],
    ahead: &[u32],
    unpacked: &mut Vec<f32>,
) -> [f32; TOGETHER] {
    let dtype = w.dtype();
    let (block_len, block_bytes) = (dtype.block_len(), dtype.block_bytes());
    let mut sums = [0f32; TOGETHER];
    for (chunk, x) in x.chunks(KC).enumerate() {
        let bytes = chunk * KC / block_len * block_bytes..(chunk * KC + x.len()) / block_len * block_bytes;
        // Where there are fewer, the first stands for the others.
        let stored = |ids: &[u32]| {
            std::array::from_fn(|r| &w.row(ids[if r < ids.len() { r } else { 0 }] as usize)[bytes.clone()])
        };
        let rows: [&[u8]; TOGETHER] = stored(ids);
        let chains = if dtype == Dtype::Bf16 {
            kernel.chains(x, &Scattered::Bf16(rows), stored(ahead))
        } else {
            unpacked.resize(TOGETHER * KC, 0.0);
            for (row, unpacked) in rows.iter().zip(unpacked.chunks_exact_mut(KC)).take(ids.len()) {
                unpack_f32(kernel, dtype, row, Precision::F32, &mut unpacked[..x.len()]);
            }
            let row = |r: usize| &unpacked[if r < ids.len() { r * KC } else { 0 }..][..x.len()];
            kernel.chains(x, &Scattered::F32(std::array::from_fn(row)), stored(ahead))
        };
        for (sum, chain) in sums.iter_mut().zip(chains) {
            *sum = if chunk == 0 { chain } else { *sum + chain };
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::super::encode::dense;
    use super::super::pairs::Bf16Tiles;
    use super::super::tiles::F32Tiles;
    use super::*;
    use crate::Bytes;

    fn same(found: &Sparse, expected: &Sparse) -> bool {
        found.ptr == expected.ptr && found.ids == expected.ids && found.vals == expected.vals
    }

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        let hash = |i: u32| {
            let h = (i ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
            (h ^ h >> 13).wrapping_mul(0xc2b2_ae35)
        };
        (0..n as u32).map(|i| (hash(i) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    fn stored(values: &[f32], shape: Vec<usize>, dtype: Dtype) -> Tensor {
        match dtype {
            Dtype::Bf16 => Tensor::from_f32_rounded_to_bf16("w", shape, values),
            Dtype::F16 => {
                let bytes = values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
                Tensor::new("w", Dtype::F16, shape, Bytes::from_vec(bytes))
            }
            _ => Tensor::from_f32("w", shape, values),
        }
    }

    /// Both ways to a first pass: with instructions for pairs of bf16, and, so that the bounds are tested on every
    /// machine, with rounded f32.
    fn screened(kernel: Kernel, x: &Rows, w: &Tensor, spec: &EncoderSpec<'_>) -> Vec<Sparse> {
        let norms = WeightNorms::new(kernel, w);
        let rounded = F32Tiles { kernel, precision: Precision::Bf16 };
        let pairs = Bf16Tiles::new(kernel).map(|tiles| encode(tiles, x, w, &norms, spec));
        [encode(rounded, x, w, &norms, spec)].into_iter().chain(pairs).collect()
    }

    #[test]
    fn it_gives_the_bits_of_the_dense_path() {
        for (n, d, d_sae) in [(70, 24, 250), (33, 1001, 130), (5, 1600, 97)] {
            let x = Rows::from_vec(n, d, numbers(n * d, 1).iter().map(|x| x * 3.0).collect());
            let (bias, gain) = (numbers(d_sae, 3), numbers(d_sae, 4).iter().map(|g| g.abs() + 0.2).collect::<Vec<_>>());
            let thresholds: Vec<f32> = numbers(d_sae, 5).iter().map(|t| (d as f32).sqrt() * (t + 1.0)).collect();
            for dtype in [Dtype::Bf16, Dtype::F16, Dtype::F32] {
                let w = stored(&numbers(d_sae * d, 2), vec![d_sae, d], dtype);
                for select in [Select::Above(&thresholds), Select::Positive, Select::TopK(1), Select::TopK(20)] {
                    for gain in [None, Some(&gain[..])] {
                        let spec = EncoderSpec { scale: 1.7, bias: &bias, gain, select };
                        for kernel in Kernel::available() {
                            let expected = dense(kernel, &x, &w, &spec);
                            for found in screened(kernel, &x, &w, &spec) {
                                assert!(found.candidates >= found.ids.len());
                                assert!(same(&found, &expected), "{kernel:?} {dtype:?} {select:?}");
                            }
                        }
                    }
                }
            }
        }
    }

    /// Rows on which bf16 goes wrong as far as it can: every rounding of x in the direction of the weights, large terms
    /// that cancel, thresholds at the very value and next to it.
    #[test]
    fn values_on_the_edge_are_decided_as_in_f32() {
        let (n, d, d_sae) = (40, 512, 160);
        let w = numbers(d_sae * d, 7);
        let w = stored(&w, vec![d_sae, d], Dtype::Bf16);
        let signs: Vec<f32> = w.to_f32().iter().map(|w| w.signum()).collect();
        let mut x: Vec<f32> = numbers(n * d, 8);
        for (row, x) in x.chunks_exact_mut(d).enumerate() {
            for (i, x) in x.iter_mut().enumerate() {
                // Just below the middle between two bf16 numbers: rounds against the sign of a weight of feature `row`.
                let base = f32::from_bits(x.to_bits() & 0xffff_0000 | 0x7fff);
                *x = base.abs() * signs[row * d + i] * if i % 2 == 0 { 1000.0 } else { 1.0 };
            }
        }
        let x = Rows::from_vec(n, d, x);
        let bias = vec![0.0; d_sae];
        for kernel in Kernel::available() {
            let all =
                dense(kernel, &x, &w, &EncoderSpec { scale: 1.0, bias: &bias, gain: None, select: Select::Positive });
            for nudge in [-1i32, 0, 1] {
                // Every feature's threshold is one of its own values, or that value's neighbour.
                let mut thresholds = vec![f32::MAX; d_sae];
                for (id, value) in all.ids.iter().zip(&all.vals) {
                    thresholds[*id as usize] = f32::from_bits((value.to_bits() as i32 + nudge) as u32);
                }
                let spec = EncoderSpec { scale: 1.0, bias: &bias, gain: None, select: Select::Above(&thresholds) };
                let expected = dense(kernel, &x, &w, &spec);
                assert!(!expected.ids.is_empty() || nudge > 0);
                for found in screened(kernel, &x, &w, &spec) {
                    assert!(same(&found, &expected), "{kernel:?} {nudge}");
                }
            }
            // The last of the k largest is hardly apart from the next.
            for k in [1, 5, 40] {
                let spec = EncoderSpec { scale: 1.0, bias: &bias, gain: None, select: Select::TopK(k) };
                let expected = dense(kernel, &x, &w, &spec);
                for found in screened(kernel, &x, &w, &spec) {
                    assert!(same(&found, &expected), "{kernel:?} top {k}");
                }
            }
        }
    }

    #[test]
    fn few_features_are_computed_twice() {
        let (n, d, d_sae) = (64, 768, 2000);
        let x = Rows::from_vec(n, d, numbers(n * d, 1));
        let w = stored(&numbers(d_sae * d, 2), vec![d_sae, d], Dtype::Bf16);
        // About three standard deviations: one feature in a thousand.
        let thresholds = vec![(d as f32 / 9.0).sqrt() * 3.0; d_sae];
        let spec = EncoderSpec { scale: 1.0, bias: &vec![0.0; d_sae], gain: None, select: Select::Above(&thresholds) };
        let top = EncoderSpec { select: Select::TopK(3), ..spec };
        for kernel in Kernel::available() {
            for (spec, most) in [(&spec, n * d_sae / 100), (&top, 3 * 5 * n)] {
                for found in screened(kernel, &x, &w, spec) {
                    assert!(found.candidates < most, "{kernel:?}: {} of {}", found.candidates, n * d_sae);
                }
            }
        }
    }

    #[test]
    fn equal_values_at_the_edge_of_top_k_go_to_the_smaller_id() {
        let (n, d, d_sae) = (3, 40, 700);
        let x = Rows::from_vec(n, d, numbers(n * d, 1));
        // Every row of weights stands there seven times.
        let w: Vec<f32> = (0..d_sae).flat_map(|j| numbers(d, 2 + j as u32 % 100)).collect();
        let w = stored(&w, vec![d_sae, d], Dtype::Bf16);
        let spec = EncoderSpec { scale: 1.0, bias: &vec![0.0; d_sae], gain: None, select: Select::TopK(17) };
        for kernel in Kernel::available() {
            let expected = dense(kernel, &x, &w, &spec);
            assert_eq!(expected.ids[..3], expected.ids[1..4].iter().map(|id| id - 100).collect::<Vec<_>>());
            for found in screened(kernel, &x, &w, &spec) {
                assert!(same(&found, &expected));
            }
        }
    }
}
