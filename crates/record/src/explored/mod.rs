//! What `llamascope explore` found of an SAE over a corpus: how often each feature is active, where it is strongest, on
//! which tokens, and which tokens it promotes. One file for each SAE in each of its readings, named by [`file_name`].
//!
//! Gzip (RFC 1952, which has a checksum) of JSON lines: a [`Header`], then the array of all pieces of text, then one line a
//! feature in ascending order of ids, which names pieces by their place in that array. Everything is checked when it is
//! read, and no number in the file decides how much memory is taken: [`READ_LIMIT`] does.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};

pub use reader::Explored;
pub use writer::write;

/// What the header calls the format.
pub const FORMAT: &str = "llamascope explored";
/// The version that is written and read.
pub const VERSION: u32 = 1;
/// Most bytes of an uncompressed file.
pub const READ_LIMIT: u64 = 512 << 20;
/// Most bytes of the header's line: what it says may take many times the memory of its text.
pub const HEADER_LIMIT: usize = 1 << 20;
/// Most bytes of the line of all pieces, for the same reason.
pub const PIECES_LIMIT: usize = 64 << 20;
/// Most bytes of a feature's line.
pub const FEATURE_LIMIT: usize = 16 << 20;

/// The name of the file for the SAE of a layer whose encoder has this hash, in whatever folder it lies.
pub fn file_name(layer: usize, sae_blake3: &str) -> String {
    let start: String = sae_blake3.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    format!("explored_layer_{layer:02}_{start}.jsonl.gz")
}

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// The program that wrote it.
    pub program: String,
    /// The layer that the SAE reads, from 0.
    pub layer: usize,
    /// Where it reads.
    pub hook: String,
    /// Number of features.
    pub d_sae: usize,
    /// Which reading of the SAE the values are of.
    pub convention: String,
    /// BLAKE3 of the SAE's encoder as it was used, as in `run.json`.
    pub sae_blake3: String,
    /// The model as the user named it.
    pub model: String,
    /// The corpus' files as the user named them.
    pub input: Vec<String>,
    /// BLAKE3 over their bytes.
    pub input_blake3: String,
    /// Most tokens of a context.
    pub context: usize,
    /// Tokens that were read, BOS included.
    pub tokens: u64,
    /// Rows that were looked at: those of all tokens but BOS and those of massive length.
    pub rows: u64,
    /// The length above which a row was taken to be massive.
    pub massive_norm: f64,
}

/// What is known of one feature.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// Its id.
    pub id: u32,
    /// Rows on which it is active.
    pub rows: u64,
    /// Its largest value.
    pub max: f32,
    /// The tokens it is active on most often: piece, and a number of rows that is never too large.
    pub types: Vec<(u32, u64)>,
    /// The tokens it promotes most: piece and logit, largest first.
    pub promoted: Vec<(u32, f32)>,
    /// Where it is strongest, strongest first.
    pub contexts: Vec<Window>,
}

/// A stretch of text around a token on which a feature is strong. In the file it is an array, of what is below in this
/// order: there are so many that names would be a tenth of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The document, counted over all files of the corpus from 0.
    pub document: u32,
    /// Tokens of the document before the first one shown.
    pub offset: u32,
    /// Whether the context goes on before the first and behind the last of them.
    pub more: (bool, bool),
    /// Place of the strongest token among those below.
    pub at: usize,
    /// A piece of text for every token; empty where a token shares its character with the one before.
    pub tokens: Vec<u32>,
    /// The feature's values where it is active: place, and value to three digits.
    pub values: Vec<(usize, f32)>,
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Window { document, offset, more, at, tokens, values } = self;
        (document, offset, more, at, tokens, values).serialize(serializer)
    }
}

/// A file of this kind that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExploredError {
    /// Could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Is not what it should be.
    #[error("{}, line {line}: {what}; make it anew with `llamascope explore`", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// Line of the uncompressed text, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// Is of a version that this program does not know.
    #[error("{}: is of version {found} of its format, this program reads version {VERSION}: make it anew with `llamascope explore`", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
}
