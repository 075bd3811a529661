//! The local web server: the runs of a folder as JSON under `/api/v1`, the page that shows them, and typed sentences.
//!
//! Knows nothing of argv or stdout.
