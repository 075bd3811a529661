//! Counting where tokens agree, one sentence after the other.

use std::collections::BTreeMap;

use llamascope_record::run::TokenRow;

use super::median::Median;
use super::{Agreement, Comparison, Difference, LayerComparison, Side, WorstToken};

/// How many worst tokens a comparison lists.
const WORST_TOKENS: usize = 10;
/// How many features only in one run a worst token lists, strongest first.
const WORST_FEATURES: usize = 5;
/// How many structural differences are listed; all are counted.
const LISTED_DIFFERENCES: usize = 20;

/// What the tokens of a layer add up to.
#[derive(Clone, Debug, Default)]
struct Tally {
    tokens: u64,
    active_a: u64,
    active_b: u64,
    active_both: u64,
    jaccard_sum: f64,
    identical: u64,
    same_order: u64,
    rel: Median,
    rel_max: f64,
    abs_max: f64,
}

/// Compares runs sentence by sentence, in bounded memory.
#[derive(Debug, Default)]
pub struct Comparer {
    layers: BTreeMap<usize, Tally>,
    worst: Vec<WorstToken>,
    differences: Vec<Difference>,
    difference_count: u64,
}

impl Comparer {
    /// Compares the rows of one sentence at one layer. Rows are paired in order, as long as they are of the same token.
    pub fn sentence(&mut self, layer: usize, sentence: usize, a: &[TokenRow], b: &[TokenRow]) {
        if a.len() != b.len() {
            self.differs(Difference::Rows { layer, sentence, a: a.len(), b: b.len() });
        }
        self.layers.entry(layer).or_default();
        for ((a, b), line) in a.iter().zip(b).zip(1..) {
            let token = |row: &TokenRow| (row.token_pos, row.token_str.clone());
            if (a.token_pos, &a.token_str) != (b.token_pos, &b.token_str) {
                self.differs(Difference::Token { layer, sentence, line, a: token(a), b: token(b) });
                break;
            }
            self.token(layer, sentence, a, b);
        }
    }

    /// Notes something that cannot be compared.
    pub fn differs(&mut self, difference: Difference) {
        self.difference_count += 1;
        if self.differences.len() < LISTED_DIFFERENCES {
            self.differences.push(difference);
        }
    }

    fn token(&mut self, layer: usize, sentence: usize, a: &TokenRow, b: &TokenRow) {
        let mut entries: Vec<(u32, Side, f64)> = Vec::with_capacity(a.feat_ids.len() + b.feat_ids.len());
        for (side, row) in [(Side::A, a), (Side::B, b)] {
            entries.extend(row.feat_ids.iter().zip(&row.feat_vals).map(|(id, value)| (*id, side, f64::from(*value))));
        }
        entries.sort_unstable_by_key(|(id, side, _)| (*id, *side));

        let tally = self.layers.entry(layer).or_default();
        let (mut both, mut either, mut rel_max) = (0, 0, 0.0f64);
        for feature in entries.chunk_by(|x, y| x.0 == y.0) {
            either += 1;
            if let [(_, Side::A, a), (_, Side::B, b)] = feature {
                both += 1;
                let difference = (a - b).abs();
                let rel = if difference == 0.0 { 0.0 } else { difference / a.max(*b) };
                rel_max = rel_max.max(rel);
                tally.rel.push(rel);
                tally.abs_max = tally.abs_max.max(difference);
            }
        }
        let jaccard = ratio(both, either);
        tally.tokens += 1;
        tally.active_a += a.feat_ids.len() as u64;
        tally.active_b += b.feat_ids.len() as u64;
        tally.active_both += both;
        tally.jaccard_sum += jaccard;
        tally.identical += u64::from(both == either);
        tally.same_order += u64::from(a.feat_ids == b.feat_ids);
        tally.rel_max = tally.rel_max.max(rel_max);

        let agrees_less = |than: &WorstToken| (jaccard, -rel_max) < (than.jaccard, -than.rel_max);
        let place = self.worst.iter().position(agrees_less).unwrap_or(self.worst.len());
        if (both < either || rel_max > 0.0) && place < WORST_TOKENS {
            let only = |side: Side, row: &TokenRow| {
                let alone = |id: &&u32| {
                    let shared = entries.partition_point(|entry| entry.0 < **id);
                    entries[shared].1 == side && entries.get(shared + 1).is_none_or(|next| next.0 != **id)
                };
                let ids: Vec<u32> = row.feat_ids.iter().filter(alone).copied().collect();
                (ids.len(), ids.into_iter().take(WORST_FEATURES).collect())
            };
            let ((only_a_count, only_a), (only_b_count, only_b)) = (only(Side::A, a), only(Side::B, b));
            let (token_pos, token_str) = (a.token_pos, a.token_str.clone());
            let worst = WorstToken {
                layer,
                sentence,
                token_pos,
                token_str,
                jaccard,
                rel_max,
                only_a_count,
                only_a,
                only_b_count,
                only_b,
            };
            self.worst.insert(place, worst);
            self.worst.truncate(WORST_TOKENS);
        }
    }

    /// The result.
    pub fn finish(self) -> Comparison {
        let mut overall = Tally::default();
        let layers = self.layers.iter().map(|(&layer, tally)| {
            overall.merge(tally);
            LayerComparison { layer, agreement: tally.agreement() }
        });
        Comparison {
            layers: layers.collect(),
            overall: overall.agreement(),
            worst: self.worst,
            differences: self.differences,
            difference_count: self.difference_count,
        }
    }
}

impl Tally {
    fn merge(&mut self, other: &Tally) {
        self.tokens += other.tokens;
        self.active_a += other.active_a;
        self.active_b += other.active_b;
        self.active_both += other.active_both;
        self.jaccard_sum += other.jaccard_sum;
        self.identical += other.identical;
        self.same_order += other.same_order;
        self.rel.merge(&other.rel);
        self.rel_max = self.rel_max.max(other.rel_max);
        self.abs_max = self.abs_max.max(other.abs_max);
    }

    fn agreement(&self) -> Agreement {
        let a_token = |sum: f64| if self.tokens == 0 { 0.0 } else { sum / self.tokens as f64 };
        Agreement {
            tokens: self.tokens,
            l0_mean_a: a_token(self.active_a as f64),
            l0_mean_b: a_token(self.active_b as f64),
            jaccard: ratio(self.active_both, self.active_a + self.active_b - self.active_both),
            jaccard_mean: if self.tokens == 0 { 1.0 } else { a_token(self.jaccard_sum) },
            identical: ratio(self.identical, self.tokens),
            same_order: ratio(self.same_order, self.tokens),
            rel_max: self.rel_max,
            rel_median: self.rel.value(),
            rel_median_exact: self.rel.is_exact(),
            abs_max: self.abs_max,
        }
    }
}

/// `part / whole`; nothing of nothing is all of it.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}
