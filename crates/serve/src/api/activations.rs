//! A sentence's active features, layer by layer, and a number for every layer and token.

use llamascope_record::index::{LayerIndex, Row, SentenceRows};
use llamascope_report::Score;
use serde::Serialize;

use super::table::{Counted, FeatureTable, table};
use super::{Scope, check_feature, layer, sentence};
use crate::answer::Answer;
use crate::ask::{Ask, quoted};
use crate::library::OpenRun;
use crate::problem::Problem;

/// Most layers in an answer.
const MAX_LAYERS: usize = 64;
/// Most features of a row, and how many unless asked for.
const MAX_TOP_K: usize = 1000;
const TOP_K: usize = 200;

/// Rows of one layer.
#[derive(Serialize)]
pub struct LayerShape {
    pub layer: usize,
    pub d_sae: usize,
    pub tokens: u64,
    pub ptr: Vec<usize>,
    pub ids: Vec<u32>,
    pub vals: Vec<f32>,
    pub nnz: Vec<Option<usize>>,
    pub features: FeatureTable,
}

/// Rows of a sentence.
#[derive(Serialize)]
pub struct Activations {
    pub sentence: Option<usize>,
    pub scope: &'static str,
    pub positions: Vec<usize>,
    pub layers: Vec<LayerShape>,
    pub missing: Vec<usize>,
}

/// What of a row is sent.
#[derive(Clone, Copy)]
pub struct Cut {
    /// Its strongest features, this many at most.
    pub top_k: usize,
    /// Those with at least this value.
    pub min: f32,
}

impl Cut {
    /// The parameters `top_k` and `min`.
    fn of(ask: &mut Ask) -> Result<Cut, Problem> {
        let top_k = ask.within("top_k", 1..=MAX_TOP_K)?;
        Ok(Cut { top_k: top_k.unwrap_or(TOP_K), min: ask.within("min", 0.0..=f32::MAX)?.unwrap_or(0.0) })
    }

    /// The strongest features of every row.
    pub fn strongest(top_k: Option<usize>) -> Result<Cut, Problem> {
        match top_k {
            Some(top_k) if !(1..=MAX_TOP_K).contains(&top_k) => {
                Err(Problem::bad(format!("top_k is {top_k}; expected a number from 1 to {MAX_TOP_K}")))
            }
            top_k => Ok(Cut { top_k: top_k.unwrap_or(TOP_K), min: 0.0 }),
        }
    }
}

/// A row by itself: none where the run lacks it.
type Entries = Option<Vec<(u32, f32)>>;

/// The rows of a layer as they are sent. Points are counted over all of their features, whatever the cut.
pub fn shape(
    run: &OpenRun,
    layer: &LayerIndex,
    rows: &[Entries],
    cut: Cut,
    by_sentence: bool,
) -> Result<LayerShape, Problem> {
    let mut score = Score::default();
    let (mut ptr, mut ids, mut vals) = (vec![0], Vec::new(), Vec::new());
    for entries in rows {
        if let Some(entries) = entries {
            if by_sentence {
                let (ids, vals): (Vec<u32>, Vec<f32>) = entries.iter().copied().unzip();
                score.add(&ids, &vals);
            }
            for (id, val) in entries.iter().take(cut.top_k).filter(|(_, val)| *val >= cut.min) {
                ids.push(*id);
                vals.push(*val);
            }
        }
        ptr.push(ids.len());
    }
    let counted = if by_sentence { Counted::Rows(&score) } else { Counted::Run };
    Ok(LayerShape {
        layer: layer.number(),
        d_sae: layer.d_sae(),
        tokens: if by_sentence { score.tokens() } else { layer.rows() },
        features: table(run, layer, ids.clone(), &counted)?,
        ptr,
        ids,
        vals,
        nnz: rows.iter().map(|entries| entries.as_ref().map(Vec::len)).collect(),
    })
}

/// The layers of the parameter `layers`, ascending; all of the run where it is left out.
fn layers<'a>(run: &'a OpenRun, ask: &mut Ask) -> Result<Vec<&'a LayerIndex>, Problem> {
    let Some(text) = ask.text("layers", 1000)? else {
        return match run.index.layers() {
            all if all.len() <= MAX_LAYERS => Ok(all.iter().collect()),
            all => {
                Err(Problem::bad(format!("the run has {} layers; name at most {MAX_LAYERS} in `layers`", all.len())))
            }
        };
    };
    let number = |piece: &str| {
        let number = piece.trim().parse::<usize>();
        number.map_err(|_| Problem::bad(format!("layers has {}; expected numbers such as 12,13", quoted(piece))))
    };
    let mut numbers = text.split(',').map(number).collect::<Result<Vec<_>, _>>()?;
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.len() > MAX_LAYERS {
        return Err(Problem::bad(format!(
            "layers names {} layers, at most {MAX_LAYERS} are sent at once",
            numbers.len()
        )));
    }
    numbers.into_iter().map(|number| layer(run, number)).collect()
}

