//! Checkpoints: `checkpoints/step_NNNNNNNN/` in the output folder, each whole or not at all. `state.json` holds the
//! settings, the place in the data and everything that is counted; `layer_NN.safetensors` the weights with Adam's
//! moments and what was measured of the layer; `buffer.safetensors` the rows in hand. The one before the last is removed
//! when the last is written.

use std::path::{Path, PathBuf};

use llamascope_compute::Tensor;
use llamascope_weights::TensorMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;
use crate::buffer::Buffer;
use crate::dictionary::Dictionary;
use crate::measure::Measured;
use crate::parameters::{Arrays, NAMES, Parameters};
use crate::settings::{KEYS, Settings};
use crate::source::Place;

const FOLDER: &str = "checkpoints";
const STATE: &str = "state.json";
const BUFFER: &str = "buffer.safetensors";
/// Version of the files.
const VERSION: u32 = 1;

/// A training between two steps.
pub(crate) struct State {
    pub counts: Counts,
    pub dictionaries: Vec<Dictionary>,
    pub buffer: Buffer,
}

/// What is counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Counts {
    /// Steps so far.
    pub step: u64,
    /// Rounds of the buffer that are over.
    pub round: u64,
    /// Where the data goes on.
    pub place: Place,
    /// Tokens read so far, those left out too.
    pub tokens: u64,
    /// Of them, tokens left out because a layer's row was massive.
    pub left_out: u64,
    /// By layer, how many of its rows were massive.
    pub massive: Vec<u64>,
}

/// `state.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    settings: Value,
    data_blake3: String,
    layers: Vec<usize>,
    counts: Counts,
    uses: Vec<u8>,
    unseen: Vec<Vec<u64>>,
}

/// The checkpoints of an output folder.
pub(crate) struct Store {
    root: PathBuf,
}

impl Store {
    pub(crate) fn new(output: &Path) -> Self {
        Store { root: output.join(FOLDER) }
    }

    /// The newest checkpoint.
    pub(crate) fn latest(&self) -> Option<PathBuf> {
        self.all().pop()
    }

    /// All whole checkpoints, the oldest first.
    fn all(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().flatten().map(|entry| entry.path());
        let whole = |path: &PathBuf| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            name.strip_prefix("step_").is_some_and(|step| step.bytes().all(|b| b.is_ascii_digit()))
        };
        let mut found: Vec<PathBuf> = entries.filter(whole).collect();
        found.sort();
        found
    }

    /// Removes all checkpoints.
    pub(crate) fn clear(&self) -> Result<(), Error> {
        match std::fs::remove_dir_all(&self.root) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::Io { path: self.root.clone(), source })
            }
            _ => Ok(()),
        }
    }

    /// Writes a checkpoint and removes those before it.
    pub(crate) fn save(&self, settings: &Settings, data_blake3: &str, state: &State) -> Result<PathBuf, Error> {
        let path = self.root.join(format!("step_{:08}", state.counts.step));
        let temporary = self.root.join("unfinished");
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::Io { path, source }
        };
        let _ = std::fs::remove_dir_all(&temporary);
        let written = std::fs::create_dir_all(&temporary).map_err(io(&temporary)).and_then(|()| {
            for dictionary in &state.dictionaries {
                save_layer(&temporary.join(layer_file(dictionary.layer)), dictionary)?;
            }
            let layers: Vec<usize> = state.dictionaries.iter().map(|dictionary| dictionary.layer).collect();
            save_buffer(&temporary.join(BUFFER), &layers, &state.buffer)?;
            let file = File {
                version: VERSION,
                settings: settings.to_json(),
                data_blake3: data_blake3.to_owned(),
                layers,
                counts: state.counts.clone(),
                uses: state.buffer.uses.clone(),
                unseen: state.dictionaries.iter().map(|dictionary| dictionary.unseen.clone()).collect(),
            };
            let text = serde_json::to_vec(&file).expect("numbers and text");
            std::fs::write(temporary.join(STATE), text).map_err(io(&temporary.join(STATE)))
        });
        if let Err(error) = written {
            let _ = std::fs::remove_dir_all(&temporary);
            return Err(error);
        }
        // The same step again, after nothing was done: what is there is as good.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::rename(&temporary, &path).map_err(io(&path))?;
        for old in self.all().into_iter().filter(|old| *old != path) {
            let _ = std::fs::remove_dir_all(old);
        }
        Ok(path)
    }

    /// Reads a checkpoint that was made with these settings and data.
    pub(crate) fn load(&self, path: &Path, settings: &Settings, data_blake3: &str) -> Result<State, Error> {
        let wrong = |what: String| Error::Checkpoint { path: path.into(), what };
        let file = path.join(STATE);
        let text = std::fs::read(&file).map_err(|source| Error::Io { path: file.clone(), source })?;
        let file: File = serde_json::from_slice(&text).map_err(|error| wrong(format!("{STATE}: {error}")))?;
        if file.version != VERSION {
            return Err(wrong(format!("is of version {}, this program reads {VERSION}", file.version)));
        }
        for (key, is) in KEYS.iter().filter(|key| !key.free).map(|key| (key.name, (key.get)(settings))) {
            let was = file.settings.get(key).cloned().unwrap_or_default();
            // Numbers are compared as they are written.
            let (was, is) = (was.to_string(), is.to_string());
            if was != is {
                return Err(Error::OtherSettings { path: path.into(), key: key.into(), was, is });
            }
        }
        if file.data_blake3 != data_blake3 {
            let (was, is) = (file.data_blake3, data_blake3.to_owned());
            return Err(Error::OtherSettings {
                path: path.into(),
                key: "the bytes of the text or rows".into(),
                was,
                is,
            });
        }
        let counts = &file.counts;
        if [file.unseen.len(), counts.massive.len()] != [file.layers.len(); 2] || file.layers.is_empty() {
            return Err(wrong(format!("{STATE} lacks layers")));
        }
        // The buffer is filled again when the first batch of a round is needed.
        let round = counts.step.checked_sub(1).map_or(0, |last| last / settings.steps_per_refill());
        let rounds = [round, counts.step / settings.steps_per_refill()];
        if counts.step > settings.total_steps() || !rounds.contains(&counts.round) {
            let (step, steps) = (counts.step, settings.total_steps());
            return Err(wrong(format!(
                "{STATE} is at step {step} of {steps} and in round {} of the buffer",
                counts.round
            )));
        }
        let load = |(layer, unseen): (&usize, Vec<u64>)| load_layer(path, *layer, settings, unseen);
        let dictionaries = file.layers.iter().zip(file.unseen).map(load).collect::<Result<Vec<_>, Error>>()?;
        let d = dictionaries[0].parameters.d;
        let map = TensorMap::open_file(&path.join(BUFFER))?;
        let mut buffer = Buffer::new(file.layers.len(), d, settings.seed);
        for (held, layer) in buffer.rows.iter_mut().zip(&file.layers) {
            *held = tensor(path, &map, &format!("layer.{layer}"), &[file.uses.len(), d])?;
        }
        buffer.uses = file.uses;
        Ok(State { counts: file.counts, dictionaries, buffer })
    }
}

