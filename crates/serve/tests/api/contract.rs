//! `openapi.json` against the server: every path of it answers, with what it promises.

use std::collections::BTreeSet;

use axum::http::Method;
use llamascope_serve::OPENAPI;
use serde_json::{Value, json};

use crate::schema::check;
use crate::support::{Client, RUN, Reply};

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

/// Holds an answer against the contract of its operation.
#[track_caller]
fn keeps_to(document: &Value, path: &str, method: &str, asked: &str, reply: &Reply) {
    let responses = &document["paths"][path][method]["responses"];
    let response = &responses[reply.status.as_str()];
    assert!(
        response.is_object(),
        "{asked}: {} is not in the contract: {}",
        reply.status,
        String::from_utf8_lossy(&reply.body)
    );
    let kind = reply.header("content-type");
    let schema = &response["content"][kind]["schema"];
    assert!(schema.is_object(), "{asked}: {} with {kind} is not in the contract", reply.status);
    let faults = check(document, schema, &reply.json());
    assert!(faults.is_empty(), "{asked}: {}", faults.join("\n"));
}

/// A feature that is active in the run, and its layer.
pub fn a_feature(client: &Client) -> (u64, u64) {
    let layer = client.ok("")["layers"][0]["layer"].as_u64().unwrap();
    let features = client.ok(&format!("/features?layer={layer}&limit=1"));
    (layer, features["items"][0]["id"].as_u64().unwrap())
}

#[test]
fn every_path_answers_as_the_contract_says() {
    let (client, document) = (Client::new(), document());
    let (layer, feature) = a_feature(&client);
    let at_feature = format!("/runs/{RUN}/features/{layer}/{feature}");
    let asked = [
        ("/runs", "/runs".to_owned()),
        ("/runs/{run}", format!("/runs/{RUN}")),
        ("/runs/{run}/health", format!("/runs/{RUN}/health")),
        ("/runs/{run}/sentences", format!("/runs/{RUN}/sentences")),
        ("/runs/{run}/sentences", format!("/runs/{RUN}/sentences?q=capital&limit=2&sort=length")),
        ("/runs/{run}/sentences", format!("/runs/{RUN}/sentences?q=%E6%9D%B1&regex=true")),
        (
            "/runs/{run}/sentences",
            format!("/runs/{RUN}/sentences?feature={layer}:{feature}&min=0.01&sort=max&offset=1"),
        ),
        ("/runs/{run}/sentences/{sentence}", format!("/runs/{RUN}/sentences/2")),
        ("/runs/{run}/sentences/{sentence}/activations", format!("/runs/{RUN}/sentences/2/activations")),
        (
            "/runs/{run}/sentences/{sentence}/activations",
            format!("/runs/{RUN}/sentences/0/activations?layers={layer}&top_k=3&min=0.1&scope=sentence"),
        ),
        ("/runs/{run}/sentences/{sentence}/heatmap", format!("/runs/{RUN}/sentences/1/heatmap")),
        (
            "/runs/{run}/sentences/{sentence}/heatmap",
            format!("/runs/{RUN}/sentences/1/heatmap?metric=novelty&layers={layer}"),
        ),
        (
            "/runs/{run}/sentences/{sentence}/heatmap",
            format!("/runs/{RUN}/sentences/1/heatmap?metric=feature&feature={layer}:{feature}"),
        ),
        ("/runs/{run}/features", format!("/runs/{RUN}/features?layer={layer}")),
        (
            "/runs/{run}/features",
            format!("/runs/{RUN}/features?layer={layer}&sort=max&order=asc&filter=count%3E0&limit=3"),
        ),
        ("/runs/{run}/features/{layer}/{feature}", at_feature.clone()),
        ("/runs/{run}/features/{layer}/{feature}/activations", format!("{at_feature}/activations")),
        (
            "/runs/{run}/features/{layer}/{feature}/activations",
            format!("{at_feature}/activations?mode=quantile&context=2"),
        ),
        ("/runs/{run}/features/{layer}/{feature}/activations", format!("{at_feature}/activations?mode=random&limit=1")),
        ("/runs/{run}/features/{layer}/{feature}/histogram", format!("{at_feature}/histogram")),
        ("/runs/{run}/features/{layer}/{feature}/tokens", format!("{at_feature}/tokens?limit=5")),
        ("/runs/{run}/features/{layer}/{feature}/neighbors", format!("{at_feature}/neighbors?k=5")),
        ("/runs/{run}/features/{layer}/{feature}/neighbors", format!("{at_feature}/neighbors?by=decoder&k=5")),
        ("/runs/{run}/features/{layer}/{feature}/logits", format!("{at_feature}/logits?k=3")),
        ("/runs/{run}/features/{layer}/{feature}/corpus", format!("{at_feature}/corpus")),
        ("/runs/{run}/scores", format!("/runs/{RUN}/scores?layer={layer}")),
        ("/runs/{run}/scores", format!("/runs/{RUN}/scores?layer={layer}&scope=sentence:3&limit=5")),
        ("/runs/{run}/compare", format!("/runs/{RUN}/compare?a=s:0,L:{layer}&b=s:4,L:{layer}")),
        ("/healthz", "/healthz".to_owned()),
        ("/version", "/version".to_owned()),
        ("/openapi.json", "/openapi.json".to_owned()),
    ];
    let mut answered = BTreeSet::new();
    for (path, address) in asked {
        let path = format!("/api/v1{path}");
        let reply = client.get(&format!("/api/v1{address}"));
        assert_eq!(reply.status, 200, "{address}: {}", String::from_utf8_lossy(&reply.body));
        keeps_to(&document, &path, "get", &address, &reply);
        answered.insert((path, "get"));
    }
    let typed = client.encode(&json!({"run": RUN, "text": "The capital of Italy is Rome."}));
    assert_eq!(typed.status, 200, "{}", String::from_utf8_lossy(&typed.body));
    keeps_to(&document, "/api/v1/encode", "post", "encode", &typed);
    answered.insert(("/api/v1/encode".to_owned(), "post"));

    let promised: BTreeSet<(&str, &str)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(|method| (path.as_str(), method.as_str())))
        .collect();
    assert_eq!(answered.iter().map(|(path, method)| (path.as_str(), *method)).collect::<BTreeSet<_>>(), promised);
}

