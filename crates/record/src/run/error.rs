//! What can go wrong with a run folder.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::{FORMAT_VERSION, LINE_LIMIT, MANIFEST};

/// A file or folder of a run that cannot be written or read.
#[derive(Debug)]
pub struct RunError {
    /// The file or folder.
    pub path: PathBuf,
    /// Line, from 1, where there is one to name.
    pub line: Option<u64>,
    /// What is wrong.
    pub problem: RunProblem,
}

impl RunError {
    pub(super) fn new(path: &Path, problem: RunProblem) -> Self {
        RunError { path: path.to_owned(), line: None, problem }
    }

    pub(super) fn on_line(path: &Path, line: u64, problem: RunProblem) -> Self {
        RunError { path: path.to_owned(), line: Some(line), problem }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for RunError {}

/// What is wrong with a file or folder of a run.
#[derive(Debug, thiserror::Error)]
pub enum RunProblem {
    /// It cannot be written.
    #[error("cannot be written: {error}{advice}", error = .0, advice = advice(.0))]
    Write(io::Error),
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Read(io::Error),
    /// Every name that a new run folder may have is taken.
    #[error("every run folder with this time is taken, up to the number {0}; choose another output_dir")]
    Taken(u32),
    /// A sentence whose rows do not fit its tokens.
    #[error("{expected} tokens have a row but {found} rows were given")]
    RowCount {
        /// Tokens other than BOS.
        expected: usize,
        /// Rows that were given.
        found: usize,
    },
    /// A folder that is no run.
    #[error("is not a run: it holds neither {MANIFEST} nor a folder such as layer_00")]
    NotARun,
    /// A manifest of another format.
    #[error(
        "has the format version {0}, this program reads version {FORMAT_VERSION}; open it with the program that wrote it"
    )]
    Version(u64),
    /// JSON that cannot be parsed, or of another shape.
    #[error("is not what a run holds: {0}")]
    Json(String),
    /// A line that is longer than [`LINE_LIMIT`](super::LINE_LIMIT), or a manifest.
    #[error("is longer than {} MiB", LINE_LIMIT >> 20)]
    TooLong,
    /// `nnz` and the two lists do not agree.
    #[error("nnz is {nnz}, but there are {ids} feat_ids and {vals} feat_vals")]
    Lengths {
        /// The count that the line names.
        nnz: u64,
        /// How many ids.
        ids: usize,
        /// How many values.
        vals: usize,
    },
    /// A value that is not finite and positive.
    #[error("feature {id} has the value {value}, which is not a finite positive f32")]
    Value {
        /// The feature.
        id: u32,
        /// Its value.
        value: f32,
    },
    /// Values that rise.
    #[error("feat_vals are not in descending order")]
    Order,
    /// A feature twice in a row.
    #[error("feature {0} stands there twice")]
    Duplicate(u32),
    /// A feature that the dictionary does not have.
    #[error("feature {id} is outside the layer's dictionary of {d_sae}")]
    Id {
        /// The feature.
        id: u32,
        /// Size of the dictionary according to the manifest.
        d_sae: usize,
    },
    /// Tokens that do not follow one another.
    #[error("token_pos {position} follows token_pos {previous}")]
    Position {
        /// Position on this line.
        position: u32,
        /// Position on the line before.
        previous: u32,
    },
    /// A run folder that another process is writing.
    #[error("another process is at work on this run: wait for it, or stop it, and try again")]
    InUse,
    /// A file whose bytes are not those that were written.
    #[error("its bytes are not those that were written: their BLAKE3 is {0}")]
    Hash(blake3::Hash),
    /// Rows that are not those of the sentence's tokens.
    #[error("its rows have not the positions of the sentence's tokens, BOS left out")]
    Positions,
    /// A line that is not as this program writes it.
    #[error("its lines are not as they are written: a text, a space or a digit is another")]
    Form,
    /// A line of the sentences file that contradicts itself.
    #[error("is not a sentence of a run: {0}")]
    Record(&'static str),
}

/// The way out when a file cannot be written.
fn advice(error: &io::Error) -> &'static str {
    use io::ErrorKind::*;
    match error.kind() {
        StorageFull | QuotaExceeded => "; free some space there or choose another output_dir",
        PermissionDenied | ReadOnlyFilesystem => "; let it be written to, or choose another output_dir",
        NotADirectory | AlreadyExists => "; a file stands where a folder is needed: choose another output_dir",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_comes_with_a_way_out() {
        let full = RunProblem::Write(io::ErrorKind::StorageFull.into());
        let error = RunError::new(Path::new("out/run_1/layer_00/sentence_0000.jsonl"), full).to_string();
        assert!(error.starts_with("out/run_1/layer_00/sentence_0000.jsonl: cannot be written: "), "{error}");
        assert!(error.ends_with("; free some space there or choose another output_dir"), "{error}");
        let read_only = RunProblem::Write(io::ErrorKind::ReadOnlyFilesystem.into()).to_string();
        assert!(read_only.ends_with("; let it be written to, or choose another output_dir"), "{read_only}");
    }
}
