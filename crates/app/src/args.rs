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
#[command(name = "llamascope", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  llamascope demo                        a small real model over two dozen sentences
  llamascope run                         what ./config.yaml says
  llamascope run --layers 0,15 -q        the same, other layers, nothing but the result
  llamascope run --resume outputs/A      a run that was stopped: goes on where it stood
  llamascope view                        the runs in ./outputs, in a browser
  llamascope compare outputs/A outputs/B
  llamascope info model.gguf

Exit codes: 0 done, 1 failed, 2 bad usage or config, 130 interrupted.";

const RUN_HELP: &str = "\
Example:
  llamascope run --model meta-llama/Llama-3.1-8B --sae llama_scope_lxr_8x \\
      --layers 0,15,31 --input sentences.csv

The same as a config.yaml; a flag overrides its key:
  model_id: meta-llama/Llama-3.1-8B
  sae_release: llama_scope_lxr_8x
  layers: [0, 15, 31]
  input_csvs: [sentences.csv]
The other keys are dtype, device, output_dir, text_column, sae_convention, memory, threads, truncate and revision.

A hub model that is gated needs HF_TOKEN=... in the environment or in .env of the current folder. HF_HOME moves the \
cache, HF_ENDPOINT names a mirror, LLAMASCOPE_KERNEL (portable, ...) a kernel other than the fastest.

A run that is stopped (Ctrl-C, a full disk, a crash) goes on where it stood, and ends with the same bytes:
  llamascope run --resume outputs/run_20260102_030405
Its settings are in the folder. Typed again they must be the same; only --memory and --threads may differ. Run it in the \
folder where the run was started, because relative paths are seen from there.

The last line on stdout is the path of the run folder; all else goes to stderr.";

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
    /// Shows runs in a browser: a page served by this machine, to this machine alone.
    View(ViewArgs),
    /// Makes dictionaries from a model's own activations: each feature is the direction of one token's activation. A
    /// stand-in where no trained SAEs exist; not a substitute for them.
    Dictionary(DictionaryArgs),
    /// Trains SAEs of your own on a model's activations, several layers in one pass; stops and goes on where it was.
    Train(TrainArgs),
    /// Prepares a run for viewing: builds the index in its folder, and tells what is wrong with the run, if anything.
    Index(IndexArgs),
    /// Checks every file of a run against its manifest: tells what is missing or wrong, and whether a resume mends it.
    Verify(crate::verify::VerifyArgs),
    /// Brings texts to features: explanations as Neuronpedia exports them.
    #[command(subcommand)]
    Labels(LabelsCommand),
    /// Tells how fast this machine is and how much of it is used: its own ceilings, each stage as a share of its
    /// ceiling, and a whole run.
    Bench(BenchArgs),
    /// Tells how good SAEs are on a text: reconstruction, sparsity, and the loss of the model that goes on with it.
    Eval(crate::eval::EvalArgs),
    /// Looks in a large text for what each feature stands for: strongest contexts, density, tokens. For the viewer.
    Explore(crate::explore::ExploreArgs),
    /// Shows a sentence of a run in the terminal: its tokens and their strongest features.
    Show(crate::show::ShowArgs),
    /// Looks through a run in the terminal, by keyboard.
    Tui(crate::tui::TuiArgs),
    /// Draws a picture of a run, .svg or .png: the bars of a token, a sentence, layers over tokens.
    Chart(crate::chart::ChartArgs),
    /// Writes a run as one .html file that opens anywhere and needs no network.
    Report(crate::report::ReportArgs),
}

#[derive(Args)]
#[command(after_help = RUN_HELP)]
pub struct RunArgs {
    /// File with the settings [default: config.yaml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Go on with a run that was stopped, with its own settings; of a complete one, mend what is missing or damaged
    #[arg(long, value_name = "RUN")]
    pub resume: Option<PathBuf>,
    #[command(flatten)]
    pub settings: Settings,
    /// Do not build the index that viewing needs; it is built on the first view, or by `llamascope index`
    #[arg(long)]
    pub no_index: bool,
    /// No progress, no notes, no table: warnings and errors only
    #[arg(long, short)]
    pub quiet: bool,
}

