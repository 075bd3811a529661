//! Llama-family weights and text in, residual rows out at the taps asked for.
//!
//! Knows nothing of SAEs or run files.

pub mod checkpoint;
pub mod config;
mod error;
pub mod llama;
pub mod tokenizer;

pub use checkpoint::{Checkpoint, DtypeShare, LayerWeights};
pub use config::{Config, Rope, RopeLayout, RopeScaling};
pub use error::Error;
pub use llama::{Batch, Llama};
pub use tokenizer::Tokenizer;
