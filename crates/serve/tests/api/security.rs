//! Nobody but this machine's own page is answered, and nothing that is answered can do harm in it.

use axum::http::Method;
use serde_json::json;

use crate::support::{Client, HOSTILE, PORT, RUN};

#[test]
fn a_foreign_host_is_refused_everywhere() {
    let client = Client::new();
    for path in ["/", "/api/v1/runs", "/api/v1/healthz", "/assets/x.js", "/nonsense"] {
        for host in [
            "evil.example",
            "evil.example:7311",
            "localhost",
            "localhost:1",
            "127.0.0.1.evil.example:7311",
            "0.0.0.0:7311",
            "",
        ] {
            let reply = client.request(Method::GET, path, &[("host", host)], "");
            reply.is_problem(403, "forbidden", &["localhost:7311"]);
        }
        let twice = client.request(Method::GET, path, &[("host", "localhost:7311"), ("host", "evil.example")], "");
        assert_eq!(twice.status, 403);
    }
    for host in ["localhost:7311", "127.0.0.1:7311", "[::1]:7311"] {
        assert_eq!(client.request(Method::GET, "/api/v1/healthz", &[("host", host)], "").status, 200, "{host}");
    }
}

#[test]
fn other_sites_get_no_answer() {
    let client = Client::new();
    let get = |path: &str, headers: &[(&str, &str)]| client.request(Method::GET, path, headers, "").status.as_u16();
    for site in ["cross-site", "same-site"] {
        assert_eq!(get("/api/v1/runs", &[("sec-fetch-site", site), ("sec-fetch-mode", "no-cors")]), 403);
        assert_eq!(get("/api/v1/runs", &[("sec-fetch-site", site), ("sec-fetch-mode", "navigate")]), 403);
        // A link to the page may be followed.
        assert_eq!(get("/", &[("sec-fetch-site", site), ("sec-fetch-mode", "navigate"), ("accept", "text/html")]), 200);
    }
    assert_eq!(get("/api/v1/runs", &[("sec-fetch-site", "same-origin")]), 200);

    let body = json!({"run": RUN, "text": "x"}).to_string();
    let json = ("content-type", "application/json");
    let post = |headers: &[(&str, &str)]| client.request(Method::POST, "/api/v1/encode", headers, &body);
    for origin in [
        "http://evil.example",
        "null",
        "http://localhost:1",
        "https://localhost:7311",
        "http://localhost:7311.evil.example",
    ] {
        post(&[json, ("origin", origin)]).is_problem(403, "forbidden", &[]);
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""] {
        post(&[("content-type", kind)]).is_problem(400, "bad_request", &["application/json"]);
    }
    client.ok("");
    assert_eq!(post(&[json, ("origin", &format!("http://localhost:{PORT}"))]).status, 200);
}

#[test]
fn every_answer_has_the_headers_that_keep_it_here() {
    let client = Client::new();
    let replies = [
        client.get("/"),
        client.get("/api/v1/runs"),
        client.get("/nonsense"),
        client.request(Method::GET, "/", &[("host", "evil.example")], ""),
    ];
    for reply in replies {
        let policy = reply.header("content-security-policy");
        for rule in [
            "default-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "object-src 'none'",
            "script-src 'self';",
        ] {
            assert!(policy.contains(rule), "{policy}");
        }
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        assert_eq!(reply.header("referrer-policy"), "no-referrer");
        assert_eq!(reply.header("cross-origin-resource-policy"), "same-origin");
        assert!(reply.headers.keys().all(|name| !name.as_str().starts_with("access-control-")), "{:?}", reply.headers);
    }
}

#[test]
fn a_sentence_that_would_be_a_program_stays_text() {
    let client = Client::new();
    for path in ["/sentences/3", "/sentences", "/sentences?q=%3Cscript%3E"] {
        let reply = client.ask(path);
        assert_eq!(reply.header("content-type"), "application/json", "{path}");
        assert!(reply.json().to_string().contains("<script>"));
    }
    assert_eq!(client.ok("/sentences/3")["text"], HOSTILE);
    let found = client.ok("/sentences?q=%3CSCRIPT%3E");
    assert_eq!((&found["total"], &found["items"][0]["matches"]), (&json!(1), &json!([[0, 8]])));
    // What a message repeats of a request is JSON, too.
    let reply = client.ask("/sentences?sort=%3Cscript%3Ealert(1)%3C/script%3E");
    reply.is_problem(400, "bad_request", &["`<script>alert(1)</script>`"]);
}