#[derive(Args)]
#[command(after_help = "\
Example:
  llamascope index outputs/run_20260102_030405
  llamascope index outputs/run_20260102_030405 --check

The index lies in the run's folder `index` and can be deleted at any time. It is built anew when the run has changed or \
a byte of it is wrong. A bare tree of layer_XX/sentence_XXXX.jsonl, as other programs write it, can be indexed as well. \
Exit code of --check: 0 if there is an index of the run's present state and every byte of it is right, else 1.")]
pub struct IndexArgs {
    /// A run folder
    pub run: PathBuf,
    /// Build nothing: read every byte of the index that is there and check it
    #[arg(long)]
    pub check: bool,
    /// Build it anew even if it is there and right
    #[arg(long, conflicts_with = "check")]
    pub force: bool,
    /// No progress and no findings
    #[arg(long, short)]
    pub quiet: bool,
}

#[derive(Subcommand)]
pub enum LabelsCommand {
    /// Takes in exports, so that every view shows the texts beside the features.
    Import(LabelsImportArgs),
    /// Lists the dictionaries that have labels.
    List(LabelsListArgs),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  llamascope labels import llama3.1-8b/12-llamascope-res-32k/explanations/batch-*.jsonl.gz
  llamascope labels import mine.jsonl --run outputs/run_20260102_030405 --layer 12

A line of a file is {\"modelId\": \"llama3.1-8b\", \"layer\": \"12-llamascope-res-32k\", \"index\": \"104\", \"description\": \
\"names of capitals\", ...}, as in Neuronpedia's bulk exports, plain or gzipped. The labels go to labels/MODEL/LAYER.jsonl \
in the output folder and are found by every run in it with that dictionary; with --run and --layer they go to that layer \
of that run, whatever dictionary it has. Nothing is downloaded.")]
pub struct LabelsImportArgs {
    /// Exports: batch-0.jsonl.gz, ...
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Folder with the runs [default: what config.yaml says, else outputs]
    #[arg(long, value_name = "DIR", conflicts_with = "run")]
    pub output_dir: Option<PathBuf>,
    /// For this run alone
    #[arg(long, requires = "layer")]
    pub run: Option<PathBuf>,
    /// For this layer of the run
    #[arg(long, value_name = "N", requires = "run")]
    pub layer: Option<usize>,
}

#[derive(Args)]
pub struct LabelsListArgs {
    /// Folder with the runs [default: what config.yaml says, else outputs]
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
}

