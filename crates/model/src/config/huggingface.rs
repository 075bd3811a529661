//! `config.json` of a Hugging Face folder (transformers' `LlamaConfig`; since version 5 the rotary settings stand in
//! `rope_parameters`, before it in `rope_theta` and `rope_scaling`).

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Config, DEFAULT_THETA, Rope, RopeLayout, RopeScaling, SUPPORTED};
use crate::Error;
use crate::tokenizer::read_text;

/// By what a config says which model it belongs to.
#[derive(Deserialize)]
struct Identity {
    architectures: Option<Vec<String>>,
    model_type: Option<String>,
}

#[derive(Deserialize)]
struct LlamaConfig {
    num_hidden_layers: usize,
    hidden_size: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: usize,
    vocab_size: usize,
    rms_norm_eps: f32,
    max_position_embeddings: usize,
    hidden_act: Option<String>,
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeParameters>,
    rope_parameters: Option<RopeParameters>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    partial_rotary_factor: Option<f64>,
    quantization_config: Option<Quantization>,
}

#[derive(Deserialize)]
struct RopeParameters {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
    /// The key of transformers before 4.43.
    #[serde(rename = "type")]
    old_type: Option<String>,
    factor: Option<f32>,
    low_freq_factor: Option<f32>,
    high_freq_factor: Option<f32>,
    original_max_position_embeddings: Option<f32>,
}

#[derive(Deserialize)]
struct Quantization {
    quant_method: Option<String>,
}

impl Config {
    /// Reads a `config.json`.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Config::from_huggingface(path, &read_text(path)?)
    }

    /// The text of a `config.json`; `path` is its file, for messages.
    pub fn from_huggingface(path: &Path, json: &str) -> Result<Self, Error> {
        check_identity(path, &parse(path, json)?)?;
        let raw: LlamaConfig = parse(path, json)?;
        check_variant(path, &raw)?;

        let head_dim = match raw.head_dim {
            Some(head_dim) => head_dim,
            None if raw.num_attention_heads > 0 && raw.hidden_size.is_multiple_of(raw.num_attention_heads) => {
                raw.hidden_size / raw.num_attention_heads
            }
            None => {
                let (width, heads) = (raw.hidden_size, raw.num_attention_heads);
                let what = format!("no `head_dim`, and hidden_size {width} does not divide into {heads} heads");
                return Err(Error::unsupported(path, what));
            }
        };
        Config {
            n_layers: raw.num_hidden_layers,
            d_model: raw.hidden_size,
            n_heads: raw.num_attention_heads,
            n_kv_heads: raw.num_key_value_heads.unwrap_or(raw.num_attention_heads),
            head_dim,
            d_ff: raw.intermediate_size,
            vocab: raw.vocab_size,
            rms_eps: raw.rms_norm_eps,
            context: raw.max_position_embeddings,
            rope: rope(path, &raw)?,
            tied_head: raw.tie_word_embeddings.unwrap_or(false),
        }
        .checked(path)
    }
}

fn parse<T: DeserializeOwned>(path: &Path, json: &str) -> Result<T, Error> {
    serde_json::from_str(json).map_err(|error| Error::unsupported(path, format!("not the config of a model: {error}")))
}

fn check_identity(path: &Path, identity: &Identity) -> Result<(), Error> {
    let architectures = identity.architectures.clone().unwrap_or_default();
    let model_type = identity.model_type.as_deref();
    let llama = match architectures.as_slice() {
        [] => model_type == Some("llama"),
        all => all.iter().any(|a| a == "LlamaForCausalLM") && matches!(model_type, None | Some("llama")),
    };
    if llama {
        return Ok(());
    }
    let found = match (architectures.join(", "), model_type) {
        (a, None) if a.is_empty() => "it names no architecture".to_string(),
        (a, Some(m)) if a.is_empty() => format!("it is of model_type `{m}`"),
        (a, None) => format!("its architecture is {a}"),
        (a, Some(m)) => format!("its architecture is {a} (model_type `{m}`)"),
    };
    Err(Error::unsupported(path, format!("{found}; supported: {SUPPORTED}")))
}

