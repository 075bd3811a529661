//! Requests to the server, in process: the first line is the method and the address, further lines up to an empty one are
//! headers, the rest is the body.

use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{fs, thread};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use llamascope_serve::{Library, Settings, router};
use serde_json::Value;
use tokio::runtime::Runtime;
use tower::ServiceExt;

use crate::Target;
use crate::place::Place;
use crate::tiny::{RUN, config, surroundings};

/// See the module. The model of typed sentences is opened once and kept.
pub const TARGET: Target = Target { name: "http", run, seeds, base_bytes: 64 << 20, bytes_per_byte: 4 << 10 };

const PORT: u16 = 7311;
/// Largest answer to anything, for a run of these few sentences.
const ANSWER_LIMIT: usize = 16 << 20;

/// The server, with a run whose model and SAEs are at hand.
struct Served {
    router: Router,
    runtime: Runtime,
    _place: Place,
}

fn run(data: &[u8]) {
    static SERVED: OnceLock<Served> = OnceLock::new();
    let served = SERVED.get_or_init(serve);
    let Some(request) = request(data) else { return };
    let (status, kind, body) = served.ask(request);
    assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{}", String::from_utf8_lossy(&body));
    if kind.contains("json") && !body.is_empty() {
        let json: Value = serde_json::from_slice(&body).expect("what says that it is JSON");
        assert_eq!(status.is_success(), json.get("code").is_none() || json.get("title").is_none());
    } else {
        assert!(status.is_success() || status.is_redirection() || body.is_empty(), "{status} without a problem");
    }
}

fn request(data: &[u8]) -> Option<Request<Body>> {
    let line_end = |data: &[u8]| data.iter().position(|&byte| byte == b'\n');
    let end = line_end(data).unwrap_or(data.len());
    let space = data[..end].iter().position(|&byte| byte == b' ')?;
    let mut request = Request::builder()
        .method(Method::from_bytes(&data[..space]).ok()?)
        .uri(Uri::try_from(&data[space + 1..end]).ok().filter(|uri| uri.path().starts_with('/'))?)
        .header(header::HOST, format!("localhost:{PORT}"));
    let mut rest = data.get(end + 1..).unwrap_or_default();
    while let Some(end) = line_end(rest).filter(|end| *end > 0) {
        let (name, value) = rest[..end].split_at(rest[..end].iter().position(|&byte| byte == b':')?);
        request = request.header(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(&value[1..]).ok()?);
        rest = &rest[end + 1..];
    }
    let body = rest.strip_prefix(b"\n").unwrap_or(rest);
    // A stored sentence becomes a run on the disk, and the next one another.
    let stores = body.windows(5).any(|window| window == b"store") || body.contains(&b'\\');
    request.body(Body::from(if stores { Vec::new() } else { body.to_vec() })).ok()
}

impl Served {
    fn ask(&self, request: Request<Body>) -> (StatusCode, String, Vec<u8>) {
        self.runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await.expect("every request is answered");
            let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            let (status, kind) = (response.status(), kind.unwrap_or_default().to_owned());
            let body = to_bytes(response.into_body(), ANSWER_LIMIT).await.expect("an answer has a bounded size");
            (status, kind, body.to_vec())
        })
    }
}

fn serve() -> Served {
    let place = Place::new();
    let sentences = "The capital of France is Paris.\n東京は日本の都市です。🦙\n<script>\u{1}\n1 + 1 = 2\n";
    let made = llamascope_pipeline::run(&config(&place, sentences), &surroundings(), &());
    made.expect("the fixtures are a model and its SAEs");
    fs::create_dir(place.path().join("outputs/run_empty")).expect("a folder can be made");
    let settings = Settings {
        cache: None,
        explored: None,
        memory: 1 << 28,
        kernel: None,
        program: "llamascope 0.0.0".into(),
        now: || ("20260203_040506".into(), "2026-02-03T04:05:06Z".into()),
    };
    let library = Arc::new(Library::open(&place.path().join("outputs"), settings).expect("it holds a run"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let served = Served { router: router(library, PORT), runtime: runtime.expect("threads"), _place: place };
    // Until the run is indexed and the model open, so that no input is charged for them.
    for seed in seeds() {
        while served.ask(request(&seed).expect("a seed is a request")).0 == StatusCode::SERVICE_UNAVAILABLE {
            thread::sleep(Duration::from_millis(20));
        }
    }
    served
}

fn seeds() -> Vec<Vec<u8>> {
    let below = [
        "",
        "/health",
        "/sentences?q=capital&limit=2",
        "/sentences?q=%5BA-Z%5Da.*&regex=true&cursor=o1",
        "/sentences/0",
        "/sentences?feature=0:4&min=0.5&sort=value",
        "/sentences/0/activations?layers=0,1&top_k=3&min=0.1&scope=sentence",
        "/sentences/1/heatmap?metric=max&feature=0:4",
        "/features?layer=0&sort=score&order=desc&filter=4,7-9&scope=0-1&limit=5&offset=1",
        "/features/0/4",
        "/features/0/4/activations?mode=top&limit=3&context=2",
        "/features/0/4/histogram",
        "/features/0/4/tokens?limit=3",
        "/features/0/4/neighbors?by=decoder&k=3",
        "/features/1/7/logits?k=3",
        "/scores?layer=0&scope=0-1",
        "/compare?with=run_20260102_030405&layer=0",
    ];
    let mut seeds: Vec<Vec<u8>> =
        below.iter().map(|path| format!("GET /api/v1/runs/{RUN}{path}").into_bytes()).collect();
    seeds.extend(
        [
            "GET /api/v1/runs",
            "GET /api/v1/healthz\nif-none-match: \"x\"\n\n",
            "GET /api/v1/openapi.json",
            "GET /api/v1/version\norigin: http://localhost:7311\nsec-fetch-site: same-origin\n",
            "GET /api/v1/runs/run_empty",
            "GET /assets/../first.js",
            "GET /?run=x",
            "DELETE /api/v1/runs",
        ]
        .map(|request| request.as_bytes().to_vec()),
    );
    let body = format!(
        "POST /api/v1/encode\ncontent-type: application/json\n\n{{\"run\": \"{RUN}\", \"text\": \"Paris is\", \"layers\": [0]}}"
    );
    seeds.push(body.into_bytes());
    seeds
}
