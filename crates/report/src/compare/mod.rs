//! How far two runs agree, layer by layer.
//!
//! Tokens are compared that stand at the same place of the same file in both runs. Definitions, for the tokens of a layer
//! with active sets `A` and `B`:
//! - Jaccard: `sum |A and B| / sum |A or B|`, both sums over all tokens. Every decision whether a feature is active
//!   weighs the same; sums of integers do not depend on their order. This is the number that requirements are about.
//! - Mean Jaccard: the mean over tokens of `|A and B| / |A or B|`, where two empty sets count as 1. One flipped feature of
//!   a token with two weighs as much here as fifty of a token with a hundred, and empty tokens flatter it.
//! - Identical: the share of tokens with `A = B`; same order: with the same list of ids.
//! - Relative difference of a feature active in both runs: `|a - b| / max(a, b)`, in `[0, 1]`.

mod comparer;
mod median;
mod render;
mod runs;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

pub use comparer::Comparer;
pub use render::Requirement;
pub use runs::{CompareError, compare_runs};

/// What two runs have in common and what not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The layers of both runs, ascending.
    pub layers: Vec<LayerComparison>,
    /// All of them together.
    pub overall: Agreement,
    /// The tokens that agree least: by Jaccard, then by relative difference. Tokens that agree wholly never stand here.
    pub worst: Vec<WorstToken>,
    /// What cannot be compared because it is not in both runs, the first few.
    pub differences: Vec<Difference>,
    /// How many such differences there are in all.
    pub difference_count: u64,
}

/// One layer of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerComparison {
    /// The layer.
    pub layer: usize,
    /// How far it agrees.
    #[serde(flatten)]
    pub agreement: Agreement,
}

/// How far the tokens that were compared agree; see the module for the definitions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// Tokens compared.
    pub tokens: u64,
    /// Mean number of active features a token in run A.
    pub l0_mean_a: f64,
    /// And in run B.
    pub l0_mean_b: f64,
    /// Jaccard of the active sets, over all tokens; 1 if nothing is active.
    pub jaccard: f64,
    /// Mean of the tokens' own Jaccard.
    pub jaccard_mean: f64,
    /// Share of tokens with the same active set.
    pub identical: f64,
    /// Share of tokens with the same features in the same order.
    pub same_order: f64,
    /// Largest relative difference.
    pub rel_max: f64,
    /// Lower median of the relative differences.
    pub rel_median: f64,
    /// Whether the median is exact; if not, it is too small by less than 1 in 128.
    pub rel_median_exact: bool,
    /// Largest absolute difference of a feature active in both.
    pub abs_max: f64,
}

/// A token whose features differ between the runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorstToken {
    /// Its layer.
    pub layer: usize,
    /// Its sentence.
    pub sentence: usize,
    /// Its position.
    pub token_pos: u32,
    /// Its text.
    pub token_str: String,
    /// Its Jaccard.
    pub jaccard: f64,
    /// Its largest relative difference.
    pub rel_max: f64,
    /// How many features are active only in run A.
    pub only_a_count: usize,
    /// The strongest of them.
    pub only_a: Vec<u32>,
    /// How many features are active only in run B.
    pub only_b_count: usize,
    /// The strongest of them.
    pub only_b: Vec<u32>,
}

/// One of the two runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::A => "run A",
            Side::B => "run B",
        })
    }
}

/// A difference in what the runs hold, not in the numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Difference {
    /// A run that did not come to its end.
    Incomplete {
        /// The run.
        run: Side,
    },
    /// A layer that only one run has.
    Layer {
        /// The run that has it.
        only_in: Side,
        /// The layer.
        layer: usize,
    },
    /// A sentence that only one run has at this layer.
    Sentence {
        /// The run that has it.
        only_in: Side,
        /// The layer.
        layer: usize,
        /// The sentence.
        sentence: usize,
    },
    /// More rows in one run than in the other.
    Rows {
        /// The layer.
        layer: usize,
        /// The sentence.
        sentence: usize,
        /// Rows in run A.
        a: usize,
        /// Rows in run B.
        b: usize,
    },
    /// Another token in the same place: the first of a file, which is compared no further.
    Token {
        /// The layer.
        layer: usize,
        /// The sentence.
        sentence: usize,
        /// Line of the file, from 1.
        line: usize,
        /// Position and text in run A.
        a: (u32, String),
        /// Position and text in run B.
        b: (u32, String),
    },
}
