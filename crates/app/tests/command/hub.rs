//! A hub that refuses, has not, or is not there; and what is sent to it.

#[allow(dead_code)]
#[path = "../../../pipeline/tests/fetch_hub/fake.rs"]
mod fake;

use std::net::TcpListener;

use fake::{FakeHub, Files, Reply, Request};

use crate::shell::{Done, Shell, done, fixture};

const TOKEN: &str = "hf_secretsecret";

/// Runs `o/n` of a hub, with a token in `.env`.
fn run_from(shell: &Shell, endpoint: &str) -> Done {
    shell.write(".env", format!("HF_TOKEN={TOKEN}\nHF_ENDPOINT={endpoint}\n"));
    shell.write("sentences.csv", "The lamp went out.\n");
    let saes = fixture("llama3/saes");
    done(shell.llamascope(&["run", "--model", "o/n", "--sae", saes.to_str().unwrap(), "--input", "sentences.csv"]))
}

#[track_caller]
fn refused(endpoint: &str, words: &[&str]) {
    let shell = Shell::new();
    let done = run_from(&shell, endpoint);
    done.failed(1, words);
    assert!(!done.stderr.contains("secret"), "{done:?}");
    assert!(shell.runs().is_empty());
}

#[test]
fn a_hub_that_refuses() {
    let hub = |status, code| FakeHub::start(move |_, _| Reply::code(status, code));
    let page = |hub: &FakeHub| format!("{}/o/n", hub.url);
    let server = hub(401, "GatedRepo");
    refused(&server.url, &["o/n (401)", "token", "HF_TOKEN=", "settings/tokens"]);
    let server = hub(403, "GatedRepo");
    refused(&server.url, &["o/n (403)", &page(&server), "licence"]);
    let server = hub(404, "RepoNotFound");
    refused(&server.url, &["o/n", "404", "spelling", &page(&server)]);
}

#[test]
fn no_network() {
    // A port that was free a moment ago: nobody listens.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    refused(
        &format!("http://{address}"),
        &[&address.to_string(), "could not be reached", "HF_ENDPOINT", "local folder"],
    );
}

#[test]
fn the_token_of_dotenv_goes_to_the_hub_and_nowhere_else() {
    let read = |name: &str| std::fs::read(fixture("llama3/model").join(name)).unwrap();
    const WEIGHTS: &str = "/o/n/resolve/main/model.safetensors";
    let files = Files::default()
        .with("config.json", &read("config.json"))
        .with("tokenizer.json", &read("tokenizer.json"))
        .with_large("model.safetensors", &read("model.safetensors"));
    // As on the public hub, large files lie on another host.
    let at_storage = files.clone();
    let storage =
        FakeHub::start(move |request, _| at_storage.answer(&Request { path: WEIGHTS.into(), ..request.clone() }));
    let elsewhere = format!("{}/blob", storage.url);
    let server = FakeHub::start(move |request, _| {
        let here = files.answer(request);
        if !request.path.ends_with("model.safetensors") || here.status != 200 {
            return here;
        }
        let etag = format!("\"{}\"", files.etag("model.safetensors"));
        let size = files.body("model.safetensors").len().to_string();
        Reply { status: 302, body: Vec::new(), ..here }
            .header("Location", elsewhere.clone())
            .header("X-Linked-Size", size)
            .header("X-Linked-Etag", etag)
    });
    let shell = Shell::new();
    let run = run_from(&shell, &server.url).succeeded();
    assert!(!run.stderr.contains("secret"), "{run:?}");
    let (asked, followed) = (server.take_requests(), storage.take_requests());
    let token = Some(format!("Bearer {TOKEN}"));
    assert!(!asked.is_empty() && asked.iter().all(|request| request.token == token), "{asked:?}");
    assert!(!followed.is_empty() && followed.iter().all(|request| request.token.is_none()), "{followed:?}");
    assert!(!shell.manifest().to_string().contains("secret"));

    // What is in the cache needs no hub.
    let mut offline = shell.llamascope(&["info", "o/n"]);
    offline.env("HF_HUB_OFFLINE", "1");
    assert!(done(offline).succeeded().stdout.contains("d_model     48"));
}

#[test]
fn the_environment_wins_over_dotenv() {
    let server = FakeHub::start(|_, _| Reply::code(404, "RepoNotFound"));
    let shell = Shell::new();
    shell.write(".env", "HF_TOKEN=hf_of_the_file\n");
    let mut command = shell.llamascope(&["info", "o/n"]);
    command.env("HF_TOKEN", "hf_of_the_environment").env("HF_ENDPOINT", &server.url);
    done(command).failed(1, &["404"]);
    let requests = server.take_requests();
    assert_eq!(requests[0].token.as_deref(), Some("Bearer hf_of_the_environment"));
}
