//! Sentences that cannot be used: exit code 1, with file and line, before a run folder is made.

use crate::shell::{Shell, fixture};

/// Runs the fixture's model over `sentences.csv` of the shell's folder.
fn args(rest: &[&str]) -> Vec<String> {
    let path = |name: &str| fixture(name).to_str().unwrap().to_owned();
    let fixed = ["run", "--model", &path("llama3/model"), "--sae", &path("llama3/saes"), "--input", "sentences.csv"];
    fixed.iter().chain(rest).map(|arg| arg.to_string()).collect()
}

#[track_caller]
fn refuses(content: &[u8], rest: &[&str], words: &[&str]) {
    let shell = Shell::new();
    shell.write("sentences.csv", content);
    let args = args(rest);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    shell.refuses(1, &args, words);
}

#[test]
fn a_file_that_is_not_there() {
    let args = args(&[]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Shell::new().refuses(1, &args, &["sentences.csv", "cannot be read", "No such file"]);
}

#[test]
fn a_file_without_sentences() {
    refuses(b"", &[], &["sentences.csv", "empty", "one sentence a line"]);
    refuses(b"\n\n \n", &[], &["sentences.csv", "no sentence", "one sentence a line"]);
}

#[test]
fn a_file_that_is_not_utf8() {
    refuses(b"one\ntwo\nThe caf\xe9\n", &[], &["sentences.csv", "line 3", "0xE9", "UTF-8"]);
}

#[test]
fn quotes_and_columns() {
    refuses(b"one\n\"two\nthree\n", &[], &["sentences.csv", "line 2", "never closed"]);
    refuses(b"id,text\n1,one\n", &["--text-column", "txt"], &["sentences.csv", "`txt`", "`text`", "text_column"]);
}

#[test]
fn a_sentence_longer_than_the_context() {
    let long = format!("short\n{}\n", "word ".repeat(600));
    refuses(long.as_bytes(), &[], &["sentences.csv:2", "context is 512", "--truncate"]);

    let shell = Shell::new();
    shell.write("sentences.csv", &long);
    let args = args(&["--truncate"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    shell.run(&args).succeeded();
    assert_eq!(shell.manifest()["counts"]["truncated"], 1);
    let last = std::fs::read_to_string(shell.runs()[0].join("layer_00/sentence_0001.jsonl")).unwrap();
    assert_eq!(last.lines().count(), 511, "512 tokens, of which BOS has no row");
}
