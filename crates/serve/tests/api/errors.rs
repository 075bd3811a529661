//! What is wrong is said, with the way out, and nothing of it ends the server.

use std::fs;

use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::json;

use crate::contract::a_feature;
use crate::support::{Client, PORT, copy_of_run};

#[test]
fn what_is_not_there_is_not_found() {
    let client = Client::new();
    client.ok("");
    for (path, words) in [
        ("/api/v1/runs/run_x", &["there is no run `run_x`", "/api/v1/runs"][..]),
        ("/api/v1/nonsense", &["/api/v1/openapi.json"]),
        ("/api", &["/api/v1/openapi.json"]),
        ("/api/v2/runs", &["/api/v1/openapi.json"]),
    ] {
        client.get(path).is_problem(404, "not_found", words);
    }
    for (path, words) in [
        ("/sentences/8", &["sentences 0 to 7, not 8"][..]),
        ("/sentences/007", &["`007`"]),
        ("/sentences/-1", &["`-1`"]),
        ("/sentences/99999999999999999999", &["is not a number"]),
        ("/sentences/0/activations?layers=77", &["no layer 77; it has layers"]),
        ("/features?layer=77", &["no layer 77; it has layers"]),
        ("/features/77/0", &["no layer 77"]),
        ("/features/0/99999999", &["layer 0 has features 0 to"]),
        ("/features/0/99999999/logits", &["layer 0 has features 0 to"]),
        ("/compare?a=s:0,L:0&b=s:99,L:0", &["not 99"]),
        ("/compare?a=s:0,L:0&b=s:0,L:0,r:run_x", &["there is no run `run_x`"]),
        ("/sentences?feature=0:99999999", &["layer 0 has features 0 to"]),
    ] {
        client.ask(path).is_problem(404, "not_found", words);
    }
}

#[test]
fn what_cannot_be_meant_is_told_what_could() {
    let client = Client::new();
    for (path, words) in [
        ("/features", &["layer is missing; the run has layers 0"][..]),
        ("/sentences?q=(&regex=true", &["unclosed group"]),
        ("/sentences?sort=max", &["such as feature=12:104"]),
        ("/sentences?cursor=12", &["begin without one"]),
        ("/sentences?q=a&q=b", &["`q` stands there twice"]),
        ("/sentences?q=%FF", &["UTF-8"]),
        ("/sentences/0/heatmap?metric=feature", &["needs a feature"]),
        ("/sentences/0/activations?layers=1-3", &["`1-3`", "such as 12,13"]),
        ("/features?layer=0&filter=weight%3E1", &["`weight` is not known"]),
        ("/compare?a=s:0,L:0", &["b is missing", "`s:3,L:12`"]),
        ("/compare?a=0,0&b=s:0,L:0", &["a is `0,0`"]),
        ("/scores?layer=0&scope=sentence:x", &["`run` or `sentence:3`"]),
    ] {
        client.ask(path).is_problem(400, "bad_request", words);
    }
    let layers = (0..65).map(|layer| layer.to_string()).collect::<Vec<_>>().join(",");
    client.ask(&format!("/sentences/0/activations?layers={layers}")).is_problem(400, "bad_request", &["at most 64"]);
}

#[test]
fn other_methods_are_refused() {
    let client = Client::new();
    for method in [Method::PUT, Method::DELETE, Method::POST, Method::OPTIONS, Method::PATCH] {
        let reply = client.request(method, "/api/v1/runs", &[], "");
        reply.is_problem(405, "method_not_allowed", &["GET only"]);
    }
    client.get("/api/v1/encode").is_problem(405, "method_not_allowed", &["POST only"]);
    client.request(Method::POST, "/", &[], "").is_problem(405, "method_not_allowed", &["GET"]);
    let head = client.request(Method::HEAD, "/api/v1/version", &[], "");
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
}

#[test]
fn no_path_leads_out_of_the_folder() {
    let (folder, run) = copy_of_run();
    fs::create_dir(folder.path().join("secret")).unwrap();
    fs::copy(run.join("run.json"), folder.path().join("secret/run.json")).unwrap();
    let client = Client::of(&folder.path().join("outputs"));
    for id in [
        "..",
        "../secret",
        "..%2Fsecret",
        "%2e%2e%2fsecret",
        "..%5Csecret",
        "%2Fetc",
        "%2Fetc%2Fpasswd",
        ".",
        "./",
        "%00",
        "~",
        "run_20260102_030405%2F..%2F..%2Fsecret",
        "run_20260102_030405/../../secret",
        "run_20260102_030405%00",
        "C:%5C",
    ] {
        let path = format!("/api/v1/runs/{id}");
        let Ok(request) = Request::builder().uri(&path).header("host", format!("localhost:{PORT}")).body(Body::empty())
        else {
            continue;
        };
        let reply = client.send(request);
        assert_eq!(reply.problem().0, 404, "{path}");
    }
    let page = client.get("/../../etc/passwd");
    assert_eq!(page.problem().0, 404);
    for path in ["/assets/../../secret/run.json", "/assets/%2e%2e/Cargo.toml", "/.build-inputs.sha256"] {
        assert_eq!(client.get(path).status, 404, "{path}");
    }
}

