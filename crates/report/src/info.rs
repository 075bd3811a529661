//! What a run is, from its manifest.

use std::fmt::Write;

use llamascope_record::run::{Manifest, Run, SaeInfo, Status};

use crate::summary::{bytes, layer_table, totals};
use crate::text;

/// Columns that a value fills at most.
const VALUE_COLUMNS: usize = 90;

/// What the run in a folder is: program, model, dictionaries, device, and its layers; of a bare tree of rows, what lies
/// in it.
pub fn run_info(run: &Run) -> String {
    match &run.manifest {
        Some(manifest) => manifest_info(manifest),
        None => {
            let layers = run.layers();
            let names: Vec<_> = layers.iter().map(usize::to_string).collect();
            let files: usize = layers.iter().map(|layer| run.sentences_in(*layer).len()).sum();
            let mut shown = String::new();
            line(&mut shown, "run", "rows without run.json: nothing is known but what lies in the folder");
            line(&mut shown, "layers", &names.join(","));
            line(&mut shown, "files", &format!("{files}, one a layer and sentence"));
            shown
        }
    }
}

/// What a manifest says of its run.
pub fn manifest_info(manifest: &Manifest) -> String {
    let (model, device, counts) = (&manifest.model, &manifest.device, &manifest.counts);
    let status = match manifest.status {
        Status::Complete if manifest.complete => "complete",
        Status::Complete | Status::Running => "not complete: at work, or was killed",
        Status::Interrupted => "not complete: interrupted",
        Status::Failed => "not complete: failed",
    };
    let mut shown = String::new();
    let mut put = |key: &str, value: String| line(&mut shown, key, &value);
    put("run", format!("{status}; started {} by {}", manifest.started, manifest.program));
    put("model", format!("{} ({})", model.id, model.path));
    put(
        "",
        format!(
            "{}, {} layers, d_model {}, vocabulary {}, {} in {} file(s)",
            model.architecture,
            model.n_layers,
            model.d_model,
            model.vocab,
            bytes(model.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))),
            model.files.len()
        ),
    );
    // Runs of dictionaries that differ only in layer and norm share a line.
    for alike in manifest.saes.chunk_by(|a, b| kind(a) == kind(b)) {
        let layers: Vec<_> = alike.iter().map(|sae| sae.layer.to_string()).collect();
        put("SAEs", format!("layers {}: {}", layers.join(","), kind(&alike[0])));
    }
    put("device", format!("{}, {}, {} threads, {}", device.name, device.kernel, device.threads, device.dtype));
    put(
        "input",
        format!(
            "{} sentences ({} empty, {} cut), {} tokens, {} rows",
            counts.sentences, counts.empty_sentences, counts.truncated, counts.tokens, counts.rows
        ),
    );
    if let Some(fingerprint) = &manifest.fingerprint {
        put("fingerprint", fingerprint.clone());
    }
    format!("{shown}\n{}{}", layer_table(manifest), totals(manifest))
}

fn kind(sae: &SaeInfo) -> String {
    let SaeInfo { format, activation, convention, d_in, d_sae, .. } = sae;
    format!("{format}, {activation}, convention {convention}, {d_in} -> {d_sae}")
}

fn line(shown: &mut String, key: &str, value: &str) {
    let value = text::fit(&text::plain(value), VALUE_COLUMNS);
    let _ = writeln!(shown, "{key:<12}{value}");
}

#[cfg(test)]
mod tests {
    use llamascope_record::run::{Counts, DeviceInfo, FileInfo, LayerSummary, ModelInfo, Timings};

    use super::*;

    #[test]
    fn a_manifest_is_told_in_lines() {
        let sae = |layer| SaeInfo {
            layer,
            format: "llama_scope".into(),
            convention: "saelens".into(),
            activation: "jumprelu".into(),
            d_in: 64,
            d_sae: 512,
            ..SaeInfo::default()
        };
        let manifest = Manifest {
            program: "llamascope 0.1.0".into(),
            complete: true,
            status: Status::Complete,
            started: "2026-01-02T03:04:05Z".into(),
            model: ModelInfo {
                id: "some/model\x1b[2J".into(),
                path: "cache/model".into(),
                architecture: "LlamaForCausalLM".into(),
                n_layers: 4,
                d_model: 64,
                vocab: 512,
                files: vec![FileInfo { path: "model.safetensors".into(), bytes: 3 << 19 }],
                ..ModelInfo::default()
            },
            saes: vec![sae(0), sae(2), SaeInfo { d_sae: 1024, ..sae(3) }],
            device: DeviceInfo { name: "cpu".into(), kernel: "avx512".into(), threads: 2, dtype: "float32".into() },
            counts: Counts { sentences: 12, empty_sentences: 1, tokens: 700, rows: 2752, ..Counts::default() },
            layers: vec![LayerSummary {
                hook: "blocks.0.hook_resid_post".into(),
                d_sae: 512,
                ..LayerSummary::default()
            }],
            fingerprint: Some("ab12".into()),
            timings: Timings { total_s: 2.0, tokens_per_s: 350.0, ..Timings::default() },
            ..Manifest::default()
        };
        let expected = "\
run         complete; started 2026-01-02T03:04:05Z by llamascope 0.1.0
model       some/model␛[2J (cache/model)
            LlamaForCausalLM, 4 layers, d_model 64, vocabulary 512, 1.5 MiB in 1 file(s)
SAEs        layers 0,2: llama_scope, jumprelu, convention saelens, 64 -> 512
SAEs        layers 3: llama_scope, jumprelu, convention saelens, 64 -> 1024
device      cpu, avx512, 2 threads, float32
input       12 sentences (1 empty, 0 cut), 700 tokens, 2752 rows
fingerprint ab12

layer  hook                      L0 mean  L0 max  features seen   of  share
-----  ------------------------  -------  ------  -------------  ---  -----
    0  blocks.0.hook_resid_post      0.0       0              0  512   0.0%
700 tokens in 12 sentences, 2.0 s, 350.0 tokens/s
";
        assert_eq!(manifest_info(&manifest), expected);
        let killed = manifest_info(&Manifest { complete: false, status: Status::Running, ..manifest });
        assert!(killed.starts_with("run         not complete: at work, or was killed; "), "{killed}");
    }

    #[test]
    fn a_bare_tree_is_told_by_its_files() {
        let folder = tempfile::tempdir().unwrap();
        for layer in ["layer_03", "layer_12"] {
            std::fs::create_dir(folder.path().join(layer)).unwrap();
            std::fs::write(folder.path().join(layer).join("sentence_0000.jsonl"), "").unwrap();
        }
        let expected = "\
run         rows without run.json: nothing is known but what lies in the folder
layers      3,12
files       2, one a layer and sentence
";
        assert_eq!(run_info(&Run::open(folder.path()).unwrap()), expected);
    }
}
