//! The cache folder, laid out as Python's `huggingface_hub` lays it out, so that both find each other's files.
//!
//! Source: "Understand caching" in the documentation of `huggingface_hub`.
//! ```text
//! models--owner--name/blobs/<etag>                    contents
//!                    /refs/<revision>                 the commit that a branch or tag stood for
//!                    /snapshots/<commit>/<file>       link to ../../blobs/<etag>
//!                    /.no_exist/<commit>/<file>       the repository is known not to have this file
//! .locks/models--owner--name/<etag>.lock
//! ```
//! A download under way is `blobs/<etag>.part`: not Python's `.incomplete`, which may have holes.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use hf_hub::Repo;

use super::errors::FetchError;

/// The folder of one repository. Names given to it have been checked: they stay inside.
pub(super) struct RepoCache {
    root: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    pub(super) fn new(cache: &Path, repo: &Repo) -> RepoCache {
        let folder = repo.folder_name();
        RepoCache { root: cache.join(&folder), locks: cache.join(".locks").join(folder) }
    }

    /// The commit that `revision` stood for when it was last fetched; a cached commit stands for itself.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        match fs::read_to_string(self.root.join("refs").join(revision)) {
            Ok(text) => Some(text.trim().to_owned()).filter(|commit| is_commit(commit)),
            Err(_) => is_commit(revision).then(|| revision.to_owned()).filter(|commit| self.snapshot(commit).is_dir()),
        }
    }

    pub(super) fn write_ref(&self, revision: &str, commit: &str) -> Result<(), FetchError> {
        if revision == commit {
            return Ok(());
        }
        let path = self.root.join("refs").join(revision);
        create_parent(&path)?;
        fs::write(&path, commit).map_err(FetchError::disk(&path))
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// The file in the snapshot, if it is there and its blob as well.
    pub(super) fn file(&self, commit: &str, file: &str) -> Option<PathBuf> {
        Some(self.snapshot(commit).join(file)).filter(|path| path.is_file())
    }

    fn no_exist(&self, commit: &str, file: &str) -> PathBuf {
        self.root.join(".no_exist").join(commit).join(file)
    }

    pub(super) fn known_missing(&self, commit: &str, file: &str) -> bool {
        self.no_exist(commit, file).is_file()
    }

    pub(super) fn mark_missing(&self, commit: &str, file: &str) -> Result<(), FetchError> {
        let path = self.no_exist(commit, file);
        create_parent(&path)?;
        File::create(&path).map(drop).map_err(FetchError::disk(&path))
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// Waits until no other process downloads this blob; `go_on` is asked while waiting.
    pub(super) fn lock(&self, etag: &str, go_on: impl Fn() -> Result<(), FetchError>) -> Result<File, FetchError> {
        let path = self.locks.join(format!("{etag}.lock"));
        create_parent(&path)?;
        create_parent(&self.blob(etag))?;
        let lock = File::create(&path).map_err(FetchError::disk(&path))?;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::WouldBlock) => {
                    go_on()?;
                    sleep(Duration::from_millis(100));
                }
                // Some network file systems have no locks; the renames below keep even that case whole.
                Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => return Ok(lock),
                Err(TryLockError::Error(source)) => return Err(FetchError::Disk { path, source }),
            }
        }
    }

    /// Makes the blob visible as `file` of `commit`.
    pub(super) fn link(&self, etag: &str, commit: &str, file: &str) -> Result<PathBuf, FetchError> {
        let pointer = self.snapshot(commit).join(file);
        if pointer.is_file() {
            return Ok(pointer);
        }
        create_parent(&pointer)?;
        let up = "../".repeat(2 + file.matches('/').count());
        // A link whose blob was deleted would be in the way.
        if pointer.is_symlink() {
            fs::remove_file(&pointer).map_err(FetchError::disk(&pointer))?;
        }
        link_or_move(&format!("{up}blobs/{etag}"), &self.blob(etag), &pointer).map_err(FetchError::disk(&pointer))?;
        Ok(pointer)
    }
}

#[cfg(unix)]
fn link_or_move(target: &str, _blob: &Path, pointer: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, pointer)
}

/// Windows allows links to developers only; like Python, the blob itself moves to where the link would be.
#[cfg(not(unix))]
fn link_or_move(target: &str, blob: &Path, pointer: &Path) -> std::io::Result<()> {
    #[cfg(windows)]
    if std::os::windows::fs::symlink_file(target.replace('/', "\\"), pointer).is_ok() {
        return Ok(());
    }
    let _ = target;
    fs::rename(blob, pointer)
}

fn create_parent(path: &Path) -> Result<(), FetchError> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(FetchError::disk(parent))
}

/// A git commit: 40 hex digits, or 64 with sha256.
pub(super) fn is_commit(name: &str) -> bool {
    matches!(name.len(), 40 | 64) && is_hex(name)
}

pub(super) fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
