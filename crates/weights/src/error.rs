//! What can be wrong with a file of tensors.

use std::path::{Path, PathBuf};

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
    /// The tensor is there, in a storage type that is not read.
    #[error("{}: tensor `{name}` is stored as {found}, which is not read; convert it to one of {readable}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The file's name for the type.
        found: String,
        /// The types that are read from such a file.
        readable: &'static str,
    },
    /// A GGUF metadata key that is missing or of another kind.
    #[error("{}: metadata key `{key}`: expected {expected}, found {found}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The kind asked for.
        expected: &'static str,
        /// The kind found, or "nothing".
        found: &'static str,
    },
}

impl Error {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Error::Io { path: path.into(), source }
    }

    pub(crate) fn malformed(path: &Path, what: impl Into<String>) -> Self {
        Error::Malformed { path: path.into(), what: what.into() }
    }
}

/// A name out of a file as it may stand in a message: control characters escaped, cut when it is long.
pub(crate) fn shown(name: &str) -> String {
    const LONGEST: usize = 120;
    let mut shown: String = name.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if name.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}
