//! Columns in which the features of successive tokens stand, so that what goes on stays in its column.

use std::collections::BTreeMap;

/// For each token its features by lane. A feature keeps its lane from token to token and comes back to it after a pause
/// where nobody else has taken it; the others take the first free lanes in their order.
pub fn lanes(tokens: &[Vec<u32>], count: usize) -> Vec<Vec<Option<u32>>> {
    let mut home: BTreeMap<u32, usize> = BTreeMap::new();
    // Who was in a lane last.
    let mut last: Vec<Option<u32>> = vec![None; count];
    let mut rows = Vec::with_capacity(tokens.len());
    for features in tokens {
        let mut row: Vec<Option<u32>> = vec![None; count];
        let (mut returning, mut new) = (Vec::new(), Vec::new());
        for &feature in features.iter().take(count) {
            match home.get(&feature) {
                Some(&lane) if last[lane] == Some(feature) => returning.push((feature, lane)),
                _ => new.push(feature),
            }
        }
        for (feature, lane) in returning {
            row[lane] = Some(feature);
        }
        for feature in new {
            let lane = row.iter().position(Option::is_none).expect("no more features than lanes");
            home.insert(feature, lane);
            row[lane] = Some(feature);
        }
        for (lane, feature) in row.iter().enumerate() {
            last[lane] = feature.or(last[lane]);
        }
        rows.push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_goes_on_stays_in_its_lane() {
        let rows = lanes(&[vec![5, 7], vec![7, 9], vec![9], vec![5, 7]], 3);
        let s = Some;
        assert_eq!(
            rows,
            [vec![s(5), s(7), None], vec![s(9), s(7), None], vec![s(9), None, None], vec![s(5), s(7), None]]
        );
    }

    proptest! {
        #[test]
        fn every_feature_has_one_lane(
            tokens in prop::collection::vec(prop::collection::btree_set(0u32..30, 0..8), 0..30),
            count in 1usize..8,
        ) {
            let tokens: Vec<Vec<u32>> = tokens.into_iter().map(|token| token.into_iter().collect()).collect();
            let rows = lanes(&tokens, count);
            for (index, (row, token)) in rows.iter().zip(&tokens).enumerate() {
                let mut found: Vec<u32> = row.iter().flatten().copied().collect();
                found.sort_unstable();
                let expected: Vec<u32> = token.iter().copied().take(count).collect();
                prop_assert_eq!(&found, &expected);
                if index > 0 {
                    for (lane, feature) in row.iter().enumerate() {
                        let before = rows[index - 1].iter().position(|other| other.is_some() && other == feature);
                        prop_assert!(before.is_none_or(|before| before == lane));
                    }
                }
            }
        }
    }
}
