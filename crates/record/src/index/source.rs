//! The run that an index is made from, and the key that tells one state of it from another.

use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rayon::prelude::*;

use super::container::{Key, VERSION};
use super::error::IndexError;
use super::health::{FindingKind, Findings};
use crate::open_file;
use crate::run::{
    LINE_LIMIT, MANIFEST, Manifest, RunError, RunProblem, SENTENCES, layer_name, layer_of, read_manifest,
    sentence_name, sentence_of,
};

/// Most files of rows whose sizes and times are all part of the key. A larger run that is complete is known by its
/// manifest, which holds a fingerprint of all rows, and by its folders: to ask for every file would take longer than
/// everything else at the start.
const EVERY_FILE: u64 = 50_000;
/// Largest layer number: no model has as many.
const LAYER_LIMIT: usize = 10_000;

/// A run folder, or a bare tree of rows.
#[derive(Debug)]
pub(super) struct Source {
    pub run: PathBuf,
    pub manifest: Option<Manifest>,
    /// The layers that have a folder, ascending.
    pub layers: Vec<usize>,
    pub key: Key,
    /// What is wrong with the run as a whole.
    pub findings: Findings,
}

/// A file of rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowsFile {
    pub sentence: usize,
    pub bytes: u64,
}

impl Source {
    /// Looks at a run. What is wrong with it is a finding, unless nothing at all could be shown.
    pub fn look(run: &Path) -> Result<Source, IndexError> {
        let mut findings = Findings::default();
        let mut manifest_bytes = Vec::new();
        // What cannot be read is told below.
        let _ = open_file(&run.join(MANIFEST)).and_then(|file| file.take(LINE_LIMIT).read_to_end(&mut manifest_bytes));
        let mut broken = false;
        let manifest = match read_manifest(&run.join(MANIFEST)) {
            Ok(manifest) => manifest,
            Err(error) if matches!(error.problem, RunProblem::Version(_)) => return Err(error.into()),
            Err(error) => {
                broken = true;
                findings.add(FindingKind::BrokenManifest, None, MANIFEST, None, error.problem.to_string());
                None
            }
        };
        let layers = layers(run, &mut findings)?;
        match &manifest {
            None if layers.is_empty() && !broken => {
                return Err(RunError { path: run.to_owned(), line: None, problem: RunProblem::NotARun }.into());
            }
            None if !broken => findings.add(FindingKind::NoManifest, None, MANIFEST, None, String::new()),
            None => {}
            Some(manifest) => judge(manifest, &layers, &mut findings),
        }
        let key = key(run, &manifest_bytes, manifest.as_ref(), &layers)?;
        Ok(Source { run: run.to_owned(), manifest, layers, key, findings })
    }

    /// Size of the layer's dictionary, where the manifest tells it.
    pub fn d_sae(&self, layer: usize) -> Option<usize> {
        let manifest = self.manifest.as_ref()?;
        let sae = manifest.saes.iter().find(|sae| sae.layer == layer).map(|sae| sae.d_sae);
        sae.or_else(|| manifest.layers.iter().find(|summary| summary.layer == layer).map(|summary| summary.d_sae))
    }

    /// The hook point that the layer's dictionary reads, where the manifest tells it.
    pub fn hook(&self, layer: usize) -> &str {
        let saes = self.manifest.iter().flat_map(|manifest| &manifest.saes);
        saes.filter(|sae| sae.layer == layer).map(|sae| sae.hook.as_str()).next().unwrap_or_default()
    }

