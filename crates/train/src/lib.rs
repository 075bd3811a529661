//! Trains sparse autoencoders on the activations of a model, while the model reads: several layers in one pass.
//!
//! Rows come from `source`, are shuffled in `buffer`, and each batch of them is a step of every `dictionary`. Every
//! number depends on settings and data alone: not on threads, not on where a training was interrupted.

mod buffer;
mod curve;
mod dictionary;
mod error;
mod export;
mod gradient;
mod measure;
mod metrics;
mod parameters;
mod random;
mod select;
pub mod settings;
mod source;
mod store;
mod trainer;

pub use error::Error;
pub use export::Exported;
pub use metrics::{LayerMetrics, METRICS, Metrics};
pub use settings::Settings;
pub use trainer::{Finished, Progress, train};

/// Somebody who watches a training.
pub trait Watch: llamascope_pipeline::Observer {
    /// Another step, or more rows for the next one.
    fn training(&self, _progress: &Progress) {}
}

/// Nobody watches.
impl Watch for () {}
