//! Checks of the repository itself: `cargo run -p xtask -- check`.
//!
//! What the compiler, rustfmt and clippy cannot see: which room may know which, what a library may touch, which
//! licences come in, whether the documents still point somewhere. Every finding names a place and the way out.

mod checks;
mod metadata;
mod readme;
mod repo;
mod source;
mod torture;

use std::process::ExitCode;

use repo::Repo;

const USAGE: &str = "usage: cargo run -p xtask -- COMMAND
  check          check the repository; prints one line for each finding, exits 1 if there is any
  unsafe         list every use of unsafe with its reason
  test-command   print the README's test command
  demo-command   print the README's demo command
  torture ...    kill runs, fill disks, and compare what is resumed; without arguments it says how";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["check"] => check(),
        ["unsafe"] => inventory(),
        ["test-command"] => print_command(readme::TEST),
        ["demo-command"] => print_command(readme::DEMO),
        ["torture", ..] => torture::torture(&arguments[1..]).map(|()| ExitCode::SUCCESS),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check() -> anyhow::Result<ExitCode> {
    let repo = Repo::open(&Repo::root()?)?;
    let mut findings = checks::all(&repo)?;
    findings.sort();
    findings.iter().for_each(|finding| println!("{finding}"));
    match findings.len() {
        0 => {
            println!("{} files checked, nothing found", repo.files.len());
            Ok(ExitCode::SUCCESS)
        }
        count => {
            eprintln!("{count} findings in {} files", repo.files.len());
            Ok(ExitCode::FAILURE)
        }
    }
}

fn inventory() -> anyhow::Result<ExitCode> {
    let repo = Repo::open(&Repo::root()?)?;
    let uses = checks::safety::uses(&repo);
    for used in &uses {
        println!("{}:{}: {}: {}", used.path, used.line, used.what, used.reason.as_deref().unwrap_or("no reason given"));
    }
    println!("{} uses", uses.len());
    Ok(ExitCode::SUCCESS)
}

fn print_command(marker: &str) -> anyhow::Result<ExitCode> {
    let repo = Repo::open(&Repo::root()?)?;
    println!("{}", readme::command(repo.text(readme::PATH).unwrap_or_default(), marker)?);
    Ok(ExitCode::SUCCESS)
}