#[derive(Args, Default)]
pub struct Settings {
    /// Model of the Llama family: hub id, folder in Hugging Face layout, or .gguf file
    #[arg(long, value_name = "ID|PATH")]
    pub model: Option<String>,
    /// SAEs of that model: release name (llama_scope_lxr_8x, ...) or a folder of them
    #[arg(long, value_name = "NAME|PATH")]
    pub sae: Option<String>,
    /// Precision of the model's matrix products: float32, float16 or bfloat16 [default: float32]
    #[arg(long, value_parser = Precision::parse)]
    pub dtype: Option<Precision>,
    /// auto, cpu, cuda or mps; this build has the CPU only [default: auto]
    #[arg(long, value_parser = DeviceChoice::parse)]
    pub device: Option<DeviceChoice>,
    /// Layers to analyse: 0,5,9-12 or all; later ones are not even read [default: all]
    #[arg(long)]
    pub layers: Option<LayerSelection>,
    /// One sentence a line, .csv, .txt or .jsonl; may be given several times
    #[arg(long, value_name = "FILE")]
    pub input: Vec<PathBuf>,
    /// Where the folder run_DATE_TIME is made [default: outputs]
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
    /// Column (of a CSV with a header) or key (of JSON lines) that holds the sentence
    #[arg(long, value_name = "NAME")]
    pub text_column: Option<String>,
    /// Scale of the values of Llama Scope SAEs: as in saelens, openmoss (the authors' code) or
    /// neuronpedia [default: saelens]
    #[arg(long, value_name = "NAME")]
    pub sae_convention: Option<Convention>,
    /// Memory to work in, such as 4GiB [default: half of what is free]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    pub memory: Option<u64>,
    /// Number of threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = parse_threads)]
    pub threads: Option<NonZeroUsize>,
    /// Cut sentences that are longer than the model's context, instead of refusing them
    #[arg(long)]
    pub truncate: bool,
    /// Branch, tag or commit of the model on the hub [default: main]
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
Example, as a test in a script:
  llamascope compare outputs/float32 outputs/bfloat16 --require-jaccard 0.95

Either folder may also be a bare tree of layer_XX/sentence_XXXX.jsonl, as other programs write it. Exit code 1 when a \
requirement is missed, or when the runs differ in their layers, sentences or tokens.")]
pub struct CompareArgs {
    /// A run folder
    pub run_a: PathBuf,
    /// Another one
    pub run_b: PathBuf,
    /// Print JSON instead of a table
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
#[command(after_help = "\
Examples:
  llamascope info model.gguf
  llamascope info llama_scope_lxr_8x
  llamascope info outputs/run_20260102_030405")]
pub struct InfoArgs {
    /// A model (folder, .gguf or hub id), an SAE (folder or release name) or a run folder
    #[arg(value_name = "PATH|ID")]
    pub what: String,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  llamascope view                                   all runs in ./outputs
  llamascope view outputs/run_20260102_030405       this one
  llamascope view --no-open --port 8080             for a browser that you open yourself

On a machine that you are logged into with ssh: llamascope view --no-open --port 7311 there, ssh -L 7311:localhost:7311 \
MACHINE here, then open http://localhost:7311 here.

The server listens on 127.0.0.1 alone, answers this machine's own page only, and sends nothing anywhere. The first look \
at a run makes an index in its folder. Where the run's model and SAEs are still at hand, a sentence can be typed and is \
encoded at once. The address is the last line on stdout; Ctrl-C ends the server.")]
pub struct ViewArgs {
    /// A run, or a folder of runs
    #[arg(value_name = "RUN|DIR", default_value = "outputs")]
    pub path: PathBuf,
    /// Port of 127.0.0.1; 0 takes any that is free [default: the first free one from 7311]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Folder with what `llamascope explore` wrote, beside the places where it is looked for anyway
    #[arg(long, value_name = "DIR")]
    pub explored: Option<PathBuf>,
    /// Do not open a browser
    #[arg(long)]
    pub no_open: bool,
    /// Memory for the model of typed sentences, such as 4GiB [default: half of what is free]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    pub memory: Option<u64>,
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
    /// Where the folders `Exemplar-L{N}R-{E}x` are made; `run --sae` takes it
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

#[derive(Args)]
#[command(after_help = crate::train::help())]
pub struct TrainArgs {
    /// File with the settings
    #[arg(value_name = "CONFIG.yaml")]
    pub config: PathBuf,
    /// Begin anew: remove the checkpoints that are there
    #[arg(long)]
    pub fresh: bool,
    /// No progress and no notes
    #[arg(long, short)]
    pub quiet: bool,
}

#[derive(Args)]
#[command(after_help = "\
Example:
  llamascope bench --model model.gguf --sae demo/saes --layers 10,20 --input demo/sentences.csv

Without a model, the whole run is that of the demo, if it was run before in the current folder. Close what else uses the \
machine: times are the best of several tries.")]
pub struct BenchArgs {
    /// Model of the whole run: hub id, folder in Hugging Face layout, or .gguf file
    #[arg(long, value_name = "ID|PATH")]
    pub model: Option<String>,
    /// Its SAEs: release name or folder
    #[arg(long, value_name = "NAME|PATH")]
    pub sae: Option<String>,
    /// Its layers: 0,5,9-12 or all [default: all]
    #[arg(long)]
    pub layers: Option<LayerSelection>,
    /// Its sentences; may be given several times
    #[arg(long, value_name = "FILE")]
    pub input: Vec<PathBuf>,
    /// Its precision [default: float32, then bfloat16]
    #[arg(long, value_parser = Precision::parse)]
    pub dtype: Option<Precision>,
    /// Number of threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = parse_threads)]
    pub threads: Option<NonZeroUsize>,
    /// The small shapes only, in a few seconds
    #[arg(long)]
    pub quick: bool,
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
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
