//! Llama Scope R1-Distill (hub repository `fnlp/Llama-Scope-R1-Distill`, one folder `{mixture}/L{N}R/` a layer).
//!
//! `config.json` and `sae_weights.safetensors` with `encoder.weight [d_sae, d_model]`, `encoder.bias`, `decoder.weight
//! [d_model, d_sae]`, `decoder.bias`, `log_jumprelu_threshold [d_sae]` and the average norm of the training inputs as a
//! scalar tensor `dataset_average_activation_norm.{hook point}` (OpenMOSS/Language-Model-SAEs, `_get_full_state_dict`).
//!
//! Read as SAELens 6 reads it (`llama_scope_r1_distill_sae_huggingface_loader`, then
//! `fold_activation_norm_scaling_factor`): `value = f_in (w_j.x) + b_j`, active iff above `exp(log threshold)`, which
//! unlike Llama Scope's already is in the normalised space. The conventions do not apply.

use std::path::Path;

use llamascope_record::Tap;

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::norms::{self, Features};
use crate::{Activation, Error, Format, InputNorm, Sae, find, llama_scope};

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const WEIGHTS: &str = "sae_weights.safetensors";

/// Where the SAE of a folder reads: what `config.json` says, which must be what the folder's name says.
pub(crate) fn tap(folder: &Path) -> Result<Tap, Error> {
    find::openmoss_tap(folder, &Config::read(folder.join(CONFIG))?)
}

/// Opens a folder in this format.
pub(crate) fn load(folder: &Path) -> Result<Sae, Error> {
    let config = Config::read(folder.join(CONFIG))?;
    let tap = find::openmoss_tap(folder, &config)?;
    if let Some(found) = config.opt_text("norm_activation")?.filter(|found| *found != "dataset-wise") {
        return Err(config.error("norm_activation", format!("is `{found}`; only `dataset-wise` is supported")));
    }
    let (d_in, expansion) = (config.size("d_model")?, config.size("expansion_factor")?);
    let d_sae = d_in.checked_mul(expansion).filter(|&d_sae| u32::try_from(d_sae).is_ok()).ok_or_else(|| {
        config.error("expansion_factor", format!("is {expansion}: the dictionary would not fit ids of 32 bits"))
    })?;

    let weights = Checkpoint::open(folder, WEIGHTS)?;
    let norm_name = format!("dataset_average_activation_norm.{}", config.text("hook_point_in")?);
    let average = weights.scalar(&norm_name)?;
    let senseless = || weights.error(&norm_name, format!("is {average}, expected the average norm, a number above 0"));
    let f_in = llama_scope::norm_factor(d_in, f64::from(average)).ok_or_else(senseless)?;
    let decoder = weights.matrix("decoder.weight", Features::Columns.shape(d_sae, d_in))?;
    let norms = norms::sample(&decoder, Features::Columns);
    let thresholds = weights.vector("log_jumprelu_threshold", d_sae)?.into_iter().map(f32::exp).collect();
    Ok(Sae {
        tap,
        w_enc: weights.matrix("encoder.weight", [d_sae, d_in])?,
        bias: weights.finite_vector("encoder.bias", d_sae)?,
        input_bias: None,
        input_norm: InputNorm::None,
        scale: f_in as f32,
        gain: None,
        activation: Activation::JumpRelu(thresholds),
        path: folder.into(),
        format: Format::R1Distill,
        convention: None,
        l0_target: config.opt_number("top_k")?,
        decoder_norm: Some(weights.norm_stats("decoder.weight", &norms)?),
        norm_scaling_factor: Some(f_in),
        files: vec![config.path().into(), weights.path().into()],
        warnings: Vec::new(),
    })
}
