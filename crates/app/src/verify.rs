//! `llamascope verify`: whether a run is what its manifest says.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use llamascope_record::run::{Status, Verdict, verify as check};

use crate::commands::print_line;
use crate::terminal::{Terminal, quoted};

/// Most findings that are shown; `--json` has more.
const SHOWN: usize = 20;

#[derive(Args)]
#[command(after_help = "\
Example:
  llamascope verify outputs/run_20260102_030405

Reads every file: the sentences, every row of every sentence (its form, its order, the range of its ids and values, its \
token), BLAKE3 of each file against rows.b3sum, and what run.json counts of them up to the fingerprint. `b3sum --check \
rows.b3sum` in the run folder checks the bytes alone, with a tool of others.

Exit code: 0 if the run is complete and all of it is right, else 1.")]
pub struct VerifyArgs {
    /// A run folder
    pub run: PathBuf,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

pub fn verify(args: VerifyArgs) -> Result<ExitCode> {
    let terminal = Terminal::new(false);
    let verdict = check(&args.run, &|done, total| terminal.verifying(done, total));
    terminal.finish();
    let verdict = verdict?;
    let text = if args.json { serde_json::to_string_pretty(&verdict)? } else { told(&verdict) };
    print_line(text.trim_end())?;
    Ok(if verdict.right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A verdict in words.
fn told(verdict: &Verdict) -> String {
    let Verdict { files_expected, files_right, rows, bytes, .. } = verdict;
    let mut lines = Vec::new();
    for finding in verdict.findings.iter().take(SHOWN) {
        let line = finding.line.map(|line| format!(", line {line}")).unwrap_or_default();
        lines.push(format!("{}{line}: {}", finding.file, finding.what));
    }
    let more = verdict.findings.len().saturating_sub(SHOWN) as u64 + verdict.findings_left_out;
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    let state = match (verdict.right, verdict.status) {
        (true, _) => "complete and right",
        (false, Status::Complete) => "damaged",
        (false, _) if verdict.in_use => "at work: another process is writing it",
        (false, Status::Running) => "not complete: it was killed",
        (false, Status::Interrupted) => "not complete: interrupted",
        (false, Status::Failed) => "not complete: it failed",
    };
    let to_come = match verdict.files_to_come {
        0 => String::new(),
        to_come => format!(", {to_come} still to come"),
    };
    lines.push(format!(
        "{state}: {files_right} of {files_expected} files of rows are right{to_come}; {rows} rows, {:.1} MB",
        *bytes as f64 / 1e6
    ));
    let command = format!("llamascope run --resume {}", quoted(&verdict.run.display().to_string()));
    match verdict.mended_by_resume {
        _ if verdict.in_use => {}
        Some(true) => lines.push(format!("to complete and mend it: {command}")),
        Some(false) => lines.push("a resume does not mend all of this: repeat the run".into()),
        None => {}
    }
    lines.join("\n")
}
