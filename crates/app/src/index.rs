//! `llamascope index`, and the index at the end of a run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use llamascope_record::index::{FindingKind, IndexProblem, RunIndex, Severity};
use llamascope_record::run::Manifest;

use crate::args::IndexArgs;
use crate::commands::print_line;
use crate::machine;
use crate::terminal::{Terminal, say};

/// Most activations of a run that is indexed when it ends: a few seconds. A larger index is built when it is wanted.
const AT_THE_END: u64 = 50_000_000;

/// Builds or checks the index of a run.
pub fn index(args: IndexArgs) -> Result<ExitCode> {
    let cache = machine::index_cache();
    let begun = Instant::now();
    if args.check {
        let index = RunIndex::open(&args.run, cache.as_deref())?;
        index.verify()?;
        tell(&index, "whole", begun, args.quiet)?;
        return Ok(ExitCode::SUCCESS);
    }
    let terminal = Terminal::new(args.quiet);
    let built = if args.force {
        RunIndex::build(&args.run, cache.as_deref(), &terminal)
    } else {
        RunIndex::open_or_build(&args.run, cache.as_deref(), &terminal)
    };
    terminal.finish();
    tell(&built?, "ready", begun, args.quiet)?;
    Ok(ExitCode::SUCCESS)
}

/// What an index holds, how long it took, and what is wrong with the run.
fn tell(index: &RunIndex, what: &str, begun: Instant, quiet: bool) -> Result<()> {
    if !quiet {
        for finding in &index.health().findings {
            let place = finding.layer.map(|layer| format!("layer {layer}: ")).unwrap_or_default();
            let level = match finding.kind.severity() {
                Severity::Note => "note",
                Severity::Warning => "warning",
                Severity::Error => "damage",
            };
            say(&format!("{level}: {place}{} Found {} times.", finding.kind.says(), finding.count));
            for example in finding.examples.iter().filter(|_| finding.kind != FindingKind::NoManifest) {
                let line = example.line.map(|line| format!(", line {line}")).unwrap_or_default();
                let what = if example.what.is_empty() { String::new() } else { format!(": {}", example.what) };
                say(&format!("    {}{line}{what}", example.file));
            }
        }
    }
    let activations: u64 = index.layers().iter().map(|layer| layer.nnz()).sum();
    print_line(&format!(
        "{what}: {} sentences, {} rows a layer, {} layers, {activations} active features; {} in {:.2} s",
        index.sentences(),
        index.rows(),
        index.layers().len(),
        size(index.bytes()),
        begun.elapsed().as_secs_f64(),
    ))
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// Builds the index of a run that has just ended, where that is quick. The run is what was asked for: that its index
/// cannot be built is worth a warning and no more.
pub fn at_the_end(run: &Path, manifest: &Manifest, terminal: &Terminal) {
    use llamascope_pipeline::Observer;
    let activations: u64 = manifest.layers.iter().map(|layer| layer.nnz).sum();
    if activations > AT_THE_END {
        terminal.note(&format!("note: `llamascope index {}` prepares this large run for viewing", run.display()));
        return;
    }
    let built = RunIndex::open_or_build(run, None, terminal);
    terminal.finish();
    match built {
        Err(error) if !matches!(error.problem, IndexProblem::Cancelled) => {
            terminal.warn(&format!("the run is complete, but its index is not there: {error}"));
        }
        _ => {}
    }
}

/// Where the index of a run goes whose folder cannot be written to.
pub fn cache(home: Option<PathBuf>, xdg: Option<PathBuf>) -> Option<PathBuf> {
    let absolute = xdg.filter(|path| path.is_absolute());
    Some(absolute.or_else(|| home.map(|home| home.join(".cache")))?.join("llamascope").join("index"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_the_system_says() {
        let home = || Some(PathBuf::from("/h"));
        assert_eq!(cache(home(), Some("/c".into())), Some("/c/llamascope/index".into()));
        assert_eq!(cache(home(), Some("c".into())), Some("/h/.cache/llamascope/index".into()));
        assert_eq!(cache(None, None), None);
    }

    #[test]
    fn sizes_have_their_unit() {
        assert_eq!([12, 1_500_000, 5_630_000_000].map(size), ["0.0 kB", "1.5 MB", "5.63 GB"]);
    }
}
