//! A run of a tiny model over a few sentences, and what ends it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use llamascope_pipeline::config::{Overrides, RunConfig};
use llamascope_pipeline::fetch::HubOptions;
use llamascope_pipeline::{Observer, Progress, Surroundings};
use llamascope_record::run::Disk;
use llamascope_train::Watch;

use crate::fixture_path;
use crate::place::Place;

/// What the folder of the first run in `outputs` is called.
pub const RUN: &str = "run_20260102_030405";

/// A run over these sentences, to `outputs` in a place.
pub fn config(place: &Place, sentences: &str) -> RunConfig {
    let input: PathBuf = place.write("in.txt", sentences.as_bytes());
    let given = Overrides {
        model_id: Some(fixture_path("tied/model").display().to_string()),
        sae_release: Some(fixture_path("tied/saes_jumprelu").display().to_string()),
        input_csvs: Some(vec![input]),
        output_dir: Some(place.path().join("outputs")),
        threads: Some(1.try_into().expect("not zero")),
        ..Overrides::default()
    };
    RunConfig::resolve(None, given).expect("nothing is missing")
}

/// Where it runs.
pub fn surroundings() -> Surroundings {
    Surroundings {
        hub: HubOptions { offline: true, ..HubOptions::default() },
        memory: 1 << 28,
        kernel: None,
        program: "llamascope 0.0.0".into(),
        stamp: RUN[4..].into(),
        started: "2026-01-02T03:04:05Z".into(),
        peak_memory: || None,
        disk: Disk::default(),
    }
}

/// Stops after some reports of progress.
pub struct StopsAfter(AtomicUsize);

impl StopsAfter {
    /// After so many.
    pub fn new(reports: usize) -> StopsAfter {
        StopsAfter(AtomicUsize::new(reports))
    }

    fn count(&self) {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).ok();
    }
}

impl Observer for StopsAfter {
    fn progress(&self, _: Progress) {
        self.count();
    }

    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

impl Watch for StopsAfter {
    fn training(&self, _: &llamascope_train::Progress) {
        self.count();
    }
}