#[test]
fn bytes_that_are_no_text_are_an_error() {
    let client = Client::new();
    client.get("/api/v1/runs/%FF%FE").is_problem(404, "not_found", &[]);
    client.ok("");
    let headers = [("content-type", "application/json")];
    let request = |body: Body| {
        let builder =
            Request::builder().method(Method::POST).uri("/api/v1/encode").header("host", format!("localhost:{PORT}"));
        client.send(builder.header(headers[0].0, headers[0].1).body(body).unwrap())
    };
    request(Body::from(&b"{\"run\": \"\xff\"}"[..])).is_problem(400, "bad_request", &["the body is not"]);
    request(Body::from(vec![b' '; 200 << 10])).is_problem(413, "too_large", &["128 KiB"]);
    request(Body::from("[".repeat(100_000))).is_problem(400, "bad_request", &["the body is not"]);
}

#[test]
fn a_run_that_cannot_be_read_is_listed_with_the_reason() {
    let (folder, run) = copy_of_run();
    let manifest = fs::read_to_string(run.join("run.json")).unwrap();
    let newer = folder.path().join("outputs/run_of_tomorrow");
    fs::create_dir(&newer).unwrap();
    fs::write(newer.join("run.json"), manifest.replacen("\"format_version\": 1", "\"format_version\": 999", 1))
        .unwrap();
    let client = Client::of(&folder.path().join("outputs"));
    let list = client.get("/api/v1/runs").json();
    assert_eq!(list["runs"].as_array().unwrap().len(), 2);
    assert_eq!((&list["runs"][0]["id"], &list["runs"][0]["status"]), (&json!("run_of_tomorrow"), &json!("unreadable")));
    assert!(list["runs"][0]["problem"].as_str().unwrap().contains("999"), "{list}");
    let reply = client.get("/api/v1/runs/run_of_tomorrow");
    reply.is_problem(409, "unreadable_run", &["999"]);
    assert_eq!(client.ok("")["status"], "complete");
}

#[test]
fn damage_is_told_and_the_rest_is_shown() {
    let (folder, run) = copy_of_run();
    let layer = run.join("layer_00");
    fs::remove_file(layer.join("sentence_0001.jsonl")).unwrap();
    let file = layer.join("sentence_0002.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, &text[..text.len() - 30]).unwrap();
    let client = Client::of(&folder.path().join("outputs"));
    let health = client.ok("/health");
    assert_eq!(health["ok"], false, "{health}");
    let examples = health["findings"].as_array().unwrap().iter().flat_map(|f| f["examples"].as_array().unwrap());
    let files: Vec<&str> = examples.map(|example| example["file"].as_str().unwrap()).collect();
    for name in ["layer_00/sentence_0001.jsonl", "layer_00/sentence_0002.jsonl"] {
        assert!(files.contains(&name), "{files:?}");
    }
    let rows = client.ok("/sentences/1/activations?layers=0");
    assert_eq!((&rows["missing"], rows["layers"].as_array().unwrap().len()), (&json!([0]), 0));
    let cut = client.ok("/sentences/2/activations?layers=0");
    let nnz = cut["layers"][0]["nnz"].as_array().unwrap();
    assert!(nnz.last().unwrap().is_null() && nnz[0].is_u64(), "{nnz:?}");
    assert_eq!(client.ok("/sentences/2/heatmap?layers=0")["values"][0].as_array().unwrap().last(), Some(&json!(null)));
    let (layer, feature) = a_feature(&client);
    client.ok(&format!("/features/{layer}/{feature}/activations"));
    assert_eq!(client.ok("")["findings"].as_u64().unwrap() as usize, health["findings"].as_array().unwrap().len());
}

#[test]
fn a_tree_of_rows_without_a_manifest_is_shown() {
    let (folder, run) = copy_of_run();
    fs::remove_file(run.join("run.json")).unwrap();
    fs::remove_file(run.join("sentences.jsonl")).unwrap();
    let client = Client::of(&folder.path().join("outputs"));
    let detail = client.ok("");
    assert_eq!(
        (&detail["status"], &detail["weights"]["state"], &detail["model"]),
        (&json!("bare"), &json!("unknown"), &json!(null))
    );
    let sentence = client.ok("/sentences/0");
    assert!(sentence["text"].as_str().unwrap().contains("France"), "{sentence}");
    assert_eq!((&sentence["source"], &sentence["tokens"][0]["id"]), (&json!(null), &json!(null)));
    let (layer, feature) = a_feature(&client);
    client.ask(&format!("/features/{layer}/{feature}/logits")).is_problem(409, "weights_missing", &["run.json"]);
}

#[test]
fn a_single_run_can_be_opened_by_itself() {
    let (folder, run) = copy_of_run();
    crate::support::copy(&run, &folder.path().join("outputs/another"));
    let client = Client::of(&run);
    assert_eq!(client.get("/api/v1/runs").json()["runs"].as_array().unwrap().len(), 1);
    client.ok("");
    client.get("/api/v1/runs/another").is_problem(404, "not_found", &[]);
}
