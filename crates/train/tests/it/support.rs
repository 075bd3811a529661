//! Trainings in folders of their own, on rows that are made of a few directions each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use llamascope_compute::Tensor;
use llamascope_pipeline::config::LayerSelection;
use llamascope_pipeline::fetch::HubOptions;
use llamascope_pipeline::{Kernel, Observer, Surroundings};
use llamascope_record::run::Disk;
use llamascope_train::settings::{Kind, Layout, Stored};
use llamascope_train::{Error, Finished, Progress, Settings, Watch, train};
use tempfile::TempDir;

/// Width of a row.
pub const D: usize = 16;
/// Directions that the rows are made of.
const DIRECTIONS: usize = 24;
/// Directions in a row, at most.
pub const ACTIVE: usize = 3;

/// A file of the fixtures.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(path)
}

/// Numbers between -1 and 1 that look random.
fn noise(seed: u64, at: usize) -> f32 {
    let mut z = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed.wrapping_mul(0xd6e8_feb8_6659_fd93);
    for _ in 0..2 {
        z = (z ^ (z >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    }
    ((z >> 40) as f32) / (1 << 23) as f32 - 1.0
}

/// Rows of which each is a mean and a sum of few directions with weights between 1 and 3, and very little noise.
pub fn rows(n: usize, seed: u64) -> Vec<f32> {
    let mut directions: Vec<f32> = (0..DIRECTIONS * D).map(|at| noise(seed, at)).collect();
    for direction in directions.chunks_exact_mut(D) {
        let length = direction.iter().map(|x| x * x).sum::<f32>().sqrt();
        direction.iter_mut().for_each(|x| *x /= length);
    }
    let mut rows = vec![0f32; n * D];
    for (row, numbers) in rows.chunks_exact_mut(D).enumerate() {
        numbers.iter_mut().enumerate().for_each(|(i, x)| *x = 0.5 + 0.01 * noise(seed + 1, row * D + i));
        for i in 0..ACTIVE {
            let which = ((noise(seed + 2, row * ACTIVE + i) + 1.0) * 0.5 * DIRECTIONS as f32) as usize;
            let weight = 2.0 + noise(seed + 3, row * ACTIVE + i);
            let direction = &directions[which.min(DIRECTIONS - 1) * D..][..D];
            numbers.iter_mut().zip(direction).for_each(|(x, direction)| *x += weight * direction);
        }
    }
    rows
}

/// A training that may be changed before it starts, with a folder that goes when it goes.
pub struct Job {
    pub settings: Settings,
    pub folder: TempDir,
    /// A kernel other than the best.
    pub kernel: Option<Kernel>,
}

impl Job {
    /// Two layers of rows from a file, a few seconds' work.
    pub fn new() -> Job {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rows.safetensors");
        write_rows(&file, &[(3, rows(40_000, 1)), (8, rows(40_000, 2))]);
        let settings = Settings {
            activations: Some(file),
            layers: LayerSelection::Only([3, 8].into()),
            tokens: 36_000,
            buffer: 2048,
            batch: 256,
            reuse: 2,
            kind: Kind::TopK,
            expansion: 3,
            k: ACTIVE + 1,
            k_start: Some(8),
            learning_rate: 5e-3,
            dead_after: 4000,
            log_every: 10,
            weights: Stored::Float32,
            layouts: vec![Layout::LlamaScope],
            output_dir: folder.path().join("saes"),
            threads: Some(2.try_into().unwrap()),
            ..Settings::default()
        };
        Job { settings, folder, kernel: None }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Settings)) -> Job {
        change(&mut self.settings);
        self
    }

    pub fn train(&self) -> Result<Finished, Error> {
        self.watched(&())
    }

    pub fn watched(&self, watch: &dyn Watch) -> Result<Finished, Error> {
        let surroundings = Surroundings {
            hub: HubOptions { offline: true, ..HubOptions::default() },
            memory: 1 << 30,
            disk: Disk::default(),
            kernel: self.kernel,
            program: "llamascope test".into(),
            stamp: "20260102_030405".into(),
            started: "2026-01-02T03:04:05Z".into(),
            peak_memory: || Some(1),
        };
        train(&self.settings, false, &surroundings, watch)
    }

    /// What a training that cannot succeed says.
    #[track_caller]
    pub fn fails(&self) -> String {
        self.train().expect_err("an error").to_string()
    }

    /// The last checkpoint.
    pub fn checkpoint(&self) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.settings.output_dir.join("checkpoints")).ok()?;
        let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        found.sort();
        found.pop()
    }

    /// The bytes of everything that was trained: SAEs, and the checkpoint that the training ended with but for what is
    /// told of the machine.
    pub fn result(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(&self.settings.output_dir, "", &mut files);
        files.retain(|name, _| name.ends_with(".safetensors") || name.ends_with("hyperparams.json"));
        assert!(files.len() >= 4, "{:?}", files.keys());
        files
    }
}

fn collect(folder: &Path, prefix: &str, into: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}/{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            collect(&path, &name, into);
        } else {
            into.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

/// Writes a file of rows.
pub fn write_rows(path: &Path, layers: &[(usize, Vec<f32>)]) {
    let tensor = |(layer, rows): &(usize, Vec<f32>)| {
        let name = format!("layer.{layer}");
        (name.clone(), Tensor::from_f32(&name, vec![rows.len() / D, D], rows))
    };
    let tensors: Vec<(String, Tensor)> = layers.iter().map(tensor).collect();
    let named: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    llamascope_weights::save(path, &named).unwrap();
}

/// Somebody who loses patience when asked for the `at`th time, and remembers what was said.
pub struct Impatient {
    pub at: usize,
    pub asked: AtomicUsize,
    pub notes: Mutex<Vec<String>>,
}

impl Impatient {
    pub fn new(at: usize) -> Self {
        Impatient { at, asked: AtomicUsize::new(0), notes: Mutex::default() }
    }
}

impl Observer for Impatient {
    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.into());
    }

    fn cancelled(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed) >= self.at
    }
}

impl Watch for Impatient {
    fn training(&self, progress: &Progress) {
        assert!(progress.step <= progress.steps);
    }
}
