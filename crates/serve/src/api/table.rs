//! What every answer says of the features in it, so that a page can name and colour them.

use std::collections::BTreeMap;

use llamascope_record::index::{FeatureStats, LayerIndex};
use llamascope_report::Score;
use serde::Serialize;

use super::filter::{Field, Subject};
use crate::library::OpenRun;
use crate::problem::Problem;

/// What points are counted over.
pub enum Counted<'a> {
    /// The layer's rows of the whole run.
    Run,
    /// These rows alone.
    Rows(&'a Score),
}

/// The features of an answer, in columns, ascending by id.
#[derive(Default, Serialize)]
pub struct FeatureTable {
    ids: Vec<u32>,
    slots: Vec<u32>,
    points: Vec<u64>,
    counts: Vec<u64>,
    labels: Vec<Option<String>>,
}

/// The table of some features; `ids` are put in order, each once. Features that the run has never seen take the slots
/// behind its last one, in order of id.
pub fn table(
    run: &OpenRun,
    layer: &LayerIndex,
    mut ids: Vec<u32>,
    counted: &Counted<'_>,
) -> Result<FeatureTable, Problem> {
    ids.sort_unstable();
    ids.dedup();
    let in_rows: BTreeMap<u32, (u64, u64)> = match counted {
        Counted::Run => BTreeMap::new(),
        Counted::Rows(score) => score.features().map(|(id, feature)| (id, (feature.points, feature.tokens))).collect(),
    };
    let mut next_slot = layer.seen() as u32;
    let mut table = FeatureTable::default();
    for id in ids {
        let stats = layer.stats(id)?;
        let slot = stats.as_ref().map_or_else(
            || {
                next_slot += 1;
                next_slot - 1
            },
            |stats| stats.slot,
        );
        let (points, count) = match counted {
            Counted::Run => stats.as_ref().map_or((0, 0), |stats| (stats.points, u64::from(stats.tokens))),
            Counted::Rows(_) => in_rows.get(&id).copied().unwrap_or_default(),
        };
        table.ids.push(id);
        table.slots.push(slot);
        table.points.push(points);
        table.counts.push(count);
        table.labels.push(label(run, layer, id));
    }
    Ok(table)
}

/// The text of a feature.
pub fn label(run: &OpenRun, layer: &LayerIndex, feature: u32) -> Option<String> {
    run.labels.get(layer.number(), feature).map(str::to_owned)
}

/// A feature by itself.
#[derive(Clone, Debug, Serialize)]
pub struct Feature {
    pub layer: usize,
    pub id: u32,
    pub slot: Option<u32>,
    pub points: u64,
    pub count: u32,
    pub sentences: u32,
    pub score: f64,
    pub density: f64,
    pub max: f32,
    pub mean: f64,
    pub min: f32,
    pub label: Option<String>,
}

impl Feature {
    /// What the run knows of a feature.
    pub fn of(run: &OpenRun, layer: &LayerIndex, id: u32, stats: Option<&FeatureStats>) -> Feature {
        let over = |sum: f64, n: f64| if n > 0.0 { sum / n } else { 0.0 };
        let count = stats.map_or(0, |stats| stats.tokens);
        let points = stats.map_or(0, |stats| stats.points);
        let rows = layer.rows() as f64;
        Feature {
            layer: layer.number(),
            id,
            slot: stats.map(|stats| stats.slot),
            points,
            count,
            sentences: stats.map_or(0, |stats| stats.sentences),
            score: over(points as f64, rows),
            density: over(f64::from(count), rows),
            max: stats.map_or(0.0, |stats| stats.max),
            mean: over(stats.map_or(0.0, |stats| stats.sum), f64::from(count)),
            min: stats.map_or(0.0, |stats| stats.min),
            label: label(run, layer, id),
        }
    }
}

impl Subject for Feature {
    fn number(&self, field: Field) -> f64 {
        match field {
            Field::Score => self.score,
            Field::Density => self.density,
            Field::Count => f64::from(self.count),
            Field::Sentences => f64::from(self.sentences),
            Field::Max => f64::from(self.max),
            Field::Mean => self.mean,
            Field::Min => f64::from(self.min),
            Field::Id => f64::from(self.id),
            Field::Slot => self.slot.map_or(f64::MAX, f64::from),
        }
    }

    fn label(&self) -> &str {
        self.label.as_deref().unwrap_or_default()
    }
}
