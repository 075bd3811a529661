//! What is wrong with the files of a run: told, counted, and worked around as far as the rest is right.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Examples that are kept of each kind of finding.
const EXAMPLES: usize = 5;
/// Longest example, in bytes: a broken line can quote anything.
const EXAMPLE_BYTES: usize = 300;

/// What was found while the index was built.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// By kind, then by layer.
    pub findings: Vec<Finding>,
}

/// One thing that is wrong, at one layer or with the run as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// The layer, if it is about one.
    pub layer: Option<usize>,
    /// How often it was found.
    pub count: u64,
    /// The first few, in order of files and lines.
    pub examples: Vec<Example>,
}

/// Where something is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// The file, as seen from the run folder; empty for the folder itself.
    pub file: String,
    /// The line, from 1, where there is one to name.
    pub line: Option<u64>,
    /// What stands there.
    pub what: String,
}

/// How much a finding takes from what is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing is lost.
    Note,
    /// Something was mended.
    Warning,
    /// Something is not shown.
    Error,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident, $severity:ident, $says:literal;)*) => {
        /// What can be wrong with the files of a run.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum FindingKind { $($(#[$doc])* $name,)* }

        impl FindingKind {
            /// All of them.
            pub const ALL: &[FindingKind] = &[$(FindingKind::$name,)*];

            /// One sentence for a reader.
            pub fn says(self) -> &'static str {
                match self { $(FindingKind::$name => $says,)* }
            }

            /// How bad it is.
            pub fn severity(self) -> Severity {
                match self { $(FindingKind::$name => Severity::$severity,)* }
            }
        }
    };
}

kinds! {
    /// The run was stopped, failed, or is still at work.
    Incomplete, Error, "The run is not complete: some sentences or layers are missing.";
    /// No manifest: another tool wrote these rows.
    NoManifest, Note, "There is no run.json: model, SAEs and settings are not known.";
    /// A manifest that cannot be read.
    BrokenManifest, Error, "run.json cannot be read: model, SAEs and settings are not known.";
    /// No sentences beside the rows.
    NoSentences, Note, "There is no sentences.jsonl: texts are put together from the tokens of the rows.";
    /// A line of the sentences that cannot be read.
    BrokenSentence, Error, "A line of sentences.jsonl cannot be read: the text is put together from the tokens of the rows.";
    /// A layer of the manifest without a folder.
    MissingLayer, Error, "The folder of a layer is missing.";
    /// A sentence without a file at a layer.
    MissingFile, Error, "The file of a sentence is missing.";
    /// Rows of a sentence that the run does not have.
    UnknownSentence, Warning, "Rows of a sentence that is not in sentences.jsonl are left out.";
    /// Something else in a layer's folder.
    UnknownFile, Note, "A file of another name lies among the rows.";
    /// A file that cannot be read.
    UnreadableFile, Error, "A file cannot be read.";
    /// A last line without its end.
    CutLine, Error, "A file ends in the middle of a line: the row is left out.";
    /// A line that is no row.
    BrokenLine, Error, "A line is not a row: it is left out.";
    /// `nnz` and the lists disagree.
    Lengths, Warning, "nnz, feat_ids and feat_vals do not have the same length: the shorter list counts.";
    /// A value that is not finite and positive.
    Value, Warning, "A value is not finite and positive: the feature does not count as active.";
    /// Values that rise.
    Order, Warning, "Values are not in descending order: they were sorted.";
    /// A feature twice in a row.
    Duplicate, Warning, "A feature stands twice in a row: the larger value counts.";
    /// A feature that the dictionary does not have.
    Id, Warning, "A feature is outside the layer's dictionary: it is left out.";
    /// A token that the sentence does not have, or has had before.
    Position, Warning, "A token_pos is not that of a token of the sentence, or not greater than the one before: the row is left out.";
    /// A token without a row.
    MissingRow, Error, "A token has no row.";
}

impl Health {
    /// Whether nothing was found.
    pub fn is_well(&self) -> bool {
        self.findings.is_empty()
    }

    /// The worst of all findings.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.kind.severity()).max()
    }
}

/// Findings while they are gathered.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings(BTreeMap<(FindingKind, Option<usize>), (u64, Vec<Example>)>);

impl Findings {
    /// Something at one place.
    pub fn add(&mut self, kind: FindingKind, layer: Option<usize>, file: &str, line: Option<u64>, what: String) {
        let (count, examples) = self.0.entry((kind, layer)).or_default();
        *count += 1;
        if examples.len() < EXAMPLES {
            let end = what.floor_char_boundary(EXAMPLE_BYTES);
            examples.push(Example { file: file.to_owned(), line, what: what[..end].to_owned() });
        }
    }

    /// Those of files that come after these.
    pub fn append(&mut self, later: Findings) {
        for (place, (more, theirs)) in later.0 {
            let (count, examples) = self.0.entry(place).or_default();
            *count += more;
            let room = EXAMPLES - examples.len().min(EXAMPLES);
            examples.extend(theirs.into_iter().take(room));
        }
    }

    pub fn into_health(self) -> Health {
        let finding = |((kind, layer), (count, examples))| Finding { kind, layer, count, examples };
        Health { findings: self.0.into_iter().map(finding).collect() }
    }
}

impl Health {
    /// Adds the findings of another part of the run.
    pub(super) fn merge(&mut self, other: Health) {
        self.findings.extend(other.findings);
        self.findings.sort_by_key(|finding| (finding.kind, finding.layer));
    }
}
