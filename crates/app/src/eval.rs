//! `llamascope eval`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use llamascope_pipeline::config::{Choice, LayerSelection, Precision, parse_threads};
use llamascope_pipeline::eval::{EvalSpec, evaluate};
use llamascope_sae::Convention;

use crate::commands::print_line;
use crate::machine;
use crate::terminal::Terminal;

const HELP: &str = "\
Example:
  llamascope eval --model model.gguf --sae saes --layers 10,20 --input heldout.txt

Use text that the SAE was not trained on. The text is cut into contexts of --context tokens; each runs through the model \
as it is, and again with the SAE's reconstruction, with the mean row and with zeros in place of the rows at the SAE's \
site. Figures come without BOS and without massive activations (rows longer than ten times the median), which would \
otherwise drown all others; a second table has them with. Those rows keep their own values where they are set apart.

EV is explained variance, NMSE the squared error over the squared length, dead and dense the share of features that are \
never active in this text and in more than a tenth of its tokens; `recovered` is the share of the loss between zeros and \
the plain model that the reconstruction brings back (SAELens' ce_loss_score). Losses are in nats a token. \
docs/evaluation.md has every definition with its source.";

#[derive(Args)]
#[command(after_help = HELP)]
pub struct EvalArgs {
    /// Model: folder in Hugging Face layout, .gguf file, or hub id
    #[arg(long, value_name = "ID|PATH")]
    pub model: String,
    /// SAEs: release name or folder
    #[arg(long, value_name = "NAME|PATH")]
    pub sae: String,
    /// Layers to evaluate: 0,5,9-12 or all
    #[arg(long, default_value = "all")]
    pub layers: LayerSelection,
    /// Text, one document a line: .txt, .csv or .jsonl; may be given several times
    #[arg(long, value_name = "FILE", required = true)]
    pub input: Vec<PathBuf>,
    /// Column or key that holds the text
    #[arg(long, value_name = "NAME")]
    pub text_column: Option<String>,
    /// Read this many tokens of the text at most
    #[arg(long, value_name = "N", default_value_t = 16_384)]
    pub tokens: u64,
    /// Most tokens of a context
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub context: usize,
    /// One reading of Llama Scope files, saelens, openmoss or neuronpedia [default: all that differ for this SAE]
    #[arg(long, value_name = "NAME")]
    pub sae_convention: Option<Convention>,
    /// Precision of the model: float32, float16 or bfloat16
    #[arg(long, value_parser = Precision::parse, default_value = "float32")]
    pub dtype: Precision,
    /// Number of threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = parse_threads)]
    pub threads: Option<NonZeroUsize>,
    /// Branch, tag or commit of the model on the hub [default: main]
    #[arg(long)]
    pub revision: Option<String>,
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
    /// No progress and no notes
    #[arg(long, short)]
    pub quiet: bool,
}

/// Evaluates, and shows what was found.
pub fn eval(args: EvalArgs) -> Result<ExitCode> {
    let spec = EvalSpec {
        model: args.model,
        revision: args.revision,
        sae: args.sae,
        layers: args.layers,
        convention: args.sae_convention,
        files: args.input,
        text_column: args.text_column,
        tokens: args.tokens,
        context: args.context,
        dtype: args.dtype,
        threads: args.threads,
    };
    let terminal = Terminal::new(args.quiet);
    let evaluation = evaluate(&spec, &machine::surroundings()?, &terminal);
    terminal.finish();
    let evaluation = evaluation?;
    let text = if args.json { serde_json::to_string_pretty(&evaluation)? } else { evaluation.to_tables() };
    print_line(text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}
