//! What is looked at, and what keys do to it.

use anyhow::Result;
use llamascope_record::index::{LayerIndex, Query};
use llamascope_report::ansi::Depth;
use llamascope_report::chart::{Metric, SentenceRows};
use llamascope_report::colour::{PINS, Theme};
use llamascope_report::gather;
use llamascope_report::paint::{Paints, Style};
use llamascope_report::score::Scope;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::opened::Opened;

/// Sentences that one step of a search returns.
const FOUND_AT_ONCE: usize = 10_000;
/// Longest text that is typed.
const TYPED_MOST: usize = 200;

/// What keys mean at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They move.
    Look,
    /// They write a text to search for.
    Search(String),
    /// They write the id of a feature.
    Feature(String),
    /// The keys are explained.
    Help,
}

/// The whole state.
pub struct State<'a> {
    pub opened: &'a Opened,
    pub layer: &'a LayerIndex,
    pub sentence: usize,
    /// Index of the token among those of the sentence that have rows.
    pub token: usize,
    /// Which of the token's features the cursor is on.
    pub bar: usize,
    /// The feature that is followed.
    pub locked: Option<u32>,
    /// The sentences that a search left; all of them without one.
    pub found: Option<(String, Vec<usize>)>,
    pub scope: Scope,
    pub theme: Theme,
    pub depth: Depth,
    pub mode: Mode,
    pub message: String,
    pub rows: SentenceRows,
    pub paints: Paints,
    /// Active features by layer and token, as shares of the layer's usual largest.
    pub heat: Vec<(usize, Vec<f64>)>,
    style: Style,
    done: bool,
}

