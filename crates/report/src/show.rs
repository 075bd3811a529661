//! A sentence in the terminal: its tokens with their strongest features, or the features of one token.

use std::fmt::Write;

use crate::ansi::{Depth, bar, bold, coloured};
use crate::chart::{Order, Scale, SentenceRows, lanes, short};
use crate::colour::Theme;
use crate::paint::{Paint, Paints};
use crate::text;

/// Columns of a bar in the table of tokens.
const LANE_BAR: usize = 6;
/// Columns of an id: 131,072 features have six digits.
const ID: usize = 6;
/// Columns between two lanes.
const LANE_GAP: usize = 2;
/// Widest token.
const TOKEN_MOST: usize = 18;
/// Columns of a value or a score.
const NUMBER: usize = 8;
/// Fewest columns that are written for.
const COLUMNS_LEAST: usize = 48;

/// What is written on.
pub struct Screen<'a> {
    /// Its columns.
    pub columns: usize,
    /// Its colours.
    pub depth: Depth,
    /// Its background.
    pub theme: Theme,
    /// What is known of a feature of the layer.
    pub label: &'a dyn Fn(u32) -> Option<String>,
}

impl Screen<'_> {
    fn columns(&self) -> usize {
        self.columns.max(COLUMNS_LEAST)
    }

    fn muted(&self, text: &str) -> String {
        coloured(text, Paint::MUTED.on(self.theme), self.depth)
    }
}

