//! The far end of the engine: rows are formatted, written and counted on a thread of their own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use llamascope_record::Tokens;
use llamascope_record::run::{Fingerprint, LayerSummary, RunWriter, output_rows};
use llamascope_sae::Sae;

use crate::Error;
use crate::engine::Encoded;

/// What has been written.
pub(crate) struct Sink<'a> {
    writer: &'a RunWriter,
    tokens: &'a [Tokens],
    layers: BTreeMap<usize, Tally>,
    fingerprint: Fingerprint,
    busy: Duration,
}

/// Counts of one layer.
struct Tally {
    hook: String,
    d_sae: usize,
    rows: u64,
    nnz: u64,
    l0_max: u64,
    seen: Vec<bool>,
    candidates: u64,
}

impl<'a> Sink<'a> {
    pub fn new(writer: &'a RunWriter, tokens: &'a [Tokens], saes: &[Sae]) -> Self {
        let tally = |sae: &Sae| Tally {
            hook: sae.tap.to_string(),
            d_sae: sae.d_sae(),
            rows: 0,
            nnz: 0,
            l0_max: 0,
            seen: vec![false; sae.d_sae()],
            candidates: 0,
        };
        Sink {
            writer,
            tokens,
            layers: saes.iter().map(|sae| (sae.tap.layer, tally(sae))).collect(),
            fingerprint: Fingerprint::default(),
            busy: Duration::ZERO,
        }
    }

    /// Writes the files of some sentences.
    pub fn take(&mut self, encoded: Encoded) -> Result<(), Error> {
        let started = Instant::now();
        let tally = self.layers.get_mut(&encoded.layer).expect("every SAE has a tally");
        tally.candidates += encoded.candidates;
        let mut from = 0;
        for sentence in encoded.sentences.clone() {
            let tokens = &self.tokens[sentence];
            let to = from + tokens.output_positions().count();
            let rows = encoded.rows.slice(from..to);
            from = to;
            self.writer.write_rows(encoded.layer, sentence, tokens, &rows)?;
            let output = output_rows(tokens, &rows).expect("write_rows has checked the number of rows");
            self.fingerprint.add(encoded.layer, sentence, output);
            tally.rows += rows.len() as u64;
            tally.nnz += rows.nnz() as u64;
            for (ids, _) in rows.iter() {
                tally.l0_max = tally.l0_max.max(ids.len() as u64);
                ids.iter().for_each(|id| tally.seen[*id as usize] = true);
            }
        }
        self.busy += started.elapsed();
        Ok(())
    }

    /// A summary a layer, the fingerprint of the run, and the time it took.
    pub fn finish(self) -> (Vec<LayerSummary>, String, Duration) {
        let summary = |(layer, tally): (&usize, &Tally)| LayerSummary {
            layer: *layer,
            hook: tally.hook.clone(),
            d_sae: tally.d_sae,
            rows: tally.rows,
            nnz: tally.nnz,
            l0_mean: if tally.rows == 0 { 0.0 } else { tally.nnz as f64 / tally.rows as f64 },
            l0_max: tally.l0_max,
            features_seen: tally.seen.iter().filter(|seen| **seen).count() as u64,
            candidates: tally.candidates,
            fingerprint: self.fingerprint.of_layer(*layer).unwrap_or_default(),
        };
        (self.layers.iter().map(summary).collect(), self.fingerprint.of_run(), self.busy)
    }
}
