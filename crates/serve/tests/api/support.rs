//! A finished run of the fixtures' model, and a client that asks for its pages.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use llamascope_pipeline::Surroundings;
use llamascope_pipeline::config::{Overrides, RunConfig};
use llamascope_pipeline::fetch::HubOptions;
use llamascope_serve::{Library, Settings, router};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

/// The port that the server believes to have.
pub const PORT: u16 = 7311;
/// The run's id.
pub const RUN: &str = "run_20260102_030405";
/// A sentence that would like to be a program.
pub const HOSTILE: &str = "<script>alert(\"x\")</script><img src=x onerror=alert(1)>\u{2028}</script>";

/// What the run is over.
pub const SENTENCES: [&str; 8] = [
    "The capital of France is Paris.",
    "Tokyo is the largest city in Japan.",
    "東京は日本で一番大きい都市です。🦙",
    HOSTILE,
    "The capital of Japan is Tokyo.",
    "The capital of France is Paris.",
    "1 + 1 = 2",
    "A very long sentence about the capital of a country that has no capital at all, which is strange.",
];

/// A file or folder of the fixtures.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(path)
}

/// Makes a run of these sentences in `folder`.
pub fn make_run(folder: &Path, stamp: &str, sentences: &[&str], model: &Path, saes: &Path) -> PathBuf {
    let input = folder.join(format!("{stamp}.jsonl"));
    let lines: String = sentences.iter().map(|text| format!("{}\n", json!({"text": text}))).collect();
    fs::write(&input, lines).unwrap();
    let given = Overrides {
        model_id: Some(model.display().to_string()),
        sae_release: Some(saes.display().to_string()),
        input_csvs: Some(vec![input]),
        text_column: Some("text".into()),
        output_dir: Some(folder.join("outputs")),
        threads: Some(2.try_into().unwrap()),
        ..Overrides::default()
    };
    let config = RunConfig::resolve(None, given).unwrap();
    let surroundings = Surroundings {
        hub: HubOptions { offline: true, ..HubOptions::default() },
        memory: 1 << 30,
        kernel: None,
        program: "llamascope 0.0.0".into(),
        stamp: stamp.into(),
        started: "2026-01-02T03:04:05Z".into(),
        peak_memory: || None,
        disk: Default::default(),
    };
    llamascope_pipeline::run(&config, &surroundings, &()).unwrap().path
}

/// The folder with the run that all tests may read and none may change.
pub fn outputs() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        make_run(folder.path(), &RUN[4..], &SENTENCES, &fixture("llama3/model"), &fixture("llama3/saes"));
        folder
    });
    static OUTPUTS: OnceLock<PathBuf> = OnceLock::new();
    OUTPUTS.get_or_init(|| folder.path().join("outputs"))
}

/// A copy of the run, to be changed.
pub fn copy_of_run() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("outputs").join(RUN);
    copy(&outputs().join(RUN), &run);
    (folder, run)
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.path() {
            folder if folder.is_dir() => copy(&folder, &target),
            file => drop(fs::copy(file, target).unwrap()),
        }
    }
}

/// Somebody who asks.
pub struct Client {
    router: Router,
    runtime: tokio::runtime::Runtime,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Client {
    /// Asks for the run of all tests.
    pub fn new() -> Client {
        Client::of(outputs())
    }

    /// Asks for a run or a folder of runs.
    pub fn of(path: &Path) -> Client {
        let settings = Settings {
            cache: None,
            explored: None,
            memory: 1 << 30,
            kernel: None,
            program: "llamascope 0.0.0".into(),
            now: || ("20260203_040506".into(), "2026-02-03T04:05:06Z".into()),
        };
        let library = Arc::new(Library::open(path, settings).unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Client { router: router(library, PORT), runtime }
    }

    /// Sends a request as it is.
    pub fn send(&self, request: Request<Body>) -> Reply {
        self.runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await.unwrap();
            let (status, headers) = (response.status(), response.headers().clone());
            let body = to_bytes(response.into_body(), 64 << 20).await.unwrap().to_vec();
            Reply { status, headers, body }
        })
    }

    /// A request with the headers that a browser sends to this machine.
    pub fn request(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", format!("localhost:{PORT}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.to_owned())).unwrap())
    }

    pub fn get(&self, path: &str) -> Reply {
        self.request(Method::GET, path, &[], "")
    }

    /// An answer below the run; waits while it is being indexed.
    pub fn ask(&self, path: &str) -> Reply {
        let address = format!("/api/v1/runs/{RUN}{path}");
        for _ in 0..200 {
            let reply = self.get(&address);
            if reply.status != StatusCode::SERVICE_UNAVAILABLE {
                return reply;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("{path} is not answered");
    }

    /// What is answered below the run.
    #[track_caller]
    pub fn ok(&self, path: &str) -> Value {
        let reply = self.ask(path);
        assert_eq!(reply.status, 200, "{path}: {}", String::from_utf8_lossy(&reply.body));
        reply.json()
    }

    pub fn encode(&self, body: &Value) -> Reply {
        self.ok("");
        let headers = [("content-type", "application/json")];
        self.request(Method::POST, "/api/v1/encode", &headers, &body.to_string())
    }
}

impl Reply {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The code and detail of a problem, which has to be one in all its parts.
    #[track_caller]
    pub fn problem(&self) -> (u16, String, String) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", String::from_utf8_lossy(&self.body));
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        let text = |key: &str| problem[key].as_str().unwrap().to_owned();
        assert!(!text("title").is_empty());
        (self.status.as_u16(), text("code"), text("detail"))
    }

    #[track_caller]
    pub fn is_problem(&self, status: u16, code: &str, words: &[&str]) {
        let (found, found_code, detail) = self.problem();
        assert_eq!((found, found_code.as_str()), (status, code), "{detail}");
        for word in words {
            assert!(detail.contains(word), "`{word}` is not in: {detail}");
        }
    }
}

/// The numbers of a JSON list.
pub fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect()
}
