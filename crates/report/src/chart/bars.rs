//! The bars of one token: a feature a bar, sorted by value.

use super::geometry::*;
use super::{Frame, SentenceRows, heading, legend, short, strip};
use crate::paint::{Paint, Paints};
use crate::scene::{Group, Mark, Scene, Text, metrics};

/// Draws the `top_k` strongest features of the token with index `token` of the sentence.
///
/// # Panics
/// When the sentence has no such token.
pub fn bars(rows: &SentenceRows, token: usize, paints: &Paints, frame: &Frame<'_>, top_k: usize) -> Scene {
    let chosen = &rows.tokens[token];
    let shown = &chosen.features[..chosen.features.len().min(top_k).min(MOST_BARS)];
    let (mut marks, margin) = (Vec::new(), frame.margin());
    let title = format!("{} at layer {}", chosen.name(), paints.layer());
    let active = match (shown.len(), chosen.features.len()) {
        (_, 0) => "no active feature".to_owned(),
        (1, 1) => "1 active feature".to_owned(),
        (some, all) if some == all => format!("{all} active features"),
        (some, all) => format!("the {some} strongest of {all} active features"),
    };
    let below = format!("sentence {}, token {}: {active}", rows.sentence, chosen.position);
    let mut y = heading(&mut marks, frame, &title, &below);
    y += strip::strip(&mut marks, rows, Some(token), y, frame) + GAP;

    let labels: Vec<Option<String>> = shown.iter().map(|(id, _)| (frame.label)(*id)).collect();
    let widest = |texts: &mut dyn Iterator<Item = f64>| texts.fold(0.0, f64::max);
    let ids = widest(&mut shown.iter().map(|(id, _)| metrics::width(&id.to_string()) * TEXT_SIZE));
    let ids = ids.max(metrics::width("feature") * SMALL_SIZE);
    let label_room = widest(&mut labels.iter().flatten().map(|label| metrics::width(label) * TEXT_SIZE));
    let label_room = label_room.min(frame.width * LABEL_SHARE);
    let values = widest(&mut shown.iter().map(|(_, value)| metrics::width(&short(f64::from(*value))) * SMALL_SIZE));
    let score_room = metrics::width("score") * SMALL_SIZE + 2.0 * BAR_PAD;
    let id_end = margin + ids;
    let label_start = id_end + BAR_PAD;
    let bar_start = if label_room > 0.0 { label_start + label_room + BAR_PAD } else { label_start };
    let score_end = frame.width - margin;
    let longest = (score_end - score_room - values - BAR_PAD - bar_start).max(20.0);

    if !shown.is_empty() {
        let head = |x: f64, text: &str| Text::new(x, y + SMALL_SIZE * 0.8, SMALL_SIZE, Paint::MUTED, text);
        marks.push(head(id_end, "feature").end().into());
        marks.push(head(bar_start, "value").into());
        marks.push(head(score_end, "score").end().into());
        y += SMALL_SIZE * 1.5;
    }
    let full = shown.first().map_or(1.0, |(_, value)| f64::from(*value));
    let first_row = y;
    for ((id, value), label) in shown.iter().zip(&labels) {
        let (value, middle) = (f64::from(*value), y + BAR_ROW / 2.0);
        let length = (longest * value / full).max(1.0);
        let score = paints.score().of(*id);
        let mut title = format!("feature {id}: {}, score {}", short(value), short(score));
        let mut row = vec![
            Mark::round(bar_start, middle - BAR_HEIGHT / 2.0, length, BAR_HEIGHT, RADIUS, paints.paint(*id)),
            Text::new(id_end, middle + TEXT_SIZE * 0.36, TEXT_SIZE, Paint::TEXT, id.to_string()).end().into(),
        ];
        let small = |x: f64, text: String| Text::new(x, middle + SMALL_SIZE * 0.36, SMALL_SIZE, Paint::MUTED, text);
        row.push(small(bar_start + length + BAR_PAD, short(value)).into());
        row.push(small(score_end, short(score)).end().into());
        if let Some(label) = label {
            title = format!("{title}: {label}");
            let label = metrics::fit(label, label_room / TEXT_SIZE);
            row.push(Text::new(label_start, middle + TEXT_SIZE * 0.36, TEXT_SIZE, Paint::MUTED, label).into());
        }
        marks.push(Group { feature: Some(*id), title, marks: row, ..Group::default() }.into());
        y += BAR_ROW;
    }
    if y > first_row {
        let line = vec![[bar_start - 0.5, first_row], [bar_start - 0.5, y]];
        marks.push(Mark::Path { points: line, stroke: Paint::GRID, width: 1.0 });
    }
    let height = legend::below(&mut marks, paints, frame, y);
    let description = format!("Bars of the active features of one token. {below}.");
    Scene { width: frame.width, height, title, description, marks }
}
