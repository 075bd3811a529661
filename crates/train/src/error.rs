//! Everything that can end a training.

use std::path::PathBuf;

/// An error that says what was expected, what was found, and the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Error {
    #[error(transparent)]
    Settings(#[from] crate::settings::SettingsError),
    #[error(transparent)]
    Pipeline(Box<llamascope_pipeline::Error>),
    #[error(transparent)]
    Sae(#[from] llamascope_sae::Error),
    #[error(transparent)]
    Weights(#[from] llamascope_weights::Error),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// Numbers have overflowed.
    #[error(
        "the {what} of layer {layer} is not finite at step {step}: training cannot go on; {kept}. A smaller \
         `learning_rate` or `clip`, or a longer `warm_up`, is what usually helps"
    )]
    NonFinite { what: &'static str, layer: usize, step: u64, kept: String },
    #[error(
        "the text has {found} tokens that can be trained on, `tokens` asks for {wanted}: give more text, set \
         `tokens: {possible}`, or read it several times with `epochs`"
    )]
    TooShort { found: u64, wanted: u64, possible: u64 },
    #[error(
        "{} was made with `{key}` {was}, now it is {is}: a training goes on with the settings it began with; set it \
         back, choose another `output_dir`, or begin anew with --fresh", path.display()
    )]
    OtherSettings { path: PathBuf, key: String, was: String, is: String },
    /// A checkpoint that is not one.
    #[error("{}: {what}; remove it or begin anew with --fresh", path.display())]
    Checkpoint { path: PathBuf, what: String },
    /// Rows of a file that cannot be used; a full sentence with the way out.
    #[error("{}: {what}", path.display())]
    Rows { path: PathBuf, what: String },
    #[error("{0}")]
    Mismatch(String),
    #[error("interrupted; {kept}")]
    Interrupted { kept: String },
}

impl From<llamascope_pipeline::Error> for Error {
    fn from(error: llamascope_pipeline::Error) -> Self {
        Error::Pipeline(Box::new(error))
    }
}

impl Error {
    /// Whether what was typed is at fault rather than what happened: exit code 2 of the binary.
    pub fn is_usage(&self) -> bool {
        match self {
            Error::Settings(_) | Error::OtherSettings { .. } => true,
            Error::Pipeline(error) => error.is_usage(),
            _ => false,
        }
    }

    /// Whether the user stopped the work.
    pub fn is_interruption(&self) -> bool {
        match self {
            Error::Interrupted { .. } => true,
            Error::Pipeline(error) => error.is_interruption(),
            _ => false,
        }
    }
}
