//! Which labels belong to a run: joins its SAEs with the names that Neuronpedia has for them.

use std::collections::BTreeMap;
use std::path::Path;

use llamascope_record::labels::{Dictionary, LabelError, Labels};
use llamascope_record::run::{Manifest, SaeInfo};
use llamascope_sae::release::{release, release_of};

/// The dictionaries of a run's layers that Neuronpedia has: by the name of the release, or by the folder and shape of the
/// SAE.
pub fn neuronpedia(manifest: &Manifest) -> BTreeMap<usize, Dictionary> {
    let named = manifest.config.get("sae_release").and_then(|name| name.as_str()).and_then(|name| release(name).ok());
    let dictionary = |sae: &SaeInfo| {
        let shape = (sae.d_in, sae.d_sae);
        let by_name = named.as_ref().filter(|release| (release.d_model, release.d_sae()) == shape);
        let (model, layer) = match by_name {
            Some(release) => release.neuronpedia(sae.layer)?,
            None => release_of(Path::new(&sae.path), sae.d_in, sae.d_sae)
                .filter(|(_, layer)| *layer == sae.layer)?
                .0
                .neuronpedia(sae.layer)?,
        };
        Some((sae.layer, Dictionary { model: model.to_owned(), layer }))
    };
    manifest.saes.iter().filter_map(dictionary).collect()
}

/// The labels of a run: those in the run folder first, else those beside it.
///
/// # Errors
/// If a file of labels is there and cannot be read.
pub fn for_run(
    run: &Path,
    manifest: Option<&Manifest>,
    layers: impl IntoIterator<Item = usize>,
) -> Result<Labels, LabelError> {
    Labels::read(run, layers, &manifest.map(neuronpedia).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_s_dictionaries_are_known_by_release_or_by_folder() {
        let sae =
            |layer, path: &str, d_sae| SaeInfo { layer, path: path.into(), d_in: 4096, d_sae, ..SaeInfo::default() };
        let manifest = |release: &str, saes| Manifest {
            config: serde_json::json!({ "sae_release": release }),
            saes,
            ..Manifest::default()
        };
        let names = |manifest: &Manifest| -> Vec<_> {
            neuronpedia(manifest).into_iter().map(|(layer, dictionary)| format!("{layer}: {dictionary}")).collect()
        };
        let released = manifest("llama_scope_lxr_8x", vec![sae(3, "cache/x", 32768), sae(4, "cache/y", 512)]);
        assert_eq!(names(&released), ["3: llama3.1-8b/3-llamascope-res-32k"]);
        let folder = manifest("saes", vec![sae(7, "saes/Llama3_1-8B-Base-L7M-32x", 131072), sae(8, "saes/L8", 32768)]);
        assert_eq!(names(&folder), ["7: llama3.1-8b/7-llamascope-mlp-131k"]);
        let elsewhere = manifest("saes", vec![sae(9, "saes/Llama3_1-8B-Base-L7R-8x", 32768)]);
        assert!(names(&elsewhere).is_empty());
    }
}
