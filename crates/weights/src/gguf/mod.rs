//! GGUF, versions 2 and 3 (ggml's docs/gguf.md): typed metadata and tensors in one file.

mod getters;
mod header;
mod reader;
mod types;

use std::collections::BTreeMap;
use std::path::Path;

use crate::mapped::Mapped;
use crate::{Error, TensorMap};

/// A metadata value. Numbers are widened; arrays keep one kind.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Str(String),
    Bools(Vec<bool>),
    Ints(Vec<i64>),
    Uints(Vec<u64>),
    Floats(Vec<f64>),
    Strs(Vec<String>),
}

/// An open GGUF file.
pub struct Gguf {
    /// All key-value pairs.
    pub metadata: BTreeMap<String, Value>,
    /// The tensors, with axes turned to outermost first (GGUF lists the contiguous one first).
    pub tensors: TensorMap,
}

impl Gguf {
    /// Maps and checks a file.
    ///
    /// # Errors
    /// Whatever is not as the format says, by key or tensor and byte. A tensor of a type that is not read is an error
    /// only when it is asked for.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = Mapped::open(path)?;
        let header = header::read(file.bytes()).map_err(|what| Error::malformed(path, what))?;
        let tensors = TensorMap::of_file(file, header.places, types::READABLE);
        Ok(Gguf { metadata: header.metadata, tensors })
    }
}
