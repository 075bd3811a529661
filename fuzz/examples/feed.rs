//! `cargo run -p llamascope-fuzz --example feed`: seeds, corpus and a fixed number of mutations through every target, the same
//! on every machine. What libFuzzer does by coverage and for hours, this does blindly and in a minute; it needs no flags of
//! the compiler, so that it can stand among the ordinary checks.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use llamascope_fuzz::targets::ALL;
use llamascope_fuzz::{Target, inputs};

const USAGE: &str = "usage: cargo run -p llamascope-fuzz --example feed -- [COMMAND]
  run [ROUNDS] [TARGET...]   feed seeds and corpus, and then ROUNDS mutations of them (default 2000), to all or some targets
  seeds FOLDER               write the seeds of every target to FOLDER/TARGET, for libFuzzer to begin with
  file TARGET FILE...        feed some files to a target
  list                       name the targets";

/// Mutations a target unless given.
const ROUNDS: u64 = 2_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        [] => run(ROUNDS, &[]),
        ["run", ref rest @ ..] => match rest.split_first() {
            None => run(ROUNDS, &[]),
            Some((first, names)) => match first.parse() {
                Ok(rounds) => run(rounds, names),
                Err(_) => run(ROUNDS, rest),
            },
        },
        ["seeds", folder] => write_seeds(Path::new(folder)),
        ["file", name, ref files @ ..] => feed_files(name, files),
        ["list"] => {
            ALL.iter().for_each(|target| println!("{}", target.name));
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fuzz: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn target(name: &str) -> Result<&'static Target> {
    ALL.iter().find(|target| target.name == name).with_context(|| format!("there is no target {name}; see `list`"))
}

fn run(rounds: u64, names: &[&str]) -> Result<()> {
    let chosen = match names {
        [] => ALL.iter().collect(),
        _ => names.iter().map(|name| target(name)).collect::<Result<Vec<_>>>()?,
    };
    for target in chosen {
        for input in inputs(target, rounds)? {
            feed(target, &input)?;
        }
        println!("{:<14} passed, {rounds} mutations of its seeds and corpus included", target.name);
    }
    Ok(())
}

/// Feeds one input; one that fails is kept in a file.
fn feed(target: &Target, input: &[u8]) -> Result<()> {
    if catch_unwind(AssertUnwindSafe(|| target.check(input))).is_ok() {
        return Ok(());
    }
    let path = PathBuf::from(format!("{}-{}", target.name, &blake3::hash(input).to_hex()[..12]));
    fs::write(&path, input).with_context(|| path.display().to_string())?;
    bail!("{} fails; the input is in {}, see fuzz/README.md", target.name, path.display())
}

fn feed_files(name: &str, files: &[&str]) -> Result<()> {
    let target = target(name)?;
    for file in files {
        let bytes = fs::read(file).with_context(|| (*file).to_owned())?;
        feed(target, &bytes)?;
        println!("{file}: passed");
    }
    Ok(())
}

fn write_seeds(folder: &Path) -> Result<()> {
    for target in ALL {
        let folder = folder.join(target.name);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        for seed in (target.seeds)() {
            let path = folder.join(&blake3::hash(&seed).to_hex()[..16]);
            fs::write(&path, seed).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}
