//! Curves over a common axis: a panel for each quantity, a line for each series.

use super::geometry::*;
use super::short;
use crate::colour::{self, Hue, Palette, Theme};
use crate::paint::Paint;
use crate::scene::{Group, Mark, Scene, Text, metrics};

/// Height of a panel, its title not counted.
const PANEL: f64 = 118.0;
/// Panels side by side.
const ACROSS: usize = 2;
/// Room for the numbers of an axis.
const AXIS: f64 = 46.0;
/// Most points of a line that can be told apart.
const MOST_POINTS: usize = 600;

/// A line.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What it is, such as `layer 10`.
    pub name: String,
    /// Its points, by ascending `x`; those that are not finite are left out.
    pub points: Vec<[f64; 2]>,
}

/// A quantity.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// What is measured.
    pub title: String,
    /// Series in the same order in every panel: it decides on their colours.
    pub series: Vec<Series>,
}

/// Draws the panels, two in a row, over an axis that is named `across`.
pub fn curves(title: &str, below: &str, across: &str, panels: &[Panel], width: f64) -> Scene {
    let mut marks: Vec<Mark> = Vec::new();
    let room = width - 2.0 * MARGIN;
    let heading = Text::new(
        MARGIN,
        MARGIN + TITLE_SIZE * 0.8,
        TITLE_SIZE,
        Paint::TEXT,
        metrics::fit(title, room / TITLE_SIZE / 1.1),
    );
    marks.push(heading.bold().into());
    let mut y = MARGIN + TITLE_SIZE + 6.0 + SMALL_SIZE;
    marks.push(Text::new(MARGIN, y, SMALL_SIZE, Paint::MUTED, metrics::fit(below, room / SMALL_SIZE)).into());
    y += GAP;
    y = key(&mut marks, panels, y, width) + GAP;
    let panel_width = (room - GAP * (ACROSS - 1) as f64) / ACROSS as f64;
    for row in panels.chunks(ACROSS) {
        for (at, shown) in row.iter().enumerate() {
            panel(&mut marks, shown, across, [MARGIN + at as f64 * (panel_width + GAP), y], panel_width);
        }
        y += PANEL + 4.0 * SMALL_SIZE + GAP;
    }
    let names: Vec<&str> = panels.iter().map(|panel| panel.title.as_str()).collect();
    let description = format!("Curves of {} over {across}. {below}.", names.join(", "));
    Scene { width, height: y + MARGIN - GAP, title: title.to_owned(), description, marks }
}

/// The colour of a series.
fn ink(series: usize) -> Paint {
    let on = |theme| colour::feature(theme, Palette::Oklch, Hue::of_slot(series as u32), 1.0);
    Paint { light: on(Theme::Light), dark: on(Theme::Dark) }
}

/// Which colour is which series; where it ends.
fn key(marks: &mut Vec<Mark>, panels: &[Panel], top: f64, width: f64) -> f64 {
    let (mut x, mut y) = (MARGIN, top);
    for (at, series) in panels.first().map_or(&[][..], |panel| &panel.series).iter().enumerate() {
        let long = 18.0 + BAR_PAD + metrics::width(&series.name) * SMALL_SIZE;
        if x + long > width - MARGIN && x > MARGIN {
            (x, y) = (MARGIN, y + SMALL_SIZE * 1.6);
        }
        marks.push(Mark::Path { points: vec![[x, y], [x + 18.0, y]], stroke: ink(at), width: 2.0 });
        let text = Text::new(x + 18.0 + BAR_PAD, y + SMALL_SIZE * 0.36, SMALL_SIZE, Paint::TEXT, series.name.clone());
        marks.push(text.into());
        x += long + GAP;
    }
    y
}