fn is_missing(rows: &SentenceRows<'_>) -> bool {
    !rows.is_empty() && !rows.iter().any(|row| row.is_there())
}

/// Positions of a sentence's rows.
pub fn positions(run: &OpenRun, number: usize) -> Result<Vec<usize>, Problem> {
    Ok(run.index.sentence(number)?.record.tokens.output_positions().collect())
}

pub fn activations(scope: &Scope, ask: &mut Ask) -> Result<Answer, Problem> {
    let run = &*scope.run;
    let number = sentence(run, ask.number("sentence")?)?;
    let layers = layers(run, ask)?;
    let cut = Cut::of(ask)?;
    let by_sentence = ask.choice("scope", &[("run", false), ("sentence", true)])?;
    ask.done()?;
    let mut answer = Activations {
        sentence: Some(number),
        scope: if by_sentence { "sentence" } else { "run" },
        positions: positions(run, number)?,
        layers: Vec::new(),
        missing: Vec::new(),
    };
    for layer in layers {
        let rows = layer.sentence(number)?;
        if is_missing(&rows) {
            answer.missing.push(layer.number());
            continue;
        }
        let rows: Vec<Entries> = rows.iter().map(|row| row.is_there().then(|| row.iter().collect())).collect();
        answer.layers.push(shape(run, layer, &rows, cut, by_sentence)?);
    }
    Answer::json(&answer)
}

#[derive(Clone, Copy, PartialEq)]
enum Metric {
    Nnz,
    Sum,
    Max,
    Novelty,
    Feature,
}

const METRICS: [(&str, Metric); 5] = [
    ("nnz", Metric::Nnz),
    ("sum", Metric::Sum),
    ("max", Metric::Max),
    ("novelty", Metric::Novelty),
    ("feature", Metric::Feature),
];

#[derive(Serialize)]
struct Heatmap {
    metric: &'static str,
    layers: Vec<usize>,
    positions: Vec<usize>,
    values: Vec<Vec<Option<f64>>>,
    layer_max: Vec<f64>,
}

pub fn heatmap(scope: &Scope, ask: &mut Ask) -> Result<Answer, Problem> {
    let run = &*scope.run;
    let number = sentence(run, ask.number("sentence")?)?;
    let mut layers = layers(run, ask)?;
    let metric = ask.choice("metric", &METRICS)?;
    let feature = ask.feature("feature")?;
    ask.done()?;
    let id = match (metric, feature) {
        (Metric::Feature, Some((number, id))) => {
            layers = vec![layer(run, number)?];
            check_feature(layers[0], id)?;
            id
        }
        (Metric::Feature, None) => return Err(Problem::bad("metric=feature needs a feature, such as feature=12:104")),
        _ => 0,
    };
    let mut values = Vec::new();
    for layer in &layers {
        let rows = layer.sentence(number)?;
        let rows: Vec<Row<'_>> = rows.iter().collect();
        let cell = |at: usize| {
            rows[at].is_there().then(|| measure(metric, id, rows[at], at.checked_sub(1).map(|before| rows[before])))
        };
        values.push((0..rows.len()).map(cell).collect::<Vec<_>>());
    }
    let name = METRICS.iter().find(|(_, known)| *known == metric).map_or("", |(name, _)| name);
    Answer::json(&Heatmap {
        metric: name,
        layers: layers.iter().map(|layer| layer.number()).collect(),
        positions: positions(run, number)?,
        layer_max: values.iter().map(|row| row.iter().flatten().copied().fold(0.0, f64::max)).collect(),
        values,
    })
}

fn measure(metric: Metric, feature: u32, row: Row<'_>, before: Option<Row<'_>>) -> f64 {
    let vals = || row.vals().iter().map(|&val| f64::from(val));
    match metric {
        Metric::Nnz => row.len() as f64,
        Metric::Sum => vals().sum(),
        Metric::Max => vals().fold(0.0, f64::max),
        Metric::Feature => row.iter().find(|(id, _)| *id == feature).map_or(0.0, |(_, val)| f64::from(val)),
        Metric::Novelty if row.is_empty() => 0.0,
        Metric::Novelty => {
            let mut known: Vec<u32> = before.map(|row| row.ids().to_vec()).unwrap_or_default();
            known.sort_unstable();
            let new = row.ids().iter().filter(|id| known.binary_search(id).is_err()).count();
            new as f64 / row.len() as f64
        }
    }
}
