//! Writing an SAE in the Llama Scope layout or in that of SAELens. This program and SAELens read both.

use std::path::{Path, PathBuf};

use llamascope_compute::{Dtype, Tensor};
use llamascope_record::{Site, Tap};
use serde_json::json;

use crate::llama_scope::{CONFIG, WEIGHTS};
use crate::saelens;
use crate::{Activation, Error};

/// A JumpReLU SAE as it lies in a Llama Scope folder.
pub struct LlamaScopeFile<'a> {
    /// Where it reads.
    pub tap: Tap,
    /// `[d_sae, d_in]`.
    pub encoder: &'a Tensor,
    /// `[d_sae]`.
    pub encoder_bias: &'a Tensor,
    /// `[d_in, d_sae]`.
    pub decoder: &'a Tensor,
    /// `[d_in]`.
    pub decoder_bias: &'a Tensor,
    /// Threshold in units of the rows as the model has them: on a value of a row scaled by f_in it is f_in times this.
    pub jump_relu_threshold: f64,
    /// Mean length of the rows of the training text.
    pub average_norm: f64,
    /// Active features a token that it was made for.
    pub top_k: usize,
}

/// Makes the folder `{prefix}-L{layer}{position}-{expansion}x` in `root` and writes the SAE into it.
///
/// # Errors
/// A folder or file that cannot be written.
pub fn save_llama_scope(root: &Path, prefix: &str, sae: &LlamaScopeFile<'_>) -> Result<PathBuf, Error> {
    let (d_sae, d_in) = (sae.encoder.n_rows(), sae.encoder.n_cols());
    let position = match sae.tap.site {
        Site::ResidPost => "R",
        Site::AttnOut => "A",
        Site::MlpOut => "M",
        Site::MlpIn => "TC",
    };
    let folder = root.join(format!("{prefix}-L{}{position}-{}x", sae.tap.layer, d_sae / d_in));
    let weights = folder.join(WEIGHTS);
    let config = folder.join(CONFIG);
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::Io { path, source }
    };
    let parent = weights.parent().unwrap_or(&folder);
    std::fs::create_dir_all(parent).map_err(io(parent))?;
    // A transcoder reconstructs what comes out of the MLP that it reads the input of.
    let output = match sae.tap.site {
        Site::MlpIn => Tap { site: Site::MlpOut, ..sae.tap },
        _ => sae.tap,
    };
    let hyperparams = json!({
        "hook_point_in": sae.tap.to_string(),
        "hook_point_out": output.to_string(),
        "dtype": format!("torch.{}", computed_in(&[sae.encoder, sae.encoder_bias, sae.decoder, sae.decoder_bias])),
        "use_decoder_bias": true,
        "apply_decoder_bias_to_pre_encoder": false,
        "expansion_factor": d_sae / d_in,
        "d_model": d_in,
        "d_sae": d_sae,
        "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": {"in": sae.average_norm, "out": sae.average_norm},
        "sparsity_include_decoder_norm": true,
        "use_glu_encoder": false,
        "act_fn": "jumprelu",
        "jump_relu_threshold": sae.jump_relu_threshold,
        "top_k": sae.top_k,
    });
    llamascope_weights::save(
        &weights,
        &[
            ("encoder.weight", sae.encoder),
            ("encoder.bias", sae.encoder_bias),
            ("decoder.weight", sae.decoder),
            ("decoder.bias", sae.decoder_bias),
        ],
    )?;
    std::fs::write(&config, format!("{hyperparams:#}\n")).map_err(io(&config))?;
    Ok(folder)
}

/// The release of SAELens whose files ours are like.
const SAELENS_VERSION: &str = "6.54.12";

/// What SAELens converts all of an SAE to when it reads one: what loses no digit of any tensor.
fn computed_in(tensors: &[&Tensor]) -> &'static str {
    if tensors.iter().all(|tensor| tensor.dtype() == Dtype::Bf16) { "bfloat16" } else { "float32" }
}

/// An SAE as it lies in a folder of SAELens.
pub struct SaelensFile<'a> {
    /// Where it reads.
    pub tap: Tap,
    /// The model, for the record.
    pub model: &'a str,
    /// Tokens of a context that it was trained on, for the record.
    pub context: usize,
    /// `[d_in, d_sae]`.
    pub encoder: &'a Tensor,
    /// `[d_sae]`.
    pub encoder_bias: &'a Tensor,
    /// `[d_sae, d_in]`.
    pub decoder: &'a Tensor,
    /// `[d_in]`.
    pub decoder_bias: &'a Tensor,
    /// What makes a value active.
    pub activation: &'a Activation,
}

