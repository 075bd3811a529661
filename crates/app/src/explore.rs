//! `llamascope explore`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use llamascope_pipeline::config::{Choice, LayerSelection, Precision, parse_threads};
use llamascope_pipeline::explore::{ExploreSpec, Keep, Written, explore as look};
use llamascope_sae::Convention;

use crate::commands::print_line;
use crate::machine;
use crate::terminal::{Terminal, say};

const HELP: &str = "\
Example:
  llamascope explore --model model.gguf --sae saes --layers 10,20 --input corpus.txt
  llamascope view

A run over a few sentences shows a feature in a few places only. This reads a large text once and keeps for each feature \
the contexts in which it is strongest, how often it is active, the tokens it is active on most, and the tokens that it \
promotes. The result is one small file for each layer, beside the SAE or in --output-dir. `llamascope view` finds it by \
the content of the SAE (not by names) for every run with that SAE, beside the SAE, in the run's own folder, or where \
`--explored` says, and shows it on the feature's page as `In a large corpus`.

Tokens of massive length (more than ten times the median) and BOS are left out. docs/exploring.md has the rest. Paths of \
the files go to stdout, one a line; all else to stderr.";

#[derive(Args)]
#[command(after_help = HELP)]
pub struct ExploreArgs {
    /// Model: folder in Hugging Face layout, .gguf file, or hub id
    #[arg(long, value_name = "ID|PATH")]
    pub model: String,
    /// SAEs: release name or folder
    #[arg(long, value_name = "NAME|PATH")]
    pub sae: String,
    /// Layers to explore: 0,5,9-12 or all
    #[arg(long, default_value = "all")]
    pub layers: LayerSelection,
    /// Text, one document a line: .txt, .csv or .jsonl; may be given several times
    #[arg(long, value_name = "FILE", required = true)]
    pub input: Vec<PathBuf>,
    /// Column or key that holds the text
    #[arg(long, value_name = "NAME")]
    pub text_column: Option<String>,
    /// Read this many tokens of the text at most [default: all]
    #[arg(long, value_name = "N")]
    pub tokens: Option<u64>,
    /// Most tokens of a context
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub context: usize,
    /// Contexts to keep of each feature
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub contexts: u16,
    /// Tokens to keep before the strongest one of a context; half as many are kept behind it
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u16).range(0..=200))]
    pub window: u16,
    /// Folder to write into [default: each SAE's own]
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
    /// Reading of Llama Scope files: saelens, openmoss or neuronpedia; that of the runs which are to show the result
    #[arg(long, value_name = "NAME", default_value = "saelens")]
    pub sae_convention: Convention,
    /// Precision of the model: float32, float16 or bfloat16
    #[arg(long, value_parser = Precision::parse, default_value = "float32")]
    pub dtype: Precision,
    /// Number of threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = parse_threads)]
    pub threads: Option<NonZeroUsize>,
    /// Branch, tag or commit of the model on the hub [default: main]
    #[arg(long)]
    pub revision: Option<String>,
    /// No progress and no notes
    #[arg(long, short)]
    pub quiet: bool,
}

/// Explores, and tells what was written.
pub fn explore(args: ExploreArgs) -> Result<ExitCode> {
    let window = usize::from(args.window);
    let spec = ExploreSpec {
        model: args.model,
        revision: args.revision,
        sae: args.sae,
        layers: args.layers,
        convention: args.sae_convention,
        files: args.input,
        text_column: args.text_column,
        tokens: args.tokens,
        context: args.context,
        keep: Keep { contexts: args.contexts.into(), before: window, after: window / 2, ..Keep::default() },
        dtype: args.dtype,
        threads: args.threads,
        output: args.output_dir,
    };
    let terminal = Terminal::new(args.quiet);
    let written = look(&spec, &machine::surroundings()?, &terminal);
    terminal.finish();
    for file in written? {
        if !args.quiet {
            say(&told(&file));
        }
        print_line(&file.path.display().to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn told(file: &Written) -> String {
    let Written { layer, seen, d_sae, rows, l0_mean, bytes, .. } = file;
    let size = bytes.div_ceil(1024);
    format!("layer {layer}: {seen} of {d_sae} features active in {rows} tokens, {l0_mean:.1} a token; {size} KiB")
}
