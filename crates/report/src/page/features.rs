//! The features of a report: a table a layer, with the contexts in which each is strongest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use llamascope_record::index::{IndexError, Posting, RunIndex};

use super::markup::language;
use super::{CONTEXTS, LISTED_FEATURES, Layer, Options};
use crate::chart::short;
use crate::scene::svg::{Classes, escape};

/// Characters of a context on either side of its token.
const AROUND: usize = 40;

/// The tables of all layers; contexts from the sentences that are `shown` lead there.
pub fn tables(
    index: &RunIndex,
    layers: &[Layer<'_>],
    options: &Options<'_>,
    shown: &BTreeSet<usize>,
    classes: &mut Classes,
) -> Result<String, IndexError> {
    let mut out = String::new();
    for layer in layers {
        let number = layer.index.number();
        let listed = listed(layer)?;
        let _ = write!(
            out,
            "<div data-of=\"{number}\"><p class=\"muted\">Layer {number}: {} of the {} features seen, those with the highest \
             frequency score and those with the largest values. Headings sort.</p>\n<table><thead><tr><th>feature</th>\
             <th class=\"n\" data-sort>score</th><th class=\"n\" data-sort>of tokens</th>\
             <th class=\"n\" data-sort>largest</th><th>where it is strongest</th></tr></thead><tbody>\n",
            listed.len(),
            layer.index.seen()
        );
        for id in listed {
            row(index, layer, id, options, shown, classes, &mut out)?;
        }
        out.push_str("</tbody></table></div>\n");
    }
    Ok(out)
}

/// The features with most points and those with the largest values, by points.
fn listed(layer: &Layer<'_>) -> Result<Vec<u32>, IndexError> {
    let mut all = layer.paints.score().most_common(usize::MAX);
    let mut strongest: Vec<_> = all.iter().map(|(id, feature)| (*id, feature.max)).collect();
    strongest.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let strongest: BTreeSet<u32> = strongest.into_iter().take(LISTED_FEATURES).map(|(id, _)| id).collect();
    let mut rank = 0;
    all.retain(|(id, _)| {
        rank += 1;
        rank <= LISTED_FEATURES || strongest.contains(id)
    });
    Ok(all.into_iter().map(|(id, _)| id).collect())
}

fn row(
    index: &RunIndex,
    layer: &Layer<'_>,
    id: u32,
    options: &Options<'_>,
    shown: &BTreeSet<usize>,
    classes: &mut Classes,
    out: &mut String,
) -> Result<(), IndexError> {
    let (points, score) = (layer.paints.points(id), layer.paints.score().of(id));
    let share = 100.0 * points.tokens as f64 / layer.index.rows().max(1) as f64;
    let class = classes.fill(layer.paints.paint(id));
    let label = (options.label)(layer.index.number(), id)
        .map_or_else(String::new, |label| format!("<br><span class=\"muted\">{}</span>", escape(&label)));
    let _ = write!(
        out,
        "<tr class=\"feature\" data-f=\"{id}\"><td><span class=\"swatch {class}\"></span>{id}{label}</td>\
         <td class=\"n\" data-v=\"{score}\">{}</td><td class=\"n\" data-v=\"{share}\">{}%</td>\
         <td class=\"n\" data-v=\"{}\">{}</td><td>",
        short(score),
        short(share),
        points.max,
        short(f64::from(points.max))
    );
    for posting in strongest(index, layer, id)? {
        context(index, posting, &class, shown, out)?;
    }
    out.push_str("</td></tr>\n");
    Ok(())
}

/// The strongest rows of a feature, one a sentence, the strongest first.
fn strongest(index: &RunIndex, layer: &Layer<'_>, id: u32) -> Result<Vec<Posting>, IndexError> {
    let mut best: BTreeMap<usize, Posting> = BTreeMap::new();
    for posting in layer.index.postings(id)?.iter() {
        let Some(place) = index.place(posting.row) else { continue };
        let kept = best.entry(place.sentence).or_insert(posting);
        if posting.val > kept.val {
            *kept = posting;
        }
        // Two to choose from for each that is kept; the weakest, and among equal ones the last, goes.
        if best.len() > 2 * CONTEXTS {
            let weakest = best.iter().rev().min_by(|a, b| a.1.val.total_cmp(&b.1.val)).map(|(sentence, _)| *sentence);
            if let Some(sentence) = weakest {
                best.remove(&sentence);
            }
        }
    }
    let mut best: Vec<Posting> = best.into_values().collect();
    best.sort_by(|a, b| b.val.total_cmp(&a.val).then(a.row.cmp(&b.row)));
    best.truncate(CONTEXTS);
    Ok(best)
}

/// The text around a row's token.
fn context(
    index: &RunIndex,
    posting: Posting,
    class: &str,
    shown: &BTreeSet<usize>,
    out: &mut String,
) -> Result<(), IndexError> {
    let Some(place) = index.place(posting.row) else { return Ok(()) };
    let record = index.sentence(place.sentence)?.record;
    let Some(position) = record.tokens.output_positions().nth(place.nth) else { return Ok(()) };
    let groups = record.tokens.groups(&record.sentence.text);
    let Some(at) = groups.iter().position(|group| group.tokens.contains(&position)) else { return Ok(()) };
    let text_of = |range: std::ops::Range<usize>| {
        let shown = groups[range].iter().filter(|group| !record.tokens.bos[group.tokens.start]);
        shown.map(|group| group.text.as_str()).collect::<String>()
    };
    let (before, token, after) = (text_of(0..at), text_of(at..at + 1), text_of(at + 1..groups.len()));
    let cut = before.char_indices().rev().nth(AROUND.saturating_sub(1)).map_or(0, |(start, _)| start);
    let before = if cut > 0 { format!("…{}", &before[cut..]) } else { before };
    let after = match after.char_indices().nth(AROUND) {
        Some((end, _)) => format!("{}…", &after[..end]),
        None => after,
    };
    let language = language(&record.sentence.text);
    let sentence = match place.sentence {
        there if shown.contains(&there) => format!("<a href=\"#s{there}\">{there}</a>"),
        elsewhere => elsewhere.to_string(),
    };
    let _ = write!(
        out,
        "<span class=\"context\"{language}>{}<b class=\"{class}\">{}</b>{}<span class=\"where\">{} in \
         sentence {sentence}</span></span>",
        escape(&before),
        escape(&token),
        escape(&after),
        short(f64::from(posting.val))
    );
    Ok(())
}