    /// The files of a layer's rows, by sentence.
    pub fn files(&self, layer: usize, findings: &mut Findings) -> Result<Vec<RowsFile>, IndexError> {
        let folder = self.run.join(layer_name(layer));
        let names = names(&folder).map_err(|error| IndexError::read(&folder, error))?;
        let mut sentences: Vec<usize> = Vec::with_capacity(names.len());
        for name in &names {
            match sentence_of(name) {
                Some(sentence) => sentences.push(sentence),
                None => {
                    let file = format!("{}/{name}", layer_name(layer));
                    findings.add(FindingKind::UnknownFile, Some(layer), &file, None, String::new());
                }
            }
        }
        sentences.sort_unstable();
        let size = |sentence: usize| {
            // One that is gone or cannot be looked at is told when it is opened.
            let bytes = fs::metadata(folder.join(sentence_name(sentence))).map_or(0, |metadata| metadata.len());
            RowsFile { sentence, bytes }
        };
        Ok(sentences.into_par_iter().map(size).collect())
    }
}

/// The names in a folder, sorted; those that are not Unicode with marks in place of what is not.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

fn layers(run: &Path, findings: &mut Findings) -> Result<Vec<usize>, IndexError> {
    let unreadable =
        |error| IndexError::from(RunError { path: run.to_owned(), line: None, problem: RunProblem::Read(error) });
    let mut layers = Vec::new();
    for name in names(run).map_err(unreadable)? {
        match layer_of(&name) {
            Some(layer) if layer <= LAYER_LIMIT => match fs::metadata(run.join(&name)) {
                Ok(metadata) if metadata.is_dir() => layers.push(layer),
                Ok(_) => findings.add(FindingKind::UnreadableFile, None, &name, None, "it is not a folder".into()),
                Err(error) => findings.add(FindingKind::UnreadableFile, None, &name, None, error.to_string()),
            },
            Some(_) => findings.add(FindingKind::UnknownFile, None, &name, None, String::new()),
            None => {}
        }
    }
    layers.sort_unstable();
    Ok(layers)
}

/// What a manifest tells of what is missing.
fn judge(manifest: &Manifest, layers: &[usize], findings: &mut Findings) {
    if !manifest.complete {
        let what = format!("its status is {:?}", manifest.status).to_lowercase();
        findings.add(FindingKind::Incomplete, None, MANIFEST, None, what);
    }
    for sae in manifest.saes.iter().filter(|sae| !layers.contains(&sae.layer)) {
        findings.add(FindingKind::MissingLayer, Some(sae.layer), &layer_name(sae.layer), None, String::new());
    }
}

fn key(run: &Path, manifest_bytes: &[u8], manifest: Option<&Manifest>, layers: &[usize]) -> Result<Key, IndexError> {
    let mut hasher = blake3::Hasher::new();
    let mut number = |number: u64| {
        hasher.update(&number.to_le_bytes());
    };
    number(VERSION.into());
    number(manifest_bytes.len() as u64);
    stamp(fs::metadata(run.join(SENTENCES)).ok().as_ref()).into_iter().for_each(&mut number);
    let files = manifest.map_or(0, |manifest| manifest.counts.sentences.saturating_mul(layers.len() as u64));
    let by_manifest = manifest.is_some_and(|manifest| manifest.complete) && files > EVERY_FILE;
    for &layer in layers {
        let folder = run.join(layer_name(layer));
        number(layer as u64);
        stamp(fs::metadata(&folder).ok().as_ref()).into_iter().for_each(&mut number);
        if !by_manifest {
            let names = names(&folder).map_err(|error| IndexError::read(&folder, error))?;
            let stamps: Vec<_> =
                names.par_iter().map(|name| stamp(fs::metadata(folder.join(name)).ok().as_ref())).collect();
            number(names.len() as u64);
            for (name, stamp) in names.iter().zip(stamps) {
                number(sentence_of(name).map_or(u64::MAX, |sentence| sentence as u64));
                stamp.into_iter().for_each(&mut number);
            }
        }
    }
    Ok(*hasher.update(manifest_bytes).finalize().as_bytes())
}

/// Size and time of the last change.
fn stamp(metadata: Option<&Metadata>) -> [u64; 2] {
    let Some(metadata) = metadata else {
        return [u64::MAX; 2];
    };
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let size = if metadata.is_dir() { 0 } else { metadata.len() };
    [size, modified.map_or(0, |time| time.as_nanos() as u64)]
}
