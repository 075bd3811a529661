//! From the frequency score to how rare a feature looks: 0 is everywhere, 1 as rare as can be told.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::colour::exact::ln;
use crate::score::Score;

/// How a score becomes a rarity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RarityScale {
    /// Evenly in the logarithm of the score, from [`floor`] to 100. In a long run almost every score is below 1.
    #[default]
    Log,
    /// `1 - score / 100`.
    Linear,
    /// The share of the features seen that have a higher score, half of the equal ones counted: always uses the whole
    /// range, and says nothing of how far apart two scores are.
    Percentile,
}

/// A word that is no scale.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not one of log, linear, percentile")]
pub struct UnknownScale(String);

impl FromStr for RarityScale {
    type Err = UnknownScale;

    fn from_str(word: &str) -> Result<Self, UnknownScale> {
        match word {
            "log" => Ok(RarityScale::Log),
            "linear" => Ok(RarityScale::Linear),
            "percentile" => Ok(RarityScale::Percentile),
            _ => Err(UnknownScale(word.to_owned())),
        }
    }
}

/// The lowest score that the logarithmic scale tells apart: that of a middling feature of one token in all `tokens`, and
/// never below a hundredth.
pub fn floor(tokens: u64) -> f64 {
    (50.0 / tokens as f64).max(0.01)
}

/// The rarity of a score on the logarithmic scale, among `tokens` tokens (at least one).
pub fn log(score: f64, tokens: u64) -> f64 {
    let floor = floor(tokens);
    1.0 - (ln(score.max(floor) / floor) / ln(100.0 / floor)).clamp(0.0, 1.0)
}

/// The rarity of every feature of a layer.
#[derive(Clone, Debug)]
pub struct Rarities {
    scale: RarityScale,
    tokens: u64,
    /// For the percentiles: points, and the rarity of the features that have as many.
    percentiles: BTreeMap<u64, f64>,
}

impl Rarities {
    /// Rarities on this scale among the features and tokens that `score` has counted.
    pub fn new(scale: RarityScale, score: &Score) -> Rarities {
        let mut percentiles = BTreeMap::new();
        if scale == RarityScale::Percentile {
            let mut equal: BTreeMap<u64, u64> = BTreeMap::new();
            score.features().for_each(|(_, feature)| *equal.entry(feature.points).or_default() += 1);
            let (all, mut below) = (score.features().len() as f64, 0);
            for (points, count) in equal {
                percentiles.insert(points, 1.0 - (below as f64 + 0.5 * count as f64) / all);
                below += count;
            }
        }
        Rarities { scale, tokens: score.tokens(), percentiles }
    }

    /// The rarity of a feature that has earned this many points; 1 where nothing was counted.
    pub fn of(&self, points: u64) -> f64 {
        if self.tokens == 0 {
            return 1.0;
        }
        let score = points as f64 / self.tokens as f64;
        match self.scale {
            RarityScale::Log => log(score, self.tokens),
            RarityScale::Linear => 1.0 - score / 100.0,
            // Points that nobody has stand just below the next higher ones.
            RarityScale::Percentile => self.percentiles.range(..=points).next_back().map_or(1.0, |(_, rarity)| *rarity),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_uses_the_range() {
        // Fifteen tokens: once near the top, in a third of them, in all of them.
        let at = |score| (log(score, 15) * 100.0).round() / 100.0;
        assert_eq!([at(4.7), at(25.0), at(90.0), at(0.0), at(100.0)], [0.9, 0.41, 0.03, 1.0, 0.0]);
        // Two million tokens.
        let at = |score| (log(score, 2_000_000) * 100.0).round() / 100.0;
        assert_eq!([at(0.0075), at(0.075), at(0.75), at(7.5), at(37.5)], [1.0, 0.78, 0.53, 0.28, 0.11]);
    }

    #[test]
    fn every_scale_falls_with_the_score_and_stays_in_range() {
        let mut score = Score::default();
        for token in 0..40u32 {
            let ids: Vec<u32> = (0..=token).collect();
            let vals: Vec<f32> = ids.iter().map(|&id| 100.0 - id as f32).collect();
            score.add(&ids, &vals);
        }
        for scale in [RarityScale::Log, RarityScale::Linear, RarityScale::Percentile] {
            let rarities = Rarities::new(scale, &score);
            let all: Vec<f64> = score.features().map(|(_, feature)| rarities.of(feature.points)).collect();
            assert!(all.iter().all(|rarity| (0.0..=1.0).contains(rarity)), "{scale:?}");
            assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{scale:?} {all:?}");
        }
        assert_eq!(Rarities::new(RarityScale::Log, &Score::default()).of(7), 1.0);
    }

    #[test]
    fn percentiles_are_middle_ranks() {
        let mut score = Score::default();
        score.add(&[1, 2], &[2.0, 1.0]);
        score.add(&[3, 2], &[2.0, 1.0]);
        // Points: 100 for features 1 and 3, 198 for feature 2.
        let rarities = Rarities::new(RarityScale::Percentile, &score);
        assert_eq!([rarities.of(100), rarities.of(198)], [1.0 - 1.0 / 3.0, 1.0 - 2.5 / 3.0]);
        assert_eq!([rarities.of(0), rarities.of(150)], [1.0, 1.0 - 1.0 / 3.0]);
        assert!("logarithm".parse::<RarityScale>().is_err());
    }
}
