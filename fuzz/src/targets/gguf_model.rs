//! A whole model in a GGUF file: its config, its tokenizer out of the metadata, its layers.

use std::cell::LazyCell;

use llamascope_model::Checkpoint;

use super::tokenizer::speak;
use crate::place::Place;
use crate::{Target, fixture};

/// See the module. The vocabulary becomes a tokenizer.json, and that a tokenizer with several maps.
pub const TARGET: Target = Target { name: "gguf_model", run, seeds, base_bytes: 16 << 20, bytes_per_byte: 4 << 10 };

fn run(data: &[u8]) {
    thread_local!(static PLACE: LazyCell<Place> = const { LazyCell::new(Place::new) });
    PLACE.with(|place| match Checkpoint::open(&place.write("model.gguf", data)) {
        Err(error) => drop(error.to_string()),
        Ok(checkpoint) => {
            speak(&checkpoint.tokenizer);
            weigh(&checkpoint);
        }
    });
}

/// Looks at all weights that a model has.
pub fn weigh(checkpoint: &Checkpoint) {
    for layer in 0..checkpoint.config.n_layers.min(4) {
        let _ = checkpoint.layer(layer).map_err(|error| error.to_string());
    }
    let _ = checkpoint.embedding().map(|tensor| tensor.to_f32().len());
    let _ = checkpoint.head().map(|tensor| tensor.to_f32().len());
    let _ = checkpoint.final_norm();
    let _ = checkpoint.dtypes();
}

fn seeds() -> Vec<Vec<u8>> {
    vec![fixture("gguf/spm.gguf"), fixture("gguf/tied.gguf")]
}
