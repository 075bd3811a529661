//! Rows of numbers and the dozen operations that a device does on them.
//!
//! Knows nothing of models, SAEs or files.

pub mod cpu;
pub mod device;
pub mod dtype;
pub mod tensor;

pub use cpu::{AdamStep, Cpu, Kernel, Powers, Precision, ReadBuffer};
pub use device::{Device, DeviceInfo, EncoderSpec, Heads, Mlp, Norm, RopeTable, Rows, Select, Sparse};
pub use dtype::Dtype;
pub use tensor::{Bytes, ShapeError, Storage, Tensor};
