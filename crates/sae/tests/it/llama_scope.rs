use std::path::{Path, PathBuf};

use llamascope_record::Site;
use llamascope_sae::{Convention, Error, Sae, reference};
use proptest::prelude::*;
use safetensors::tensor::Dtype;

use crate::files::{Named, Numbers, assert_close, numbers, ordered, wide, write_tensors};

const THETA: f64 = 0.15;

pub fn hyperparams(sae: &Numbers, hook: &str, avg_in: f64, avg_out: f64) -> String {
    format!(
        r#"{{"hook_point_in": "{hook}", "d_model": {}, "d_sae": {}, "act_fn": "jumprelu", "jump_relu_threshold": {THETA},
            "norm_activation": "dataset-wise", "dataset_average_activation_norm": {{"in": {avg_in}, "out": {avg_out}}},
            "use_glu_encoder": false, "apply_decoder_bias_to_pre_encoder": false, "top_k": 50}}"#,
        sae.d_in, sae.d_sae
    )
}

pub fn write(root: &Path, name: &str, sae: &Numbers, json: &str) -> PathBuf {
    let folder = root.join(name);
    let (n, d) = (sae.d_sae, sae.d_in);
    write_tensors(
        &folder.join("checkpoints/final.safetensors"),
        Dtype::BF16,
        &[
            Named("encoder.weight", &[n, d], &sae.enc),
            Named("encoder.bias", &[n], &sae.b_enc),
            Named("decoder.weight", &[d, n], &sae.dec),
            Named("decoder.bias", &[d], &sae.b_dec),
        ],
    );
    std::fs::write(folder.join("hyperparams.json"), json).unwrap();
    folder
}

/// r_j of the authors' code, transcoders included.
fn authors_value(sae: &Numbers, j: usize, x: &[f64], f_in: f64, f_out: f64) -> f64 {
    sae.norm(j) * (f_in / f_out) * (sae.product(j, x) + f64::from(sae.b_enc[j]) / f_in)
}

#[test]
fn the_conventions_are_their_formulas() {
    let root = tempfile::tempdir().unwrap();
    let sae = Numbers::new(16, 96);
    let f = 4.0 / 2.5;
    let folder = write(root.path(), "Any-L3R-8x", &sae, &hyperparams(&sae, "blocks.3.hook_resid_post", 2.5, 2.5));
    let open = |convention| Sae::open(&folder, convention).unwrap();
    let (saelens, openmoss) = (open(Convention::Saelens), open(Convention::Openmoss));
    let neuronpedia = open(Convention::Neuronpedia);
    let mut told_apart = 0;
    for seed in 0..20 {
        let x = numbers(100 + seed, sae.d_in);
        let wx = wide(&x);
        let shown = |j: usize| f * sae.product(j, &wx) + f64::from(sae.b_enc[j]);
        let active = |j: usize| shown(j) > THETA * f && shown(j) > 0.0;
        let r = |j: usize| authors_value(&sae, j, &wx, f, f);
        let all = || 0..sae.d_sae;

        let expected_saelens = ordered(all().filter(|&j| active(j)).map(|j| (j as u32, shown(j))));
        let expected_neuronpedia = ordered(all().filter(|&j| active(j)).map(|j| (j as u32, r(j))));
        let expected_openmoss = ordered(all().filter(|&j| r(j) > THETA).map(|j| (j as u32, r(j))));
        assert_close(&reference::encode(&saelens, &x), &expected_saelens);
        assert_close(&reference::encode(&neuronpedia, &x), &expected_neuronpedia);
        assert_close(&reference::encode(&openmoss, &x), &expected_openmoss);
        told_apart += usize::from(expected_openmoss.len() != expected_saelens.len());
        assert!(expected_saelens.len() > 10 && expected_saelens.len() < 90);
    }
    assert!(told_apart > 15, "the test's decoder lengths must matter");
}

