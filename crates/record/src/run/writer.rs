//! Writing a run folder. Every file is written under another name beside its place and then renamed: it is there whole
//! or not at all, whatever stops the program.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use blake3::Hash;

use super::disk::{Disk, Durable, TEMPORARY, Whole};
use super::error::{RunError, RunProblem};
use super::journal::{Journal, Ledger, write_sums};
use super::manifest::Manifest;
use super::records::write_record;
use super::rows::{output_rows, write_row};
use super::{JOURNAL, MANIFEST, RESIDUAL, RESUME, SENTENCES, SUMS, layer_of, rows_path, sentence_of};
use crate::{Sentence, SparseRows, Tokens};

/// Most runs that may start at the same time in one output folder.
const SAME_STAMP_LIMIT: u32 = 10_000;

/// A run folder that is being written, by this process alone. Its threads may share it as long as each file is written
/// by one of them at a time.
#[derive(Debug)]
pub struct RunWriter {
    path: PathBuf,
    disk: Disk,
    /// The folder, locked until this is dropped; the system lets go of it when the process dies, however it dies.
    lock: Option<File>,
}

impl RunWriter {
    /// Makes the folder `run_{stamp}` (`run_{stamp}_2`, ... where that is taken) in `output_dir`, and `output_dir` too
    /// where it is not there. `stamp` is the time of the start as `YYYYMMDD_HHMMSS`.
    pub fn create(output_dir: &Path, stamp: &str) -> Result<RunWriter, RunError> {
        RunWriter::create_on(output_dir, stamp, Disk::default())
    }

    /// The same on a disk that may fail.
    pub fn create_on(output_dir: &Path, stamp: &str, disk: Disk) -> Result<RunWriter, RunError> {
        let fail = |path: &Path, error| RunError::new(path, RunProblem::Write(error));
        disk.create_folders(output_dir).map_err(|error| fail(output_dir, error))?;
        for number in 1..=SAME_STAMP_LIMIT {
            let name = if number == 1 { format!("run_{stamp}") } else { format!("run_{stamp}_{number}") };
            let path = output_dir.join(name);
            match disk.create_folder(&path) {
                Ok(()) => return Ok(RunWriter { lock: lock(&path)?, path, disk }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(fail(&path, error)),
            }
        }
        Err(RunError::new(output_dir, RunProblem::Taken(SAME_STAMP_LIMIT)))
    }

    /// Takes up a run folder again.
    ///
    /// # Errors
    /// [`RunProblem::InUse`] if another process is writing it.
    pub fn reopen(path: &Path, disk: Disk) -> Result<RunWriter, RunError> {
        fs::read_dir(path).map_err(|error| RunError::new(path, RunProblem::Read(error)))?;
        Ok(RunWriter { lock: lock(path)?, path: path.to_owned(), disk })
    }

    /// The run folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether another process would be kept off; some network file systems know no locks.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// Writes `run.json`, in place of an earlier one, and waits until it is on the disk.
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<(), RunError> {
        self.whole(&self.path.join(MANIFEST), Durable::Yes, |file| {
            serde_json::to_writer_pretty(&mut *file, manifest)?;
            file.write_all(b"\n")
        })
    }

    /// Writes `sentences.jsonl`; sentence `i` has the tokens `tokens[i]`.
    ///
    /// # Panics
    /// If there are not as many of these as of those.
    pub fn write_sentences(&self, sentences: &[Sentence], tokens: &[Tokens]) -> Result<(), RunError> {
        self.whole(&self.path.join(SENTENCES), Durable::Yes, |file| write_records(sentences, tokens, file))
    }

    /// Writes the rows of one sentence at one layer, one row for every token that is not BOS, and tells the BLAKE3 of the
    /// file.
    ///
    /// # Errors
    /// [`RunProblem::RowCount`] if there are more or fewer rows; [`RunProblem::Write`] if the file cannot be written.
    pub fn write_rows(
        &self,
        layer: usize,
        sentence: usize,
        tokens: &Tokens,
        rows: &SparseRows,
    ) -> Result<Hash, RunError> {
        let path = rows_path(&self.path, layer, sentence);
        let lines = lines_of(tokens, rows).map_err(|problem| RunError::new(&path, problem))?;
        let folder = path.parent().unwrap_or(&self.path);
        self.disk.create_folders(folder).map_err(|error| RunError::new(folder, RunProblem::Write(error)))?;
        self.whole(&path, Durable::No, |file| file.write_all(&lines))?;
        Ok(blake3::hash(&lines))
    }

    /// Begins the journal anew, with what `ledger` knows.
    pub fn journal(&self, ledger: &Ledger) -> Result<Journal, RunError> {
        let path = self.path.join(RESUME).join(JOURNAL);
        let begin = || {
            self.disk.create_folders(&self.path.join(RESUME))?;
            self.disk.write_whole(&path, Durable::No, |file| ledger.write(file))?;
            self.disk.append(&path)
        };
        let file = begin().map_err(|error| RunError::new(&path, RunProblem::Write(error)))?;
        Ok(Journal::new(file, path))
    }

    /// Begins the file in which rows that are on their way are kept; it replaces the one before when it is finished.
    pub fn residual(&self) -> Result<ResidualWriter, RunError> {
        let path = self.path.join(RESUME).join(RESIDUAL);
        let whole = self.disk.begin(&path).map_err(|error| RunError::new(&path, RunProblem::Write(error)))?;
        Ok(ResidualWriter { whole, path })
    }

    /// Writes the list of all files of rows, `rows.b3sum`, and tells its BLAKE3.
    pub fn write_sums(&self, ledger: &Ledger) -> Result<Hash, RunError> {
        let mut hasher = blake3::Hasher::new();
        write_sums(ledger, &mut hasher).expect("hashing cannot fail");
        self.whole(&self.path.join(SUMS), Durable::No, |file| write_sums(ledger, file))?;
        Ok(hasher.finalize())
    }

    /// Waits until all rows are on the disk.
    pub fn settle(&self, ledger: &Ledger) -> Result<(), RunError> {
        let files = ledger.files().map(|(layer, sentence)| rows_path(&self.path, layer, sentence));
        let settled = self.disk.settle(&self.path, self.lock.as_ref(), files.chain([self.path.join(SUMS)]));
        settled.map_err(|error| RunError::new(&self.path, RunProblem::Write(error)))
    }

    /// Removes what only a resume needs.
    pub fn remove_journal(&self) -> Result<(), RunError> {
        let path = self.path.join(RESUME);
        self.disk.remove_folder(&path).map_err(|error| RunError::new(&path, RunProblem::Write(error)))
    }

    /// Removes the unfinished files that a process left when it was killed. Files that this program does not write are
    /// not touched.
    pub fn remove_leftovers(&self) -> Result<(), RunError> {
        let mut leftovers = Vec::new();
        for name in names(&self.path)? {
            if [MANIFEST, SENTENCES, SUMS].into_iter().any(|file| is_leftover(&name, |of| of == file)) {
                leftovers.push(self.path.join(&name));
            } else if layer_of(&name).is_some() {
                let folder = self.path.join(&name);
                let of_layer = names(&folder)?.into_iter();
                let unfinished = of_layer.filter(|name| is_leftover(name, |of| sentence_of(of).is_some()));
                leftovers.extend(unfinished.map(|name| folder.join(name)));
            }
        }
        let remove =
            |path: &PathBuf| self.disk.remove_file(path).map_err(|e| RunError::new(path, RunProblem::Write(e)));
        leftovers.iter().try_for_each(remove)
    }

    fn whole(
        &self,
        path: &Path,
        durable: Durable,
        write: impl FnOnce(&mut Whole) -> io::Result<()>,
    ) -> Result<(), RunError> {
        let written = self.disk.write_whole(path, durable, write);
        written.map_err(|error| RunError::new(path, RunProblem::Write(error)))
    }
}

/// The file of rows that are on their way, see [`RunWriter::residual`].
pub struct ResidualWriter {
    whole: Whole,
    path: PathBuf,
}

impl ResidualWriter {
    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), RunError> {
        self.whole.write_all(bytes).map_err(|error| RunError::new(&self.path, RunProblem::Write(error)))
    }

