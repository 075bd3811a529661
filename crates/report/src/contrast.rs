//! Two sentences side by side: which tokens belong together, and how far their active features agree.

use std::collections::BTreeMap;

use crate::Score;

/// Products of lengths up to which tokens are aligned; longer sentences are paired by place.
const ALIGNED: usize = 4_000_000;

/// The rows of one side at one layer: of each token its text and its active features with their values.
pub type Side<'a> = &'a [(&'a str, Vec<(u32, f32)>)];

/// Rows that belong together; none stands for a token that only the other side has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Row of side A.
    pub a: Option<usize>,
    /// Row of side B.
    pub b: Option<usize>,
}

/// A feature on both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FeatureContrast {
    /// Points, tokens and largest value on side A.
    pub a: (u64, u64, f32),
    /// And on side B.
    pub b: (u64, u64, f32),
    /// Score on side B less that on side A, each over the tokens of its own side.
    pub delta: f64,
}

/// The features of two sides, by id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contrast {
    /// Every feature of either side.
    pub features: BTreeMap<u32, FeatureContrast>,
    /// How many are on both.
    pub both: usize,
    /// How many are on side A alone.
    pub only_a: usize,
    /// How many are on side B alone.
    pub only_b: usize,
}

/// Pairs the tokens of two sentences: a longest common subsequence of their texts (Wagner & Fischer 1974), in order; a
/// token of side A stands before one of side B where neither belongs to the other.
pub fn align(a: &[&str], b: &[&str]) -> Vec<Pair> {
    if a.len().saturating_mul(b.len()) > ALIGNED {
        let place = |at: usize| Pair { a: (at < a.len()).then_some(at), b: (at < b.len()).then_some(at) };
        return (0..a.len().max(b.len())).map(place).collect();
    }
    // common[i][j]: length of the longest common subsequence of a[i..] and b[j..].
    let width = b.len() + 1;
    let mut common = vec![0u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i * width + j] = if a[i] == b[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut pairs) = (0, 0, Vec::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            pairs.push(Pair { a: Some(i), b: Some(j) });
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && common[(i + 1) * width + j] >= common[i * width + j + 1]) {
            pairs.push(Pair { a: Some(i), b: None });
            i += 1;
        } else {
            pairs.push(Pair { a: None, b: Some(j) });
            j += 1;
        }
    }
    pairs
}

/// The Jaccard index of the ids of two rows, and the cosine of the rows. Two empty rows agree in full.
pub fn agreement(a: &[(u32, f32)], b: &[(u32, f32)]) -> (f64, f64) {
    if a.is_empty() && b.is_empty() {
        return (1.0, 1.0);
    }
    let a: BTreeMap<u32, f64> = a.iter().map(|&(id, val)| (id, f64::from(val))).collect();
    let b: BTreeMap<u32, f64> = b.iter().map(|&(id, val)| (id, f64::from(val))).collect();
    let shared: Vec<(f64, f64)> = a.iter().filter_map(|(id, x)| Some((*x, *b.get(id)?))).collect();
    let length = |row: &BTreeMap<u32, f64>| row.values().map(|val| val * val).sum::<f64>().sqrt();
    let lengths = length(&a) * length(&b);
    let dot: f64 = shared.iter().map(|(x, y)| x * y).sum();
    let jaccard = shared.len() as f64 / (a.len() + b.len() - shared.len()) as f64;
    (jaccard, if lengths > 0.0 { (dot / lengths).min(1.0) } else { 0.0 })
}

/// All rows of a side added up, by ascending id.
pub fn sum(side: Side<'_>) -> Vec<(u32, f32)> {
    let mut sums: BTreeMap<u32, f64> = BTreeMap::new();
    for (id, val) in side.iter().flat_map(|(_, row)| row) {
        *sums.entry(*id).or_default() += f64::from(*val);
    }
    sums.into_iter().map(|(id, val)| (id, val as f32)).collect()
}