#[test]
fn a_transcoder_has_two_factors() {
    let root = tempfile::tempdir().unwrap();
    let sae = Numbers::new(16, 64);
    let json = hyperparams(&sae, "blocks.8.ln2.hook_normalized", 4.0, 0.5);
    let folder = write(root.path(), "Llama3_1-8B-Base-L8TC-8x", &sae, &json);
    let opened = Sae::open(&folder, Convention::Openmoss).unwrap();
    assert_eq!((opened.tap.layer, opened.tap.site), (8, Site::MlpIn));
    let x = numbers(7, sae.d_in);
    let r = |j: usize| authors_value(&sae, j, &wide(&x), 4.0 / 4.0, 4.0 / 0.5);
    let expected = ordered((0..sae.d_sae).filter(|&j| r(j) > THETA).map(|j| (j as u32, r(j))));
    assert!(!expected.is_empty());
    assert_close(&reference::encode(&opened, &x), &expected);
}

#[test]
fn a_value_at_its_threshold_is_not_active() {
    let root = tempfile::tempdir().unwrap();
    // f_in = 1; feature 0 gives exactly theta, feature 1 the next value that bf16 holds.
    let (enc, dec) = (vec![1.0, 1.0078125], vec![1.0, 1.0]);
    let sae = Numbers { d_in: 1, d_sae: 2, enc, b_enc: vec![0.0; 2], dec, b_dec: vec![0.0] };
    let json = hyperparams(&sae, "blocks.0.hook_mlp_out", 1.0, 1.0).replace("0.15", "1.0");
    let folder = write(root.path(), "L0M-2x", &sae, &json);
    for convention in Convention::ALL {
        let opened = Sae::open(&folder, convention).unwrap();
        assert_eq!(reference::encode(&opened, &[1.0]), [(1, 1.0078125)], "{convention}");
        assert_eq!(opened.warnings, [""; 0]);
    }
}

#[test]
fn what_the_user_is_told() {
    let root = tempfile::tempdir().unwrap();
    let sae = Numbers::new(16, 96);
    let json = hyperparams(&sae, "blocks.3.hook_resid_post", 2.5, 2.5);
    let opened = Sae::open(&write(root.path(), "renamed", &sae, &json), Convention::Saelens).unwrap();
    assert_eq!((opened.d_in(), opened.d_sae(), opened.l0_target), (16, 96, Some(50.0)));
    assert_eq!(opened.norm_scaling_factor, Some(4.0 / 2.5));
    assert!(!opened.changes_rows());
    let norm = opened.decoder_norm.unwrap();
    let mean = (0..96).map(|j| sae.norm(j)).sum::<f64>() / 96.0;
    assert!((norm.mean - mean).abs() < 1e-12 && norm.sampled == 96, "{norm:?}");
    assert_eq!(opened.warnings.len(), 1);
    assert!(opened.warnings[0].contains("`saelens`"));
}

