//! The state on the screen.

use llamascope_report::ansi::{Depth, bar, nearest256};
use llamascope_report::chart::short;
use llamascope_report::colour::{NEUTRAL_TURN, Rgb};
use llamascope_report::paint::Paint;
use llamascope_report::score::Scope;
use llamascope_report::text;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph};

use super::state::{Mode, State};

/// Most lines of the token strip.
const STRIP_LINES: usize = 4;
/// Most lines of the layers over tokens, two layers each.
const HEAT_LINES: usize = 3;
/// Columns of an id.
const ID: usize = 6;
/// Columns of a number.
const NUMBER: usize = 8;
/// Columns of a token in the layers over tokens.
const HEAT_CELL: usize = 2;

const KEYS: [(&str, &str); 13] = [
    ("j k", "next, previous sentence (PgDn PgUp: ten)"),
    ("h l  ← →", "token"),
    ("↑ ↓", "feature of the token"),
    ("[ ]", "layer"),
    ("Enter", "follow the feature, or stop"),
    ("n p", "next, previous token where it is active"),
    ("f", "follow a feature by its number"),
    ("/", "search in the sentences"),
    ("x", "pin or unpin the feature"),
    ("s", "rarity within the run or the sentence"),
    ("t", "for a light or a dark screen"),
    ("Esc", "let go of the feature, of the search"),
    ("q", "quit"),
];

pub fn draw(frame: &mut Frame<'_>, state: &State<'_>) {
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(Line::from(title(state)).style(Style::new().add_modifier(Modifier::BOLD)), top);
    let list = (middle.width / 3).clamp(16, 44);
    let [left, right] = Layout::horizontal([Constraint::Length(list), Constraint::Min(1)]).areas(middle);
    sentences(frame, state, left);
    let right = Rect { x: right.x + 1, width: right.width.saturating_sub(1), ..right };
    let strip_lines = strip_lines(state, right.width.into());
    let heat_lines = state.heat.len().div_ceil(2).min(HEAT_LINES);
    let [strip_area, heat_area, bars_area, feature_area] = Layout::vertical([
        Constraint::Length(strip_lines.len() as u16 + 1),
        Constraint::Length(heat_lines as u16 + 1),
        Constraint::Min(1),
        Constraint::Length(2),
    ])
    .areas(right);
    frame.render_widget(Paragraph::new(strip_lines), strip_area);
    heat(frame, state, heat_area);
    bars(frame, state, bars_area);
    frame.render_widget(Paragraph::new(feature(state, right.width.into())), feature_area);
    frame.render_widget(Line::from(prompt(state, bottom.width.into())).style(muted(state)), bottom);
    if state.mode == Mode::Help {
        help(frame, state, middle);
    }
}

/// A colour as far as the terminal has it.
fn colour(state: &State<'_>, rgb: Rgb) -> Color {
    let [r, g, b] = rgb.0;
    match state.depth {
        Depth::None => Color::Reset,
        Depth::Ansi256 => Color::Indexed(nearest256(rgb)),
        Depth::True => Color::Rgb(r, g, b),
    }
}

fn muted(state: &State<'_>) -> Style {
    Style::new().fg(colour(state, Paint::MUTED.on(state.theme)))
}

fn title(state: &State<'_>) -> String {
    let name =
        state.opened.index.path().file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let layers = state.opened.index.layers();
    let place = layers.iter().position(|layer| layer.number() == state.layer.number()).unwrap_or(0) + 1;
    let scope = if state.scope == Scope::Sentence { "sentence" } else { "run" };
    let search =
        state.found.as_ref().map_or_else(String::new, |(typed, found)| format!(" · /{typed}: {}", found.len()));
    let text = format!(
        "{name} · layer {} ({place} of {}) · sentence {} of {} · rarity in the {scope}{search}",
        state.layer.number(),
        layers.len(),
        state.sentence,
        state.opened.index.sentences()
    );
    text::plain(&text)
}

