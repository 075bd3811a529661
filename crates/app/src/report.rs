//! `llamascope report`: a run as one HTML file.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use llamascope_pipeline::config::LayerSelection;
use llamascope_report::page::{self, Options};
use llamascope_report::score::Scope;

use crate::commands::{Usage, print_line};
use crate::opened::{Opened, StyleArgs, write_whole};
use crate::terminal::say;

#[derive(Args)]
#[command(after_help = "\
Example:
  llamascope report outputs/run_20260102_030405 -o report.html

The file opens from the disk in any browser and asks the network for nothing. Of a large run the first sentences are \
shown, and what was left out is said.")]
pub struct ReportArgs {
    /// A run folder
    pub run: PathBuf,
    /// File to write: .html
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Layers to show: 0,5,9-12 or all
    #[arg(long, default_value = "all")]
    pub layers: LayerSelection,
    /// Sentences to show, such as 0-9,12 [default: all that fit]
    #[arg(long, value_name = "NUMBERS")]
    pub sentences: Option<Scope>,
    /// Most features shown of a token
    #[arg(long, value_name = "K", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=40))]
    pub top_k: u16,
    #[command(flatten)]
    pub style: StyleArgs,
}

pub fn report(args: ReportArgs) -> Result<ExitCode> {
    let style = args.style.style()?;
    let sentences = match args.sentences {
        Some(Scope::Sentence) => return Err(Usage("--sentences: give numbers, such as 0-9,12".into()).into()),
        other => other.unwrap_or_default(),
    };
    let opened = Opened::new(&args.run)?;
    let layers = opened.layers(&args.layers)?;
    let shown = opened.index.layers().iter().filter(|layer| layers.is_empty() || layers.contains(&layer.number()));
    opened.check_pins(&args.style.pin, shown)?;
    let label = |layer, id| opened.label(layer, id);
    let options = Options { layers, sentences, top_k: args.top_k.into(), style, label: &label };
    let report = page::report(&opened.index, &options)?;
    report.left_out.iter().for_each(|text| say(&format!("note: left out {text}")));
    write_whole(&args.output, report.html.as_bytes())?;
    print_line(&args.output.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}
