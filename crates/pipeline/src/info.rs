//! What a model, an SAE or a run is, in a few lines.

use std::fmt::Write;
use std::path::Path;

use llamascope_model::{Checkpoint, RopeScaling};
use llamascope_record::run::Run;
use llamascope_sae::{Activation, Convention, Release, Sae, find_saes};

use crate::Error;
use crate::fetch::{Hub, HubOptions, fetch_sae, is_local, looks_like_hub_id};
use crate::observer::{Downloads, Observer};

/// Tells what `what` is: a path of this machine, an SAE release, or a hub id, of which only the config is fetched.
///
/// # Errors
/// What cannot be found or understood.
pub fn info(what: &str, hub: &HubOptions, observer: &dyn Observer) -> Result<String, Error> {
    let path = Path::new(what);
    if is_local(path) {
        return local(path);
    }
    if let Ok(release) = llamascope_sae::release(what) {
        return Ok(release_info(&release));
    }
    if !looks_like_hub_id(what) {
        return Err(Error::Unavailable(format!(
            "`{what}`: no such file or folder, no SAE release, and not a hub id (`owner/name`)"
        )));
    }
    let folder = fetch_sae(&Hub::new(hub.clone())?, what, None, &["config.json".into()], &Downloads(observer))?;
    let config = llamascope_model::Config::read(&folder.join("config.json"))?;
    Ok(format!("model {what} (config only; its weights are fetched when it runs)\n{}", config_info(&config)))
}

fn local(path: &Path) -> Result<String, Error> {
    let holds = |name: &str| path.join(name).exists();
    let is_gguf = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    if is_gguf || holds("tokenizer.json") || holds("model.safetensors") || holds("model.safetensors.index.json") {
        return model_info(path);
    }
    if holds(llamascope_record::run::MANIFEST) {
        return Ok(llamascope_report::info::run_info(&Run::open(path)?));
    }
    let found = match find_saes(path) {
        Ok(found) => found,
        // A bare tree of rows, as other programs write it.
        Err(error) => return Run::open(path).map(|run| llamascope_report::info::run_info(&run)).or(Err(error.into())),
    };
    let saes = found.values().map(|folder| Ok(sae_info(&Sae::open(folder, Convention::default())?)));
    Ok(saes.collect::<Result<Vec<_>, Error>>()?.join("\n"))
}

fn model_info(path: &Path) -> Result<String, Error> {
    let checkpoint = Checkpoint::open(path)?;
    let mut text =
        format!("model {} ({})\n{}", path.display(), checkpoint.architecture, config_info(&checkpoint.config));
    let bos = match checkpoint.tokenizer.bos() {
        Some(id) => format!("BOS is {id} `{}`", checkpoint.tokenizer.token(id).unwrap_or_default()),
        None => "it names no BOS".into(),
    };
    let first = checkpoint.tokenizer.encode("a")?;
    let added = if first.bos.first() == Some(&true) { "added" } else { "not added" };
    let _ = writeln!(text, "  tokenizer   {bos}, {added} before a sentence");
    for share in checkpoint.dtypes()? {
        let _ =
            writeln!(text, "  weights     {} tensors {}, {:.1} MB", share.tensors, share.dtype, megabytes(share.bytes));
    }
    for (file, bytes) in checkpoint.tensors.files() {
        let _ = writeln!(text, "  file        {}, {:.1} MB", file.display(), megabytes(bytes));
    }
    Ok(text)
}

fn config_info(config: &llamascope_model::Config) -> String {
    let scaling = match &config.rope.scaling {
        RopeScaling::None => String::new(),
        RopeScaling::Linear { factor } => format!(", linear scaling {factor}"),
        RopeScaling::Llama3 { factor, .. } => format!(", llama3 scaling {factor}"),
        RopeScaling::Divisors(_) => ", frequencies scaled one by one".into(),
    };
    format!(
        "  layers      {} (0 to {})\n  d_model     {}\n  heads       {} query, {} key-value, of {}\n  d_ff        {}\n  \
         vocabulary  {}, head {}\n  context     {}\n  RoPE        theta {}{scaling}\n",
        config.n_layers,
        config.n_layers - 1,
        config.d_model,
        config.n_heads,
        config.n_kv_heads,
        config.head_dim,
        config.d_ff,
        config.vocab,
        if config.tied_head { "tied" } else { "untied" },
        config.context,
        config.rope.theta
    )
}

fn sae_info(sae: &Sae) -> String {
    let mut text = format!("SAE {} ({})\n", sae.path.display(), sae.format);
    let activation = match &sae.activation {
        Activation::Relu => "ReLU".into(),
        Activation::TopK(k) => format!("TopK, k = {k}"),
        Activation::JumpRelu(thresholds) => {
            let (low, high) = thresholds.iter().fold((f32::MAX, f32::MIN), |(l, h), t| (l.min(*t), h.max(*t)));
            if low == high {
                format!("JumpReLU, threshold {low}")
            } else {
                format!("JumpReLU, thresholds {low} to {high}")
            }
        }
    };
    let _ = writeln!(text, "  reads       {}", sae.tap);
    let _ = writeln!(text, "  size        {} features of rows of {}, {}", sae.d_sae(), sae.d_in(), sae.w_enc.dtype());
    let _ = writeln!(text, "  activation  {activation}");
    if let Some(factor) = sae.norm_scaling_factor {
        let _ = writeln!(text, "  scaling     rows times {factor:.4}");
    }
    if let Some(target) = sae.l0_target {
        let _ = writeln!(text, "  target L0   {target}");
    }
    if let Some(norm) = sae.decoder_norm {
        let of =
            if norm.sampled < sae.d_sae() { format!(" ({} features sampled)", norm.sampled) } else { String::new() };
        let _ = writeln!(text, "  decoder     norms {:.3} to {:.3}, mean {:.3}{of}", norm.min, norm.max, norm.mean);
    }
    for warning in &sae.warnings {
        let _ = writeln!(text, "  note        {warning}");
    }
    text
}

fn release_info(release: &Release) -> String {
    format!(
        "SAE release {}\n  repository  {}\n  model       {} ({} layers)\n  site        {}\n  size        {} features of rows \
         of {}\n  files       {}\n",
        release.name,
        release.repo,
        release.model,
        release.n_layers,
        release.site.hook(),
        release.d_sae(),
        release.d_model,
        release.files(0).join(", ")
    )
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
