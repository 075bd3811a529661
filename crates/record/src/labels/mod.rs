//! What features mean, in words: texts that others wrote and the user brought here.
//!
//! ```text
//! outputs/
//! ├── labels/llama3.1-8b/12-llamascope-res-32k.jsonl      for every run in `outputs` with that dictionary
//! └── run_20260102_030405/labels/layer_12.jsonl           for one layer of this run alone; goes before the other
//! ```
//!
//! A line is one feature, by ascending id. The names in the first path are those of Neuronpedia, whose exports of
//! explanations are what is imported; nothing is ever fetched.
//!
//! ```json
//! {"index": 104, "description": "names of capitals", "by": "gpt-4o-mini", "method": "oai_token-act-pair", "written": ""}
//! ```

mod export;
mod import;
mod store;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use import::{Imported, Target, import};
pub use store::{Stored, list, path_in_run, path_in_store};

/// Name of the folder of labels, beside runs and in a run.
pub const LABELS: &str = "labels";
/// Longest text of a label, in bytes; a longer one is cut.
pub const TEXT_BYTES: usize = 1_000;
/// Most labels of a dictionary: its largest id is below this.
pub const LABEL_LIMIT: u32 = 1 << 22;

/// A dictionary as Neuronpedia names it: its page of a feature is `MODEL/LAYER/FEATURE` there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dictionary {
    /// The model, such as `llama3.1-8b`.
    pub model: String,
    /// The layer and the set it belongs to, such as `12-llamascope-res-32k`.
    pub layer: String,
}

impl fmt::Display for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.model, self.layer)
    }
}

/// A file of labels that cannot be read or written.
#[derive(Debug)]
pub struct LabelError {
    /// The file.
    pub path: PathBuf,
    /// Line, from 1, where there is one to name.
    pub line: Option<u64>,
    /// What is wrong.
    pub problem: LabelProblem,
}

/// What is wrong with a file of labels.
#[derive(Debug, thiserror::Error)]
pub enum LabelProblem {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Read(io::Error),
    /// It cannot be written.
    #[error("cannot be written: {0}")]
    Write(io::Error),
    /// A line that is no explanation.
    #[error("is not a line of an export of explanations: {0}")]
    Json(String),
    /// A line that is longer than any explanation.
    #[error("is longer than {} KiB", .0 >> 10)]
    LongLine(u64),
    /// A file that unpacks to more than any export has.
    #[error("unpacks to more than {} MiB", .0 >> 20)]
    LongFile(u64),
    /// A feature that no dictionary has.
    #[error("index {0:?} is not a number below {LABEL_LIMIT}")]
    Index(String),
    /// A name that cannot be one of a file.
    #[error(
        "{what} {name:?} cannot be a file's name: expected letters, digits, `.`, `-` and `_`; for another source name the run and the layer with --run and --layer"
    )]
    Name {
        /// Which name.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// An export without anything to import.
    #[error(
        "holds no explanation: expected lines with `index` and `description`, as in Neuronpedia's batch-0.jsonl.gz"
    )]
    Nothing,
}

impl LabelError {
    fn new(path: &Path, line: Option<u64>, problem: LabelProblem) -> Self {
        LabelError { path: path.to_owned(), line, problem }
    }
}

impl fmt::Display for LabelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for LabelError {}

/// The labels of one dictionary.
#[derive(Clone, Debug, Default)]
struct LayerLabels {
    /// The file that they were read from.
    source: PathBuf,
    ids: Vec<u32>,
    /// End of each text.
    ends: Vec<u32>,
    text: String,
}

/// The labels of a run's layers, in memory.
#[derive(Clone, Debug, Default)]
pub struct Labels(BTreeMap<usize, LayerLabels>);

impl Labels {
    /// Reads the labels of some layers: those that lie in the run itself, or else those of the layer's dictionary.
    ///
    /// # Errors
    /// If a file is there and cannot be read. None being there is no error.
    pub fn read(
        run: &Path,
        layers: impl IntoIterator<Item = usize>,
        dictionaries: &BTreeMap<usize, Dictionary>,
    ) -> Result<Labels, LabelError> {
        let mut labels = Labels::default();
        for layer in layers {
            let shared =
                dictionaries.get(&layer).and_then(|dictionary| path_in_store(beside(run).as_deref()?, dictionary).ok());
            for path in std::iter::once(path_in_run(run, layer)).chain(shared) {
                if let Some(stored) = store::read(&path)? {
                    labels.0.insert(layer, LayerLabels::new(path, &stored));
                    break;
                }
            }
        }
        Ok(labels)
    }

    /// What a feature means, if somebody said it.
    pub fn get(&self, layer: usize, feature: u32) -> Option<&str> {
        let labels = self.0.get(&layer)?;
        let at = labels.ids.binary_search(&feature).ok()?;
        let start = if at == 0 { 0 } else { labels.ends[at - 1] };
        Some(&labels.text[start as usize..labels.ends[at] as usize])
    }

    /// The file that the labels of a layer were read from.
    pub fn source(&self, layer: usize) -> Option<&Path> {
        self.0.get(&layer).map(|labels| labels.source.as_path())
    }

    /// All labels of a layer, by ascending id.
    pub fn layer(&self, layer: usize) -> impl Iterator<Item = (u32, &str)> + '_ {
        let ids = self.0.get(&layer).map(|labels| labels.ids.as_slice()).unwrap_or_default();
        ids.iter().filter_map(move |&id| Some((id, self.get(layer, id)?)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.values().map(|labels| labels.ids.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl LayerLabels {
    fn new(source: PathBuf, stored: &BTreeMap<u32, Stored>) -> LayerLabels {
        let mut labels = LayerLabels { source, ..LayerLabels::default() };
        for (&id, label) in stored {
            labels.ids.push(id);
            labels.text.push_str(&label.description);
            // Four million texts of a thousand bytes are just below the limit of an offset.
            labels.ends.push(labels.text.len() as u32);
        }
        labels
    }
}

/// The folder of labels beside a run.
fn beside(run: &Path) -> Option<PathBuf> {
    let place = std::path::absolute(run).ok()?;
    Some(place.parent()?.join(LABELS))
}

#[cfg(test)]
mod tests;
