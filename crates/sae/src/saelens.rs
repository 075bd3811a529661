//! SAELens' own format (SAELens 6.54: `saes/sae.py`, `saes/{standard,jumprelu,topk}_sae.py`, `loading/pretrained_sae_loaders.py`).
//!
//! `cfg.json` and `sae_weights.safetensors` with `W_enc [d_in, d_sae]`, `b_enc`, `W_dec [d_sae, d_in]`, `b_dec`, and for
//! jumprelu `threshold [d_sae]` (batchtopk dictionaries are saved as jumprelu). Before 6.0 the keys of `metadata` stood
//! beside the others, the hook was `hook_name` or `hook_point`, and topk was an activation function of the standard
//! architecture (`handle_pre_6_0_config`). The computation:
//! `h = (norm(x) - b_dec) W_enc + b_enc`, the bias subtracted iff `apply_b_dec_to_input` (default true); with
//! `rescale_acts_by_decoder_norm` (topk only) `h` is multiplied by the lengths of the rows of `W_dec`.
//!
//! - `normalize_activations: expected_average_only_in` is a property of training: SAELens folds the factor in when it
//!   saves, and reading such a file from disk changes nothing; so here, with a warning.
//! - SAELens computes in the file's `dtype`; here it is f32 whatever the file's type.
//! - A hook `blocks.N.hook_resid_pre` with N > 0 is the output of layer N - 1 and is read there.

use std::path::Path;

use llamascope_record::{Site, Tap};
use serde_json::Value;

use crate::checkpoint::{Checkpoint, transposed};
use crate::config::Config;
use crate::norms::{self, Features};
use crate::{Activation, Error, Format, InputNorm, Sae};

pub(crate) const CONFIG: &str = "cfg.json";
pub(crate) const WEIGHTS: &str = "sae_weights.safetensors";

/// What SAELens adds to the standard deviation under `layer_norm` (a default argument there, never saved).
const LAYER_NORM_EPS: f32 = 1e-5;

enum Architecture {
    Standard,
    JumpRelu,
    TopK { k: usize },
}

/// Where the SAE of a folder reads.
pub(crate) fn tap(folder: &Path) -> Result<Tap, Error> {
    tap_of(&Config::read(folder.join(CONFIG))?)
}

/// Opens a folder in this format.
pub(crate) fn load(folder: &Path) -> Result<Sae, Error> {
    let config = Config::read(folder.join(CONFIG))?;
    let tap = tap_of(&config)?;
    let architecture = architecture_of(&config)?;
    let (d_in, d_sae) = (config.size("d_in")?, config.size("d_sae")?);
    let mut warnings = Vec::new();
    let input_norm = input_norm_of(&config, &mut warnings)?;

    let weights = Checkpoint::open(folder, WEIGHTS)?;
    refuse_scaling_factor(&weights, d_sae)?;
    let decoder = weights.matrix("W_dec", Features::Rows.shape(d_sae, d_in))?;
    let (activation, rescaled, l0_target) = match architecture {
        Architecture::Standard => (Activation::Relu, false, None),
        Architecture::JumpRelu => (Activation::JumpRelu(weights.vector("threshold", d_sae)?), false, None),
        Architecture::TopK { k } if k > d_sae => {
            return Err(config.error("k", format!("is {k}, more than the {d_sae} features of the dictionary")));
        }
        Architecture::TopK { k } => {
            (Activation::TopK(k), config.flag("rescale_acts_by_decoder_norm", false)?, Some(k as f64))
        }
    };
    let norms = if rescaled { norms::all(&decoder, Features::Rows) } else { norms::sample(&decoder, Features::Rows) };
    let input_bias = match config.flag("apply_b_dec_to_input", true)? {
        true => Some(weights.finite_vector("b_dec", d_in)?).filter(|bias| bias.iter().any(|&b| b != 0.0)),
        false => None,
    };
    Ok(Sae {
        tap,
        w_enc: transposed(&weights.matrix("W_enc", [d_in, d_sae])?),
        bias: weights.finite_vector("b_enc", d_sae)?,
        input_bias,
        input_norm,
        scale: 1.0,
        gain: rescaled.then(|| norms.iter().map(|&n| n as f32).collect()),
        activation,
        path: folder.into(),
        format: Format::Saelens,
        convention: None,
        l0_target,
        decoder_norm: Some(weights.norm_stats("W_dec", &norms)?),
        norm_scaling_factor: None,
        files: vec![config.path().into(), weights.path().into()],
        warnings,
    })
}

