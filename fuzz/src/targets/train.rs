//! The file that a training is told with, and what it has left to go on from. A training that goes on ends or refuses; it
//! has the rows of a file, so that no model runs.

use std::cell::LazyCell;
use std::fs;
use std::path::Path;

use llamascope_compute::Tensor;
use llamascope_train::{Error, Finished, Settings, train};

use crate::place::Place;
use crate::tiny::{StopsAfter, surroundings};
use crate::{Target, join, parts};

/// See the module. YAML counts: an alias of a few bytes may stand for many values, up to the reader's limit.
pub const TARGET: Target = Target { name: "train", run, seeds, base_bytes: 64 << 20, bytes_per_byte: 512 };

/// What a checkpoint consists of, in the order of the parts of an input behind the settings.
const LEFT: [&str; 3] = ["state.json", "layer_03.safetensors", "buffer.safetensors"];
/// Stands in a checkpoint of an input for the folder that the rows lie in, which is another one in every process.
const FOLDER: &str = "{FOLDER}";
const ROWS: usize = 96;
const D_MODEL: usize = 4;

fn run(data: &[u8]) {
    thread_local!(static PLACE: LazyCell<Place> = const { LazyCell::new(ready) });
    let [file, left @ ..]: [&[u8]; 1 + LEFT.len()] = parts(data);
    match Settings::parse(Path::new("train.yaml"), file) {
        Ok(settings) => {
            let json = serde_json::to_vec(&settings.to_json()).expect("a value is written");
            assert_eq!(Settings::parse(Path::new("train.json"), &json).expect("what is written is read"), settings);
        }
        Err(error) => drop(error.to_string()),
    }
    if left.iter().any(|part| !part.is_empty()) {
        PLACE.with(|place| {
            if let Err(error) = go_on(place, left) {
                drop(error.to_string());
            }
        });
    }
}

/// Goes on from a checkpoint of these files.
fn go_on(place: &Place, [state, layer, buffer]: [&[u8]; LEFT.len()]) -> Result<Finished, Error> {
    place.clear("saes");
    let state = String::from_utf8_lossy(state).replace(FOLDER, &place.path().display().to_string());
    for (name, bytes) in LEFT.iter().zip([state.as_bytes(), layer, buffer]) {
        place.write(&format!("saes/checkpoints/step_00000004/{name}"), bytes);
    }
    train(&settings(place), false, &surroundings(), &())
}

/// A small training of one layer.
fn settings(place: &Place) -> Settings {
    let text = format!(
        "activations: '{0}/rows.safetensors'\nlayers: [3]\ntokens: 80\nbuffer: 32\nbatch: 8\nexpansion: 2\nk: 2\n\
         dead_after: 16\nlog_every: 2\nthreads: 1\noutput_dir: '{0}/saes'\n",
        place.path().display()
    );
    Settings::parse(Path::new("train.yaml"), text.as_bytes()).expect("it is right")
}

/// A place with rows to train on.
fn ready() -> Place {
    let place = Place::new();
    let number = |at: usize| ((at * 7919 + 13) % 1009) as f32 / 500.0 - 1.0;
    let numbers: Vec<f32> = (0..ROWS * D_MODEL).map(number).collect();
    let rows = Tensor::from_f32("layer.3", vec![ROWS, D_MODEL], &numbers);
    llamascope_weights::save(&place.path().join("rows.safetensors"), &[("layer.3", &rows)]).expect("it can be written");
    place
}

fn seeds() -> Vec<Vec<u8>> {
    let left = |reports: usize| {
        let place = ready();
        // It may end before.
        let _ = train(&settings(&place), true, &surroundings(), &StopsAfter::new(reports));
        let checkpoints = fs::read_dir(place.path().join("saes/checkpoints")).expect("it is there");
        let last = checkpoints.map(|entry| entry.expect("it can be read").path()).max().expect("there is one");
        let [state, layer, buffer] = LEFT.map(|name| fs::read(last.join(name)).expect("it is whole"));
        let state = String::from_utf8(state).expect("JSON").replace(&place.path().display().to_string(), FOLDER);
        [state.into_bytes(), layer, buffer]
    };
    let file = b"model_id: model.gguf\ntext: [articles.jsonl]\ntext_column: text\nlayers: [5, 10, 20]\ntokens: 4_000_000\nk: 50\n\
                 kind: batch_topk\nlayouts: [llama_scope, saelens]\noutput_dir: my_saes\n";
    let [early, late] = [left(4), left(usize::MAX)];
    vec![
        file.to_vec(),
        join(&[b"layers: 3", &early[0], &early[1], &early[2]]),
        join(&[b"{\"kind\": \"relu\", \"l1\": 5}", &late[0], &late[1], &late[2]]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_training_goes_on_from_the_seeds() {
        let place = ready();
        let checkpoints = seeds().split_off(1);
        assert_eq!(checkpoints.len(), 2);
        for seed in checkpoints {
            let [_, left @ ..]: [&[u8]; 1 + LEFT.len()] = parts(&seed);
            go_on(&place, left).unwrap();
        }
    }
}
