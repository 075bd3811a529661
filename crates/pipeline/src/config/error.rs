//! What can be wrong with a configuration.

use std::path::PathBuf;

use super::KEYS;
use super::file::MAX_CONFIG_BYTES;

/// A setting that is missing, unknown or wrong. Whatever was typed is shown escaped and cut.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no configuration by its size.
    #[error("{}: larger than {MAX_CONFIG_BYTES} bytes; is this a config file?", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not UTF-8, not YAML, or not a mapping of keys to values.
    #[error("{}:{line}: {what}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What is wrong there.
        what: String,
    },
    /// A key that means nothing.
    #[error("{}:{line}: unknown key `{key}`{hint}; the keys are {}", path.display(), KEYS.map(|(key, _)| key).join(", "))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// The key as typed.
        key: String,
        /// Empty, or the nearest key, with its own leading punctuation.
        hint: String,
    },
    /// A value that its key cannot have.
    #[error("{}:{line}: {key}: {source}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// The key.
        key: &'static str,
        /// What is wrong with the value.
        source: ValueError,
    },
    /// A setting without a default that nobody gave.
    #[error("no `{key}`: set it in {} or give {flag}", place(.file))]
    Missing {
        /// The key.
        key: &'static str,
        /// The flag that sets it too.
        flag: &'static str,
        /// The config file that was read, if any.
        file: Option<PathBuf>,
    },
    /// A layer that the model does not have.
    #[error("layer {layer} does not exist: the model has {n_layers} layers, 0 to {}", n_layers.saturating_sub(1))]
    LayerOutOfRange {
        /// The layer asked for.
        layer: usize,
        /// Layers of the model.
        n_layers: usize,
    },
}

fn place(file: &Option<PathBuf>) -> String {
    file.as_ref().map_or_else(|| "config.yaml (there is none here)".into(), |path| path.display().to_string())
}

/// What is wrong with a value, wherever it was typed: the key or flag is for the caller to name.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum ValueError {
    /// Not one of the values allowed.
    #[error("{found} is not one of {allowed}{hint}")]
    Choice {
        /// What was typed.
        found: String,
        /// The allowed values.
        allowed: String,
        /// Empty, or the nearest value, with its own leading punctuation.
        hint: String,
    },
    /// Not of the form that is needed.
    #[error("{found} is not {expected}")]
    Form {
        /// What was typed.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A list or text without content.
    #[error("is empty; give a value or leave the key out")]
    Empty,
}
