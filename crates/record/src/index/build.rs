//! Building an index: the tables of sentences and tokens first, then the layers.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::build_layer;
use super::error::{IndexError, IndexProblem};
use super::gather;
use super::health::Findings;
use super::layer::file_names;
use super::source::{RowsFile, Source};
use super::tables::{TEXTS, TOKENS, TablesWriter, TokenTable};

/// Layers that are built at the same time. Each takes the memory of [`build_layer`] and uses all threads while it parses.
const LAYERS_AT_ONCE: usize = 2;
/// Held while an index is built.
const LOCK: &str = "lock";
const UNFINISHED: &str = "tmp";

/// Somebody who watches an index being built. Methods are called from several threads.
pub trait Watch: Sync {
    /// So much of the work is done; it goes by the bytes of the rows.
    fn progress(&self, _done: u64, _total: u64) {}

    /// Whether to stop at the next occasion.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Nobody watches.
impl Watch for () {}

/// Adds up what is done.
pub(super) struct Watched<'a> {
    watch: &'a dyn Watch,
    done: AtomicU64,
    total: AtomicU64,
}

impl<'a> Watched<'a> {
    pub fn new(watch: &'a dyn Watch) -> Self {
        Watched { watch, done: AtomicU64::new(0), total: AtomicU64::new(0) }
    }

    /// There is more to do.
    pub fn more(&self, work: u64) {
        self.total.fetch_add(work, Ordering::Relaxed);
    }

    pub fn advance(&self, work: u64) {
        let done = self.done.fetch_add(work, Ordering::Relaxed) + work;
        self.watch.progress(done, self.total.load(Ordering::Relaxed));
    }

    /// An error if somebody wants it to stop.
    pub fn check(&self) -> Result<(), IndexError> {
        if self.watch.cancelled() { Err(IndexError::new(Path::new(""), IndexProblem::Cancelled)) } else { Ok(()) }
    }
}

/// The right to build in a folder: one at a time, for as long as this lives.
pub(super) struct Claim {
    _lock: Option<File>,
}

impl Claim {
    /// Makes the folder and waits until nobody else builds there.
    pub fn wait(folder: &Path) -> Result<Claim, IndexError> {
        fs::create_dir_all(folder).map_err(|error| IndexError::write(folder, error))?;
        let path = folder.join(LOCK);
        let file = File::create(&path).map_err(|error| IndexError::write(&path, error))?;
        match file.lock() {
            Ok(()) => Ok(Claim { _lock: Some(file) }),
            // Some network file systems have none: files are renamed when whole, so two builders only do the work twice.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(Claim { _lock: None }),
            Err(error) => Err(IndexError::write(&path, error)),
        }
    }
}

/// Builds all files in `folder`.
pub(super) fn build(source: &Source, folder: &Path, _claim: &Claim, watch: &dyn Watch) -> Result<(), IndexError> {
    clear(folder, |name| name.ends_with(UNFINISHED))?;
    let watch = Watched::new(watch);
    let unfinished = |name: &str| folder.join(name).with_added_extension(UNFINISHED);
    let mut layers: Vec<(usize, Vec<RowsFile>)> = Vec::with_capacity(source.layers.len());
    let mut found: Vec<Findings> = Vec::with_capacity(source.layers.len());
    for &layer in &source.layers {
        let mut findings = Findings::default();
        layers.push((layer, source.files(layer, &mut findings)?));
        found.push(findings);
    }
    watch.more(layers.iter().flat_map(|(_, files)| files).map(|file| build_layer::work(file.bytes)).sum());

    let mut findings = source.findings.clone();
    let mut tables = TablesWriter::create(&unfinished(TEXTS), &unfinished(TOKENS))?;
    gather::write_sentences(source, &layers, &mut tables, &mut findings, &watch)?;
    let texts = tables.finish_tokens(source.key)?;
    let tokens = TokenTable::open(&unfinished(TOKENS), source.key)?;

    let mut work: Vec<_> = layers.iter().zip(found).collect();
    for some in work.chunks_mut(LAYERS_AT_ONCE) {
        let built: Result<Vec<()>, IndexError> = some
            .par_iter_mut()
            .map(|((layer, files), findings)| {
                let paths = file_names(*layer).map(|name| unfinished(&name));
                build_layer::build(source, *layer, files, &tokens, paths, std::mem::take(findings), &watch)
            })
            .collect();
        built?;
    }
    texts.finish(source.key, &findings.into_health())?;

    let mut names = vec![TEXTS.to_owned(), TOKENS.to_owned()];
    names.extend(source.layers.iter().flat_map(|&layer| file_names(layer)));
    for name in &names {
        let path = folder.join(name);
        fs::rename(unfinished(name), &path).map_err(|error| IndexError::write(&path, error))?;
    }
    clear(folder, |name| name.ends_with(".idx") && !names.iter().any(|own| own == name))
}

/// Removes files of ours that are of no use: what was left unfinished, layers that are gone.
fn clear(folder: &Path, of_no_use: impl Fn(&str) -> bool) -> Result<(), IndexError> {
    let entries = fs::read_dir(folder).map_err(|error| IndexError::read(folder, error))?;
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(&of_no_use) {
            // What cannot be removed is overwritten or ignored.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}
