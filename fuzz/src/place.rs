//! A folder where the bytes of an input become files. In memory where the system has such a place, because a target
//! writes some ten thousand files a second.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The folder of one target. It goes with the process, or stays behind when that dies.
pub struct Place(TempDir);

impl Place {
    /// Makes it.
    pub fn new() -> Place {
        let memory = Path::new("/dev/shm");
        let made = if memory.is_dir() { TempDir::with_prefix_in("llamascope-fuzz-", memory) } else { TempDir::new() };
        Place(made.expect("a temporary folder can be made"))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file, in folders that are made if need be.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        if fs::write(&path, bytes).is_err() {
            fs::create_dir_all(path.parent().expect("it lies in the folder")).expect("a folder can be made");
            fs::write(&path, bytes).expect("a file can be written");
        }
        path
    }

    /// Writes a file, or sees to it that there is none where the bytes are none.
    pub fn write_or_remove(&self, name: &str, bytes: &[u8]) -> PathBuf {
        if !bytes.is_empty() {
            return self.write(name, bytes);
        }
        let path = self.path().join(name);
        // It may not be there.
        let _ = fs::remove_file(&path);
        path
    }

    /// Removes a folder and all that is in it, if it is there.
    pub fn clear(&self, name: &str) {
        let _ = fs::remove_dir_all(self.path().join(name));
    }
}
