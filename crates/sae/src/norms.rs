//! Lengths of a decoder's feature vectors.

use std::ops::Range;
use std::slice;

use llamascope_compute::Tensor;

/// Decoders up to this size are measured whole even where only a report wants the numbers.
const WHOLE_BYTES: usize = 64 << 20;
/// Larger ones are sampled: this many groups, spread evenly over the dictionary,
const GROUPS: usize = 4;
/// of this many neighbours each, so that few pages of the file are touched.
const GROUP_LEN: usize = 64;

/// Lengths of a dictionary's decoder vectors (of all or of a sample).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormStats {
    /// Mean length.
    pub mean: f64,
    /// Shortest.
    pub min: f64,
    /// Longest.
    pub max: f64,
    /// How many features were measured.
    pub sampled: usize,
}

impl NormStats {
    /// How far a length may be from 1 before the readings of Llama Scope's files count as different. Rounding to bfloat16
    /// stays below a fifth of it.
    const TOLERANCE: f64 = 0.01;

    /// Whether all vectors are of length 1, so that scaling by their lengths changes nothing that counts.
    pub fn is_unit(&self) -> bool {
        [self.mean, self.min, self.max].iter().all(|length| (length - 1.0).abs() <= Self::TOLERANCE)
    }

    /// Of at least one length.
    pub(crate) fn of(norms: &[f64]) -> Self {
        NormStats {
            mean: norms.iter().sum::<f64>() / norms.len() as f64,
            min: norms.iter().copied().fold(f64::INFINITY, f64::min),
            max: norms.iter().copied().fold(0.0, f64::max),
            sampled: norms.len(),
        }
    }
}

/// Where the feature axis of a decoder matrix lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Features {
    /// `[d_sae, d_in]`.
    Rows,
    /// `[d_in, d_sae]`.
    Columns,
}

impl Features {
    pub(crate) fn shape(self, d_sae: usize, d_in: usize) -> [usize; 2] {
        match self {
            Features::Rows => [d_sae, d_in],
            Features::Columns => [d_in, d_sae],
        }
    }

    fn count(self, decoder: &Tensor) -> usize {
        match self {
            Features::Rows => decoder.n_rows(),
            Features::Columns => decoder.n_cols(),
        }
    }
}

/// L2 norm of every feature's decoder vector.
pub(crate) fn all(decoder: &Tensor, features: Features) -> Vec<f64> {
    of_ranges(decoder, features, slice::from_ref(&(0..features.count(decoder))))
}

/// L2 norms for a report: of all features of a small decoder, of a sample of a large one.
pub(crate) fn sample(decoder: &Tensor, features: Features) -> Vec<f64> {
    let count = features.count(decoder);
    if decoder.bytes().len() <= WHOLE_BYTES || count <= GROUPS * GROUP_LEN {
        return all(decoder, features);
    }
    let start = |group: usize| (count - GROUP_LEN) * group / (GROUPS - 1);
    let groups: Vec<_> = (0..GROUPS).map(|group| start(group)..start(group) + GROUP_LEN).collect();
    of_ranges(decoder, features, &groups)
}

/// The matrix is read once, in the order it lies in, whichever way the features run; every feature's squares are added
/// in f64 in ascending order of the other axis.
fn of_ranges(decoder: &Tensor, features: Features, ranges: &[Range<usize>]) -> Vec<f64> {
    let width = decoder.dtype().block_bytes();
    let mut squares = Vec::new();
    match features {
        Features::Rows => {
            let mut row = vec![0.0; decoder.n_cols()];
            for feature in ranges.iter().cloned().flatten() {
                decoder.dtype().dequantize(decoder.row(feature), &mut row);
                squares.push(row.iter().map(|&v| f64::from(v) * f64::from(v)).sum());
            }
        }
        Features::Columns => {
            squares = vec![0.0f64; ranges.iter().map(ExactSizeIterator::len).sum()];
            let mut part = vec![0.0; squares.len()];
            for row in 0..decoder.n_rows() {
                let mut rest = &mut part[..];
                for range in ranges {
                    let (head, tail) = rest.split_at_mut(range.len());
                    decoder.dtype().dequantize(&decoder.row(row)[range.start * width..range.end * width], head);
                    rest = tail;
                }
                for (sum, &v) in squares.iter_mut().zip(&part) {
                    *sum += f64::from(v) * f64::from(v);
                }
            }
        }
    }
    squares.iter().map(|sum| sum.sqrt()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_measure_the_same_features() {
        let rows = Tensor::from_f32("w", vec![3, 2], &[3.0, 4.0, 0.0, 0.0, -1.0, 0.0]);
        let columns = Tensor::from_f32("w", vec![2, 3], &[3.0, 0.0, -1.0, 4.0, 0.0, 0.0]);
        assert_eq!(all(&rows, Features::Rows), [5.0, 0.0, 1.0]);
        assert_eq!(all(&columns, Features::Columns), [5.0, 0.0, 1.0]);
        assert_eq!(NormStats::of(&[5.0, 0.0, 1.0]), NormStats { mean: 2.0, min: 0.0, max: 5.0, sampled: 3 });
        assert!(NormStats::of(&[1.0, f64::NAN]).mean.is_nan());
    }

    #[test]
    fn a_large_decoder_is_sampled_from_end_to_end() {
        let (d_in, d_sae) = (40, 500_000);
        let values: Vec<f32> = (0..d_in * d_sae).map(|i| (i % d_sae) as f32).collect();
        let norms = sample(&Tensor::from_f32("w", vec![d_in, d_sae], &values), Features::Columns);
        let length = |feature: usize| feature as f64 * (d_in as f64).sqrt();
        assert_eq!(norms.len(), 256);
        for (index, feature) in [(0, 0), (63, 63), (64, 166_645), (255, 499_999)] {
            assert!((norms[index] - length(feature)).abs() <= 1e-9 * length(feature), "{index}");
        }
    }
}
