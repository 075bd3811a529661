use std::path::{Path, PathBuf};

use llamascope_record::{Site, Tap};
use llamascope_sae::{Convention, Format, Sae, reference};
use safetensors::tensor::Dtype;

use crate::files::{Named, Numbers, assert_close, numbers, ordered, wide, write_tensors};

const CONFIG: &str = r#"{"hook_point_in": "blocks.5.hook_resid_post", "d_model": 16, "expansion_factor": 4,
    "norm_activation": "dataset-wise", "top_k": 50}"#;

pub fn write(root: &Path, name: &str, sae: &Numbers, norm: f32) -> PathBuf {
    let folder = root.join(name);
    let (n, d) = (sae.d_sae, sae.d_in);
    write_tensors(
        &folder.join("sae_weights.safetensors"),
        Dtype::F32,
        &[
            Named("encoder.weight", &[n, d], &sae.enc),
            Named("encoder.bias", &[n], &sae.b_enc),
            Named("decoder.weight", &[d, n], &sae.dec),
            Named("decoder.bias", &[d], &sae.b_dec),
            Named("log_jumprelu_threshold", &[n], &log_thresholds(n)),
            Named("dataset_average_activation_norm.blocks.5.hook_resid_post", &[], &[norm]),
        ],
    );
    std::fs::write(folder.join("config.json"), CONFIG).unwrap();
    folder
}

/// The last feature's threshold is infinite: it is switched off.
fn log_thresholds(n: usize) -> Vec<f32> {
    (0..n).map(|j| if j + 1 == n { f32::INFINITY } else { (j % 3) as f32 - 2.0 }).collect()
}

#[test]
fn thresholds_are_in_the_normalised_space() {
    let root = tempfile::tempdir().unwrap();
    let sae = Numbers::new(16, 64);
    let opened = Sae::open(&write(root.path(), "L5R", &sae, 2.5), Convention::Openmoss).unwrap();
    assert_eq!((opened.tap, opened.format), (Tap { layer: 5, site: Site::ResidPost }, Format::R1Distill));
    assert_eq!((opened.convention, opened.l0_target), (None, Some(50.0)));
    let x = numbers(8, 16);
    let value = |j: usize| 4.0 / 2.5 * sae.product(j, &wide(&x)) + f64::from(sae.b_enc[j]);
    let active = |j: &usize| value(*j) > f64::from(log_thresholds(64)[*j]).exp();
    let expected = ordered((0..64).filter(active).map(|j| (j as u32, value(j))));
    assert!(expected.len() > 3);
    assert_close(&reference::encode(&opened, &x), &expected);
}

#[test]
fn a_missing_or_senseless_norm_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let sae = Numbers::new(16, 64);
    for norm in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let text = Sae::open(&write(root.path(), "L5R", &sae, norm), Convention::Saelens).unwrap_err().to_string();
        assert!(text.contains("dataset_average_activation_norm.blocks.5.hook_resid_post"), "{text}");
    }
    let folder = write(root.path(), "L5R", &sae, 1.0);
    let other = CONFIG.replace("blocks.5", "blocks.6");
    std::fs::write(folder.join("config.json"), other).unwrap();
    let text = Sae::open(&folder, Convention::Saelens).unwrap_err().to_string();
    assert!(text.contains("blocks.5.hook_resid_post") && text.contains("blocks.6.hook_resid_post"), "{text}");
    std::fs::write(
        folder.join("config.json"),
        CONFIG.replace("\"expansion_factor\": 4", "\"expansion_factor\": 4294967295"),
    )
    .unwrap();
    let text = Sae::open(&folder, Convention::Saelens).unwrap_err().to_string();
    assert!(text.contains("`expansion_factor`"), "{text}");
}
