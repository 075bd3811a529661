//! A run that was opened to be looked at: its index, and what is known of its features.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use llamascope_pipeline::config::LayerSelection;
use llamascope_pipeline::labels;
use llamascope_record::index::{LayerIndex, RunIndex};
use llamascope_record::labels::Labels;
use llamascope_report::chart::SentenceRows;
use llamascope_report::colour::{PINS, Palette};
use llamascope_report::gather;
use llamascope_report::paint::{HueMode, Style};
use llamascope_report::rarity::RarityScale;
use llamascope_report::score::Scope;

use crate::commands::Usage;
use crate::machine;
use crate::terminal::say;

/// How features are coloured, as far as every command has it.
#[derive(Args)]
pub struct StyleArgs {
    /// Tokens that the score counts: run, sentence, or sentences such as 0-9,12
    #[arg(long, default_value = "run")]
    pub scope: Scope,
    /// Hue of a feature: slot (best told apart in this run), id (the same in every run) or pins (pinned ones only)
    #[arg(long, default_value = "slot", value_name = "MODE")]
    pub hue: HueMode,
    /// Give this feature a colour that stands out; up to eight times
    #[arg(long, value_name = "FEATURE")]
    pub pin: Vec<u32>,
    /// From score to depth of colour: log, linear or percentile
    #[arg(long, default_value = "log", value_name = "SCALE")]
    pub rarity: RarityScale,
    /// oklch (even, readable) or hsv (the familiar rainbow, uneven in lightness)
    #[arg(long, default_value = "oklch", value_name = "NAME")]
    pub palette: Palette,
}

impl StyleArgs {
    /// The style; more pins than there are colours cannot be meant.
    pub fn style(&self) -> Result<Style, Usage> {
        if self.pin.len() > PINS {
            return Err(Usage(format!("--pin: {} features, but there are colours for {PINS}", self.pin.len())));
        }
        Ok(Style { palette: self.palette, hue: self.hue, rarity: self.rarity, pins: self.pin.clone() })
    }
}

/// A run to be looked at.
pub struct Opened {
    pub index: RunIndex,
    labels: Labels,
}

impl Opened {
    /// Opens a run; its index is built first where there is none.
    pub fn new(run: &Path) -> Result<Opened> {
        let index = RunIndex::open_or_build(run, machine::index_cache().as_deref(), &())?;
        let layers = index.layers().iter().map(LayerIndex::number);
        let labels = labels::for_run(run, index.manifest(), layers)?;
        Ok(Opened { index, labels })
    }

    /// What is known of a feature.
    pub fn label(&self, layer: usize, feature: u32) -> Option<String> {
        self.labels.get(layer, feature).map(str::to_owned)
    }

    /// Says which pinned features the run has at none of these layers: their colour will be looked for in vain.
    pub fn check_pins<'a>(&self, pins: &[u32], layers: impl IntoIterator<Item = &'a LayerIndex>) -> Result<()> {
        let layers: Vec<_> = layers.into_iter().collect();
        for &pin in pins {
            let mut seen = false;
            for layer in &layers {
                seen |= layer.stats(pin)?.is_some();
            }
            if !seen {
                let of: Vec<_> = layers.iter().map(|layer| layer.number().to_string()).collect();
                say(&format!("warning: --pin {pin}: never active in this run (layers: {})", of.join(", ")));
            }
        }
        Ok(())
    }

    /// The layer asked for; the middle one where none is.
    pub fn layer(&self, number: Option<usize>) -> Result<&LayerIndex> {
        let layers = self.index.layers();
        let found = match number {
            Some(number) => self.index.layer(number),
            None => layers.get(layers.len().saturating_sub(1) / 2),
        };
        let all: Vec<_> = layers.iter().map(|layer| layer.number().to_string()).collect();
        found.ok_or_else(|| match number {
            Some(number) => Usage(format!("--layer {number}: the run has the layers {}", all.join(", "))).into(),
            None => anyhow::anyhow!("{}: the run has no layer", self.index.path().display()),
        })
    }

    /// The layers asked for, every one of which is there; none for all.
    pub fn layers(&self, selection: &LayerSelection) -> Result<Vec<usize>> {
        let LayerSelection::Only(numbers) = selection else {
            return Ok(Vec::new());
        };
        numbers.iter().try_for_each(|&number| self.layer(Some(number)).map(|_| ()))?;
        Ok(numbers.iter().copied().collect())
    }

    /// The sentence asked for, if there is one.
    pub fn sentence(&self, number: usize) -> Result<usize, Usage> {
        match self.index.sentences() {
            0 => Err(Usage(format!("{}: the run has no sentence", self.index.path().display()))),
            all if number < all => Ok(number),
            all => Err(Usage(format!("--sentence {number}: the run has the sentences 0 to {}", all - 1))),
        }
    }

    /// The index of the token at this position; without one, of the sentence's last.
    pub fn token(&self, rows: &SentenceRows, position: Option<u32>) -> Result<usize, Usage> {
        let found = match position {
            Some(position) => rows.index_of(position),
            None => rows.tokens.len().checked_sub(1),
        };
        found.ok_or_else(|| match (position, rows.tokens.first(), rows.tokens.last()) {
            (Some(position), Some(first), Some(last)) => Usage(format!(
                "--token {position}: sentence {} has the tokens {} to {}",
                rows.sentence, first.position, last.position
            )),
            _ => Usage(format!("sentence {} has no token", rows.sentence)),
        })
    }

    /// Model and hook, to be read under a picture.
    pub fn source(&self, layer: Option<&LayerIndex>) -> String {
        let model = gather::model(&self.index);
        let hook = layer.map(LayerIndex::hook).unwrap_or_default();
        [model, hook].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
    }
}

/// Writes a file whole or not at all.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut part: PathBuf = path.to_owned();
    part.as_mut_os_string().push(".part");
    let written = std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, path));
    written.map_err(|error| {
        // What is left of a full disk is in the way.
        let _ = std::fs::remove_file(&part);
        anyhow::anyhow!("{}: cannot be written: {error}", path.display())
    })
}
