//! Everything that can end a run.

use std::path::PathBuf;

/// An error that says what was expected, what was found, and the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Error {
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    #[error(transparent)]
    Fetch(#[from] crate::fetch::FetchError),
    #[error(transparent)]
    Pip(#[from] crate::fetch::pip::PipError),
    #[error(transparent)]
    Model(#[from] llamascope_model::Error),
    #[error(transparent)]
    Sae(#[from] llamascope_sae::Error),
    #[error(transparent)]
    Input(#[from] llamascope_record::sentence::InputError),
    #[error(transparent)]
    Run(#[from] llamascope_record::run::RunError),
    #[error(transparent)]
    Explored(#[from] llamascope_record::explored::ExploredError),
    #[error(transparent)]
    Compare(#[from] llamascope_report::compare::CompareError),
    /// Rows of a device that are not sparse rows.
    #[error("layer {layer}: {source}")]
    Rows { layer: usize, source: llamascope_record::sparse::SparseError },
    /// A sentence that the tokenizer cannot take.
    #[error("{place}: {source}")]
    Tokenise { place: String, source: llamascope_model::Error },
    /// A model or SAE that does not fit the rest; a full sentence with the way out.
    #[error("{0}")]
    Mismatch(String),
    /// A setting that this build or machine cannot honour; a full sentence with the way out.
    #[error("{0}")]
    Unavailable(String),
    /// Numbers have overflowed inside the model.
    #[error(
        "the residual stream is not finite after layer {layer} (first in sentence {sentence}{place}, token {position}): the weights are \
         damaged or overflow in {dtype}; try `dtype: float32`"
    )]
    NonFinite { layer: usize, sentence: usize, place: String, position: usize, dtype: String },
    /// A file of our own could not be read or written.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// A run that cannot be taken up again; a full sentence with the way out.
    #[error("{} cannot be resumed: {what}", run.display())]
    Resume { run: PathBuf, what: String },
    /// Weights that are not those that the run was begun with.
    #[error(
        "the weights ({part}) are not those that this run was begun with: BLAKE3 {now} instead of {before}; put the old files \
         back, or start a new run"
    )]
    Weights { part: String, before: blake3::Hash, now: blake3::Hash },
    /// A file of weights that changed while it was in use.
    #[error("{what} while it was in use: put it back as it was when the run was begun")]
    Altered { what: String },
    /// A mistake in this program.
    #[error("a mistake in this program ({0}): please report it")]
    Panicked(String),
    /// The observer asked to stop.
    #[error("interrupted{}", run.as_ref().map(|run| format!("; what was finished is in {}", run.display())).unwrap_or_default())]
    Interrupted { run: Option<PathBuf> },
}

impl Error {
    /// Whether what was typed is at fault rather than what happened: exit code 2 of the binary.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Error::Config(_) | Error::Unavailable(_) | Error::Sae(llamascope_sae::Error::UnknownRelease { .. })
        )
    }

    /// Whether a run that ended so can be resumed as it is, once the cause is gone.
    pub fn is_resumable(&self) -> bool {
        let lasting = matches!(
            self,
            Error::NonFinite { .. }
                | Error::Resume { .. }
                | Error::Weights { .. }
                | Error::Rows { .. }
                | Error::Mismatch(_)
        );
        !lasting && !self.is_usage()
    }

    /// Whether the user stopped the work.
    pub fn is_interruption(&self) -> bool {
        use crate::fetch::FetchError;
        matches!(self, Error::Interrupted { .. } | Error::Fetch(FetchError::Cancelled { .. }))
    }
}
