//! `llamascope chart`: one picture of a run, as SVG or PNG.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use llamascope_report::chart::{self, Frame, Metric, Order, geometry};
use llamascope_report::colour::Theme;
use llamascope_report::gather;
use llamascope_report::scene::png::{self, Fonts};
use llamascope_report::scene::{Scene, svg};

use crate::commands::{Usage, print_line};
use crate::opened::{Opened, StyleArgs, write_whole};
use crate::terminal::say;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// The features of one token, sorted by value
    Bars,
    /// The strongest features of every token of the sentence
    Multiples,
    /// Layers over tokens
    Heatmap,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  llamascope chart outputs/run_20260102_030405 --layer 10 --sentence 0 --token 5 -o paris.svg
  llamascope chart outputs/run_20260102_030405 --layer 10 --sentence 3 --theme dark -o sentence.png
  llamascope chart outputs/run_20260102_030405 --sentence 3 --kind heatmap --metric max -o layers.svg

The colour of a feature is the same in every picture of a run. The same run gives the same SVG, byte for byte; a PNG \
depends on the fonts of the machine as well.")]
pub struct ChartArgs {
    /// A run folder
    pub run: PathBuf,
    /// Layer [default: the middle one]
    #[arg(long, short = 'L')]
    pub layer: Option<usize>,
    /// Number of the sentence
    #[arg(long, short)]
    pub sentence: usize,
    /// Position of the token, as token_pos in the run's files says it
    #[arg(long, short)]
    pub token: Option<u32>,
    /// What to draw [default: bars with --token, else multiples]
    #[arg(long, value_enum)]
    pub kind: Option<Kind>,
    /// File to write: .svg or .png
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Most features of a token [default: 25 bars, 10 in multiples]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..=400))]
    pub top_k: Option<u16>,
    #[command(flatten)]
    pub style: StyleArgs,
    /// light or dark
    #[arg(long, default_value = "light")]
    pub theme: Theme,
    /// Width in pixels of CSS, 360 to 4000
    #[arg(long, default_value_t = geometry::WIDTH)]
    pub width: f64,
    /// Order of features in multiples: aligned (what goes on stays in its column) or value
    #[arg(long, default_value = "aligned")]
    pub order: Order,
    /// What the heatmap shows: nnz (active features), max (largest value) or l1 (sum of values)
    #[arg(long, default_value = "nnz")]
    pub metric: Metric,
    /// One scale for all layers of the heatmap; else each has its own, because values grow with depth
    #[arg(long)]
    pub shared_scale: bool,
    /// Pixels of a PNG for one of CSS
    #[arg(long, default_value_t = 2.0)]
    pub scale: f64,
    /// A font file to write a PNG with, before those of the system
    #[arg(long, value_name = "FILE")]
    pub font: Option<PathBuf>,
}

pub fn chart(args: ChartArgs) -> Result<ExitCode> {
    let extension = args.output.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let is_png = match extension.to_ascii_lowercase().as_str() {
        "svg" => false,
        "png" => true,
        _ => return Err(Usage(format!("--output {}: name a file .svg or .png", args.output.display())).into()),
    };
    let (least, most) = geometry::WIDTHS;
    if !(least..=most).contains(&args.width) {
        return Err(Usage(format!("--width {}: from {least} to {most}", args.width)).into());
    }
    if !(0.1..=20.0).contains(&args.scale) {
        return Err(Usage(format!("--scale {}: from 0.1 to 20", args.scale)).into());
    }
    // What can be wrong with fonts is found before the run is read.
    let fonts = if is_png { Some(Fonts::system(args.font.as_deref())?) } else { None };
    let file = svg::file(&draw(&args)?, args.theme);
    match fonts {
        None => write_whole(&args.output, file.as_bytes())?,
        Some(fonts) => {
            let painted = png::paint(&file, args.scale, &fonts)?;
            if !painted.missing.is_empty() {
                let missing: String = painted.missing.iter().take(20).collect();
                say(&format!("warning: no font here has {missing}; --font FILE names one that does (or write .svg)"));
            }
            write_whole(&args.output, &painted.png)?;
        }
    }
    print_line(&args.output.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn draw(args: &ChartArgs) -> Result<Scene> {
    let style = args.style.style()?;
    let kind = args.kind.unwrap_or(if args.token.is_some() { Kind::Bars } else { Kind::Multiples });
    let opened = Opened::new(&args.run)?;
    let sentence = opened.sentence(args.sentence)?;
    let layer = opened.layer(args.layer)?;
    let label = |id| opened.label(layer.number(), id);
    let frame = Frame {
        width: args.width,
        bare: false,
        source: opened.source((kind != Kind::Heatmap).then_some(layer)),
        label: &label,
        scope: args.style.scope.to_string(),
    };
    if kind == Kind::Heatmap {
        let layers = opened.index.layers().iter().filter(|layer| args.layer.is_none_or(|only| only == layer.number()));
        let rows = layers.map(|layer| Ok((layer.number(), gather::sentence_rows(&opened.index, layer, sentence)?)));
        return Ok(chart::heatmap(&rows.collect::<Result<Vec<_>>>()?, args.metric, args.shared_scale, &frame));
    }
    opened.check_pins(&args.style.pin, [layer])?;
    let rows = gather::sentence_rows(&opened.index, layer, sentence)?;
    let paints = gather::paints(&opened.index, layer, &args.style.scope, sentence, style)?;
    if kind == Kind::Multiples {
        return Ok(chart::multiples(&rows, &paints, &frame, args.top_k.unwrap_or(10).into(), args.order));
    }
    let index = opened.token(&rows, args.token)?;
    Ok(chart::bars(&rows, index, &paints, &frame, args.top_k.unwrap_or(25).into()))
}
