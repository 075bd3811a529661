//! Layers over tokens: how much is active where.

use super::geometry::*;
use super::{Frame, Scale, SentenceRows, heading, legend, short};
use crate::colour::NEUTRAL_TURN;
use crate::paint::{Paint, UnknownWord};
use crate::scene::{Group, Mark, Scene, Text, metrics};

/// What a cell counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metric {
    /// The number of active features.
    #[default]
    Nnz,
    /// The largest value.
    Max,
    /// The sum of the values.
    L1,
}

impl std::str::FromStr for Metric {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "nnz" => Ok(Metric::Nnz),
            "max" => Ok(Metric::Max),
            "l1" => Ok(Metric::L1),
            _ => Err(UnknownWord::new(word, "nnz max l1")),
        }
    }
}

impl Metric {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Nnz => "active features",
            Metric::Max => "largest value",
            Metric::L1 => "sum of values",
        }
    }

    /// The scale of these numbers. Values have outliers by orders of magnitude; counts do not, and their largest are what
    /// one looks for.
    pub fn scale(self, numbers: impl IntoIterator<Item = f64>) -> Scale {
        match self {
            Metric::Nnz => Scale::whole(numbers),
            Metric::Max | Metric::L1 => Scale::of(numbers),
        }
    }

    /// The number of one token.
    pub fn of(self, features: &[(u32, f32)]) -> f64 {
        match self {
            Metric::Nnz => features.len() as f64,
            Metric::Max => features.iter().map(|(_, value)| f64::from(*value)).fold(0.0, f64::max),
            Metric::L1 => features.iter().map(|(_, value)| f64::from(*value)).sum(),
        }
    }
}

/// Draws one row of cells for each layer, the first layer at the top. Every layer has a scale of its own, because values
/// grow with depth, unless `shared` asks for one.
///
/// The layers are `(layer, rows)` of the same sentence.
pub fn heatmap(layers: &[(usize, SentenceRows)], metric: Metric, shared: bool, frame: &Frame<'_>) -> Scene {
    let empty = SentenceRows { sentence: 0, tokens: Vec::new() };
    let longest = layers.iter().map(|(_, rows)| rows).max_by_key(|rows| rows.tokens.len()).unwrap_or(&empty);
    let tokens = &longest.tokens[..longest.tokens.len().min(MOST_TOKENS)];
    let (mut marks, margin) = (Vec::new(), frame.margin());
    let title = format!("Sentence {}: {} by layer and token", longest.sentence, metric.name());
    let normalised = if shared { "one scale for all layers" } else { "every layer on its own scale" };
    let left_out = match longest.tokens.len() - tokens.len() {
        0 => String::new(),
        more => format!("; the last {more} tokens are left out"),
    };
    let below = format!("{} layers, {} tokens; {normalised}{left_out}", layers.len(), longest.tokens.len());
    let mut y = heading(&mut marks, frame, &title, &below);

    let names: Vec<String> = layers.iter().map(|(layer, _)| format!("layer {layer}")).collect();
    let label_room = names.iter().map(|name| metrics::width(name) * SMALL_SIZE).fold(0.0, f64::max);
    let start = margin + label_room + BAR_PAD;
    let cell = ((frame.width - margin - start) / tokens.len().max(1) as f64).clamp(CELL_WIDTHS.0, CELL_WIDTHS.1);
    let value = |rows: &SentenceRows, index: usize| rows.tokens.get(index).map(|token| metric.of(&token.features));
    let peaks = |rows: &SentenceRows| (0..tokens.len()).filter_map(|index| value(rows, index)).collect::<Vec<_>>();
    let all = metric.scale(layers.iter().flat_map(|(_, rows)| peaks(rows)));
    let mut cut = false;
    for ((layer, rows), name) in layers.iter().zip(&names) {
        let scale = if shared { all } else { metric.scale(peaks(rows)) };
        cut |= scale.cut;
        let baseline = y + CELL_HEIGHT / 2.0 + SMALL_SIZE * 0.36;
        marks.push(Text::new(start - BAR_PAD, baseline, SMALL_SIZE, Paint::TEXT, name.clone()).end().into());
        for (index, token) in tokens.iter().enumerate() {
            let x = start + index as f64 * cell;
            let found = value(rows, index);
            let fill = found.map_or(Paint::EMPTY, |value| Paint::ramp(NEUTRAL_TURN, scale.length(value)));
            // Narrow cells overlap a little: else the ground would shine through between them.
            let gap = if cell > 14.0 { 1.0 } else { -SEAM };
            let mut inside = vec![Mark::rect(x, y, cell - gap, CELL_HEIGHT - 1.0, fill)];
            if let Some(value) = found.filter(|_| cell >= CELL_NUMBER) {
                let number = number(metric, value);
                if metrics::width(&number) * TINY_SIZE < cell - 3.0 {
                    let text = Text::new(x + (cell - gap) / 2.0, baseline - 0.5, TINY_SIZE, fill.text(), number);
                    inside.push(text.middle().into());
                }
            }
            let said = found.map_or("no row".to_owned(), |value| number(metric, value));
            let title = format!("layer {layer}, token {} {}: {said}", token.position, token.name());
            marks.push(Group { token: Some(token.position), title, marks: inside, ..Group::default() }.into());
        }
        y += CELL_HEIGHT;
    }

    y += foot(&mut marks, tokens, start, y, cell);
    if !frame.bare {
        y += GAP;
        let ends = if shared {
            ["0".to_owned(), number(metric, all.full)]
        } else {
            ["0".to_owned(), "the layer's largest".to_owned()]
        };
        let note = if cut { "of the usual tokens (outliers have the full colour)" } else { "" };
        legend::amounts(&mut marks, [&ends[0], &ends[1]], note, y, frame);
        y += RAMP.1;
    }
    let width = frame.width.max(start + cell * tokens.len() as f64 + margin);
    let description = format!("A cell for every layer and token, darker for more. {below}.");
    Scene { width, height: y + margin, title, description, marks }
}

