//! The sentence as a strip of tokens, the chosen one marked.

use super::geometry::*;
use super::{Frame, SentenceRows, Token};
use crate::paint::Paint;
use crate::scene::{Group, Mark, Text, metrics};

/// One piece of text: the tokens `first..first + count` that it stands for, and its width.
struct Chip {
    first: usize,
    count: usize,
    text: String,
    width: f64,
}

/// Draws the strip from `top` on; the height that it takes.
pub fn strip(marks: &mut Vec<Mark>, rows: &SentenceRows, chosen: Option<usize>, top: f64, frame: &Frame<'_>) -> f64 {
    let margin = frame.margin();
    let room = frame.width - 2.0 * margin;
    let chips = chips(&rows.tokens);
    let lines = lines(&chips, room);
    let holds = |chip: &Chip| chosen.is_some_and(|index| (chip.first..chip.first + chip.count).contains(&index));
    let chosen_line = lines.iter().position(|line| chips[line.clone()].iter().any(holds)).unwrap_or(0);
    let first = chosen_line.saturating_sub(STRIP_LINES / 2).min(lines.len().saturating_sub(STRIP_LINES));
    let shown = &lines[first..lines.len().min(first + STRIP_LINES)];
    let mut y = top;
    for line in shown {
        let mut x = margin;
        for chip in &chips[line.clone()] {
            let (fill, ink) = if holds(chip) { (Paint::TEXT, Paint::GROUND) } else { (Paint::EMPTY, Paint::TEXT) };
            let baseline = y + CHIP_HEIGHT / 2.0 + TEXT_SIZE * 0.36;
            let text = Text::new(x + chip.width / 2.0, baseline, TEXT_SIZE, ink, chip.text.clone()).middle();
            let token = &rows.tokens[chip.first];
            marks.push(Mark::Group(Group {
                token: Some(token.position),
                title: token.text.clone(),
                marks: vec![Mark::round(x, y, chip.width, CHIP_HEIGHT, RADIUS, fill), text.into()],
                ..Group::default()
            }));
            x += chip.width + CHIP_GAP;
        }
        y += CHIP_LINE;
    }
    if shown.len() < lines.len() {
        let (from, to) = (first + 1, first + shown.len());
        let note = format!("lines {from} to {to} of the sentence's {}", lines.len());
        marks.push(Text::new(margin, y + SMALL_SIZE * 0.9, SMALL_SIZE, Paint::MUTED, note).into());
        y += SMALL_SIZE * 1.6;
    }
    y - top
}

/// Tokens that share a text are one chip.
fn chips(tokens: &[Token]) -> Vec<Chip> {
    let mut chips: Vec<Chip> = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        if token.part.0 > 0 && index > 0 {
            let last = chips.last_mut().expect("a first part stands before the second");
            last.count += 1;
            continue;
        }
        let text = metrics::fit(&token.text, (CHIP_MOST - 2.0 * CHIP_PAD) / TEXT_SIZE);
        let width = metrics::width(&text) * TEXT_SIZE + 2.0 * CHIP_PAD;
        chips.push(Chip { first: index, count: 1, text, width });
    }
    chips
}

/// The chips of each line.
fn lines(chips: &[Chip], room: f64) -> Vec<std::ops::Range<usize>> {
    let (mut lines, mut first, mut filled) = (Vec::new(), 0, 0.0);
    for (index, chip) in chips.iter().enumerate() {
        if index > first && filled + chip.width > room {
            lines.push(first..index);
            (first, filled) = (index, 0.0);
        }
        filled += chip.width + CHIP_GAP;
    }
    if first < chips.len() {
        lines.push(first..chips.len());
    }
    lines
}
