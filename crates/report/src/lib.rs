//! Sparse rows in; scores, comparisons, charts and tables out, as pure functions: same run in, same bytes out.
//!
//! Knows nothing of tensors, the network or the clock.

pub mod ansi;
pub mod chart;
pub mod colour;
pub mod compare;
pub mod contrast;
pub mod evaluation;
pub mod gather;
pub mod info;
pub mod page;
pub mod paint;
pub mod rarity;
pub mod scene;
pub mod score;
pub mod show;
pub mod summary;
pub mod table;
pub mod text;

pub use compare::{CompareError, Comparison, Requirement, compare_runs};
pub use info::run_info;
pub use score::Score;
pub use summary::run_summary;
