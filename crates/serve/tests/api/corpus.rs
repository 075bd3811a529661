//! What `llamascope explore` found, as the server gives it.

use std::fs;
use std::path::Path;

use llamascope_record::explored::{self, Feature, Header, Window, file_name};
use llamascope_record::run::{MANIFEST, Manifest, read_manifest};
use serde_json::{Value, json};

use crate::support::{Client, RUN, copy_of_run};

fn header(manifest: &Manifest, hash: &str) -> Header {
    let sae = &manifest.saes[0];
    Header {
        format: explored::FORMAT.into(),
        version: explored::VERSION,
        program: "llamascope test".into(),
        layer: sae.layer,
        hook: sae.hook.clone(),
        d_sae: sae.d_sae,
        convention: sae.convention.clone(),
        sae_blake3: hash.into(),
        model: "a model".into(),
        input: vec!["large.txt".into()],
        input_blake3: "11".into(),
        context: 128,
        tokens: 1010,
        rows: 1000,
        massive_norm: 9.0,
    }
}

fn write(folder: &Path, header: &Header) -> std::path::PathBuf {
    let window = Window {
        document: 3,
        offset: 7,
        more: (true, false),
        at: 2,
        tokens: vec![0, 1, 2, 3],
        values: vec![(0, 0.25), (2, 2.5)],
    };
    let feature =
        Feature { id: 5, rows: 12, max: 2.5, types: vec![(1, 9)], promoted: vec![(0, 0.5)], contexts: vec![window] };
    let pieces = ["The", " 東", "", "!"].map(str::to_owned);
    explored::write(folder, header, &pieces, [feature]).unwrap()
}

#[test]
fn a_feature_comes_with_what_was_found_of_it_in_a_corpus() {
    let (_folder, run) = copy_of_run();
    let manifest = read_manifest(&run.join(MANIFEST)).unwrap().unwrap();
    let (layer, hash) = (manifest.saes[0].layer, manifest.saes[0].blake3.clone());
    let client = Client::of(&run);
    let of = |feature: u32| format!("/features/{layer}/{feature}/corpus");
    let nothing = client.ask(&of(5));
    assert_eq!(nothing.json(), json!({"layer": layer, "id": 5, "corpus": null, "detail": null}));

    let path = write(&run, &header(&manifest, &hash));
    let found = client.ask(&of(5));
    assert_ne!(found.header("etag"), nothing.header("etag"), "a file that came changes what is answered");
    let corpus = &found.json()["corpus"];
    assert_eq!((&corpus["count"], &corpus["tokens"], &corpus["density"]), (&json!(12), &json!(1000), &json!(0.012)));
    assert_eq!(corpus["types"], json!([{"text": " 東", "count": 9}]));
    assert_eq!(corpus["promoted"], json!([{"text": "The", "logit": 0.5}]));
    let context = &corpus["contexts"][0];
    assert_eq!((&context["value"], &context["before"], &context["after"]), (&json!(2.5), &json!(true), &json!(false)));
    // The token that shares its character with the one before stands with it.
    let tokens: Vec<(&Value, &Value, &Value)> =
        context["tokens"].as_array().unwrap().iter().map(|t| (&t["text"], &t["value"], &t["target"])).collect();
    assert_eq!(
        tokens,
        [
            (&json!("The"), &json!(0.25), &json!(false)),
            (&json!(" 東"), &json!(2.5), &json!(true)),
            (&json!("!"), &json!(0.0), &json!(false))
        ]
    );
    // A feature that the file does not name was never active in the corpus.
    assert_eq!(client.ok(&of(6))["corpus"]["count"], 0);

    fs::write(&path, b"no gzip").unwrap();
    let broken = client.ok(&of(5));
    assert!(broken["corpus"].is_null());
    assert!(broken["detail"].as_str().unwrap().contains("explored_layer_"), "{broken}");
}

#[test]
fn a_file_of_another_sae_is_never_shown() {
    let (_folder, run) = copy_of_run();
    let manifest = read_manifest(&run.join(MANIFEST)).unwrap().unwrap();
    let (layer, hash) = (manifest.saes[0].layer, manifest.saes[0].blake3.clone());
    let other = write(&run, &header(&manifest, &"ab".repeat(32)));
    let client = Client::of(&run);
    let corpus = |client: &Client| client.ok(&format!("/features/{layer}/5/corpus"));
    assert_eq!((&corpus(&client)["corpus"], &corpus(&client)["detail"]), (&Value::Null, &Value::Null));
    // Not even under the name of the right one.
    fs::rename(other, run.join(file_name(layer, &hash))).unwrap();
    let named = corpus(&client);
    assert!(named["corpus"].is_null() && named["detail"].as_str().unwrap().contains("another SAE"), "{named}");
    assert_eq!(run.file_name().unwrap(), RUN);
}
