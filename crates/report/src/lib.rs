//! Sparse rows in; scores, comparisons, charts and tables out, as pure functions: same run in, same bytes out.
//!
//! Knows nothing of tensors, the network or the clock.
