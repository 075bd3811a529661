//! `llamascope show`: a sentence in the terminal.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use llamascope_report::ansi::{Depth, bold};
use llamascope_report::chart::Order;
use llamascope_report::colour::Theme;
use llamascope_report::gather;
use llamascope_report::show::{self, Screen};
use llamascope_report::text;

use crate::commands::print_line;
use crate::opened::{Opened, StyleArgs};

/// Columns where nobody tells.
const COLUMNS: usize = 100;

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    /// What the terminal says it can; none in a pipe or with NO_COLOR
    #[default]
    Auto,
    /// 24 bits
    True,
    /// The 256 of xterm
    #[value(name = "256")]
    Ansi256,
    /// Text alone
    None,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  llamascope show outputs/run_20260102_030405 -s 0 -L 10
  llamascope show outputs/run_20260102_030405 -s 0 -L 10 --token 5")]
pub struct ShowArgs {
    /// A run folder
    pub run: PathBuf,
    /// Number of the sentence
    #[arg(long, short, default_value_t = 0)]
    pub sentence: usize,
    /// Layer [default: the middle one]
    #[arg(long, short = 'L')]
    pub layer: Option<usize>,
    /// Position of a token: its features alone, with their labels
    #[arg(long, short)]
    pub token: Option<u32>,
    /// Most features of a token [default: 8 of every token, 30 of one]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..))]
    pub top_k: Option<u16>,
    /// Order of features: aligned (what goes on stays in its column) or value
    #[arg(long, default_value = "aligned")]
    pub order: Order,
    #[command(flatten)]
    pub style: StyleArgs,
    /// Colours of the terminal
    #[arg(long, visible_alias = "color", value_enum, default_value_t)]
    pub colour: Colour,
    /// Background of the terminal, light or dark [default: what COLORFGBG says, else dark]
    #[arg(long)]
    pub theme: Option<Theme>,
    /// Columns to fill [default: those of the terminal, 100 in a pipe]
    #[arg(long)]
    pub width: Option<usize>,
}

pub fn show(args: ShowArgs) -> Result<ExitCode> {
    let style = args.style.style()?;
    let opened = Opened::new(&args.run)?;
    let sentence = opened.sentence(args.sentence)?;
    let layer = opened.layer(args.layer)?;
    opened.check_pins(&args.style.pin, [layer])?;
    let rows = gather::sentence_rows(&opened.index, layer, sentence)?;
    let paints = gather::paints(&opened.index, layer, &args.style.scope, sentence, style)?;
    let label = |id| opened.label(layer.number(), id);
    let stdout = console::Term::stdout();
    let screen = Screen {
        columns: args.width.unwrap_or_else(|| stdout.size_checked().map_or(COLUMNS, |(_, columns)| columns.into())),
        depth: depth(args.colour, std::io::stdout().is_terminal(), |name| std::env::var(name).ok()),
        theme: args.theme.unwrap_or_else(|| background(std::env::var("COLORFGBG").ok().as_deref())),
        label: &label,
    };
    let head = format!("sentence {sentence} at layer {}", layer.number());
    let source = opened.source(Some(layer));
    let head = if source.is_empty() { head } else { format!("{head} · {source}") };
    let head = bold(&text::fit(&text::plain(&head), screen.columns), screen.depth);
    let table = match args.token {
        Some(position) => {
            let index = opened.token(&rows, Some(position))?;
            show::token(&rows, index, &paints, &screen, args.top_k.unwrap_or(30).into())
        }
        None => show::sentence(&rows, &paints, &screen, args.top_k.unwrap_or(8).into(), args.order),
    };
    let record = opened.index.sentence(sentence)?.record;
    let says = text::plain(&record.sentence.text);
    print_line(&format!("{head}\n{says}\n\n{}", table.trim_end_matches('\n')))?;
    Ok(ExitCode::SUCCESS)
}

/// The colours to use: as asked for, else as the environment says (no-color.org, `COLORTERM`, `TERM`).
pub fn depth(asked: Colour, is_terminal: bool, env: impl Fn(&str) -> Option<String>) -> Depth {
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    match asked {
        Colour::True => Depth::True,
        Colour::Ansi256 => Depth::Ansi256,
        Colour::None => Depth::None,
        Colour::Auto if !is_terminal || set("NO_COLOR").is_some() => Depth::None,
        Colour::Auto => match (set("COLORTERM").as_deref(), set("TERM").as_deref()) {
            (Some("truecolor" | "24bit"), _) => Depth::True,
            (_, Some("dumb") | None) => Depth::None,
            _ => Depth::Ansi256,
        },
    }
}

/// The background of a terminal that sets `COLORFGBG` (`foreground;background`, numbers of the 16 colours).
pub fn background(colours: Option<&str>) -> Theme {
    let background = colours.and_then(|colours| colours.rsplit(';').next()?.parse::<u8>().ok());
    match background {
        Some(7 | 9..=15) => Theme::Light,
        _ => Theme::Dark,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(is_terminal: bool, vars: &[(&str, &str)]) -> Depth {
        let get = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        depth(Colour::Auto, is_terminal, get)
    }

    #[test]
    fn colours_are_those_that_the_environment_allows() {
        assert_eq!(auto(true, &[("COLORTERM", "truecolor"), ("TERM", "xterm")]), Depth::True);
        assert_eq!(auto(true, &[("TERM", "xterm-256color")]), Depth::Ansi256);
        assert_eq!(auto(true, &[("TERM", "dumb")]), Depth::None);
        assert_eq!(auto(true, &[("COLORTERM", "truecolor"), ("NO_COLOR", "1")]), Depth::None);
        assert_eq!(auto(true, &[("COLORTERM", "24bit"), ("NO_COLOR", "")]), Depth::True);
        assert_eq!(auto(false, &[("COLORTERM", "truecolor")]), Depth::None);
        assert_eq!(depth(Colour::True, false, |_| Some("1".into())), Depth::True);
    }

    #[test]
    fn the_background_is_dark_unless_the_terminal_says_light() {
        let found = [None, Some("15;0"), Some("0;15"), Some("0;default;7"), Some("x")].map(background);
        assert_eq!(found, [Theme::Dark, Theme::Dark, Theme::Light, Theme::Light, Theme::Dark]);
    }
}
