//! What is finished of a run: the hash of every file of rows, in the order in which they were written (the journal of a
//! run at work) or in theirs (`rows.b3sum` of a finished one).
//!
//! A line of the journal is written after the files that it names, and none of it is believed without them: a file
//! counts when its bytes have the hash that stands here. So neither has to be waited for until it is on the disk, and a
//! journal that lost its end costs work and nothing else.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use blake3::Hash;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::disk::Asked;
use super::error::{RunError, RunProblem};
use super::manifest::Manifest;
use super::{JOURNAL, LINE_LIMIT, RESUME, SUMS, layer_name, rows_path, sentence_name};
use crate::open_file;

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Entry {
    /// Files of rows are whole.
    Rows {
        /// Their layer.
        layer: usize,
        /// The first of their sentences, which follow one another.
        first: usize,
        /// BLAKE3 of each file.
        blake3: Vec<Hex>,
    },
    /// Weights were read: a later part of the run must read the same.
    Weights {
        /// Which ones, such as `layer 3`.
        part: String,
        /// Their BLAKE3.
        blake3: Hex,
    },
}

/// A hash that is written in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex(pub Hash);

impl Serialize for Hex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_hex())
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Hash::from_hex(text).map(Hex).map_err(serde::de::Error::custom)
    }
}

/// The journal of a run, open for more.
#[derive(Debug)]
pub struct Journal {
    file: Asked,
    path: PathBuf,
}

impl Journal {
    pub(super) fn new(file: Asked, path: PathBuf) -> Self {
        Journal { file, path }
    }

    /// Appends a line.
    pub fn append(&mut self, entry: &Entry) -> Result<(), RunError> {
        let mut line = serde_json::to_vec(entry).expect("an entry can be written");
        line.push(b'\n');
        self.file.write_all(&line).map_err(|error| RunError::new(&self.path, RunProblem::Write(error)))
    }
}

/// What is finished of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    /// By layer and sentence, the hash of each file that is there: as many as were named, whatever a manifest says.
    files: BTreeMap<usize, BTreeMap<usize, Hash>>,
    /// How many sentences the run has.
    sentences: usize,
    /// Files that were written together.
    groups: Vec<Group>,
    /// Hashes of the weights by part.
    weights: BTreeMap<String, Hash>,
}

#[derive(Clone, Debug, PartialEq)]
struct Group {
    layer: usize,
    sentences: Range<usize>,
}

impl Ledger {
    /// Nothing of a run of these layers and so many sentences.
    pub fn new(layers: impl IntoIterator<Item = usize>, sentences: usize) -> Ledger {
        let files = layers.into_iter().map(|layer| (layer, BTreeMap::new())).collect();
        Ledger { files, sentences, ..Ledger::default() }
    }

    /// What a run folder holds according to its journal, or to its `rows.b3sum` if it was finished; every file named
    /// there is read and hashed. Of a group of files that were written together, all are there or none counts.
    ///
    /// `stop` is asked now and then whether to leave it; nothing more counts as there then.
    ///
    /// # Errors
    /// A journal that cannot be read. What is wrong in it is not there.
    pub fn load(run: &Path, manifest: &Manifest, stop: &(dyn Fn() -> bool + Sync)) -> Result<Ledger, RunError> {
        let claimed = Ledger::claimed(run, manifest)?;
        let whole = |group: &Group| {
            group.sentences.clone().all(|sentence| {
                if stop() {
                    return false;
                }
                let found = hash_of(&rows_path(run, group.layer, sentence)).ok();
                found.is_some() && found == claimed.hash(group.layer, sentence)
            })
        };
        let kept: Vec<bool> = claimed.groups.par_iter().map(whole).collect();
        let mut ledger = claimed.clone();
        ledger.groups = Vec::new();
        for (group, kept) in claimed.groups.into_iter().zip(kept) {
            if kept {
                ledger.groups.push(group);
            } else {
                let files = ledger.files.get_mut(&group.layer).expect("claimed by layer");
                group.sentences.for_each(|sentence| _ = files.remove(&sentence));
            }
        }
        Ok(ledger)
    }

