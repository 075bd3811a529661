//! The run folder: one file of sparse rows for every layer and sentence, and beside them what a reader needs to
//! understand them without the model.
//!
//! ```text
//! run_20260102_030405/
//! ├── run.json            the manifest: what ran, on what, with which result; its `complete` is set last
//! ├── sentences.jsonl     a sentence a line: text, source, tokens
//! ├── rows.b3sum          BLAKE3 of every file of rows, as `b3sum` writes and checks it; there when all rows are
//! ├── resume/             what a resume needs; goes when the run is complete
//! │   ├── journal.jsonl       what is finished: hashes of files and of weights, a line a group
//! │   └── residual.bin        rows on their way through the layers
//! └── layer_00/
//!     ├── sentence_0000.jsonl     a token a line, see below
//!     └── ...
//! ```
//!
//! ```json
//! {"token_pos": 7, "token_str": "Paris", "nnz": 2, "feat_ids": [104, 982], "feat_vals": [1.32, 0.87]}
//! ```
//!
//! The keys stand in this order and the spaces where Python's `json.dumps` puts them; text is UTF-8, with only quotes,
//! backslashes and control characters escaped. A value is the shortest decimal that reads back to the same f32, always
//! with a fraction or an exponent (`1.0`, `1e-8`), so that it is a float in every language. Languages that read it as
//! f64 first get the same f32 too, for every positive f32 but one: 7.038531e-26 becomes its neighbour. BOS tokens have
//! no line. A file stands under its name only when it is whole.

mod check;
mod disk;
mod error;
mod fingerprint;
mod journal;
mod manifest;
mod reader;
mod records;
mod rows;
mod tally;
mod verify;
mod writer;

use std::path::{Path, PathBuf};

pub use check::tally_files;
pub use disk::{Disk, Operation};
pub use error::{RunError, RunProblem};
pub use fingerprint::Fingerprint;
pub use journal::{Entry, Hex, Journal, Ledger};
pub use manifest::{
    Counts, DeviceInfo, FORMAT_VERSION, FileInfo, FormatVersion, LayerSummary, Manifest, ModelInfo, SaeInfo, Status,
    Timings,
};
pub use reader::{Run, read_manifest};

pub use records::SentenceRecord;
pub(crate) use records::parse_record;
pub use rows::{OutputRow, TokenRow, output_rows};
pub use tally::Tally;
pub use verify::{Finding, Progress, Verdict, verify};
pub use writer::{ResidualWriter, RunWriter, in_use, sentences_blake3};

/// Name of the manifest in a run folder.
pub const MANIFEST: &str = "run.json";

/// Name of the file of sentences in a run folder.
pub const SENTENCES: &str = "sentences.jsonl";

/// Name of the list of all files of rows in a run folder that has them all.
pub const SUMS: &str = "rows.b3sum";

/// Folder in a run folder that is not complete: what a resume needs.
pub const RESUME: &str = "resume";

/// Name of the journal in that folder.
const JOURNAL: &str = "journal.jsonl";

/// Name of the file of rows on their way in that folder.
pub const RESIDUAL: &str = "residual.bin";

/// Longest line that is read, in bytes: a row with all features of the widest dictionaries needs about a tenth of it.
pub const LINE_LIMIT: u64 = 64 << 20;

const LAYER_DIGITS: usize = 2;
const SENTENCE_DIGITS: usize = 4;

/// `layer_00`, with more digits from layer 100 on.
pub(crate) fn layer_name(layer: usize) -> String {
    format!("layer_{layer:0LAYER_DIGITS$}")
}

/// `sentence_0000.jsonl`, with more digits from sentence 10000 on.
pub(crate) fn sentence_name(sentence: usize) -> String {
    format!("sentence_{sentence:0SENTENCE_DIGITS$}.jsonl")
}

/// The file of one layer's rows of one sentence.
fn rows_path(run: &Path, layer: usize, sentence: usize) -> PathBuf {
    run.join(layer_name(layer)).join(sentence_name(sentence))
}

/// The layer of a folder called `name`, if it is one.
pub(crate) fn layer_of(name: &str) -> Option<usize> {
    let layer = name.strip_prefix("layer_")?.parse().ok()?;
    (layer_name(layer) == name).then_some(layer)
}

/// The sentence of a file called `name`, if it is one of rows.
pub(crate) fn sentence_of(name: &str) -> Option<usize> {
    let sentence = name.strip_prefix("sentence_")?.strip_suffix(".jsonl")?.parse().ok()?;
    (sentence_name(sentence) == name).then_some(sentence)
}

#[cfg(test)]
mod tests;
