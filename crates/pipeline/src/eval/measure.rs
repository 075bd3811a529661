//! Sums over rows, in f64, and the figures they make. Definitions: `docs/evaluation.md`.

use llamascope_compute::Rows;
use llamascope_report::evaluation::{DENSE, DENSITY_BINS, Figures, density_bin};

use super::loss::Loss;
use super::splice::Kind;

/// The Euclidean length of every row.
pub(crate) fn norms(rows: &Rows) -> Vec<f64> {
    (0..rows.n()).map(|row| square(rows.row(row)).sqrt()).collect()
}

fn square(row: &[f32]) -> f64 {
    row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum()
}

/// How near reconstructions are, and how many features they take.
#[derive(Default)]
pub(super) struct Fidelity {
    rows: u64,
    sum: Vec<f64>,
    squares: f64,
    errors: f64,
    cosines: f64,
    ratios: f64,
    reconstructed_squares: f64,
    dots: f64,
    /// Rows by their number of active features.
    l0: Vec<u64>,
}

impl Fidelity {
    pub(super) fn add(&mut self, row: &[f32], reconstruction: &[f32], l0: usize) {
        self.rows += 1;
        self.sum.resize(row.len(), 0.0);
        let (mut squares, mut errors, mut dot, mut reconstructed) = (0.0, 0.0, 0.0, 0.0);
        for ((x, y), sum) in row.iter().zip(reconstruction).zip(&mut self.sum) {
            let (x, y) = (f64::from(*x), f64::from(*y));
            *sum += x;
            squares += x * x;
            reconstructed += y * y;
            dot += x * y;
            errors += (x - y) * (x - y);
        }
        self.squares += squares;
        self.errors += errors;
        self.dots += dot;
        self.reconstructed_squares += reconstructed;
        let lengths = squares.sqrt() * reconstructed.sqrt();
        self.cosines += if lengths > 0.0 { dot / lengths } else { 0.0 };
        // As SAELens does: a row without a length is not divided by.
        let length = if squares.sqrt() < 1e-4 { 1.0 } else { squares.sqrt() };
        self.ratios += reconstructed.sqrt() / length;
        if self.l0.len() <= l0 {
            self.l0.resize(l0 + 1, 0);
        }
        self.l0[l0] += 1;
    }

    pub(super) fn figures(&self) -> Figures {
        let n = self.rows as f64;
        let variance = self.squares / n - self.sum.iter().map(|sum| (sum / n).powi(2)).sum::<f64>();
        let mse = self.errors / n;
        let counts = self.l0.iter().enumerate();
        Figures {
            rows: self.rows,
            l0_mean: counts.map(|(l0, rows)| l0 as f64 * *rows as f64).sum::<f64>() / n,
            l0_median: self.l0_median(),
            l0_max: self.l0.len().saturating_sub(1) as u64,
            explained_variance: 1.0 - mse / variance,
            mse,
            normalized_mse: self.errors / self.squares,
            cossim: self.cosines / n,
            l2_ratio: self.ratios / n,
            relative_reconstruction_bias: self.reconstructed_squares / self.dots,
            ..Figures::default()
        }
    }

    /// The middle of all rows' numbers, between the two middle ones if there are two.
    fn l0_median(&self) -> f64 {
        let at = |place: u64| {
            let mut seen = 0;
            let reached = self.l0.iter().position(|rows| {
                seen += rows;
                seen > place
            });
            reached.unwrap_or(0) as f64
        };
        if self.rows == 0 { 0.0 } else { (at((self.rows - 1) / 2) + at(self.rows / 2)) / 2.0 }
    }
}

/// How often each feature is active.
pub(super) struct Density {
    rows: u64,
    counts: Vec<u64>,
}

impl Density {
    pub(super) fn new(d_sae: usize) -> Density {
        Density { rows: 0, counts: vec![0; d_sae] }
    }

    pub(super) fn add(&mut self, ids: &[u32]) {
        self.rows += 1;
        ids.iter().for_each(|id| self.counts[*id as usize] += 1);
    }

