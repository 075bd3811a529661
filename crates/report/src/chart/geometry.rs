//! Where things stand in every chart, in pixels. The web page repeats these numbers.

/// Width of a chart where none is asked for.
pub const WIDTH: f64 = 820.0;
/// Narrowest and widest chart that can be asked for.
pub const WIDTHS: (f64, f64) = (360.0, 4000.0);
/// Space around everything.
pub const MARGIN: f64 = 24.0;
/// The same around a chart that stands in a page.
pub const BARE_MARGIN: f64 = 2.0;
/// Space between two parts of a chart.
pub const GAP: f64 = 18.0;

/// Font of the title.
pub const TITLE_SIZE: f64 = 17.0;
/// Font of tokens, and of ids beside bars.
pub const TEXT_SIZE: f64 = 12.5;
/// Font of what is read second.
pub const SMALL_SIZE: f64 = 11.0;
/// Font of ids above the bars of small multiples.
pub const TINY_SIZE: f64 = 9.0;

/// Height of a token in the strip, and of the line it stands on.
pub const CHIP_HEIGHT: f64 = 21.0;
/// Distance of two lines of the strip.
pub const CHIP_LINE: f64 = 26.0;
/// Space inside a token on either side of its text.
pub const CHIP_PAD: f64 = 4.5;
/// Space between two tokens.
pub const CHIP_GAP: f64 = 2.0;
/// Widest token.
pub const CHIP_MOST: f64 = 220.0;
/// Most lines of the strip; of a longer sentence the part around the chosen token is shown.
pub const STRIP_LINES: usize = 4;

/// Distance of two bars of a token.
pub const BAR_ROW: f64 = 22.0;
/// Thickness of a bar.
pub const BAR_HEIGHT: f64 = 14.0;
/// Radius of the corners of bars, cells and chips.
pub const RADIUS: f64 = 2.5;
/// Space between a bar and what is written beside it.
pub const BAR_PAD: f64 = 7.0;
/// Largest share of the width that labels take.
pub const LABEL_SHARE: f64 = 0.36;

/// Height of a token's row in small multiples.
pub const LANE_ROW: f64 = 27.0;
/// Thickness of their bars.
pub const LANE_BAR: f64 = 11.0;
/// Space between two lanes.
pub const LANE_GAP: f64 = 7.0;
/// Narrowest lane: an id of five digits fits.
pub const LANE_LEAST: f64 = 34.0;
/// Widest column of tokens.
pub const TOKEN_MOST: f64 = 130.0;

/// Height of a layer's row in the heatmap.
pub const CELL_HEIGHT: f64 = 24.0;
/// Narrowest and widest cell.
pub const CELL_WIDTHS: (f64, f64) = (9.0, 56.0);
/// Narrowest cell with a number in it.
pub const CELL_NUMBER: f64 = 26.0;
/// How far things that touch overlap, so that no ground shines through.
pub const SEAM: f64 = 0.4;
/// Highest row of tokens under the cells.
pub const FOOT_MOST: f64 = 120.0;

/// Size of the legend's ramp.
pub const RAMP: (f64, f64) = (192.0, 10.0);
/// Its steps.
pub const RAMP_STEPS: usize = 24;

/// Most tokens of a sentence that one chart shows.
pub const MOST_TOKENS: usize = 400;
/// Most bars of one token.
pub const MOST_BARS: usize = 400;
