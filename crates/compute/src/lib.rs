//! Rows of numbers and the dozen operations that a device does on them.
//!
//! Knows nothing of models, SAEs or files.

pub mod dtype;
pub mod tensor;

pub use dtype::Dtype;
pub use tensor::{Bytes, ShapeError, Tensor};
