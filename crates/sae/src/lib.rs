//! Residual rows in, sparse rows out (and back); one module per foreign file format.
//!
//! Knows nothing of models or text.

pub mod sae;

pub use sae::{Activation, Convention, Sae};
