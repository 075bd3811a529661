//! What colours mean.

use super::Frame;
use super::geometry::*;
use crate::colour::{Hue, NEUTRAL_TURN, Palette, Theme, feature, grey};
use crate::paint::{HueMode, Paint, Paints};
use crate::rarity::RarityScale;
use crate::scene::{Mark, Scene, Text, metrics};

/// Height of the legend of rarity.
const RARITY_HEIGHT: f64 = SMALL_SIZE + RAMP.1 + 2.0 * SMALL_SIZE;

/// Scores that are marked where they have room.
const SCORES: [f64; 10] = [100.0, 50.0, 20.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.1, 0.02];

/// The legend of a chart that ends at `bottom`, unless it stands in a page; the height of the whole picture.
pub fn below(marks: &mut Vec<Mark>, paints: &Paints, frame: &Frame<'_>, bottom: f64) -> f64 {
    if frame.bare {
        return bottom + frame.margin();
    }
    rarity(marks, paints, frame, bottom + GAP);
    bottom + GAP + RARITY_HEIGHT + frame.margin() * 0.6
}

/// The legend alone, for a page with many charts.
pub fn rarity_legend(paints: &Paints, frame: &Frame<'_>) -> Scene {
    let mut marks = Vec::new();
    rarity(&mut marks, paints, frame, frame.margin());
    let height = RARITY_HEIGHT + 2.0 * frame.margin();
    let description = "Colours from common to rare features.".to_owned();
    Scene { width: frame.width, height, title: "What the colours mean".to_owned(), description, marks }
}

/// The ramp from common to rare with the scores that belong to it.
fn rarity(marks: &mut Vec<Mark>, paints: &Paints, frame: &Frame<'_>, top: f64) {
    let margin = frame.margin();
    let style = paints.style();
    let hue = match style.hue {
        HueMode::Slot => "one hue a feature, the most frequent of the run farthest apart",
        HueMode::Id => "one hue a feature, from its id",
        HueMode::Pins => "pinned features in colour, the others grey",
    };
    let scope = match frame.scope.as_str() {
        "run" => "the run".to_owned(),
        "sentence" => "this sentence".to_owned(),
        numbers => format!("sentences {numbers}"),
    };
    let says = format!("{hue}; the deeper the colour, the rarer in {scope}");
    let says = metrics::fit(&says, (frame.width - 2.0 * margin) / SMALL_SIZE);
    marks.push(Text::new(margin, top + SMALL_SIZE * 0.8, SMALL_SIZE, Paint::MUTED, says).into());
    let y = top + SMALL_SIZE * 1.6;
    let step = RAMP.0 / RAMP_STEPS as f64;
    for index in 0..RAMP_STEPS {
        let amount = (index as f64 + 0.5) / RAMP_STEPS as f64;
        let fill = swatch(style.palette, style.hue, amount);
        marks.push(Mark::rect(margin + step * index as f64, y, overlapping(step, index), RAMP.1, fill));
    }
    let baseline = y + RAMP.1 + SMALL_SIZE * 1.05;
    let tick = |x: f64, text: String| Text::new(x, baseline, SMALL_SIZE, Paint::MUTED, text);
    let (mut taken, end) = (f64::NEG_INFINITY, margin + RAMP.0);
    // Whatever is rarer than the end of the scale stands there as well.
    let last = match style.rarity {
        RarityScale::Log => format!("{:.2} or less", crate::rarity::floor(paints.score().tokens())),
        RarityScale::Linear => "0".to_owned(),
        RarityScale::Percentile => "rare".to_owned(),
    };
    let last_start = end - metrics::width(&last) * SMALL_SIZE;
    for score in SCORES {
        let (x, text) = match style.rarity {
            RarityScale::Percentile => (margin, "common".to_owned()),
            _ => (margin + RAMP.0 * paints.rarity_of_score(score), score.to_string()),
        };
        let width = metrics::width(&text) * SMALL_SIZE;
        let left = (x - width / 2.0).max(margin);
        if left >= taken && left + width + 8.0 <= last_start {
            marks.push(tick(left, text).into());
            taken = left + width + 8.0;
        }
    }
    marks.push(tick(end, last).end().into());
    let ends = match style.rarity {
        RarityScale::Log => "frequency score (0 to 100), logarithmic",
        RarityScale::Linear => "frequency score (0 to 100)",
        RarityScale::Percentile => "common to rare, by rank among the features seen",
    };
    let x = margin + RAMP.0 + 12.0;
    let ends = metrics::fit(ends, (frame.width - margin - x) / SMALL_SIZE);
    marks.push(Text::new(x, y + RAMP.1 * 0.9, SMALL_SIZE, Paint::MUTED, ends).into());
}

/// The width of a step of a ramp: a little of it lies under the next, so that no ground shines through.
fn overlapping(step: f64, index: usize) -> f64 {
    if index + 1 < RAMP_STEPS { step + SEAM } else { step }
}

fn swatch(palette: Palette, mode: HueMode, rarity: f64) -> Paint {
    let on = |theme: Theme| match mode {
        HueMode::Pins => grey(theme, rarity),
        _ => feature(theme, palette, Hue::of_slot(0), rarity),
    };
    Paint { light: on(Theme::Light), dark: on(Theme::Dark) }
}

/// A ramp for amounts, with what its two ends are.
pub fn amounts(marks: &mut Vec<Mark>, ends: [&str; 2], says: &str, top: f64, frame: &Frame<'_>) {
    let margin = frame.margin();
    let step = RAMP.0 / RAMP_STEPS as f64;
    let widest = metrics::width(ends[0]) * SMALL_SIZE;
    let left = margin + widest + 6.0;
    for index in 0..RAMP_STEPS {
        let amount = index as f64 / (RAMP_STEPS - 1) as f64;
        let fill = Paint::ramp(NEUTRAL_TURN, amount);
        marks.push(Mark::rect(left + step * index as f64, top, overlapping(step, index), RAMP.1, fill));
    }
    let baseline = top + RAMP.1 * 0.9;
    marks.push(Text::new(margin, baseline, SMALL_SIZE, Paint::MUTED, ends[0]).into());
    let x = left + RAMP.0 + 6.0;
    let says = metrics::fit(&format!("{} {says}", ends[1]), (frame.width - margin - x) / SMALL_SIZE);
    marks.push(Text::new(x, baseline, SMALL_SIZE, Paint::MUTED, says).into());
}
