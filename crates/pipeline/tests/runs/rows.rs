//! Sparse rows against those of SAELens and of the Llama Scope release code.

use std::fs;

use llamascope_pipeline::config::RunConfig;
use llamascope_record::run::Run;
use llamascope_sae::Convention;

use crate::support::{Job, fixture};

/// How near a value must come to the reference's.
#[derive(Clone, Copy)]
struct Tolerance {
    relative: f32,
    /// Enough by itself.
    absolute: f32,
}

const THRESHOLDED: Tolerance = Tolerance { relative: 1e-4, absolute: 0.0 };
/// Without a threshold there are values close to zero: differences of large numbers.
const RELU: Tolerance = Tolerance { relative: 1e-4, absolute: 1e-5 };

#[test]
fn llama_scope_rows_agree_in_every_convention() {
    use Convention::{Neuronpedia, Openmoss, Saelens};
    for (convention, name) in [(Saelens, "saelens"), (Openmoss, "openmoss"), (Neuronpedia, "neuronpedia")] {
        for (site, layers, hook) in [
            ("", &[0, 1, 2][..], "hook_resid_post"),
            ("_a", &[1], "hook_attn_out"),
            ("_m", &[1], "hook_mlp_out"),
            ("_tc", &[1], "ln2.hook_normalized"),
        ] {
            let sentences = if (convention, site) == (Saelens, "") { 12 } else { 8 };
            let run = check(
                "llama3/model",
                &format!("llama3/saes{site}"),
                &format!("llama3/expected/{name}{site}"),
                layers.len() * sentences,
                THRESHOLDED,
                |config| config.sae_convention = convention,
            );
            let saes = run.manifest.unwrap().saes;
            assert!(saes.iter().all(|sae| sae.convention == name), "{name}{site}");
            let hooks: Vec<String> = layers.iter().map(|layer| format!("blocks.{layer}.{hook}")).collect();
            assert_eq!(saes.iter().map(|sae| &sae.hook).collect::<Vec<_>>(), hooks.iter().collect::<Vec<_>>());
        }
    }
}

#[test]
fn r1_distill_rows_agree() {
    check("llama3/model", "llama3/saes_r1", "llama3/expected/saelens_r1", 8, THRESHOLDED, |_| {});
}

#[test]
fn saelens_own_formats_agree() {
    for (activation, tolerance) in [("standard", RELU), ("jumprelu", THRESHOLDED), ("topk", THRESHOLDED)] {
        let saes = format!("tied/saes_{activation}");
        check("tied/model", &saes, &format!("tied/expected/{activation}"), 2 * 11, tolerance, |_| {});
    }
}

#[test]
fn a_gguf_file_gives_the_rows_of_the_folder_that_it_was_made_from() {
    let input = fixture("tied/sentences.csv");
    check("gguf/tied.gguf", "tied/saes_jumprelu", "tied/expected/jumprelu", 2 * 11, THRESHOLDED, |config| {
        config.input_csvs = vec![input.clone()];
    });
}

/// Runs a model and compares with all that the tree of the reference holds: `files` files. Everything but the values must
/// be there letter for letter.
fn check(
    model: &str,
    saes: &str,
    expected: &str,
    files: usize,
    tolerance: Tolerance,
    set: impl FnOnce(&mut RunConfig),
) -> Run {
    let mut job = Job::new(model, saes);
    set(&mut job.config);
    let run = job.open();
    let reference = Run::open(&fixture(expected)).unwrap();
    assert_eq!(run.layers(), reference.layers(), "{expected}");
    let mut compared = 0;
    for &layer in reference.layers() {
        for sentence in reference.sentences_in(layer) {
            let what = format!("{expected}, layer {layer}, sentence {sentence}");
            assert_eq!(
                before_the_values(&run, layer, sentence),
                before_the_values(&reference, layer, sentence),
                "{what}"
            );
            let (rows, expected) = (run.rows(layer, sentence).unwrap(), reference.rows(layer, sentence).unwrap());
            for (row, expected) in rows.iter().zip(&expected) {
                for ((a, b), id) in row.feat_vals.iter().zip(&expected.feat_vals).zip(&row.feat_ids) {
                    let near = (a - b).abs() <= (tolerance.relative * b).max(tolerance.absolute);
                    assert!(near, "{what}, token {}, feature {id}: {a} is not {b}", row.token_pos);
                }
            }
            compared += 1;
        }
    }
    assert_eq!(compared, files, "{expected}");
    run
}

/// The text of each line up to the values.
fn before_the_values(run: &Run, layer: usize, sentence: usize) -> Vec<String> {
    let path = run.path().join(format!("layer_{layer:02}/sentence_{sentence:04}.jsonl"));
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split_once("\"feat_vals\"").expect("a line of rows").0.to_owned()).collect()
}