fn layer_file(layer: usize) -> String {
    format!("layer_{layer:02}.safetensors")
}

fn save_layer(path: &Path, dictionary: &Dictionary) -> Result<(), Error> {
    let Parameters { d, f, .. } = dictionary.parameters;
    let shapes = [vec![f, d], vec![f], vec![f, d], vec![d]];
    let mut tensors = Vec::new();
    let sets = [
        ("", dictionary.parameters.arrays()),
        ("first.", dictionary.first.0.each_ref().map(Vec::as_slice)),
        ("second.", dictionary.second.0.each_ref().map(Vec::as_slice)),
    ];
    for (prefix, arrays) in sets {
        for ((name, shape), numbers) in NAMES.iter().zip(&shapes).zip(arrays) {
            let name = format!("{prefix}{name}");
            tensors.push((name.clone(), Tensor::from_f32(&name, shape.clone(), numbers)));
        }
    }
    let Measured { median, mean_norm, mean } = &dictionary.measured;
    tensors.push(("mean".into(), Tensor::from_f32("mean", vec![d], mean)));
    tensors.push(("norms".into(), Tensor::from_f32("norms", vec![2], &[*median, *mean_norm])));
    let named: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    Ok(llamascope_weights::save(path, &named)?)
}

fn load_layer(folder: &Path, layer: usize, settings: &Settings, unseen: Vec<u64>) -> Result<Dictionary, Error> {
    let map = TensorMap::open_file(&folder.join(layer_file(layer)))?;
    let d = map.get("b_dec")?.n_cols();
    let f = settings.expansion * d;
    let shapes = [vec![f, d], vec![f], vec![f, d], vec![d]];
    let arrays = |prefix: &str| -> Result<[Vec<f32>; 4], Error> {
        let mut arrays: [Vec<f32>; 4] = Default::default();
        for ((array, name), shape) in arrays.iter_mut().zip(NAMES).zip(&shapes) {
            *array = tensor(folder, &map, &format!("{prefix}{name}"), shape)?;
        }
        Ok(arrays)
    };
    if unseen.len() != f {
        let what = format!("layer {layer} counts {} features, it has {f}", unseen.len());
        return Err(Error::Checkpoint { path: folder.into(), what });
    }
    let norms = tensor(folder, &map, "norms", &[2])?;
    let measured = Measured { median: norms[0], mean_norm: norms[1], mean: tensor(folder, &map, "mean", &[d])? };
    let parameters = Parameters::new(d, arrays("")?);
    Ok(Dictionary::resumed(
        layer,
        measured,
        parameters,
        [Arrays(arrays("first.")?), Arrays(arrays("second.")?)],
        unseen,
    ))
}

fn save_buffer(path: &Path, layers: &[usize], buffer: &Buffer) -> Result<(), Error> {
    let shape = vec![buffer.len(), buffer.d];
    let tensor = |(layer, rows): (&usize, &Vec<f32>)| {
        let name = format!("layer.{layer}");
        (name.clone(), Tensor::from_f32(&name, shape.clone(), rows))
    };
    let tensors: Vec<(String, Tensor)> = layers.iter().zip(&buffer.rows).map(tensor).collect();
    let named: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    Ok(llamascope_weights::save(path, &named)?)
}

fn tensor(folder: &Path, map: &TensorMap, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
    let tensor = map.get(name)?.expect_shape(shape);
    let numbers = tensor.map_err(|error| Error::Checkpoint { path: folder.into(), what: error.to_string() })?.to_f32();
    match numbers.iter().all(|x| x.is_finite()) {
        true => Ok(numbers),
        false => Err(Error::Checkpoint { path: folder.into(), what: format!("`{name}` holds numbers that are none") }),
    }
}