#[test]
fn every_parameter_of_the_contract_is_taken_and_its_limits_are_kept() {
    let (client, document) = (Client::new(), document());
    let (layer, feature) = a_feature(&client);
    for (path, methods) in document["paths"].as_object().unwrap() {
        let parameters = methods["get"]["parameters"].as_array().cloned().unwrap_or_default();
        let fill = |text: &str| {
            text.replace("{run}", RUN)
                .replace("{sentence}", "0")
                .replace("{layer}", &layer.to_string())
                .replace("{feature}", &feature.to_string())
        };
        let query = |name: &str, value: &str| {
            let needed = parameters.iter().filter(|p| p["required"] == true && p["in"] == "query" && p["name"] != name);
            let needed: String = needed
                .map(|p| match p["name"].as_str().unwrap() {
                    "layer" => format!("&layer={layer}"),
                    side => format!("&{side}=s:0,L:{layer}"),
                })
                .collect();
            format!("{}?{name}={value}{needed}", fill(path))
        };
        for parameter in parameters.iter().filter(|parameter| parameter["in"] == "query") {
            let (name, schema) = (parameter["name"].as_str().unwrap(), &parameter["schema"]);
            let mut bad = vec!["x".repeat(9_000)];
            if let Some(maximum) = schema["maximum"].as_u64() {
                bad.push((maximum + 1).to_string());
                let reply = client.get(&query(name, &maximum.to_string()));
                assert_eq!(reply.status, 200, "{path} {name}: {}", String::from_utf8_lossy(&reply.body));
            }
            if let Some(minimum) = schema["minimum"].as_i64() {
                bad.push((minimum - 1).to_string());
            }
            match schema["type"].as_str().unwrap() {
                "integer" | "number" => {
                    bad.extend(["abc".into(), "NaN".into(), "1e999".into(), "-1".into(), "%00".into()])
                }
                "boolean" => bad.push("yes".into()),
                _ => {}
            }
            if schema.get("enum").is_some() || schema.get("pattern").is_some() {
                bad.push("nonsense".into());
            }
            if let Some(length) = schema["maxLength"].as_u64() {
                bad.push("y".repeat(length as usize + 1));
            }
            for value in bad {
                let asked = query(name, &value);
                let reply = client.get(&asked);
                let (status, _, detail) = reply.problem();
                assert_eq!(status, 400, "{path} {name}={value:.60}: {detail}");
                keeps_to(&document, path, "get", &asked, &reply);
            }
            for word in schema["enum"].as_array().into_iter().flatten() {
                let extra = match (name, word.as_str().unwrap()) {
                    ("sort", "max") | ("metric", "feature") => format!("&feature={layer}:{feature}"),
                    _ => String::new(),
                };
                let extra = if path.ends_with("/features") { String::new() } else { extra };
                let reply = client.get(&(query(name, word.as_str().unwrap()) + &extra));
                assert_eq!(reply.status, 200, "{path} {name}={word}: {}", String::from_utf8_lossy(&reply.body));
            }
        }
        if methods.get("get").is_some() && path != "/api/v1/openapi.json" {
            client.get(&query("nonsense", "1")).is_problem(400, "bad_request", &["there is no parameter `nonsense`"]);
        }
    }
}

#[test]
fn an_answer_that_the_client_has_is_not_sent_again() {
    let client = Client::new();
    let (layer, feature) = a_feature(&client);
    for path in
        ["".to_owned(), "/sentences".into(), format!("/features/{layer}/{feature}"), "/sentences/0/activations".into()]
    {
        let first = client.ask(&path);
        let etag = first.header("etag").to_owned();
        assert!(etag.starts_with('"') && etag.len() > 10, "{path}: {etag}");
        assert_eq!(first.header("cache-control"), "private, no-cache");
        let address = format!("/api/v1/runs/{RUN}{path}");
        let again = client.request(Method::GET, &address, &[("if-none-match", &format!("\"x\", {etag}"))], "");
        assert_eq!((again.status.as_u16(), again.body.len(), again.header("etag")), (304, 0, etag.as_str()));
        let other = client.request(Method::GET, &address, &[("if-none-match", "\"x\"")], "");
        assert_eq!((other.status, other.body), (first.status, first.body));
    }
    let list = client.get("/api/v1/runs");
    let again = client.request(Method::GET, "/api/v1/runs", &[("if-none-match", list.header("etag"))], "");
    assert_eq!(again.status, 304);
}

#[test]
fn the_contract_names_each_problem_code() {
    let document = document();
    let codes = document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].as_array().unwrap();
    use llamascope_serve::Code::*;
    let all = [
        BadRequest,
        Forbidden,
        NotFound,
        MethodNotAllowed,
        WeightsMissing,
        WeightsChanged,
        NoDecoder,
        UnreadableRun,
        Indexing,
        TooLarge,
        Timeout,
        Busy,
        Internal,
    ];
    let named: Vec<Value> = all.iter().map(|code| serde_json::to_value(code).unwrap()).collect();
    assert_eq!(*codes, named);
}
