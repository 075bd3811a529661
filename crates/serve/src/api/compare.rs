//! Two sentences, two layers or two runs side by side.

use std::sync::Arc;

use llamascope_record::index::LayerIndex;
use llamascope_report::contrast::{agreement, align, contrast, sum};
use serde::Serialize;

use super::table::label;
use super::{Scope, layer, sentence};
use crate::answer::Answer;
use crate::ask::{Ask, quoted};
use crate::library::OpenRun;
use crate::problem::Problem;

/// Features of each side that are looked for in the other's dictionary: those with the most points.
const MATCHED: usize = 48;
/// Least cosine of a match.
const LEAST_COSINE: f32 = 0.5;

/// One side, as the parameter says: `s:3,L:12`, or `s:9,L:12,r:RUN`.
struct Side {
    run: Arc<OpenRun>,
    sentence: usize,
    layer: usize,
    positions: Vec<usize>,
    rows: Vec<(String, Vec<(u32, f32)>)>,
}

#[derive(Serialize)]
struct SideShape<'a> {
    run: &'a str,
    sentence: usize,
    layer: usize,
    text: &'a str,
    positions: &'a [usize],
    texts: Vec<&'a str>,
    tokens: usize,
}

#[derive(Serialize)]
struct PairShape {
    a: Option<usize>,
    b: Option<usize>,
    jaccard: Option<f64>,
    cosine: Option<f64>,
}

#[derive(Serialize)]
struct FeatureShape {
    id: u32,
    slot: u32,
    label: Option<String>,
    a_points: u64,
    b_points: u64,
    a_count: u64,
    b_count: u64,
    a_max: f32,
    b_max: f32,
    delta: f64,
}

#[derive(Serialize)]
struct Match {
    a: u32,
    b: u32,
    a_slot: u32,
    b_slot: u32,
    a_label: Option<String>,
    b_label: Option<String>,
    cosine: f32,
}

#[derive(Serialize)]
struct Comparison<'a> {
    a: SideShape<'a>,
    b: SideShape<'a>,
    same_dictionary: bool,
    pairs: Vec<PairShape>,
    both: Option<usize>,
    only_a: Option<usize>,
    only_b: Option<usize>,
    jaccard: Option<f64>,
    cosine: Option<f64>,
    features: Vec<FeatureShape>,
    matches: Vec<Match>,
}

fn side(scope: &Scope, ask: &mut Ask, name: &'static str) -> Result<Side, Problem> {
    let expected = "expected a sentence and a layer, such as `s:3,L:12`, and perhaps a run, `s:3,L:12,r:RUN`";
    let text = ask.text(name, 400)?.ok_or_else(|| Problem::bad(format!("{name} is missing; {expected}")))?;
    let wrong = || Problem::bad(format!("{name} is {}; {expected}", quoted(&text)));
    let (place, run) = match text.split_once(",r:") {
        Some((place, id)) => (place, scope.library.run(id)?),
        None => (text.as_str(), scope.run.clone()),
    };
    let (number, layer_number) = place.split_once(',').ok_or_else(wrong)?;
    let parse = |text: &str, prefix: &str| text.strip_prefix(prefix)?.parse::<usize>().ok();
    let number = sentence(&run, parse(number, "s:").ok_or_else(wrong)?)?;
    let layer = layer(&run, parse(layer_number, "L:").ok_or_else(wrong)?)?;
    let record = run.index.sentence(number)?.record;
    let positions: Vec<usize> = record.tokens.output_positions().collect();
    let found = layer.sentence(number)?;
    let rows =
        positions.iter().zip(found.iter()).map(|(&pos, row)| (record.tokens.strs[pos].clone(), row.iter().collect()));
    let rows = rows.collect();
    let layer = layer.number();
    Ok(Side { sentence: number, layer, positions, rows, run })
}

impl Side {
    fn index(&self) -> Result<&LayerIndex, Problem> {
        layer(&self.run, self.layer)
    }

    fn shape(&self) -> Result<SideShape<'_>, Problem> {
        Ok(SideShape {
            run: &self.run.id,
            sentence: self.sentence,
            layer: self.layer,
            text: self.run.index.text(self.sentence)?,
            positions: &self.positions,
            texts: self.rows.iter().map(|(text, _)| text.as_str()).collect(),
            tokens: self.rows.len(),
        })
    }

    fn borrowed(&self) -> Vec<(&str, Vec<(u32, f32)>)> {
        self.rows.iter().map(|(text, row)| (text.as_str(), row.clone())).collect()
    }

    /// Features with the most points, most first.
    fn strongest(&self) -> Vec<u32> {
        let rows = self.borrowed();
        let mut earned: Vec<(u64, u32)> =
            contrast(&rows, &[]).features.iter().map(|(id, feature)| (feature.a.0, *id)).collect();
        earned.sort_unstable_by(|x, y| y.0.cmp(&x.0).then(x.1.cmp(&y.1)));
        earned.into_iter().map(|(_, id)| id).take(MATCHED).collect()
    }
}

