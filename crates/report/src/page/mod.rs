//! A run as one HTML file that opens from the disk: sentences with their features, layers over tokens, the features with
//! their strongest contexts. It asks for nothing beyond itself, follows the reader's theme, and can be printed.
//!
//! The same run gives the same bytes. What does not fit is left out and named.

mod features;
mod markup;
mod sentences;

use std::fmt::Write;

use llamascope_record::index::{IndexError, LayerIndex, RunIndex};

use crate::chart::{Frame, rarity_legend};
use crate::colour::Theme;
use crate::gather;
use crate::paint::{Paints, Style};
use crate::scene::svg::{self, Classes, escape};
use crate::score::Scope;

/// Most sentences that are shown.
pub const MOST_SENTENCES: usize = 200;
/// Size from which on no further sentence is added.
pub const MOST_BYTES: usize = 24 << 20;
/// Most layers that are shown.
pub const MOST_LAYERS: usize = 32;
/// Features of each layer that are listed for their score, and as many for their largest value.
pub const LISTED_FEATURES: usize = 40;
/// Contexts shown of a feature, each from another sentence.
pub const CONTEXTS: usize = 3;
/// Width of the charts in the page.
const CHART_WIDTH: f64 = 960.0;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What is shown, and how.
pub struct Options<'a> {
    /// The layers; all where there are none.
    pub layers: Vec<usize>,
    /// The sentences: `Run` for all.
    pub sentences: Scope,
    /// Features shown of each token.
    pub top_k: usize,
    /// How features are coloured.
    pub style: Style,
    /// What is known of a feature of a layer.
    pub label: &'a dyn Fn(usize, u32) -> Option<String>,
}

/// The file, and what is not in it.
pub struct Report {
    /// The whole file.
    pub html: String,
    /// What was left out, each in a sentence.
    pub left_out: Vec<String>,
}

/// A layer of the page.
struct Layer<'a> {
    index: &'a LayerIndex,
    paints: Paints,
}

/// Writes the report of a run.
///
/// # Errors
/// An index that cannot be read.
pub fn report(index: &RunIndex, options: &Options<'_>) -> Result<Report, IndexError> {
    let wanted = |layer: &&LayerIndex| options.layers.is_empty() || options.layers.contains(&layer.number());
    let mut left_out = Vec::new();
    let all: Vec<&LayerIndex> = index.layers().iter().filter(wanted).collect();
    if all.len() > MOST_LAYERS {
        left_out.push(format!("{} of {} layers: a page shows {MOST_LAYERS}.", all.len() - MOST_LAYERS, all.len()));
    }
    let mut layers = Vec::new();
    for layer in all.into_iter().take(MOST_LAYERS) {
        let paints = gather::paints(index, layer, &Scope::Run, 0, options.style.clone())?;
        layers.push(Layer { index: layer, paints });
    }

    let mut classes = Classes::default();
    let legend = legend(&layers, &mut classes);
    let (sentences, shown) = sentences::sections(index, &layers, options, &mut classes, &mut left_out)?;
    let features = features::tables(index, &layers, options, &shown, &mut classes)?;

    let style = format!(
        "{STYLE}{}@media (prefers-color-scheme:dark){{{}}}\n",
        classes.rules(Theme::Light),
        classes.rules(Theme::Dark)
    );
    let title = format!("{}: features of {} sentences", model(index), index.sentences());
    let mut html = String::with_capacity(sentences.len() + features.len() + style.len() + (1 << 16));
    let policy = format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'",
        markup::hash_source(&style),
        markup::hash_source(SCRIPT)
    );
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>{style}</style>\n</head>\n<body>\n",
        escape(&title)
    );
    html.push_str(&head(index, &layers, &left_out));
    html.push_str(&legend);
    html.push_str("<main>\n<h2>Sentences</h2>\n");
    html.push_str(&sentences);
    html.push_str("<h2>Features</h2>\n");
    html.push_str(&features);
    let program = index.manifest().map_or("llamascope", |manifest| &manifest.program);
    let _ = write!(
        html,
        "<footer>Run by {}; nothing in this page is fetched from anywhere.</footer>\n</main>\n\
         <script>{SCRIPT}</script>\n</body>\n</html>\n",
        escape(program)
    );
    Ok(Report { html, left_out })
}

/// The model of a run, as far as it is known.
fn model(index: &RunIndex) -> String {
    let name = gather::model(index);
    if name.is_empty() { "a run without a manifest".to_owned() } else { name.to_owned() }
}

/// Title, facts, what is wrong or left out, and the bar that stays in view.
fn head(index: &RunIndex, layers: &[Layer<'_>], left_out: &[String]) -> String {
    let mut facts = vec![("sentences", index.sentences().to_string()), ("tokens", index.rows().to_string())];
    if let Some(manifest) = index.manifest() {
        let setting = |key: &str| manifest.config.get(key).and_then(|value| value.as_str()).map(str::to_owned);
        facts.extend(setting("sae_release").map(|release| ("SAEs", release)));
        facts.extend(Some(manifest.device.dtype.clone()).filter(|dtype| !dtype.is_empty()).map(|d| ("dtype", d)));
        facts.extend(manifest.saes.first().map(|sae| ("convention", sae.convention.clone())));
        facts.push(("started", manifest.started.clone()));
    }
    let mut out = format!("<header class=\"top\">\n<h1>{}</h1>\n", escape(&model(index)));
    out.push_str("<p>What each token of these sentences has active, as sparse autoencoders read it.</p>\n");
    out.push_str("<dl class=\"facts\">");
    for (name, value) in facts {
        let _ = write!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(&value));
    }
    out.push_str("</dl>\n");
    for finding in &index.health().findings {
        let _ = writeln!(out, "<p class=\"muted\">Note: {} ({} times)</p>", escape(finding.kind.says()), finding.count);
    }
    for text in left_out {
        let _ = writeln!(out, "<p class=\"muted\">Left out: {}</p>", escape(text));
    }
    out.push_str("</header>\n<nav class=\"bar\"><div>\n");
    for layer in layers {
        let number = layer.index.number();
        let _ = writeln!(out, "<button type=\"button\" data-layer=\"{number}\">layer {number}</button>");
    }
    out.push_str(
        "<input id=\"find\" class=\"search\" type=\"search\" placeholder=\"Search sentences and features ( / )\" \
         aria-label=\"Search sentences and features\">\n<span id=\"count\" class=\"muted\" aria-live=\"polite\"></span>\n\
         </div></nav>\n",
    );
    out
}

/// What colours mean, for each layer.
fn legend(layers: &[Layer<'_>], classes: &mut Classes) -> String {
    let mut out = String::from("<main>\n");
    for layer in layers {
        let number = layer.index.number();
        let frame =
            Frame { width: CHART_WIDTH, bare: true, source: String::new(), label: &|_| None, scope: "run".to_owned() };
        let drawn = svg::inline(&rarity_legend(&layer.paints, &frame), classes);
        let _ = writeln!(out, "<figure data-of=\"{number}\">{drawn}</figure>");
    }
    out.push_str(
        "<p class=\"muted\">Point at a feature to see where else it is active; click to keep it, Escape to let go; \
         [ and ] change the layer.</p>\n</main>\n",
    );
    out
}

#[cfg(test)]
mod tests;
