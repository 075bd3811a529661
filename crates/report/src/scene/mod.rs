//! A picture as a list of marks, without any file format: rectangles, text, paths and groups of them. [`svg`] writes it
//! and [`png`] paints what was written.
//!
//! Lengths are in pixels of CSS, `y` grows downwards. Colours are pairs, one for each theme: the same scene is drawn on
//! light and on dark.

pub mod metrics;
pub mod png;
pub mod svg;

use crate::paint::Paint;

/// Where a text stands relative to its `x`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anchor {
    /// It begins there.
    #[default]
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// One line of text.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// Where [`Anchor`] says.
    pub x: f64,
    /// The baseline.
    pub y: f64,
    /// Height of the font.
    pub size: f64,
    /// Which part of it stands at `x`.
    pub anchor: Anchor,
    /// Heavier letters.
    pub bold: bool,
    /// Turned around its anchor, in degrees, clockwise.
    pub turn: f64,
    /// Colour.
    pub fill: Paint,
    /// What it says. Whatever it is, it remains text.
    pub text: String,
}

/// A mark.
#[derive(Clone, Debug, PartialEq)]
pub enum Mark {
    /// A filled rectangle.
    Rect {
        /// Left edge.
        x: f64,
        /// Upper edge.
        y: f64,
        /// Width.
        width: f64,
        /// Height.
        height: f64,
        /// Radius of its corners.
        radius: f64,
        /// Colour.
        fill: Paint,
    },
    /// A line of text.
    Text(Text),
    /// A line through points.
    Path {
        /// Its points.
        points: Vec<[f64; 2]>,
        /// Colour.
        stroke: Paint,
        /// Thickness.
        width: f64,
    },
    /// Marks that belong together.
    Group(Group),
}

/// Marks that belong together: what they stand for, and what is said of them when they are pointed at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// The feature that it stands for: pictures of a page link them by it.
    pub feature: Option<u32>,
    /// The token that it stands for.
    pub token: Option<u32>,
    /// What is said when it is pointed at.
    pub title: String,
    /// The marks, later ones above.
    pub marks: Vec<Mark>,
}

/// A picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
    /// What the picture is, for those who do not see it.
    pub title: String,
    /// What it shows, in a sentence or two.
    pub description: String,
    /// The marks, later ones above.
    pub marks: Vec<Mark>,
}

impl Mark {
    /// A rectangle with square corners.
    pub fn rect(x: f64, y: f64, width: f64, height: f64, fill: Paint) -> Mark {
        Mark::Rect { x, y, width, height, radius: 0.0, fill }
    }

    /// A rectangle with round corners.
    pub fn round(x: f64, y: f64, width: f64, height: f64, radius: f64, fill: Paint) -> Mark {
        Mark::Rect { x, y, width, height, radius: radius.min(width / 2.0).min(height / 2.0), fill }
    }
}

impl Text {
    /// A text that begins at `x`, on the baseline `y`.
    pub fn new(x: f64, y: f64, size: f64, fill: Paint, text: impl Into<String>) -> Text {
        Text { x, y, size, anchor: Anchor::Start, bold: false, turn: 0.0, fill, text: text.into() }
    }

    /// The same with its middle at `x`.
    pub fn middle(self) -> Text {
        Text { anchor: Anchor::Middle, ..self }
    }

    /// The same, ending at `x`.
    pub fn end(self) -> Text {
        Text { anchor: Anchor::End, ..self }
    }

    /// The same in heavier letters.
    pub fn bold(self) -> Text {
        Text { bold: true, ..self }
    }

    /// The same, turned clockwise.
    pub fn turned(self, degrees: f64) -> Text {
        Text { turn: degrees, ..self }
    }
}

impl From<Text> for Mark {
    fn from(text: Text) -> Mark {
        Mark::Text(text)
    }
}

impl From<Group> for Mark {
    fn from(group: Group) -> Mark {
        Mark::Group(group)
    }
}
