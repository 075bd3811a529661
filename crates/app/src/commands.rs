//! The subcommands: each reads what was typed, lets the pipeline work, and shows the result.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use llamascope_pipeline::config::{ConfigFile, Overrides, RunConfig};
use llamascope_pipeline::dictionary::{self, DictionarySpec};
use llamascope_pipeline::{Error, Finished, Observer, demo as demo_files, info as information};
use llamascope_record::labels::{self, Target};
use llamascope_record::run::Run;
use llamascope_report::compare::{Requirement, compare_runs};
use llamascope_report::summary::run_summary;

use crate::args::{CompareArgs, DemoArgs, DictionaryArgs, InfoArgs, RunArgs};
use crate::index;
use crate::machine;
use crate::terminal::{self, Terminal, say};

/// Something typed (or set in the environment) that cannot be meant: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// The config file that is read when none is named.
pub(crate) const DEFAULT_CONFIG: &str = "config.yaml";

pub fn run(args: RunArgs) -> Result<ExitCode> {
    let config = match &args.config {
        Some(path) => Some(path.as_path()),
        None => Some(Path::new(DEFAULT_CONFIG)).filter(|path| args.resume.is_none() && path.exists()),
    };
    let file = config.map(ConfigFile::read).transpose().map_err(Error::from)?;
    let flags = args.settings.overrides();
    let terminal = Terminal::new(args.quiet);
    let result = match &args.resume {
        Some(run) => {
            let given = flags.over(file.map(|file| file.settings).unwrap_or_default());
            llamascope_pipeline::resume(run, given, &machine::surroundings()?, &terminal)
        }
        None => {
            let config = RunConfig::resolve(file, flags).map_err(Error::from)?;
            llamascope_pipeline::run(&config, &machine::surroundings()?, &terminal)
        }
    };
    show(result, &terminal, args.quiet, !args.no_index)?;
    Ok(ExitCode::SUCCESS)
}

/// Indexes a run that is done if that is wanted, shows the summary and prints the run folder.
fn show(result: Result<Finished, Error>, terminal: &Terminal, quiet: bool, indexed: bool) -> Result<PathBuf> {
    terminal.finish();
    let finished = result?;
    terminal::forget_way_out();
    if indexed {
        index::at_the_end(&finished.path, &finished.manifest, terminal);
    }
    if !quiet {
        say(&format!("\n{}", run_summary(&Run::open(&finished.path)?)?));
    }
    print_line(&finished.path.display().to_string())?;
    Ok(finished.path)
}

pub fn demo(args: DemoArgs) -> Result<ExitCode> {
    let config = Path::new(demo_files::CONFIG);
    if !config.exists() {
        let text = format!("{} is not here: run the demo in the root of a clone of the repository", config.display());
        return Err(Usage(text).into());
    }
    let file = ConfigFile::read(config).map_err(Error::from)?;
    let config = RunConfig::resolve(Some(file), Overrides::default()).map_err(Error::from)?;
    let terminal = Terminal::new(args.quiet);
    let prepared = demo_files::prepare(&config, &terminal);
    terminal.finish();
    prepared?;
    let result = llamascope_pipeline::run(&config, &machine::surroundings()?, &terminal);
    let path = show(result, &terminal, args.quiet, true)?;
    let (layer, names) = demo_files::LABELS;
    labels::import(&[names.into()], Target::Layer { run: &path, layer })?;
    if !args.quiet {
        say(&demo_files::what_next(&path));
    }
    Ok(ExitCode::SUCCESS)
}

pub fn compare(args: CompareArgs) -> Result<ExitCode> {
    let comparison = compare_runs(&Run::open(&args.run_a)?, &Run::open(&args.run_b)?)?;
    let text = if args.json { serde_json::to_string_pretty(&comparison)? } else { comparison.to_table() };
    print_line(text.trim_end())?;
    let failures = Requirement { jaccard: args.require_jaccard, rel: args.require_rel }.failures(&comparison);
    failures.iter().for_each(|failure| say(&format!("error: {failure}")));
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub fn info(args: InfoArgs) -> Result<ExitCode> {
    let terminal = Terminal::new(true);
    let text = information::info(&args.what, &machine::hub_options()?, &terminal)?;
    print_line(text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

pub fn dictionary(args: DictionaryArgs) -> Result<ExitCode> {
    let terminal = Terminal::new(args.quiet);
    let surroundings = machine::surroundings()?;
    let spec = DictionarySpec {
        layers: args.layers,
        expansion: args.expansion.into(),
        l0: args.l0.into(),
        max_tokens: args.tokens,
        threads: args.threads,
    };
    let texts = dictionary::read_texts(&args.input, args.text_column.as_deref())?;
    let made = dictionary::make(&args.model, &texts, &spec, &args.output_dir, &surroundings.hub, &terminal);
    terminal.finish();
    for folder in made? {
        terminal.note(&format!("wrote {}", folder.display()));
    }
    print_line(&args.output_dir.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// The answer, on stdout.
pub(crate) fn print_line(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        // Whoever closed the pipe has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to stdout"),
    }
}
