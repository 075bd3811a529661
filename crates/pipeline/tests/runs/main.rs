//! Whole runs over the fixtures, against what the reference libraries compute and against each other.
//!
//! What the fixtures hold, how they were made and how close a correct computation comes: `fixtures/README.md`.

mod bad_input;
mod bench;
mod bytes;
mod dictionary;
mod eval;
mod explore;
mod faults;
mod folder;
mod live;
mod precision;
mod residuals;
mod resume;
mod rows;
mod support;
mod tokens;
