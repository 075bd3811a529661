//! Features: the table of a layer, one of them, and the scores in columns.

use std::cmp::Ordering;

use llamascope_pipeline::labels;
use llamascope_report::Score;
use serde::Serialize;

use super::filter::{FIELDS, Field, Filter, Subject};
use super::runs::Weights;
use super::table::Feature;
use super::{Scope, layer, layer_and_feature, sentence};
use crate::answer::Answer;
use crate::ask::{Ask, quoted};
use crate::library::OpenRun;
use crate::problem::Problem;

#[derive(Serialize)]
struct List {
    layer: usize,
    tokens: u64,
    total: usize,
    items: Vec<Feature>,
    next_cursor: Option<String>,
}

/// The parameter `layer`, which has to be there.
fn layer_number(run: &OpenRun, ask: &mut Ask) -> Result<usize, Problem> {
    ask.within("layer", 0..=u32::MAX as usize)?.ok_or_else(|| {
        let layers: Vec<_> = run.index.layers().iter().map(|layer| layer.number().to_string()).collect();
        Problem::bad(format!("layer is missing; the run has layers {}", layers.join(", ")))
    })
}

pub fn list(scope: &Scope, ask: &mut Ask) -> Result<Answer, Problem> {
    let run = &*scope.run;
    let number = layer_number(run, ask)?;
    let sort = ask.choice("sort", &FIELDS)?;
    let rising = matches!(sort, Field::Id | Field::Slot);
    let falls = ask.choice("order", &[("", !rising), ("desc", true), ("asc", false)])?;
    let filter = Filter::parse(&ask.text("filter", 500)?.unwrap_or_default())?;
    let page = ask.page(200, 1000)?;
    ask.done()?;
    let layer = layer(run, number)?;
    let seen = layer.features()?.map(|stats| Feature::of(run, layer, stats.id, Some(&stats)));
    let mut items: Vec<Feature> = seen.filter(|feature| filter.holds(feature)).collect();
    let order = |a: &Feature, b: &Feature| -> Ordering {
        let order = a.number(sort).total_cmp(&b.number(sort));
        (if falls { order.reverse() } else { order }).then(a.id.cmp(&b.id))
    };
    items.sort_unstable_by(order);
    let total = items.len();
    let items = items.drain(page.range(total)).collect();
    Answer::json(&List { layer: number, tokens: layer.rows(), total, items, next_cursor: page.next(total) })
}

#[derive(Serialize)]
struct Peak {
    sentence: usize,
    pos: usize,
}

#[derive(Serialize)]
struct Neuronpedia {
    url: String,
    embed_url: String,
}

#[derive(Serialize)]
struct Detail {
    #[serde(flatten)]
    feature: Feature,
    tokens: u64,
    d_sae: usize,
    hook: Option<String>,
    label_source: Option<String>,
    peak: Option<Peak>,
    neuronpedia: Option<Neuronpedia>,
    weights: Weights,
}

/// Where Neuronpedia shows features. Nothing is asked of it: the page only links there.
const NEURONPEDIA: &str = "https://www.neuronpedia.org";

pub fn detail(scope: &Scope, ask: &mut Ask) -> Result<Answer, Problem> {
    let run = &*scope.run;
    let (layer, id) = layer_and_feature(run, ask)?;
    ask.done()?;
    let stats = layer.stats(id)?;
    let place = stats.as_ref().and_then(|stats| run.index.place(stats.argmax));
    let peak = match place {
        Some(place) => Some(Peak { sentence: place.sentence, pos: position(run, place.sentence, place.nth)? }),
        None => None,
    };
    let source = run.index.manifest().and_then(|manifest| labels::neuronpedia(manifest).remove(&layer.number()));
    let neuronpedia = source.map(|source| {
        let url = format!("{NEURONPEDIA}/{}/{}/{id}", source.model, source.layer);
        Neuronpedia { embed_url: format!("{url}?embed=true&embedexplanation=true&embedplots=true&embedtest=true"), url }
    });
    let feature = Feature::of(run, layer, id, stats.as_ref());
    let label_source =
        feature.label.as_ref().and_then(|_| run.labels.source(layer.number())).map(|path| path.display().to_string());
    Answer::json(&Detail {
        feature,
        tokens: layer.rows(),
        d_sae: layer.d_sae(),
        hook: (!layer.hook().is_empty()).then(|| layer.hook().to_owned()),
        label_source,
        peak,
        neuronpedia,
        weights: Weights::of(run),
    })
}

/// Position of the token of a sentence's `nth` row.
fn position(run: &OpenRun, sentence: usize, nth: usize) -> Result<usize, Problem> {
    Ok(run.index.sentence(sentence)?.record.tokens.output_positions().nth(nth).unwrap_or(nth))
}

#[derive(Serialize)]
struct Scores {
    layer: usize,
    scope: String,
    tokens: u64,
    total: usize,
    ids: Vec<u32>,
    slots: Vec<u32>,
    points: Vec<u64>,
    counts: Vec<u64>,
    next_cursor: Option<String>,
}

pub fn scores(scope: &Scope, ask: &mut Ask) -> Result<Answer, Problem> {
    let run = &*scope.run;
    let number = layer_number(run, ask)?;
    let of = ask.text("scope", 100)?.unwrap_or_else(|| "run".into());
    let page = ask.page(1000, 10_000)?;
    ask.done()?;
    let layer = layer(run, number)?;
    // Id, points, count.
    let (tokens, all): (u64, Vec<(u32, u64, u64)>) = if of == "run" {
        let seen = layer.features()?.map(|stats| (stats.id, stats.points, u64::from(stats.tokens)));
        (layer.rows(), seen.collect())
    } else {
        let index = of.strip_prefix("sentence:").and_then(|index| index.parse().ok());
        let index: usize =
            index.ok_or_else(|| Problem::bad(format!("scope is {}; expected `run` or `sentence:3`", quoted(&of))))?;
        let mut score = Score::default();
        for row in layer.sentence(sentence(run, index)?)?.iter().filter(|row| row.is_there()) {
            score.add(&row.ids().to_vec(), row.vals());
        }
        (score.tokens(), score.features().map(|(id, feature)| (id, feature.points, feature.tokens)).collect())
    };
    let total = all.len();
    let shown = &all[page.range(total)];
    let slot = |id: u32| Ok(layer.stats(id)?.map_or(0, |stats| stats.slot));
    Answer::json(&Scores {
        layer: number,
        scope: of,
        tokens,
        total,
        ids: shown.iter().map(|feature| feature.0).collect(),
        slots: shown.iter().map(|feature| slot(feature.0)).collect::<Result<_, Problem>>()?,
        points: shown.iter().map(|feature| feature.1).collect(),
        counts: shown.iter().map(|feature| feature.2).collect(),
        next_cursor: page.next(total),
    })
}
