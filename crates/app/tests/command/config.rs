//! Settings that cannot be meant: exit code 2, before anything is read or written.

use crate::shell::{Shell, fixture};

const CONFIG: &str = "model_id: model\nsae_release: saes\ninput_csvs: [sentences.csv]\n";

fn with_config(text: &str) -> Shell {
    let shell = Shell::new();
    shell.write("config.yaml", text);
    shell
}

#[test]
fn without_settings_the_way_out_is_told() {
    Shell::new().refuses(2, &["run"], &["no `model_id`", "config.yaml", "--model"]);
    with_config("model_id: m\nsae_release: s\n").refuses(2, &["run"], &["no `input_csvs`", "config.yaml", "--input"]);
}

#[test]
fn a_config_file_that_is_not_there() {
    Shell::new().refuses(2, &["run", "--config", "mine.yaml"], &["mine.yaml", "No such file"]);
    let shell = Shell::new();
    std::fs::create_dir(shell.path("config.yaml")).unwrap();
    shell.refuses(2, &["run"], &["config.yaml", "directory"]);
}

#[test]
fn malformed_yaml_is_named_by_its_line() {
    with_config("model_id: m\nlayers: [0, 1\n").refuses(2, &["run"], &["config.yaml:"]);
    with_config("- model_id\n").refuses(2, &["run"], &["config.yaml:1:", "expected keys"]);
    let shell = Shell::new();
    shell.write("config.yaml", b"model_id: m\nsae_release: \xff\n");
    shell.refuses(2, &["run"], &["config.yaml:2:", "UTF-8"]);
}

#[test]
fn an_unknown_key_leads_to_the_nearest() {
    with_config(&format!("{CONFIG}layer: [0]\n")).refuses(
        2,
        &["run"],
        &["config.yaml:4:", "unknown key `layer`", "did you mean `layers`?"],
    );
}

#[test]
fn unknown_values_name_the_known_ones() {
    for (line, words) in [
        ("dtype: float8", ["`float8`", "float16, float32, bfloat16"]),
        ("device: gpu", ["`gpu`", "auto, cpu, cuda, mps"]),
        ("layers: [0, top]", ["`top`", "layer"]),
        ("sae_convention: mine", ["`mine`", "saelens, openmoss, neuronpedia"]),
        ("memory: lots", ["`lots`", "4GiB"]),
        ("threads: 0", ["`0`", "from 1"]),
    ] {
        let key = line.split(':').next().unwrap();
        let shell = with_config(&format!("{CONFIG}{line}\n"));
        shell.refuses(2, &["run"], &["config.yaml:4:", key, words[0], words[1]]);
    }
}

#[test]
fn flags_are_checked_like_keys() {
    for (flag, value, word) in [
        ("--dtype", "float8", "float16, float32, bfloat16"),
        ("--device", "gpu", "auto, cpu, cuda, mps"),
        ("--layers", "5-1", "range"),
        ("--memory", "lots", "4GiB"),
        ("--threads", "0", "from 1"),
        ("--sae-convention", "mine", "saelens, openmoss and neuronpedia"),
    ] {
        Shell::new().refuses(2, &["run", flag, value], &[flag, value, word]);
    }
    Shell::new().refuses(2, &["run", "--modle", "x"], &["--modle", "'--model'"]);
    Shell::new().refuses(2, &["walk"], &["walk"]);
}

/// What the fixture's model and SAEs are refused with when these flags come in their place or beside them.
#[track_caller]
fn refuses(flags: &[&str], words: &[&str]) {
    let shell = Shell::new();
    let path = |name: &str| fixture(name).to_str().unwrap().to_owned();
    let (model, saes, input) = (path("llama3/model"), path("llama3/saes"), path("llama3/sentences.csv"));
    shell.write("config.yaml", format!("model_id: {model:?}\nsae_release: {saes:?}\ninput_csvs: [{input:?}]\n"));
    shell.refuses(2, &[&["run"], flags].concat(), words);
}

#[test]
fn devices_that_this_build_has_not() {
    refuses(&["--device", "cuda"], &["`cuda`", "CPU only", "device: cpu"]);
    refuses(&["--device", "mps"], &["`mps`", "CPU only", "device: cpu"]);
}

#[test]
fn a_layer_that_the_model_has_not() {
    refuses(&["--layers", "1,7"], &["layer 7", "3 layers, 0 to 2"]);
}

#[test]
fn names_that_are_neither_here_nor_known() {
    refuses(&["--model", "nonsense"], &["`nonsense`", "no such file", "owner/name", ".gguf"]);
    refuses(&["--sae", "llama_scope_lxr_16x"], &["`llama_scope_lxr_16x`", "llama_scope_lxr_8x", "folder"]);
}

#[test]
fn a_dotenv_line_that_is_not_understood_is_named_and_not_shown() {
    let shell = Shell::new();
    shell.write(".env", "A=1\nhf_secret\n");
    let done = shell.run(&["info", "nonsense"]);
    done.failed(2, &[".env", "line 2", "KEY=value"]);
    assert!(!done.stderr.contains("hf_secret"), "{done:?}");
}
