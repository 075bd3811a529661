//! A run of the library in a folder of its own, and models that differ from the fixtures by a few numbers.

use std::fs;
use std::path::{Path, PathBuf};

use llamascope_compute::Tensor;
use llamascope_pipeline::config::{LayerSelection, Overrides, RunConfig};
use llamascope_pipeline::fetch::HubOptions;
use llamascope_pipeline::{Error, Finished, Observer, Surroundings};
use llamascope_record::run::{Disk, Run};
use llamascope_weights::TensorMap;
use serde_json::json;
use tempfile::TempDir;

/// The model that most tests use.
pub const MODEL: &str = "llama3/model";
/// Its SAEs of the residual stream.
pub const SAES: &str = "llama3/saes";

/// A file or folder of the fixtures.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(path)
}

/// The sentences of a fixture, read without the program's own reader.
pub fn sentences(model: &str) -> Vec<String> {
    let text = fs::read_to_string(fixture(model).join("sentences.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A run that may be changed before it starts, with a folder that goes when it goes.
pub struct Job {
    pub config: RunConfig,
    pub surroundings: Surroundings,
    pub folder: TempDir,
}

impl Job {
    /// A run of all layers of a fixture's SAEs over the fixture's own sentences.
    pub fn new(model: &str, saes: &str) -> Job {
        let folder = tempfile::tempdir().unwrap();
        let given = Overrides {
            model_id: Some(fixture(model).display().to_string()),
            sae_release: Some(fixture(saes).display().to_string()),
            input_csvs: Some(vec![fixture(model).parent().unwrap().join("sentences.csv")]),
            output_dir: Some(folder.path().join("outputs")),
            threads: Some(2.try_into().unwrap()),
            ..Overrides::default()
        };
        Job {
            config: RunConfig::resolve(None, given).unwrap(),
            surroundings: Surroundings {
                hub: HubOptions { offline: true, ..HubOptions::default() },
                memory: 1 << 30,
                kernel: None,
                program: "llamascope test".into(),
                stamp: "20260102_030405".into(),
                started: "2026-01-02T03:04:05Z".into(),
                peak_memory: || Some(1),
                disk: Disk::default(),
            },
            folder,
        }
    }

    /// Runs over these sentences instead.
    pub fn over<S: AsRef<str>>(mut self, sentences: &[S]) -> Job {
        let path = self.folder.path().join("sentences.jsonl");
        let lines: String = sentences.iter().map(|text| format!("{}\n", json!({"text": text.as_ref()}))).collect();
        fs::write(&path, lines).unwrap();
        self.config.input_csvs = vec![path];
        self.config.text_column = Some("text".into());
        self
    }

    /// Runs only these layers.
    pub fn layers(mut self, layers: impl IntoIterator<Item = usize>) -> Job {
        self.config.layers = LayerSelection::Only(layers.into_iter().collect());
        self
    }

    /// Runs another model: the fixture's, changed.
    pub fn remade(mut self, edit: impl FnMut(&str, &mut [f32])) -> Job {
        let folder = self.folder.path().join("model");
        remake(Path::new(&self.config.model_id), &folder, edit);
        self.config.model_id = folder.display().to_string();
        self
    }

    /// Changes a text file of the job's folder.
    pub fn editing(self, file: &str, from: &str, to: &str) -> Job {
        let path = self.folder.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} does not hold {from}");
        fs::write(path, text.replace(from, to)).unwrap();
        self
    }

    pub fn try_run(&self, observer: &dyn Observer) -> Result<Finished, Box<Error>> {
        llamascope_pipeline::run(&self.config, &self.surroundings, observer).map_err(Box::new)
    }

    pub fn run(&self) -> Finished {
        self.try_run(&()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs it and opens what came out, which lasts as long as the job.
    pub fn open(&self) -> Run {
        Run::open(&self.run().path).unwrap()
    }

    /// The message of the error that ends it.
    pub fn fails(&self) -> String {
        self.try_run(&()).expect_err("this run should fail").to_string()
    }
}

/// Copies a model of one safetensors file with its numbers as f32, each tensor changed by `edit`.
pub fn remake(from: &Path, to: &Path, mut edit: impl FnMut(&str, &mut [f32])) {
    fs::create_dir(to).unwrap();
    for name in ["config.json", "tokenizer.json"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    let stored = TensorMap::open_folder(from).unwrap();
    let change = |name: &str| {
        let tensor = stored.get(name).unwrap();
        let mut values = tensor.to_f32();
        edit(name, &mut values);
        (name.to_owned(), Tensor::from_f32(name, tensor.shape().to_vec(), &values))
    };
    let tensors: Vec<_> = stored.names().map(change).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    llamascope_weights::save(&to.join("model.safetensors"), &tensors).unwrap();
}

/// All files under a folder with their bytes, by path from it, in order of path.
pub fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.push((name, fs::read(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// The files of rows among them: all but the manifest and the sentences.
pub fn rows_files(run: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = files(run);
    files.retain(|(name, _)| name.starts_with("layer_"));
    files
}
