//! Colours and bars of a terminal.

use std::fmt::Write;

use crate::colour::Rgb;

/// How many colours a terminal has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// None: text alone.
    #[default]
    None,
    /// The 256 of xterm.
    Ansi256,
    /// All of them.
    True,
}

/// Levels of the six steps of xterm's colour cube.
const CUBE: [u8; 6] = [0, 95, 135, 175, 215, 255];

/// The number of the nearest of xterm's colours 16 to 255: a cube of 216 and 24 greys.
pub fn nearest256(colour: Rgb) -> u8 {
    let far = |other: [u8; 3]| {
        let part = |i: usize| u32::from(colour.0[i].abs_diff(other[i])).pow(2);
        // The eye is most sensitive to green, least to blue.
        2 * part(0) + 4 * part(1) + 3 * part(2)
    };
    let cube = (0u8..216).map(|n| (16 + n, [n / 36, n / 6 % 6, n % 6].map(|step| CUBE[usize::from(step)])));
    let greys = (0u8..24).map(|n| (232 + n, [8 + 10 * n; 3]));
    cube.chain(greys).min_by_key(|(_, levels)| far(*levels)).map_or(16, |(number, _)| number)
}

/// `text` in a colour, as far as the terminal has it.
pub fn coloured(text: &str, colour: Rgb, depth: Depth) -> String {
    let [r, g, b] = colour.0;
    match depth {
        Depth::None => text.to_owned(),
        Depth::Ansi256 => format!("\x1b[38;5;{}m{text}\x1b[0m", nearest256(colour)),
        Depth::True => format!("\x1b[38;2;{r};{g};{b}m{text}\x1b[0m"),
    }
}

/// Heavier text, where anything but text is wanted.
pub fn bold(text: &str, depth: Depth) -> String {
    if depth == Depth::None { text.to_owned() } else { format!("\x1b[1m{text}\x1b[0m") }
}

/// A bar of `length` (0 to 1) of `columns` columns, to an eighth of a column; never nothing.
pub fn bar(length: f64, columns: usize) -> String {
    let eighths = ((length.clamp(0.0, 1.0) * columns as f64 * 8.0).round() as usize).max(1);
    let mut bar = "█".repeat(eighths / 8);
    if let Some(part) = ["▏", "▎", "▍", "▌", "▋", "▊", "▉"].get((eighths % 8).wrapping_sub(1)) {
        let _ = write!(bar, "{part}");
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::width;

    #[test]
    fn the_nearest_of_256_is_itself_where_it_is_one() {
        for (hex, number) in [(0x000000, 16), (0xffffff, 231), (0xff0000, 196), (0x5f87af, 67), (0x808080, 244)] {
            assert_eq!(nearest256(Rgb::from_hex(hex)), number, "{hex:06x}");
        }
    }

    #[test]
    fn colour_is_left_out_where_there_is_none() {
        let colour = Rgb::from_hex(0x0a141e);
        assert_eq!(coloured("x", colour, Depth::None), "x");
        assert_eq!(coloured("x", colour, Depth::True), "\x1b[38;2;10;20;30mx\x1b[0m");
        assert_eq!(coloured("x", Rgb::from_hex(0xff0000), Depth::Ansi256), "\x1b[38;5;196mx\x1b[0m");
        assert_eq!((bold("x", Depth::None), bold("x", Depth::True)), ("x".into(), "\x1b[1mx\x1b[0m".into()));
    }

    #[test]
    fn bars_have_eighths() {
        assert_eq!([bar(1.0, 3), bar(0.5, 3), bar(0.0, 3), bar(2.0, 2)], ["███", "█▌", "▏", "██"]);
        for step in 0..=100 {
            assert!(width(&bar(f64::from(step) / 100.0, 7)) <= 7);
        }
    }
}
