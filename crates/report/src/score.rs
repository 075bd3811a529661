//! The frequency score: how often, and how high in the ranking, a feature is active among the tokens of one layer.
//!
//! A token's active features stand in descending order of value, equal ones by ascending id. Rank 1 earns 100 points,
//! rank 2 earns 99, and so on to one point for rank 100; further ranks and absent features earn none. The score of a
//! feature is its points divided by ALL tokens of the layer, those without it included: 0 to 100, low means rare.
//! Ids belong to a layer's own dictionary, so every layer has a score of its own.
//!
//! Points are integers: parts of a run counted apart merge to exactly the whole.

use std::collections::BTreeMap;

/// Lowest rank that earns a point.
const LAST_RANK: u64 = 100;

/// What one feature has earned.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FeaturePoints {
    /// Tokens in which it is active.
    pub tokens: u64,
    /// Sum of its points over the tokens.
    pub points: u64,
    /// Its largest value.
    pub max: f32,
}

/// The scores of one layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Score {
    tokens: u64,
    features: BTreeMap<u32, FeaturePoints>,
}

impl Score {
    /// Counts one token with its active features and their values, in any order.
    pub fn add(&mut self, ids: &[u32], vals: &[f32]) {
        self.tokens += 1;
        let mut ranked: Vec<_> = ids.iter().copied().zip(vals.iter().copied()).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        for ((id, value), rank) in ranked.into_iter().zip(1u64..) {
            let feature = self.features.entry(id).or_default();
            feature.tokens += 1;
            feature.points += (LAST_RANK + 1).saturating_sub(rank);
            feature.max = feature.max.max(value);
        }
    }

    /// Adds what another part of the same layer has counted.
    pub fn merge(&mut self, other: &Score) {
        self.tokens += other.tokens;
        for (&id, theirs) in &other.features {
            let ours = self.features.entry(id).or_default();
            ours.tokens += theirs.tokens;
            ours.points += theirs.points;
            ours.max = ours.max.max(theirs.max);
        }
    }

    /// Tokens counted, those without any feature included.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The features seen, by ascending id.
    pub fn features(&self) -> impl ExactSizeIterator<Item = (u32, FeaturePoints)> + '_ {
        self.features.iter().map(|(&id, &points)| (id, points))
    }

    /// The score of a feature, in `[0, 100]`; 0 for one that was never active.
    pub fn of(&self, id: u32) -> f64 {
        self.features.get(&id).map_or(0.0, |feature| feature.points as f64 / self.tokens as f64)
    }

    /// The `n` features with the highest score, highest first, equal ones by ascending id.
    pub fn most_common(&self, n: usize) -> Vec<(u32, FeaturePoints)> {
        let mut ranked: Vec<_> = self.features().collect();
        ranked.sort_by_key(|(id, feature)| (std::cmp::Reverse(feature.points), *id));
        ranked.truncate(n);
        ranked
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn score_of(tokens: &[Vec<u32>]) -> Score {
        let mut score = Score::default();
        for ids in tokens {
            let vals: Vec<f32> = (0..ids.len()).rev().map(|v| v as f32 + 1.0).collect();
            score.add(ids, &vals);
        }
        score
    }

    #[test]
    fn a_score_is_the_mean_of_the_points_over_all_tokens() {
        let score = score_of(&[vec![104, 982], vec![104], vec![982, 104], vec![]]);
        assert_eq!(score.of(104), (100.0 + 100.0 + 99.0) / 4.0);
        assert_eq!(score.of(982), (99.0 + 100.0) / 4.0);
        assert_eq!(score.of(7), 0.0);
        assert_eq!(score.most_common(1), [(104, FeaturePoints { tokens: 3, points: 299, max: 2.0 })]);
        assert_eq!(Score::default().of(0), 0.0);
    }

    #[test]
    fn the_hundredth_rank_is_the_last_to_earn_a_point() {
        let score = score_of(&[(0..102).collect()]);
        assert_eq!((score.of(0), score.of(99), score.of(100), score.of(101)), (100.0, 1.0, 0.0, 0.0));
        assert_eq!(score.features().len(), 102);
    }

    #[test]
    fn ranks_follow_the_values_and_among_equal_ones_the_ids() {
        let mut score = Score::default();
        score.add(&[9, 4, 2], &[1.0, 3.0, 1.0]);
        assert_eq!((score.of(4), score.of(2), score.of(9)), (100.0, 99.0, 98.0));
    }

    #[test]
    fn equal_scores_stand_by_id() {
        let ids: Vec<_> = score_of(&[vec![9], vec![3], vec![5]]).most_common(2).iter().map(|f| f.0).collect();
        assert_eq!(ids, [3, 5]);
    }

    fn tokens() -> impl Strategy<Value = Vec<Vec<u32>>> {
        let ids = prop::collection::hash_set(0u32..300, 0..150).prop_map(|ids| ids.into_iter().collect());
        prop::collection::vec(ids, 1..12)
    }

    proptest! {
        #[test]
        fn the_points_of_all_features_are_those_of_all_ranks(tokens in tokens()) {
            let points: u64 = score_of(&tokens).features().map(|(_, feature)| feature.points).sum();
            let ranks: u64 = tokens.iter().map(|ids| (1..=ids.len().min(100) as u64).map(|r| 101 - r).sum::<u64>()).sum();
            prop_assert_eq!(points, ranks);
        }

        #[test]
        fn parts_merge_to_the_whole(tokens in tokens(), cut in 0usize..12) {
            let cut = cut.min(tokens.len());
            let mut merged = score_of(&tokens[..cut]);
            merged.merge(&score_of(&tokens[cut..]));
            prop_assert_eq!(merged, score_of(&tokens));
        }
    }
}
