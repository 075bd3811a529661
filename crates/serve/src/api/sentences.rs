//! Sentences: a page of those that pass the filters, and one of them with its tokens.

use std::cmp::Reverse;

use llamascope_record::index::{LayerIndex, Query};
use serde::Serialize;

use super::text::{self, SourceShape};
use super::{Scope, check_feature, layer, sentence};
use crate::answer::Answer;
use crate::ask::Ask;
use crate::library::OpenRun;
use crate::problem::Problem;

/// Longest text in a list, in characters.
const LISTED_CHARS: usize = 500;
/// Most places in a text that are marked.
const LISTED_MATCHES: usize = 20;
/// Longest text or pattern that is searched for, in bytes.
const MAX_QUERY: usize = 500;

#[derive(Serialize)]
struct Item {
    index: usize,
    text: String,
    cut: bool,
    n_tokens: usize,
    source: Option<SourceShape>,
    matches: Vec<[usize; 2]>,
    max: Option<f32>,
}

#[derive(Serialize)]
struct List {
    total: usize,
    items: Vec<Item>,
    next_cursor: Option<String>,
}

#[derive(Clone, Copy)]
enum Sort {
    Index,
    Length,
    Max,
}

pub fn list(scope: &Scope, ask: &mut Ask) -> Result<Answer, Problem> {
    let run = &*scope.run;
    let q = ask.text("q", MAX_QUERY)?;
    let is_regex = ask.flag("regex")?;
    let feature = ask.feature("feature")?;
    let min = ask.within("min", 0.0..=f32::MAX)?.unwrap_or(0.0);
    let sort = ask.choice("sort", &[("index", Sort::Index), ("length", Sort::Length), ("max", Sort::Max)])?;
    let page = ask.page(100, 500)?;
    ask.done()?;
    let query = match (&q, is_regex) {
        (None, _) => None,
        (Some(q), false) => Some(Query::text(q).map_err(|error| Problem::bad(error.to_string()))?),
        (Some(q), true) => Some(Query::regex(q).map_err(|error| Problem::bad(error.to_string()))?),
    };

    // Sentence and the largest value of the feature in it.
    let mut found: Vec<(usize, Option<f32>)> = match feature {
        None => match &query {
            None => (0..run.index.sentences()).map(|sentence| (sentence, None)).collect(),
            Some(query) => {
                let found = run.index.search(query, 0, usize::MAX)?;
                found.sentences.into_iter().map(|sentence| (sentence, None)).collect()
            }
        },
        Some((number, id)) => {
            let layer = layer(run, number)?;
            check_feature(layer, id)?;
            let mut found = peaks(run, layer, id, min)?;
            if let Some(query) = &query {
                let mut kept = Vec::new();
                for peak in found {
                    if query.matches(run.index.text(peak.0)?) {
                        kept.push(peak);
                    }
                }
                found = kept;
            }
            found.into_iter().map(|(sentence, max)| (sentence, Some(max))).collect()
        }
    };
    match sort {
        Sort::Index => {}
        Sort::Max if feature.is_none() => {
            return Err(Problem::bad("sort=max is by the value of a feature: give one, such as feature=12:104"));
        }
        Sort::Max => found.sort_by(|a, b| b.1.unwrap_or(0.0).total_cmp(&a.1.unwrap_or(0.0)).then(a.0.cmp(&b.0))),
        Sort::Length => {
            found.sort_by_cached_key(|(sentence, _)| (Reverse(run.index.rows_of(*sentence).len()), *sentence))
        }
    }
    let total = found.len();
    let item = |&(sentence, max): &(usize, Option<f32>)| item(run, sentence, max, query.as_ref());
    let items = found[page.range(total)].iter().map(item).collect::<Result<_, _>>()?;
    Answer::json(&List { total, items, next_cursor: page.next(total) })
}

/// The sentences in which a feature reaches `min`, ascending, each with its largest value.
fn peaks(run: &OpenRun, layer: &LayerIndex, feature: u32, min: f32) -> Result<Vec<(usize, f32)>, Problem> {
    let mut found: Vec<(usize, f32)> = Vec::new();
    let mut end = 0;
    for posting in layer.postings(feature)?.iter() {
        if posting.val < min {
            continue;
        }
        // Postings are in order of rows, and so of sentences: a look-up for each new sentence is enough.
        match found.last_mut() {
            Some((_, max)) if posting.row < end => *max = max.max(posting.val),
            _ => {
                let Some(place) = run.index.place(posting.row) else { continue };
                end = run.index.rows_of(place.sentence).end;
                found.push((place.sentence, posting.val));
            }
        }
    }
    Ok(found)
}

fn item(run: &OpenRun, number: usize, max: Option<f32>, query: Option<&Query>) -> Result<Item, Problem> {
    let sentence = run.index.sentence(number)?;
    let text = &sentence.record.sentence.text;
    let end = text.char_indices().nth(LISTED_CHARS).map_or(text.len(), |(at, _)| at);
    let spans = query.map(|query| query.spans(text)).unwrap_or_default();
    let shown = spans.into_iter().filter(|span| span.end <= end && !span.is_empty());
    Ok(Item {
        index: number,
        text: text[..end].to_owned(),
        cut: end < text.len(),
        n_tokens: sentence.rows.len(),
        source: text::source(&sentence.record.sentence.source),
        matches: shown.take(LISTED_MATCHES).map(|span| [span.start, span.end]).collect(),
        max,
    })
}

pub fn detail(scope: &Scope, ask: &mut Ask) -> Result<Answer, Problem> {
    let number = sentence(&scope.run, ask.number("sentence")?)?;
    ask.done()?;
    let sentence = scope.run.index.sentence(number)?;
    let record = &sentence.record;
    let source = &record.sentence.source;
    Answer::json(&text::sentence(Some(number), &record.sentence.text, Some(source), &record.tokens, sentence.from_rows))
}