    /// What journal or `rows.b3sum` say, whether or not it is so.
    pub(super) fn claimed(run: &Path, manifest: &Manifest) -> Result<Ledger, RunError> {
        let sentences = manifest.counts.sentences as usize;
        let layers = || manifest.saes.iter().map(|sae| sae.layer);
        let mut ledger = Ledger::new(layers(), sentences);
        let path = run.join(RESUME).join(JOURNAL);
        match open_file(&path) {
            Ok(file) => {
                ledger.read(file).map_err(|error| RunError::new(&path, RunProblem::Read(error)))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let Some(sums) = read_sums(run, manifest) else {
                    return Ok(ledger);
                };
                for (place, hash) in ledger.files().collect::<Vec<_>>().into_iter().zip(sums) {
                    let (layer, first) = place;
                    ledger.add(Entry::Rows { layer, first, blake3: vec![Hex(hash)] });
                }
            }
            Err(error) => return Err(RunError::new(&path, RunProblem::Read(error))),
        }
        Ok(ledger)
    }

    /// Takes in the lines of a journal. One that is none is its torn end, or damage: what it named is computed again.
    fn read(&mut self, journal: impl Read) -> io::Result<()> {
        each_line(journal, |line| serde_json::from_slice(line).into_iter().for_each(|entry| self.add(entry)))
    }

    /// Takes in what a line says; nothing if it names what cannot be or is there already.
    pub fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Rows { layer, first, blake3 } => {
                let Some(files) = self.files.get_mut(&layer) else { return };
                let end = first.checked_add(blake3.len()).filter(|end| *end <= self.sentences);
                let Some(end) = end else { return };
                if files.range(first..end).next().is_none() {
                    files.extend((first..end).zip(blake3.into_iter().map(|hash| hash.0)));
                    self.groups.push(Group { layer, sentences: first..end });
                }
            }
            Entry::Weights { part, blake3 } => {
                self.weights.entry(part).or_insert(blake3.0);
            }
        }
    }

    /// Writes the lines of a journal that says all this.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut line = |entry: &Entry| {
            serde_json::to_writer(&mut *out, entry)?;
            out.write_all(b"\n")
        };
        for (part, hash) in &self.weights {
            line(&Entry::Weights { part: part.clone(), blake3: Hex(*hash) })?;
        }
        for Group { layer, sentences } in &self.groups {
            let hashes = self.files[layer].range(sentences.clone()).map(|(_, hash)| Hex(*hash)).collect();
            line(&Entry::Rows { layer: *layer, first: sentences.start, blake3: hashes })?;
        }
        Ok(())
    }

    /// Every (layer, sentence) that the run is to have, in ascending order.
    pub fn files(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.files.keys().flat_map(|&layer| (0..self.sentences).map(move |sentence| (layer, sentence)))
    }

    /// The hash of a file that is there.
    pub fn hash(&self, layer: usize, sentence: usize) -> Option<Hash> {
        self.files.get(&layer)?.get(&sentence).copied()
    }

    /// Whether these sentences' files of a layer are all there.
    pub fn has(&self, layer: usize, sentences: &Range<usize>) -> bool {
        self.files.get(&layer).is_some_and(|files| files.range(sentences.clone()).count() == sentences.len())
    }

    /// How many sentences have all their files.
    pub fn finished_sentences(&self) -> usize {
        let everywhere = |sentence: &&usize| self.files.values().all(|files| files.contains_key(sentence));
        self.files.values().next().map_or(0, |files| files.keys().filter(everywhere).count())
    }

    /// How many files are there.
    pub fn finished_files(&self) -> usize {
        self.files.values().map(BTreeMap::len).sum()
    }

    /// Whether every file is there.
    pub fn is_whole(&self) -> bool {
        self.files.values().all(|files| files.len() == self.sentences)
    }

    /// The hash of a part of the weights, if it was read before.
    pub fn weights(&self, part: &str) -> Option<Hash> {
        self.weights.get(part).copied()
    }
}

/// Writes the list of all files: a line each as `b3sum` writes and checks it.
pub(super) fn write_sums(ledger: &Ledger, out: &mut impl Write) -> io::Result<()> {
    for (layer, sentence) in ledger.files() {
        let hash = ledger.hash(layer, sentence).ok_or_else(|| io::Error::other("a file of rows was not written"))?;
        writeln!(out, "{}  {}/{}", hash.to_hex(), layer_name(layer), sentence_name(sentence))?;
    }
    Ok(())
}