#[test]
fn bad_files_are_named_with_key_or_tensor() {
    let root = tempfile::tempdir().unwrap();
    let sae = Numbers::new(8, 16);
    let good = hyperparams(&sae, "blocks.3.hook_resid_post", 2.5, 2.5);
    let mut nan = Numbers::new(8, 16);
    nan.b_enc[5] = f32::NAN;
    let mut broken_decoder = Numbers::new(8, 16);
    broken_decoder.dec[3] = f32::INFINITY;
    let cases: [(&Numbers, String, &[&str]); 16] = [
        (&sae, good.replace("jumprelu", "topk"), &["`act_fn`", "topk", "jumprelu"]),
        (&sae, good.replace("dataset-wise", "token-wise"), &["`norm_activation`", "token-wise", "dataset-wise"]),
        (&sae, good.replace(r#""d_sae": 16"#, r#""d_sae": 32"#), &["encoder.weight", "[16, 8]", "[32, 8]"]),
        (&sae, good.replace(r#""d_sae": 16"#, r#""d_sae": 0"#), &["`d_sae`", "is 0"]),
        (&sae, good.replace(r#""d_model": 8"#, r#""d_model": 9"#), &["encoder.weight", "[16, 9]"]),
        (&sae, good.replace(r#""d_model": 8"#, r#""d_model": "8""#), &["`d_model`", "\"8\""]),
        (&sae, good.replace("0.15", "null"), &["`jump_relu_threshold`", "missing"]),
        (&sae, good.replace("0.15", "NaN"), &["hyperparams.json", "line"]),
        (&sae, good.replace(r#""in": 2.5"#, r#""in": 0"#), &["`dataset_average_activation_norm.in`", "above 0"]),
        (&sae, good.replace(r#""in": 2.5"#, r#""in": -1"#), &["`dataset_average_activation_norm.in`", "-1"]),
        (&sae, good.replace(r#""out": 2.5"#, r#""out": 1e-300"#), &["`dataset_average_activation_norm.out`"]),
        (&sae, good.replace("\"use_glu_encoder\": false", "\"use_glu_encoder\": true"), &["`use_glu_encoder`"]),
        (&sae, good.replace("blocks.3.", "blocks.4."), &["`hook_point_in`", "blocks.3.hook_resid_post", "blocks.4."]),
        (&sae, good.replace("hook_resid_post", "attn.hook_z"), &["`hook_point_in`", "hook_z", "hook_attn_out"]),
        (&nan, good.clone(), &["encoder.bias", "NaN", "index 5"]),
        (&broken_decoder, good.clone(), &["decoder.weight", "infinity"]),
    ];
    for (index, (numbers, json, words)) in cases.iter().enumerate() {
        let folder = write(&root.path().join(index.to_string()), "X-L3R-8x", numbers, json);
        let text = Sae::open(&folder, Convention::Openmoss).unwrap_err().to_string();
        for word in *words {
            assert!(text.contains(word), "case {index}: `{text}` lacks `{word}`");
        }
        assert!(text.contains("X-L3R-8x"), "{text}");
    }
}

#[test]
fn missing_files_and_pickles_are_told_the_way_out() {
    let root = tempfile::tempdir().unwrap();
    let sae = Numbers::new(8, 16);
    let folder = write(root.path(), "L3R", &sae, &hyperparams(&sae, "blocks.3.hook_resid_post", 2.5, 2.5));
    let weights = folder.join("checkpoints/final.safetensors");
    std::fs::write(&weights, &std::fs::read(&weights).unwrap()[..100]).unwrap();
    assert!(matches!(Sae::open(&folder, Convention::Saelens), Err(Error::Weights(_))));
    std::fs::rename(&weights, folder.join("checkpoints/final.pt")).unwrap();
    let text = Sae::open(&folder, Convention::Saelens).unwrap_err().to_string();
    assert!(text.contains("final.pt") && text.contains("safetensors.torch.save_file"), "{text}");
    std::fs::remove_file(folder.join("checkpoints/final.pt")).unwrap();
    let text = Sae::open(&folder, Convention::Saelens).unwrap_err().to_string();
    assert!(text.contains("checkpoints/final.safetensors") && text.contains("download"), "{text}");
}

proptest! {
    /// Whatever stands in the files, opening ends in an SAE or an error.
    #[test]
    fn damaged_files_do_not_panic(at in 0.0..1.0f64, byte: u8, in_weights: bool, cut: bool) {
        let root = tempfile::tempdir().unwrap();
        let sae = Numbers::new(4, 8);
        let folder = write(root.path(), "L3R", &sae, &hyperparams(&sae, "blocks.3.hook_resid_post", 2.5, 2.5));
        let path = folder.join(if in_weights { "checkpoints/final.safetensors" } else { "hyperparams.json" });
        let mut bytes = std::fs::read(&path).unwrap();
        let at = (bytes.len() as f64 * at) as usize;
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        std::fs::write(&path, bytes).unwrap();
        if let Ok(opened) = Sae::open(&folder, Convention::Neuronpedia) {
            let _ = reference::encode(&opened, &vec![0.5; opened.d_in()]);
        }
    }
}
