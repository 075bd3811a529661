//! Llama-family weights and text in, residual rows out at the taps asked for.
//!
//! Knows nothing of SAEs or run files.

pub mod checkpoint;
pub mod config;
mod error;
pub mod tokenizer;

pub use checkpoint::{Checkpoint, LayerWeights};
pub use config::{Config, Rope, RopeLayout, RopeScaling};
pub use error::Error;
pub use tokenizer::Tokenizer;
