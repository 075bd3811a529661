//! `llamascope view`: a real server and a plain client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::shell::{Shell, fixture};

/// A folder with a finished run.
fn with_a_run() -> Shell {
    let shell = Shell::new();
    shell.write("sentences.csv", "The lamp on the harbour wall went out.\nNobody noticed.\n");
    let path = |name: &str| fixture(name).to_str().unwrap().to_owned();
    let (model, saes) = (path("llama3/model"), path("llama3/saes"));
    shell.run(&["run", "-q", "--model", &model, "--sae", &saes, "--input", "sentences.csv"]).succeeded();
    shell
}

/// Starts the server; the second value is where it listens.
fn start(shell: &Shell, args: &[&str]) -> (Child, String) {
    let mut child = shell.llamascope(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("http://").unwrap_or_else(|| panic!("no address: {line}")).to_owned();
    (child, address)
}

fn get(address: &str, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[track_caller]
fn stop(child: Child) -> String {
    assert!(Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_runs_of_a_folder_are_served_until_ctrl_c() {
    let shell = with_a_run();
    let (child, address) = start(&shell, &["view", "--no-open", "--port", "0"]);
    let run = shell.runs().remove(0);
    let id = run.file_name().unwrap().to_str().unwrap();
    let list = get(&address, "/api/v1/runs", &address);
    assert!(list.starts_with("HTTP/1.1 200") && list.contains(id), "{list}");
    assert!(get(&address, "/", &address).contains("<html"), "the page");
    let foreign = get(&address, "/api/v1/runs", "evil.example");
    assert!(foreign.starts_with("HTTP/1.1 403") && !foreign.contains(id), "{foreign}");
    let started = Instant::now();
    while !get(&address, &format!("/api/v1/runs/{id}/sentences"), &address).contains("Nobody noticed.") {
        assert!(started.elapsed() < Duration::from_secs(60), "the run is not shown");
        std::thread::sleep(Duration::from_millis(20));
    }
    // A client that has begun a request and goes no further must not hold the end up.
    let mut silent = TcpStream::connect(&address).unwrap();
    silent.write_all(b"GET / HTTP/1.1\r\nHost:").unwrap();
    let stderr = stop(child);
    assert!(stderr.contains("showing 1 run of outputs"), "{stderr}");
}

#[test]
fn it_listens_on_this_machine_alone() {
    let shell = with_a_run();
    let (child, address) = start(&shell, &["view", "--no-open", "--port", "0"]);
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    stop(child);
}

#[test]
fn what_cannot_be_shown_is_said() {
    let shell = Shell::new();
    shell.refuses(1, &["view", "--no-open"], &["outputs: "]);
    shell.write("empty/notes.txt", "nothing here");
    shell.refuses(1, &["view", "empty", "--no-open"], &["empty: there is no run", "run_DATE_TIME"]);
    let shell = with_a_run();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let done = shell.run(&["view", "--no-open", "--port", &port]);
    done.failed(1, &["port ", &port, "choose another with --port"]);
}
