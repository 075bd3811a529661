//! The length that stands for the largest value.

/// How many times the middle one of the tokens' largest values may be exceeded before a token is an outlier. The first
/// token of a sentence often is one by orders of magnitude, and would flatten all others.
const OUTLIER: f64 = 3.0;

/// Values to lengths, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// The value that fills the whole length.
    pub full: f64,
    /// Whether some values lie beyond.
    pub cut: bool,
}

impl Scale {
    /// The scale for tokens (or cells) with these largest values: the largest of them that is no outlier.
    pub fn of(peaks: impl IntoIterator<Item = f64>) -> Scale {
        let mut peaks: Vec<f64> = peaks.into_iter().filter(|peak| peak.is_finite() && *peak > 0.0).collect();
        peaks.sort_by(f64::total_cmp);
        let Some(&middle) = peaks.get(peaks.len() / 2) else {
            return Scale { full: 1.0, cut: false };
        };
        let within = peaks.iter().rposition(|peak| *peak <= OUTLIER * middle).unwrap_or(0);
        Scale { full: peaks[within], cut: within + 1 < peaks.len() }
    }

    /// The scale for numbers among which the largest matter: nothing is an outlier.
    pub fn whole(peaks: impl IntoIterator<Item = f64>) -> Scale {
        let full = peaks.into_iter().filter(|peak| peak.is_finite()).fold(0.0, f64::max);
        Scale { full: if full > 0.0 { full } else { 1.0 }, cut: false }
    }

    /// The length of a value, 1 at most.
    pub fn length(&self, value: f64) -> f64 {
        (value / self.full).clamp(0.0, 1.0)
    }

    /// Whether a value is longer than can be shown.
    pub fn exceeds(&self, value: f64) -> bool {
        value > self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlier_does_not_flatten_the_others() {
        assert_eq!(Scale::of([3.0, 4.0, 5.0, 900.0]), Scale { full: 5.0, cut: true });
        assert_eq!(Scale::of([3.0, 4.0, 9.0]), Scale { full: 9.0, cut: false });
        assert_eq!(Scale::of([0.0, f64::NAN]), Scale { full: 1.0, cut: false });
        let scale = Scale::of([2.0, 2.0, 90.0]);
        assert_eq!([scale.length(1.0), scale.length(90.0), scale.length(0.0)], [0.5, 1.0, 0.0]);
        assert!(scale.exceeds(2.1) && !scale.exceeds(2.0));
        assert_eq!(Scale::whole([3.0, f64::NAN, 900.0]), Scale { full: 900.0, cut: false });
        assert_eq!(Scale::whole([0.0]), Scale { full: 1.0, cut: false });
    }
}
