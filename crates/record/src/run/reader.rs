//! Reading a run folder, or a bare tree of rows files as other tools write it. Nothing in it is trusted.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::{RunError, RunProblem};
use super::manifest::{FORMAT_VERSION, Manifest};
use super::records::{SentenceRecord, read_records};
use super::rows::{OutputRow, TokenRow, read_rows};
use super::{Fingerprint, LINE_LIMIT, MANIFEST, SENTENCES, layer_of, rows_path, sentence_of};
use crate::{json, open_file};

/// A run folder that was opened. Rows are read from disk when they are asked for.
#[derive(Clone, Debug)]
pub struct Run {
    /// The manifest; none in a tree of rows that another tool wrote.
    pub manifest: Option<Manifest>,
    path: PathBuf,
    layers: Vec<usize>,
    sentences: BTreeMap<usize, Vec<usize>>,
}

impl Run {
    /// Opens the run in the folder `dir` and lists its files.
    ///
    /// # Errors
    /// If it cannot be read, is not a run, or its manifest is broken or of another format version.
    pub fn open(dir: &Path) -> Result<Run, RunError> {
        let layers: Vec<usize> = numbers_in(dir, layer_of)?;
        let manifest = read_manifest(&dir.join(MANIFEST))?;
        if manifest.is_none() && layers.is_empty() {
            return Err(RunError::new(dir, RunProblem::NotARun));
        }
        let mut sentences = BTreeMap::new();
        for &layer in &layers {
            sentences.insert(layer, numbers_in(&dir.join(super::layer_name(layer)), sentence_of)?);
        }
        Ok(Run { manifest, path: dir.to_owned(), layers, sentences })
    }

    /// The run folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Layers that have a folder, ascending.
    pub fn layers(&self) -> &[usize] {
        &self.layers
    }

    /// Sentences that have a file at `layer`, ascending.
    pub fn sentences_in(&self, layer: usize) -> Vec<usize> {
        self.sentences.get(&layer).cloned().unwrap_or_default()
    }

    /// All rows of one sentence at one layer, in order of position.
    ///
    /// # Errors
    /// If there is no such file, or a line of it breaks what [`TokenRow`] promises: the error names file and line.
    pub fn rows(&self, layer: usize, sentence: usize) -> Result<Vec<TokenRow>, RunError> {
        let sae = self.manifest.iter().flat_map(|manifest| &manifest.saes).find(|sae| sae.layer == layer);
        read_rows(&rows_path(&self.path, layer, sentence), sae.map(|sae| sae.d_sae))
    }

    /// The sentences with their tokens, in order; none where a tree without manifest does not tell them.
    pub fn sentence_records(&self) -> Result<Vec<SentenceRecord>, RunError> {
        match read_records(&self.path.join(SENTENCES)) {
            Err(RunError { problem: RunProblem::Read(error), .. })
                if error.kind() == io::ErrorKind::NotFound && self.manifest.is_none() =>
            {
                Ok(Vec::new())
            }
            records => records,
        }
    }

    /// Reads all rows and computes their fingerprint anew; a manifest names the one that was written.
    pub fn fingerprint(&self) -> Result<Fingerprint, RunError> {
        let mut fingerprint = Fingerprint::default();
        for (&layer, sentences) in &self.sentences {
            for &sentence in sentences {
                let rows = self.rows(layer, sentence)?;
                fingerprint.add(layer, sentence, rows.iter().map(OutputRow::from));
            }
        }
        Ok(fingerprint)
    }
}

/// The numbers in the names of what lies in `dir`, ascending.
fn numbers_in(dir: &Path, number: fn(&str) -> Option<usize>) -> Result<Vec<usize>, RunError> {
    let list = || -> io::Result<Vec<usize>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(dir)? {
            numbers.extend(entry?.file_name().to_str().and_then(number));
        }
        numbers.sort_unstable();
        Ok(numbers)
    };
    list().map_err(|error| RunError::new(dir, RunProblem::Read(error)))
}

/// Reads the manifest at `path`; none where there is no such file.
pub fn read_manifest(path: &Path) -> Result<Option<Manifest>, RunError> {
    /// The version alone, to be looked at before the rest, which may have another shape.
    #[derive(Deserialize)]
    struct Version {
        format_version: u64,
    }
    let fail = |problem| RunError::new(path, problem);
    let file = match open_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| fail(RunProblem::Read(error)))?,
    };
    let mut bytes = Vec::new();
    file.take(LINE_LIMIT + 1).read_to_end(&mut bytes).map_err(|error| fail(RunProblem::Read(error)))?;
    if bytes.len() as u64 > LINE_LIMIT {
        return Err(fail(RunProblem::TooLong));
    }
    let broken = |error: serde_json::Error| fail(RunProblem::Json(error.to_string()));
    let Version { format_version } = serde_json::from_slice(&bytes).map_err(broken)?;
    if format_version != u64::from(FORMAT_VERSION) {
        return Err(fail(RunProblem::Version(format_version)));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(broken)
}

/// Reads a file of one JSON object a line; `check` judges and turns each of them into what is wanted.
pub(super) fn read_lines<Line: DeserializeOwned, T>(
    path: &Path,
    mut check: impl FnMut(Line) -> Result<T, RunProblem>,
) -> Result<Vec<T>, RunError> {
    let file = open_file(path).map_err(|error| RunError::new(path, RunProblem::Read(error)))?;
    let mut file = BufReader::new(file);
    let (mut items, mut line) = (Vec::new(), Vec::new());
    for number in 1.. {
        let fail = |problem| RunError::on_line(path, number, problem);
        line.clear();
        let length = file.by_ref().take(LINE_LIMIT + 1).read_until(b'\n', &mut line);
        let length = length.map_err(|error| fail(RunProblem::Read(error)))? as u64;
        if length == 0 {
            break;
        }
        if length > LINE_LIMIT {
            return Err(fail(RunProblem::TooLong));
        }
        let parsed = serde_json::from_slice(&line);
        let parsed = parsed.map_err(|error| fail(RunProblem::Json(json::explain(&error))))?;
        items.push(check(parsed).map_err(fail)?);
    }
    Ok(items)
}