/// Refuses members of the family whose layers compute something else than ours.
fn check_variant(path: &Path, raw: &LlamaConfig) -> Result<(), Error> {
    let what = if raw.attention_bias == Some(true) {
        "`attention_bias` is true; only attention without biases is supported".to_string()
    } else if raw.mlp_bias == Some(true) {
        "`mlp_bias` is true; only an MLP without biases is supported".to_string()
    } else if let Some(act) = raw.hidden_act.as_deref().filter(|act| *act != "silu") {
        format!("`hidden_act` is `{act}`; supported: `silu`")
    } else if let Some(factor) = raw.partial_rotary_factor.filter(|factor| *factor != 1.0) {
        format!("`partial_rotary_factor` is {factor}; only heads that are rotated whole are supported")
    } else if let Some(quantization) = &raw.quantization_config {
        let method = quantization.quant_method.as_deref().unwrap_or("an unnamed method");
        format!("the weights are quantised with {method}; take the f32, f16 or bf16 checkpoint, or a GGUF file")
    } else {
        return Ok(());
    };
    Err(Error::unsupported(path, what))
}

fn rope(path: &Path, raw: &LlamaConfig) -> Result<Rope, Error> {
    let nested = raw.rope_parameters.as_ref();
    let theta = nested.and_then(|p| p.rope_theta).or(raw.rope_theta).unwrap_or(DEFAULT_THETA) as f32;
    let scaling = match nested.or(raw.rope_scaling.as_ref()) {
        Some(parameters) => scaling(path, parameters)?,
        None => RopeScaling::None,
    };
    Ok(Rope { theta, scaling, layout: RopeLayout::Halves })
}

