//! What a feature is in a large corpus, as `llamascope explore` found it.

use llamascope_record::explored::{Explored, Feature, Window};
use serde::Serialize;

use super::contexts::ContextToken;
use super::{Scope, layer_and_feature};
use crate::answer::Answer;
use crate::ask::Ask;
use crate::problem::Problem;

#[derive(Serialize)]
struct Kind {
    text: String,
    count: u64,
}

#[derive(Serialize)]
struct Pushed {
    text: String,
    logit: f32,
}

#[derive(Serialize)]
struct Context {
    document: u32,
    value: f32,
    before: bool,
    after: bool,
    tokens: Vec<ContextToken>,
}

#[derive(Serialize)]
struct Corpus {
    model: String,
    input: Vec<String>,
    context: usize,
    tokens: u64,
    count: u64,
    density: f64,
    max: f32,
    types: Vec<Kind>,
    promoted: Vec<Pushed>,
    contexts: Vec<Context>,
}

#[derive(Serialize)]
struct Found {
    layer: usize,
    id: u32,
    corpus: Option<Corpus>,
    detail: Option<String>,
}

pub fn corpus(scope: &Scope, ask: &mut Ask) -> Result<Answer, Problem> {
    let run = &*scope.run;
    let (layer, id) = layer_and_feature(run, ask)?;
    ask.done()?;
    let layer = layer.number();
    let opened = match run.index.manifest() {
        Some(manifest) => scope.library.explored(run, manifest, layer),
        None => Ok(None),
    };
    // A file that cannot be read is no reason not to show the rest of the feature.
    let found = opened.and_then(|file| match file {
        Some(file) => file.feature(id).map(|feature| Some(of(&file, feature))).map_err(|error| error.to_string()),
        None => Ok(None),
    });
    let (corpus, detail) = match found {
        Ok(corpus) => (corpus, None),
        Err(detail) => (None, Some(detail)),
    };
    Answer::json(&Found { layer, id, corpus, detail })
}

/// A feature that the file does not know was never active.
fn of(file: &Explored, feature: Option<Feature>) -> Corpus {
    let (header, feature) = (file.header(), feature.unwrap_or_default());
    let text = |piece: u32| file.piece(piece).to_owned();
    Corpus {
        model: header.model.clone(),
        input: header.input.clone(),
        context: header.context,
        tokens: header.rows,
        count: feature.rows,
        density: feature.rows as f64 / header.rows.max(1) as f64,
        max: feature.max,
        types: feature.types.iter().map(|(piece, count)| Kind { text: text(*piece), count: *count }).collect(),
        promoted: feature.promoted.iter().map(|(piece, logit)| Pushed { text: text(*piece), logit: *logit }).collect(),
        contexts: feature.contexts.iter().map(|window| context(file, window)).collect(),
    }
}

fn context(file: &Explored, window: &Window) -> Context {
    let value = |at: usize| window.values.iter().find(|(place, _)| *place == at).map_or(0.0, |(_, value)| *value);
    let mut tokens: Vec<ContextToken> = Vec::new();
    for (at, piece) in window.tokens.iter().enumerate() {
        let (text, value, target) = (file.piece(*piece), value(at), at == window.at);
        match tokens.last_mut() {
            // The character stands with its first token.
            Some(last) if text.is_empty() => {
                last.value = last.value.max(value);
                last.target |= target;
            }
            _ => tokens.push(ContextToken { pos: at, text: text.to_owned(), value, target }),
        }
    }
    Context { document: window.document, value: value(window.at), before: window.more.0, after: window.more.1, tokens }
}
