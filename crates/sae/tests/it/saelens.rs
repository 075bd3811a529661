use std::path::{Path, PathBuf};

use llamascope_record::{Site, Tap};
use llamascope_sae::{Activation, Convention, Sae, find_saes, reference};
use safetensors::tensor::Dtype;

use crate::files::{Named, Numbers, assert_close, numbers, ordered, transposed, wide, write_tensors};

/// A configuration as SAELens 6 writes it; `extra` is appended to the top level.
pub fn config(sae: &Numbers, architecture: &str, hook: &str, extra: &str) -> String {
    format!(
        r#"{{"d_in": {}, "d_sae": {}, "dtype": "float32", "device": "cpu", "reshape_activations": "none",
            "metadata": {{"sae_lens_version": "6.54.12", "hook_name": "{hook}", "hook_head_index": null}},
            "architecture": "{architecture}"{extra}}}"#,
        sae.d_in, sae.d_sae
    )
}

pub fn write(root: &Path, name: &str, sae: &Numbers, json: &str) -> PathBuf {
    let folder = root.join(name);
    let (n, d) = (sae.d_sae, sae.d_in);
    let thresholds = thresholds(sae);
    write_tensors(
        &folder.join("sae_weights.safetensors"),
        Dtype::F32,
        &[
            Named("W_enc", &[d, n], &transposed(&sae.enc, n, d)),
            Named("b_enc", &[n], &sae.b_enc),
            Named("W_dec", &[n, d], &transposed(&sae.dec, d, n)),
            Named("b_dec", &[d], &sae.b_dec),
            Named("threshold", &[n], &thresholds),
            Named("scaling_factor", &[n], &vec![1.0; n]),
        ],
    );
    std::fs::write(folder.join("cfg.json"), json).unwrap();
    folder
}

fn thresholds(sae: &Numbers) -> Vec<f32> {
    (0..sae.d_sae).map(|j| (j % 5) as f32 * 0.4 - 0.4).collect()
}

const HOOK: &str = "blocks.2.hook_resid_post";

/// (norm(x) - b_dec) . w_j + b_j, spelled out a second time.
fn pre_activations(sae: &Numbers, x: &[f32], norm: &str, subtract: bool) -> Vec<f64> {
    let mut x = wide(x);
    let n = x.len() as f64;
    match norm {
        "constant_norm_rescale" => {
            let length = x.iter().map(|v| v * v).sum::<f64>().sqrt();
            x.iter_mut().for_each(|v| *v *= n.sqrt() / length);
        }
        "layer_norm" => {
            let mean = x.iter().sum::<f64>() / n;
            x.iter_mut().for_each(|v| *v -= mean);
            let deviation = (x.iter().map(|v| v * v).sum::<f64>() / (n - 1.0)).sqrt();
            x.iter_mut().for_each(|v| *v /= deviation + 1e-5);
        }
        _ => {}
    }
    if subtract {
        x.iter_mut().zip(&sae.b_dec).for_each(|(v, &b)| *v -= f64::from(b));
    }
    (0..sae.d_sae).map(|j| sae.product(j, &x) + f64::from(sae.b_enc[j])).collect()
}

#[test]
fn every_architecture_and_input_norm_is_its_formula() {
    let root = tempfile::tempdir().unwrap();
    let sae = Numbers::new(12, 40);
    let x: Vec<f32> = numbers(9, 12).iter().map(|v| v * 3.0 + 0.5).collect();
    for (n, norm) in ["none", "constant_norm_rescale", "layer_norm"].into_iter().enumerate() {
        for subtract in [false, true] {
            let extra = format!(
                r#", "normalize_activations": "{norm}", "apply_b_dec_to_input": {subtract}, "k": 7,
                   "rescale_acts_by_decoder_norm": true"#
            );
            let open = |architecture: &str| {
                let name = format!("{architecture}{n}{subtract}");
                let folder = write(root.path(), &name, &sae, &config(&sae, architecture, HOOK, &extra));
                Sae::open(&folder, Convention::Openmoss).unwrap()
            };
            let h = pre_activations(&sae, &x, norm, subtract);
            let pairs = || h.iter().enumerate().map(|(j, &h)| (j as u32, h)).filter(|f| f.1 > 0.0);
            let (standard, jumprelu, topk) = (open("standard"), open("jumprelu"), open("topk"));
            assert_eq!(standard.changes_rows(), subtract || norm != "none");

            assert_close(&reference::encode(&standard, &x), &ordered(pairs()));
            let above = |f: &(u32, f64)| f.1 > f64::from(thresholds(&sae)[f.0 as usize]);
            assert_close(&reference::encode(&jumprelu, &x), &ordered(pairs().filter(above)));
            let mut scaled = ordered(pairs().map(|(j, h)| (j, h * sae.norm(j as usize))));
            scaled.truncate(7);
            assert_close(&reference::encode(&topk, &x), &scaled);
            assert_eq!((topk.l0_target, standard.convention), (Some(7.0), None));
        }
    }
}

