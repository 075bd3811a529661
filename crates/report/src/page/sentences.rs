//! The sentences of a report: text, layers over tokens, small multiples.

use std::collections::BTreeSet;
use std::fmt::Write;

use llamascope_record::TokenGroup;
use llamascope_record::index::{IndexError, RunIndex};

use super::markup::language;
use super::{CHART_WIDTH, Layer, MOST_BYTES, MOST_SENTENCES, Options};
use crate::chart::{Frame, Metric, Order, SentenceRows, heatmap, multiples};
use crate::gather;
use crate::scene::svg::{Classes, escape, inline};

/// The sections of all sentences that fit, and which those are.
pub fn sections(
    index: &RunIndex,
    layers: &[Layer<'_>],
    options: &Options<'_>,
    classes: &mut Classes,
    left_out: &mut Vec<String>,
) -> Result<(String, BTreeSet<usize>), IndexError> {
    let wanted: Vec<usize> = (0..index.sentences()).filter(|&sentence| options.sentences.holds(sentence, 0)).collect();
    let (mut out, mut shown) = (String::new(), BTreeSet::new());
    for &sentence in wanted.iter().take(MOST_SENTENCES) {
        if out.len() > MOST_BYTES {
            break;
        }
        out.push_str(&section(index, layers, options, classes, sentence)?);
        shown.insert(sentence);
    }
    if shown.len() < wanted.len() {
        let (rest, all) = (wanted.len() - shown.len(), wanted.len());
        left_out.push(format!(
            "the last {rest} of {all} sentences: a page holds {MOST_SENTENCES}, and about {} MiB. \
             `llamascope report --sentences` chooses others, `llamascope view` shows all.",
            MOST_BYTES >> 20
        ));
    }
    Ok((out, shown))
}

fn section(
    index: &RunIndex,
    layers: &[Layer<'_>],
    options: &Options<'_>,
    classes: &mut Classes,
    sentence: usize,
) -> Result<String, IndexError> {
    let record = index.sentence(sentence)?.record;
    let source = &record.sentence.source;
    let place = if source.file.is_empty() { String::new() } else { format!("{}, line {}", source.file, source.line) };
    let mut out = format!(
        "<section class=\"sentence\" id=\"s{sentence}\">\n<header><h3>{sentence}</h3><span class=\"muted\">{}</span></header>\n",
        escape(&place)
    );
    let mut all = Vec::new();
    for layer in layers {
        all.push((layer.index.number(), gather::sentence_rows(index, layer.index, sentence)?));
    }
    let language = language(&record.sentence.text);
    let groups = record.tokens.groups(&record.sentence.text);
    for (layer, (number, rows)) in layers.iter().zip(&all) {
        let _ = write!(out, "<p class=\"text\"{language} data-of=\"{number}\">");
        strip(rows, &groups, layer, options, classes, &mut out);
        out.push_str("</p>\n");
    }
    if layers.len() > 1 {
        let drawn = inline(&heatmap(&all, Metric::Nnz, false, &frame(&|_| None)), classes);
        let caption = "active features by layer and token, every layer on its own scale";
        let _ = writeln!(out, "<figure data-of=\"all\"{language}>{drawn}<figcaption>{caption}</figcaption></figure>");
    }
    for (layer, (number, rows)) in layers.iter().zip(&all) {
        let label = |id| (options.label)(*number, id);
        let drawn = inline(&multiples(rows, &layer.paints, &frame(&label), options.top_k, Order::Aligned), classes);
        let caption = format!("the strongest features of each token at layer {number}");
        let _ =
            writeln!(out, "<figure data-of=\"{number}\"{language}>{drawn}<figcaption>{caption}</figcaption></figure>");
    }
    out.push_str("</section>\n");
    Ok(out)
}

/// A chart of the page: what it is stands around it.
fn frame(label: &dyn Fn(u32) -> Option<String>) -> Frame<'_> {
    Frame { width: CHART_WIDTH, bare: true, source: String::new(), label, scope: "run".into() }
}

/// The text, each token underlined in the colour of its strongest feature.
fn strip(
    rows: &SentenceRows,
    groups: &[TokenGroup],
    layer: &Layer<'_>,
    options: &Options<'_>,
    classes: &mut Classes,
    out: &mut String,
) {
    let mut index = 0;
    while let Some(token) = rows.tokens.get(index) {
        let parts = token.part.1.max(1);
        // Of a character in several tokens the last one knows which it is.
        let last = &rows.tokens[(index + parts - 1).min(rows.tokens.len() - 1)];
        // Here spaces are spaces, because the text is read as it stands.
        let group = groups.binary_search_by_key(&(token.position as usize), |group| group.tokens.start);
        let text = group.map_or(String::new(), |at| escape(&groups[at].text));
        let _ = write!(out, "<span data-t=\"{}\" data-n=\"{parts}\"", token.position);
        match last.features.first() {
            Some((id, value)) => {
                let label =
                    (options.label)(layer.index.number(), *id).map_or(String::new(), |label| format!(": {label}"));
                let title = format!("strongest: {id} ({}){label}", crate::chart::short(f64::from(*value)));
                let class = classes.fill(layer.paints.paint(*id));
                let _ =
                    write!(out, " class=\"token {class}\" data-f=\"{id}\" title=\"{}\">{text}</span>", escape(&title));
            }
            None => {
                let _ = write!(out, " class=\"token\">{text}</span>");
            }
        }
        index += parts;
    }
}
