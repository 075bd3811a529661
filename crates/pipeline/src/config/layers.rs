//! Which layers are analysed.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::choice::quoted;
use super::error::{ConfigError, ValueError};

/// Highest layer number that is taken for one: far above any model, far below what a list could not hold.
const MAX_LAYER: usize = 9_999;

/// The layers asked for, before the model is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerSelection {
    /// Every layer of the model.
    All,
    /// These; at least one.
    Only(BTreeSet<usize>),
}

impl LayerSelection {
    /// The layers of a model that has `n_layers`, ascending.
    ///
    /// # Errors
    /// The first layer that the model does not have.
    pub fn resolve(&self, n_layers: usize) -> Result<Vec<usize>, ConfigError> {
        match self {
            LayerSelection::All => Ok((0..n_layers).collect()),
            LayerSelection::Only(layers) => match layers.range(n_layers..).next() {
                Some(&layer) => Err(ConfigError::LayerOutOfRange { layer, n_layers }),
                None => Ok(layers.iter().copied().collect()),
            },
        }
    }
}

/// Reads `all`, or numbers and ranges with commas between: `0,5,9-12`. Order and repetition do not matter.
impl FromStr for LayerSelection {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.trim() == "all" {
            return Ok(LayerSelection::All);
        }
        let mut layers = BTreeSet::new();
        for part in text.split(',') {
            let wrong = |expected| {
                let found = quoted(if part.is_empty() { text } else { part });
                ValueError::Form { found, expected }
            };
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = layer(first.trim()).zip(layer(last.trim())).ok_or_else(|| wrong(A_LAYER))?;
            if first > last {
                return Err(wrong("a range from low to high"));
            }
            layers.extend(first..=last);
        }
        Ok(LayerSelection::Only(layers))
    }
}

/// What a wrong layer is told to be.
pub(super) const A_LAYER: &str = "a layer; write `0,5,9-12` or `all`";

/// Reads one layer number.
pub(super) fn layer(text: &str) -> Option<usize> {
    text.parse().ok().filter(|layer| *layer <= MAX_LAYER && text.bytes().all(|b| b.is_ascii_digit()))
}

impl fmt::Display for LayerSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayerSelection::All => f.write_str("all"),
            LayerSelection::Only(layers) => {
                f.write_str(&layers.iter().map(usize::to_string).collect::<Vec<_>>().join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(layers: &[usize]) -> LayerSelection {
        LayerSelection::Only(layers.iter().copied().collect())
    }

    #[test]
    fn numbers_ranges_and_all_are_read() {
        for (text, expected) in [
            ("all", LayerSelection::All),
            ("7", only(&[7])),
            ("0,5,9-12", only(&[0, 5, 9, 10, 11, 12])),
            ("12, 0 ,5-6,5,0", only(&[0, 5, 6, 12])),
            ("3-3", only(&[3])),
        ] {
            let read: LayerSelection = text.parse().unwrap();
            assert_eq!(read, expected, "{text}");
            assert_eq!(read.to_string().parse(), Ok(read), "{text}");
        }
        assert_eq!(only(&[5, 0]).to_string(), "0,5");
    }

    #[test]
    fn anything_else_is_refused() {
        let says = |text: &str| text.parse::<LayerSelection>().unwrap_err().to_string();
        for (text, found) in [
            ("", ""),
            ("-1", "-1"),
            ("1,,2", "1,,2"),
            ("0,5-", "5-"),
            ("+1", "+1"),
            ("0,x", "x"),
            ("10000", "10000"),
            ("1-2-3", "1-2-3"),
            ("0-99999999999999999999", "0-99999999999999999999"),
        ] {
            assert_eq!(says(text), format!("`{found}` is not a layer; write `0,5,9-12` or `all`"), "{text}");
        }
        assert_eq!(says("12-9"), "`12-9` is not a range from low to high");
    }

    #[test]
    fn a_layer_beyond_the_model_is_named() {
        assert_eq!(LayerSelection::All.resolve(3).unwrap(), [0, 1, 2]);
        assert_eq!(only(&[31, 0]).resolve(32).unwrap(), [0, 31]);
        let error = only(&[0, 32, 40]).resolve(32).unwrap_err();
        assert_eq!(error.to_string(), "layer 32 does not exist: the model has 32 layers, 0 to 31");
    }
}
