//! Where model and SAEs come from: this machine or a hub, opened and checked against each other before any work.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use llamascope_model::Checkpoint;
use llamascope_record::Tap;
use llamascope_sae::{Convention, Sae, find_saes};

use crate::Error;
use crate::config::LayerSelection;
use crate::fetch::{Hub, HubOptions, fetch_model, fetch_sae, is_local, looks_like_hub_id};
use crate::observer::{Downloads, Observer};

/// Opens a model: a folder or GGUF file of this machine, else a hub id, of which only the shards with the layers up to
/// the last one asked for are fetched.
///
/// # Errors
/// What cannot be found, fetched or understood.
pub fn open_model(
    id: &str,
    revision: Option<&str>,
    layers: &LayerSelection,
    hub: &HubOptions,
    observer: &dyn Observer,
) -> Result<(Checkpoint, PathBuf), Error> {
    let path = if is_local(Path::new(id)) {
        PathBuf::from(id)
    } else if looks_like_hub_id(id) {
        observer.stage(&format!("fetching {id}"));
        let hub = Hub::new(hub.clone())?;
        fetch_model(&hub, id, revision, |name| is_needed(name, layers), &Downloads(observer))?
    } else {
        return Err(Error::Unavailable(format!(
            "model `{id}`: no such file or folder, and not a hub id (`owner/name`); give a folder in Hugging Face layout, a \
             .gguf file, or an id"
        )));
    };
    observer.stage(&format!("opening {}", path.display()));
    Ok((Checkpoint::open(&path)?, path))
}

/// Whether a tensor of a sharded checkpoint is used by a run over these layers.
fn is_needed(name: &str, layers: &LayerSelection) -> bool {
    let last = match layers {
        LayerSelection::All => return true,
        LayerSelection::Only(layers) => layers.last().copied().unwrap_or(0),
    };
    match name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()) {
        Some(layer) => layer.parse::<usize>().is_ok_and(|layer| layer <= last),
        None => name.starts_with("model.embed_tokens."),
    }
}

/// Opens the SAEs of the layers asked for, in ascending order, and checks that they fit the model. `all` means every
/// layer of the model for a release, and for a folder every layer that it has an SAE for.
///
/// # Errors
/// Unknown releases, layers without an SAE, SAEs of another width.
pub fn open_saes(
    release_or_folder: &str,
    convention: Convention,
    selection: &LayerSelection,
    checkpoint: &Checkpoint,
    hub: &HubOptions,
    observer: &dyn Observer,
) -> Result<Vec<Sae>, Error> {
    let config = &checkpoint.config;
    let layers = selection.resolve(config.n_layers)?;
    let folder = Path::new(release_or_folder);
    let folders = if is_local(folder) {
        local_saes(folder, selection, &layers)?
    } else {
        let release = llamascope_sae::release(release_or_folder)?;
        if (release.d_model, release.n_layers) != (config.d_model, config.n_layers) {
            return Err(Error::Mismatch(format!(
                "the SAEs of `{release_or_folder}` are for {} ({} layers, d_model {}), the model has {} layers and d_model {}: \
                 choose the SAEs of this model, or that model",
                release.model, release.n_layers, release.d_model, config.n_layers, config.d_model
            )));
        }
        observer.stage(&format!("fetching {} SAEs of {release_or_folder}", layers.len()));
        let files: Vec<String> = layers.iter().flat_map(|layer| release.files(*layer)).collect();
        let root = fetch_sae(&Hub::new(hub.clone())?, &release.repo, None, &files, &Downloads(observer))?;
        layers.iter().map(|layer| root.join(release.folder(*layer))).collect()
    };
    let mut saes = Vec::new();
    for folder in folders {
        if observer.cancelled() {
            return Err(Error::Interrupted { run: None });
        }
        observer.stage(&format!("opening {}", folder.display()));
        let sae = Sae::open(&folder, convention)?;
        if sae.d_in() != config.d_model {
            return Err(Error::Mismatch(format!(
                "{}: this SAE reads rows of {}, the model's residual stream has d_model {}: it was trained on another model",
                sae.path.display(),
                sae.d_in(),
                config.d_model
            )));
        }
        if sae.tap.layer >= config.n_layers {
            return Err(Error::Mismatch(format!(
                "{}: this SAE reads layer {}, the model has layers 0 to {}",
                sae.path.display(),
                sae.tap.layer,
                config.n_layers - 1
            )));
        }
        let norm = sae.decoder_norm.map_or(String::new(), |norm| format!(", mean decoder norm {:.3}", norm.mean));
        observer.note(&format!("{}: {} features, {}{norm}", sae.tap, sae.d_sae(), sae.format));
        saes.push(sae);
    }
    saes.sort_by_key(|sae| sae.tap);
    warn(&saes, observer);
    Ok(saes)
}

/// The folders in `root` that serve the layers asked for.
fn local_saes(root: &Path, selection: &LayerSelection, layers: &[usize]) -> Result<Vec<PathBuf>, Error> {
    let found: BTreeMap<Tap, PathBuf> = find_saes(root)?;
    let mut by_layer: BTreeMap<usize, Vec<(&Tap, &PathBuf)>> = BTreeMap::new();
    for (tap, path) in &found {
        by_layer.entry(tap.layer).or_default().push((tap, path));
    }
    let wanted: Vec<usize> = match selection {
        LayerSelection::All => by_layer.keys().copied().collect(),
        LayerSelection::Only(_) => layers.to_vec(),
    };
    let one = |layer: usize| match by_layer.get(&layer).map(Vec::as_slice) {
        Some([(_, path)]) => Ok((*path).clone()),
        Some(several) => Err(Error::Mismatch(format!(
            "{}: layer {layer} has SAEs for {}; give the folder of one of them",
            root.display(),
            several.iter().map(|(tap, _)| tap.to_string()).collect::<Vec<_>>().join(" and ")
        ))),
        None => Err(Error::Mismatch(format!(
            "{}: no SAE for layer {layer}; it has layers {}",
            root.display(),
            by_layer.keys().map(usize::to_string).collect::<Vec<_>>().join(", ")
        ))),
    };
    wanted.into_iter().map(one).collect()
}

/// Tells what is odd about the SAEs: what holds for many of them, once.
fn warn(saes: &[Sae], observer: &dyn Observer) {
    let mut layers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for sae in saes {
        for warning in &sae.warnings {
            layers.entry(warning).or_default().push(sae.tap.layer.to_string());
        }
    }
    for (warning, layers) in layers {
        let of = if layers.len() == 1 { "SAE of layer" } else { "SAEs of layers" };
        observer.warn(&format!("{of} {}: {warning}", layers.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_layers_up_to_the_last_one_are_needed() {
        let layers = LayerSelection::Only([0, 5].into());
        for (name, needed) in [
            ("model.embed_tokens.weight", true),
            ("model.layers.5.mlp.up_proj.weight", true),
            ("model.layers.3.mlp.up_proj.weight", true),
            ("model.layers.6.mlp.up_proj.weight", false),
            ("model.layers.50.mlp.up_proj.weight", false),
            ("model.norm.weight", false),
            ("lm_head.weight", false),
        ] {
            assert_eq!(is_needed(name, &layers), needed, "{name}");
            assert!(is_needed(name, &LayerSelection::All));
        }
    }
}
