//! Writing a run folder. Every file is written under another name beside its place and then renamed: it is there whole
//! or not at all, whatever stops the program.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::error::{RunError, RunProblem};
use super::manifest::Manifest;
use super::records::write_record;
use super::rows::{output_rows, write_row};
use super::{MANIFEST, SENTENCES, rows_path};
use crate::{Sentence, SparseRows, Tokens};

/// Most runs that may start at the same time in one output folder.
const SAME_STAMP_LIMIT: u32 = 10_000;

/// A run folder that is being written. Threads may share it as long as each file is written by one of them at a time.
#[derive(Debug)]
pub struct RunWriter {
    path: PathBuf,
}

impl RunWriter {
    /// Makes the folder `run_{stamp}` (`run_{stamp}_2`, ... where that is taken) in `output_dir`, and `output_dir` too
    /// where it is not there. `stamp` is the time of the start as `YYYYMMDD_HHMMSS`.
    pub fn create(output_dir: &Path, stamp: &str) -> Result<RunWriter, RunError> {
        let fail = |path: &Path, error| RunError::new(path, RunProblem::Write(error));
        fs::create_dir_all(output_dir).map_err(|error| fail(output_dir, error))?;
        for number in 1..=SAME_STAMP_LIMIT {
            let name = if number == 1 { format!("run_{stamp}") } else { format!("run_{stamp}_{number}") };
            let path = output_dir.join(name);
            match fs::create_dir(&path) {
                Ok(()) => return Ok(RunWriter { path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(fail(&path, error)),
            }
        }
        Err(RunError::new(output_dir, RunProblem::Taken(SAME_STAMP_LIMIT)))
    }

    /// The run folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `run.json`, in place of an earlier one, and waits until it is on the disk.
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<(), RunError> {
        write_whole(&self.path.join(MANIFEST), Durable::Yes, |file| {
            serde_json::to_writer_pretty(&mut *file, manifest)?;
            file.write_all(b"\n")
        })
    }

    /// Writes `sentences.jsonl`; sentence `i` has the tokens `tokens[i]`.
    ///
    /// # Panics
    /// If there are not as many of these as of those.
    pub fn write_sentences(&self, sentences: &[Sentence], tokens: &[Tokens]) -> Result<(), RunError> {
        assert_eq!(sentences.len(), tokens.len(), "sentences and their tokens");
        write_whole(&self.path.join(SENTENCES), Durable::Yes, |file| {
            sentences
                .iter()
                .zip(tokens)
                .enumerate()
                .try_for_each(|(index, (sentence, tokens))| write_record(index, sentence, tokens, file))
        })
    }

    /// Writes the rows of one sentence at one layer, one row for every token that is not BOS.
    ///
    /// # Errors
    /// [`RunProblem::RowCount`] if there are more or fewer rows; [`RunProblem::Write`] if the file cannot be written.
    pub fn write_rows(
        &self,
        layer: usize,
        sentence: usize,
        tokens: &Tokens,
        rows: &SparseRows,
    ) -> Result<(), RunError> {
        /// About what an entry and the rest of a line take.
        const ENTRY_BYTES: usize = 18;
        const LINE_BYTES: usize = 96;
        let path = rows_path(&self.path, layer, sentence);
        let mut lines = Vec::with_capacity(rows.nnz() * ENTRY_BYTES + rows.len() * LINE_BYTES);
        for row in output_rows(tokens, rows).map_err(|problem| RunError::new(&path, problem))? {
            write_row(&row, &mut lines);
        }
        let folder = path.parent().unwrap_or(&self.path);
        fs::create_dir_all(folder).map_err(|error| RunError::new(folder, RunProblem::Write(error)))?;
        write_whole(&path, Durable::No, |file| file.write_all(&lines))
    }
}

/// Whether to wait until a file is on the disk. Rows do not: a sync for each of many small files would take longer than
/// computing them, and a power cut in the middle of a run leaves it incomplete anyhow.
#[derive(PartialEq)]
enum Durable {
    Yes,
    No,
}

/// Writes a file under a temporary name and gives it its own when it is whole.
fn write_whole(
    path: &Path,
    durable: Durable,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), RunError> {
    let temporary = path.with_added_extension("tmp");
    let written = File::create(&temporary).and_then(|file| {
        let mut file = BufWriter::new(file);
        write(&mut file)?;
        let file = file.into_inner()?;
        if durable == Durable::Yes {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)
    });
    written.map_err(|error| {
        // What is left of a file that cannot be written is of no use, and its removal may fail for the same reason.
        let _ = fs::remove_file(&temporary);
        RunError::new(path, RunProblem::Write(error))
    })
}