/// Whether ids mean the same: the same layer, read by the same SAE.
fn same_dictionary(a: &Side, b: &Side) -> bool {
    let sae = |side: &Side| {
        let manifest = side.run.index.manifest()?;
        let sae = manifest.saes.iter().find(|sae| sae.layer == side.layer)?;
        Some((sae.hook.clone(), sae.d_sae, if sae.blake3.is_empty() { sae.path.clone() } else { sae.blake3.clone() }))
    };
    a.layer == b.layer && (a.run.id == b.run.id || (sae(a).is_some() && sae(a) == sae(b)))
}

pub fn compare(scope: &Scope, ask: &mut Ask) -> Result<Answer, Problem> {
    let (a, b) = (side(scope, ask, "a")?, side(scope, ask, "b")?);
    ask.done()?;
    let same = same_dictionary(&a, &b);
    let (rows_a, rows_b) = (a.borrowed(), b.borrowed());
    let shape = (a.shape()?, b.shape()?);
    let pairs = align(&shape.0.texts, &shape.1.texts);
    let pairs = pairs.into_iter().map(|pair| {
        let agreed = pair.a.zip(pair.b).filter(|_| same).map(|(i, j)| agreement(&rows_a[i].1, &rows_b[j].1));
        PairShape { a: pair.a, b: pair.b, jaccard: agreed.map(|a| a.0), cosine: agreed.map(|a| a.1) }
    });
    let mut comparison = Comparison {
        pairs: pairs.collect(),
        a: shape.0,
        b: shape.1,
        same_dictionary: same,
        both: None,
        only_a: None,
        only_b: None,
        jaccard: None,
        cosine: None,
        features: Vec::new(),
        matches: Vec::new(),
    };
    if !same {
        comparison.matches = matches(scope, &a, &b)?;
        return Answer::json(&comparison);
    }
    let found = contrast(&rows_a, &rows_b);
    let (jaccard, cosine) = agreement(&sum(&rows_a), &sum(&rows_b));
    (comparison.both, comparison.only_a, comparison.only_b) =
        (Some(found.both), Some(found.only_a), Some(found.only_b));
    (comparison.jaccard, comparison.cosine) = (Some(jaccard), Some(cosine));
    let index = a.index()?;
    for (id, feature) in found.features {
        let slot = index.stats(id)?.map_or(index.seen() as u32, |stats| stats.slot);
        comparison.features.push(FeatureShape {
            id,
            slot,
            label: label(&a.run, index, id),
            a_points: feature.a.0,
            b_points: feature.b.0,
            a_count: feature.a.1,
            b_count: feature.b.1,
            a_max: feature.a.2,
            b_max: feature.b.2,
            delta: feature.delta,
        });
    }
    comparison.features.sort_by(|x, y| y.delta.abs().total_cmp(&x.delta.abs()).then(x.id.cmp(&y.id)));
    Answer::json(&comparison)
}

/// Features of two dictionaries of one run whose decoder vectors point the same way. Nothing where the weights are not
/// at hand, or the sides are of two runs: the page says that ids cannot be compared.
fn matches(scope: &Scope, a: &Side, b: &Side) -> Result<Vec<Match>, Problem> {
    if a.run.id != b.run.id {
        return Ok(Vec::new());
    }
    let Ok(session) = scope.library.session(&a.run) else { return Ok(Vec::new()) };
    let (ids_a, ids_b) = (a.strongest(), b.strongest());
    let Ok(found) = session.matches((a.layer, &ids_a), (b.layer, &ids_b), LEAST_COSINE) else { return Ok(Vec::new()) };
    let slot = |index: &LayerIndex, id: u32| Ok::<_, Problem>(index.stats(id)?.map_or(0, |stats| stats.slot));
    let (index_a, index_b) = (a.index()?, b.index()?);
    let shape = |(x, y, cosine)| {
        Ok(Match {
            a: x,
            b: y,
            a_slot: slot(index_a, x)?,
            b_slot: slot(index_b, y)?,
            a_label: label(&a.run, index_a, x),
            b_label: label(&b.run, index_b, y),
            cosine,
        })
    };
    found.into_iter().map(shape).collect()
}
