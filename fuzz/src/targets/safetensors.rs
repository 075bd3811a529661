//! A safetensors file. Whatever we accept, the format's own library accepts and reads the same from it.

use std::cell::LazyCell;

use llamascope_weights::TensorMap;
use safetensors::SafeTensors;

use crate::place::Place;
use crate::{Target, fixture};

/// See the module.
pub const TARGET: Target = Target { name: "safetensors", run, seeds, base_bytes: 1 << 20, bytes_per_byte: 256 };

fn run(data: &[u8]) {
    thread_local!(static PLACE: LazyCell<Place> = const { LazyCell::new(Place::new) });
    PLACE.with(|place| {
        let path = place.write("model.safetensors", data);
        let tensors = match TensorMap::open_file(&path) {
            Ok(tensors) => tensors,
            Err(error) => return drop(error.to_string()),
        };
        let theirs = SafeTensors::deserialize(data).expect("we are stricter than the format's library");
        let names: Vec<_> = tensors.names().map(str::to_owned).collect();
        assert_eq!(names.len(), theirs.len());
        for name in &names {
            let their = theirs.tensor(name).expect("a tensor that we have");
            read(&tensors, name, |found| {
                assert_eq!((found.bytes(), found.shape()), (their.data(), their.shape()));
            });
        }
        assert!(tensors.get("no such tensor").is_err());
    });
}

/// Reads a tensor as everybody does who uses it.
pub fn read(tensors: &TensorMap, name: &str, check: impl FnOnce(&llamascope_compute::Tensor)) {
    match tensors.get(name) {
        Err(error) => drop(error.to_string()),
        Ok(tensor) => {
            check(&tensor);
            let numbers: usize = tensor.shape().iter().product();
            assert_eq!(tensor.to_f32().len(), numbers);
            tensor.will_need();
            tensor.dont_need();
            if tensor.n_rows() > 0 && numbers > 0 {
                assert_eq!(tensor.row(tensor.n_rows() - 1).len(), tensor.row_bytes());
            }
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let file = |header: &str, data: &[u8]| [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat();
    vec![
        file(r#"{"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}"#, &[0; 8]),
        file(
            r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]},"b":{"dtype":"F16","shape":[],"data_offsets":[6,8]},"c":{"dtype":"I64","shape":[0],"data_offsets":[8,8]}}  "#,
            &[1; 8],
        ),
        fixture("tied/model/model-00002-of-00002.safetensors"),
    ]
}
