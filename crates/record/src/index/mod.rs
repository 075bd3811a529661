//! The index beside a run: what a viewer asks for, found without reading rows as text.
//!
//! ```text
//! run_20260102_030405/index/
//! ├── texts.idx               texts and origins of the sentences; what was found wrong with the run
//! ├── tokens.idx              their tokens, and how rows are numbered
//! ├── layer_00.rows.idx       the active features of every row, by sentence
//! └── layer_00.postings.idx   the rows of every feature, with statistics, histogram and slot
//! ```
//!
//! A row is a token that is not BOS. Rows are numbered from 0 over the whole run, in order of sentences and positions, and
//! have the same number at every layer; a layer may lack some of them.
//!
//! Everything here can be made again from the run, and is whenever it is missing, of another state of the run, or damaged:
//! see [`RunIndex::open_or_build`]. The format of the files is described in `container` and beside each kind of file.
//! Values are the f32 of the rows, bit for bit.

mod build;
mod build_layer;
mod clean;
mod container;
mod error;
mod gather;
mod health;
mod layer;
pub(crate) mod parse;
mod rows;
mod search;
mod source;
mod tables;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use build::Watch;
pub use error::{IndexError, IndexProblem};
pub use health::{Example, Finding, FindingKind, Health, Severity};
pub use layer::{FeatureStats, HISTOGRAM_BINS, LayerIndex, Posting, Postings, RANK_CAP, bin_edge, bin_of};
pub use rows::{Ids, Row, SentenceRows};
pub use search::{Found, Query};
pub use tables::IndexedSentence;

use build::Claim;
use source::Source;
use tables::{TEXTS, TOKENS, TextTable, TokenTable};

use crate::Sentence;
use crate::run::{Manifest, SentenceRecord};

/// Name of the index's folder in a run folder.
pub const INDEX: &str = "index";

/// A run with its index. Threads may share it.
#[derive(Debug)]
pub struct RunIndex {
    run: PathBuf,
    manifest: Option<Manifest>,
    generation: String,
    health: Health,
    first_rows: Arc<[u32]>,
    texts: TextTable,
    tokens: TokenTable,
    layers: Vec<LayerIndex>,
}

/// Where a row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowPlace {
    /// The sentence.
    pub sentence: usize,
    /// Which of the sentence's rows, from 0: the token is the one at the `nth` of its
    /// [`output_positions`](crate::Tokens::output_positions).
    pub nth: usize,
}

impl RunIndex {
    /// Opens the index of the run in the folder `run`, a bare tree of rows included. One that is missing, damaged or of
    /// another state of the run is built anew first. Where nothing can be written to the run folder, the index lies in a
    /// folder of its own in `cache`, if one is given.
    ///
    /// # Errors
    /// If the folder is no run, or one of another format version; if the index cannot be written or read; if `watch` asks
    /// to stop. What else is wrong with a run is told by [`RunIndex::health`].
    pub fn open_or_build(run: &Path, cache: Option<&Path>, watch: &dyn Watch) -> Result<RunIndex, IndexError> {
        let source = Source::look(run)?;
        match open(&source, &folders(run, cache)) {
            Err(error) if error.is_curable() => {}
            result => return result,
        }
        build(source, cache, false, watch)
    }

    /// Opens the index of a run, and never builds one.
    ///
    /// # Errors
    /// As [`RunIndex::open_or_build`], and if it would build: [`IndexError::is_curable`] says so.
    pub fn open(run: &Path, cache: Option<&Path>) -> Result<RunIndex, IndexError> {
        open(&Source::look(run)?, &folders(run, cache))
    }

    /// Builds the index of a run anew, whatever is there.
    ///
    /// # Errors
    /// As [`RunIndex::open_or_build`].
    pub fn build(run: &Path, cache: Option<&Path>, watch: &dyn Watch) -> Result<RunIndex, IndexError> {
        build(Source::look(run)?, cache, true, watch)
    }

    /// Reads every byte of the index and checks it.
    pub fn verify(&self) -> Result<(), IndexError> {
        self.texts.file().verify_all()?;
        self.tokens.file().verify_all()?;
        self.layers.iter().try_for_each(LayerIndex::verify)
    }

    /// The run folder.
    pub fn path(&self) -> &Path {
        &self.run
    }

    /// The run's manifest; none in a bare tree, or where it cannot be read.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// The state of the run that this is the index of, in hexadecimal: another state has another one.
    pub fn generation(&self) -> &str {
        &self.generation
    }

    /// What was found wrong with the run.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Bytes of all its files.
    pub fn bytes(&self) -> u64 {
        let tables = self.texts.file().size() + self.tokens.file().size();
        tables + self.layers.iter().map(LayerIndex::bytes).sum::<u64>()
    }

    /// How many sentences the run has; they are numbered from 0.
    pub fn sentences(&self) -> usize {
        self.first_rows.len() - 1
    }

    /// How many rows the run has at a layer that lacks none.
    pub fn rows(&self) -> u32 {
        self.first_rows[self.sentences()]
    }

    /// The numbers of a sentence's rows; none for a sentence that is not there.
    pub fn rows_of(&self, sentence: usize) -> Range<u32> {
        self.first_rows.get(sentence..sentence.saturating_add(2)).map_or(0..0, |bounds| bounds[0]..bounds[1])
    }

