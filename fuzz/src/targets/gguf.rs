//! A GGUF file: header, metadata, and the tensors of every storage type.

use std::cell::LazyCell;

use llamascope_weights::Gguf;

use super::safetensors::read;
use crate::place::Place;
use crate::{Target, fixture, fixture_path};

/// See the module. A number of a metadata array takes one byte in the file and eight in memory, a string of no
/// characters eight and twenty-four.
pub const TARGET: Target = Target { name: "gguf", run, seeds, base_bytes: 1 << 20, bytes_per_byte: 64 };

fn run(data: &[u8]) {
    thread_local!(static PLACE: LazyCell<Place> = const { LazyCell::new(Place::new) });
    PLACE.with(|place| {
        let gguf = match Gguf::open(&place.write("model.gguf", data)) {
            Ok(gguf) => gguf,
            Err(error) => return drop(error.to_string()),
        };
        let names: Vec<_> = gguf.tensors.names().map(str::to_owned).collect();
        for name in &names {
            read(&gguf.tensors, name, |tensor| assert!(tensor.bytes().len() <= data.len()));
        }
    });
}

/// Bytes of a GGUF file without tensors.
pub fn file(pairs: &[(&str, u32, Vec<u8>)], tensors: &[u8], n_tensors: u64) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(n_tensors.to_le_bytes());
    bytes.extend((pairs.len() as u64).to_le_bytes());
    for (key, kind, value) in pairs {
        bytes.extend(string(key));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value);
    }
    bytes.extend(tensors);
    bytes
}

/// A string as GGUF has it.
pub fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// An array of elements of a kind.
pub fn array(kind: u32, elements: &[Vec<u8>]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &(elements.len() as u64).to_le_bytes(), &elements.concat()].concat()
}

fn seeds() -> Vec<Vec<u8>> {
    let quants = fixture_path("../crates/weights/tests/data/quants.gguf");
    let one_of_each: Vec<(&str, u32, Vec<u8>)> = vec![
        ("u8", 0, vec![1]),
        ("i16", 3, vec![1, 2]),
        ("f32", 6, 1f32.to_le_bytes().to_vec()),
        ("bool", 7, vec![1]),
        ("str", 8, string("x")),
        ("u64", 10, vec![0; 8]),
        ("f64", 12, vec![0; 8]),
        ("u8s", 9, array(0, &[vec![1], vec![2]])),
        ("strs", 9, array(8, &[string("a"), string("")])),
        ("general.alignment", 4, 8u32.to_le_bytes().to_vec()),
    ];
    let mut tensor = string("t");
    tensor.extend(1u32.to_le_bytes());
    tensor.extend(32u64.to_le_bytes());
    tensor.extend(8u32.to_le_bytes());
    tensor.extend(0u64.to_le_bytes());
    let mut small = file(&one_of_each, &tensor, 1);
    small.resize(small.len().next_multiple_of(8) + 34, 0);
    vec![small, std::fs::read(quants).expect("a file of the tests"), fixture("gguf/spm.gguf")]
}
