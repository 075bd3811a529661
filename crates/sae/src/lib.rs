//! Residual rows in, sparse rows out (and back); one module per foreign file format.
//!
//! Knows nothing of models or text. [`Sae::open`] brings whatever a folder holds to the one form that [`Sae`] describes;
//! devices compute that form, and [`reference::encode`] computes it slowly as the oracle they are tested against.

mod checkpoint;
mod config;
pub mod decoder;
mod error;
pub mod find;
pub mod llama_scope;
mod norms;
pub mod r1_distill;
pub mod reference;
pub mod release;
pub mod sae;
pub mod saelens;
pub mod save;

pub use decoder::Decoder;
pub use error::Error;
pub use find::find_saes;
pub use norms::NormStats;
pub use release::{Release, release};
pub use sae::{Activation, Convention, Format, InputNorm, Sae};
pub use save::{LlamaScopeFile, SaelensFile, save_llama_scope, save_saelens};
