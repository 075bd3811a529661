//! What works: settings from file and flags, streams, exit codes of `compare`, what `info` tells.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::shell::{Done, Shell, done, fixture};

fn path(name: &str) -> String {
    fixture(name).to_str().unwrap().to_owned()
}

/// A folder with a `config.yaml` for the fixture's model.
fn configured() -> Shell {
    let shell = Shell::new();
    let config = json!({
        "model_id": path("llama3/model"),
        "sae_release": path("llama3/saes"),
        "layers": [0, 2],
        "input_csvs": [path("llama3/sentences.csv")],
    });
    shell.write("config.yaml", config.to_string());
    shell
}

/// The run folder that a command has printed, and nothing else on stdout.
#[track_caller]
fn folder(shell: &Shell, done: &Done) -> std::path::PathBuf {
    let line = done.stdout.strip_suffix('\n').unwrap();
    assert!(!line.contains('\n'), "{done:?}");
    let folder = shell.path(line);
    assert!(folder.join("run.json").is_file(), "{done:?}");
    folder
}

#[test]
fn a_config_in_the_current_folder_is_run() {
    let shell = configured();
    let done = shell.run(&["run"]).succeeded();
    let run = folder(&shell, &done);
    assert_eq!(run.parent(), Some(shell.path("outputs").as_path()));
    for layer in ["layer_00", "layer_02"] {
        assert_eq!(fs::read_dir(run.join(layer)).unwrap().count(), 12);
    }
    assert!(!run.join("layer_01").exists());
    for part in
        ["opening ", "running 789 tokens", "L0 mean", "peak memory", "strongest features at layer 0", "tokens/s"]
    {
        assert!(done.stderr.contains(part), "`{part}`: {done:?}");
    }
    // What holds for both SAEs is said once.
    assert_eq!(done.stderr.matches("warning: ").count(), 1, "{done:?}");
    assert!(done.stderr.contains("warning: SAEs of layers 0, 2: the decoder vectors are not of length 1"), "{done:?}");
    assert!(!done.stderr.contains('\x1b') && !done.stderr.contains('\r'), "no colours, no bars: {done:?}");
}

#[test]
fn quiet_is_quiet() {
    let shell = configured();
    shell.write(
        "config.yaml",
        fs::read_to_string(shell.path("config.yaml")).unwrap().replace("llama3/saes", "llama3/saes_r1"),
    );
    let done = shell.run(&["run", "--quiet", "--layers", "1"]).succeeded();
    assert_eq!(done.stderr, "");
    folder(&shell, &done);
}

#[test]
fn every_flag_overrides_its_key() {
    let shell = Shell::new();
    shell.write(
        "mine.yaml",
        "{model_id: x, sae_release: x, dtype: float16, device: cuda, layers: [9], input_csvs: [x], output_dir: x, \
         text_column: x, sae_convention: saelens, memory: 9GiB, threads: 9, truncate: false, revision: x}",
    );
    shell.write("table.csv", "text\nThe lamp went out.\n");
    let (model, saes) = (path("llama3/model"), path("llama3/saes"));
    #[rustfmt::skip]
    let args = [
        "run", "--config", "mine.yaml", "--model", &model, "--sae", &saes, "--dtype", "float32", "--device", "cpu",
        "--layers", "0-1", "--input", "table.csv", "--input", "table.csv", "--output-dir", "outputs", "--text-column", "text",
        "--sae-convention", "openmoss", "--memory", "1GiB", "--threads", "1", "--truncate", "--revision", "r",
    ];
    let done = shell.run(&args).succeeded();
    folder(&shell, &done);
    let manifest = shell.manifest();
    let expected = json!({
        "model_id": model, "sae_release": saes, "dtype": "float32", "device": "cpu", "layers": [0, 1],
        "input_csvs": ["table.csv", "table.csv"], "output_dir": "outputs", "text_column": "text",
        "sae_convention": "openmoss", "memory": "1GiB", "threads": 1, "truncate": true, "revision": "r",
    });
    assert_eq!(manifest["config"], expected);
    assert_eq!(manifest["device"]["threads"], 1);
    assert_eq!(manifest["saes"][0]["convention"], "openmoss");
    assert_eq!(manifest["counts"]["sentences"], 2);
}

