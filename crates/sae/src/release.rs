//! Releases of SAEs on the Hugging Face hub, by the names that SAELens' registry (`pretrained_saes.yaml`) gives them.
//!
//! Two differences: the registry has no transcoders (`lxtc` follows the pattern of its neighbours), and its one
//! `llama_scope_r1_distill` mixes three dictionaries a layer, told apart by the ends of the SAE ids; here each is a
//! release by itself.

use std::path::Path;

use llamascope_record::Site;

use crate::{Error, llama_scope, r1_distill};

/// All of these belong to Llama-3.1-8B or a model of its shape.
const N_LAYERS: usize = 32;
const D_MODEL: usize = 4096;

/// One SAE a layer, for one site of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The name in configuration files.
    pub name: String,
    /// Hub repository of the SAEs.
    pub repo: String,
    /// Hub id of the model that they were trained on.
    pub model: &'static str,
    /// Layers of that model; there is an SAE for each.
    pub n_layers: usize,
    /// Width of that model.
    pub d_model: usize,
    /// Features over `d_model`.
    pub expansion: usize,
    /// Where they read.
    pub site: Site,
    family: Family,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Family {
    LlamaScope { letters: &'static str },
    R1Distill { mixture: &'static str },
}

impl Release {
    /// The folder of a layer's SAE in the repository.
    pub fn folder(&self, layer: usize) -> String {
        match self.family {
            Family::LlamaScope { letters } => format!("Llama3_1-8B-Base-L{layer}{letters}-{}x", self.expansion),
            Family::R1Distill { mixture } => format!("{mixture}/L{layer}R"),
        }
    }

    /// The files of a layer's SAE: paths in the repository, configuration first.
    pub fn files(&self, layer: usize) -> [String; 2] {
        let names = match self.family {
            Family::LlamaScope { .. } => [llama_scope::CONFIG, llama_scope::WEIGHTS],
            Family::R1Distill { .. } => [r1_distill::CONFIG, r1_distill::WEIGHTS],
        };
        names.map(|name| format!("{}/{name}", self.folder(layer)))
    }

    /// How Neuronpedia names a layer's SAE, where it has it: model, and layer with its set. The names are those of
    /// SAELens' registry.
    pub fn neuronpedia(&self, layer: usize) -> Option<(&'static str, String)> {
        let features = if self.expansion == 8 { "32k" } else { "131k" };
        match self.family {
            Family::LlamaScope { letters } => {
                let site = match letters {
                    "R" => "res",
                    "A" => "att",
                    "M" => "mlp",
                    _ => return None,
                };
                Some(("llama3.1-8b", format!("{layer}-llamascope-{site}-{features}")))
            }
            Family::R1Distill { mixture } => {
                let set = match mixture.split_once("-Slimpajama-")? {
                    ("800M", _) => "llamascope-slimpj-res",
                    ("400M", _) => "llamascope-slimpj-openr1-res",
                    _ => return None,
                };
                Some(("deepseek-r1-distill-llama-8b", format!("{layer}-{set}-{features}")))
            }
        }
    }

    /// Number of features of each SAE.
    pub fn d_sae(&self) -> usize {
        self.d_model * self.expansion
    }
}

/// All releases.
pub fn releases() -> Vec<Release> {
    let sites = [("R", Site::ResidPost), ("A", Site::AttnOut), ("M", Site::MlpOut), ("TC", Site::MlpIn)];
    let llama_scope = sites.into_iter().flat_map(|(letters, site)| {
        [8, 32].map(|expansion| Release {
            name: format!("llama_scope_lx{}_{expansion}x", letters.to_lowercase()),
            repo: format!("fnlp/Llama3_1-8B-Base-LX{letters}-{expansion}x"),
            model: "meta-llama/Llama-3.1-8B",
            n_layers: N_LAYERS,
            d_model: D_MODEL,
            expansion,
            site,
            family: Family::LlamaScope { letters },
        })
    });
    let mixtures = [
        ("800m_slimpajama", "800M-Slimpajama-0-OpenR1-Math-220k"),
        ("400m_slimpajama_400m_openr1_math", "400M-Slimpajama-400M-OpenR1-Math-220k"),
        ("800m_openr1_math", "0-Slimpajama-800M-OpenR1-Math-220k"),
    ];
    let r1_distill = mixtures.into_iter().map(|(suffix, mixture)| Release {
        name: format!("llama_scope_r1_distill_{suffix}"),
        repo: "fnlp/Llama-Scope-R1-Distill".into(),
        model: "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
        n_layers: N_LAYERS,
        d_model: D_MODEL,
        expansion: 8,
        site: Site::ResidPost,
        family: Family::R1Distill { mixture },
    });
    llama_scope.chain(r1_distill).collect()
}

/// The release of a name; an unknown one is an error that suggests the nearest and lists all.
pub fn release(name: &str) -> Result<Release, Error> {
    let all = releases();
    if let Some(found) = all.iter().find(|release| release.name == name) {
        return Ok(found.clone());
    }
    let similarity = |release: &&Release| strsim::jaro_winkler(&name.to_lowercase(), &release.name);
    let nearest = all.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    Err(Error::UnknownRelease {
        name: name.into(),
        nearest: nearest
            .filter(|release| similarity(release) > 0.8)
            .map(|release| format!("; did you mean `{}`?", release.name))
            .unwrap_or_default(),
        known: all.iter().map(|release| release.name.as_str()).collect::<Vec<_>>().join(", "),
    })
}

/// The release and layer that a folder belongs to, by its name and the shape of what it holds.
pub fn release_of(folder: &Path, d_in: usize, d_sae: usize) -> Option<(Release, usize)> {
    let name = folder.file_name()?.to_str()?;
    let rest = name.strip_prefix("Llama3_1-8B-Base-L")?;
    let layer = rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    let fits = |release: &Release| {
        release.folder(layer) == name && (release.d_model, release.d_sae()) == (d_in, d_sae) && layer < release.n_layers
    };
    releases().into_iter().find(fits).map(|release| (release, layer))
}

/// `norm_scaling_factor` of `llama_scope_lxr_8x` by layer, from SAELens' registry.
const LXR_8X_SCALES: [f64; N_LAYERS] = [
    58.9353, 39.7670, 27.3067, 20.1773, 16.1260, 13.6533, 11.9766, 10.8360, 10.1386, 9.2670, 8.8276, 8.4628, 7.9380,
    7.2624, 6.6928, 5.9191, 5.2784, 4.6335, 4.1290, 3.7372, 3.4133, 2.9767, 2.6806, 2.4151, 2.1880, 2.0237, 1.8156,
    1.6732, 1.5059, 1.3763, 1.2019, 0.8591,
];

/// A warning when a file of `llama_scope_lxr_8x`, known by folder name and shape, has another factor than the registry.
pub(crate) fn unexpected_scale(folder: &Path, d_in: usize, d_sae: usize, f_in: f64) -> Option<String> {
    let layer = folder.file_name()?.to_str()?.strip_prefix("Llama3_1-8B-Base-L")?.strip_suffix("R-8x")?;
    let expected = *LXR_8X_SCALES.get(layer.parse::<usize>().ok()?)?;
    let differs = (f_in / expected - 1.0).abs() > 1e-3;
    (d_in == D_MODEL && d_sae == 8 * D_MODEL && differs).then(|| {
        format!(
            "{}: its input factor is {f_in:.4}, where SAELens' registry has {expected} for layer {layer} of \
             llama_scope_lxr_8x: `hyperparams.json` may be of another layer.",
            folder.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_repositories_and_files() {
        let lxr = release("llama_scope_lxr_8x").unwrap();
        assert_eq!((lxr.repo.as_str(), lxr.d_sae(), lxr.n_layers), ("fnlp/Llama3_1-8B-Base-LXR-8x", 32768, 32));
        assert_eq!(lxr.files(7)[0], "Llama3_1-8B-Base-L7R-8x/hyperparams.json");
        assert_eq!(lxr.files(7)[1], "Llama3_1-8B-Base-L7R-8x/checkpoints/final.safetensors");
        let lxtc = release("llama_scope_lxtc_32x").unwrap();
        assert_eq!((lxtc.folder(31).as_str(), lxtc.site), ("Llama3_1-8B-Base-L31TC-32x", Site::MlpIn));
        let r1 = release("llama_scope_r1_distill_800m_slimpajama").unwrap();
        assert_eq!(r1.files(5)[1], "800M-Slimpajama-0-OpenR1-Math-220k/L5R/sae_weights.safetensors");
        assert_eq!(releases().len(), 11);
    }

    #[test]
    fn neuronpedia_has_most_of_them_under_names_of_its_own() {
        let name = |name: &str| release(name).unwrap().neuronpedia(12).map(|(model, layer)| format!("{model}/{layer}"));
        assert_eq!(name("llama_scope_lxr_8x").unwrap(), "llama3.1-8b/12-llamascope-res-32k");
        assert_eq!(name("llama_scope_lxa_32x").unwrap(), "llama3.1-8b/12-llamascope-att-131k");
        assert_eq!(name("llama_scope_lxtc_8x"), None);
        let r1 = name("llama_scope_r1_distill_800m_slimpajama").unwrap();
        assert_eq!(r1, "deepseek-r1-distill-llama-8b/12-llamascope-slimpj-res-32k");
        assert_eq!(name("llama_scope_r1_distill_800m_openr1_math"), None);
    }

    #[test]
    fn a_folder_is_known_by_its_name_and_shape() {
        let of =
            |name: &str, d_sae| release_of(Path::new(name), 4096, d_sae).map(|(release, layer)| (release.name, layer));
        assert_eq!(of("saes/Llama3_1-8B-Base-L7R-8x", 32768), Some(("llama_scope_lxr_8x".into(), 7)));
        assert_eq!(of("Llama3_1-8B-Base-L31TC-32x", 131072), Some(("llama_scope_lxtc_32x".into(), 31)));
        assert_eq!((of("Llama3_1-8B-Base-L7R-8x", 512), of("Llama3_1-8B-Base-L32R-8x", 32768)), (None, None));
        assert_eq!((of("Llama3_1-8B-Base-LR-8x", 32768), of("Exemplar-L7R-8x", 32768)), (None, None));
    }

    #[test]
    fn an_unknown_name_is_told_the_nearest_and_all() {
        let text = release("llama_scope_lxr_8").unwrap_err().to_string();
        assert!(text.contains("did you mean `llama_scope_lxr_8x`?") && text.contains("llama_scope_lxtc_32x"), "{text}");
        let text = release("llama_scope_r1_distill").unwrap_err().to_string();
        assert!(text.contains("did you mean `llama_scope_r1_distill_"), "{text}");
        assert!(!release("gemma").unwrap_err().to_string().contains("did you mean"));
    }

    #[test]
    fn the_registry_is_consulted_for_the_real_release_only() {
        let folder = Path::new("x/Llama3_1-8B-Base-L0R-8x");
        assert_eq!(unexpected_scale(folder, 4096, 32768, 64.0 / 1.0859375), None);
        assert!(unexpected_scale(folder, 4096, 32768, 39.767).unwrap().contains("58.9353"));
        assert_eq!(unexpected_scale(folder, 64, 512, 39.767), None);
        assert_eq!(unexpected_scale(Path::new("Demo-L0R-8x"), 4096, 32768, 39.767), None);
    }
}
