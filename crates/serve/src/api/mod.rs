//! `/api/v1`: one module for each kind of thing that is asked for. `openapi.json` is the contract; a test holds every
//! answer against it.

mod activations;
mod compare;
mod contexts;
mod corpus;
mod encode;
mod features;
mod filter;
mod meaning;
mod runs;
mod sentences;
mod table;
mod text;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use llamascope_pipeline::live::LiveError;
use llamascope_record::index::{IndexError, LayerIndex};

use crate::answer::{Answer, matches};
use crate::ask::Ask;
use crate::library::{Library, OpenRun};
use crate::problem::{Code, Problem};

/// The contract.
pub const OPENAPI: &str = include_str!("../../openapi.json");

/// Largest body of a request, in bytes.
const BODY_LIMIT: usize = 128 << 10;

/// All addresses below `/api/v1`.
pub fn router() -> Router<Arc<Library>> {
    Router::new()
        .route("/api/v1/openapi.json", whole(|_, _| Ok(Answer::Json { body: OPENAPI.into(), etag: None })))
        .route("/api/v1/healthz", whole(runs::healthz))
        .route("/api/v1/version", whole(runs::version))
        .route("/api/v1/runs", whole(runs::list))
        .route("/api/v1/runs/{run}", scoped(runs::detail))
        .route("/api/v1/runs/{run}/health", scoped(runs::health))
        .route("/api/v1/runs/{run}/sentences", scoped(sentences::list))
        .route("/api/v1/runs/{run}/sentences/{sentence}", scoped(sentences::detail))
        .route("/api/v1/runs/{run}/sentences/{sentence}/activations", scoped(activations::activations))
        .route("/api/v1/runs/{run}/sentences/{sentence}/heatmap", scoped(activations::heatmap))
        .route("/api/v1/runs/{run}/features", scoped(features::list))
        .route("/api/v1/runs/{run}/features/{layer}/{feature}", scoped(features::detail))
        .route("/api/v1/runs/{run}/features/{layer}/{feature}/activations", scoped(contexts::activations))
        .route("/api/v1/runs/{run}/features/{layer}/{feature}/histogram", scoped(contexts::histogram))
        .route("/api/v1/runs/{run}/features/{layer}/{feature}/tokens", scoped(contexts::tokens))
        .route("/api/v1/runs/{run}/features/{layer}/{feature}/neighbors", scoped(meaning::neighbors))
        .route("/api/v1/runs/{run}/features/{layer}/{feature}/logits", scoped(meaning::logits))
        .route("/api/v1/runs/{run}/features/{layer}/{feature}/corpus", scoped(corpus::corpus))
        .route("/api/v1/runs/{run}/scores", scoped(features::scores))
        .route("/api/v1/runs/{run}/compare", scoped(compare::compare))
        .route("/api/v1/encode", post(encode::encode).fallback(|| only("POST")))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
}

/// What a handler sees.
struct Scope {
    library: Arc<Library>,
    run: Arc<OpenRun>,
}

/// An address that is answered from all runs.
fn whole(handler: fn(&Arc<Library>, &mut Ask) -> Result<Answer, Problem>) -> MethodRouter<Arc<Library>> {
    reading(move |library, mut ask| {
        let answer = handler(&library, &mut ask)?;
        Ok(answer.tagged_by_content(ask.if_none_match.as_deref()))
    })
}

/// An address that is answered from one run. A client that has the answer of this state of the run is told so before
/// anything is looked up.
fn scoped(handler: fn(&Scope, &mut Ask) -> Result<Answer, Problem>) -> MethodRouter<Arc<Library>> {
    reading(move |library, mut ask| {
        let run = library.run(ask.segment("run"))?;
        let etag = library.etag(&run);
        if matches(ask.if_none_match.as_deref(), &etag) {
            return Ok(Answer::NotModified { etag });
        }
        Ok(handler(&Scope { library, run }, &mut ask)?.tagged(etag))
    })
}

fn reading<F>(answer: F) -> MethodRouter<Arc<Library>>
where
    F: Fn(Arc<Library>, Ask) -> Result<Answer, Problem> + Clone + Send + Sync + 'static,
{
    let handler = move |State(library): State<Arc<Library>>, ask: Ask| async move {
        in_background(move || answer(library, ask)).await
    };
    get(handler).fallback(|| only("GET"))
}

async fn only(method: &'static str) -> Problem {
    Problem::new(Code::MethodNotAllowed, format!("this address answers {method} only"))
}

/// Does the work on a thread that may wait: for files to be read, for a model to compute.
async fn in_background(work: impl FnOnce() -> Result<Answer, Problem> + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.into_response(),
        Err(_) => Problem::new(Code::Internal, "answering has failed unexpectedly; please report it").into_response(),
    }
}

/// A layer of a run.
fn layer(run: &OpenRun, number: usize) -> Result<&LayerIndex, Problem> {
    run.index.layer(number).ok_or_else(|| {
        let layers: Vec<_> = run.index.layers().iter().map(|layer| layer.number().to_string()).collect();
        Problem::missing(format!("the run has no layer {number}; it has layers {}", layers.join(", ")))
    })
}

/// The layer and feature of an address.
fn layer_and_feature<'a>(run: &'a OpenRun, ask: &Ask) -> Result<(&'a LayerIndex, u32), Problem> {
    let layer = layer(run, ask.number("layer")?)?;
    let feature = ask.number("feature")?;
    check_feature(layer, feature as u32)?;
    Ok((layer, feature as u32))
}

fn check_feature(layer: &LayerIndex, feature: u32) -> Result<(), Problem> {
    if feature as usize >= layer.d_sae() {
        let text =
            format!("layer {} has features 0 to {}, not {feature}", layer.number(), layer.d_sae().saturating_sub(1));
        return Err(Problem::missing(text));
    }
    Ok(())
}

/// The sentence of an address.
fn sentence(run: &OpenRun, number: usize) -> Result<usize, Problem> {
    let sentences = run.index.sentences();
    if number >= sentences {
        return Err(Problem::missing(match sentences {
            0 => "the run has no sentences".to_owned(),
            _ => format!("the run has sentences 0 to {}, not {number}", sentences - 1),
        }));
    }
    Ok(number)
}

impl From<IndexError> for Problem {
    /// Whatever can be wrong with a request was checked before: what remains is wrong with the files.
    fn from(error: IndexError) -> Problem {
        Problem::new(Code::UnreadableRun, error.to_string())
    }
}

impl From<LiveError> for Problem {
    fn from(error: LiveError) -> Problem {
        let code = match &error {
            LiveError::Missing(_) => Code::WeightsMissing,
            LiveError::Changed(_) => Code::WeightsChanged,
            LiveError::NoDecoder(_) => Code::NoDecoder,
            LiveError::Text(_) => Code::BadRequest,
            _ => Code::Internal,
        };
        Problem::new(code, error.to_string())
    }
}
