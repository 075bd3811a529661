//! A file mapped into memory for reading.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llamascope_compute::{Bytes, Storage};
use memmap2::Mmap;

use crate::Error;

/// A mapped file. Nobody may shorten it while it is mapped: a read past its new end kills the process (SIGBUS).
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
        // SAFETY: the map is only read. Its bytes change only if somebody changes the file meanwhile, which the
        // crate's documentation forbids; every value read from them is plain bytes, valid whatever they are.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        Ok(Mapped { path: path.into(), map: Arc::new(Map(map)) })
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
struct Map(Mmap);

impl Storage for Map {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn will_need(&self, range: Range<usize>) {
        // Advice that is not taken costs speed alone, so an error is none. Linux reads no more than a few megabytes for one
        // `WillNeed`, whatever the range; `PopulateRead` reads all of it (and a file that lost its end is an error, no signal).
        #[cfg(target_os = "linux")]
        let _ = self.0.advise_range(memmap2::Advice::PopulateRead, range.start, range.len());
        #[cfg(all(unix, not(target_os = "linux")))]
        let _ = self.0.advise_range(memmap2::Advice::WillNeed, range.start, range.len());
        #[cfg(not(unix))]
        let _ = range;
    }

    #[allow(unsafe_code)]
    fn dont_need(&self, range: Range<usize>) {
        // SAFETY: the map is shared and read-only, so dropped pages come back with the same bytes from the file.
        #[cfg(unix)]
        let _ = unsafe { self.0.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len()) };
        #[cfg(not(unix))]
        let _ = range;
    }
}