fn sentences(frame: &mut Frame<'_>, state: &State<'_>, area: Rect) {
    let block = Block::new().borders(Borders::RIGHT).border_style(muted(state));
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let (height, place) = (usize::from(inside.height), state.place());
    let first = place.saturating_sub(height / 2).min(state.listed().saturating_sub(height));
    let mut lines = Vec::new();
    for at in first..(first + height).min(state.listed()) {
        let Some(sentence) = state.listed_at(at) else { break };
        // One that cannot be read is an empty line here, and an error when it is chosen.
        let says = text::plain(state.opened.index.text(sentence).unwrap_or_default());
        let line = text::fit(&format!("{sentence:>5} {says}"), inside.width.into());
        let chosen = sentence == state.sentence;
        let blank = " ".repeat(usize::from(inside.width).saturating_sub(text::width(&line)));
        let style = if chosen { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        lines.push(Line::styled(line + if chosen { &blank } else { "" }, style));
    }
    frame.render_widget(Paragraph::new(lines), inside);
}

/// The tokens, wrapped; of a long sentence the lines around the chosen token. A token is drawn in the colour of its
/// strongest feature, or only those that have the followed one are.
fn strip_lines<'s>(state: &State<'_>, columns: usize) -> Vec<Line<'s>> {
    let mut lines: Vec<Vec<Span<'s>>> = vec![Vec::new()];
    let (mut filled, mut chosen_line, mut index) = (0, 0, 0);
    while let Some(token) = state.rows.tokens.get(index) {
        let parts = token.part.1.max(1);
        let chosen = (index..index + parts).contains(&state.token);
        let name = if chosen && parts > 1 { state.rows.tokens[state.token].name() } else { token.text.clone() };
        let shown = text::fit(&name, columns.max(1));
        let width = text::width(&shown);
        if filled > 0 && filled + width > columns {
            lines.push(Vec::new());
            filled = 0;
        }
        let all = &state.rows.tokens[index..(index + parts).min(state.rows.tokens.len())];
        let feature = match state.locked {
            Some(id) => all.iter().any(|token| token.features.iter().any(|f| f.0 == id)).then_some(id),
            None => all.last().and_then(|token| token.features.first()).map(|f| f.0),
        };
        let mut style =
            feature.map_or(muted(state), |id| Style::new().fg(colour(state, state.paints.of(id, state.theme))));
        if state.locked.is_some() && feature.is_some() {
            style = style.add_modifier(Modifier::BOLD | Modifier::UNDERLINED);
        }
        if chosen {
            style = style.add_modifier(Modifier::REVERSED);
            chosen_line = lines.len() - 1;
        }
        filled += width;
        lines.last_mut().expect("there is a line").push(Span::styled(shown, style));
        index += parts;
    }
    let first = chosen_line.saturating_sub(STRIP_LINES / 2).min(lines.len().saturating_sub(STRIP_LINES));
    lines.into_iter().skip(first).take(STRIP_LINES).map(Line::from).collect()
}

/// Layers over tokens, two layers a line: the upper half of a cell is one, the lower half the next.
fn heat(frame: &mut Frame<'_>, state: &State<'_>, area: Rect) {
    const LABEL: usize = 9;
    if state.depth == Depth::None {
        return;
    }
    let here = state.heat.iter().position(|(layer, _)| *layer == state.layer.number()).unwrap_or(0);
    let lines = state.heat.len().div_ceil(2);
    let first = (here / 2).saturating_sub(HEAT_LINES / 2).min(lines.saturating_sub(HEAT_LINES));
    let cells = (usize::from(area.width).saturating_sub(LABEL) / HEAT_CELL).max(1);
    let start = state.token.saturating_sub(cells / 2).min(state.rows.tokens.len().saturating_sub(cells));
    let mut drawn = Vec::new();
    for pair in state.heat.chunks(2).skip(first).take(HEAT_LINES) {
        let names: Vec<String> = pair.iter().map(|(layer, _)| layer.to_string()).collect();
        let mut spans = vec![Span::styled(format!("{:<LABEL$}", format!("L{}", names.join("/"))), muted(state))];
        for token in start..(start + cells).min(state.rows.tokens.len()) {
            let of = |which: usize| {
                let amount = pair.get(which).and_then(|(_, cells)| cells.get(token)).copied();
                amount.map(|amount| colour(state, Paint::ramp(NEUTRAL_TURN, amount).on(state.theme)))
            };
            let mut style = Style::new();
            style.fg = of(0);
            style.bg = of(1);
            // The chosen token's cell is narrower, so that it stands out in any colour.
            let cell = if token == state.token { "▀▌" } else { "▀▀" };
            spans.push(Span::styled(cell, style));
        }
        drawn.push(Line::from(spans));
    }
    frame.render_widget(Paragraph::new(drawn), area);
}