    /// Puts it in the place of the one before.
    pub fn finish(self) -> Result<(), RunError> {
        self.whole.finish(Durable::No).map_err(|error| RunError::new(&self.path, RunProblem::Write(error)))
    }
}

/// The BLAKE3 of the `sentences.jsonl` that would be written of these, in hexadecimal.
pub fn sentences_blake3(sentences: &[Sentence], tokens: &[Tokens]) -> String {
    let mut hasher = blake3::Hasher::new();
    write_records(sentences, tokens, &mut hasher).expect("hashing cannot fail");
    hasher.finalize().to_hex().to_string()
}

fn write_records(sentences: &[Sentence], tokens: &[Tokens], out: &mut impl Write) -> io::Result<()> {
    assert_eq!(sentences.len(), tokens.len(), "sentences and their tokens");
    let mut records = sentences.iter().zip(tokens).enumerate();
    records.try_for_each(|(index, (sentence, tokens))| write_record(index, sentence, tokens, out))
}

/// The content of a rows file.
fn lines_of(tokens: &Tokens, rows: &SparseRows) -> Result<Vec<u8>, RunProblem> {
    /// About what an entry and the rest of a line take.
    const ENTRY_BYTES: usize = 18;
    const LINE_BYTES: usize = 96;
    let mut lines = Vec::with_capacity(rows.nnz() * ENTRY_BYTES + rows.len() * LINE_BYTES);
    for row in output_rows(tokens, rows)? {
        write_row(&row, &mut lines);
    }
    Ok(lines)
}

/// Locks a folder; none where the file system knows no locks.
fn lock(path: &Path) -> Result<Option<File>, RunError> {
    /// Tries, ten milliseconds apart: whoever only asks whether the run is in use holds the lock for a moment too.
    const TRIES: u32 = 20;
    let Ok(folder) = File::open(path) else {
        return Ok(None);
    };
    for _ in 0..TRIES {
        match folder.try_lock() {
            Ok(()) => return Ok(Some(folder)),
            Err(TryLockError::WouldBlock) => std::thread::sleep(std::time::Duration::from_millis(10)),
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
    Err(RunError::new(path, RunProblem::InUse))
}

/// Whether a process is writing this run folder at the moment, where the file system can tell.
pub fn in_use(path: &Path) -> bool {
    // Shared, so that two who ask at once do not take each other for a writer.
    File::open(path).is_ok_and(|folder| matches!(folder.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Whether `name` is that of an unfinished file whose own name is as asked.
pub(super) fn is_leftover(name: &str, of: impl Fn(&str) -> bool) -> bool {
    name.strip_suffix(TEMPORARY).and_then(|name| name.strip_suffix('.')).is_some_and(of)
}

/// The names in a folder that are Unicode, as all of ours are.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, RunError> {
    let list = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    };
    list().map_err(|error| RunError::new(folder, RunProblem::Read(error)))
}
