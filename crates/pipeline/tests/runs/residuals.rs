//! Rows inside the model against those of transformers.
//!
//! A row `a` agrees with the reference's row `b` when `|a - b| <= 2e-5 |b|` in the Euclidean norm, and every number of it
//! is within `1e-4 |b_i|` or, where it is small beside the others, `1e-5 max |b|`.

use std::path::Path;

use llamascope_compute::{Cpu, Device, Precision, Rows};
use llamascope_model::llama::{Batch, each_layer};
use llamascope_model::{Checkpoint, Llama};
use llamascope_record::Site;
use llamascope_weights::TensorMap;

use crate::support::{fixture, sentences};

#[test]
fn every_layer_and_site_of_every_sentence_agrees() {
    // (model, what the reference computes, its sentences, how many of them have tensors, tensors of other sites)
    for (model, expected, texts, count, other_sites) in [
        ("llama3/model", "llama3/expected/residuals.safetensors", "llama3", 12, 3 * 8),
        ("tied/model", "tied/expected/residuals.safetensors", "tied", 10, 0),
        ("gguf/tied.gguf", "tied/expected/residuals.safetensors", "tied", 10, 0),
        ("gguf/mixed.gguf", "gguf/expected/mixed.safetensors", "llama3", 10, 0),
        ("gguf/k_quants.gguf", "gguf/expected/k_quants.safetensors", "llama3", 5, 0),
    ] {
        let checkpoint = Checkpoint::open(&fixture(model)).unwrap();
        let seen = compare(&checkpoint, &fixture(expected), &sentences(texts));
        assert_eq!(seen.sentences, count, "{model}");
        assert_eq!(seen.residuals, count * checkpoint.config.n_layers, "{model}");
        assert_eq!(seen.other_sites, other_sites, "{model}");
    }
}

/// How many tensors were compared.
#[derive(Default)]
struct Seen {
    sentences: usize,
    residuals: usize,
    other_sites: usize,
}

/// Compares everything that the file of the reference has for these sentences.
fn compare(checkpoint: &Checkpoint, expected: &Path, sentences: &[String]) -> Seen {
    let device = Cpu::new(2, Precision::F32).unwrap();
    let expected = TensorMap::open_file(expected).unwrap();
    let last = checkpoint.config.n_layers - 1;
    let mut seen = Seen::default();
    for (number, text) in sentences.iter().enumerate() {
        let name = |what: &str| format!("sent{number:02}.{what}");
        if !expected.contains(&name("logits_last")) {
            continue;
        }
        seen.sentences += 1;
        let batch = Batch::new([&checkpoint.tokenizer.encode(text).unwrap()]);
        let mut top = None;
        for (site, key) in [
            (Site::ResidPost, "resid_post"),
            (Site::AttnOut, "attn_out"),
            (Site::MlpIn, "mlp_in"),
            (Site::MlpOut, "mlp_out"),
        ] {
            each_layer(&device, checkpoint, &batch, site, last, |layer, rows| {
                let name = name(&format!("{key}.{layer}"));
                if expected.contains(&name) {
                    assert_rows_agree(&name, &rows, &reference(&expected, &name));
                    *if site == Site::ResidPost { &mut seen.residuals } else { &mut seen.other_sites } += 1;
                }
                if site == Site::ResidPost && layer == last {
                    top = Some(rows);
                }
            })
            .unwrap();
        }
        let top = top.expect("the last layer was run");
        let last_row = device.gather(&top, &[top.n() - 1]);
        let logits = Llama::new(&device, checkpoint, 0).logits(&last_row).unwrap();
        let name = name("logits_last");
        assert_logits_agree(&name, logits.data(), reference(&expected, &name).data());
    }
    seen
}

fn reference(expected: &TensorMap, name: &str) -> Rows {
    let tensor = expected.get(name).unwrap();
    Rows::from_vec(tensor.n_rows(), tensor.n_cols(), tensor.to_f32())
}

fn assert_rows_agree(name: &str, rows: &Rows, expected: &Rows) {
    assert_eq!((rows.n(), rows.d()), (expected.n(), expected.d()), "{name}");
    for row in 0..rows.n() {
        let (a, b) = (rows.row(row), expected.row(row));
        let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
        let difference = norm(&mut a.iter().zip(b).map(|(a, b)| (a - b) as f64));
        let length = norm(&mut b.iter().map(|b| *b as f64));
        assert!(difference <= 2e-5 * length, "{name}, row {row}: |a - b| = {difference:e}, |b| = {length}");
        let largest = largest(b);
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            let near = (a - b).abs() <= (1e-4 * b.abs()).max(1e-5 * largest);
            assert!(near, "{name}, row {row}, number {i}: {a} is not {b}; the row's largest is {largest}");
        }
    }
}

fn assert_logits_agree(name: &str, logits: &[f32], expected: &[f32]) {
    assert_eq!(logits.len(), expected.len(), "{name}");
    let largest = largest(expected);
    for (token, (a, b)) in logits.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= 1e-4 * largest, "{name}, token {token}: {a} is not {b}, the largest is {largest}");
    }
}

fn largest(numbers: &[f32]) -> f32 {
    numbers.iter().fold(0.0, |most, x| most.max(x.abs()))
}
