//! `llamascope train`.

use std::process::ExitCode;

use anyhow::Result;
use llamascope_pipeline::Observer;
use llamascope_train::settings::KEYS;
use llamascope_train::{Exported, Progress, Settings};

use crate::args::TrainArgs;
use crate::commands::print_line;
use crate::machine;
use crate::terminal::{Terminal, duration, say};

/// What the help teaches: an example, and every key.
pub fn help() -> String {
    let widest = KEYS.iter().map(|key| key.name.len()).max().unwrap_or(0);
    let keys: String = KEYS.iter().map(|key| format!("  {:widest$}  {}\n", key.name, key.means)).collect();
    format!(
        "\
Example, a file train.yaml:
  model_id: model.gguf
  text: [articles.jsonl]
  text_column: text
  layers: [5, 10, 20]
  k: 50
  tokens: 4000000
  output_dir: my_saes

  llamascope train train.yaml
  llamascope eval --model model.gguf --sae my_saes --layers 5,10,20 --input other_articles.jsonl --text-column text
  llamascope run --model model.gguf --sae my_saes --input sentences.csv

A checkpoint is written every few minutes and on Ctrl-C; the same command goes on from it, and the SAEs come out the \
same to the bit as without the interruption. metrics.jsonl in the output folder tells how it went, curves.svg shows \
it, and training.json records what was done. What is trained, and how: docs/training.md. The last line on stdout is \
the output folder.

Keys of the file, with their defaults in brackets:
{keys}"
    )
}

/// Trains what the file says.
pub fn train(args: TrainArgs) -> Result<ExitCode> {
    let settings = Settings::read(&args.config).map_err(llamascope_train::Error::from)?;
    let terminal = Terminal::new(args.quiet);
    let trained = llamascope_train::train(&settings, args.fresh, &machine::surroundings()?, &terminal);
    terminal.finish();
    let finished = trained?;
    if !args.quiet {
        finished.exported.iter().for_each(|exported| say(&summary(exported)));
        terminal.note("measured on rows of the training text; `llamascope eval` measures on text that was held out");
    }
    print_line(&finished.folder.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn summary(exported: &Exported) -> String {
    format!(
        "layer {}: {:.1} active features a token, explained variance {:.4}, dead {:.2} %",
        exported.layer,
        exported.l0,
        exported.explained_variance,
        100.0 * exported.dead_fraction
    )
}

/// The line that changes.
pub fn line(progress: &Progress) -> String {
    let mut parts = vec![format!("{:.0} tokens/s", progress.tokens_per_s)];
    if let Some(left) = progress.left {
        parts.push(format!("{} left", duration(left.as_secs())));
    }
    if let Some(metrics) = &progress.metrics {
        parts.push(format!("step {}", metrics.step));
        let layers = metrics.layers.iter().map(|layer| {
            let dead = 100.0 * layer.dead_fraction;
            format!("L{} EV {:.3} L0 {:.0} dead {dead:.1}%", layer.layer, layer.explained_variance, layer.l0)
        });
        parts.extend(layers);
    }
    let (read, wanted) = progress.reading;
    if wanted > 0 {
        parts.push(format!("reading {read}/{wanted}"));
    }
    parts.join(", ")
}
