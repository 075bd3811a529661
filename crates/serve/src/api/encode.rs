//! Typed sentences: encoded by the run's model and SAEs, and sent in the shape of a sentence of the run.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use llamascope_pipeline::live::Moment;
use serde::{Deserialize, Serialize};

use super::activations::{Activations, Cut, shape};
use super::text::{self, SentenceShape};
use super::{BODY_LIMIT, in_background, layer};
use crate::answer::Answer;
use crate::library::Library;
use crate::problem::{Code, Problem};

/// Longest text, in bytes.
const MAX_TEXT: usize = 20_000;
/// Most layers at once.
const MAX_LAYERS: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    run: String,
    text: String,
    layers: Option<Vec<usize>>,
    top_k: Option<usize>,
    #[serde(default)]
    store: bool,
}

#[derive(Serialize)]
struct Timings {
    load_ms: f64,
    compute_ms: f64,
}

#[derive(Serialize)]
struct Encoded {
    sentence: SentenceShape,
    activations: Activations,
    timings: Timings,
    stored: Option<String>,
}

pub async fn encode(
    State(library): State<Arc<Library>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // A form of another site cannot send this type without asking first.
    if content_type.split(';').next().is_none_or(|kind| !kind.trim().eq_ignore_ascii_case("application/json")) {
        return Problem::bad("the body must be JSON; send `Content-Type: application/json`").into_response();
    }
    match body {
        Ok(body) => in_background(move || answer(&library, &body)).await,
        Err(_) => {
            let text =
                format!("the body is larger than {} KiB; encode long texts with `llamascope run`", BODY_LIMIT >> 10);
            Problem::new(Code::TooLarge, text).into_response()
        }
    }
}

fn answer(library: &Arc<Library>, body: &[u8]) -> Result<Answer, Problem> {
    let request: Request = serde_json::from_slice(body).map_err(|error| {
        Problem::bad(format!(
            "the body is not {{\"run\": ..., \"text\": ...}}, perhaps with layers, top_k and store: {error}"
        ))
    })?;
    if request.text.len() > MAX_TEXT {
        let text = format!("the text has {} bytes, at most {MAX_TEXT} can be typed", request.text.len());
        return Err(Problem::new(Code::TooLarge, text));
    }
    let cut = Cut::strongest(request.top_k)?;
    let run = library.run(&request.run)?;
    let mut numbers = request.layers.unwrap_or_else(|| run.index.layers().iter().map(|layer| layer.number()).collect());
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.is_empty() || numbers.len() > MAX_LAYERS {
        return Err(Problem::bad(format!("{} layers; name 1 to {MAX_LAYERS} of the run's", numbers.len())));
    }
    for number in &numbers {
        layer(&run, *number)?;
    }
    let session = library.session(&run)?;
    let typed = session.encode(&request.text, &numbers)?;
    let mut layers = Vec::new();
    for encoded in &typed.layers {
        let (layer, rows) = (layer(&run, encoded.layer)?, &encoded.rows);
        let rows: Vec<_> =
            rows.iter().map(|(ids, vals)| Some(ids.iter().copied().zip(vals.iter().copied()).collect())).collect();
        layers.push(shape(&run, layer, &rows, cut, false)?);
    }
    let stored = match request.store {
        false => None,
        true => {
            let (stamp, started) = (library.settings.now)();
            let like = run.index.manifest().expect("a session was opened by it");
            let moment = Moment { stamp, started };
            let path = session.store(&request.text, &typed, like, library.output_dir(), moment)?;
            path.file_name().map(|name| name.to_string_lossy().into_owned())
        }
    };
    Answer::json(&Encoded {
        sentence: text::sentence(None, &request.text, None, &typed.tokens, false),
        activations: Activations {
            sentence: None,
            scope: "run",
            positions: typed.tokens.output_positions().collect(),
            layers,
            missing: Vec::new(),
        },
        timings: Timings { load_ms: typed.load_seconds * 1000.0, compute_ms: typed.seconds * 1000.0 },
        stored,
    })
}
