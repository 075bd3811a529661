//! What can go wrong with an index.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::run::RunError;

/// A file or folder of an index that cannot be built, opened or read.
#[derive(Debug)]
pub struct IndexError {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong.
    pub problem: IndexProblem,
}

/// What is wrong with an index.
#[derive(Debug, thiserror::Error)]
pub enum IndexProblem {
    /// There is none.
    #[error("there is no index; `llamascope index` builds it")]
    Missing,
    /// The run has changed since it was built.
    #[error("is the index of an earlier state of this run; `llamascope index` builds it anew")]
    Stale,
    /// Bytes that are not those that were written.
    #[error("is damaged ({0}); `llamascope index` builds it anew")]
    Corrupt(&'static str),
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Read(io::Error),
    /// It cannot be written.
    #[error("cannot be written: {0}; the index needs about a third of the space of the rows")]
    Write(io::Error),
    /// More than an index can hold.
    #[error("is too large for an index: {0}")]
    TooLarge(String),
    /// The run itself cannot be opened.
    #[error(transparent)]
    Run(RunError),
    /// A sentence that the run does not have.
    #[error("has no sentence {number}; it has {sentences}, counted from 0")]
    NoSentence {
        /// The sentence that was asked for.
        number: usize,
        /// How many there are.
        sentences: usize,
    },
    /// A row that the run does not have.
    #[error("has no row {row}; it has {rows}, counted from 0")]
    NoRow {
        /// The row that was asked for.
        row: u32,
        /// How many there are.
        rows: u32,
    },
    /// A search that cannot be understood.
    #[error("cannot be searched for this: {0}")]
    Query(String),
    /// Somebody asked to stop.
    #[error("the index was not finished: interrupted")]
    Cancelled,
}

impl IndexError {
    pub(super) fn new(path: &Path, problem: IndexProblem) -> Self {
        IndexError { path: path.to_owned(), problem }
    }

    pub(super) fn read(path: &Path, error: io::Error) -> Self {
        let missing = error.kind() == io::ErrorKind::NotFound;
        IndexError::new(path, if missing { IndexProblem::Missing } else { IndexProblem::Read(error) })
    }

    pub(super) fn write(path: &Path, error: io::Error) -> Self {
        IndexError::new(path, IndexProblem::Write(error))
    }

    pub(super) fn corrupt(path: &Path, what: &'static str) -> Self {
        IndexError::new(path, IndexProblem::Corrupt(what))
    }

    /// Whether the place may not be written to, though another one may.
    pub(super) fn is_forbidden(&self) -> bool {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        matches!(&self.problem, IndexProblem::Write(error) if matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem))
    }

    /// Whether somebody asked to stop.
    pub fn is_interruption(&self) -> bool {
        matches!(self.problem, IndexProblem::Cancelled)
    }

    /// Whether building the index anew is the cure.
    pub fn is_curable(&self) -> bool {
        matches!(self.problem, IndexProblem::Missing | IndexProblem::Stale | IndexProblem::Corrupt(_))
    }
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            IndexProblem::Run(error) => error.fmt(f),
            problem @ IndexProblem::Cancelled => problem.fmt(f),
            problem => write!(f, "{}: {problem}", self.path.display()),
        }
    }
}

impl std::error::Error for IndexError {}

impl From<RunError> for IndexError {
    fn from(error: RunError) -> Self {
        IndexError { path: error.path.clone(), problem: IndexProblem::Run(error) }
    }
}
