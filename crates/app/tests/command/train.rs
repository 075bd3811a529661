//! `llamascope train`: from a file to SAEs that the other commands read.

use crate::shell::{Shell, done, fixture};

/// A shell with a text, and a file that trains a small SAE of the tiny model on it.
fn ready(more: &str) -> Shell {
    let shell = Shell::new();
    shell.write_text("text.txt", 399);
    let model = fixture("llama3/model");
    let model = model.display();
    let base =
        "text: text.txt\nlayers: [0, 2]\ntokens: 6000\nbuffer: 1024\nbatch: 128\ncontext: 24\nexpansion: 2\nk: 4\n";
    shell.write("train.yaml", format!("model_id: '{model}'\n{base}{more}"));
    shell
}

#[test]
fn a_file_becomes_saes_that_run_eval_and_info_read() {
    let shell = ready("layouts: [llama_scope, saelens]\nname: Tiny\n");
    let trained = shell.run(&["train", "train.yaml"]).succeeded();
    assert_eq!(trained.stdout.trim(), "saes");
    assert!(trained.stderr.contains("layer 2: ") && trained.stderr.contains("active features a token"), "{trained:?}");
    let model = fixture("llama3/model");
    let model = model.to_str().unwrap();
    let info = shell.run(&["info", "saes/Tiny-L2R-2x"]).succeeded();
    assert!(info.stdout.contains("96"), "{info:?}");
    for saes in ["saes", "saes/saelens"] {
        let eval =
            ["eval", "--model", model, "--sae", saes, "--layers", "0,2", "--input", "text.txt", "--tokens", "500"];
        let eval = shell.run(&[&eval[..], &["--context", "24"]].concat()).succeeded();
        assert!(eval.stdout.contains("recovered"), "{eval:?}");
    }
    shell.write("sentences.csv", "The lamp on the harbour wall.\n");
    shell.run(&["run", "--model", model, "--sae", "saes", "--layers", "2", "--input", "sentences.csv"]).succeeded();
    // Nothing is left to do, and it is done again from the last checkpoint.
    let again = shell.run(&["train", "train.yaml"]).succeeded();
    assert!(again.stderr.contains("going on from"), "{again:?}");
    let fresh = shell.run(&["train", "train.yaml", "--fresh", "--quiet"]).succeeded();
    assert_eq!((fresh.stdout.trim(), &fresh.stderr[..]), ("saes", ""));
}

#[test]
fn what_is_wrong_with_the_file_is_a_usage_error() {
    let shell = ready("kind: top\n");
    shell.run(&["train", "train.yaml"]).failed(2, &["train.yaml:10", "kind", "topk, batch_topk, relu"]);
    shell.run(&["train", "missing.yaml"]).failed(2, &["missing.yaml"]);
    let shell = ready("");
    shell.run(&["train", "train.yaml", "--quiet"]).succeeded();
    let text = std::fs::read_to_string(shell.path("train.yaml")).unwrap();
    shell.write("train.yaml", format!("{text}seed: 4\n"));
    shell.run(&["train", "train.yaml"]).failed(2, &["`seed` 0, now it is 4", "--fresh"]);
    let help = shell.run(&["train", "--help"]).succeeded();
    for word in ["Example", "layers: [5, 10, 20]", "checkpoint_minutes", "batch_topk (default)"] {
        assert!(help.stdout.contains(word), "{word}: {help:?}");
    }
}

#[test]
#[cfg(unix)]
fn a_checkpoint_that_does_not_fit_on_the_disk_is_named_and_the_one_before_it_is_kept() {
    let shell = ready("checkpoint_minutes: 0\n");
    // Whoever ignores SIGXFSZ gets an error from the write. A block is 512 bytes or 1024, by the shell.
    let limited = "trap '' XFSZ; ulimit -f 90 && exec \"$0\" \"$@\"";
    let failed =
        done(shell.command("sh", &["-c", limited, env!("CARGO_BIN_EXE_llamascope"), "train", "train.yaml", "-q"]));
    failed.failed(1, &["checkpoints/unfinished/"]);
    assert_eq!(
        std::fs::read_dir(shell.path("saes/checkpoints")).unwrap().count(),
        0,
        "nothing half-written lies there"
    );
    // With room again the training begins, and what a later full disk leaves is the last whole checkpoint.
    shell.run(&["train", "train.yaml", "-q"]).succeeded();
    let before = std::fs::read_dir(shell.path("saes/checkpoints")).unwrap().map(|entry| entry.unwrap().file_name());
    let before: Vec<_> = before.collect();
    let failed =
        done(shell.command("sh", &["-c", limited, env!("CARGO_BIN_EXE_llamascope"), "train", "train.yaml", "-q"]));
    failed.failed(1, &["checkpoints/unfinished/"]);
    let after = std::fs::read_dir(shell.path("saes/checkpoints")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(after.collect::<Vec<_>>(), before);
}