    /// Where a row stands; none for one that is not there.
    pub fn place(&self, row: u32) -> Option<RowPlace> {
        if row >= self.rows() {
            return None;
        }
        let sentence = self.first_rows.partition_point(|&first| first <= row) - 1;
        Some(RowPlace { sentence, nth: (row - self.first_rows[sentence]) as usize })
    }

    /// A sentence with its tokens.
    ///
    /// # Errors
    /// [`IndexProblem::NoSentence`]; [`IndexProblem::Corrupt`], after which the index is to be built anew.
    pub fn sentence(&self, number: usize) -> Result<IndexedSentence, IndexError> {
        let text = self.text(number)?.to_owned();
        let (tokens, from_rows) = self.tokens.tokens(number)?;
        let in_text = tokens.spans.iter().all(|span| text.get(span.start as usize..span.end as usize).is_some());
        let rows = self.rows_of(number);
        if !in_text || tokens.output_positions().count() != rows.len() {
            return Err(self.tokens.file().corrupt("the tokens of a sentence"));
        }
        let sentence = Sentence { text, source: self.texts.source(number)? };
        Ok(IndexedSentence { record: SentenceRecord { index: number, sentence, tokens }, from_rows, rows })
    }

    /// The text of a sentence.
    ///
    /// # Errors
    /// As [`RunIndex::sentence`].
    pub fn text(&self, number: usize) -> Result<&str, IndexError> {
        self.check(number)?;
        self.texts.text(number)
    }

    /// How many tokens a sentence has, BOS included.
    ///
    /// # Errors
    /// As [`RunIndex::sentence`].
    pub fn token_count(&self, number: usize) -> Result<usize, IndexError> {
        self.check(number)?;
        self.tokens.token_count(number)
    }

    /// The file and line that a sentence came from; an empty name and line 0 where the run does not tell.
    ///
    /// # Errors
    /// As [`RunIndex::sentence`].
    pub fn source(&self, number: usize) -> Result<crate::Source, IndexError> {
        self.check(number)?;
        self.texts.source(number)
    }

    fn check(&self, number: usize) -> Result<(), IndexError> {
        let sentences = self.sentences();
        let there = number < sentences;
        there.then_some(()).ok_or_else(|| IndexError::new(&self.run, IndexProblem::NoSentence { number, sentences }))
    }

    /// The layers, ascending.
    pub fn layers(&self) -> &[LayerIndex] {
        &self.layers
    }

    /// A layer by its number.
    pub fn layer(&self, number: usize) -> Option<&LayerIndex> {
        self.layers.binary_search_by_key(&number, LayerIndex::number).ok().map(|at| &self.layers[at])
    }
}

/// Where the index of a run may lie: in the run, or in a folder of the cache named after the run's place.
fn folders(run: &Path, cache: Option<&Path>) -> Vec<PathBuf> {
    let place = std::path::absolute(run).unwrap_or_else(|_| run.to_owned());
    let name = blake3::hash(place.as_os_str().as_encoded_bytes()).to_hex();
    let in_cache = cache.map(|cache| cache.join(&name[..32]));
    std::iter::once(run.join(INDEX)).chain(in_cache).collect()
}

/// Opens the first of several folders that holds the index of this state; the error is that of the first.
fn open(source: &Source, folders: &[PathBuf]) -> Result<RunIndex, IndexError> {
    let mut first = None;
    for folder in folders {
        match open_in(source, folder) {
            Ok(index) => return Ok(index),
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    Err(first.unwrap_or_else(|| IndexError::new(&source.run, IndexProblem::Missing)))
}

fn open_in(source: &Source, folder: &Path) -> Result<RunIndex, IndexError> {
    let key = source.key;
    let texts = TextTable::open(&folder.join(TEXTS), key)?;
    let tokens = TokenTable::open(&folder.join(TOKENS), key)?;
    let first_rows: Arc<[u32]> = tokens.first_rows()?.into();
    let mut health = texts.health()?;
    let mut layers = Vec::with_capacity(source.layers.len());
    for &number in &source.layers {
        let layer = LayerIndex::open(folder, number, source.hook(number), key, first_rows.clone())?;
        health.merge(layer.health()?);
        layers.push(layer);
    }
    let generation = blake3::Hash::from_bytes(key).to_hex()[..32].to_owned();
    let (run, manifest) = (source.run.clone(), source.manifest.clone());
    Ok(RunIndex { run, manifest, generation, health, first_rows, texts, tokens, layers })
}

/// Builds in the run folder, or in the cache where that is not possible.
fn build(source: Source, cache: Option<&Path>, anew: bool, watch: &dyn Watch) -> Result<RunIndex, IndexError> {
    let mut folders = folders(&source.run, cache).into_iter();
    let (first, second) = (folders.next().unwrap_or_default(), folders.next());
    let (claim, folder) = match (Claim::wait(&first), second) {
        (Ok(claim), _) => (claim, first),
        (Err(error), Some(second)) if error.is_forbidden() => (Claim::wait(&second)?, second),
        (Err(error), _) => return Err(error),
    };
    if !anew {
        // Somebody else may have built it while we waited.
        match open_in(&source, &folder) {
            Err(error) if error.is_curable() => {}
            result => return result,
        }
    }
    build::build(&source, &folder, &claim, watch)?;
    open_in(&source, &folder)
}

#[cfg(test)]
mod tests;
