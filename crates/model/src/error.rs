//! What can be wrong with a model.

use std::path::PathBuf;

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
}
