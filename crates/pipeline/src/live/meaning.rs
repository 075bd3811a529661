//! What the weights say of a feature: which decoder vectors are near, and which tokens they promote.

use llamascope_compute::{Device, Rows};

use super::{LiveError, Session};

/// What a feature's decoder vector says to the unembedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    /// The tokens with the largest logits: id, text, logit; largest first.
    pub promoted: Vec<(u32, String, f32)>,
    /// Those with the smallest, smallest first.
    pub suppressed: Vec<(u32, String, f32)>,
    /// Mean over the vocabulary.
    pub mean: f64,
    /// Standard deviation over the vocabulary.
    pub std: f64,
}

impl Session {
    /// The `k` features of a layer whose decoder vectors are nearest to that of `feature`, by cosine, nearest first, equal
    /// ones by ascending id.
    ///
    /// # Errors
    /// No decoder, SAEs that have changed.
    ///
    /// # Panics
    /// When there is no such feature.
    pub fn neighbors(&self, layer: usize, feature: u32, k: usize) -> Result<Vec<(u32, f32)>, LiveError> {
        let decoder = self.decoder(layer)?;
        let cosines = decoder.cosines(&decoder.direction(feature as usize));
        let others = (0u32..).zip(cosines).filter(|(id, _)| *id != feature).collect();
        Ok(largest(others, k))
    }

    /// Pairs of features of two layers whose decoder vectors have at least this cosine: of each feature of `a` the best of
    /// `b`, best pair first.
    ///
    /// # Errors
    /// No decoder, SAEs that have changed.
    ///
    /// # Panics
    /// When there is no such feature.
    pub fn matches(
        &self,
        a: (usize, &[u32]),
        b: (usize, &[u32]),
        least: f32,
    ) -> Result<Vec<(u32, u32, f32)>, LiveError> {
        let unit_vectors = |(layer, ids): (usize, &[u32])| {
            let decoder = self.decoder(layer)?;
            let unit = |id: &u32| {
                let vector = decoder.direction(*id as usize);
                let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
                (*id, vector.into_iter().map(|x| f64::from(x) / length).collect())
            };
            Ok::<Vec<(u32, Vec<f64>)>, LiveError>(ids.iter().map(unit).collect())
        };
        let (vectors_a, vectors_b) = (unit_vectors(a)?, unit_vectors(b)?);
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>() as f32;
        let mut found = Vec::new();
        for (id, x) in &vectors_a {
            let cosines = vectors_b.iter().map(|(other, y)| (*other, dot(x, y)));
            let best = cosines.max_by(|m, n| m.1.total_cmp(&n.1).then(n.0.cmp(&m.0)));
            found.extend(best.filter(|(_, cosine)| *cosine >= least).map(|(other, cosine)| (*id, other, cosine)));
        }
        found.sort_by(|m, n| n.2.total_cmp(&m.2).then(m.0.cmp(&n.0)));
        Ok(found)
    }

    /// What the decoder vector of a feature says to the unembedding (the logit lens, nostalgebraist 2020): the vector,
    /// times the gain of the final norm, times the unembedding. The norm's division is left out: it would scale all of
    /// them alike.
    ///
    /// # Errors
    /// No decoder or no unembedding, SAEs that have changed.
    ///
    /// # Panics
    /// When there is no such feature.
    pub fn logits(&self, layer: usize, feature: u32, k: usize) -> Result<Logits, LiveError> {
        let none = |error| {
            LiveError::NoDecoder(format!(
                "the model's final norm or unembedding is not among the files of this run: {error}"
            ))
        };
        let (gain, head) = (self.checkpoint.final_norm().map_err(none)?, self.checkpoint.head().map_err(none)?);
        let mut direction = self.decoder(layer)?.direction(feature as usize);
        direction.iter_mut().zip(&gain).for_each(|(d, gain)| *d *= gain);
        let rows = self.device.upload(Rows::from_vec(1, direction.len(), direction));
        let logits = self.device.download(&self.device.linear(&rows, &self.device.matrix(&head)));
        if self.streaming {
            head.dont_need();
        }
        let logits = logits.row(0);
        let n = logits.len().max(1) as f64;
        let mean = logits.iter().map(|&logit| f64::from(logit)).sum::<f64>() / n;
        let std = (logits.iter().map(|&logit| (f64::from(logit) - mean).powi(2)).sum::<f64>() / n).sqrt();
        let token =
            |(id, logit): (u32, f32)| (id, self.checkpoint.tokenizer.token(id).unwrap_or_default().to_owned(), logit);
        let promoted = largest((0..).zip(logits.iter().copied()).collect(), k);
        let suppressed = largest((0..).zip(logits.iter().map(|logit| -logit)).collect(), k);
        Ok(Logits {
            promoted: promoted.into_iter().map(token).collect(),
            suppressed: suppressed.into_iter().map(|(id, logit)| token((id, -logit))).collect(),
            mean,
            std,
        })
    }
}

/// The `k` largest by value, largest first, equal ones by ascending id.
pub(crate) fn largest(mut numbers: Vec<(u32, f32)>, k: usize) -> Vec<(u32, f32)> {
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if k < numbers.len() {
        numbers.select_nth_unstable_by(k, order);
        numbers.truncate(k);
    }
    numbers.sort_unstable_by(order);
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first_and_equal_ones_by_id() {
        let numbers = vec![(0, 1.0), (1, 3.0), (2, -5.0), (3, 3.0), (4, 2.0)];
        assert_eq!(largest(numbers.clone(), 3), [(1, 3.0), (3, 3.0), (4, 2.0)]);
        assert_eq!(largest(numbers.clone(), 9).len(), 5);
        assert!(largest(numbers, 0).is_empty());
    }
}
