//! `llamascope labels`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use llamascope_pipeline::Error;
use llamascope_pipeline::config::ConfigFile;
use llamascope_record::labels::{self, LABELS, Target};

use crate::args::{LabelsCommand, LabelsImportArgs, LabelsListArgs};
use crate::commands::{DEFAULT_CONFIG, print_line};

/// Where runs are made if nothing says otherwise.
const OUTPUT_DIR: &str = "outputs";

/// Imports or lists labels.
pub fn labels(command: LabelsCommand) -> Result<ExitCode> {
    match command {
        LabelsCommand::Import(args) => import(args),
        LabelsCommand::List(args) => list(args),
    }
}

/// The output folder: as typed, as `config.yaml` says, or the default of a run.
fn output_dir(typed: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(typed) = typed {
        return Ok(typed);
    }
    let config = Path::new(DEFAULT_CONFIG);
    let file = if config.exists() { Some(ConfigFile::read(config).map_err(Error::from)?) } else { None };
    Ok(file.and_then(|file| file.settings.output_dir).unwrap_or_else(|| OUTPUT_DIR.into()))
}

fn import(args: LabelsImportArgs) -> Result<ExitCode> {
    let folder;
    let target = match (&args.run, args.layer) {
        (Some(run), Some(layer)) => {
            // A folder that is no run would never be looked at.
            llamascope_record::run::Run::open(run)?;
            Target::Layer { run, layer }
        }
        _ => {
            folder = output_dir(args.output_dir)?;
            Target::OutputDir(&folder)
        }
    };
    for file in labels::import(&args.files, target)? {
        print_line(&format!(
            "{}: {} labels, {} of them new, {} changed",
            file.path.display(),
            file.total,
            file.added,
            file.changed
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn list(args: LabelsListArgs) -> Result<ExitCode> {
    let folder = output_dir(args.output_dir)?.join(LABELS);
    let dictionaries = labels::list(&folder)?;
    if dictionaries.is_empty() {
        print_line(&format!(
            "no labels in {}; `llamascope labels import --help` tells how to get some",
            folder.display()
        ))?;
    }
    for (dictionary, count) in dictionaries {
        print_line(&format!("{dictionary}: {count} labels"))?;
    }
    Ok(ExitCode::SUCCESS)
}
