//! The splice, on the fixtures' models; what `evaluate` gives as a whole is held against references in `tests/runs`.

use std::path::Path;

use super::*;

fn open(name: &str) -> (Cpu, Checkpoint, Corpus) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name);
    let checkpoint = Checkpoint::open(&root.join("model")).unwrap();
    let spec = CorpusSpec {
        files: vec![root.join("sentences.csv")],
        text_column: None,
        context: 24,
        max_tokens: Some(200),
        shuffle: None,
    };
    (Cpu::new(2, Precision::F32).unwrap(), checkpoint, Corpus::open(&spec).unwrap())
}

/// Losses of a chunk with the rows at a site replaced by what `replace` makes of them.
fn losses(
    (device, checkpoint, corpus): &(Cpu, Checkpoint, Corpus),
    tap: Tap,
    replace: impl Fn(&Rows) -> Rows,
) -> (Vec<f64>, Vec<loss::Loss>) {
    let contexts = corpus.contexts(&checkpoint.tokenizer, Position::default()).batch(150).unwrap();
    let tokens: Vec<&Tokens> = contexts.iter().map(|context| &context.tokens).collect();
    let batch = Batch::new(tokens.iter().copied());
    let llama = Llama::new(device, checkpoint, 24);
    let mut clean = llama.embed(&batch).unwrap();
    let mut spliced = clean.clone();
    for layer in 0..checkpoint.config.n_layers {
        let block = llama.layer(&checkpoint.layer(layer).unwrap());
        block.forward(&mut clean, &batch, None, |_| {});
        let site = (layer == tap.layer).then_some(tap.site);
        block.forward(&mut spliced, &batch, site, |rows| {
            let all = vec![true; rows.n()];
            *rows = splice::replaced(rows, &replace(rows), &all);
        });
    }
    let variant = Variant { tap: 0, kind: Kind::Zero, set: 0, rows: spliced };
    let losses = Losses { device, llama: &llama, tokens: &tokens, observer: &() };
    let (clean, mut others) = losses.compute(&clean, &[variant]).unwrap();
    (clean, others.remove(0))
}

#[test]
fn splicing_the_identity_leaves_the_loss_as_it_is_to_the_bit() {
    for name in ["llama3", "tied"] {
        let opened = open(name);
        for site in [Site::ResidPost, Site::AttnOut, Site::MlpOut] {
            let (clean, same) = losses(&opened, Tap { layer: 1, site }, Rows::clone);
            assert!(clean.len() > 50);
            assert!(clean.iter().zip(&same).all(|(clean, same)| *clean == same.ce), "{name} {site:?}");
            assert!(same.iter().all(|loss| loss.kl < 1e-6), "{name} {site:?}");
        }
    }
}

#[test]
fn splicing_zeros_takes_away_what_the_site_holds() {
    let opened = open("llama3");
    let (device, checkpoint, _) = &opened;
    let zeros = |rows: &Rows| Rows::zeros(rows.n(), rows.d());
    // A residual stream of zeros at the last layer knows nothing: with no gain to speak of, all logits are equal.
    let last = checkpoint.config.n_layers - 1;
    let (_, blind) = losses(&opened, Tap { layer: last, site: Site::ResidPost }, zeros);
    let even = (checkpoint.config.vocab as f64).ln();
    assert!(blind.iter().all(|loss| (loss.ce - even).abs() < 1e-6));
    // Without attention's and the MLP's output a layer hands on what it was given.
    let tokens = checkpoint.tokenizer.encode("Paris is the capital of France.").unwrap();
    let batch = Batch::new([&tokens]);
    let llama = Llama::new(device, checkpoint, tokens.len());
    let before = llama.embed(&batch).unwrap();
    let block = llama.layer(&checkpoint.layer(0).unwrap());
    let mut attention = None;
    block.forward(&mut before.clone(), &batch, Some(Site::AttnOut), |rows| attention = Some(rows.clone()));
    let mut after = before.clone();
    block.forward(&mut after, &batch, Some(Site::MlpOut), |rows| *rows = zeros(rows));
    let mut expected = before;
    device.add(&mut expected, &attention.unwrap());
    let near =
        |a: &Rows, b: &Rows| a.data().iter().zip(b.data()).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs().max(1.0));
    assert!(near(&after, &expected));
}

/// Zero ablation without any splice: the layers after the site alone, on a residual stream that was never anything else.
#[test]
fn splicing_zeros_is_running_the_rest_of_the_model_on_zeros() {
    for name in ["llama3", "tied"] {
        let opened = open(name);
        let (device, checkpoint, corpus) = &opened;
        let (_, spliced) =
            losses(&opened, Tap { layer: 1, site: Site::ResidPost }, |rows| Rows::zeros(rows.n(), rows.d()));
        let contexts = corpus.contexts(&checkpoint.tokenizer, Position::default()).batch(150).unwrap();
        let mut at = 0;
        for tokens in contexts.iter().map(|context| &context.tokens) {
            // One context at a time, so that nothing depends on what stands beside it.
            let batch = Batch::new([tokens]);
            let llama = Llama::new(device, checkpoint, 24);
            let mut rows = Rows::zeros(tokens.len(), checkpoint.config.d_model);
            for layer in 2..checkpoint.config.n_layers {
                llama.layer(&checkpoint.layer(layer).unwrap()).forward(&mut rows, &batch, None, |_| {});
            }
            let logits = llama.logits(&rows).unwrap();
            for (position, target) in tokens.ids.iter().enumerate().skip(1) {
                let row: Vec<f64> = logits.row(position - 1).iter().map(|logit| f64::from(*logit)).collect();
                let ce = row.iter().map(|logit| logit.exp()).sum::<f64>().ln() - row[*target as usize];
                assert!((ce - spliced[at].ce).abs() < 1e-6, "{name}: {ce} {}", spliced[at].ce);
                at += 1;
            }
        }
        assert_eq!(at, spliced.len());
    }
}

#[test]
fn sets_with_the_same_rows_are_run_once() {
    let sets = Sets::new(&[true, false, false], &[50.0, 1.0, 2.0], 10.0);
    assert_eq!(sets.mask(0), [true, true, true]);
    assert_eq!((sets.mask(1), sets.mask(2)), (&[false, true, true][..], &[false, true, true][..]));
    assert_eq!(sets.distinct().collect::<Vec<_>>(), [0, 1]);
    assert_eq!((0..3).map(|set| sets.same_as(set)).collect::<Vec<_>>(), [0, 1, 1]);
}
