//! `evaluate` against what transformers and SAELens find (`fixtures/make_eval.py`), and what it refuses.

use std::fs;

use llamascope_pipeline::config::{LayerSelection, Precision};
use llamascope_pipeline::eval::{EvalSpec, evaluate};
use llamascope_report::evaluation::{Evaluation, LayerEvaluation};
use llamascope_sae::Convention;
use serde_json::Value;

use crate::support::{Job, MODEL, SAES, fixture};

fn spec(model: &str, saes: &str) -> EvalSpec {
    EvalSpec {
        model: fixture(model).display().to_string(),
        revision: None,
        sae: fixture(saes).display().to_string(),
        layers: LayerSelection::All,
        convention: Some(Convention::Saelens),
        files: vec![fixture(model).parent().unwrap().join("sentences.csv")],
        text_column: None,
        tokens: 100_000,
        context: 24,
        dtype: Precision::Float32,
        threads: Some(2.try_into().unwrap()),
    }
}

fn run(spec: &EvalSpec) -> Result<Evaluation, String> {
    evaluate(spec, &Job::new(MODEL, SAES).surroundings, &()).map_err(|error| error.to_string())
}

fn figures(layer: &LayerEvaluation, rows_of: &str) -> Value {
    let set = layer.sets.iter().find(|set| set.rows_of == rows_of).unwrap();
    serde_json::to_value(&set.figures).unwrap()
}

#[test]
fn figures_are_those_of_transformers_and_saelens() {
    let path = fixture("llama3/expected/eval.json");
    let expected: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let found = run(&spec(MODEL, SAES)).unwrap();
    for (key, value) in [("contexts", found.contexts), ("tokens", found.tokens), ("predictions", found.predictions)] {
        assert_eq!(expected[key], value, "{key}");
    }
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-4 * a.abs().max(b.abs()).max(1e-2);
    assert!(near(found.perplexity, expected["perplexity"].as_f64().unwrap()), "{}", found.perplexity);
    assert_eq!(found.layers.len(), 3);
    for (layer, expected) in found.layers.iter().zip(expected["layers"].as_array().unwrap()) {
        assert_eq!(expected["layer"], layer.layer);
        assert_eq!(expected["hook"], layer.hook.as_str());
        for rows_of in ["all", "no_bos"] {
            let figures = figures(layer, rows_of);
            for (key, value) in expected[rows_of].as_object().unwrap() {
                let key = match key.as_str() {
                    "kl_div_with_mean_ablation" => continue,
                    key => key,
                };
                let (found, expected) = (figures[key].as_f64().unwrap(), value.as_f64().unwrap());
                assert!(near(found, expected), "layer {} {rows_of} {key}: {found}, expected {expected}", layer.layer);
            }
        }
        // No row of this model is massive.
        assert_eq!(figures(layer, "typical"), figures(layer, "no_bos"));
        assert_eq!(serde_json::to_value(&layer.typical).unwrap(), figures(layer, "typical"));
    }
}

#[test]
fn conventions_that_differ_are_all_evaluated_and_formats_with_one_reading_once() {
    let all =
        run(&EvalSpec { convention: None, layers: LayerSelection::Only([1].into()), ..spec(MODEL, SAES) }).unwrap();
    let names: Vec<&str> = all.layers.iter().map(|layer| layer.convention.as_str()).collect();
    assert_eq!(names, ["saelens", "openmoss", "neuronpedia"]);
    let [saelens, openmoss, neuronpedia] = &all.layers[..] else { unreachable!() };
    // The same features with values in other units stand for the same rows.
    assert_eq!(saelens.typical.l0_mean, neuronpedia.typical.l0_mean);
    assert!((saelens.typical.ce_loss_with_sae - neuronpedia.typical.ce_loss_with_sae).abs() < 1e-4);
    assert!(openmoss.typical.l0_mean > saelens.typical.l0_mean);
    assert_eq!(openmoss.typical.ce_loss_with_ablation, saelens.typical.ce_loss_with_ablation);
    let native = run(&EvalSpec { convention: None, ..spec("tied/model", "tied/saes_topk") }).unwrap();
    assert_eq!(native.layers.iter().map(|layer| layer.convention.as_str()).collect::<Vec<_>>(), ["native"; 2]);
    assert!(native.layers.iter().all(|layer| layer.typical.l0_max <= 12));
}

#[test]
fn sites_inside_a_layer_are_evaluated_too() {
    for saes in ["llama3/saes_a", "llama3/saes_m"] {
        let found = run(&spec(MODEL, saes)).unwrap();
        let figures = &found.layers[0].typical;
        assert!(figures.ce_loss_with_ablation.is_finite() && figures.ce_loss_with_sae.is_finite(), "{saes}");
        assert_ne!(figures.ce_loss_with_ablation, figures.ce_loss_without_sae, "{saes}");
    }
}

#[test]
fn the_same_text_gives_the_same_figures_with_any_number_of_threads() {
    let one = EvalSpec { threads: Some(1.try_into().unwrap()), ..spec("tied/model", "tied/saes_topk") };
    let (one, two) = (run(&one).unwrap(), run(&spec("tied/model", "tied/saes_topk")).unwrap());
    assert_eq!(serde_json::to_string(&one).unwrap(), serde_json::to_string(&two).unwrap());
}

#[test]
fn what_cannot_be_evaluated_is_said() {
    let message = |spec: &EvalSpec| run(spec).unwrap_err();
    let short = message(&EvalSpec { tokens: 10, ..spec(MODEL, SAES) });
    assert!(short.contains("the text has 10 tokens") && short.contains("--tokens"), "{short}");
    let layer = message(&EvalSpec { layers: LayerSelection::Only([9].into()), ..spec(MODEL, SAES) });
    assert!(layer.contains('9'), "{layer}");
    let transcoder = message(&spec(MODEL, "llama3/saes_tc"));
    assert!(transcoder.contains("transcoder"), "{transcoder}");
    let other = message(&spec("tied/model", SAES));
    assert!(other.contains("another model"), "{other}");
    let context = message(&EvalSpec { context: 1, ..spec(MODEL, SAES) });
    assert!(context.contains("at least 2"), "{context}");
    let missing = message(&EvalSpec { files: vec!["none.txt".into()], ..spec(MODEL, SAES) });
    assert!(missing.contains("none.txt: cannot be read"), "{missing}");
}