fn scaling(path: &Path, parameters: &RopeParameters) -> Result<RopeScaling, Error> {
    let kind = match parameters.rope_type.as_deref().or(parameters.old_type.as_deref()) {
        Some(kind) => kind,
        None if parameters.factor.is_none() => "default",
        None => return Err(Error::unsupported(path, "rope scaling with a `factor` but no `rope_type`")),
    };
    let need = |name: &str, value: Option<f32>| {
        value.ok_or_else(|| Error::unsupported(path, format!("rope scaling `{kind}` without `{name}`")))
    };
    match kind {
        "default" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear { factor: need("factor", parameters.factor)? }),
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: need("factor", parameters.factor)?,
            low: need("low_freq_factor", parameters.low_freq_factor)?,
            high: need("high_freq_factor", parameters.high_freq_factor)?,
            original_context: need("original_max_position_embeddings", parameters.original_max_position_embeddings)?,
        }),
        other => Err(Error::unsupported(
            path,
            format!("rope scaling of type `{other}`; supported: `default`, `linear`, `llama3`"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Llama 3.1 8B's file, with `changes` put over it.
    fn read(changes: Value) -> Result<Config, String> {
        let mut config = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
            "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,
            "intermediate_size": 14336, "vocab_size": 128256, "rms_norm_eps": 1e-5, "max_position_embeddings": 131072,
            "rope_theta": 500000.0, "tie_word_embeddings": false, "attention_bias": false, "mlp_bias": false,
            "rope_scaling": {
                "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192, "rope_type": "llama3",
            },
        });
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        Config::from_huggingface(Path::new("config.json"), &config.to_string()).map_err(|error| error.to_string())
    }

    const LLAMA3: RopeScaling = RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original_context: 8192.0 };

    #[test]
    fn llama_3_1() {
        let expected = Config {
            n_layers: 32,
            d_model: 4096,
            n_heads: 32,
            n_kv_heads: 8,
            head_dim: 128,
            d_ff: 14336,
            vocab: 128256,
            rms_eps: 1e-5,
            context: 131072,
            rope: Rope { theta: 500000.0, scaling: LLAMA3, layout: RopeLayout::Halves },
            tied_head: false,
        };
        assert_eq!(read(json!({})), Ok(expected));
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let config = read(json!({
            "num_key_value_heads": null, "head_dim": null, "rope_theta": null, "rope_scaling": null,
            "tie_word_embeddings": null, "architectures": null, "hidden_act": null,
        }));
        let config = config.unwrap();
        assert_eq!((config.n_kv_heads, config.head_dim, config.tied_head), (32, 128, false));
        assert_eq!((config.rope.theta, config.rope.scaling), (10000.0, RopeScaling::None));
    }

    #[test]
    fn any_even_head_size() {
        assert_eq!(read(json!({"head_dim": 34})).unwrap().head_dim, 34);
        assert!(read(json!({"head_dim": 33})).unwrap_err().contains("head size is 33"));
        assert!(read(json!({"hidden_size": 100})).unwrap_err().contains("100 does not divide into 32 heads"));
    }

    #[test]
    fn rope_scaling_old_and_new() {
        let scaling = |value: Value| read(json!({"rope_scaling": value})).map(|config| config.rope.scaling);
        let linear = Ok(RopeScaling::Linear { factor: 2.0 });
        assert_eq!(scaling(json!({"type": "linear", "factor": 2.0})), linear);
        assert_eq!(scaling(json!({"rope_type": "linear", "factor": 2})), linear);
        assert_eq!(scaling(json!({"rope_type": "default"})), Ok(RopeScaling::None));
        for kind in ["dynamic", "yarn", "longrope"] {
            assert!(scaling(json!({"rope_type": kind, "factor": 2.0})).unwrap_err().contains(kind));
        }
        assert!(scaling(json!({"factor": 2.0})).unwrap_err().contains("no `rope_type`"));
        assert!(scaling(json!({"type": "linear"})).unwrap_err().contains("without `factor`"));
        assert!(scaling(json!({"type": "linear", "factor": 0.0})).unwrap_err().contains("makes no sense"));
    }

    #[test]
    fn rope_parameters_of_transformers_5() {
        let config = read(json!({
            "rope_theta": null, "rope_scaling": null,
            "rope_parameters": {
                "rope_theta": 130000.0, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
            },
        }));
        assert_eq!(config.unwrap().rope, Rope { theta: 130000.0, scaling: LLAMA3, layout: RopeLayout::Halves });
        let plain = read(json!({"rope_scaling": null, "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}));
        let plain = plain.unwrap().rope;
        assert_eq!((plain.theta, plain.scaling), (1e6, RopeScaling::None));
    }

    #[test]
    fn other_architectures_are_named() {
        for (architecture, model_type) in
            [("MistralForCausalLM", "mistral"), ("Qwen2ForCausalLM", "qwen2"), ("Gemma2ForCausalLM", "gemma2")]
        {
            let message = read(json!({"architectures": [architecture], "model_type": model_type})).unwrap_err();
            assert!(message.contains(architecture) && message.contains("LlamaForCausalLM"), "{message}");
        }
        let message = read(json!({"architectures": ["LlamaForSequenceClassification"]})).unwrap_err();
        assert!(message.contains("LlamaForSequenceClassification"), "{message}");
        let message = read(json!({"architectures": null, "model_type": null})).unwrap_err();
        assert!(message.contains("names no architecture"), "{message}");
    }

    #[test]
    fn variants_that_compute_otherwise_are_refused() {
        for (changes, word) in [
            (json!({"attention_bias": true}), "attention_bias"),
            (json!({"mlp_bias": true}), "mlp_bias"),
            (json!({"hidden_act": "gelu"}), "`gelu`"),
            (json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor"),
            (json!({"quantization_config": {"quant_method": "awq"}}), "awq"),
        ] {
            let message = read(changes).unwrap_err();
            assert!(message.contains(word) && message.contains("config.json"), "{message}");
        }
    }

    #[test]
    fn sizes_have_limits() {
        for (key, value) in [
            ("num_hidden_layers", json!(0)),
            ("num_hidden_layers", json!(1_000_000_000)),
            ("hidden_size", json!(0)),
            ("num_attention_heads", json!(0)),
            ("num_attention_heads", json!(u64::MAX)),
            ("num_key_value_heads", json!(0)),
            ("num_key_value_heads", json!(5)),
            ("num_key_value_heads", json!(64)),
            ("head_dim", json!(u64::MAX - 1)),
            ("head_dim", json!(1 << 16)),
            ("intermediate_size", json!(u64::MAX)),
            ("vocab_size", json!(1u64 << 40)),
            ("max_position_embeddings", json!(0)),
            ("rms_norm_eps", json!(-1.0)),
            ("rope_theta", json!(0.0)),
            ("rope_theta", json!(1e300)),
            ("hidden_size", json!(-1)),
            ("hidden_size", json!("wide")),
        ] {
            let changed = read(json!({ key: value }));
            assert!(changed.is_err_and(|message| message.contains("config.json")), "{key}: {value}");
        }
    }

    #[test]
    fn what_is_no_config_says_so() {
        for text in ["", "[]", "{\"model_type\": \"llama\"}", "{\"model_type\": \"llama\""] {
            let message = Config::from_huggingface(Path::new("config.json"), text).unwrap_err().to_string();
            assert!(message.contains("not the config of a model"), "{message}");
        }
    }
}