#[test]
fn a_kernel_is_chosen_by_the_environment() {
    let shell = configured();
    let with = |kernel: &str| {
        let mut command = shell.llamascope(&["run"]);
        command.env("LLAMASCOPE_KERNEL", kernel);
        done(command)
    };
    with("fast").failed(2, &["LLAMASCOPE_KERNEL", "`fast`", "portable"]);
    assert!(shell.runs().is_empty());
    with("portable").succeeded();
    assert_eq!(shell.manifest()["device"]["kernel"], "portable");
}

/// Two runs of one folder, the second in another convention.
fn two_runs(shell: &Shell) -> [String; 2] {
    ["saelens", "openmoss"].map(|convention| {
        let done = shell.run(&["run", "--quiet", "--sae-convention", convention]).succeeded();
        done.stdout.trim_end().to_owned()
    })
}

#[test]
fn compare_tells_how_far_two_runs_agree() {
    let shell = configured();
    let [a, b] = two_runs(&shell);
    let same = shell.run(&["compare", &a, &a, "--require-jaccard", "1", "--require-rel", "0"]).succeeded();
    assert!(same.stdout.contains("layer") && same.stderr.is_empty(), "{same:?}");
    let reference = path("llama3/expected/saelens");
    let partly = shell.run(&["compare", &a, &reference]);
    assert_eq!(partly.code, Some(1), "layer 1 is in one of them only: {partly:?}");

    let differ = shell.run(&["compare", &a, &b]).succeeded();
    assert!(differ.stderr.is_empty(), "{differ:?}");
    for (flag, value) in [("--require-jaccard", "0.99"), ("--require-rel", "0.001")] {
        let missed = shell.run(&["compare", &a, &b, flag, value]);
        assert_eq!(missed.code, Some(1), "{missed:?}");
        assert!(missed.stderr.starts_with("error: ") && missed.stderr.contains(value), "{missed:?}");
        assert_eq!(missed.stdout, differ.stdout);
    }
    let json: Value = serde_json::from_str(&shell.run(&["compare", &a, &b, "--json"]).succeeded().stdout).unwrap();
    assert_eq!(json["layers"].as_array().unwrap().len(), 2);
    shell.run(&["compare", &a, "nowhere"]).failed(1, &["nowhere"]);
}

#[test]
fn info_tells_what_things_are() {
    let shell = configured();
    let run = shell.run(&["run", "--quiet"]).succeeded().stdout.trim_end().to_owned();
    for (what, words) in [
        (path("llama3/model"), ["LlamaForCausalLM", "d_model     48"]),
        (path("gguf/mixed.gguf"), ["mixed.gguf (llama)", "Q8_0"]),
        (path("llama3/saes/Llama3_1-8B-Base-L1R-8x"), ["blocks.1.hook_resid_post", "384 features of rows of 48"]),
        (path("tied/saes_topk"), ["SAELens", "TopK, k = 12"]),
        ("llama_scope_lxr_8x".into(), ["meta-llama/Llama-3.1-8B", "32768 features of rows of 4096"]),
        (run, ["complete; started", "384"]),
        (path("llama3/expected/saelens"), ["rows without run.json", "0,1,2"]),
    ] {
        let told = shell.run(&["info", &what]).succeeded();
        assert!(words.iter().all(|word| told.stdout.contains(word)) && told.stderr.is_empty(), "{told:?}");
    }
    shell.run(&["info", "nonsense"]).failed(2, &["`nonsense`", "no such file", "owner/name"]);
    shell.run(&["info", "config.yaml"]).failed(1, &["config.yaml"]);
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let shell = Shell::new();
    let mut command = shell.llamascope(&["info", "llama_scope_lxr_8x"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let done = Done::from(child.wait_with_output().unwrap());
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
}

#[test]
fn help_names_every_command() {
    let shell = Shell::new();
    let help = shell.run(&["--help"]).succeeded();
    for command in ["run", "demo", "compare", "info", "dictionary", "index", "labels", "verify"] {
        assert!(help.stdout.contains(&format!("\n  {command}")), "{help:?}");
        let own = shell.run(&[command, "--help"]).succeeded();
        assert!(own.stdout.contains(&format!("Usage: llamascope {command}")), "{own:?}");
    }
    assert_eq!(shell.run(&["--version"]).succeeded().stdout, format!("llamascope {}\n", env!("CARGO_PKG_VERSION")));
    shell.run(&["demo"]).failed(2, &["demo/config.yaml", "clone"]);
}
