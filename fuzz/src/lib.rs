//! Everything that llamascope reads from outside, fed with bytes that nobody wrote on purpose.
//!
//! A target is a function of bytes that must return: no panic, no abort, no more memory than the size of the input
//! justifies, and what is read has to agree with itself (written again and read again it is the same) or with a second
//! reader. libFuzzer calls the targets through `fuzz_targets/`; the program `fuzz` calls them with the seeds, the corpus and a
//! fixed number of mutations, on any compiler.

pub mod memory;
pub mod mutate;
mod place;
pub mod targets;
mod tiny;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

#[global_allocator]
static HEAP: memory::Counting = memory::Counting;

/// One thing to feed.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name: that of its file in `fuzz_targets`, its folder in `corpus`, its dictionary in `dictionaries`.
    pub name: &'static str,
    /// Reads the bytes and judges what came of them; panics if it is wrong.
    run: fn(&[u8]),
    /// Inputs that are as they should be, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// What an input may make the heap grow by, at least.
    base_bytes: usize,
    /// And for every byte of it.
    bytes_per_byte: usize,
}

impl Target {
    /// Feeds one input.
    ///
    /// # Panics
    /// If something is wrong.
    pub fn check(&self, data: &[u8]) {
        let most = self.base_bytes + self.bytes_per_byte * data.len();
        let grown = memory::growth(|| (self.run)(data));
        assert!(
            grown <= most,
            "{}: {} bytes of input took {grown} bytes of memory, {most} are allowed",
            self.name,
            data.len()
        );
    }
}

/// Between the parts of an input that stands for several files.
pub const SEPARATOR: &[u8] = b"\n----\n";

/// The parts of an input, `N` of them; those that are not there are empty, and the last one takes all that is left.
fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut rest = Some(data);
    std::array::from_fn(|nth| {
        let Some(data) = rest else { return &[][..] };
        let end = data.windows(SEPARATOR.len()).position(|window| window == SEPARATOR).filter(|_| nth + 1 < N);
        rest = end.map(|end| &data[end + SEPARATOR.len()..]);
        end.map_or(data, |end| &data[..end])
    })
}

/// Joins files to an input.
fn join(files: &[&[u8]]) -> Vec<u8> {
    files.join(SEPARATOR)
}

/// A file or folder of the fixtures.
fn fixture_path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(path)
}

/// A file of the fixtures.
fn fixture(path: &str) -> Vec<u8> {
    let path = fixture_path(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The inputs that libFuzzer found worth keeping, by name.
///
/// # Errors
/// A folder or file that cannot be read; a target without a folder has none.
pub fn corpus(target: &Target) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut paths = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        paths.push(entry?.path());
    }
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        Ok((path, bytes))
    };
    paths.into_iter().map(read).collect()
}

/// Seeds and corpus of a target, and after them `rounds` mutations.
///
/// # Errors
/// A file of the corpus or of the dictionary that cannot be read.
pub fn inputs(target: &Target, rounds: u64) -> Result<impl Iterator<Item = Vec<u8>>> {
    let mut given = (target.seeds)();
    given.extend(corpus(target)?.into_iter().map(|(_, bytes)| bytes));
    let mut mutator = mutate::Mutator::new(target, &given)?;
    Ok((0..given.len() as u64 + rounds).map(move |round| match given.get(round as usize) {
        Some(input) => input.clone(),
        None => mutator.next(&given),
    }))
}

/// The words of a target's dictionary, in libFuzzer's format: a quoted string a line, with `\xNN`, `\\` and `\"`.
///
/// # Errors
/// A file that cannot be read, or a line that is none of these.
pub fn dictionary(target: &Target) -> Result<Vec<Vec<u8>>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dictionaries").join(format!("{}.dict", target.name));
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| word(line).with_context(|| format!("{}: {line}", path.display()))).collect()
}

/// A line of a dictionary; none if it is malformed.
fn word(line: &str) -> Option<Vec<u8>> {
    let mut rest = line.strip_prefix('"')?.strip_suffix('"')?.as_bytes();
    let mut word = Vec::new();
    while let Some((&byte, after)) = rest.split_first() {
        let taken = match (byte, after) {
            (b'\\', [b'x', digits @ ..]) => {
                word.push(u8::from_str_radix(std::str::from_utf8(digits.get(..2)?).ok()?, 16).ok()?);
                3
            }
            (b'\\', [escaped @ (b'\\' | b'"'), ..]) => {
                word.push(*escaped);
                1
            }
            (b'\\', _) => return None,
            _ => {
                word.push(byte);
                0
            }
        };
        rest = &after[taken..];
    }
    Some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_what_was_joined_and_the_last_takes_the_rest() {
        assert_eq!(parts::<3>(&join(&[b"a", b"", b"c"])), [&b"a"[..], b"", b"c"]);
        assert_eq!(parts::<2>(&join(&[b"a", b"b", b"c"])), [&b"a"[..], b"b\n----\nc"]);
        assert_eq!(parts::<3>(b"a"), [&b"a"[..], b"", b""]);
    }

    #[test]
    fn words_of_a_dictionary_have_their_escapes_undone() {
        assert_eq!(word(r#""a\x00\\\"b""#), Some(b"a\0\\\"b".to_vec()));
        assert!([r#"a"#, r#""a"#, r#""\q""#, r#""\x0""#].iter().all(|line| word(line).is_none()));
    }

    #[test]
    fn every_dictionary_can_be_read_and_every_target_has_its_own_name() {
        let names: std::collections::BTreeSet<_> = targets::ALL.iter().map(|target| target.name).collect();
        assert_eq!(names.len(), targets::ALL.len());
        targets::ALL.iter().for_each(|target| drop(dictionary(target).unwrap()));
    }
}
