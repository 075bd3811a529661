//! The median of more numbers than fit in memory.

use std::collections::BTreeMap;

/// Numbers that are kept as they are, 8 MiB of them.
const EXACT_LIMIT: usize = 1 << 20;
/// Bits of an f64 that a bucket forgets: seven of the fraction remain, 128 buckets from one power of two to the next.
const FORGOTTEN_BITS: u32 = 52 - 7;

/// Collects finite numbers that are not negative. The lower median of up to [`EXACT_LIMIT`] is exact; of more, it is the
/// lower edge of its bucket, too small by less than one part in 128. Parts merge.
#[derive(Clone, Debug)]
pub(super) struct Median {
    limit: usize,
    exact: Vec<f64>,
    /// Counts by the leading bits: floats that are not negative stand in the order of their bits. Empty while exact.
    buckets: BTreeMap<u64, u64>,
}

impl Default for Median {
    fn default() -> Self {
        Median { limit: EXACT_LIMIT, exact: Vec::new(), buckets: BTreeMap::new() }
    }
}

impl Median {
    pub(super) fn push(&mut self, value: f64) {
        self.exact.push(value);
        if self.exact.len() > self.limit || !self.buckets.is_empty() {
            self.spill();
        }
    }

    pub(super) fn merge(&mut self, other: &Median) {
        for &value in &other.exact {
            self.push(value);
        }
        if !other.buckets.is_empty() {
            self.spill();
        }
        for (bucket, count) in &other.buckets {
            *self.buckets.entry(*bucket).or_default() += count;
        }
    }

    fn spill(&mut self) {
        for value in self.exact.drain(..) {
            *self.buckets.entry(value.to_bits() >> FORGOTTEN_BITS).or_default() += 1;
        }
    }

    pub(super) fn is_exact(&self) -> bool {
        self.buckets.is_empty()
    }

    /// The lower median; 0 of nothing.
    pub(super) fn value(&self) -> f64 {
        if self.is_exact() {
            let mut sorted = self.exact.clone();
            sorted.sort_unstable_by(f64::total_cmp);
            return sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0.0);
        }
        let total: u64 = self.buckets.values().sum();
        let mut below = 0;
        let middle = self.buckets.iter().find(|(_, count)| {
            below += *count;
            below > (total - 1) / 2
        });
        middle.map_or(0.0, |(bucket, _)| f64::from_bits(bucket << FORGOTTEN_BITS))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn median(values: &[f64], limit: usize) -> Median {
        let mut median = Median { limit, ..Median::default() };
        values.iter().for_each(|value| median.push(*value));
        median
    }

    #[test]
    fn few_numbers_have_an_exact_lower_median() {
        for (values, expected) in
            [(&[][..], 0.0), (&[0.3], 0.3), (&[0.4, 0.1], 0.1), (&[5.0, 0.0, 1.0], 1.0), (&[4.0, 3.0, 2.0, 1.0], 2.0)]
        {
            let median = median(values, 4);
            assert_eq!((median.value(), median.is_exact()), (expected, true));
        }
    }

    proptest! {
        #[test]
        fn many_numbers_have_a_median_within_its_bucket(
            values in prop::collection::vec(prop_oneof![Just(0.0), 1e-9..1.0f64], 1..60), limit in 0usize..60, cut in 0usize..60,
        ) {
            let exact = median(&values, 60).value();
            let (front, back) = values.split_at(cut.min(values.len()));
            let mut parts = median(front, limit);
            parts.merge(&median(back, limit));
            prop_assert_eq!(parts.is_exact(), values.len() <= limit);
            prop_assert!(parts.value() <= exact && parts.value() * (129.0 / 128.0) >= exact, "{} {exact}", parts.value());
        }
    }
}