/// What the features of two sides earn, each over its own tokens. Only for sides of the same dictionary: ids mean
/// nothing elsewhere.
pub fn contrast(a: Side<'_>, b: Side<'_>) -> Contrast {
    let score = |side: Side<'_>| {
        let mut score = Score::default();
        for (_, row) in side {
            let (ids, vals): (Vec<u32>, Vec<f32>) = row.iter().copied().unzip();
            score.add(&ids, &vals);
        }
        score
    };
    let (score_a, score_b) = (score(a), score(b));
    let mut contrast = Contrast::default();
    for (id, earned) in score_a.features() {
        contrast.features.entry(id).or_default().a = (earned.points, earned.tokens, earned.max);
    }
    for (id, earned) in score_b.features() {
        contrast.features.entry(id).or_default().b = (earned.points, earned.tokens, earned.max);
    }
    for (id, feature) in &mut contrast.features {
        feature.delta = score_b.of(*id) - score_a.of(*id);
        match (feature.a.1 > 0, feature.b.1 > 0) {
            (true, true) => contrast.both += 1,
            (true, false) => contrast.only_a += 1,
            (false, _) => contrast.only_b += 1,
        }
    }
    contrast
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(a: &[&str], b: &[&str]) -> Vec<(Option<usize>, Option<usize>)> {
        align(a, b).into_iter().map(|pair| (pair.a, pair.b)).collect()
    }

    #[test]
    fn equal_tokens_are_paired_in_order() {
        let found = pairs(&["The", " cat", " sat"], &["The", " old", " cat"]);
        assert_eq!(found, [(Some(0), Some(0)), (None, Some(1)), (Some(1), Some(2)), (Some(2), None)]);
        assert_eq!(pairs(&["a"], &["b"]), [(Some(0), None), (None, Some(0))]);
        assert!(pairs(&[], &[]).is_empty());
    }

    #[test]
    fn sentences_too_long_to_align_are_paired_by_place() {
        let long = vec!["x"; 3000];
        let found = align(&long, &long[..2000]);
        assert_eq!(found.len(), 3000);
        assert_eq!(found[2000], Pair { a: Some(2000), b: None });
    }

    #[test]
    fn rows_agree_by_ids_and_by_direction() {
        assert_eq!(agreement(&[], &[]), (1.0, 1.0));
        assert_eq!(agreement(&[(1, 2.0)], &[]), (0.0, 0.0));
        assert_eq!(agreement(&[(1, 2.0)], &[(1, 5.0)]), (1.0, 1.0));
        let (jaccard, cosine) = agreement(&[(1, 3.0), (2, 4.0)], &[(2, 1.0), (7, 1.0)]);
        assert_eq!(jaccard, 1.0 / 3.0);
        assert!((cosine - 4.0 / (5.0 * 2f64.sqrt())).abs() < 1e-12, "{cosine}");
    }

    #[test]
    fn scores_are_over_each_side_s_own_tokens() {
        let a = [("x", vec![(1, 2.0), (2, 1.0)]), ("y", vec![(1, 1.0)])];
        let b = [("x", vec![(2, 3.0)])];
        let found = contrast(&a, &b);
        assert_eq!((found.both, found.only_a, found.only_b), (1, 1, 0));
        assert_eq!(found.features[&1], FeatureContrast { a: (200, 2, 2.0), b: (0, 0, 0.0), delta: -100.0 });
        assert_eq!(found.features[&2].delta, 100.0 - 99.0 / 2.0);
        assert_eq!(sum(&a), [(1, 3.0), (2, 1.0)]);
    }

    proptest! {
        #[test]
        fn every_token_stands_once_and_in_order(a in "[ab]{0,12}", b in "[ab]{0,12}") {
            let split = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
            let (a, b) = (split(&a), split(&b));
            let (a, b): (Vec<&str>, Vec<&str>) = (a.iter().map(String::as_str).collect(), b.iter().map(String::as_str).collect());
            let found = align(&a, &b);
            prop_assert!(found.iter().filter_map(|pair| pair.a).eq(0..a.len()));
            prop_assert!(found.iter().filter_map(|pair| pair.b).eq(0..b.len()));
            for pair in found {
                if let (Some(i), Some(j)) = (pair.a, pair.b) {
                    prop_assert_eq!(a[i], b[j]);
                }
            }
        }
    }
}
