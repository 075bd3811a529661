//! Ctrl-C and SIGTERM: what was finished is kept and named.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::shell::{Done, Shell, fixture};

/// Waits for something to happen, for a minute at most.
#[track_caller]
fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let started = Instant::now();
    while !happened() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what} has not happened");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn signal(name: &str, child: &Child) {
    assert!(Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap().success());
}

/// Starts a command of which both streams are read at its end.
fn start(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[track_caller]
fn ends_within(child: Child, limit: Duration) -> Done {
    let started = Instant::now();
    let done = Done::from(child.wait_with_output().unwrap());
    assert!(started.elapsed() < limit, "{:?}: {done:?}", started.elapsed());
    done
}

fn stops_a_run(name: &str) {
    let shell = Shell::new();
    shell.write("sentences.csv", "The lamp on the harbour wall went out, and nobody noticed.\n".repeat(20_000));
    let path = |name: &str| fixture(name).to_str().unwrap().to_owned();
    let (model, saes) = (path("llama3/model"), path("llama3/saes"));
    let child = start(shell.llamascope(&["run", "--model", &model, "--sae", &saes, "--input", "sentences.csv"]));
    let first = |run: &Path| run.join("layer_00/sentence_0000.jsonl").exists();
    wait_for("the first file", || shell.runs().first().is_some_and(|run| first(run)));
    signal(name, &child);
    let done = ends_within(child, Duration::from_secs(2));
    let run = shell.runs().remove(0);
    let folder = format!("outputs/{}", run.file_name().unwrap().to_str().unwrap());
    done.failed(130, &["interrupted; what was finished is in", &folder]);
    let manifest = shell.manifest();
    assert_eq!((&manifest["status"], &manifest["complete"]), (&json!("interrupted"), &json!(false)));
    let info = shell.run(&["info", &folder]).succeeded();
    assert!(info.stdout.contains("not complete: interrupted"), "{info:?}");
}

#[test]
fn an_interrupt_stops_a_run() {
    stops_a_run("INT");
}

#[test]
fn a_request_to_end_stops_a_run() {
    stops_a_run("TERM");
}

#[test]
fn a_second_interrupt_stops_at_once() {
    // A hub that takes the call and says nothing: the first interrupt has to wait for it.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let shell = Shell::new();
    let mut command = shell.llamascope(&["info", "o/n"]);
    command.env("HF_ENDPOINT", format!("http://{}", silent.local_addr().unwrap()));
    let mut child = start(command);
    let _call = silent.accept().unwrap();
    signal("INT", &child);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(child.try_wait().unwrap(), None);
    signal("INT", &child);
    let done = ends_within(child, Duration::from_secs(1));
    assert_eq!(done.code, Some(130), "{done:?}");
    assert_eq!(done.stderr, "stopping after what is in hand; press Ctrl-C again to stop at once\nstopped\n");
}
