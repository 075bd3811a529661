//! Typed sentences are computed as the run was, or refused with the reason.

use std::fs;
use std::path::{Path, PathBuf};

use llamascope_record::run::Run;
use serde_json::{Value, json};

use crate::contract::a_feature;
use crate::support::{Client, RUN, SENTENCES, copy, fixture, make_run, numbers, outputs};

#[test]
fn a_sentence_of_the_run_gives_its_rows_again() {
    let client = Client::new();
    for (index, text) in SENTENCES.iter().enumerate() {
        let typed = client.encode(&json!({"run": RUN, "text": text, "top_k": 1000})).json();
        let stored = client.ok(&format!("/sentences/{index}/activations?top_k=1000"));
        assert_eq!(typed["activations"]["layers"], stored["layers"], "{text}");
        assert_eq!(typed["activations"]["positions"], stored["positions"]);
        assert_eq!(typed["sentence"]["tokens"], client.ok(&format!("/sentences/{index}"))["tokens"]);
        assert_eq!((&typed["stored"], &typed["sentence"]["index"]), (&json!(null), &json!(null)));
    }
    assert_eq!(fs::read_dir(outputs()).unwrap().count(), 1, "nothing is stored unless asked");
}

#[test]
fn features_that_the_run_has_never_seen_take_the_next_slots() {
    let client = Client::new();
    let text = "Completely different words, 9 of them: zebra quartz violin!";
    let typed = client.encode(&json!({"run": RUN, "text": text, "layers": [0]})).json();
    let layers = typed["activations"]["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1);
    let seen = client.ok("")["layers"][0]["features_seen"].as_u64().unwrap();
    let (slots, counts) = (numbers(&layers[0]["features"]["slots"]), numbers(&layers[0]["features"]["counts"]));
    let new: Vec<u64> = slots.iter().zip(&counts).filter(|(_, count)| **count == 0).map(|(slot, _)| *slot).collect();
    assert!(!new.is_empty());
    assert!(new.iter().copied().eq(seen..seen + new.len() as u64), "{new:?}");
}

#[test]
fn what_cannot_be_encoded_is_refused() {
    let client = Client::new();
    for (body, status, words) in [
        (json!({"run": RUN}), 400, "missing field `text`"),
        (json!({"run": RUN, "text": "x", "txt": 1}), 400, "unknown field `txt`"),
        (json!({"run": RUN, "text": 5}), 400, "the body is not"),
        (json!({"run": RUN, "text": ""}), 400, "no tokens"),
        (json!({"run": RUN, "text": "x".repeat(20_001)}), 413, "at most 20000"),
        (json!({"run": RUN, "text": "x y ".repeat(2000)}), 400, "tokens, at most"),
        (json!({"run": RUN, "text": "x", "layers": [99]}), 404, "no layer 99"),
        (json!({"run": RUN, "text": "x", "layers": []}), 400, "name 1 to 64"),
        (json!({"run": RUN, "text": "x", "layers": [-1]}), 400, "the body is not"),
        (json!({"run": RUN, "text": "x", "top_k": 0}), 400, "from 1 to 1000"),
        (json!({"run": "../secret", "text": "x"}), 404, "there is no run"),
    ] {
        let (found, _, detail) = client.encode(&body).problem();
        assert!(found == status && detail.contains(words), "{found}: {detail}");
    }
}

#[test]
fn a_sentence_is_stored_when_asked() {
    let (folder, _) = crate::support::copy_of_run();
    let client = Client::of(&folder.path().join("outputs"));
    let typed = client.encode(&json!({"run": RUN, "text": "Stored sentences are runs.", "store": true})).json();
    assert_eq!(typed["stored"], "run_20260203_040506");
    let run = Run::open(&folder.path().join("outputs/run_20260203_040506")).unwrap();
    let manifest = run.manifest.clone().unwrap();
    assert!(manifest.complete);
    assert_eq!(manifest.fingerprint.unwrap(), run.fingerprint().unwrap().of_run());
    assert_eq!(run.sentence_records().unwrap()[0].sentence.text, "Stored sentences are runs.");
    assert_eq!(client.get("/api/v1/runs").json()["runs"].as_array().unwrap().len(), 2);
}

#[test]
fn weights_that_have_moved_or_changed_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (model, saes) = (folder.path().join("model"), folder.path().join("saes"));
    copy(&fixture("llama3/model"), &model);
    copy(&fixture("llama3/saes"), &saes);
    make_run(folder.path(), &RUN[4..], &SENTENCES[..2], &model, &saes);
    let client = || Client::of(&folder.path().join("outputs"));
    let asks = |code: &str, words: &[&str]| {
        let client = client();
        client.encode(&json!({"run": RUN, "text": "x"})).is_problem(409, code, words);
        client
    };
    assert_eq!(client().ok("")["weights"]["state"], "available");
    assert_eq!(client().encode(&json!({"run": RUN, "text": "x"})).status, 200);

    // An encoder with other numbers.
    let file = weights_in(&saes);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, with_another_encoder(&whole)).unwrap();
    asks("weights_changed", &["does not hold the SAE", "put the old files back"]);
    fs::write(&file, whole).unwrap();

    // A model that has grown.
    let weights = model.join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, [&bytes[..], b"x"].concat()).unwrap();
    let told = asks("weights_changed", &["bytes, it had", "repeat the run"]);
    assert_eq!(told.ok("")["weights"]["state"], "changed");
    fs::write(&weights, bytes).unwrap();

    fs::rename(&model, folder.path().join("elsewhere")).unwrap();
    let told = asks("weights_missing", &["is not at", "put it back there"]);
    assert_eq!(told.ok("")["weights"]["state"], "missing");
    let (layer, feature) = a_feature(&told);
    told.ask(&format!("/features/{layer}/{feature}/logits")).is_problem(409, "weights_missing", &[]);
    told.ask(&format!("/features/{layer}/{feature}/neighbors?by=decoder")).is_problem(409, "weights_missing", &[]);
    // Everything else goes on.
    assert_eq!(told.ok(&format!("/features/{layer}/{feature}/neighbors"))["by"], "coact");
}

/// The first file with weights below a folder.
fn weights_in(folder: &Path) -> PathBuf {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let is_weights = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "safetensors");
    let here = entries.iter().find(is_weights).cloned();
    here.unwrap_or_else(|| weights_in(entries.iter().find(|path| path.is_dir()).expect("weights somewhere below")))
}

/// The same file with the last bits of a few numbers of the encoder's matrix changed.
fn with_another_encoder(file: &[u8]) -> Vec<u8> {
    let start = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&file[8..start]).unwrap();
    let name =
        header.as_object().unwrap().keys().find(|name| ["encoder.weight", "W_enc"].contains(&name.as_str())).unwrap();
    let offset = start + header[name]["data_offsets"][0].as_u64().unwrap() as usize;
    let mut changed = file.to_vec();
    changed[offset..offset + 64].iter_mut().step_by(2).for_each(|byte| *byte ^= 1);
    changed
}
