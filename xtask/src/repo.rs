//! The files of the repository as git sees them, and what a check says about them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::source::Source;

/// One thing that is wrong, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Path from the root of the repository.
    pub file: String,
    /// Line from 1.
    pub line: usize,
    /// What was found.
    pub what: String,
    /// How to mend it.
    pub way_out: String,
}

impl Finding {
    /// A finding at a line (from 1) of a file.
    pub fn new(file: &str, line: usize, what: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self { file: file.into(), line, what: what.into(), way_out: way_out.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}; {}", self.file, self.line, self.what, self.way_out)
    }
}

/// One file of the working tree.
pub struct File {
    /// Path from the root of the repository, with `/`.
    pub path: String,
    /// What stands in it.
    pub bytes: Vec<u8>,
    /// The Rust source taken apart, where it is one.
    pub rust: Option<Source>,
}

impl File {
    /// The text, or `None` where it is not UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }

    /// Whether the path ends in `.extension`.
    pub fn is(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }
}

/// The working tree: every file that git tracks or would track.
pub struct Repo {
    /// The folder that holds `.git`.
    pub root: PathBuf,
    /// Sorted by path.
    pub files: Vec<File>,
}

impl Repo {
    /// The root of the repository that the current folder is in.
    pub fn root() -> anyhow::Result<PathBuf> {
        let found = git(Path::new("."), &["rev-parse", "--show-toplevel"])?;
        Ok(PathBuf::from(String::from_utf8(found)?.trim_end()))
    }

    /// Reads the files of the repository at `root`, untracked ones that are not ignored included.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        let listed = git(root, &["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;
        let mut paths: Vec<&str> = std::str::from_utf8(&listed)?.split_terminator('\0').collect();
        paths.sort_unstable();
        paths.dedup();
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let on_disk = root.join(path);
            // The index still lists a file that was deleted but not committed, and a submodule is a folder.
            if on_disk.is_file() {
                let bytes = std::fs::read(&on_disk).with_context(|| format!("cannot read {path}"))?;
                let mut file = File { path: path.to_owned(), bytes, rust: None };
                if file.is("rs") {
                    file.rust = file.text().map(Source::parse);
                }
                files.push(file);
            }
        }
        Ok(Self { root: root.to_owned(), files })
    }

    /// The text of one file, if it is there and is UTF-8.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path).and_then(File::text)
    }

    /// Whether a path is a file or a folder of the repository.
    pub fn contains(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        path.is_empty() || self.files.iter().any(|file| file.path == path || file.path.starts_with(&folder))
    }

    /// Every Rust file with its source taken apart.
    pub fn rust(&self) -> impl Iterator<Item = (&str, &Source)> {
        self.files.iter().filter_map(|file| Some((file.path.as_str(), file.rust.as_ref()?)))
    }
}

fn git(folder: &Path, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
    let output = Command::new("git").current_dir(folder).args(arguments).output().context("cannot run git")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git {}: {}", arguments.join(" "), said.trim());
    Ok(output.stdout)
}

#[cfg(test)]
pub mod testing {
    //! Repositories in temporary folders.

    use super::*;

    /// A repository with these files, none of them committed.
    pub fn repo(files: &[(&str, &str)]) -> Repo {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(path, text)| (*path, text.as_bytes())).collect();
        repo_of_bytes(&files)
    }

    /// The same, for files that need not be text.
    pub fn repo_of_bytes(files: &[(&str, &[u8])]) -> Repo {
        let folder = tempfile::tempdir().unwrap();
        git(folder.path(), &["init", "--quiet"]).unwrap();
        for (path, bytes) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        Repo::open(folder.path()).unwrap()
    }

    /// `file:line` of every finding, in order.
    pub fn places(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(|finding| format!("{}:{}", finding.file, finding.line)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracked_and_untracked_files_count_and_ignored_and_deleted_ones_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        git(folder.path(), &["init", "--quiet"]).unwrap();
        for (path, text) in [(".gitignore", "out/\n"), ("tracked.md", ""), ("gone.md", ""), ("src/日本 語.rs", "")] {
            std::fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            std::fs::write(at(path), text).unwrap();
        }
        git(folder.path(), &["add", "tracked.md", "gone.md"]).unwrap();
        std::fs::remove_file(at("gone.md")).unwrap();
        std::fs::create_dir(at("out")).unwrap();
        std::fs::write(at("out/ignored.md"), "").unwrap();

        let repo = Repo::open(folder.path()).unwrap();
        let paths: Vec<&str> = repo.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, [".gitignore", "src/日本 語.rs", "tracked.md"]);
        assert!(repo.contains("src") && repo.contains("tracked.md") && !repo.contains("sr"));
    }

    #[test]
    fn a_folder_without_git_is_an_error_that_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let error = Repo::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains("not a git repository"), "{error}");
    }

    #[test]
    fn a_finding_reads_as_place_fault_and_way_out() {
        let finding = Finding::new("a/b.rs", 3, "two things", "keep one");
        assert_eq!(finding.to_string(), "a/b.rs:3: two things; keep one");
    }
}
