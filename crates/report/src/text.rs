//! Foreign text on a terminal: what a file or a model says may not move the cursor, hide itself or turn the line around.
//!
//! Widths are those of Unicode Standard Annex 11 (East Asian Width): an ideograph fills two columns.

use std::fmt::Write;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns that `text` fills on a terminal.
pub fn width(text: &str) -> usize {
    text.width()
}

/// `text` on one line, with every character that acts instead of showing written out: `↵` for a newline, `→` for a tab,
/// a control picture for the rest of ASCII's controls, `\u{202e}` and the like for direction overrides, invisible
/// characters and line separators.
pub fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push('↵'),
            '\t' => shown.push('→'),
            '\x7f' => shown.push('␡'),
            '\0'..='\x1f' => shown.extend(char::from_u32(0x2400 + c as u32)),
            _ if acts(c) => drop(write!(shown, "\\u{{{:x}}}", c as u32)),
            _ => shown.push(c),
        }
    }
    shown
}

/// As [`plain`], and spaces become `·`: for tokens, of which most begin with one.
pub fn visible(text: &str) -> String {
    plain(text).replace(' ', "·")
}

/// The beginning of `text` in at most `columns` columns; what is cut off leaves a `…`.
pub fn fit(text: &str, columns: usize) -> String {
    // A flood of marks without a width would never fill the columns, so characters are counted as well.
    let most_chars = 4 * columns;
    if text.chars().nth(most_chars).is_none() && width(text) <= columns {
        return text.to_owned();
    }
    let (mut kept, mut filled) = (String::new(), 0);
    for c in text.chars().take(most_chars) {
        filled += c.width().unwrap_or(0);
        if filled >= columns {
            break;
        }
        kept.push(c);
    }
    // Sequences (an emoji and its variation selector) may be wider than the sum of their characters.
    while width(&kept) + 1 > columns && kept.pop().is_some() {}
    kept.push('…');
    kept
}

/// Whether a character beyond ASCII changes the text around it or is invisible: C1 controls, soft hyphen, zero-width
/// and directional formatting characters, line and paragraph separators, annotations, tags.
fn acts(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_written_out() {
        assert_eq!(plain("a b\n\t\r\x1b[31m\x7f"), "a b↵→␍␛[31m␡");
        assert_eq!(
            plain("\u{9b}2J\u{202e}evil\u{2066}\u{200b}\u{feff}"),
            "\\u{9b}2J\\u{202e}evil\\u{2066}\\u{200b}\\u{feff}"
        );
        assert_eq!(plain("東京 é 🦙"), "東京 é 🦙");
        assert_eq!(visible(" the\n"), "·the↵");
    }

    #[test]
    fn text_is_cut_by_columns_and_not_by_characters() {
        assert_eq!(fit("Paris", 5), "Paris");
        assert_eq!(fit("Paris!", 5), "Pari…");
        assert_eq!(fit("東京都庁", 8), "東京都庁");
        assert_eq!(fit("東京都庁", 7), "東京都…");
        assert_eq!(fit("東京都庁", 6), "東京…");
        assert_eq!(fit("", 3), "");
        let marks = "\u{301}".repeat(100_000);
        assert!(fit(&marks, 10).len() < 100);
        let hearts = "❤\u{fe0f}".repeat(10);
        assert!(width(&fit(&hearts, 8)) <= 8);
    }

    proptest::proptest! {
        #[test]
        fn any_text_becomes_one_line_that_fits(text: String, columns in 1usize..20) {
            let shown = plain(&text);
            proptest::prop_assert!(!shown.chars().any(|c| c.is_control() || acts(c)));
            proptest::prop_assert!(width(&fit(&shown, columns)) <= columns);
        }
    }
}
