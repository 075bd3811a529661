//! What is done to the files of a run that is being written, in one place: a file appears by rename when it is whole, and
//! nothing else may touch the disk. The one place is also where a test lets the disk fail.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is about to be done to a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A folder is made.
    CreateFolder,
    /// A file is opened for writing.
    Create,
    /// Bytes are written to it.
    Write,
    /// It is waited for until they are on the disk.
    Sync,
    /// It gets its name.
    Rename,
    /// A file or folder goes.
    Remove,
}

type Before = dyn Fn(Operation, &Path) -> io::Result<()> + Send + Sync;

/// The disk that a run is written to. The default one does what it is told; see [`Disk::asking`].
#[derive(Clone, Default)]
pub struct Disk {
    before: Option<Arc<Before>>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.before.is_some() { "Disk (asking)" } else { "Disk" })
    }
}

/// Whether to wait until a file is on the disk. Rows do not wait: a sync for each of many small files would take longer
/// than computing them. They are all waited for at once, by [`Disk::settle`], before a run is called complete.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Durable {
    Yes,
    No,
}

impl Disk {
    /// A disk that asks `before` it does anything, and fails with the error that it answers. A write that is to fail
    /// leaves half of its bytes, as a full disk does.
    pub fn asking(before: impl Fn(Operation, &Path) -> io::Result<()> + Send + Sync + 'static) -> Disk {
        Disk { before: Some(Arc::new(before)) }
    }

    fn ask(&self, operation: Operation, path: &Path) -> io::Result<()> {
        self.before.as_ref().map_or(Ok(()), |before| before(operation, path))
    }

    /// Makes a folder that is not there yet.
    pub(super) fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.ask(Operation::CreateFolder, path)?;
        fs::create_dir(path)
    }

    /// Makes a folder, and those above it, where they are not there.
    pub(super) fn create_folders(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        self.ask(Operation::CreateFolder, path)?;
        fs::create_dir_all(path)
    }

    /// Writes a file under a temporary name and gives it its own when it is whole.
    pub(super) fn write_whole(
        &self,
        path: &Path,
        durable: Durable,
        write: impl FnOnce(&mut Whole) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut whole = self.begin(path)?;
        write(&mut whole)?;
        whole.finish(durable)
    }

    /// Begins a file that gets its name when it is finished.
    pub(super) fn begin(&self, path: &Path) -> io::Result<Whole> {
        self.ask(Operation::Create, path)?;
        let temporary = path.with_added_extension(TEMPORARY);
        let file = BufWriter::new(self.asked(path, create_anew(&temporary)?));
        Ok(Whole { file: Some(file), temporary, path: path.to_owned() })
    }

    /// Opens a file to write behind its end.
    pub(super) fn append(&self, path: &Path) -> io::Result<Asked> {
        self.ask(Operation::Create, path)?;
        Ok(self.asked(path, File::options().create(true).append(true).open(path)?))
    }

    fn asked(&self, path: &Path, file: File) -> Asked {
        Asked { file, disk: self.clone(), path: path.to_owned() }
    }

    /// Removes a file; one that is not there is no error.
    pub(super) fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.ask(Operation::Remove, path)?;
        absent_is_fine(fs::remove_file(path))
    }

    /// Removes a folder with all that is in it; one that is not there is no error.
    pub(super) fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.ask(Operation::Remove, path)?;
        absent_is_fine(fs::remove_dir_all(path))
    }

    /// Waits until everything that was written to `folder`'s file system is on the disk. `files` are those that matter,
    /// for systems where there is no such call. `opened` is the folder as it was opened before anything was written: the
    /// system tells through it of writes that it has accepted and lost since.
    pub(super) fn settle(
        &self,
        folder: &Path,
        opened: Option<&File>,
        files: impl Iterator<Item = PathBuf>,
    ) -> io::Result<()> {
        self.ask(Operation::Sync, folder)?;
        #[cfg(target_os = "linux")]
        {
            // One call for a hundred thousand files.
            drop(files);
            match opened {
                Some(opened) => Ok(rustix::fs::syncfs(opened)?),
                None => Ok(rustix::fs::syncfs(File::open(folder)?)?),
            }
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = opened;
            for file in files {
                File::open(file)?.sync_all()?;
            }
            Ok(())
        }
    }
}

/// What a file is called until it is whole.
pub(super) const TEMPORARY: &str = "tmp";

/// Creates a file. One that a killed process left under the name goes; so does a link, and what it points at stays as it is.
fn create_anew(path: &Path) -> io::Result<File> {
    match File::create_new(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            File::create_new(path)
        }
        created => created,
    }
}

fn absent_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// A file of which every write is asked for.
#[derive(Debug)]
pub(super) struct Asked {
    file: File,
    disk: Disk,
    path: PathBuf,
}

impl Write for Asked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.disk.ask(Operation::Write, &self.path) {
            let _ = self.file.write(&bytes[..bytes.len() / 2]);
            return Err(error);
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file that is not whole yet. It goes away when it is dropped before it is finished: what is left of a file that
/// cannot be written is of no use.
pub(super) struct Whole {
    file: Option<BufWriter<Asked>>,
    temporary: PathBuf,
    path: PathBuf,
}

impl Whole {
    /// Gives the file its name.
    pub fn finish(mut self, durable: Durable) -> io::Result<()> {
        let file = self.file.take().expect("taken here alone").into_inner().map_err(|error| {
            // The writer must not try again when it is dropped.
            let (error, writer) = error.into_parts();
            drop(writer.into_parts());
            error
        });
        let named = file.and_then(|asked| {
            if durable == Durable::Yes {
                asked.disk.ask(Operation::Sync, &self.path)?;
                asked.file.sync_all()?;
            }
            asked.disk.ask(Operation::Rename, &self.path)?;
            fs::rename(&self.temporary, &self.path)?;
            // The name is on the disk when its folder is.
            #[cfg(unix)]
            if let (Durable::Yes, Some(folder)) = (durable, self.path.parent()) {
                File::open(folder)?.sync_all()?;
            }
            Ok(())
        });
        if named.is_err() {
            let _ = fs::remove_file(&self.temporary);
        }
        named
    }
}

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.as_mut().expect("there until it is finished").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().expect("there until it is finished").flush()
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            drop(file.into_parts());
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
