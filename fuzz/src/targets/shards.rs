//! A folder of shards: `model.safetensors.index.json` and two files beside it.

use std::cell::LazyCell;

use llamascope_weights::TensorMap;

use super::safetensors::read;
use crate::place::Place;
use crate::{Target, join, parts};

/// See the module.
pub const TARGET: Target = Target { name: "shards", run, seeds, base_bytes: 1 << 20, bytes_per_byte: 256 };

fn run(data: &[u8]) {
    thread_local!(static PLACE: LazyCell<Place> = const { LazyCell::new(Place::new) });
    PLACE.with(|place| {
        let [index, a, b] = parts(data);
        place.write_or_remove("model.safetensors.index.json", index);
        place.write_or_remove("a.safetensors", a);
        place.write_or_remove("b.safetensors", b);
        let tensors = match TensorMap::open_folder(place.path()) {
            Ok(tensors) => tensors,
            Err(error) => return drop(error.to_string()),
        };
        assert!(
            tensors.files().iter().all(|(path, _)| path.parent() == Some(place.path())),
            "it led out of its folder"
        );
        let names: Vec<_> = tensors.names().map(str::to_owned).collect();
        names.iter().for_each(|name| read(&tensors, name, |_| {}));
    });
}

fn seeds() -> Vec<Vec<u8>> {
    let header = r#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat();
    vec![
        join(&[br#"{"weight_map": {"x": "a.safetensors"}}"#, &file]),
        join(&[
            br#"{"metadata": {"total_size": 4}, "weight_map": {"x": "b.safetensors", "y": "c.safetensors"}}"#,
            b"",
            &file,
        ]),
        join(&[br#"{"weight_map": {"x": "../a.safetensors"}}"#]),
    ]
}
