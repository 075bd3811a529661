//! Random numbers that are the same on every machine: SplitMix64 (Steele, Lea & Flood 2014).

/// A stream of random numbers. Streams of different `purpose` or `index` have nothing to do with each other, so that no
/// state needs to be kept: whoever needs numbers again opens the stream again.
pub(crate) struct Random(u64);

impl Random {
    /// The stream of a seed for one purpose.
    pub(crate) fn new(seed: u64, purpose: &str, index: u64) -> Self {
        let mut random = Random(seed);
        for byte in purpose.bytes() {
            random.0 = random.next() ^ u64::from(byte);
        }
        random.0 = random.next() ^ index;
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which must be above 0 (Lemire 2019, arXiv 1805.10941, without the rejection: the bias is
    /// below `n / 2^64`).
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// A number from a bell curve of deviation 1: the sum of twelve uniform ones, which needs no logarithm.
    pub(crate) fn normal(&mut self) -> f32 {
        let uniform = |random: &mut Random| (random.next() >> 11) as f64 / (1u64 << 53) as f64;
        ((0..12).map(|_| uniform(self)).sum::<f64>() - 6.0) as f32
    }

    /// `0..n` in random order (Fisher & Yates).
    pub(crate) fn permutation(&mut self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let some = |seed, purpose, index| {
            let mut random = Random::new(seed, purpose, index);
            [random.next(), random.next()]
        };
        assert_eq!(some(1, "a", 0), some(1, "a", 0));
        let others = [some(2, "a", 0), some(1, "b", 0), some(1, "a", 1), some(1, "aa", 0)];
        assert!(others.iter().all(|other| *other != some(1, "a", 0)));
    }

    #[test]
    fn numbers_are_spread_as_they_should_be() {
        let mut random = Random::new(7, "test", 0);
        let n = 20_000;
        let numbers: Vec<f64> = (0..n).map(|_| f64::from(random.normal())).collect();
        let mean = numbers.iter().sum::<f64>() / n as f64;
        let variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        let mut counts = [0; 7];
        (0..7000).for_each(|_| counts[random.below(7)] += 1);
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
        let mut order = random.permutation(100);
        assert!(!order.is_sorted());
        order.sort_unstable();
        assert!(order.into_iter().eq(0..100));
    }
}
