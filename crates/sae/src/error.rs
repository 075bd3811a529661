//! What can be wrong with a folder that should hold an SAE.

use std::path::PathBuf;

use llamascope_record::Tap;

/// An error that names the file, and the key or tensor where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file of tensors is wrong in itself, or lacks a tensor.
    #[error(transparent)]
    Weights(#[from] llamascope_weights::Error),
    /// A configuration file that is not one JSON object.
    #[error("{}: {what}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line and column, or what stands there instead.
        what: String,
    },
    /// A key of a configuration file that is missing, of the wrong type, or has a value that is not supported.
    #[error("{}: key `{key}` {what}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key; dots lead into nested objects.
        key: String,
        /// Expectation, finding, way out.
        what: String,
    },
    /// A tensor of the wrong shape, type or content.
    #[error("{}: tensor `{tensor}` {what}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Expectation, finding, way out.
        what: String,
    },
    /// A folder that does not hold what it should.
    #[error("{}: {what}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Expectation, finding, way out.
        what: String,
    },
    /// Two SAEs that read the same place.
    #[error("{} and {} both read {tap}; name the folder of the one that is meant, or move the other away", first.display(), second.display())]
    Duplicate {
        /// What both read.
        tap: Tap,
        /// One folder.
        first: PathBuf,
        /// The other folder.
        second: PathBuf,
    },
    /// A release name that is not known.
    #[error("no SAE release is called `{name}`{nearest}; known are {known}, or give the path of a folder of SAEs")]
    UnknownRelease {
        /// The name asked for.
        name: String,
        /// Empty, or `; did you mean ...?`.
        nearest: String,
        /// All names, comma-separated.
        known: String,
    },
}
