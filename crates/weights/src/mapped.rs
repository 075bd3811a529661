//! A file mapped into memory for reading.

use std::fs::{File, Metadata};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use llamascope_compute::{Bytes, Storage};
use memmap2::Mmap;

use crate::Error;
use crate::lost;

/// A mapped file. Nobody should write to it while it is mapped. If somebody does, [`Storage::altered`] tells of it; if
/// somebody shortens it, a read past its new end ends the process (SIGBUS), see [`crate::end_on_lost_pages`].
pub(crate) struct Mapped {
    path: PathBuf,
    map: Arc<Map>,
}

impl Mapped {
    /// Maps a regular file.
    #[allow(unsafe_code)]
    pub fn open(path: &Path) -> Result<Self, Error> {
        // Asked first, because opening a pipe would wait for its writer.
        let kind = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        if !kind.is_file() {
            let found = if kind.is_dir() { "a folder" } else { "something else" };
            return Err(Error::malformed(path, format!("expected a file, found {found}")));
        }
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let state = file.metadata().map(|metadata| State::of(&metadata)).map_err(|e| Error::io(path, e))?;
        // SAFETY: the map is only read. Its bytes change only if somebody changes the file meanwhile, which the
        // crate's documentation forbids; every value read from them is plain bytes, valid whatever they are.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        let guard = lost::Guarded::new(map.as_ptr() as usize, map.len(), path);
        Ok(Mapped { path: path.into(), map: Arc::new(Map { map, file, state, path: path.into(), _guard: guard }) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn bytes(&self) -> &[u8] {
        self.map.bytes()
    }

    /// A range of it that keeps the map alive.
    ///
    /// # Panics
    /// When the range is not inside the file.
    pub fn share(&self, range: Range<usize>) -> Bytes {
        Bytes::new(self.map.clone(), range)
    }
}

/// The map, as the tensors hold it.
struct Map {
    map: Mmap,
    /// Kept open to be asked whether it has changed: its name may lead to another file by now, which does no harm.
    file: File,
    state: State,
    path: PathBuf,
    _guard: lost::Guarded,
}

/// What changes when a file is written to. (Its number of links and its name do not: a file that is deleted or replaced
/// while it is mapped keeps its bytes.)
#[derive(PartialEq)]
struct State {
    length: u64,
    modified: Option<SystemTime>,
}

impl State {
    fn of(metadata: &Metadata) -> Self {
        State { length: metadata.len(), modified: metadata.modified().ok() }
    }
}

impl Storage for Map {
    fn bytes(&self) -> &[u8] {
        &self.map
    }

    fn altered(&self) -> Option<String> {
        let path = self.path.display();
        match self.file.metadata() {
            Ok(metadata) if State::of(&metadata) == self.state => None,
            Ok(metadata) if metadata.len() < self.state.length => {
                Some(format!("{path} was shortened from {} to {} bytes", self.state.length, metadata.len()))
            }
            Ok(_) => Some(format!("{path} was written to")),
            Err(error) => Some(format!("{path} cannot be looked at any more ({error})")),
        }
    }

    fn will_need(&self, range: Range<usize>) {
        // Advice that is not taken costs speed alone, so an error is none. Linux reads no more than a few megabytes for one
        // `WillNeed`, whatever the range; `PopulateRead` reads all of it (and a file that lost its end is an error, no signal).
        #[cfg(target_os = "linux")]
        let _ = self.map.advise_range(memmap2::Advice::PopulateRead, range.start, range.len());
        #[cfg(all(unix, not(target_os = "linux")))]
        let _ = self.map.advise_range(memmap2::Advice::WillNeed, range.start, range.len());
        #[cfg(not(unix))]
        let _ = range;
    }

    #[allow(unsafe_code)]
    fn dont_need(&self, range: Range<usize>) {
        // SAFETY: the map is shared and read-only, so dropped pages come back with the same bytes from the file.
        #[cfg(unix)]
        let _ =
            unsafe { self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len()) };
        #[cfg(not(unix))]
        let _ = range;
    }
}