/// Writes an SAE into a folder, which is made, as SAELens 6 saves one. Nothing is subtracted before the encoder and rows
/// are not normalised: such things must be folded into the weights.
///
/// # Errors
/// A folder or file that cannot be written.
pub fn save_saelens(folder: &Path, sae: &SaelensFile<'_>) -> Result<(), Error> {
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::Io { path, source }
    };
    std::fs::create_dir_all(folder).map_err(io(folder))?;
    let mut config = json!({
        "d_in": sae.encoder.n_rows(),
        "d_sae": sae.encoder.n_cols(),
        "dtype": computed_in(&[sae.encoder, sae.encoder_bias, sae.decoder, sae.decoder_bias]),
        "device": "cpu",
        "apply_b_dec_to_input": false,
        "normalize_activations": "none",
        "reshape_activations": "none",
        // Without a version SAELens takes the file for one from before its release 6, and passes over what stands here.
        "metadata": {
            "sae_lens_version": SAELENS_VERSION,
            "model_name": sae.model,
            "hook_name": sae.tap.to_string(),
            "prepend_bos": false,
            "context_size": sae.context,
        },
    });
    let mut thresholds = None;
    config["architecture"] = match sae.activation {
        Activation::Relu => "standard".into(),
        Activation::JumpRelu(values) => {
            thresholds = Some(Tensor::from_f32("threshold", vec![values.len()], values));
            "jumprelu".into()
        }
        Activation::TopK(k) => {
            config["k"] = (*k).into();
            config["rescale_acts_by_decoder_norm"] = false.into();
            "topk".into()
        }
    };
    let mut tensors =
        vec![("W_enc", sae.encoder), ("b_enc", sae.encoder_bias), ("W_dec", sae.decoder), ("b_dec", sae.decoder_bias)];
    tensors.extend(thresholds.as_ref().map(|thresholds| ("threshold", thresholds)));
    llamascope_weights::save(&folder.join(saelens::WEIGHTS), &tensors)?;
    let path = folder.join(saelens::CONFIG);
    std::fs::write(&path, format!("{config:#}\n")).map_err(io(&path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Convention, Sae};

    #[test]
    fn what_is_saved_opens_at_every_site() {
        let root = tempfile::tempdir().unwrap();
        let numbers = |n: usize| (0..n).map(|i| (i % 7) as f32 - 3.0).collect::<Vec<_>>();
        let (d_in, d_sae) = (4, 8);
        let tensor = |shape: Vec<usize>| Tensor::from_f32("t", shape.clone(), &numbers(shape.iter().product()));
        for site in [Site::ResidPost, Site::AttnOut, Site::MlpOut, Site::MlpIn] {
            let file = LlamaScopeFile {
                tap: Tap { layer: 3, site },
                encoder: &tensor(vec![d_sae, d_in]),
                encoder_bias: &tensor(vec![d_sae]),
                decoder: &tensor(vec![d_in, d_sae]),
                decoder_bias: &tensor(vec![d_in]),
                jump_relu_threshold: 0.5,
                average_norm: 4.0,
                top_k: 2,
            };
            let folder = save_llama_scope(root.path(), "Test", &file).unwrap();
            let sae = Sae::open(&folder, Convention::Saelens).unwrap();
            assert_eq!((sae.tap, sae.d_in(), sae.d_sae()), (file.tap, d_in, d_sae));
            assert_eq!((sae.l0_target, sae.scale), (Some(2.0), 0.5));
            assert_eq!(sae.activation, Activation::JumpRelu(vec![0.25; d_sae]));
            assert_eq!(sae.w_enc.to_f32(), file.encoder.to_f32());
        }
    }

    #[test]
    fn what_is_saved_for_saelens_opens_with_every_activation() {
        let root = tempfile::tempdir().unwrap();
        let numbers = |n: usize| (0..n).map(|i| (i % 7) as f32 - 3.0).collect::<Vec<_>>();
        let (d_in, d_sae) = (4, 8);
        let tensor = |shape: Vec<usize>| Tensor::from_f32("t", shape.clone(), &numbers(shape.iter().product()));
        let activations = [Activation::Relu, Activation::JumpRelu(vec![0.5; d_sae]), Activation::TopK(3)];
        for (at, activation) in activations.iter().enumerate() {
            let file = SaelensFile {
                tap: Tap { layer: 3, site: Site::ResidPost },
                model: "m",
                context: 128,
                encoder: &tensor(vec![d_in, d_sae]),
                encoder_bias: &tensor(vec![d_sae]),
                decoder: &tensor(vec![d_sae, d_in]),
                decoder_bias: &tensor(vec![d_in]),
                activation,
            };
            let folder = root.path().join(at.to_string());
            save_saelens(&folder, &file).unwrap();
            let sae = Sae::open(&folder, Convention::Saelens).unwrap();
            assert_eq!((sae.tap, sae.d_in(), sae.d_sae(), &sae.activation), (file.tap, d_in, d_sae, activation));
            assert!(!sae.changes_rows() && sae.warnings.is_empty());
            let encoder = file.encoder.to_f32();
            assert_eq!(sae.w_enc.to_f32()[..d_in], [0, 8, 16, 24].map(|at| encoder[at]));
        }
    }
}