fn panel(marks: &mut Vec<Mark>, panel: &Panel, across: &str, [left, top]: [f64; 2], width: f64) {
    let title = Text::new(left, top + SMALL_SIZE * 0.8, TEXT_SIZE, Paint::TEXT, panel.title.clone());
    marks.push(title.bold().into());
    let finite = |points: &[[f64; 2]]| -> Vec<[f64; 2]> {
        points.iter().copied().filter(|[x, y]| x.is_finite() && y.is_finite()).collect()
    };
    let lines: Vec<Vec<[f64; 2]>> = panel.series.iter().map(|series| finite(&series.points)).collect();
    let all = || lines.iter().flatten();
    let (from, to) = range(all().map(|[x, _]| *x));
    let (low, high) = usual_range(&lines);
    let (x0, y0) = (left + AXIS, top + SMALL_SIZE * 1.6);
    let place = |[x, y]: [f64; 2]| {
        let (along, up) = ((x - from) / (to - from), ((y - low) / (high - low)).clamp(0.0, 1.0));
        [x0 + along * (width - AXIS), y0 + (1.0 - up) * PANEL]
    };
    for share in [0.0, 0.5, 1.0] {
        let (value, y) = (low + share * (high - low), y0 + (1.0 - share) * PANEL);
        marks.push(Mark::Path { points: vec![[x0, y], [left + width, y]], stroke: Paint::GRID, width: 1.0 });
        let number = Text::new(x0 - BAR_PAD, y + SMALL_SIZE * 0.36, SMALL_SIZE, Paint::MUTED, signed(value));
        marks.push(number.end().into());
    }
    for (at, (points, series)) in lines.iter().zip(&panel.series).enumerate() {
        if points.is_empty() {
            continue;
        }
        let step = points.len().div_ceil(MOST_POINTS);
        let mut shown: Vec<[f64; 2]> = points.iter().step_by(step).map(|point| place(*point)).collect();
        let last = points[points.len() - 1];
        shown.push(place(last));
        let line = Mark::Path { points: shown, stroke: ink(at), width: 1.5 };
        let title = format!("{}: {}, at last {}", panel.title, series.name, signed(last[1]));
        marks.push(Group { title, marks: vec![line], ..Group::default() }.into());
    }
    let foot = y0 + PANEL + SMALL_SIZE * 1.5;
    let number = |x: f64, value: f64| Text::new(x, foot, SMALL_SIZE, Paint::MUTED, signed(value));
    marks.push(number(x0, from).into());
    marks.push(Text::new(x0 + (width - AXIS) / 2.0, foot, SMALL_SIZE, Paint::MUTED, across).middle().into());
    marks.push(number(left + width, to).end().into());
}

/// A value in few characters, negative ones too.
fn signed(value: f64) -> String {
    match value {
        v if v < 0.0 => format!("-{}", short(-v)),
        v if v >= 1000.0 && v.fract() == 0.0 && v < 1e7 => format!("{v:.0}"),
        v => short(v),
    }
}

/// The least and the largest number, apart from each other.
fn range(numbers: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = numbers.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    match (low.is_finite(), high > low) {
        (false, _) => (0.0, 1.0),
        (true, true) => (low, high),
        (true, false) => (low - 0.5 * low.abs().max(1.0), low + 0.5 * low.abs().max(1.0)),
    }
}

/// The range of all but the first tenth of each line: how a training begins would flatten the rest.
fn usual_range(lines: &[Vec<[f64; 2]>]) -> (f64, f64) {
    range(lines.iter().flat_map(|line| &line[line.len() / 10..]).map(|[_, y]| *y))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::svg;

    fn series(name: &str, points: Vec<[f64; 2]>) -> Series {
        Series { name: name.into(), points }
    }

    #[test]
    fn curves_are_drawn_whatever_the_numbers_are() {
        let falling = (0..5000).map(|i| [f64::from(i), 100.0 / f64::from(i + 1)]).collect();
        let odd = vec![[0.0, f64::NAN], [1.0, -3.0], [2.0, f64::INFINITY], [3.0, -3.0]];
        let panels = [
            Panel { title: "loss".into(), series: vec![series("layer <5>", falling), series("layer 10", odd)] },
            Panel { title: "L0".into(), series: vec![series("a", vec![]), series("b", vec![[1.0, 50.0]])] },
            Panel { title: "none".into(), series: vec![] },
        ];
        let scene = curves("A training", "4 million tokens", "steps", &panels, WIDTH);
        let file = svg::file(&scene, Theme::Light);
        assert_eq!(file, svg::file(&scene, Theme::Light));
        assert!(!file.contains("NaN") && !file.contains("inf") && file.contains("layer &lt;5&gt;"), "{file}");
        let longest = file.lines().filter(|line| line.starts_with("<path")).map(|line| line.matches('L').count()).max();
        assert!(longest.unwrap() <= MOST_POINTS);
        let document = roxmltree::Document::parse(&file).unwrap();
        assert!(document.descendants().any(|node| node.text() == Some("A training")));
    }

    #[test]
    fn how_a_line_begins_does_not_flatten_the_rest() {
        let line: Vec<[f64; 2]> =
            (0..100).map(|i| [f64::from(i), if i < 5 { 1e6 } else { 1.0 + f64::from(i) }]).collect();
        assert_eq!(usual_range(&[line]), (11.0, 100.0));
        assert_eq!((range([].into_iter()), range([0.0].into_iter())), ((0.0, 1.0), (-0.5, 0.5)));
        assert_eq!([signed(-2.5), signed(4000.0), signed(0.25)], ["-2.50", "4000", "0.25"]);
    }
}
