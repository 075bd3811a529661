//! Small multiples: a token a row, its strongest features side by side.

use super::geometry::*;
use super::{Frame, Scale, SentenceRows, Token, heading, lanes, legend, short};
use crate::paint::{Paint, Paints, UnknownWord};
use crate::scene::{Group, Mark, Scene, Text, metrics};

/// In which order the features of a token stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// A feature that goes on from token to token stays in its column.
    #[default]
    Aligned,
    /// The strongest first.
    Value,
}

impl std::str::FromStr for Order {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "aligned" => Ok(Order::Aligned),
            "value" => Ok(Order::Value),
            _ => Err(UnknownWord::new(word, "aligned value")),
        }
    }
}

/// Draws the `top_k` strongest features of every token, as many as fit the width.
pub fn multiples(rows: &SentenceRows, paints: &Paints, frame: &Frame<'_>, top_k: usize, order: Order) -> Scene {
    let margin = frame.margin();
    let tokens = &rows.tokens[..rows.tokens.len().min(MOST_TOKENS)];
    let text_of = |token: &Token| metrics::fit(&token.text, TOKEN_MOST / TEXT_SIZE);
    let widest = tokens.iter().map(|token| metrics::width(&text_of(token)) * TEXT_SIZE).fold(0.0, f64::max);
    let (text_end, counts) = (margin + widest, metrics::width("active") * SMALL_SIZE + BAR_PAD);
    let start = text_end + 3.0 * BAR_PAD;
    let room = frame.width - margin - counts - start;
    let most = tokens.iter().map(|token| token.features.len()).max().unwrap_or(0).max(1);
    let fitting = ((room + LANE_GAP) / (LANE_LEAST + LANE_GAP)).floor().max(1.0) as usize;
    let count = top_k.clamp(1, fitting).min(most);
    let lane = (room + LANE_GAP) / count as f64 - LANE_GAP;

    let mut marks = Vec::new();
    let title = format!("Sentence {} at layer {}", rows.sentence, paints.layer());
    let peaks = tokens.iter().filter_map(|token| Some(f64::from(token.features.first()?.1)));
    let scale = Scale::of(peaks);
    let cut = if scale.cut { "; longer ones are cut, with a notch" } else { "" };
    let left_out = match rows.tokens.len() - tokens.len() {
        0 => String::new(),
        more => format!("; the last {more} tokens are left out"),
    };
    let below =
        format!("the {count} strongest features of each token; a full bar is {}{cut}{left_out}", short(scale.full));
    let mut y = heading(&mut marks, frame, &title, &below);
    let active = Text::new(frame.width - margin, y + SMALL_SIZE * 0.8, SMALL_SIZE, Paint::MUTED, "active").end();
    marks.push(active.into());
    y += SMALL_SIZE * 1.4;

    let strongest = |token: &Token| token.features.iter().take(count).map(|(id, _)| *id).collect::<Vec<_>>();
    let columns = match order {
        Order::Aligned => lanes(&tokens.iter().map(strongest).collect::<Vec<_>>(), count),
        Order::Value => tokens.iter().map(|token| strongest(token).into_iter().map(Some).collect()).collect(),
    };
    for (index, (token, columns)) in tokens.iter().zip(&columns).enumerate() {
        let mut row = vec![line([margin, y], [frame.width - margin, y])];
        let middle = y + LANE_ROW / 2.0;
        if token.part.0 == 0 {
            // A text that several tokens share stands once, in the middle of their rows.
            let below = tokens[index..].iter().skip(1).take_while(|other| other.part.0 > 0).count() as f64;
            let center = middle + LANE_ROW * below / 2.0;
            let text = Text::new(text_end, center + TEXT_SIZE * 0.36, TEXT_SIZE, Paint::TEXT, text_of(token)).end();
            row.push(text.into());
            if below > 0.0 {
                let (x, top, end) = (text_end + BAR_PAD, y + 4.0, y + LANE_ROW * (below + 1.0) - 4.0);
                let points = vec![[x - 3.0, top], [x, top], [x, end], [x - 3.0, end]];
                row.push(Mark::Path { points, stroke: Paint::MUTED, width: 1.0 });
            }
        } else {
            row[0] = line([start, y], [frame.width - margin, y]);
        }
        for (column, id) in columns.iter().enumerate() {
            let Some(id) = *id else { continue };
            let value = token.features.iter().find(|(other, _)| *other == id).map_or(0.0, |(_, v)| f64::from(*v));
            row.push(cell(start + column as f64 * (lane + LANE_GAP), y, lane, id, value, scale, paints, frame));
        }
        let active = token.features.len().to_string();
        let active = Text::new(frame.width - margin, middle + SMALL_SIZE * 0.36, SMALL_SIZE, Paint::MUTED, active);
        row.push(active.end().into());
        let title = format!("token {}: {}", token.position, token.name());
        marks.push(Group { token: Some(token.position), title, marks: row, ..Group::default() }.into());
        y += LANE_ROW;
    }
    marks.push(line([margin, y], [frame.width - margin, y]));
    let height = legend::below(&mut marks, paints, frame, y);
    let description = format!("Tokens as rows, their strongest features as bars. {below}.");
    Scene { width: frame.width, height, title, description, marks }
}

fn line(from: [f64; 2], to: [f64; 2]) -> Mark {
    Mark::Path { points: vec![from, to], stroke: Paint::GRID, width: 1.0 }
}

/// A feature in its lane: the id, and the bar below it.
#[expect(clippy::too_many_arguments, reason = "a place, a feature and how it is drawn")]
fn cell(x: f64, y: f64, lane: f64, id: u32, value: f64, scale: Scale, paints: &Paints, frame: &Frame<'_>) -> Mark {
    let bar = y + LANE_ROW - LANE_BAR - 3.0;
    let length = (lane * scale.length(value)).max(1.0);
    let mut marks = vec![
        Mark::round(x, bar, length, LANE_BAR, RADIUS, paints.paint(id)),
        Text::new(x, bar - 2.5, TINY_SIZE, Paint::MUTED, id.to_string()).into(),
    ];
    if scale.exceeds(value) {
        let at = x + length - 7.0;
        let points = vec![[at + 3.0, bar - 1.0], [at, bar + LANE_BAR + 1.0]];
        marks.push(Mark::Path { points, stroke: Paint::GROUND, width: 2.0 });
    }
    let label = (frame.label)(id).map_or_else(String::new, |label| format!(": {label}"));
    let title = format!("feature {id}: {}, score {}{label}", short(value), short(paints.score().of(id)));
    Group { feature: Some(id), title, marks, ..Group::default() }.into()
}
