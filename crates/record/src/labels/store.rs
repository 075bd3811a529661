//! The files that labels are kept in.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Dictionary, LABEL_LIMIT, LABELS, LabelError, LabelProblem, TEXT_BYTES};
use crate::run::layer_name;
use crate::{json, open_file};

/// Longest line of a file of labels, in bytes.
const LINE_BYTES: u64 = 64 << 10;
const EXTENSION: &str = "jsonl";

/// A label and where it came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stored {
    /// What the feature means.
    pub description: String,
    /// The model that said so, if the export tells.
    pub by: String,
    /// How it was asked.
    pub method: String,
    /// When, as the export has it.
    pub written: String,
}

impl Stored {
    /// Whether this one is shown where there are two: the one that was written later, or else the one that comes first in
    /// the alphabet. So the order of files and lines does not count.
    pub(super) fn is_before(&self, other: &Stored) -> bool {
        let rest = |label: &Stored| (label.by.clone(), label.method.clone(), label.description.clone());
        self.written > other.written || (self.written == other.written && rest(self) < rest(other))
    }
}

#[derive(Serialize, Deserialize)]
struct Line {
    index: u32,
    #[serde(flatten)]
    label: Stored,
}

/// The file of a dictionary's labels in a folder of labels.
///
/// # Errors
/// If a name could lead out of the folder.
pub fn path_in_store(store: &Path, dictionary: &Dictionary) -> Result<PathBuf, LabelProblem> {
    let check = |what, name: &str| {
        let fine = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        let fine = fine && !name.starts_with('.') && (1..=100).contains(&name.len());
        if fine { Ok(()) } else { Err(LabelProblem::Name { what, name: name.chars().take(100).collect() }) }
    };
    check("modelId", &dictionary.model)?;
    check("layer", &dictionary.layer)?;
    Ok(store.join(&dictionary.model).join(format!("{}.{EXTENSION}", dictionary.layer)))
}

/// The file of labels of one layer of a run.
pub fn path_in_run(run: &Path, layer: usize) -> PathBuf {
    run.join(LABELS).join(format!("{}.{EXTENSION}", layer_name(layer)))
}

/// The dictionaries that have labels in a folder of labels, with the number of these; none if the folder is not there.
///
/// # Errors
/// If the folder or a file of it cannot be read.
pub fn list(store: &Path) -> Result<Vec<(Dictionary, usize)>, LabelError> {
    let entries = |folder: &Path| -> Result<Vec<String>, LabelError> {
        let read = || -> io::Result<Vec<String>> {
            let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            names.collect()
        };
        match read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            names => names.map_err(|error| LabelError::new(folder, None, LabelProblem::Read(error))),
        }
    };
    let mut found = Vec::new();
    for model in entries(store)? {
        let folder = store.join(&model);
        if !folder.is_dir() {
            continue;
        }
        for name in entries(&folder)? {
            if let Some(layer) = name.strip_suffix(EXTENSION).and_then(|name| name.strip_suffix('.')) {
                let count = read(&folder.join(&name))?.map_or(0, |labels| labels.len());
                found.push((Dictionary { model: model.clone(), layer: layer.to_owned() }, count));
            }
        }
    }
    // Layers in order of their numbers, which begin their names.
    let number = |layer: &str| layer.split('-').next().and_then(|number| number.parse::<u64>().ok());
    found.sort_by(|(a, _), (b, _)| (&a.model, number(&a.layer), &a.layer).cmp(&(&b.model, number(&b.layer), &b.layer)));
    Ok(found)
}

/// Reads a file of labels, if it is there.
pub(super) fn read(path: &Path) -> Result<Option<BTreeMap<u32, Stored>>, LabelError> {
    let file = match open_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| LabelError::new(path, None, LabelProblem::Read(error)))?,
    };
    let mut file = BufReader::new(file);
    let (mut labels, mut line) = (BTreeMap::new(), Vec::new());
    for number in 1.. {
        let fail = |problem| LabelError::new(path, Some(number), problem);
        line.clear();
        let length = file.by_ref().take(LINE_BYTES + 1).read_until(b'\n', &mut line);
        let length = length.map_err(|error| fail(LabelProblem::Read(error)))? as u64;
        if length == 0 {
            break;
        }
        if length > LINE_BYTES {
            return Err(fail(LabelProblem::LongLine(LINE_BYTES)));
        }
        let parsed: Result<Line, _> = serde_json::from_slice(&line);
        let Line { index, mut label } = parsed.map_err(|error| fail(LabelProblem::Json(json::explain(&error))))?;
        if index >= LABEL_LIMIT {
            return Err(fail(LabelProblem::Index(index.to_string())));
        }
        label.description.truncate(label.description.floor_char_boundary(TEXT_BYTES));
        labels.insert(index, label);
    }
    Ok(Some(labels))
}

/// Writes a file of labels: whole, or not at all.
pub(super) fn write(path: &Path, labels: &BTreeMap<u32, Stored>) -> Result<(), LabelError> {
    let mut lines = Vec::new();
    for (&index, label) in labels {
        serde_json::to_writer(&mut lines, &Line { index, label: label.clone() }).expect("texts are JSON");
        lines.push(b'\n');
    }
    let temporary = path.with_added_extension("tmp");
    let write = || -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        File::create(&temporary)?.write_all(&lines)?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        // What is left of it is of no use, and its removal may fail for the same reason.
        let _ = fs::remove_file(&temporary);
        LabelError::new(path, None, LabelProblem::Write(error))
    })
}