#[test]
fn prepared_rows_are_what_the_encoder_multiplies() {
    let root = tempfile::tempdir().unwrap();
    let sae = Numbers::new(12, 40);
    for norm in ["none", "constant_norm_rescale", "layer_norm"] {
        let json = config(&sae, "standard", HOOK, &format!(r#", "normalize_activations": "{norm}""#));
        let opened = Sae::open(&write(root.path(), norm, &sae, &json), Convention::Saelens).unwrap();
        // The second row is zeros, the third shows that rows do not touch each other.
        let rows = [numbers(5, 12), vec![0.0; 12], numbers(6, 12)].concat();
        let mut prepared = rows.clone();
        opened.prepare_rows(&mut prepared);
        let bare = Sae { input_bias: None, input_norm: llamascope_sae::InputNorm::None, ..opened.clone() };
        for (row, prepared) in rows.chunks(12).zip(prepared.chunks(12)) {
            assert!(prepared.iter().all(|v| v.is_finite()));
            let expected: Vec<_> =
                reference::encode(&opened, row).iter().map(|&(id, value)| (id, f64::from(value))).collect();
            assert_close(&reference::encode(&bare, prepared), &expected);
            let mut alone = row.to_vec();
            opened.prepare_rows(&mut alone);
            assert_eq!(alone, prepared);
        }
    }
}

#[test]
fn topk_breaks_ties_by_id_and_keeps_only_what_is_positive() {
    let root = tempfile::tempdir().unwrap();
    let enc = vec![1.0, 2.0, 1.0, -1.0, 1.0, 0.0];
    let sae = Numbers { d_in: 1, d_sae: 6, enc, b_enc: vec![0.0; 6], dec: vec![1.0; 6], b_dec: vec![0.0] };
    let open = |k: usize| {
        let json = config(&sae, "topk", HOOK, &format!(r#", "k": {k}"#));
        Sae::open(&write(root.path(), &k.to_string(), &sae, &json), Convention::Saelens).unwrap()
    };
    assert_eq!(reference::encode(&open(3), &[1.0]), [(1, 2.0), (0, 1.0), (2, 1.0)]);
    assert_eq!(reference::encode(&open(6), &[1.0]), [(1, 2.0), (0, 1.0), (2, 1.0), (4, 1.0)]);
}

#[test]
fn files_of_before_6_0_are_read() {
    let root = tempfile::tempdir().unwrap();
    let sae = Numbers::new(8, 16);
    let old = |extra: &str| format!(r#"{{"d_in": 8, "d_sae": 16, "sae_lens_version": "5.9.0", {extra}}}"#);
    let open = |name: &str, extra: &str| Sae::open(&write(root.path(), name, &sae, &old(extra)), Convention::Saelens);
    let standard = open("a", r#""hook_point": "blocks.4.hook_mlp_out", "hook_point_layer": 4"#).unwrap();
    assert_eq!((standard.tap, &standard.activation), (Tap { layer: 4, site: Site::MlpOut }, &Activation::Relu));
    assert!(standard.input_bias.is_some(), "apply_b_dec_to_input is true unless said otherwise");
    let hook = r#""hook_name": "blocks.4.hook_attn_out", "hook_layer": 4"#;
    let topk =
        open("b", &format!(r#"{hook}, "activation_fn_str": "topk", "activation_fn_kwargs": {{"k": 3}}"#)).unwrap();
    assert_eq!(topk.activation, Activation::TopK(3));
    let scaled = open("c", &format!(r#"{hook}, "normalize_activations": "expected_average_only_in""#)).unwrap();
    assert!(scaled.warnings[0].contains("expected_average_only_in"), "{:?}", scaled.warnings);
    assert_eq!(open("d", &format!(r#"{hook}, "normalize_activations": false"#)).unwrap().warnings, [""; 0]);
}

#[test]
fn resid_pre_is_the_output_of_the_layer_before() {
    let root = tempfile::tempdir().unwrap();
    let sae = Numbers::new(8, 16);
    let folder = write(root.path(), "five", &sae, &config(&sae, "standard", "blocks.5.hook_resid_pre", ""));
    let tap = Tap { layer: 4, site: Site::ResidPost };
    assert_eq!(Sae::open(&folder, Convention::Saelens).unwrap().tap, tap);
    assert_eq!(find_saes(&folder).unwrap().into_keys().collect::<Vec<_>>(), [tap]);
    let folder = write(root.path(), "zero", &sae, &config(&sae, "standard", "blocks.0.hook_resid_pre", ""));
    assert!(Sae::open(&folder, Convention::Saelens).unwrap_err().to_string().contains("embeddings"));
}

#[test]
fn what_is_not_supported_is_named_with_what_is() {
    let root = tempfile::tempdir().unwrap();
    let sae = Numbers::new(8, 16);
    let cases: [(&str, &str, &str, &[&str]); 12] = [
        ("gated", HOOK, "", &["`architecture`", "`gated`", "standard, jumprelu and topk"]),
        ("standard", HOOK, r#", "activation_fn_str": "tanh-relu""#, &["`activation_fn_str`", "tanh-relu"]),
        ("standard", HOOK, r#", "activation_fn_str": 7"#, &["`activation_fn_str`", "is 7"]),
        ("topk", HOOK, "", &["`k`", "missing"]),
        ("topk", HOOK, r#", "k": 17"#, &["`k`", "17", "16 features"]),
        ("topk", HOOK, r#", "k": -3"#, &["`k`", "-3"]),
        (
            "standard",
            HOOK,
            r#", "normalize_activations": "covariance_whitening""#,
            &["covariance_whitening", "layer_norm"],
        ),
        ("standard", HOOK, r#", "normalize_activations": 3"#, &["`normalize_activations`", "is 3"]),
        ("standard", HOOK, r#", "hook_layer": 7"#, &["`hook_layer`", "is 7", HOOK]),
        ("standard", HOOK, r#", "hook_head_index": 0"#, &["`hook_head_index`", "single head"]),
        ("standard", "blocks.1.attn.hook_z", "", &["`metadata.hook_name`", "hook_z", "hook_attn_out"]),
        ("standard", HOOK, r#", "apply_b_dec_to_input": "yes""#, &["`apply_b_dec_to_input`", "true or false"]),
    ];
    for (index, (architecture, hook, extra, words)) in cases.into_iter().enumerate() {
        let folder = write(root.path(), &format!("sae{index}"), &sae, &config(&sae, architecture, hook, extra));
        let text = Sae::open(&folder, Convention::Saelens).unwrap_err().to_string();
        for word in words {
            assert!(text.contains(word), "case {index}: `{text}` lacks `{word}`");
        }
    }
}

#[test]
fn bad_tensors_are_named() {
    let root = tempfile::tempdir().unwrap();
    let sae = Numbers::new(2, 3);
    let folder = write(root.path(), "x", &sae, &config(&sae, "jumprelu", HOOK, ""));
    let path = folder.join("sae_weights.safetensors");
    let (nan, ones) = ([0.0, f32::NAN, 0.0], [1.0; 6]);
    let base =
        || vec![Named("W_enc", &[2, 3], &ones), Named("W_dec", &[3, 2], &ones), Named("b_dec", &[2], &ones[..2])];
    let cases: [(Vec<Named>, &str); 5] = [
        (vec![Named("b_enc", &[3], &ones[..3])], "threshold"),
        (vec![Named("b_enc", &[3], &ones[..3]), Named("threshold", &[3], &nan)], "NaN at index 1"),
        (vec![Named("b_enc", &[3], &ones[..3]), Named("threshold", &[1], &ones[..1])], "[1], expected [3]"),
        (vec![Named("threshold", &[3], &ones[..3])], "b_enc"),
        (vec![Named("scaling_factor", &[3], &[1.0, 2.0, 1.0])], "scaling_factor"),
    ];
    for (tensors, word) in cases {
        write_tensors(&path, Dtype::F32, &base().into_iter().chain(tensors).collect::<Vec<_>>());
        let text = Sae::open(&folder, Convention::Saelens).unwrap_err().to_string();
        assert!(text.contains(word) && text.contains("sae_weights.safetensors"), "`{text}` lacks `{word}`");
    }
}
