//! `index`, `labels`, and the index that a run leaves behind.

use std::fs;

use crate::shell::{Shell, fixture};

fn path(name: &str) -> String {
    fixture(name).to_str().unwrap().to_owned()
}

/// A run of the fixture's model at layer 0; the folder.
fn run(shell: &Shell, more: &[&str]) -> String {
    let (model, saes) = (path("llama3/model"), path("llama3/saes"));
    shell.write("two.txt", "The lamp went out.\nLight.\n");
    let mut args = vec!["run", "--quiet", "--model", &model, "--sae", &saes, "--layers", "0", "--input", "two.txt"];
    args.extend(more);
    let done = shell.run(&args).succeeded();
    assert!(!done.stderr.contains("index"), "{done:?}");
    done.stdout.trim_end().to_owned()
}

#[test]
fn a_run_leaves_its_index_unless_it_shall_not() {
    let shell = Shell::new();
    let indexed = run(&shell, &[]);
    let check = shell.run(&["index", &indexed, "--check"]).succeeded();
    assert!(check.stdout.starts_with("whole: 2 sentences, ") && check.stderr.is_empty(), "{check:?}");

    let plain = run(&shell, &["--no-index"]);
    assert!(!shell.path(&plain).join("index").exists());
    shell.run(&["index", &plain, "--check"]).failed(1, &["there is no index", "llamascope index"]);
    let built = shell.run(&["index", &plain]).succeeded();
    assert!(built.stdout.starts_with("ready: 2 sentences, "), "{built:?}");
    let again = shell.run(&["index", &plain, "--force", "--quiet"]).succeeded();
    assert_eq!(again.stderr, "");
    shell.run(&["index", &plain, "--check"]).succeeded();
}

#[test]
fn a_damaged_index_is_told_and_mended() {
    let shell = Shell::new();
    let folder = run(&shell, &[]);
    shell.edit(&format!("{folder}/index/layer_00.rows.idx"), |bytes| bytes[200] ^= 1);
    shell.run(&["index", &folder, "--check"]).failed(1, &["layer_00.rows.idx", "is damaged"]);
    shell.run(&["index", &folder, "--force"]).succeeded();
    shell.run(&["index", &folder, "--check"]).succeeded();
}

#[test]
fn what_is_wrong_with_a_run_is_told_with_its_place() {
    let shell = Shell::new();
    let folder = run(&shell, &["--no-index"]);
    shell.edit(&format!("{folder}/layer_00/sentence_0001.jsonl"), |bytes| bytes.truncate(bytes.len() - 9));
    let built = shell.run(&["index", &folder]).succeeded();
    for part in ["damage: layer 0: A file ends in the middle of a line", "layer_00/sentence_0001.jsonl, line "] {
        assert!(built.stderr.contains(part), "`{part}`: {built:?}");
    }
}

#[test]
fn a_bare_tree_is_indexed_and_a_folder_that_is_no_run_is_not() {
    let shell = Shell::new();
    shell.copy("llama3/expected/saelens", "tree");
    let built = shell.run(&["index", "tree"]).succeeded();
    assert!(built.stdout.starts_with("ready: 12 sentences, ") && built.stdout.contains(" 3 layers, "), "{built:?}");
    assert!(built.stderr.contains("note: There is no run.json"), "{built:?}");
    fs::create_dir(shell.path("empty")).unwrap();
    shell.run(&["index", "empty"]).failed(1, &["is not a run"]);
    shell.run(&["index", "nowhere"]).failed(1, &["nowhere"]);
}

#[test]
fn labels_are_imported_and_listed() {
    let shell = Shell::new();
    let line = |layer: &str| {
        format!(
            "{{\"modelId\": \"llama3.1-8b\", \"layer\": \"{layer}\", \"index\": \"7\", \"description\": \"lamps\"}}\n"
        )
    };
    shell.write("batch-0.jsonl", line("12-llamascope-res-32k") + &line("3-llamascope-res-32k"));
    let none = shell.run(&["labels", "list"]).succeeded();
    assert!(none.stdout.starts_with("no labels in outputs/labels"), "{none:?}");
    let imported = shell.run(&["labels", "import", "batch-0.jsonl"]).succeeded();
    assert!(
        imported.stdout.contains("12-llamascope-res-32k.jsonl: 1 labels, 1 of them new, 0 changed"),
        "{imported:?}"
    );
    let listed = shell.run(&["labels", "list"]).succeeded();
    assert_eq!(
        listed.stdout,
        "llama3.1-8b/3-llamascope-res-32k: 1 labels\nllama3.1-8b/12-llamascope-res-32k: 1 labels\n"
    );
    shell.write("config.yaml", "output_dir: elsewhere\n");
    shell.run(&["labels", "import", "batch-0.jsonl"]).succeeded();
    assert!(shell.path("elsewhere/labels/llama3.1-8b/3-llamascope-res-32k.jsonl").is_file());

    let folder = run(&shell, &["--no-index", "--config", "config.yaml", "--output-dir", "outputs"]);
    shell.run(&["labels", "import", "batch-0.jsonl", "--run", &folder, "--layer", "0"]).succeeded();
    assert!(shell.path(&folder).join("labels/layer_00.jsonl").is_file());
    shell.run(&["labels", "import", "batch-0.jsonl", "--run", "nowhere", "--layer", "0"]).failed(1, &["nowhere"]);
    assert_eq!(shell.run(&["labels", "import", "batch-0.jsonl", "--run", &folder]).code, Some(2));
    shell.write("broken.jsonl", "{\n");
    shell.run(&["labels", "import", "broken.jsonl"]).failed(1, &["broken.jsonl, line 1"]);
}
