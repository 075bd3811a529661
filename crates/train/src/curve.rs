//! How a training went, as a picture.

use std::path::Path;

use llamascope_report::chart::{Panel, Series, curves, geometry};
use llamascope_report::colour::Theme;
use llamascope_report::scene::svg;

use crate::Error;
use crate::metrics::{LayerMetrics, Metrics};

/// File of the picture in the output folder.
pub const CURVES: &str = "curves.svg";

/// What is drawn of a layer.
type Quantity = (&'static str, fn(&LayerMetrics) -> f64);

const QUANTITIES: [Quantity; 4] = [
    ("explained variance", |layer| layer.explained_variance),
    ("mean squared error of a row", |layer| layer.mse),
    ("active features a token", |layer| layer.l0),
    ("dead features, %", |layer| 100.0 * layer.dead_fraction),
];

/// Draws the lines of a training's metrics.
pub(crate) fn write(folder: &Path, name: &str, layers: &[usize], lines: &[Metrics]) -> Result<(), Error> {
    let series = |quantity: fn(&LayerMetrics) -> f64| -> Vec<Series> {
        let of = |layer: &usize| {
            let points = lines.iter().filter_map(|line| {
                let found = line.layers.iter().find(|found| found.layer == *layer)?;
                Some([line.step as f64, quantity(found)])
            });
            Series { name: format!("layer {layer}"), points: points.collect() }
        };
        layers.iter().map(of).collect()
    };
    let panels = QUANTITIES.map(|(title, quantity)| Panel { title: title.into(), series: series(quantity) });
    let tokens = lines.last().map_or(0, |line| line.tokens);
    let below = format!("training on {tokens} tokens, on the batches as they were trained on");
    let scene = curves(&format!("SAEs of {name}"), &below, "steps", &panels, geometry::WIDTH);
    let path = folder.join(CURVES);
    std::fs::write(&path, svg::file(&scene, Theme::Light)).map_err(|source| Error::Io { path, source })
}
