//! One hash over all rows of a run (BLAKE3, <https://github.com/BLAKE3-team/BLAKE3-specs>): runs with the same
//! fingerprint have the same features, to the bit.

use std::collections::BTreeMap;

use blake3::{Hash, Hasher};

use super::rows::OutputRow;

/// Hashes rows as they come, one (layer, sentence) at a time. Each layer has a hasher of its own, so that the result
/// does not depend on how the layers' turns are mixed.
#[derive(Clone, Debug, Default)]
pub struct Fingerprint {
    layers: BTreeMap<usize, Layer>,
}

#[derive(Clone, Debug, Default)]
struct Layer {
    hasher: Hasher,
    last_sentence: Option<usize>,
    buffer: Vec<u8>,
}

impl Fingerprint {
    /// Takes in all rows of one sentence at one layer: its number, its rows' count, and of each row the position, the
    /// count of features, their ids and the bits of their values, all little-endian. The text of tokens does not count.
    ///
    /// # Panics
    /// If the sentences of a layer do not come in ascending order.
    pub fn add<'a>(&mut self, layer: usize, sentence: usize, rows: impl IntoIterator<Item = OutputRow<'a>>) {
        let state = self.layers.entry(layer).or_default();
        let last = state.last_sentence.replace(sentence);
        assert!(last < Some(sentence), "layer {layer}: sentence {sentence} comes after {last:?}");
        let buffer = &mut state.buffer;
        buffer.clear();
        let mut count = 0u64;
        for row in rows {
            count += 1;
            buffer.extend((row.position as u64).to_le_bytes());
            buffer.extend((row.ids.len() as u64).to_le_bytes());
            buffer.extend(row.ids.iter().flat_map(|id| id.to_le_bytes()));
            buffer.extend(row.vals.iter().flat_map(|value| value.to_bits().to_le_bytes()));
        }
        state.hasher.update(&(sentence as u64).to_le_bytes()).update(&count.to_le_bytes()).update(buffer);
    }

    /// Takes in what another fingerprint has of other layers.
    pub fn join(&mut self, other: Fingerprint) {
        self.layers.extend(other.layers);
    }

    /// The fingerprint of one layer, in hexadecimal, if it has rows.
    pub fn of_layer(&self, layer: usize) -> Option<String> {
        self.layers.get(&layer).map(|state| state.hasher.finalize().to_hex().to_string())
    }

    /// The fingerprint of the run, in hexadecimal: the hash of the layers' numbers and fingerprints in ascending order.
    pub fn of_run(&self) -> String {
        let mut hasher = Hasher::new();
        for (&layer, state) in &self.layers {
            let hash: Hash = state.hasher.finalize();
            hasher.update(&(layer as u64).to_le_bytes()).update(hash.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(position: usize, ids: &'static [u32], vals: &'static [f32]) -> OutputRow<'static> {
        OutputRow { position, text: "", ids, vals }
    }

    #[test]
    fn the_order_of_layers_does_not_count_but_every_number_does() {
        let (a, b) = (row(1, &[3, 5], &[2.0, 1.0]), row(2, &[3], &[2.0]));
        let of = |feed: &[(usize, usize, &[OutputRow<'static>])]| {
            let mut fingerprint = Fingerprint::default();
            for &(layer, sentence, rows) in feed {
                fingerprint.add(layer, sentence, rows.iter().copied());
            }
            fingerprint.of_run()
        };
        let reference = of(&[(0, 0, &[a]), (0, 1, &[b]), (3, 0, &[b])]);
        assert_eq!(reference.len(), 64);
        assert_eq!(of(&[(3, 0, &[b]), (0, 0, &[a]), (0, 1, &[b])]), reference);
        let others = [
            of(&[(0, 0, &[a]), (0, 1, &[b]), (2, 0, &[b])]),
            of(&[(0, 0, &[a]), (0, 2, &[b]), (3, 0, &[b])]),
            of(&[(0, 0, &[a, b]), (0, 1, &[]), (3, 0, &[b])]),
            of(&[(0, 0, &[a]), (0, 1, &[row(3, &[3], &[2.0])]), (3, 0, &[b])]),
            of(&[(0, 0, &[a]), (0, 1, &[row(2, &[4], &[2.0])]), (3, 0, &[b])]),
            of(&[(0, 0, &[a]), (0, 1, &[row(2, &[3], &[2.0000002])]), (3, 0, &[b])]),
        ];
        for (i, other) in others.iter().enumerate() {
            assert_ne!(*other, reference, "change {i}");
        }
    }

    #[test]
    #[should_panic(expected = "layer 1: sentence 4 comes after Some(4)")]
    fn a_sentence_twice_is_a_mistake() {
        let mut fingerprint = Fingerprint::default();
        fingerprint.add(1, 4, []);
        fingerprint.add(1, 4, []);
    }
}