fn tap_of(config: &Config) -> Result<Tap, Error> {
    let keys = ["metadata.hook_name", "hook_name", "hook_point"];
    let key = keys.into_iter().find(|key| config.get(key).is_some()).unwrap_or(keys[0]);
    let hook = config.text(key)?;
    for key in ["metadata.hook_head_index", "hook_head_index", "hook_point_head_index"] {
        if let Some(head) = config.get(key) {
            return Err(config.error(key, format!("is {head}: `{hook}` of a single head cannot be read")));
        }
    }
    let named = match hook.strip_suffix(".hook_resid_pre") {
        Some(block) => format!("{block}.hook_resid_post").parse::<Tap>(),
        None => hook.parse(),
    };
    let named = named.map_err(|_| {
        let sites = [Site::ResidPost, Site::AttnOut, Site::MlpIn, Site::MlpOut].map(Site::hook).join(", ");
        config.error(key, format!("is `{hook}`; what can be read is blocks.N. and one of {sites}, hook_resid_pre"))
    })?;
    for key in ["metadata.hook_layer", "hook_layer", "hook_point_layer"] {
        if let Some(layer) = config.get(key).filter(|layer| layer.as_u64() != Some(named.layer as u64)) {
            return Err(config.error(key, format!("is {layer}, but the hook is `{hook}`")));
        }
    }
    if !hook.ends_with(".hook_resid_pre") {
        return Ok(named);
    }
    let layer = named.layer.checked_sub(1).ok_or_else(|| {
        config.error(key, format!("is `{hook}`, the embeddings before any layer, which cannot be read"))
    })?;
    Ok(Tap { layer, ..named })
}

fn architecture_of(config: &Config) -> Result<Architecture, Error> {
    let architecture = config.opt_text("architecture")?.unwrap_or("standard");
    let function_key = ["activation_fn_str", "activation_fn"].into_iter().find(|key| config.get(key).is_some());
    let function = function_key.map(|key| config.text(key)).transpose()?;
    match (architecture, function) {
        ("topk", _) | ("standard", Some("topk")) => {
            let old = config.opt_size("activation_fn_kwargs.k")?;
            let k = config.opt_size("k")?.or(old);
            Ok(Architecture::TopK { k: config.required("k", Ok(k))? })
        }
        ("standard", None | Some("relu")) => Ok(Architecture::Standard),
        ("jumprelu", None | Some("relu")) => Ok(Architecture::JumpRelu),
        ("standard" | "jumprelu", Some(other)) => {
            let key = function_key.unwrap_or("activation_fn");
            Err(config.error(key, format!("is `{other}`; supported are relu and topk")))
        }
        (other, _) => {
            Err(config.error("architecture", format!("is `{other}`; supported are standard, jumprelu and topk")))
        }
    }
}

fn input_norm_of(config: &Config, warnings: &mut Vec<String>) -> Result<InputNorm, Error> {
    let key = "normalize_activations";
    match config.get(key) {
        None | Some(Value::Bool(false)) => return Ok(InputNorm::None),
        Some(Value::Bool(true)) => {}
        Some(_) => match config.text(key)? {
            "none" => return Ok(InputNorm::None),
            "constant_norm_rescale" => return Ok(InputNorm::ConstantNorm),
            "layer_norm" => return Ok(InputNorm::LayerNorm { eps: LAYER_NORM_EPS }),
            "expected_average_only_in" => {}
            other => {
                return Err(config.error(
                    key,
                    format!(
                        "is `{other}`; supported are none, constant_norm_rescale, layer_norm and expected_average_only_in"
                    ),
                ));
            }
        },
    }
    warnings.push(
        "trained with expected_average_only_in and saved without the factor folded in; rows are encoded as they are, as \
         SAELens does when it reads this folder. Far too many or too few features mean that the factor is missing"
            .into(),
    );
    Ok(InputNorm::None)
}

/// Old files carry a `scaling_factor` of ones that means nothing; SAELens 6 refuses any other too.
fn refuse_scaling_factor(weights: &Checkpoint, d_sae: usize) -> Result<(), Error> {
    let name = "scaling_factor";
    if weights.contains(name) && weights.vector(name, d_sae)?.iter().any(|f| (f - 1.0).abs() > 1e-5) {
        return Err(
            weights.error(name, "is not all ones: finetuned scaling factors are not supported; fold them into W_dec")
        );
    }
    Ok(())
}
