//! The targets, one module each.

pub mod arguments;
pub mod config;
pub mod explored;
pub mod gguf;
pub mod gguf_model;
pub mod http;
pub mod index;
pub mod labels;
pub mod model_folder;
pub mod resume;
pub mod run_folder;
pub mod sae;
pub mod safetensors;
pub mod sentences;
pub mod shards;
pub mod tokenizer;
pub mod train;

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
    resume::TARGET,
    index::TARGET,
    labels::TARGET,
    http::TARGET,
    explored::TARGET,
    train::TARGET,
];
