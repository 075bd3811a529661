//! `config.json` of a model whose weights and tokenizer are as they should be.

use std::cell::LazyCell;
use std::fs;

use llamascope_model::Checkpoint;

use super::gguf_model::weigh;
use crate::place::Place;
use crate::{Target, fixture, fixture_path};

/// See the module. The weights and tokenizer are read every time, whatever the input.
pub const TARGET: Target = Target { name: "model_folder", run, seeds, base_bytes: 64 << 20, bytes_per_byte: 256 };

fn run(data: &[u8]) {
    thread_local!(static PLACE: LazyCell<Place> = const { LazyCell::new(place) });
    PLACE.with(|place| {
        place.write("config.json", data);
        match Checkpoint::open(place.path()) {
            Err(error) => drop(error.to_string()),
            Ok(checkpoint) => weigh(&checkpoint),
        }
    });
}

fn place() -> Place {
    let place = Place::new();
    for entry in fs::read_dir(fixture_path("tied/model")).expect("a folder of the fixtures") {
        let entry = entry.expect("an entry of it");
        fs::copy(entry.path(), place.path().join(entry.file_name())).expect("a file can be copied");
    }
    place
}

fn seeds() -> Vec<Vec<u8>> {
    vec![
        fixture("tied/model/config.json"),
        fixture("llama3/model/config.json"),
        br#"{"model_type":"llama","hidden_size":32,"intermediate_size":80,"num_attention_heads":4,"num_hidden_layers":2,"num_key_value_heads":2,"rms_norm_eps":1e-5,"vocab_size":480,"max_position_embeddings":8192,"rope_scaling":{"factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192,"rope_type":"llama3"},"rope_parameters":{"rope_type":"default","rope_theta":500000.0},"tie_word_embeddings":false,"eos_token_id":[1,2]}"#.to_vec(),
    ]
}
