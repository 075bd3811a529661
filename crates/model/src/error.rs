//! What can be wrong with a model.

use std::path::{Path, PathBuf};

/// An error that names the file and what was expected of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Wrong in the file of tensors.
    #[error(transparent)]
    Weights(#[from] llamascope_weights::Error),
    /// A tensor of another shape than the config calls for.
    #[error("{}: {source}", path.display())]
    Shape {
        /// The file or folder.
        path: PathBuf,
        /// Which tensor, both shapes.
        source: llamascope_compute::ShapeError,
    },
    /// Could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A config, a tokenizer or metadata that is not understood; says what was expected, what was found, the way out.
    #[error("{}: {what}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Expectation, finding, way out.
        what: String,
    },
    /// A text that the tokenizer cannot turn into tokens.
    #[error("cannot tokenise with {}: {what}", path.display())]
    Encode {
        /// The file that the tokenizer was read from.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The first text of a batch that failed.
    #[error("sentence {index}: {source}")]
    Sentence {
        /// Its place in the batch, from 0.
        index: usize,
        /// What is wrong with it.
        source: Box<Error>,
    },
}

impl Error {
    pub(crate) fn unsupported(path: &Path, what: impl Into<String>) -> Self {
        Error::Unsupported { path: path.into(), what: what.into() }
    }
}
