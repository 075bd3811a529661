//! What SAELens reads out of the files that the trainer writes: see `fixtures/make_trained.py`.

use std::path::Path;

use llamascope_pipeline::Kernel;
use llamascope_sae::{Convention, Sae, reference};
use llamascope_train::Settings;
use llamascope_weights::TensorMap;

use crate::support::{D, Job, fixture};

/// The files of a folder, by name: text is compared with any end of line.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            let mut bytes = std::fs::read(&path).unwrap();
            if name.ends_with(".json") {
                bytes.retain(|byte| *byte != b'\r');
            }
            found.push((name, bytes));
        }
    }
    found.sort();
    found
}

#[test]
fn saelens_finds_the_same_features_in_both_layouts() {
    let rows = TensorMap::open_file(&fixture("trained/rows.safetensors")).unwrap().get("layer.3").unwrap().to_f32();
    for (name, layouts) in
        [("batch_topk", &["llama_scope", "saelens"][..]), ("relu", &["llama_scope", "saelens"]), ("topk", &["saelens"])]
    {
        let job = Job::new();
        let output_dir = job.settings.output_dir.clone();
        let text = std::fs::read_to_string(fixture(&format!("trained/{name}.yaml"))).unwrap();
        let rows_file = fixture("trained/rows.safetensors");
        let text = format!("{text}activations: '{}'\noutput_dir: '{}'\n", rows_file.display(), output_dir.display());
        let settings = Settings::parse(Path::new("train.yaml"), text.as_bytes()).unwrap();
        // The recorded bytes are those of all kernels but AMX, whose products have an order of their own.
        let kernel = Kernel::available().find(|kernel| *kernel != Kernel::Amx);
        let job = Job { settings, kernel, ..job };
        let finished = job.train().unwrap();
        assert_eq!(finished.exported[0].folders.len(), layouts.len());
        for (layout, written) in layouts.iter().zip(&finished.exported[0].folders) {
            let recorded = fixture(&format!("trained/{name}/{layout}"));
            assert!(files(written) == files(&recorded), "{name}, {layout}: not the bytes that SAELens has read");
            let sae = Sae::open(&recorded, Convention::Saelens).unwrap();
            let expected = fixture(&format!("trained/expected/{name}_{layout}.jsonl"));
            let expected = std::fs::read_to_string(expected).unwrap();
            let mut active = 0;
            for (line, row) in expected.lines().zip(rows.chunks_exact(D)) {
                let expected: serde_json::Value = serde_json::from_str(line).unwrap();
                let numbers = |key: &str| expected[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap());
                let found = reference::encode(&sae, row);
                assert!(numbers("feat_ids").eq(found.iter().map(|(id, _)| f64::from(*id))), "{line}: {found:?}");
                for (expected, (_, value)) in numbers("feat_vals").zip(&found) {
                    assert!((expected - f64::from(*value)).abs() < 1e-4 * expected, "{line}: {found:?}");
                }
                active += found.len();
            }
            assert!(expected.lines().count() == 64 && active > 150, "{name}, {layout}: {active} active features");
        }
    }
}
