//! How wide text will be, without asking a font.
//!
//! A picture's bytes may not depend on the fonts of a machine, so widths come from this table: the advances of
//! Helvetica, which Arial and Liberation Sans share. Ideographs fill a square. The rest is an estimate on the wide side.

use unicode_width::UnicodeWidthChar;

/// Advances of the characters from space to `~`, in thousandths of the font's height.
const ASCII: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556, 556, 556,
    556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833,
    722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556,
    556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334,
    260, 334, 584,
];

/// Advance of a narrow character that the table does not have.
const OTHER: f64 = 0.667;
/// How much wider heavy letters are.
const BOLD: f64 = 1.08;

/// The width of a text in heights of its font.
pub fn width(text: &str) -> f64 {
    text.chars().map(advance).sum()
}

/// The width of a text in heavy letters.
pub fn bold_width(text: &str) -> f64 {
    width(text) * BOLD
}

fn advance(c: char) -> f64 {
    match c {
        ' '..='~' => f64::from(ASCII[c as usize - ' ' as usize]) / 1000.0,
        '·' => 0.333,
        '…' | '↵' | '→' => 1.0,
        _ => match c.width() {
            Some(0) => 0.0,
            Some(2) => 1.0,
            _ => OTHER,
        },
    }
}

/// The beginning of `text` in a width of `room` heights of its font; what is cut off leaves a `…`.
pub fn fit(text: &str, room: f64) -> String {
    /// A flood of marks without a width would never fill the room, so characters are counted as well.
    const MOST_CHARS: usize = 4000;
    if text.chars().nth(MOST_CHARS).is_none() && width(text) <= room {
        return text.to_owned();
    }
    let (mut kept, mut filled) = (String::new(), advance('…'));
    for c in text.chars().take(MOST_CHARS) {
        filled += advance(c);
        if filled > room {
            break;
        }
        kept.push(c);
    }
    kept.truncate(kept.trim_end().len());
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_the_table() {
        assert!((width("Paris") - (0.667 + 0.556 + 0.333 + 0.222 + 0.5)).abs() < 1e-9);
        assert!((width("東京e\u{301}") - 2.556).abs() < 1e-9);
        assert!(bold_width("a") > width("a"));
    }

    #[test]
    fn text_is_cut_where_the_room_ends() {
        assert_eq!(fit("Paris", 3.0), "Paris");
        assert_eq!(fit("東京都庁", 3.0), "東京…");
        assert_eq!(fit("a b c d e f g", 3.0), "a b c…");
        assert!(fit(&"\u{301}".repeat(100_000), 9.0).chars().count() < 5000);
    }

    proptest::proptest! {
        #[test]
        fn any_text_fits(text: String, room in 1.0..20.0f64) {
            proptest::prop_assert!(width(&fit(&text, room)) <= room);
        }
    }
}
