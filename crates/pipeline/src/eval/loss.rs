//! Next-token losses and divergences, some rows of logits at a time: all of them would not fit into memory.

use llamascope_compute::{Cpu, Device, Rows};
use llamascope_model::Llama;
use llamascope_record::Tokens;
use rayon::prelude::*;

use super::splice::Variant;
use crate::Error;

/// Rows whose logits are held at once: 64 of 128,256 numbers are 33 MB, three times over.
const LOGIT_ROWS: usize = 64;

/// What a prediction of a variant costs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Loss {
    /// Negative log-likelihood of the next token, in nats.
    pub ce: f64,
    /// Divergence of the prediction from the plain model's, `KL(plain || variant)`, in nats.
    pub kl: f64,
}

/// Computes losses of one chunk.
pub(super) struct Losses<'a, 'b> {
    pub device: &'a Cpu,
    pub llama: &'a Llama<'b, Cpu>,
    /// The contexts of the chunk.
    pub tokens: &'a [&'a Tokens],
}

impl Losses<'_, '_> {
    /// The rows that predict something: all but the last of each context.
    pub(super) fn rows(&self) -> Vec<usize> {
        let mut start = 0;
        let mut rows = Vec::new();
        for tokens in self.tokens {
            rows.extend(start..start + tokens.len().saturating_sub(1));
            start += tokens.len();
        }
        rows
    }

    /// Losses of the plain model and of each variant, by prediction. Rows are those that left the last layer.
    pub(super) fn compute(&self, clean: &Rows, variants: &[Variant]) -> Result<(Vec<f64>, Vec<Vec<Loss>>), Error> {
        let rows = self.rows();
        let next = self.tokens.iter().flat_map(|tokens| tokens.ids.iter().skip(1).copied());
        let targets: Vec<u32> = next.collect();
        let mut plain = Vec::with_capacity(rows.len());
        let mut others = vec![Vec::with_capacity(rows.len()); variants.len()];
        for (rows, targets) in rows.chunks(LOGIT_ROWS).zip(targets.chunks(LOGIT_ROWS)) {
            let logits = |x: &Rows| Ok::<Rows, Error>(self.llama.logits(&self.device.gather(x, rows))?);
            let clean = logits(clean)?;
            let predictions: Vec<Prediction<'_>> = self.device.on_host(|| {
                let one = |row: usize| Prediction::new(clean.row(row));
                (0..rows.len()).into_par_iter().map(one).collect()
            });
            plain.extend(predictions.iter().zip(targets).map(|(prediction, target)| prediction.ce(*target)));
            for (variant, losses) in variants.iter().zip(&mut others) {
                let logits = logits(&variant.rows)?;
                let one = |row: usize| predictions[row].against(logits.row(row), targets[row]);
                let found: Vec<Loss> = self.device.on_host(|| (0..rows.len()).into_par_iter().map(one).collect());
                losses.extend(found);
            }
        }
        Ok((plain, others))
    }
}

/// The plain model's prediction at one row.
struct Prediction<'a> {
    logits: &'a [f32],
    /// Probabilities.
    p: Vec<f32>,
    /// Logarithm of the sum of exponentials.
    lse: f64,
}

impl<'a> Prediction<'a> {
    fn new(logits: &'a [f32]) -> Prediction<'a> {
        let lse = log_sum_exp(logits);
        Prediction { p: logits.iter().map(|logit| (f64::from(*logit) - lse).exp() as f32).collect(), logits, lse }
    }

    fn ce(&self, target: u32) -> f64 {
        self.lse - f64::from(self.logits[target as usize])
    }

    /// What another prediction of the same token costs.
    fn against(&self, logits: &[f32], target: u32) -> Loss {
        let lse = log_sum_exp(logits);
        // KL(p || q) = sum p (log p - log q), with log p = logit - lse.
        let differences = self.p.iter().zip(self.logits.iter().zip(logits));
        let sum: f64 = differences.map(|(p, (a, b))| f64::from(*p) * (f64::from(*a) - f64::from(*b))).sum();
        Loss { ce: lse - f64::from(logits[target as usize]), kl: (sum - self.lse + lse).max(0.0) }
    }
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    most + logits.iter().map(|logit| (f64::from(*logit) - most).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_logarithms_of_probabilities() {
        let plain = Prediction::new(&[0.0, 1.0, -2.0]);
        let sum = 1.0 + 1f64.exp() + (-2f64).exp();
        assert!((plain.ce(1) - (sum.ln() - 1.0)).abs() < 1e-12);
        let same = plain.against(&[0.0, 1.0, -2.0], 1);
        assert_eq!(same.ce, plain.ce(1));
        assert!(same.kl < 1e-7, "{}", same.kl);
        // Against even odds the divergence is what the entropy lacks of its largest.
        let even = plain.against(&[5.0, 5.0, 5.0], 0);
        let entropy: f64 = [0.0, 1.0, -2.0f64].iter().map(|l| (l - sum.ln()).exp() * (sum.ln() - l)).sum();
        assert!((even.ce - 3f64.ln()).abs() < 1e-12 && (even.kl - (3f64.ln() - entropy)).abs() < 1e-6);
    }

    #[test]
    fn large_logits_do_not_overflow() {
        assert_eq!(log_sum_exp(&[3e38, 0.0]), f64::from(3e38f32));
    }
}
