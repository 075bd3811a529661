//! The frequency score: how often, and how high in the ranking, a feature is active among the tokens of one layer.
//!
//! A token's active features stand in descending order of value, equal ones by ascending id. Rank 1 earns 100 points,
//! rank 2 earns 99, and so on to one point for rank 100; further ranks and absent features earn none. The score of a
//! feature is its points divided by ALL tokens of the layer, those without it included: 0 to 100, low means rare.
//! Ids belong to a layer's own dictionary, so every layer has a score of its own.
//!
//! Points are integers: parts of a run counted apart merge to exactly the whole. What the tokens are is the caller's
//! choice: those of the whole run, of one sentence, of any selection (see [`Scope`]).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

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
    /// What was counted elsewhere, such as in an index: the number of tokens, and every feature seen.
    pub fn from_counts(tokens: u64, features: impl IntoIterator<Item = (u32, FeaturePoints)>) -> Score {
        Score { tokens, features: features.into_iter().collect() }
    }

    /// Counts one token with its active features and their values, in any order. A value that is not finite and
    /// positive is no activation.
    pub fn add(&mut self, ids: &[u32], vals: &[f32]) {
        self.tokens += 1;
        let pairs = ids.iter().copied().zip(vals.iter().copied());
        let mut ranked: Vec<_> = pairs.filter(|(_, value)| value.is_finite() && *value > 0.0).collect();
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

    /// What a feature has earned; nothing for one that was never active.
    pub fn points(&self, id: u32) -> FeaturePoints {
        self.features.get(&id).copied().unwrap_or_default()
    }

    /// The `n` features with the highest score, highest first, equal ones by ascending id.
    pub fn most_common(&self, n: usize) -> Vec<(u32, FeaturePoints)> {
        let mut ranked: Vec<_> = self.features().collect();
        ranked.sort_by_key(|(id, feature)| (std::cmp::Reverse(feature.points), *id));
        ranked.truncate(n);
        ranked
    }
}

/// Which sentences' tokens a score counts. Written `run`, `sentence` (the one that is looked at) or as numbers and
/// ranges of them, `0-9,12`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    #[default]
    Run,
    /// The one that is looked at.
    Sentence,
    /// These, as inclusive ranges.
    Selection(Vec<(usize, usize)>),
}

impl Scope {
    /// Whether the tokens of `sentence` count while `shown` is looked at.
    pub fn holds(&self, sentence: usize, shown: usize) -> bool {
        match self {
            Scope::Run => true,
            Scope::Sentence => sentence == shown,
            Scope::Selection(ranges) => ranges.iter().any(|(first, last)| (*first..=*last).contains(&sentence)),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scope::Selection(ranges) = self else {
            return f.write_str(if *self == Scope::Run { "run" } else { "sentence" });
        };
        for (index, (first, last)) in ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let result = if first == last { write!(f, "{comma}{first}") } else { write!(f, "{comma}{first}-{last}") };
            result?;
        }
        Ok(())
    }
}

/// A word that is no scope.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not run, sentence, or numbers of sentences such as 0-9,12")]
pub struct UnknownScope(String);

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(word: &str) -> Result<Self, UnknownScope> {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last).then_some((first, last))
        };
        match word {
            "run" => Ok(Scope::Run),
            "sentence" => Ok(Scope::Sentence),
            _ => {
                let ranges: Option<Vec<_>> = word.split(',').map(range).collect();
                ranges.map(Scope::Selection).ok_or_else(|| UnknownScope(word.to_owned()))
            }
        }
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

    #[test]
    fn the_example_of_two_tokens() {
        let mut score = Score::default();
        score.add(&[1, 2], &[3.0, 2.0]);
        score.add(&[2], &[5.0]);
        assert_eq!((score.of(1), score.of(2)), (50.0, 99.5));
    }

    #[test]
    fn what_is_not_finite_and_positive_is_no_activation() {
        let mut score = Score::default();
        score.add(&[1, 2, 3, 4, 5], &[f32::NAN, f32::INFINITY, 0.0, -1.0, 0.5]);
        assert_eq!((score.tokens(), score.features().len(), score.of(5)), (1, 1, 100.0));
    }

    #[test]
    fn a_scope_reads_back_what_it_writes() {
        for word in ["run", "sentence", "7", "0-9,12"] {
            assert_eq!(word.parse::<Scope>().unwrap().to_string(), word);
        }
        for bad in ["", "3-1", "a", "1,,2", "-1", "1-2-3"] {
            assert!(bad.parse::<Scope>().is_err(), "{bad}");
        }
        let scope: Scope = "0-2,5".parse().unwrap();
        assert_eq!((0..7).filter(|&s| scope.holds(s, 6)).collect::<Vec<_>>(), [0, 1, 2, 5]);
        assert_eq!((0..7).filter(|&s| Scope::Sentence.holds(s, 6)).collect::<Vec<_>>(), [6]);
    }

    /// The score of every feature, from the definition and by no cleverness at all.
    fn oracle(tokens: &[Vec<(u32, f32)>], id: u32) -> f64 {
        let points = |token: &Vec<(u32, f32)>| {
            let (_, value) = *token.iter().find(|(other, _)| *other == id)?;
            let before = token.iter().filter(|(other, v)| *v > value || (*v == value && *other < id)).count() as u64;
            Some(100u64.saturating_sub(before))
        };
        tokens.iter().filter_map(points).sum::<u64>() as f64 / tokens.len() as f64
    }

    fn valued_tokens() -> impl Strategy<Value = Vec<Vec<(u32, f32)>>> {
        // Few values, so that ties are common.
        let token = prop::collection::btree_map(0u32..300, (1u8..40).prop_map(f32::from), 0..150);
        prop::collection::vec(token.prop_map(|token| token.into_iter().collect()), 1..12)
    }

    fn score_of_valued(tokens: &[Vec<(u32, f32)>]) -> Score {
        let mut score = Score::default();
        for token in tokens {
            let (ids, vals): (Vec<_>, Vec<_>) = token.iter().copied().unzip();
            score.add(&ids, &vals);
        }
        score
    }

    fn tokens() -> impl Strategy<Value = Vec<Vec<u32>>> {
        let ids = prop::collection::hash_set(0u32..300, 0..150).prop_map(|ids| ids.into_iter().collect());
        prop::collection::vec(ids, 1..12)
    }

    proptest! {
        #[test]
        fn the_score_is_what_the_definition_says(tokens in valued_tokens()) {
            let score = score_of_valued(&tokens);
            for id in 0..300 {
                let found = score.of(id);
                prop_assert_eq!(found, oracle(&tokens, id));
                prop_assert!((0.0..=100.0).contains(&found));
            }
        }

        #[test]
        fn the_order_of_tokens_and_of_features_does_not_matter(tokens in valued_tokens(), turn in 0usize..12) {
            let mut turned = tokens.clone();
            let turn = turn % turned.len();
            turned.rotate_left(turn);
            turned.iter_mut().for_each(|token| token.reverse());
            prop_assert_eq!(score_of_valued(&turned), score_of_valued(&tokens));
        }

        #[test]
        fn a_token_without_it_lowers_a_feature(tokens in valued_tokens()) {
            let (before, mut longer) = (score_of_valued(&tokens), tokens.clone());
            longer.push(vec![(999, 1.0)]);
            let after = score_of_valued(&longer);
            for (id, feature) in before.features() {
                prop_assert!(after.of(id) < before.of(id) || feature.points == 0);
            }
        }

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