fn number(metric: Metric, value: f64) -> String {
    if metric == Metric::Nnz { format!("{value:.0}") } else { short(value) }
}

/// The tokens under the cells: level where all of them fit, else leaning. The height that they take.
fn foot(marks: &mut Vec<Mark>, tokens: &[super::Token], start: f64, top: f64, cell: f64) -> f64 {
    /// How far the leaning text leans, in degrees.
    const LEAN: f64 = -55.0;
    let level = tokens.iter().all(|token| metrics::width(&token.text) * SMALL_SIZE < cell * token.part.1 as f64 - 2.0);
    let steep = LEAN.to_radians().sin().abs();
    let mut height: f64 = SMALL_SIZE * 1.4;
    for (index, token) in tokens.iter().enumerate().filter(|(_, token)| token.part.0 == 0) {
        let here = tokens[index..].iter().skip(1).take_while(|other| other.part.0 > 0).count() + 1;
        let (x, middle) = (start + index as f64 * cell, start + (index as f64 + here as f64 / 2.0) * cell);
        if here > 1 {
            let end = x + cell * here as f64 - 2.0;
            let points = vec![[x + 1.0, top + 1.0], [x + 1.0, top + 4.0], [end, top + 4.0], [end, top + 1.0]];
            marks.push(Mark::Path { points, stroke: Paint::MUTED, width: 1.0 });
        }
        let text = if level {
            Text::new(middle, top + SMALL_SIZE * 1.5, SMALL_SIZE, Paint::TEXT, token.text.clone()).middle()
        } else {
            let text = metrics::fit(&token.text, FOOT_MOST / steep / SMALL_SIZE);
            height = height.max(metrics::width(&text) * SMALL_SIZE * steep + SMALL_SIZE * 1.5);
            Text::new(middle + SMALL_SIZE * 0.3, top + SMALL_SIZE * 1.2, SMALL_SIZE, Paint::TEXT, text)
                .end()
                .turned(LEAN)
        };
        marks.push(text.into());
    }
    if tokens.is_empty() { 0.0 } else { height + 4.0 }
}
