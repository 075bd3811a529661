//! What is measured of a layer's rows before training begins: how long they are, and where their middle is.

use llamascope_compute::Rows;

/// Of one layer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Measured {
    /// Median length of a row.
    pub median: f32,
    /// Mean length of the rows that are not massive.
    pub mean_norm: f32,
    /// Their mean, times [`Measured::factor`], `[d]`.
    pub mean: Vec<f32>,
}

impl Measured {
    /// From rows of a layer. Those longer than `massive` medians are massive (Sun et al. 2024, arXiv 2402.17762); 0
    /// means that none are.
    pub(crate) fn of(chunks: &[Rows], massive: f64) -> Self {
        let rows = || chunks.iter().flat_map(|chunk| (0..chunk.n()).map(|row| chunk.row(row)));
        let mut norms: Vec<f32> = rows().map(norm).collect();
        norms.sort_unstable_by(f32::total_cmp);
        let median = norms.get(norms.len() / 2).copied().unwrap_or(0.0);
        let d = chunks.first().map_or(0, Rows::d);
        let mut measured = Measured { median, mean_norm: 0.0, mean: vec![0.0; d] };
        let (mut count, mut length, mut sums) = (0usize, 0f64, vec![0f64; d]);
        for row in rows().filter(|row| !measured.is_massive(row, massive)) {
            count += 1;
            length += f64::from(norm(row));
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        measured.mean_norm = (length / count.max(1) as f64) as f32;
        let factor = f64::from(measured.factor());
        measured.mean = sums.iter().map(|sum| (factor * sum / count.max(1) as f64) as f32).collect();
        measured
    }

    /// Whether a row is massive.
    pub(crate) fn is_massive(&self, row: &[f32], massive: f64) -> bool {
        massive > 0.0 && f64::from(norm(row)) > massive * f64::from(self.median)
    }

    /// What rows are multiplied with, so that their mean length is `sqrt(d)`.
    pub(crate) fn factor(&self) -> f32 {
        (self.mean.len() as f32).sqrt() / self.mean_norm
    }
}

fn norm(row: &[f32]) -> f32 {
    row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn massive_rows_count_for_the_median_alone() {
        let rows = Rows::from_vec(4, 2, vec![3.0, 4.0, 0.0, 5.0, 5.0, 0.0, 300.0, 400.0]);
        let measured = Measured::of(std::slice::from_ref(&rows), 10.0);
        assert_eq!((measured.median, measured.mean_norm), (5.0, 5.0));
        assert!(measured.is_massive(rows.row(3), 10.0) && !measured.is_massive(rows.row(3), 0.0));
        assert_eq!(measured.factor(), 2f32.sqrt() / 5.0);
        let mean = [8.0 / 3.0, 3.0].map(|x| x * measured.factor());
        assert!(measured.mean.iter().zip(mean).all(|(a, b)| (a - b).abs() < 1e-6));
        assert_eq!(Measured::of(&[rows], 0.0).mean_norm, 128.75);
    }
}
