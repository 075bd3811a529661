//! Joins model, SAE and run: plan, waves, progress, fetching of weights. The library's front door.
//!
//! Knows nothing of argv or HTTP servers.

pub mod activations;
mod ahead;
pub mod bench;
pub mod config;
pub mod corpus;
pub mod demo;
pub mod dictionary;
pub mod engine;
mod error;
pub mod eval;
pub mod explore;
pub mod fetch;
pub mod info;
pub mod labels;
pub mod live;
pub mod observer;
mod residual;
mod resume;
pub mod run;
mod sink;
pub mod source;
pub mod wave;

pub use error::Error;
pub use llamascope_compute::Kernel;
pub use observer::{Observer, Progress};
pub use residual::{Kept, Saved};
pub use resume::resume;
pub use run::{Finished, Surroundings, run};
