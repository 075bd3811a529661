//! Runs that end early, by the hand of whoever, and go on: from outside, with signals and limits that are real.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::shell::{Done, Shell, done, fixture};

/// A folder with a copy of the fixture's model and many sentences.
fn prepared(sentences: usize) -> Shell {
    let shell = Shell::new();
    shell.copy("llama3/model", "model");
    let sentence = |i: usize| format!("{i} lamps on the harbour wall went out, and nobody noticed\n");
    shell.write("sentences.csv", (0..sentences).map(sentence).collect::<String>());
    let config = json!({
        "model_id": "model", "sae_release": fixture("llama3/saes"), "input_csvs": ["sentences.csv"], "memory": "64MiB",
    });
    shell.write("config.yaml", config.to_string());
    shell
}

fn start(shell: &Shell, args: &[&str]) -> Child {
    shell.llamascope(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for something to happen, for ten minutes at most: the machine may be busy.
#[track_caller]
fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let started = Instant::now();
    while !happened() {
        assert!(started.elapsed() < Duration::from_secs(600), "{what} has not happened");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// How many files of rows there are.
fn rows(run: &Path) -> usize {
    let layers = (0..3).map(|layer| run.join(format!("layer_{layer:02}")));
    layers.filter_map(|layer| fs::read_dir(layer).ok()).map(Iterator::count).sum()
}

/// Starts a run and waits until so many of its files are there; with the run folder, as it is typed.
fn begun(shell: &Shell, files: usize) -> (Child, String) {
    let child = start(shell, &["run", "--no-index"]);
    wait_for("the first files", || shell.runs().first().is_some_and(|run| rows(run) >= files));
    let run = shell.runs().remove(0);
    (child, format!("outputs/{}", run.file_name().unwrap().to_str().unwrap()))
}

fn signal(name: &str, child: &Child) {
    assert!(Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap().success());
}

/// The files of a run but for its index, which is made of them; of its manifest what is not measured.
fn content(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut content = BTreeMap::new();
    let mut folders = vec![run.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.extend(Some(path).filter(|path| !path.ends_with("index")));
                continue;
            }
            let mut bytes = fs::read(&path).unwrap();
            if path.ends_with("run.json") {
                let mut manifest: Value = serde_json::from_slice(&bytes).unwrap();
                for measured in ["timings", "peak_memory_bytes", "started"] {
                    assert!(!manifest[measured].take().is_null());
                }
                bytes = serde_json::to_vec_pretty(&manifest).unwrap();
            }
            content.insert(path.strip_prefix(run).unwrap().to_owned(), bytes);
        }
    }
    content
}

/// Resumes the run, and compares it with one that nothing disturbed.
#[track_caller]
fn goes_on(shell: &Shell, run: &str) {
    shell.run(&["run", "--resume", run, "-q", "--no-index"]).succeeded();
    let verdict = shell.run(&["verify", run]).succeeded();
    assert!(verdict.stdout.starts_with("complete and right: "), "{verdict:?}");
    let plain = shell.run(&["run", "-q", "--no-index"]).succeeded();
    let (found, plain) = (content(&shell.path(run)), content(&shell.path(plain.stdout.trim_end())));
    assert_eq!(found.keys().collect::<Vec<_>>(), plain.keys().collect::<Vec<_>>());
    for (name, bytes) in &found {
        assert!(plain[name] == *bytes, "{}", name.display());
    }
}

#[test]
fn a_killed_run_goes_on() {
    let shell = prepared(400);
    let (mut child, run) = begun(&shell, 1);
    child.kill().unwrap();
    child.wait().unwrap();
    // Killed as soon as there is something new, until nothing is.
    for _ in 0..3 {
        let before = rows(&shell.path(&run));
        let mut child = start(&shell, &["run", "--resume", &run, "--no-index"]);
        wait_for("more files", || rows(&shell.path(&run)) > before || child.try_wait().unwrap().is_some());
        let _ = child.kill();
        child.wait().unwrap();
    }
    goes_on(&shell, &run);
}

#[test]
fn whoever_interrupts_a_run_is_told_how_to_go_on() {
    let shell = prepared(3000);
    let (child, run) = begun(&shell, 1);
    signal("INT", &child);
    let ended = Done::from(child.wait_with_output().unwrap());
    assert!(ended.stderr.ends_with(&format!("to go on: llamascope run --resume {run}\n")), "{ended:?}");
    let verdict = shell.run(&["verify", &run]);
    assert_eq!((ended.code, verdict.code), (Some(130), Some(1)), "{ended:?} {verdict:?}");
    // A machine that is busy with other things may not come to the end of what is in hand.
    let state = if ended.stderr.contains("what was in hand would have taken longer") {
        "not complete: it was killed: "
    } else {
        ended.failed(130, &["interrupted; what was finished is in", &run]);
        "not complete: interrupted: "
    };
    assert!(verdict.stdout.contains(state), "{verdict:?}");
    assert!(
        verdict.stdout.ends_with(&format!("to complete and mend it: llamascope run --resume {run}\n")),
        "{verdict:?}"
    );
    // The viewer's index and the summary take a run that is not complete, and the same run when it is.
    shell.run(&["index", &run]).succeeded();
    shell.run(&["info", &run]).succeeded();
    goes_on(&shell, &run);
    shell.run(&["index", &run, "--check"]).failed(1, &["index"]);
    shell.run(&["index", &run]).succeeded();
    shell.run(&["show", &run, "-s", "2999", "-L", "2"]).succeeded();
}

#[test]
fn terminating_and_a_second_signal_end_a_run_that_goes_on() {
    for signals in [&["TERM"][..], &["INT", "INT"], &["TERM", "INT"]] {
        let shell = prepared(3000);
        let (mut child, run) = begun(&shell, 1);
        for name in signals {
            // One that has ended meanwhile takes no more.
            if child.try_wait().unwrap().is_none() {
                signal(name, &child);
            }
        }
        let ended = Done::from(child.wait_with_output().unwrap());
        // The second signal ends it at once, without an error that could be told.
        assert_eq!((ended.code, &*ended.stdout), (Some(130), ""), "{ended:?}");
        assert!(ended.stderr.ends_with(&format!("to go on: llamascope run --resume {run}\n")), "{ended:?}");
        shell.run(&["run", "--resume", &run, "-q", "--no-index"]).succeeded();
        assert!(shell.run(&["verify", &run]).succeeded().stdout.starts_with("complete and right: "));
    }
}

#[test]
fn a_second_process_is_told_that_it_is_the_second() {
    let shell = prepared(3000);
    let (mut child, run) = begun(&shell, 1);
    shell.run(&["run", "--resume", &run]).failed(1, &[&run, "another process is at work on this run"]);
    let verdict = shell.run(&["verify", &run]);
    assert!(verdict.stdout.contains("at work: another process is writing it"), "{verdict:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    shell.run(&["run", "--resume", &run, "-q", "--no-index"]).succeeded();
}

#[test]
fn settings_typed_again_must_be_those_of_the_run() {
    let shell = prepared(400);
    let (mut child, run) = begun(&shell, 1);
    child.kill().unwrap();
    child.wait().unwrap();
    for (flag, value, words) in [
        ("--dtype", "bfloat16", "dtype (--dtype) is \"float32\", not \"bfloat16\""),
        ("--layers", "1", "layers (--layers) is \"all\", not [1]"),
        ("--input", "others.csv", "input_csvs (--input) is [\"sentences.csv\"], not [\"others.csv\"]"),
    ] {
        shell.run(&["run", "--resume", &run, flag, value]).failed(2, &[&run, words]);
    }
    shell
        .run(&["run", "--resume", &run, "--config", "config.yaml", "--memory", "128MiB", "--threads", "1"])
        .succeeded();
    let verdict = shell.run(&["verify", &run, "--json"]).succeeded();
    let verdict: Value = serde_json::from_str(&verdict.stdout).unwrap();
    assert_eq!((&verdict["right"], &verdict["files_right"]), (&json!(true), &json!(1200)));
    // A complete run that is whole has nothing to do, and needs no model for it.
    fs::remove_dir_all(shell.path("model")).unwrap();
    shell.run(&["run", "--resume", &run, "-q"]).succeeded();
    fs::remove_file(shell.path(&run).join("layer_01/sentence_0007.jsonl")).unwrap();
    let verdict = shell.run(&["verify", &run]);
    assert!(
        verdict.stdout.starts_with("layer_01/sentence_0007.jsonl: is missing\ndamaged: 1199 of 1200"),
        "{verdict:?}"
    );
    shell.run(&["run", "--resume", &run, "-q"]).failed(2, &["model `model`: no such file or folder"]);
    fs::create_dir(shell.path("empty")).unwrap();
    for command in [&["run", "--resume", "empty"][..], &["verify", "empty"]] {
        shell.run(command).failed(1, &["empty: is not a run: it holds neither run.json nor a folder such as layer_00"]);
    }
    shell.write("sentences.csv.d/run.json", "{");
    for command in [&["run", "--resume", "sentences.csv.d"][..], &["verify", "sentences.csv.d"]] {
        shell.run(command).failed(1, &["sentences.csv.d/run.json", "is not what a run holds"]);
    }
    shell.run(&["run", "--resume", "sentences.csv"]).failed(1, &["sentences.csv: cannot be read: Not a directory"]);
    shell.run(&["run", "--resume", "nowhere"]).failed(1, &["nowhere"]);
    shell.run(&["verify", "nowhere"]).failed(1, &["nowhere"]);
}

#[test]
#[cfg(target_os = "linux")]
fn weights_that_are_shortened_end_the_run_by_name() {
    let shell = prepared(3000);
    let weights = fs::read(shell.path("model/model.safetensors")).unwrap();
    let (child, run) = begun(&shell, 1);
    let file = fs::File::options().write(true).open(shell.path("model/model.safetensors")).unwrap();
    file.set_len(1000).unwrap();
    let ended = Done::from(child.wait_with_output().unwrap());
    // Either the pages are missing in the middle of a product, or the length is looked at first.
    ended.failed(1, &["model/model.safetensors", "shortened", "to go on: llamascope run --resume", &run]);
    fs::write(shell.path("model/model.safetensors"), weights).unwrap();
    goes_on(&shell, &run);
}

#[test]
#[cfg(target_os = "linux")]
fn a_limit_on_memory_ends_a_run_that_goes_on_without_it() {
    let shell = prepared(400);
    let (mut child, run) = begun(&shell, 1);
    child.kill().unwrap();
    child.wait().unwrap();
    let under = |limit: u64, args: &[&str]| {
        let limited = format!("ulimit -c 0; ulimit -v {limit} && exec \"$0\" \"$@\"");
        done(shell.command("sh", &[&["-c", &limited, env!("CARGO_BIN_EXE_llamascope")], args].concat()))
    };
    let mut failures = 0;
    // In KiB, from what the system needs to load the program to more than the run needs.
    for limit in (20..1000).step_by(20).map(|mib| mib << 10) {
        if under(limit, &["--version"]).code != Some(0) {
            continue;
        }
        let ended = under(limit, &["run", "--resume", &run, "-q", "--no-index"]);
        if ended.code == Some(0) {
            break;
        }
        failures += 1;
        // Where memory ends decides who says so: a file that cannot be mapped is an error of the program; a small allocation,
        // or the start of a thread, ends the process by the standard library's own line.
        let told = ["error: ", "memory allocation of ", "Cannot allocate memory"];
        assert!(told.iter().any(|told| ended.stderr.contains(told)), "{limit}: {ended:?}");
    }
    assert!(failures > 0, "no limit was too low");
    goes_on(&shell, &run);
}
