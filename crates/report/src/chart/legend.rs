//! What colours mean.

use super::Frame;
use super::geometry::*;
use crate::colour::{Hue, NEUTRAL_TURN, Palette, Theme, feature, grey};
use crate::paint::{HueMode, Paint, Paints};
use crate::rarity::RarityScale;
use crate::scene::{Mark, Text, metrics};

/// Height of the legend of rarity.
pub const RARITY_HEIGHT: f64 = SMALL_SIZE + RAMP.1 + 2.0 * SMALL_SIZE;

/// The ramp from common to rare with the scores that belong to it.
pub fn rarity(marks: &mut Vec<Mark>, paints: &Paints, frame: &Frame<'_>, top: f64) {
    let style = paints.style();
    let hue = match style.hue {
        HueMode::Slot => "one hue a feature, the strongest of the run farthest apart",
        HueMode::Id => "one hue a feature, from its id",
        HueMode::Pins => "pinned features in colour, the others grey",
    };
    let scope = match frame.scope.as_str() {
        "run" => "the run".to_owned(),
        "sentence" => "this sentence".to_owned(),
        numbers => format!("sentences {numbers}"),
    };
    let says = format!("{hue}; the deeper the colour, the rarer in {scope}");
    let says = metrics::fit(&says, (frame.width - 2.0 * MARGIN) / SMALL_SIZE);
    marks.push(Text::new(MARGIN, top + SMALL_SIZE * 0.8, SMALL_SIZE, Paint::MUTED, says).into());
    let y = top + SMALL_SIZE * 1.6;
    let step = RAMP.0 / RAMP_STEPS as f64;
    for index in 0..RAMP_STEPS {
        let amount = (index as f64 + 0.5) / RAMP_STEPS as f64;
        // A hair wider than the step, so that no seam shows between two of them.
        let width = if index + 1 < RAMP_STEPS { step + 0.5 } else { step };
        marks.push(Mark::rect(MARGIN + step * index as f64, y, width, RAMP.1, swatch(style.palette, style.hue, amount)));
    }
    let baseline = y + RAMP.1 + SMALL_SIZE * 1.05;
    let mut taken = f64::NEG_INFINITY;
    for score in [100.0, 50.0, 20.0, 10.0, 5.0, 2.0, 1.0, 0.1, 0.01] {
        let at = MARGIN + RAMP.0 * paints.rarity_of_score(score);
        let text = crate::chart::short(score);
        let half = metrics::width(&text) * SMALL_SIZE / 2.0;
        // The end of the scale is where everything below it stands as well.
        let beyond = style.rarity == RarityScale::Percentile || at >= MARGIN + RAMP.0 - 1.0;
        if at - half < taken || beyond {
            continue;
        }
        taken = at + half + 8.0;
        marks.push(Text::new(at, baseline, SMALL_SIZE, Paint::MUTED, text).middle().into());
    }
    let ends = match style.rarity {
        RarityScale::Log => "frequency score (0 to 100), logarithmic",
        RarityScale::Linear => "frequency score (0 to 100)",
        RarityScale::Percentile => "common to rare, by rank among the features seen",
    };
    let x = MARGIN + RAMP.0 + 12.0;
    let ends = metrics::fit(ends, (frame.width - MARGIN - x) / SMALL_SIZE);
    marks.push(Text::new(x, y + RAMP.1 * 0.9, SMALL_SIZE, Paint::MUTED, ends).into());
}

fn swatch(palette: Palette, mode: HueMode, rarity: f64) -> Paint {
    let on = |theme: Theme| match mode {
        HueMode::Pins => grey(theme, rarity),
        _ => feature(theme, palette, Hue::of_slot(0), rarity),
    };
    Paint { light: on(Theme::Light), dark: on(Theme::Dark) }
}

/// A ramp for amounts, with what its two ends are.
pub fn amounts(marks: &mut Vec<Mark>, ends: [&str; 2], says: &str, top: f64, width: f64) {
    let step = RAMP.0 / RAMP_STEPS as f64;
    let widest = metrics::width(ends[0]) * SMALL_SIZE;
    let left = MARGIN + widest + 6.0;
    for index in 0..RAMP_STEPS {
        let amount = index as f64 / (RAMP_STEPS - 1) as f64;
        let step_width = if index + 1 < RAMP_STEPS { step + 0.5 } else { step };
        marks.push(Mark::rect(left + step * index as f64, top, step_width, RAMP.1, Paint::ramp(NEUTRAL_TURN, amount)));
    }
    let baseline = top + RAMP.1 * 0.9;
    marks.push(Text::new(MARGIN, baseline, SMALL_SIZE, Paint::MUTED, ends[0]).into());
    let x = left + RAMP.0 + 6.0;
    let says = metrics::fit(&format!("{} {says}", ends[1]), (width - MARGIN - x) / SMALL_SIZE);
    marks.push(Text::new(x, baseline, SMALL_SIZE, Paint::MUTED, says).into());
}
