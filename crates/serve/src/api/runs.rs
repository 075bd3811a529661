//! Runs: the list, one of them, what is wrong with its files.

use std::sync::Arc;

use llamascope_pipeline::labels;
use llamascope_pipeline::live::LiveError;
use llamascope_record::index::{LayerIndex, Severity};
use llamascope_record::run::{Manifest, Status};
use serde::Serialize;

use super::Scope;
use crate::answer::Answer;
use crate::ask::Ask;
use crate::library::{FoundRun, Library, OpenRun};
use crate::problem::{Code, Problem};

/// Lowest rank that earns a point.
const RANK_CAP: u32 = 100;

#[derive(Serialize)]
struct Summary {
    id: String,
    status: &'static str,
    started: Option<String>,
    program: Option<String>,
    model_id: Option<String>,
    sae_release: Option<String>,
    dtype: Option<String>,
    n_sentences: u64,
    n_tokens: u64,
    problem: Option<String>,
}

impl Summary {
    fn of(id: &str, manifest: Option<&Manifest>) -> Summary {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let setting = |key: &str| manifest?.config.get(key)?.as_str().map(str::to_owned);
        Summary {
            id: id.to_owned(),
            status: match manifest.map(|manifest| manifest.status) {
                None => "bare",
                Some(Status::Running) => "running",
                Some(Status::Complete) => "complete",
                Some(Status::Interrupted) => "interrupted",
                Some(Status::Failed) => "failed",
            },
            started: manifest.and_then(|manifest| text(&manifest.started)),
            program: manifest.and_then(|manifest| text(&manifest.program)),
            model_id: manifest.and_then(|manifest| text(&manifest.model.id)),
            sae_release: setting("sae_release"),
            dtype: manifest.and_then(|manifest| text(&manifest.device.dtype)),
            n_sentences: manifest.map_or(0, |manifest| manifest.counts.sentences),
            n_tokens: manifest.map_or(0, |manifest| manifest.counts.tokens),
            problem: None,
        }
    }
}

pub fn healthz(_: &Arc<Library>, ask: &mut Ask) -> Result<Answer, Problem> {
    ask.done()?;
    Answer::json(&serde_json::json!({"ok": true}))
}

pub fn version(library: &Arc<Library>, ask: &mut Ask) -> Result<Answer, Problem> {
    ask.done()?;
    let program = &library.settings.program;
    let (name, version) = program.rsplit_once(' ').unwrap_or((program, ""));
    Answer::json(&serde_json::json!({"name": name, "version": version, "api": "v1"}))
}

pub fn list(library: &Arc<Library>, ask: &mut Ask) -> Result<Answer, Problem> {
    #[derive(Serialize)]
    struct Listed {
        #[serde(flatten)]
        summary: Summary,
        layers: Vec<usize>,
    }
    #[derive(Serialize)]
    struct List {
        folder: String,
        runs: Vec<Listed>,
    }
    ask.done()?;
    let found = library.scan().map_err(|error| {
        Problem::new(Code::Internal, format!("{} cannot be read: {error}", library.folder().display()))
    })?;
    let summary = |run: &FoundRun| match run.manifest() {
        Ok(manifest) => Summary::of(&run.id, manifest.as_ref()),
        Err(problem) => Summary { status: "unreadable", problem: Some(problem), ..Summary::of(&run.id, None) },
    };
    let name = library.folder().file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let runs = found.iter().map(|run| Listed { summary: summary(run), layers: run.layers() }).collect();
    Answer::json(&List { folder: name, runs })
}

#[derive(Serialize)]
struct NeuronpediaSource {
    model: String,
    source: String,
}

#[derive(Serialize)]
struct Layer {
    layer: usize,
    hook: Option<String>,
    d_sae: usize,
    rows: u64,
    nnz: u64,
    l0_mean: f64,
    l0_max: u64,
    features_seen: usize,
    labelled: usize,
    neuronpedia: Option<NeuronpediaSource>,
}

/// Whether the weights are at hand.
#[derive(Serialize)]
pub struct Weights {
    state: &'static str,
    detail: Option<String>,
}

impl Weights {
    /// Those of a run.
    pub fn of(run: &OpenRun) -> Weights {
        let error = run.weights().err();
        let state = match &error {
            None => "available",
            Some(_) if run.index.manifest().is_none() => "unknown",
            Some(LiveError::Changed(_)) => "changed",
            Some(_) => "missing",
        };
        Weights { state, detail: error.map(|error| error.to_string()) }
    }
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    architecture: &'a str,
    n_layers: usize,
    d_model: usize,
    vocab: usize,
}

