//! What a manifest says of the rows: counted and hashed as they go by.

use std::collections::BTreeMap;

use super::fingerprint::Fingerprint;
use super::manifest::{LayerSummary, SaeInfo};
use super::rows::OutputRow;

/// Counts the rows of a run, one (layer, sentence) at a time; the sentences of a layer in ascending order.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    layers: BTreeMap<usize, Layer>,
    fingerprint: Fingerprint,
}

/// Counts of one layer.
#[derive(Clone, Debug)]
struct Layer {
    hook: String,
    d_sae: usize,
    rows: u64,
    nnz: u64,
    l0_max: u64,
    /// A bit a feature, up to the largest that was active.
    seen: Vec<u64>,
}

impl Tally {
    /// Nothing yet, of the layers of these dictionaries.
    pub fn new(saes: &[SaeInfo]) -> Tally {
        let layer = |sae: &SaeInfo| Layer {
            hook: sae.hook.clone(),
            d_sae: sae.d_sae,
            rows: 0,
            nnz: 0,
            l0_max: 0,
            seen: Vec::new(),
        };
        Tally { layers: saes.iter().map(|sae| (sae.layer, layer(sae))).collect(), fingerprint: Fingerprint::default() }
    }

    /// Takes in all rows of one sentence at one layer.
    ///
    /// # Panics
    /// For a layer without a dictionary, and sentences that do not come in ascending order.
    pub fn add<'a>(&mut self, layer: usize, sentence: usize, rows: impl Iterator<Item = OutputRow<'a>>) {
        let counts = self.layers.get_mut(&layer).expect("every layer has a dictionary");
        let counted = rows.inspect(|row| {
            counts.rows += 1;
            counts.nnz += row.ids.len() as u64;
            counts.l0_max = counts.l0_max.max(row.ids.len() as u64);
            for &id in row.ids {
                let (word, bit) = (id as usize / 64, id % 64);
                if word >= counts.seen.len() {
                    counts.seen.resize(word + 1, 0);
                }
                counts.seen[word] |= 1 << bit;
            }
        });
        self.fingerprint.add(layer, sentence, counted);
    }

    /// Takes in what another tally has counted of other layers.
    pub fn join(&mut self, other: Tally) {
        self.layers.extend(other.layers);
        self.fingerprint.join(other.fingerprint);
    }

    /// A summary a layer, ascending.
    pub fn summaries(&self) -> Vec<LayerSummary> {
        let summary = |(&layer, counts): (&usize, &Layer)| LayerSummary {
            layer,
            hook: counts.hook.clone(),
            d_sae: counts.d_sae,
            rows: counts.rows,
            nnz: counts.nnz,
            l0_mean: if counts.rows == 0 { 0.0 } else { counts.nnz as f64 / counts.rows as f64 },
            l0_max: counts.l0_max,
            features_seen: counts.seen.iter().map(|word| u64::from(word.count_ones())).sum(),
            fingerprint: self.fingerprint.of_layer(layer).unwrap_or_default(),
        };
        self.layers.iter().map(summary).collect()
    }

    /// The fingerprint of all rows.
    pub fn fingerprint(&self) -> String {
        self.fingerprint.of_run()
    }
}
