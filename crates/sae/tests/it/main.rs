//! SAEs written by the tests themselves, in every format and convention, against formulas written out a second time.

mod decode;
mod files;
mod find;
mod llama_scope;
mod r1_distill;
mod saelens;