#[derive(Serialize)]
struct Detail<'a> {
    #[serde(flatten)]
    summary: Summary,
    layers: Vec<Layer>,
    generation: &'a str,
    model: Option<Model<'a>>,
    config: Option<&'a serde_json::Value>,
    device: Option<String>,
    fingerprint: Option<&'a str>,
    total_s: Option<f64>,
    rank_cap: u32,
    weights: Weights,
    findings: usize,
}

pub fn detail(scope: &Scope, ask: &mut Ask) -> Result<Answer, Problem> {
    ask.done()?;
    let run = &*scope.run;
    let manifest = run.index.manifest();
    let sources = manifest.map(labels::neuronpedia).unwrap_or_default();
    let layer = |layer: &LayerIndex| {
        let number = layer.number();
        let source = sources.get(&number);
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let labelled = (0..layer.d_sae() as u32).filter(|id| run.labels.get(number, *id).is_some());
        Layer {
            layer: number,
            hook: text(layer.hook()),
            d_sae: layer.d_sae(),
            rows: layer.rows(),
            nnz: layer.nnz(),
            l0_mean: if layer.rows() > 0 { layer.nnz() as f64 / layer.rows() as f64 } else { 0.0 },
            l0_max: layer.l0_max(),
            features_seen: layer.seen(),
            labelled: if run.labels.is_empty() { 0 } else { labelled.count() },
            neuronpedia: source.map(|s| NeuronpediaSource { model: s.model.clone(), source: s.layer.clone() }),
        }
    };
    let mut summary = Summary::of(&run.id, manifest);
    summary.n_sentences = run.index.sentences() as u64;
    if manifest.is_none() {
        summary.n_tokens = u64::from(run.index.rows());
    }
    let known = |manifest: &&Manifest| !manifest.model.architecture.is_empty();
    let model = |manifest: &'_ Manifest| {
        format!("{} ({}), {} threads", manifest.device.name, manifest.device.kernel, manifest.device.threads)
    };
    Answer::json(&Detail {
        summary,
        layers: run.index.layers().iter().map(layer).collect(),
        generation: run.index.generation(),
        model: manifest.filter(known).map(|manifest| Model {
            id: &manifest.model.id,
            architecture: &manifest.model.architecture,
            n_layers: manifest.model.n_layers,
            d_model: manifest.model.d_model,
            vocab: manifest.model.vocab,
        }),
        config: manifest.map(|manifest| &manifest.config).filter(|config| config.is_object()),
        device: manifest.filter(known).map(model),
        fingerprint: manifest.and_then(|manifest| manifest.fingerprint.as_deref()),
        total_s: manifest.map(|manifest| manifest.timings.total_s).filter(|seconds| *seconds > 0.0),
        rank_cap: RANK_CAP,
        weights: Weights::of(run),
        findings: run.index.health().findings.len(),
    })
}

#[derive(Serialize)]
struct Example<'a> {
    file: &'a str,
    line: Option<u64>,
    what: &'a str,
}

#[derive(Serialize)]
struct Finding<'a> {
    kind: serde_json::Value,
    severity: &'static str,
    says: &'static str,
    layer: Option<usize>,
    count: u64,
    examples: Vec<Example<'a>>,
}

pub fn health(scope: &Scope, ask: &mut Ask) -> Result<Answer, Problem> {
    #[derive(Serialize)]
    struct Health<'a> {
        ok: bool,
        findings: Vec<Finding<'a>>,
    }
    ask.done()?;
    let findings: Vec<Finding<'_>> = scope
        .run
        .index
        .health()
        .findings
        .iter()
        .map(|finding| Finding {
            kind: serde_json::to_value(finding.kind).unwrap_or_default(),
            severity: match finding.kind.severity() {
                Severity::Note => "note",
                Severity::Warning => "warning",
                Severity::Error => "error",
            },
            says: finding.kind.says(),
            layer: finding.layer,
            count: finding.count,
            examples: finding.examples.iter().map(|e| Example { file: &e.file, line: e.line, what: &e.what }).collect(),
        })
        .collect();
    Answer::json(&Health { ok: findings.iter().all(|finding| finding.severity == "note"), findings })
}
