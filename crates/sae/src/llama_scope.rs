//! Llama Scope checkpoints (He et al. 2024, arXiv 2410.20526; hub repositories `fnlp/Llama3_1-8B-Base-LX{R,A,M,TC}-{8,32}x`).
//!
//! A folder `...-L{N}{R|A|M|TC}-{8|32}x/` with `hyperparams.json` and `checkpoints/final.safetensors`:
//! `encoder.weight [d_sae, d_model]`, `encoder.bias [d_sae]`, `decoder.weight [d_model, d_sae]`, `decoder.bias [d_model]`.
//! One scalar threshold theta (`jump_relu_threshold`) stands in the JSON.
//!
//! With f_in = sqrt(d_model) / average input norm, f_out likewise, and n_j the length of column j of `decoder.weight`:
//!
//! | convention | scale | bias | gain | threshold on `value` | value |
//! |---|---|---|---|---|---|
//! | `saelens` | f_in | b | 1 | theta f_in | f_in (w_j.x) + b_j |
//! | `openmoss` | 1 | b / f_in | n_j f_in / f_out | theta | n_j f_in / f_out (w_j.x + b_j / f_in) |
//! | `neuronpedia` | 1 | b / f_in | n_j | theta n_j | n_j (w_j.x + b_j / f_in) |
//!
//! - `saelens`: SAELens 6 folds f_in into the encoder and into the threshold (`get_llama_scope_config_from_hf`,
//!   `fold_activation_norm_scaling_factor`) and lets the decoder's lengths be.
//! - `openmoss`: the authors' `SparseAutoEncoder.from_config` (OpenMOSS/Language-Model-SAEs, release of October 2024)
//!   divides the encoder's bias by f_in, multiplies the decoder by f_in / f_out, then moves the decoder's lengths into the
//!   encoder, and compares with theta as it is. f_in = f_out except for transcoders. That code moves the lengths only where
//!   `sparsity_include_decoder_norm` is set; where it is not, its training writes columns of length 1 and moving them
//!   changes nothing, so the flag is not consulted here.
//! - `neuronpedia`: `saelens` followed by `fold_W_dec_norm`: the same active features, values times n_j / f_in.
//!
//! All three agree only where n_j = 1 (and up to units: saelens' values are f_in times larger).
//!
//! **Transcoders (TC)** read `blocks.N.ln2.hook_normalized`. In TransformerLens (`components/rms_norm.py`, in the authors'
//! fork of that time too) this hook sees `x / rms(x)` BEFORE the multiplication by the norm's gain `w`, whether or not
//! the gain was folded into the next weights. The checkpoints say the same: their average input norm is 64.0 =
//! sqrt(4096), which a row divided by its RMS has exactly and a row with the gain applied has not. So
//! [`Site::MlpIn`](llamascope_record::Site::MlpIn) must be read without the gain.

use std::path::Path;

use llamascope_record::Tap;

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::norms::{self, Features, NormStats};
use crate::{Activation, Convention, Error, Format, InputNorm, Sae, find, release};

pub(crate) const CONFIG: &str = "hyperparams.json";
pub(crate) const WEIGHTS: &str = "checkpoints/final.safetensors";

/// Where the SAE of a folder reads: what `hyperparams.json` says, which must be what the folder's name says.
pub(crate) fn tap(folder: &Path) -> Result<Tap, Error> {
    find::openmoss_tap(folder, &Config::read(folder.join(CONFIG))?)
}

/// `sqrt(d_model) / average`, where that is a number that f32 can hold.
pub(crate) fn norm_factor(d_model: usize, average: f64) -> Option<f64> {
    Some((d_model as f64).sqrt() / average).filter(|factor| *factor > 0.0 && (*factor as f32).is_normal())
}

