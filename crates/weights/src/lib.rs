//! Files of named tensors, mapped and checked: safetensors (one file or shards) and GGUF.
//!
//! Knows nothing of models or SAEs: it hands out tensors by the names that stand in the files. Every file is hostile
//! until checked: no panic, no allocation larger than the file justifies.

mod error;
pub mod gguf;
pub mod tensors;

pub use error::Error;
pub use gguf::Gguf;
pub use tensors::TensorMap;
