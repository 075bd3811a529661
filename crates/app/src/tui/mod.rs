//! `llamascope tui`: a run in the terminal, by keyboard.

mod draw;
mod state;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use llamascope_report::colour::Theme;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use crate::commands::Usage;
use crate::opened::{Opened, StyleArgs};
use crate::show::{Colour, background, depth};
use crate::terminal::cancelled;
use state::State;

/// How often the wait for a key looks up, to see whether the program was asked to end or its terminal is gone.
const LOOK_UP: Duration = Duration::from_millis(200);

#[derive(Args)]
#[command(after_help = "\
Example:
  llamascope tui outputs/run_20260102_030405

Keys: j k sentence, left right (h l) token, up down feature, [ ] layer, Enter follow the feature, n p next and previous \
token where it is active, f follow a feature by its number, / search, x pin, s scope, t theme, Esc back, ? help, q quit.")]
pub struct TuiArgs {
    /// A run folder
    pub run: PathBuf,
    /// Sentence to begin with
    #[arg(long, short, default_value_t = 0)]
    pub sentence: usize,
    /// Layer to begin with [default: the middle one]
    #[arg(long, short = 'L')]
    pub layer: Option<usize>,
    #[command(flatten)]
    pub style: StyleArgs,
    /// Colours of the terminal
    #[arg(long, visible_alias = "color", value_enum, default_value_t)]
    pub colour: Colour,
    /// Background of the terminal, light or dark [default: what COLORFGBG says, else dark]
    #[arg(long)]
    pub theme: Option<Theme>,
}

pub fn tui(args: TuiArgs) -> Result<ExitCode> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Usage("tui needs a terminal; `llamascope show` writes into a file or a pipe".into()).into());
    }
    let style = args.style.style()?;
    let opened = Opened::new(&args.run)?;
    let sentence = opened.sentence(args.sentence)?;
    let layer = opened.layer(args.layer)?.number();
    let theme = args.theme.unwrap_or_else(|| background(std::env::var("COLORFGBG").ok().as_deref()));
    let depth = depth(args.colour, true, |name| std::env::var(name).ok());
    let mut state = State::new(&opened, layer, sentence, args.style.scope, style, theme, depth)?;
    let mut terminal = ratatui::try_init()?;
    let result = look(&mut terminal, &mut state);
    ratatui::restore();
    result?;
    Ok(ExitCode::SUCCESS)
}

/// Draws and takes keys until the user has seen enough, the program is asked to end or the terminal is gone.
fn look(terminal: &mut DefaultTerminal, state: &mut State<'_>) -> Result<()> {
    // crossterm never comes back, at full speed, from reading a terminal that is closed meanwhile: it reads on a thread
    // of its own, which ends with the program.
    let (sender, events) = mpsc::channel();
    std::thread::spawn(move || while sender.send(event::read()).is_ok() {});
    while !state.done() {
        terminal.draw(|frame| draw::draw(frame, state))?;
        let event = loop {
            match events.recv_timeout(LOOK_UP) {
                Ok(event) => break event?,
                Err(RecvTimeoutError::Timeout) if !cancelled() && std::io::stdin().is_terminal() => {}
                Err(_) => return Ok(()),
            }
        };
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => state.press(key)?,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
