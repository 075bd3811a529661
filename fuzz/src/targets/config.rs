//! The config file of a run.

use std::path::Path;

use llamascope_pipeline::config::{ConfigFile, Overrides, RunConfig};

use crate::Target;

/// See the module. YAML counts: an alias of a few bytes may stand for many values, up to the reader's limit.
pub const TARGET: Target = Target { name: "config", run, seeds, base_bytes: 64 << 20, bytes_per_byte: 512 };

fn run(data: &[u8]) {
    let file = match ConfigFile::parse(Path::new("config.yaml"), data) {
        Ok(file) => file,
        Err(error) => return drop(error.to_string()),
    };
    let settings = file.settings.clone();
    let given = Overrides {
        model_id: settings.model_id.or(Some("model".into())),
        sae_release: settings.sae_release.or(Some("saes".into())),
        input_csvs: settings.input_csvs.or(Some(vec!["in.csv".into()])),
        ..Overrides::default()
    };
    let config = RunConfig::resolve(Some(file), given).expect("nothing is missing");
    let _ = config.layers.resolve(32).map_err(|error| error.to_string());
    let json = serde_json::to_vec(&config.to_json()).expect("a value is written");
    let again = ConfigFile::parse(Path::new("config.json"), &json).expect("what is written is read");
    assert_eq!(RunConfig::resolve(Some(again), Overrides::default()).expect("nothing is missing"), config);
}

fn seeds() -> Vec<Vec<u8>> {
    [
        "model_id: \"meta-llama/Llama-3.1-8B\"\nsae_release: \"llama_scope_lxr_8x\"\ndtype: \"bfloat16\"\ndevice: auto\n\
         layers: [0, 1, 2, 6, 10]\ninput_csvs: [\"data/a.csv\", \"data/b.csv\"]\noutput_dir: \"outputs\"\n",
        "layers: all\ntext_column: text\nsae_convention: openmoss\nmemory: 1.5 GiB\nthreads: 4\ntruncate: true\nrevision: main\n",
        "{\"layers\": \"0,5,9-12\", \"memory\": \"512MiB\", \"dtype\": \"float32\"}",
        "model_id: &a x\nsae_release: *a\ninput_csvs:\n  - 'a b.csv'\n  - |\n    c\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
