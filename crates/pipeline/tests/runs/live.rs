//! A run's model and SAEs opened again.

use llamascope_model::Checkpoint;
use llamascope_pipeline::engine::Encoded;
use llamascope_pipeline::live::{LiveError, Session, find};
use llamascope_record::run::Run;
use llamascope_sae::{Convention, Decoder, Sae};

use crate::support::{Job, MODEL, SAES, fixture, sentences};

fn session(run: &Run, memory: u64) -> Session {
    let manifest = run.manifest.as_ref().unwrap();
    Session::open(find(run.path(), manifest).unwrap(), manifest, memory, None).unwrap()
}

#[test]
fn a_typed_sentence_has_the_rows_of_the_run_whatever_the_memory() {
    let job = Job::new(MODEL, SAES);
    let run = job.open();
    for memory in [1 << 40, 1] {
        let session = session(&run, memory);
        for (index, text) in sentences("llama3").iter().enumerate().filter(|(index, _)| index % 3 == 0) {
            let Ok(typed) = session.encode(text, run.layers()) else {
                assert!(run.rows(0, index).unwrap().is_empty(), "{text}");
                continue;
            };
            for Encoded { layer, rows, .. } in typed.layers {
                let stored = run.rows(layer, index).unwrap();
                assert_eq!(rows.len(), stored.len());
                for (row, stored) in rows.iter().zip(&stored) {
                    assert_eq!(row, (&stored.feat_ids[..], &stored.feat_vals[..]), "layer {layer}: {text}");
                }
            }
        }
    }
}

#[test]
fn promoted_tokens_are_what_the_unembedding_says() {
    let job = Job::new(MODEL, SAES);
    let run = job.open();
    let manifest = run.manifest.as_ref().unwrap();
    let checkpoint = Checkpoint::open(&fixture(MODEL)).unwrap();
    let (gain, head) = (checkpoint.final_norm().unwrap(), checkpoint.head().unwrap());
    let weights = head.to_f32();
    let sae = &manifest.saes[1];
    let opened = Sae::open(sae.path.as_ref(), Convention::Saelens).unwrap();
    let direction = Decoder::open(&opened).unwrap().direction(7);
    let logit = |token: usize| -> f64 {
        let row = &weights[token * direction.len()..][..direction.len()];
        (0..row.len()).map(|i| f64::from(direction[i]) * f64::from(gain[i]) * f64::from(row[i])).sum()
    };
    let expected: Vec<f64> = (0..head.n_rows()).map(logit).collect();
    let logits = session(&run, 1 << 40).logits(sae.layer, 7, 5).unwrap();
    assert_eq!((logits.promoted.len(), logits.suppressed.len()), (5, 5));
    for (id, text, logit) in logits.promoted.iter().chain(&logits.suppressed) {
        assert!((f64::from(*logit) - expected[*id as usize]).abs() < 1e-4 * expected[*id as usize].abs().max(1.0));
        assert_eq!(text, checkpoint.tokenizer.token(*id).unwrap());
    }
    let largest = expected.iter().copied().fold(f64::MIN, f64::max);
    assert!((f64::from(logits.promoted[0].2) - largest).abs() < 1e-4 * largest.abs().max(1.0));
    let mean = expected.iter().sum::<f64>() / expected.len() as f64;
    assert!((logits.mean - mean).abs() < 1e-4);
}

#[test]
fn a_feature_is_matched_with_itself() {
    let job = Job::new(MODEL, SAES);
    let run = job.open();
    let session = session(&run, 1 << 40);
    let layer = run.layers()[0];
    let found = session.matches((layer, &[3, 9]), (layer, &[9, 40, 3]), 0.99).unwrap();
    assert_eq!(found.iter().map(|pair| (pair.0, pair.1)).collect::<Vec<_>>(), [(3, 3), (9, 9)]);
    let near = session.neighbors(layer, 3, 4).unwrap();
    assert!(near.len() == 4 && near.iter().all(|(id, _)| *id != 3));
}

#[test]
fn a_run_without_its_model_says_so() {
    let run = Job::new(MODEL, SAES).open();
    let mut manifest = run.manifest.clone().unwrap();
    manifest.model.files[0].bytes += 1;
    assert!(matches!(find(run.path(), &manifest), Err(LiveError::Changed(_))));
    manifest.model.files[0].path = "nowhere/model.safetensors".into();
    let error = find(run.path(), &manifest).unwrap_err();
    assert!(matches!(error, LiveError::Missing(_)) && error.to_string().contains("nowhere"), "{error}");
    manifest.model.path.clear();
    assert!(find(run.path(), &manifest).unwrap_err().to_string().contains("does not say where"));
}