fn bars(frame: &mut Frame<'_>, state: &State<'_>, area: Rect) {
    let features = state.features();
    let (columns, height) = (usize::from(area.width), usize::from(area.height));
    let room_for_text = columns.saturating_sub(ID + 1 + 2 * NUMBER + 1);
    let labels = features.iter().any(|(id, _)| state.opened.label(state.layer.number(), *id).is_some());
    let label_room = if labels { room_for_text / 2 } else { 0 };
    let bar_room = room_for_text.saturating_sub(label_room).max(1);
    let head = format!("{:>ID$} {}{:>NUMBER$}{:>NUMBER$}", "id", " ".repeat(room_for_text), "value", "score");
    let token = state.rows.tokens.get(state.token).map_or_else(String::new, |token| token.name());
    let counted = format!("{} {} active", text::fit(&token, bar_room), features.len());
    let head = format!("{:>ID$} {counted}{}", "id", head.get(ID + 1 + text::width(&counted)..).unwrap_or_default());
    let mut lines = vec![Line::styled(text::fit(&head, columns), muted(state))];
    let full = features.first().map_or(1.0, |(_, value)| f64::from(*value));
    let shown = height.saturating_sub(1);
    let first = state.bar.saturating_sub(shown / 2).min(features.len().saturating_sub(shown));
    for (place, (id, value)) in features.iter().enumerate().skip(first).take(shown) {
        let value = f64::from(*value);
        let drawn = bar(value / full, bar_room);
        let gap = " ".repeat(bar_room - text::width(&drawn));
        let label = state.opened.label(state.layer.number(), *id).unwrap_or_default();
        let label = text::fit(&text::plain(&label), label_room.saturating_sub(1));
        let blank = " ".repeat(label_room - text::width(&label).min(label_room));
        let numbers = format!("{:>NUMBER$}{:>NUMBER$}", short(value), short(state.paints.score().of(*id)));
        let cursor = if place == state.bar { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        let followed = state.locked == Some(*id);
        let id_style = if followed { cursor.add_modifier(Modifier::BOLD | Modifier::UNDERLINED) } else { cursor };
        let dim = state.locked.is_some() && !followed && state.depth == Depth::None;
        let paint = Style::new().fg(colour(state, state.paints.of(*id, state.theme)));
        let paint = if dim { paint.add_modifier(Modifier::DIM) } else { paint };
        lines.push(Line::from(vec![
            Span::styled(format!("{id:>ID$}"), id_style),
            Span::raw(" "),
            Span::styled(label + &blank, muted(state)),
            Span::styled(drawn, paint),
            Span::raw(gap),
            Span::styled(numbers, muted(state)),
        ]));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// What is known of the feature that is followed or under the cursor.
fn feature<'s>(state: &State<'_>, columns: usize) -> Vec<Line<'s>> {
    let Some(id) = state.feature() else { return Vec::new() };
    let points = state.paints.points(id);
    let share = 100.0 * points.tokens as f64 / state.paints.score().tokens().max(1) as f64;
    let followed = if state.locked == Some(id) { "following " } else { "" };
    let says = format!("{followed}feature {id}: active in {} tokens ({}%)", points.tokens, short(share));
    let (score, largest) = (short(state.paints.score().of(id)), short(f64::from(points.max)));
    let swatch = Span::styled("■ ", Style::new().fg(colour(state, state.paints.of(id, state.theme))));
    let label = state.opened.label(state.layer.number(), id).map_or(String::new(), |label| format!(" · {label}"));
    let below = text::fit(&text::plain(&format!("  score {score}, largest {largest}{label}")), columns);
    vec![
        Line::from(vec![swatch, Span::raw(text::fit(&says, columns.saturating_sub(2)))]),
        Line::styled(below, muted(state)),
    ]
}

fn prompt(state: &State<'_>, columns: usize) -> String {
    let says = match &state.mode {
        Mode::Search(typed) => format!("search: {typed}█"),
        Mode::Feature(typed) => format!("feature: {typed}█"),
        _ if !state.message.is_empty() => state.message.clone(),
        _ => "? help  j k sentence  h l token  [ ] layer  Enter follow  / search  q quit".to_owned(),
    };
    text::fit(&text::plain(&says), columns)
}

fn help(frame: &mut Frame<'_>, state: &State<'_>, area: Rect) {
    let (width, height) = (56.min(area.width), (KEYS.len() as u16 + 2).min(area.height));
    let area = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let block = Block::bordered().title(" keys ").border_style(muted(state));
    let lines = KEYS.map(|(keys, what)| Line::from(format!(" {keys:<10} {what}")));
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines.to_vec()).block(block), area);
}