impl<'a> State<'a> {
    pub fn new(
        opened: &'a Opened,
        layer: usize,
        sentence: usize,
        scope: Scope,
        style: Style,
        theme: Theme,
        depth: Depth,
    ) -> Result<State<'a>> {
        let layer = opened.layer(Some(layer))?;
        let mut state = State {
            opened,
            layer,
            sentence,
            token: 0,
            bar: 0,
            locked: None,
            found: None,
            rows: gather::sentence_rows(&opened.index, layer, sentence)?,
            paints: gather::paints(&opened.index, layer, &scope, sentence, style.clone())?,
            heat: Vec::new(),
            scope,
            theme,
            depth,
            mode: Mode::Look,
            message: String::new(),
            style,
            done: false,
        };
        state.heat = state.heat()?;
        Ok(state)
    }

    pub fn done(&self) -> bool {
        self.done
    }

    /// How many sentences are listed.
    pub fn listed(&self) -> usize {
        self.found.as_ref().map_or(self.opened.index.sentences(), |(_, found)| found.len())
    }

    /// The number of the sentence that stands at `place` in the list.
    pub fn listed_at(&self, place: usize) -> Option<usize> {
        match &self.found {
            Some((_, found)) => found.get(place).copied(),
            None => (place < self.opened.index.sentences()).then_some(place),
        }
    }

    /// Where the sentence stands in the list; where it would, if the search has left it out.
    pub fn place(&self) -> usize {
        match &self.found {
            Some((_, found)) => found.binary_search(&self.sentence).unwrap_or_else(|place| place),
            None => self.sentence,
        }
    }

    /// Features of the token, the strongest first.
    pub fn features(&self) -> &[(u32, f32)] {
        self.rows.tokens.get(self.token).map_or(&[], |token| &token.features)
    }

    /// The feature that is followed, else the one under the cursor.
    pub fn feature(&self) -> Option<u32> {
        self.locked.or_else(|| self.features().get(self.bar).map(|(id, _)| *id))
    }

    /// What a key does. Errors are those of the index; what cannot be done is said in the message.
    pub fn press(&mut self, key: KeyEvent) -> Result<()> {
        self.message.clear();
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            self.done = true;
            return Ok(());
        }
        match self.mode.clone() {
            Mode::Help => self.mode = Mode::Look,
            Mode::Search(typed) => match typing(typed, key.code) {
                Typed::More(typed) => self.mode = Mode::Search(typed),
                Typed::Done(typed) => {
                    self.mode = Mode::Look;
                    self.search(&typed)?;
                }
                Typed::Left => self.mode = Mode::Look,
            },
            Mode::Feature(typed) => match typing(typed, key.code) {
                Typed::More(typed) => self.mode = Mode::Feature(typed),
                Typed::Done(typed) => {
                    self.mode = Mode::Look;
                    self.go_to_feature(&typed)?;
                }
                Typed::Left => self.mode = Mode::Look,
            },
            Mode::Look => self.look(key.code)?,
        }
        Ok(())
    }

    fn look(&mut self, code: KeyCode) -> Result<()> {
        match code {
            KeyCode::Char('q') => self.done = true,
            KeyCode::Char('?') => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Search(String::new()),
            KeyCode::Char('f') => self.mode = Mode::Feature(String::new()),
            KeyCode::Char('j') => self.step_sentence(1)?,
            KeyCode::Char('k') => self.step_sentence(-1)?,
            KeyCode::PageDown => self.step_sentence(10)?,
            KeyCode::PageUp => self.step_sentence(-10)?,
            KeyCode::Char('h') | KeyCode::Left => self.step_token(-1),
            KeyCode::Char('l') | KeyCode::Right => self.step_token(1),
            KeyCode::Home => self.at_token(0),
            KeyCode::End => self.at_token(self.rows.tokens.len().saturating_sub(1)),
            KeyCode::Up => self.bar = self.bar.saturating_sub(1),
            KeyCode::Down => self.bar = (self.bar + 1).min(self.features().len().saturating_sub(1)),
            KeyCode::Char('[') => self.step_layer(-1)?,
            KeyCode::Char(']') => self.step_layer(1)?,
            KeyCode::Enter => {
                let here = self.features().get(self.bar).map(|(id, _)| *id);
                self.locked = if here == self.locked { None } else { here };
            }
            KeyCode::Esc if self.locked.is_some() => self.locked = None,
            KeyCode::Esc => self.found = None,
            KeyCode::Char('n') => self.follow(true)?,
            KeyCode::Char('p') => self.follow(false)?,
            KeyCode::Char('x') => self.pin()?,
            KeyCode::Char('s') => {
                self.scope = if self.scope == Scope::Run { Scope::Sentence } else { Scope::Run };
                self.paint()?;
                self.message =
                    format!("rarity within {}", if self.scope == Scope::Run { "the run" } else { "the sentence" });
            }
            KeyCode::Char('t') => {
                self.theme = if self.theme == Theme::Dark { Theme::Light } else { Theme::Dark };
            }
            _ => {}
        }
        Ok(())
    }

    fn step_sentence(&mut self, by: isize) -> Result<()> {
        let last = self.listed().saturating_sub(1);
        let place = self.place().saturating_add_signed(by).min(last);
        if let Some(sentence) = self.listed_at(place).filter(|&sentence| sentence != self.sentence) {
            self.at_sentence(sentence, 0)?;
        }
        Ok(())
    }

    fn step_token(&mut self, by: isize) {
        let last = self.rows.tokens.len().saturating_sub(1);
        self.at_token(self.token.saturating_add_signed(by).min(last));
    }

    fn at_token(&mut self, token: usize) {
        self.token = token;
        // The cursor stays with the feature that is followed.
        let followed = self.features().iter().position(|(id, _)| Some(*id) == self.locked);
        self.bar = followed.unwrap_or(0);
    }

    fn step_layer(&mut self, by: isize) -> Result<()> {
        let layers = self.opened.index.layers();
        let here = layers.iter().position(|layer| layer.number() == self.layer.number()).unwrap_or(0);
        let next = here.saturating_add_signed(by).min(layers.len() - 1);
        if next != here {
            self.layer = &layers[next];
            // An id of one layer means nothing at another.
            self.locked = None;
            self.style.pins.clear();
            self.paint()?;
            self.rows = gather::sentence_rows(&self.opened.index, self.layer, self.sentence)?;
            self.at_token(self.token);
        }
        Ok(())
    }

    fn at_sentence(&mut self, sentence: usize, token: usize) -> Result<()> {
        if sentence != self.sentence {
            self.sentence = sentence;
            self.rows = gather::sentence_rows(&self.opened.index, self.layer, sentence)?;
            self.heat = self.heat()?;
            if self.scope == Scope::Sentence {
                self.paint()?;
            }
        }
        self.at_token(token);
        Ok(())
    }

    fn paint(&mut self) -> Result<()> {
        let style = self.style.clone();
        self.paints = gather::paints(&self.opened.index, self.layer, &self.scope, self.sentence, style)?;
        Ok(())
    }

    /// Active features by layer and token, each layer on its own scale.
    fn heat(&self) -> Result<Vec<(usize, Vec<f64>)>> {
        let mut heat = Vec::new();
        for layer in self.opened.index.layers() {
            let rows = gather::sentence_rows(&self.opened.index, layer, self.sentence)?;
            let counts: Vec<f64> = rows.tokens.iter().map(|token| Metric::Nnz.of(&token.features)).collect();
            let scale = Metric::Nnz.scale(counts.iter().copied());
            heat.push((layer.number(), counts.into_iter().map(|count| scale.length(count)).collect()));
        }
        Ok(heat)
    }

    fn search(&mut self, typed: &str) -> Result<()> {
        if typed.is_empty() {
            self.found = None;
            return Ok(());
        }
        let query = match Query::text(typed) {
            Ok(query) => query,
            Err(error) => {
                self.message = error.to_string();
                return Ok(());
            }
        };
        let (mut found, mut from) = (Vec::new(), Some(0));
        while let Some(start) = from {
            let page = self.opened.index.search(&query, start, FOUND_AT_ONCE)?;
            found.extend(page.sentences);
            from = page.next;
        }
        self.message = format!("{} sentences with `{typed}`; Esc shows all", found.len());
        if let Some(&first) = found.first() {
            let next = found.iter().copied().find(|&sentence| sentence >= self.sentence).unwrap_or(first);
            self.found = Some((typed.to_owned(), found));
            self.at_sentence(next, 0)?;
        }
        Ok(())
    }

    /// Follows a feature, from where it is strongest.
    fn go_to_feature(&mut self, typed: &str) -> Result<()> {
        let Ok(id) = typed.trim().parse::<u32>() else {
            self.message = format!("`{typed}` is not the number of a feature");
            return Ok(());
        };
        match self.layer.stats(id)? {
            None => self.message = format!("feature {id} is never active at layer {}", self.layer.number()),
            Some(stats) => {
                self.locked = Some(id);
                self.found = None;
                self.at_row(stats.argmax)?;
            }
        }
        Ok(())
    }

    /// To the next or previous token where the feature is active.
    fn follow(&mut self, forward: bool) -> Result<()> {
        let Some(id) = self.feature() else {
            self.message = "this token has no active feature to follow".into();
            return Ok(());
        };
        self.locked = Some(id);
        let here = self.opened.index.rows_of(self.sentence).start + self.token as u32;
        let rows: Vec<u32> = self.layer.postings(id)?.iter().map(|posting| posting.row).collect();
        let next = if forward {
            rows.iter().copied().find(|&row| row > here)
        } else {
            rows.iter().copied().rev().find(|&row| row < here)
        };
        match next {
            Some(row) => {
                self.found = None;
                self.at_row(row)?;
            }
            None => {
                let (which, end) = if forward { ("later", "last") } else { ("earlier", "first") };
                self.message = format!("feature {id} is active in no {which} token; this is the {end}");
            }
        }
        Ok(())
    }

    fn at_row(&mut self, row: u32) -> Result<()> {
        if let Some(place) = self.opened.index.place(row) {
            self.at_sentence(place.sentence, place.nth)?;
        }
        Ok(())
    }

    fn pin(&mut self) -> Result<()> {
        let Some(id) = self.feature() else { return Ok(()) };
        let pins = &mut self.style.pins;
        match pins.iter().position(|&pin| pin == id) {
            Some(place) => {
                pins.remove(place);
            }
            None if pins.len() == PINS => {
                self.message = format!("{PINS} features are pinned already; x on one frees it")
            }
            None => pins.push(id),
        }
        self.paint()
    }
}

/// What became of a text that is typed.
enum Typed {
    More(String),
    Done(String),
    Left,
}

fn typing(mut typed: String, code: KeyCode) -> Typed {
    match code {
        KeyCode::Enter => return Typed::Done(typed),
        KeyCode::Esc => return Typed::Left,
        KeyCode::Backspace => {
            typed.pop();
        }
        KeyCode::Char(c) if typed.chars().count() < TYPED_MOST => typed.push(c),
        _ => {}
    }
    Typed::More(typed)
}
