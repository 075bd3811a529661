//! `llamascope bench`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use llamascope_pipeline::bench::{self as measuring, Scale};
use llamascope_pipeline::config::{ConfigFile, Overrides, Precision, RunConfig};
use llamascope_pipeline::{Error, demo};

use crate::args::BenchArgs;
use crate::commands::print_line;
use crate::machine;
use crate::terminal::{Terminal, say};

/// Measures, and shows the result.
pub fn bench(args: BenchArgs) -> Result<ExitCode> {
    let (quick, json, dtype, threads) = (args.quick, args.json, args.dtype, args.threads);
    let dtypes = dtype.map_or(vec![Precision::Float32, Precision::Bfloat16], |dtype| vec![dtype]);
    let runs: Vec<RunConfig> = match whole_run(args)? {
        Some(run) => dtypes.into_iter().map(|dtype| RunConfig { dtype, ..run.clone() }).collect(),
        None => {
            say("note: no whole run; name --model, --sae and --input, or run `llamascope demo` here first");
            Vec::new()
        }
    };
    let scale = if quick { Scale::quick() } else { Scale::standard() };
    let threads = threads.map_or(0, |threads| threads.get());
    let terminal = Terminal::new(false);
    let surroundings = machine::surroundings()?;
    let bench = measuring::bench(&scale, threads, &runs, &std::env::temp_dir(), &surroundings, &terminal);
    terminal.finish();
    let bench = bench?;
    let text = if json { serde_json::to_string_pretty(&bench)? } else { bench.to_tables() };
    print_line(text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// What was typed; if nothing was, the demo; if it is not here, nothing.
fn whole_run(args: BenchArgs) -> Result<Option<RunConfig>> {
    let typed = args.model.is_some() || args.sae.is_some() || args.layers.is_some() || !args.input.is_empty();
    let config = Path::new(demo::CONFIG);
    if !typed && !config.exists() {
        return Ok(None);
    }
    let file = if typed { None } else { Some(ConfigFile::read(config).map_err(Error::from)?) };
    let flags = Overrides {
        model_id: args.model,
        sae_release: args.sae,
        layers: args.layers,
        input_csvs: (!args.input.is_empty()).then_some(args.input),
        threads: args.threads,
        ..Overrides::default()
    };
    let run = RunConfig::resolve(file, flags).map_err(Error::from)?;
    let here = typed || Path::new(&run.model_id).exists();
    Ok(here.then_some(run))
}
