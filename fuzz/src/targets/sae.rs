//! The folder of an SAE in each of the formats. The first byte chooses format and convention; then come the JSON and, if
//! there is more, the weights, else weights that fit the smallest SAE of the format.

use std::cell::LazyCell;
use std::fs;
use std::path::Path;

use llamascope_compute::Tensor;
use llamascope_sae::{Convention, Decoder, Sae, find_saes, reference};

use crate::place::Place;
use crate::{Target, fixture, join, parts};

/// See the module. A release name may promise a dictionary that is larger than the file.
pub const TARGET: Target = Target { name: "sae", run, seeds, base_bytes: 16 << 20, bytes_per_byte: 256 };

/// Numbers of the smallest SAE.
const D_IN: usize = 4;
const D_SAE: usize = 8;

/// Folder, JSON, weights, and the names of the weights with their shapes.
type Format = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static [usize])]);

const FORMATS: [Format; 3] = [
    (
        "Llama3_1-8B-Base-L0R-8x",
        "hyperparams.json",
        "checkpoints/final.safetensors",
        &[
            ("encoder.weight", &[D_SAE, D_IN]),
            ("encoder.bias", &[D_SAE]),
            ("decoder.weight", &[D_IN, D_SAE]),
            ("decoder.bias", &[D_IN]),
        ],
    ),
    (
        "saelens",
        "cfg.json",
        "sae_weights.safetensors",
        &[
            ("W_enc", &[D_IN, D_SAE]),
            ("b_enc", &[D_SAE]),
            ("W_dec", &[D_SAE, D_IN]),
            ("b_dec", &[D_IN]),
            ("threshold", &[D_SAE]),
        ],
    ),
    (
        "L1R",
        "config.json",
        "sae_weights.safetensors",
        &[
            ("encoder.weight", &[D_SAE, D_IN]),
            ("encoder.bias", &[D_SAE]),
            ("decoder.weight", &[D_IN, D_SAE]),
            ("decoder.bias", &[D_IN]),
            ("log_jumprelu_threshold", &[D_SAE]),
            ("dataset_average_activation_norm.blocks.1.hook_resid_post", &[]),
        ],
    ),
];

fn run(data: &[u8]) {
    thread_local!(static PLACE: LazyCell<Place> = const { LazyCell::new(place) });
    let Some((&choice, data)) = data.split_first() else { return };
    let choice = usize::from(choice);
    let (folder, json, weights, _) = FORMATS[choice % FORMATS.len()];
    let convention = Convention::ALL[choice / FORMATS.len() % Convention::ALL.len()];
    PLACE.with(|place| {
        let [config, tensors] = parts(data);
        let root = if tensors.is_empty() { "default" } else { "given" };
        if !tensors.is_empty() {
            place.write(&format!("{root}/{folder}/{weights}"), tensors);
        }
        let path = place.write(&format!("{root}/{folder}/{json}"), config);
        let _ = find_saes(&place.path().join(root)).map_err(|error| error.to_string());
        let sae = match Sae::open(&place.path().join(root).join(folder), convention) {
            Ok(sae) => sae,
            Err(error) => {
                error.to_string();
                return drop(fs::remove_file(path));
            }
        };
        use_it(&sae);
        fs::remove_file(path).expect("it was written");
    });
}

/// Encodes and decodes a row, as far as that is no work.
fn use_it(sae: &Sae) {
    let (d_in, d_sae) = (sae.d_in(), sae.d_sae());
    assert_eq!((sae.w_enc.shape(), sae.bias.len()), (&[d_sae, d_in][..], d_sae));
    if d_in * d_sae > 1 << 20 {
        return;
    }
    let row: Vec<f32> = (0..d_in).map(|i| i as f32 - 1.5).collect();
    for row in [row, vec![0.0; d_in], vec![f32::MAX; d_in]] {
        let mut prepared = row.clone();
        sae.prepare_rows(&mut prepared);
        let features = reference::encode(sae, &row);
        assert!(features.iter().all(|&(id, _)| (id as usize) < d_sae));
    }
    match Decoder::open(sae) {
        Err(error) => drop(error.to_string()),
        Ok(decoder) => {
            assert_eq!(decoder.direction(d_sae - 1).len(), d_in);
            assert_eq!(decoder.cosines(&decoder.direction(0)).len(), d_sae);
        }
    }
}

/// A place with the smallest SAE of every format, but for its JSON.
fn place() -> Place {
    let place = Place::new();
    for (folder, _, weights, tensors) in FORMATS {
        write_weights(&place.write(&format!("default/{folder}/{weights}"), b""), tensors);
    }
    place
}

fn write_weights(path: &Path, tensors: &[(&str, &[usize])]) {
    let tensor = |&(name, shape): &(&str, &[usize])| {
        let numbers = (0..shape.iter().product::<usize>()).map(|i| 0.25 + (i % 5) as f32 / 8.0).collect::<Vec<f32>>();
        Tensor::from_f32(name, shape.to_vec(), &numbers)
    };
    let made: Vec<Tensor> = tensors.iter().map(tensor).collect();
    let named: Vec<(&str, &Tensor)> = tensors.iter().map(|&(name, _)| name).zip(&made).collect();
    llamascope_weights::save(path, &named).expect("a small file can be written");
}

fn seeds() -> Vec<Vec<u8>> {
    let smaller = |path: &str, d_in: usize, d_sae: usize| {
        let text = String::from_utf8(fixture(path)).expect("JSON is text");
        let (from_in, from_sae) = (format!(": {d_in},"), format!(": {d_sae},"));
        text.replace(&from_in, &format!(": {D_IN},")).replace(&from_sae, &format!(": {D_SAE},"))
    };
    let scope = smaller("llama3/saes/Llama3_1-8B-Base-L0R-8x/hyperparams.json", 48, 384);
    let r1 = smaller("llama3/saes_r1/L1R/config.json", 48, 384)
        .replace("\"expansion_factor\": 8", "\"expansion_factor\": 2");
    let with = |choice: u8, files: &[&[u8]]| [&[choice][..], &join(files)].concat();
    let mut seeds = vec![with(2, &[r1.as_bytes()])];
    seeds.extend([0, 3, 6].map(|choice| with(choice, &[scope.as_bytes()])));
    for kind in ["jumprelu", "standard", "topk"] {
        let json = smaller(&format!("tied/saes_{kind}/L0/cfg.json"), 32, 128);
        seeds.push(with(1, &[json.as_bytes()]));
    }
    // The smallest weights with their JSON, to be changed as well.
    let place = place();
    let weights = |at: usize| {
        let (folder, _, weights, _) = FORMATS[at];
        fs::read(place.path().join("default").join(folder).join(weights)).expect("it was written")
    };
    seeds.push(with(0, &[scope.as_bytes(), &weights(0)]));
    seeds.push(with(1, &[smaller("tied/saes_jumprelu/L0/cfg.json", 32, 128).as_bytes(), &weights(1)]));
    seeds.push(with(2, &[r1.as_bytes(), &weights(2)]));
    seeds
}
