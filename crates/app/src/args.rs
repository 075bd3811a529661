//! What can be typed. The help is where most people learn the program: it says what each thing is for.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use llamascope_pipeline::config::{
    Choice, DeviceChoice, LayerSelection, Overrides, Precision, parse_memory, parse_threads,
};
use llamascope_sae::Convention;

/// See what a language model is thinking of: runs a Llama over your sentences and writes the few active features of
/// every token, read by pretrained sparse autoencoders (SAEs).
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  llamascope demo                                   a small real model over two dozen sentences
  llamascope run                                    what ./config.yaml says
  llamascope run --model meta-llama/Llama-3.1-8B --sae llama_scope_lxr_8x --layers 0,15,31 --input data/sentences.csv
  llamascope compare outputs/run_A outputs/run_B    how far two runs agree
  llamascope info model.gguf                        what a model, an SAE or a run is

Exit codes: 0 done, 1 failed, 2 bad usage or config, 130 interrupted.";

#[derive(Subcommand)]
pub enum Command {
    /// Sentences in, sparse features out: reads config.yaml, writes a run folder and prints its path.
    Run(RunArgs),
    /// Gets a small real model and runs it over demo/sentences.csv. Needs Python with pip, and nothing else.
    Demo(DemoArgs),
    /// Tells how far two runs agree, layer by layer: sets of active features, and their values.
    Compare(CompareArgs),
    /// Tells what a model, an SAE or a run is.
    Info(InfoArgs),
    /// Makes dictionaries from a model's own activations: each feature is the direction of one token's activation. A
    /// stand-in where no trained SAEs exist; not a substitute for them.
    Dictionary(DictionaryArgs),
}

#[derive(Args)]
#[command(after_help = "\
The config file has the keys model_id, sae_release, dtype, device, layers, input_csvs and output_dir; optional ones are
text_column, sae_convention, memory, threads, truncate and revision. A flag overrides its key. HF_TOKEN is read from the
environment or from .env in the current folder. The last line on stdout is the path of the run folder.")]
pub struct RunArgs {
    /// Config file [default: config.yaml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub settings: Settings,
    /// No progress, no notes, no table: warnings and errors only
    #[arg(long, short)]
    pub quiet: bool,
}

#[derive(Args, Default)]
pub struct Settings {
    /// Hub id, folder in Hugging Face layout, or .gguf file
    #[arg(long, value_name = "ID|PATH")]
    pub model: Option<String>,
    /// SAE release (llama_scope_lxr_8x, ...) or a folder of SAEs
    #[arg(long, value_name = "NAME|PATH")]
    pub sae: Option<String>,
    /// Precision of the model's matrix products: float32, float16 or bfloat16
    #[arg(long, value_parser = Precision::parse)]
    pub dtype: Option<Precision>,
    /// auto, cpu, cuda or mps
    #[arg(long, value_parser = DeviceChoice::parse)]
    pub device: Option<DeviceChoice>,
    /// Layers to analyse: 0,5,9-12 or all
    #[arg(long)]
    pub layers: Option<LayerSelection>,
    /// Input file, .csv, .txt or .jsonl; may be given several times
    #[arg(long, value_name = "FILE")]
    pub input: Vec<PathBuf>,
    /// Where the run folder is made
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
    /// Column (CSV with a header) or key (JSON lines) that holds the sentence
    #[arg(long, value_name = "NAME")]
    pub text_column: Option<String>,
    /// How Llama Scope checkpoints are read: saelens, openmoss or neuronpedia
    #[arg(long, value_name = "NAME")]
    pub sae_convention: Option<Convention>,
    /// Memory budget, such as 4GiB [default: half of what is free]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    pub memory: Option<u64>,
    /// Number of threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = parse_threads)]
    pub threads: Option<NonZeroUsize>,
    /// Cut sentences that are longer than the model's context, instead of refusing them
    #[arg(long)]
    pub truncate: bool,
    /// Branch, tag or commit of the model on the hub
    #[arg(long)]
    pub revision: Option<String>,
}

impl Settings {
    /// The settings that were typed.
    pub fn overrides(self) -> Overrides {
        Overrides {
            model_id: self.model,
            sae_release: self.sae,
            dtype: self.dtype,
            device: self.device,
            layers: self.layers,
            input_csvs: (!self.input.is_empty()).then_some(self.input),
            output_dir: self.output_dir,
            text_column: self.text_column,
            sae_convention: self.sae_convention,
            memory: self.memory,
            threads: self.threads,
            truncate: self.truncate.then_some(true),
            revision: self.revision,
        }
    }
}

#[derive(Args)]
pub struct DemoArgs {
    /// No progress, no notes, no table
    #[arg(long, short)]
    pub quiet: bool,
}

#[derive(Args)]
#[command(after_help = "\
Either folder may also be a bare tree of layer_XX/sentence_XXXX.jsonl, as other programs write it.
Exit code 1 when a requirement is missed, or when the runs differ in their layers, sentences or tokens.")]
pub struct CompareArgs {
    /// A run folder
    pub run_a: PathBuf,
    /// Another one
    pub run_b: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Fail unless every layer's Jaccard index is at least this
    #[arg(long, value_name = "X")]
    pub require_jaccard: Option<f64>,
    /// Fail unless every value differs by at most this, relative to the larger one
    #[arg(long, value_name = "Y")]
    pub require_rel: Option<f64>,
}

#[derive(Args)]
pub struct InfoArgs {
    /// A model (folder, .gguf or hub id), an SAE (folder or release name) or a run folder
    #[arg(value_name = "PATH|ID")]
    pub what: String,
}

#[derive(Args)]
pub struct DictionaryArgs {
    /// Folder in Hugging Face layout, .gguf file, or hub id
    #[arg(long, value_name = "ID|PATH")]
    pub model: String,
    /// Layers, such as 10,20
    #[arg(long)]
    pub layers: LayerSelection,
    /// Text to take activations from: .csv, .txt or .jsonl; may be given several times
    #[arg(long, value_name = "FILE", required = true)]
    pub input: Vec<PathBuf>,
    /// Column or key that holds the text
    #[arg(long, value_name = "NAME")]
    pub text_column: Option<String>,
    /// Where the folders `Exemplar-L{N}R-{E}x` are made
    #[arg(long, value_name = "DIR")]
    pub output_dir: PathBuf,
    /// Features over the model's width
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub expansion: u16,
    /// Active features a token, on average over the text
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub l0: u16,
    /// Read this many tokens of the text at most
    #[arg(long, default_value_t = 20_000)]
    pub tokens: usize,
    /// Number of threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = parse_threads)]
    pub threads: Option<NonZeroUsize>,
    /// No progress and no notes
    #[arg(long, short)]
    pub quiet: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_key_has_its_flag() {
        let command = Cli::command();
        let run = command.find_subcommand("run").expect("there is a run command");
        for (key, flag) in llamascope_pipeline::config::KEYS {
            let found = run.get_arguments().any(|arg| arg.get_long() == Some(flag.trim_start_matches("--")));
            assert!(found, "{key}: {flag}");
        }
    }
}
