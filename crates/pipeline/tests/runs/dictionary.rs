//! Dictionaries made from a model's own activations, and a run with them.

use std::fs;

use llamascope_pipeline::Error;
use llamascope_pipeline::dictionary::{DictionarySpec, make};
use llamascope_pipeline::fetch::HubOptions;

use crate::support::{Job, MODEL, SAES, fixture, sentences};

fn spec(expansion: usize) -> DictionarySpec {
    DictionarySpec {
        layers: "0,2".parse().unwrap(),
        expansion,
        l0: 12,
        max_tokens: 2000,
        threads: Some(2.try_into().unwrap()),
    }
}

#[test]
fn a_dictionary_has_the_density_that_was_asked_for_and_the_same_bytes_every_time() {
    let mut job = Job::new(MODEL, SAES);
    let texts = sentences("llama3");
    let model = fixture(MODEL).display().to_string();
    let made = |folder: &str| {
        let root = job.folder.path().join(folder);
        make(&model, &texts, &spec(4), &root, &HubOptions::default(), &()).unwrap()
    };
    let (first, second) = (made("first"), made("second"));
    assert_eq!(first.len(), 2);
    for (a, b) in first.iter().zip(&second) {
        let weights = "checkpoints/final.safetensors";
        assert_eq!(fs::read(a.join(weights)).unwrap(), fs::read(b.join(weights)).unwrap());
        assert_eq!(fs::read(a.join("hyperparams.json")).unwrap(), fs::read(b.join("hyperparams.json")).unwrap());
    }
    job.config.sae_release = first[0].parent().unwrap().display().to_string();
    let run = job.run();
    let layers: Vec<usize> = run.manifest.layers.iter().map(|layer| layer.layer).collect();
    assert_eq!(layers, [0, 2]);
    for layer in &run.manifest.layers {
        // The threshold is taken from a sample of the very text that is run here.
        assert!((layer.l0_mean - 12.0).abs() < 4.0, "layer {}: {}", layer.layer, layer.l0_mean);
        assert!(layer.features_seen > layer.d_sae as u64 / 2, "{} of {}", layer.features_seen, layer.d_sae);
    }
}

#[test]
fn too_little_text_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let model = fixture(MODEL).display().to_string();
    let texts = ["one short text".to_owned()];
    let error = make(&model, &texts, &spec(8), root.path(), &HubOptions::default(), &()).unwrap_err();
    assert!(matches!(error, Error::Mismatch(_)));
    assert!(error.to_string().contains("give more text or a smaller --expansion"), "{error}");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}
