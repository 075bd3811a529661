//! Next-token losses and divergences, some rows of logits at a time: all of them would not fit into memory.

use llamascope_compute::{Cpu, Device, Powers, Rows};
use llamascope_model::Llama;
use llamascope_record::Tokens;
use rayon::prelude::*;

use super::splice::Variant;
use crate::Error;
use crate::observer::Observer;

/// Bytes of logits that are held at once, three times over, and the fewest rows of them.
const LOGIT_BYTES: usize = 48 << 20;
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
    /// May stop the work between two blocks of logits.
    pub observer: &'a dyn Observer,
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
        let at_once = (LOGIT_BYTES / (4 * self.llama.vocab())).max(LOGIT_ROWS);
        for (rows, targets) in rows.chunks(at_once).zip(targets.chunks(at_once)) {
            let logits = |x: &Rows| Ok::<Rows, Error>(self.llama.logits(&self.device.gather(x, rows))?);
            let clean = logits(clean)?;
            let predictions: Vec<Prediction<'_>> = self.device.on_host(|| {
                let one = |row: usize| Prediction::new(self.device, clean.row(row));
                (0..rows.len()).into_par_iter().map(one).collect()
            });
            plain.extend(predictions.iter().zip(targets).map(|(prediction, target)| prediction.ce(*target)));
            for (variant, losses) in variants.iter().zip(&mut others) {
                if self.observer.cancelled() {
                    return Err(Error::Interrupted { run: None });
                }
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
    device: &'a Cpu,
    logits: &'a [f32],
    powers: Powers,
}

impl<'a> Prediction<'a> {
    fn new(device: &'a Cpu, logits: &'a [f32]) -> Prediction<'a> {
        Prediction { device, logits, powers: device.powers(logits) }
    }

    fn ce(&self, target: u32) -> f64 {
        self.powers.log_sum_exp - f64::from(self.logits[target as usize])
    }

    /// What another prediction of the same token costs.
    fn against(&self, logits: &[f32], target: u32) -> Loss {
        let lse = self.device.powers(logits).log_sum_exp;
        // KL(p || q) = sum p (log p - log q), with log p = logit - lse.
        let difference = self.device.expected_difference(&self.powers, self.logits, logits);
        let kl = (difference - self.powers.log_sum_exp + lse).max(0.0);
        Loss { ce: lse - f64::from(logits[target as usize]), kl }
    }
}

#[cfg(test)]
mod tests {
    use llamascope_compute::Precision;

    use super::*;

    #[test]
    fn losses_are_logarithms_of_probabilities() {
        let device = Cpu::new(1, Precision::F32).unwrap();
        let plain = Prediction::new(&device, &[0.0, 1.0, -2.0]);
        let sum = 1.0 + 1f64.exp() + (-2f64).exp();
        assert!((plain.ce(1) - (sum.ln() - 1.0)).abs() < 1e-6);
        let same = plain.against(&[0.0, 1.0, -2.0], 1);
        assert_eq!(same.ce, plain.ce(1));
        assert!(same.kl < 1e-7, "{}", same.kl);
        // Against even odds the divergence is what the entropy lacks of its largest.
        let even = plain.against(&[5.0, 5.0, 5.0], 0);
        let entropy: f64 = [0.0, 1.0, -2.0f64].iter().map(|l| (l - sum.ln()).exp() * (sum.ln() - l)).sum();
        assert!((even.ce - 3f64.ln()).abs() < 1e-6 && (even.kl - (3f64.ln() - entropy)).abs() < 1e-6);
    }
}
