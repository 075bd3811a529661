use llamascope_record::SparseRows;
use llamascope_sae::{Convention, Decoder, Sae, reference};

use crate::files::{Numbers, numbers};
use crate::{llama_scope, saelens};

const INPUTS: usize = 3;

/// Encodes three rows and decodes them again.
fn there_and_back(sae: &Sae, inputs: &[f32]) -> (SparseRows, Vec<f32>) {
    let rows = inputs.chunks(sae.d_in()).map(|row| reference::encode(sae, row));
    let features = SparseRows::from_unsorted(sae.d_sae(), rows).unwrap();
    let decoded = Decoder::open(sae).unwrap().decode(&features, inputs);
    (features, decoded)
}

fn assert_rows(found: &[f32], expected: impl Fn(usize, usize) -> f64, d_in: usize) {
    assert_eq!(found.len(), INPUTS * d_in);
    for (index, &value) in found.iter().enumerate() {
        let expected = expected(index / d_in, index % d_in);
        assert!(
            (f64::from(value) - expected).abs() <= 1e-5 * expected.abs().max(1.0),
            "{index}: {value} for {expected}"
        );
    }
}

/// The sum over a row's features of value times `weight(feature)`.
fn sum(features: &SparseRows, row: usize, weight: impl Fn(usize) -> f64) -> f64 {
    let (ids, values) = features.row(row);
    ids.iter().zip(values).map(|(&id, &value)| f64::from(value) * weight(id as usize)).sum()
}

#[test]
fn llama_scope_in_every_convention() {
    let root = tempfile::tempdir().unwrap();
    let sae = Numbers::new(16, 96);
    let inputs = numbers(50, INPUTS * 16);
    let json = llama_scope::hyperparams(&sae, "blocks.3.ln2.hook_normalized", 4.0, 0.5);
    let folder = llama_scope::write(root.path(), "L3TC-8x", &sae, &json);
    let (f_in, f_out) = (1.0, 8.0);
    let d = |i: usize, j: usize| f64::from(sae.dec[i * 96 + j]);
    let b = |i: usize| f64::from(sae.b_dec[i]);
    for convention in Convention::ALL {
        let (features, decoded) = there_and_back(&Sae::open(&folder, convention).unwrap(), &inputs);
        assert!(features.nnz() > 30);
        let expected = |row, i| match convention {
            Convention::Saelens => sum(&features, row, |j| d(i, j) / f_in) + b(i) / f_in,
            Convention::Openmoss => sum(&features, row, |j| d(i, j) / sae.norm(j)) + b(i) / f_out,
            Convention::Neuronpedia => sum(&features, row, |j| d(i, j) / sae.norm(j)) + b(i) / f_in,
        };
        assert_rows(&decoded, expected, 16);
    }
}

#[test]
fn the_values_of_saelens_and_neuronpedia_stand_for_the_same_rows() {
    let root = tempfile::tempdir().unwrap();
    let sae = Numbers::new(16, 96);
    let json = llama_scope::hyperparams(&sae, "blocks.3.hook_resid_post", 2.5, 2.5);
    let folder = llama_scope::write(root.path(), "L3R-8x", &sae, &json);
    let inputs = numbers(51, INPUTS * 16);
    let decoded = |convention| there_and_back(&Sae::open(&folder, convention).unwrap(), &inputs).1;
    let other = decoded(Convention::Neuronpedia);
    assert_rows(&decoded(Convention::Saelens), |row, i| f64::from(other[row * 16 + i]), 16);
}

#[test]
fn saelens_undoes_the_input_norm_and_the_decoder_norm() {
    let root = tempfile::tempdir().unwrap();
    let sae = Numbers::new(12, 40);
    let inputs: Vec<f32> = numbers(52, INPUTS * 12).iter().map(|v| v * 5.0 + 1.0).collect();
    for norm in ["none", "constant_norm_rescale", "layer_norm"] {
        let extra = format!(r#", "normalize_activations": "{norm}", "k": 5, "rescale_acts_by_decoder_norm": true"#);
        let json = saelens::config(&sae, "topk", "blocks.0.hook_resid_post", &extra);
        let opened = Sae::open(&saelens::write(root.path(), norm, &sae, &json), Convention::Saelens).unwrap();
        let (features, decoded) = there_and_back(&opened, &inputs);
        let expected = |row: usize, i: usize| {
            let input = &inputs[row * 12..][..12];
            let mean = input.iter().map(|&v| f64::from(v)).sum::<f64>() / 12.0;
            let squares = |shift: f64| input.iter().map(|&v| (f64::from(v) - shift).powi(2)).sum::<f64>();
            let sum = sum(&features, row, |j| f64::from(sae.dec[i * 40 + j]) / sae.norm(j)) + f64::from(sae.b_dec[i]);
            match norm {
                "none" => sum,
                "constant_norm_rescale" => sum * squares(0.0).sqrt() / 12f64.sqrt(),
                _ => sum * (squares(mean) / 11.0).sqrt() + mean,
            }
        };
        assert_rows(&decoded, expected, 12);
    }
}

#[test]
fn directions_and_cosines_are_those_of_the_file_in_both_layouts() {
    let root = tempfile::tempdir().unwrap();
    let sae = Numbers::new(16, 96);
    let json = llama_scope::hyperparams(&sae, "blocks.3.hook_resid_post", 2.5, 2.5);
    let columns = llama_scope::write(root.path(), "L3R-8x", &sae, &json);
    let columns = Decoder::open(&Sae::open(&columns, Convention::Saelens).unwrap()).unwrap();
    assert_eq!(columns.d_sae(), 96);
    let vector = |j: usize| (0..16).map(|i| sae.dec[i * 96 + j]).collect::<Vec<f32>>();
    let length = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    for feature in [0, 41, 95] {
        let direction = columns.direction(feature);
        assert_eq!(direction, vector(feature));
        for (other, cosine) in columns.cosines(&direction).into_iter().enumerate() {
            let v = vector(other);
            let dot: f64 = v.iter().zip(&direction).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            let expected = dot / (length(&v) * length(&direction));
            assert!((f64::from(cosine) - expected).abs() < 1e-6, "{feature} and {other}: {cosine} for {expected}");
        }
    }
    assert!(columns.cosines(&[0.0; 16]).iter().all(|cosine| *cosine == 0.0), "no direction is near to none");
}