    pub(super) fn figures(&self, figures: Figures) -> Figures {
        let share = |count: u64| count as f64 / self.counts.len() as f64;
        let density = |count: u64| count as f64 / self.rows as f64;
        let dead = self.counts.iter().filter(|count| **count == 0).count() as u64;
        let dense = self.counts.iter().filter(|count| density(**count) > DENSE).count() as u64;
        let mut histogram = vec![0; DENSITY_BINS];
        for count in self.counts.iter().filter(|count| **count > 0) {
            histogram[density_bin(density(*count))] += 1;
        }
        Figures {
            dead,
            dead_fraction: share(dead),
            dense,
            dense_fraction: share(dense),
            density_histogram: histogram,
            ..figures
        }
    }
}

/// Sums of losses over the predictions from a set of rows.
#[derive(Default)]
pub(super) struct Losing {
    predictions: u64,
    clean: f64,
    sae: Loss,
    mean: Loss,
    zero: Loss,
}

impl Losing {
    pub(super) fn clean(&mut self, losses: impl Iterator<Item = f64>) {
        for loss in losses {
            self.predictions += 1;
            self.clean += loss;
        }
    }

    pub(super) fn replaced(&mut self, kind: Kind, losses: impl Iterator<Item = Loss>) {
        let sum = match kind {
            Kind::Sae(_) => &mut self.sae,
            Kind::Mean => &mut self.mean,
            Kind::Zero => &mut self.zero,
        };
        for loss in losses {
            sum.ce += loss.ce;
            sum.kl += loss.kl;
        }
    }

    pub(super) fn figures(&self, figures: Figures) -> Figures {
        let n = self.predictions as f64;
        let (clean, sae, mean, zero) = (self.clean / n, self.sae.ce / n, self.mean.ce / n, self.zero.ce / n);
        Figures {
            predictions: self.predictions,
            ce_loss_without_sae: clean,
            ce_loss_with_sae: sae,
            ce_loss_with_ablation: zero,
            ce_loss_with_mean_ablation: mean,
            delta_loss: sae - clean,
            loss_recovered: (zero - sae) / (zero - clean),
            loss_recovered_mean: (mean - sae) / (mean - clean),
            kl_div_with_sae: self.sae.kl / n,
            kl_div_with_ablation: self.zero.kl / n,
            kl_div_score: (self.zero.kl - self.sae.kl) / self.zero.kl,
            ..figures
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_reconstruction_explains_everything_and_the_mean_nothing() {
        let rows = [[1.0, 2.0], [3.0, -2.0], [-1.0, 0.0]];
        let (mut perfect, mut mean) = (Fidelity::default(), Fidelity::default());
        for (index, row) in rows.iter().enumerate() {
            perfect.add(row, row, index);
            mean.add(row, &[1.0, 0.0], 4);
        }
        let (perfect, mean) = (perfect.figures(), mean.figures());
        assert_eq!((perfect.explained_variance, perfect.mse, perfect.normalized_mse), (1.0, 0.0, 0.0));
        assert!((perfect.cossim - 1.0).abs() < 1e-12 && (perfect.l2_ratio - 1.0).abs() < 1e-12);
        assert_eq!((perfect.l0_mean, perfect.l0_median, perfect.l0_max), (1.0, 1.0, 2));
        assert!(mean.explained_variance.abs() < 1e-12);
        // Squares of the differences: 4, 8, 4.
        assert!((mean.mse - 16.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn a_median_of_an_even_number_lies_between_the_middle_two() {
        let mut fidelity = Fidelity::default();
        [3, 9, 4, 1].into_iter().for_each(|l0| fidelity.add(&[1.0], &[1.0], l0));
        assert_eq!(fidelity.figures().l0_median, 3.5);
    }

    #[test]
    fn dead_and_dense_features_are_counted() {
        let mut density = Density::new(4);
        (0..10).for_each(|row| density.add(if row < 2 { &[0, 2] } else { &[2] }));
        let figures = density.figures(Figures::default());
        assert_eq!((figures.dead, figures.dense), (2, 2));
        assert_eq!(figures.density_histogram.iter().sum::<u64>(), 2);
    }
}