/// A token a line, with as many of its `top_k` strongest features as fit.
pub fn sentence(rows: &SentenceRows, paints: &Paints, screen: &Screen<'_>, top_k: usize, order: Order) -> String {
    let token = |text: &str| text::fit(text, TOKEN_MOST);
    let widest = rows.tokens.iter().map(|t| text::width(&token(&t.name()))).max().unwrap_or(0).max("token".len());
    let left = 4 + 1 + widest + 1 + "active".len() + LANE_GAP;
    let lane = LANE_BAR + 1 + ID;
    let count = ((screen.columns().saturating_sub(left) + LANE_GAP) / (lane + LANE_GAP)).clamp(1, top_k.max(1));
    let strongest = |features: &[(u32, f32)]| features.iter().take(count).map(|f| f.0).collect::<Vec<_>>();
    let columns = match order {
        Order::Aligned => lanes(&rows.tokens.iter().map(|t| strongest(&t.features)).collect::<Vec<_>>(), count),
        Order::Value => rows.tokens.iter().map(|t| strongest(&t.features).into_iter().map(Some).collect()).collect(),
    };
    let scale = Scale::of(rows.tokens.iter().filter_map(|token| Some(f64::from(token.features.first()?.1))));
    let mut out = String::new();
    let head = format!("{:>4} {}{} active", "pos", "token", " ".repeat(widest - "token".len()));
    let rest = format!(
        "  the {count} strongest; a full bar is {}{}",
        short(scale.full),
        if scale.cut { ", + is more" } else { "" }
    );
    let _ = writeln!(out, "{}", screen.muted(&text::fit(&(head + &rest), screen.columns())));
    for (row, columns) in rows.tokens.iter().zip(columns) {
        let name = token(&row.name());
        let blank = " ".repeat(widest - text::width(&name));
        let (position, active) = (format!("{:>4}", row.position), format!("{:>6}", row.features.len()));
        let mut line =
            format!("{} {}{blank} {}", screen.muted(&position), bold(&name, screen.depth), screen.muted(&active));
        let mut pending = 0;
        for id in columns {
            pending += LANE_GAP;
            let Some(id) = id else {
                pending += lane;
                continue;
            };
            let value = row.features.iter().find(|f| f.0 == id).map_or(0.0, |f| f64::from(f.1));
            let drawn = bar(scale.length(value), LANE_BAR);
            let gap = LANE_BAR - text::width(&drawn);
            let more = if scale.exceeds(value) { "+" } else { " " };
            let colour = paints.of(id, screen.theme);
            let id = format!("{}{more}{id:<ID$}", " ".repeat(gap));
            let _ = write!(line, "{}{}{id}", " ".repeat(pending), coloured(&drawn, colour, screen.depth));
            pending = 0;
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// A feature a line, the strongest first.
///
/// # Panics
/// When the sentence has no token with this index.
pub fn token(rows: &SentenceRows, index: usize, paints: &Paints, screen: &Screen<'_>, top_k: usize) -> String {
    let token = &rows.tokens[index];
    let shown = &token.features[..token.features.len().min(top_k)];
    let mut out = String::new();
    let active = format!("  token {}, {} active features", token.position, token.features.len());
    let name = text::fit(&token.name(), screen.columns() - text::width(&active));
    let _ = writeln!(out, "{}{}", bold(&name, screen.depth), screen.muted(&active));
    let labels: Vec<_> = shown.iter().map(|(id, _)| (screen.label)(*id).unwrap_or_default()).collect();
    let labels: Vec<_> = labels.iter().map(|label| text::plain(label)).collect();
    let widest = labels.iter().map(|label| text::width(label)).max().unwrap_or(0).min(screen.columns() / 3);
    let labelled = if widest == 0 { 0 } else { widest + 1 };
    let room = screen.columns().saturating_sub(ID + 1 + labelled + 2 * NUMBER).max(1);
    let head = format!("{:>ID$} {}{:>NUMBER$}{:>NUMBER$}", "id", " ".repeat(labelled + room), "value", "score");
    let _ = writeln!(out, "{}", screen.muted(&head));
    let full = shown.first().map_or(1.0, |f| f64::from(f.1));
    for ((id, value), label) in shown.iter().zip(labels) {
        let value = f64::from(*value);
        let label = text::fit(&label, widest);
        let label =
            if labelled == 0 { String::new() } else { format!("{label}{} ", " ".repeat(widest - text::width(&label))) };
        let drawn = bar(value / full, room);
        let gap = " ".repeat(room - text::width(&drawn));
        let numbers = format!("{:>NUMBER$}{:>NUMBER$}", short(value), short(paints.score().of(*id)));
        let _ = writeln!(
            out,
            "{id:>ID$} {}{}{gap}{}",
            screen.muted(&label),
            coloured(&drawn, paints.of(*id, screen.theme), screen.depth),
            screen.muted(&numbers)
        );
    }
    if shown.len() < token.features.len() {
        let more = format!("{:>ID$} {} more", "", token.features.len() - shown.len());
        let _ = writeln!(out, "{}", screen.muted(&more));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::Token;
    use crate::paint::Style;
    use crate::score::Score;

    fn rows() -> SentenceRows {
        let token = |position, text: &str, features: &[(u32, f32)]| Token {
            position,
            text: text.into(),
            part: (0, 1),
            features: features.into(),
        };
        let tokens = vec![
            token(1, "東京", &[(104, 4.0), (982, 2.0)]),
            token(2, "·is", &[(982, 2.0), (104, 1.0), (7, 0.5)]),
            token(3, "·a·token·longer·than·any·column", &[]),
        ];
        SentenceRows { sentence: 0, tokens }
    }

    fn paints() -> Paints {
        let mut score = Score::default();
        for token in rows().tokens {
            let (ids, vals): (Vec<_>, Vec<_>) = token.features.into_iter().unzip();
            score.add(&ids, &vals);
        }
        Paints::new(Style::default(), 0, &score, score.clone())
    }

    fn label(id: u32) -> Option<String> {
        (id == 982).then(|| "都市の名前\x1b[2J".into())
    }

    fn screen(columns: usize, depth: Depth) -> Screen<'static> {
        Screen { columns, depth, theme: Theme::Dark, label: &label }
    }

    #[test]
    fn tokens_are_lines_and_features_columns() {
        let shown = sentence(&rows(), &paints(), &screen(70, Depth::None), 8, Order::Aligned);
        let expected = "\x20pos token              active  the 2 strongest; a full bar is 4.00
   1 東京                    2  ██████ 104     ███    982
   2 ·is                     3  █▌     104     ███    982
   3 ·a·token·longer·t…      0
";
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_token_has_its_features_with_labels() {
        let shown = token(&rows(), 1, &paints(), &screen(50, Depth::None), 2);
        let expected = "\
·is  token 2, 3 active features
    id                               value   score
   982 都市の名前␛[2J ████████████    2.00    66.3
   104                ██████          1.00    66.3
       1 more
";
        assert_eq!(shown, expected);
    }

    #[test]
    fn lines_fit_the_screen_whatever_its_width() {
        for columns in [0, 40, 41, 55, 80, 133, 300] {
            let screen = screen(columns, Depth::None);
            let tables = [
                sentence(&rows(), &paints(), &screen, 20, Order::Value),
                token(&rows(), 0, &paints(), &screen, 9),
                token(&rows(), 2, &paints(), &screen, 9),
            ];
            for line in tables.concat().lines() {
                assert!(text::width(line) <= columns.max(COLUMNS_LEAST), "{columns}: {line}");
            }
        }
    }

    #[test]
    fn colour_only_adds_colour() {
        let coloured = sentence(&rows(), &paints(), &screen(80, Depth::True), 8, Order::Aligned);
        let mut plain = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, code)) = rest.split_once('\x1b') {
            plain += before;
            rest = code.split_once('m').unwrap().1;
        }
        plain += rest;
        let expected = sentence(&rows(), &paints(), &screen(80, Depth::None), 8, Order::Aligned);
        let trimmed = |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
        assert_eq!(trimmed(&plain), trimmed(&expected));
        assert!(coloured.contains("\x1b[38;2;"));
    }
}
