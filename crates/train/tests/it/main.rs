//! Whole trainings, small ones: what they find, that they go on where they stopped, and what is said when they cannot.

mod bad_input;
mod model;
mod recovery;
mod saelens;
mod support;
mod trained;
