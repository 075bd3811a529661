//! The targets, one module each.

pub mod sentences;
pub mod config;
pub mod arguments;
pub mod safetensors;
pub mod shards;
pub mod gguf;
pub mod gguf_model;
pub mod tokenizer;
pub mod model_folder;
pub mod sae;
pub mod run_folder;
pub mod index;
pub mod labels;
pub mod http;

use crate::Target;

/// All targets.
pub const ALL: &[Target] = &[
    sentences::TARGET,
    config::TARGET,
    arguments::TARGET,
    safetensors::TARGET,
    shards::TARGET,
    gguf::TARGET,
    gguf_model::TARGET,
    tokenizer::TARGET,
    model_folder::TARGET,
    sae::TARGET,
    run_folder::TARGET,
    index::TARGET,
    labels::TARGET,
    http::TARGET,
];
