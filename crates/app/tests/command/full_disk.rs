//! A disk that takes no more: a limit on the size of files stands in for it.

use serde_json::json;

use crate::shell::{Shell, done, fixture};

/// Runs sentences with a limit on the size of files, which a write of `file` has to hit.
fn fails_at(sentences: &str, file: &str) -> Shell {
    let shell = Shell::new();
    shell.write("sentences.csv", sentences);
    let path = |name: &str| fixture(name).to_str().unwrap().to_owned();
    // Whoever ignores SIGXFSZ gets an error from the write. A block is 512 bytes or 1024, by the shell.
    let limited = "trap '' XFSZ; ulimit -f 24 && exec \"$0\" \"$@\"";
    let (binary, model, saes) = (env!("CARGO_BIN_EXE_llamascope"), path("llama3/model"), path("llama3/saes"));
    let run = ["-c", limited, binary, "run", "--model", &model, "--sae", &saes, "--input", "sentences.csv"];
    let done = done(shell.command("sh", &run));
    done.failed(1, &[file, "cannot be written"]);
    assert_eq!(shell.manifest()["status"], json!("failed"));
    shell
}

#[test]
fn rows_that_do_not_fit_on_the_disk() {
    let long = "The lamp on the harbour wall. ".repeat(20);
    let shell = fails_at(&format!("short\n{long}\n"), "sentence_0001.jsonl");
    let mut files: Vec<_> =
        std::fs::read_dir(shell.runs()[0].join("layer_00")).unwrap().map(|f| f.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["sentence_0000.jsonl"], "nothing half-written lies there");
}

#[test]
fn sentences_that_do_not_fit_on_the_disk() {
    let shell = fails_at(&"The lamp on the harbour wall.\n".repeat(200), "sentences.jsonl");
    assert!(!shell.runs()[0].join("sentences.jsonl").exists(), "nothing half-written lies there");
}

#[test]
#[cfg(target_os = "linux")]
fn stdout_on_a_full_disk() {
    let shell = Shell::new();
    let mut command = shell.llamascope(&["info", "llama_scope_lxr_8x"]);
    command.stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    done(command).failed(1, &["stdout", "No space left"]);
}
