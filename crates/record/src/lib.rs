//! The nouns of a run and their files: sentences, tokens, taps, sparse rows, the run folder.
//!
//! Knows nothing of tensors, models, colours or the network.

pub mod explored;
pub mod index;
mod json;
pub mod labels;
mod open;
pub mod run;
pub mod sentence;
pub mod sparse;
pub mod tap;
pub mod tokens;

pub use open::open_file;
pub use sentence::{InputError, Sentence, SentenceFile, Source, read_sentences};
pub use sparse::SparseRows;
pub use tap::{Site, Tap};
pub use tokens::{Span, TokenGroup, Tokens};
