//! Files of named tensors, mapped and checked: safetensors (one file or shards) and GGUF.
//!
//! Knows nothing of models or SAEs: it hands out tensors by the names that stand in the files. Every file is hostile
//! until checked: no panic, no allocation larger than the file justifies.
//!
//! Tensors are used in place, in the mapped file. So a file should not be written to or shortened while anything read
//! from it is alive. Whoever computes with tensors asks [`llamascope_compute::Tensor::altered`] before it believes the
//! result; the system ends a process that reads past the new end of a mapped file, see [`end_on_lost_pages`].

mod error;
mod folder;
pub mod gguf;
mod lost;
mod mapped;
mod safetensors;
mod save;
pub mod tensors;

pub use error::Error;
pub use gguf::Gguf;
pub use lost::{end_on_lost_pages, set_way_out};
pub use save::save;
pub use tensors::TensorMap;
