//! A run of a tiny model over a few sentences.

use std::path::PathBuf;

use llamascope_pipeline::Surroundings;
use llamascope_pipeline::config::{Overrides, RunConfig};
use llamascope_pipeline::fetch::HubOptions;
use llamascope_record::run::Disk;

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
