//! What can be wrong with a file of tensors.

use std::path::PathBuf;

/// An error that names the file, and the tensor where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Could not be opened, read or mapped.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not what the format says; `what` says what was expected, what was found and the way out.
    #[error("{}: {what}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Expectation, finding, way out.
        what: String,
    },
    /// No such tensor; `hint` names near ones, or the shard that should have held it.
    #[error("{}: no tensor `{name}`{hint}", path.display())]
    Missing {
        /// The file or folder.
        path: PathBuf,
        /// The name asked for.
        name: String,
        /// Empty, or what may help, with its own leading punctuation.
        hint: String,
    },
}
