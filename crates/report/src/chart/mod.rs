//! Charts: the bars of one token, the small multiples of a sentence, the layers over its tokens.
//!
//! The same feature has the same colour in every chart of a run, and the same data gives the same picture.

mod bars;
mod curves;
pub mod geometry;
mod heatmap;
mod lanes;
mod legend;
mod multiples;
mod scale;
mod strip;

use llamascope_record::Tokens;

use crate::paint::Paint;
use crate::scene::{Mark, Text, metrics};
use crate::text;

pub use bars::bars;
pub use curves::{Panel, Series, curves};
pub use heatmap::{Metric, heatmap};
pub use lanes::lanes;
pub use legend::rarity_legend;
pub use multiples::{Order, multiples};
pub use scale::Scale;

/// A token as charts show it.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Position in the sentence, BOS counted.
    pub position: u32,
    /// What it stands for, with spaces and controls made visible: of a character that several tokens split, the whole.
    pub text: String,
    /// Which of the tokens it is that share this text, from 0, and how many they are.
    pub part: (usize, usize),
    /// Active features and their values, the largest first, equal ones by ascending id.
    pub features: Vec<(u32, f32)>,
}

impl Token {
    /// The text, and which part of it where it is shared: ` 東 2/3`.
    pub fn name(&self) -> String {
        match self.part {
            (_, 1) => self.text.clone(),
            (part, of) => format!("{} {}/{of}", self.text, part + 1),
        }
    }
}

/// The rows of one sentence at one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct SentenceRows {
    /// Number in the run.
    pub sentence: usize,
    /// The tokens that have rows.
    pub tokens: Vec<Token>,
}

impl SentenceRows {
    /// Joins the tokens of a sentence with `features`, one list for each token that is not BOS. Tokens beyond the lists
    /// have none.
    pub fn new(sentence: usize, text: &str, tokens: &Tokens, mut features: Vec<Vec<(u32, f32)>>) -> SentenceRows {
        let mut shown = Vec::with_capacity(features.len());
        for group in tokens.groups(text) {
            let name = text::visible(&group.text);
            let of = group.tokens.len();
            for (part, position) in group.tokens.enumerate() {
                let token = Token { position: position as u32, text: name.clone(), part: (part, of), features: vec![] };
                shown.push((tokens.bos[position], token));
            }
        }
        let mut tokens: Vec<Token> = shown.into_iter().filter(|(bos, _)| !bos).map(|(_, token)| token).collect();
        for (token, features) in tokens.iter_mut().zip(&mut features) {
            features.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            token.features = std::mem::take(features);
        }
        SentenceRows { sentence, tokens }
    }

    /// The index of the token at this position of the sentence.
    pub fn index_of(&self, position: u32) -> Option<usize> {
        self.tokens.iter().position(|token| token.position == position)
    }
}

/// What stands around a chart and what it may say.
pub struct Frame<'a> {
    /// Width of the picture.
    pub width: f64,
    /// Whether the chart stands in a page that says itself what it is: without margin, title and legend.
    pub bare: bool,
    /// Where the numbers come from, such as model and hook.
    pub source: String,
    /// What is known of a feature of the layer, to be read beside its id.
    pub label: &'a dyn Fn(u32) -> Option<String>,
    /// Which tokens the score counts, such as `run`.
    pub scope: String,
}

impl Frame<'_> {
    /// Space around the chart.
    fn margin(&self) -> f64 {
        if self.bare { geometry::BARE_MARGIN } else { geometry::MARGIN }
    }
}

/// The title and the lines below it; where the chart begins.
fn heading(marks: &mut Vec<Mark>, frame: &Frame<'_>, title: &str, below: &str) -> f64 {
    use geometry::*;
    if frame.bare {
        return BARE_MARGIN;
    }
    let room = frame.width - 2.0 * MARGIN;
    // Heavy letters are wider than the table says.
    let title = metrics::fit(title, room / TITLE_SIZE / 1.1);
    marks.push(Text::new(MARGIN, MARGIN + TITLE_SIZE * 0.8, TITLE_SIZE, Paint::TEXT, title).bold().into());
    let mut y = MARGIN + TITLE_SIZE + 6.0;
    for line in [below, &frame.source] {
        y += SMALL_SIZE * 1.45;
        let line = metrics::fit(line, room / SMALL_SIZE);
        marks.push(Text::new(MARGIN, y - SMALL_SIZE * 0.4, SMALL_SIZE, Paint::MUTED, line).into());
    }
    y + GAP * 0.7
}

/// A value in few characters.
pub fn short(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        v if !(0.001..1e6).contains(&v) => format!("{v:.1e}"),
        v if v < 0.1 => format!("{v:.3}"),
        v if v < 10.0 => format!("{v:.2}"),
        v if v < 1000.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

#[cfg(test)]
mod tests;