/// The hashes of all files of rows of a finished run, by layer and sentence; none if the list is not what it was when
/// the run was finished.
fn read_sums(run: &Path, manifest: &Manifest) -> Option<Vec<Hash>> {
    let expected = manifest.rows_blake3.as_ref()?;
    let path = run.join(SUMS);
    if hash_of(&path).ok()?.to_hex().as_str() != expected {
        return None;
    }
    let ledger = Ledger::new(manifest.saes.iter().map(|sae| sae.layer), manifest.counts.sentences as usize);
    let mut hashes = Vec::new();
    let mut places = ledger.files();
    let mut right = true;
    let read = each_line(open_file(&path).ok()?, |line| {
        let name = places.next().map(|(layer, sentence)| format!("{}/{}", layer_name(layer), sentence_name(sentence)));
        let parts = std::str::from_utf8(line).ok().and_then(|line| line.trim_end_matches('\n').split_once("  "));
        match (parts.and_then(|(hash, _)| Hash::from_hex(hash).ok()), parts.map(|(_, name)| name)) {
            (Some(hash), found) if found == name.as_deref() => hashes.push(hash),
            _ => right = false,
        }
    });
    (read.is_ok() && right && places.next().is_none()).then_some(hashes)
}

/// The BLAKE3 of a file.
pub(super) fn hash_of(path: &Path) -> io::Result<Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(open_file(path)?)?;
    Ok(hasher.finalize())
}

/// Gives every line of a file that is not too long.
fn each_line(file: impl Read, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut file = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        if file.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        take(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(layer: usize, first: usize, names: &[&str]) -> Entry {
        let blake3 = names.iter().map(|name| Hex(blake3::hash(name.as_bytes()))).collect();
        Entry::Rows { layer, first, blake3 }
    }

    #[test]
    fn a_ledger_is_written_and_read_back() {
        let mut ledger = Ledger::new([0, 7], 3);
        ledger.add(Entry::Weights { part: "layer 0".into(), blake3: Hex(blake3::hash(b"w")) });
        ledger.add(rows(0, 0, &["a", "b"]));
        ledger.add(rows(7, 1, &["c"]));
        assert!(ledger.has(0, &(0..2)) && !ledger.has(0, &(0..3)) && !ledger.has(1, &(0..1)));
        assert_eq!((ledger.finished_sentences(), ledger.finished_files(), ledger.is_whole()), (1, 3, false));
        let mut text = Vec::new();
        ledger.write(&mut text).unwrap();
        let mut again = Ledger::new([0, 7], 3);
        again.read(&text[..]).unwrap();
        assert_eq!(again, ledger);
    }

    #[test]
    fn a_journal_that_is_cut_or_changed_anywhere_names_no_file_that_was_not_written() {
        let mut ledger = Ledger::new([0, 7], 3);
        for entry in [rows(0, 0, &["a", "b"]), rows(7, 1, &["c"]), rows(0, 2, &["d"])] {
            ledger.add(entry);
        }
        let mut text = Vec::new();
        ledger.write(&mut text).unwrap();
        let mut last = 0;
        for cut in 0..text.len() {
            let mut part = Ledger::new([0, 7], 3);
            part.read(&text[..cut]).unwrap();
            assert!(ledger.files().all(|(layer, sentence)| {
                let hash = part.hash(layer, sentence);
                hash.is_none() || hash == ledger.hash(layer, sentence)
            }));
            assert!(part.finished_files() >= last, "cut at {cut}");
            last = part.finished_files();
            // A line is there or not; the others are there as they were.
            let mut changed = text.clone();
            changed[cut] = 0xff;
            let mut part = Ledger::new([0, 7], 3);
            part.read(&changed[..]).unwrap();
            assert!((1..=3).contains(&part.finished_files()), "changed at {cut}: {part:?}");
        }
    }

    #[test]
    fn a_manifest_that_lies_of_its_size_takes_no_memory() {
        let mut ledger = Ledger::new([0, 1], usize::MAX);
        ledger.add(rows(0, usize::MAX - 2, &["a", "b"]));
        assert_eq!((ledger.finished_files(), ledger.finished_sentences(), ledger.is_whole()), (2, 0, false));
        assert!(write_sums(&ledger, &mut Vec::new()).is_err());
    }

    #[test]
    fn a_line_that_cannot_be_adds_nothing() {
        let mut ledger = Ledger::new([0], 3);
        ledger.add(rows(0, 1, &["a"]));
        let before = ledger.clone();
        for entry in [rows(1, 0, &["a"]), rows(0, 2, &["a", "b"]), rows(0, usize::MAX, &["a"]), rows(0, 0, &["x", "y"])]
        {
            ledger.add(entry);
            assert_eq!(ledger, before);
        }
    }
}
