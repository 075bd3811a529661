//! A folder to stand in, and the binary run there, away from the settings of whoever runs the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Where the tests stand.
pub struct Shell {
    folder: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Shell {
    pub fn new() -> Shell {
        Shell { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A text of so many lines, of a few words and no sense.
    pub fn write_text(&self, name: &str, lines: usize) {
        let words = ["lamp", "harbour", "wall", "Paris", "and", "nobody", "東京", "1234", "so", "again"];
        let line =
            |n: usize| (0..n % 19 + 9).map(|i| words[(i * n + i * i) % words.len()]).collect::<Vec<_>>().join(" ");
        self.write(name, (1..=lines).map(|n| line(n) + "\n").collect::<String>());
    }

    /// A copy of a fixture, to be damaged.
    pub fn copy(&self, name: &str, to: &str) {
        copy(&fixture(name), &self.path(to));
    }

    /// Changes a JSON file.
    pub fn edit_json(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap();
        change(&mut value);
        self.write(name, value.to_string());
    }

    /// Changes the bytes of a file.
    pub fn edit(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.path(name)).unwrap();
        change(&mut bytes);
        self.write(name, bytes);
    }

    /// Changes the header of a safetensors file, and nothing behind it.
    pub fn edit_header(&self, name: &str, change: impl FnOnce(&mut Value)) {
        self.edit(name, |bytes| {
            let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let mut header: Value = serde_json::from_slice(&bytes[8..end]).unwrap();
            change(&mut header);
            let header = header.to_string();
            let mut edited = (header.len() as u64).to_le_bytes().to_vec();
            edited.extend(header.as_bytes());
            edited.extend(&bytes[end..]);
            *bytes = edited;
        });
    }

    /// A command in this folder. The home is the folder as well, so that no cache and no login of the user is seen.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        let foreign = |name: &str| {
            ["HF_", "LLAMASCOPE_", "XDG_", "CLICOLOR"].iter().any(|prefix| name.starts_with(prefix))
                || name.to_lowercase().ends_with("_proxy")
        };
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(foreign) {
                command.env_remove(&name);
            }
        }
        command.args(args).current_dir(self.folder.path()).env("HOME", self.folder.path()).stdin(Stdio::null());
        command
    }

    /// `llamascope` with these arguments, with more to be set.
    pub fn llamascope(&self, args: &[&str]) -> Command {
        self.command(env!("CARGO_BIN_EXE_llamascope"), args)
    }

    /// Runs `llamascope`.
    pub fn run(&self, args: &[&str]) -> Done {
        done(self.llamascope(args))
    }

    /// The run folders that `outputs` holds.
    pub fn runs(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path("outputs")) else {
            return Vec::new();
        };
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// The manifest of the only run.
    pub fn manifest(&self) -> Value {
        let [run] = self.runs().try_into().expect("one run folder");
        serde_json::from_slice(&fs::read(run.join("run.json")).unwrap()).unwrap()
    }

    /// Runs `llamascope` and expects an error that says all of `words`, before anything was written.
    #[track_caller]
    pub fn refuses(&self, code: i32, args: &[&str], words: &[&str]) {
        self.run(args).failed(code, words);
        assert!(self.runs().is_empty(), "{:?}", self.runs());
    }
}

/// Runs a command to its end.
pub fn done(mut command: Command) -> Done {
    command.output().unwrap().into()
}

impl From<Output> for Done {
    fn from(output: Output) -> Done {
        Done {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Done {
    /// Nothing on stdout, all of `words` in the one error on stderr, no panic.
    #[track_caller]
    pub fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        let error = self.stderr.split_once("error: ").unwrap_or_else(|| panic!("no error: {self:?}")).1;
        for word in words {
            assert!(error.contains(word), "`{word}` is not in: {error}");
        }
    }

    #[track_caller]
    pub fn succeeded(self) -> Done {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }
}

/// The path of a fixture of the repository.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    if from.is_file() {
        fs::copy(from, to).unwrap();
        return;
    }
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}
