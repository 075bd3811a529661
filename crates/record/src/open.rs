//! Opening files that somebody else wrote.

use std::fs::{self, File, FileType};
use std::io;
use std::path::Path;

/// Opens a file for reading. Pipes, sockets and devices are refused before they are opened: opening a pipe waits until
/// somebody writes to it, and a device may never end.
///
/// # Errors
/// What the system says; that it is none of the files that can be read.
pub fn open_file(path: &Path) -> io::Result<File> {
    match special(fs::metadata(path)?.file_type()) {
        Some(kind) => Err(io::Error::other(format!("expected a file, found {kind}"))),
        // A folder opens, and says what it is when it is read.
        None => File::open(path),
    }
}

/// Opens a file for reading, or a pipe or terminal that this process was started with, such as `/dev/stdin`.
///
/// # Errors
/// As [`open_file`].
pub(crate) fn open_input(path: &Path) -> io::Result<File> {
    let inherited = ["/dev/stdin", "/dev/fd", "/proc/self/fd"].iter().any(|place| path.starts_with(place));
    if inherited { File::open(path) } else { open_file(path) }
}

#[cfg(unix)]
fn special(kind: FileType) -> Option<&'static str> {
    use std::os::unix::fs::FileTypeExt;

    let kinds = [
        (kind.is_fifo(), "a pipe"),
        (kind.is_socket(), "a socket"),
        (kind.is_char_device(), "a device"),
        (kind.is_block_device(), "a device"),
    ];
    kinds.into_iter().find_map(|(is, name)| is.then_some(name))
}

#[cfg(not(unix))]
fn special(_: FileType) -> Option<&'static str> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_could_wait_or_never_end_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert_eq!(open_file(&pipe).unwrap_err().to_string(), "expected a file, found a pipe");
        assert_eq!(open_input(&pipe).unwrap_err().to_string(), "expected a file, found a pipe");
        assert_eq!(open_file(Path::new("/dev/zero")).unwrap_err().to_string(), "expected a file, found a device");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&link, &link).unwrap();
        assert!(open_file(&link).is_err());
        fs::write(folder.path().join("file"), "").unwrap();
        open_file(&folder.path().join("file")).unwrap();
        open_input(Path::new("/dev/null")).unwrap_err();
        open_input(Path::new("/proc/self/fd/0")).unwrap();
    }
}