/// The two normalisation factors (f_in, f_out).
pub(crate) fn norm_factors(config: &Config, d_model: usize) -> Result<(f64, f64), Error> {
    let factor = |key| {
        let average = config.number(key)?;
        let senseless = || config.error(key, format!("is {average}, expected the average norm, a number above 0"));
        norm_factor(d_model, average).ok_or_else(senseless)
    };
    Ok((factor("dataset_average_activation_norm.in")?, factor("dataset_average_activation_norm.out")?))
}

/// Opens a folder in this format.
pub(crate) fn load(folder: &Path, convention: Convention) -> Result<Sae, Error> {
    let config = Config::read(folder.join(CONFIG))?;
    let tap = find::openmoss_tap(folder, &config)?;
    check_kind(&config)?;
    let (d_in, d_sae) = (config.size("d_model")?, config.size("d_sae")?);
    let theta = config.number("jump_relu_threshold")?;
    let (f_in, f_out) = norm_factors(&config, d_in)?;

    let weights = Checkpoint::open(folder, WEIGHTS)?;
    let w_enc = weights.matrix("encoder.weight", [d_sae, d_in])?;
    let mut bias = weights.finite_vector("encoder.bias", d_sae)?;
    let decoder = weights.matrix("decoder.weight", [d_in, d_sae])?;
    let norms = match convention {
        Convention::Saelens => norms::sample(&decoder, Features::Columns),
        Convention::Openmoss | Convention::Neuronpedia => norms::all(&decoder, Features::Columns),
    };
    decoder.dont_need();
    let decoder_norm = weights.norm_stats("decoder.weight", &norms)?;

    let (scale, gain, thresholds) = match convention {
        Convention::Saelens => (f_in, None, vec![(theta * f_in) as f32; d_sae]),
        Convention::Openmoss => {
            let gain = norms.iter().map(|n| (n * f_in / f_out) as f32).collect();
            (1.0, Some(gain), vec![theta as f32; d_sae])
        }
        Convention::Neuronpedia => {
            let gain = norms.iter().map(|&n| n as f32).collect();
            (1.0, Some(gain), norms.iter().map(|n| (theta * n) as f32).collect())
        }
    };
    if gain.is_some() {
        for b in &mut bias {
            *b = (f64::from(*b) / f_in) as f32;
        }
    }
    let mut warnings = Vec::new();
    warnings.extend(conventions_differ(convention, decoder_norm));
    warnings.extend(release::unexpected_scale(folder, d_in, d_sae, f_in));
    Ok(Sae {
        tap,
        w_enc,
        bias,
        input_bias: None,
        input_norm: InputNorm::None,
        scale: scale as f32,
        gain,
        activation: Activation::JumpRelu(thresholds),
        path: folder.into(),
        format: Format::LlamaScope,
        convention: Some(convention),
        l0_target: config.opt_number("top_k")?,
        decoder_norm: Some(decoder_norm),
        norm_scaling_factor: Some(f_in),
        files: vec![config.path().into(), weights.path().into()],
        warnings,
    })
}

/// Refuses what the formulas above do not cover.
fn check_kind(config: &Config) -> Result<(), Error> {
    for (key, supported) in [("act_fn", "jumprelu"), ("norm_activation", "dataset-wise")] {
        let found = config.text(key)?;
        if !found.eq_ignore_ascii_case(supported) {
            return Err(
                config.error(key, format!("is `{found}`; of Llama Scope files only `{supported}` is supported"))
            );
        }
    }
    for key in ["use_glu_encoder", "apply_decoder_bias_to_pre_encoder"] {
        if config.flag(key, false)? {
            return Err(config.error(key, "is true, which no released Llama Scope SAE has and is not supported"));
        }
    }
    Ok(())
}

fn conventions_differ(convention: Convention, norm: NormStats) -> Option<String> {
    (!norm.is_unit()).then(|| {
        format!(
            "the decoder vectors are not of length 1, so the conventions saelens, openmoss and neuronpedia give different \
             results; this is `{convention}`"
        )
    })
}
