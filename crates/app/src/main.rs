//! The `llamascope` binary: argv in, exit code out. How anything is computed is not known here.

mod args;
mod bench;
mod chart;
mod commands;
mod eval;
mod explore;
mod index;
mod labels;
mod machine;
mod opened;
mod report;
mod show;
mod terminal;
mod train;
mod tui;
mod verify;
mod view;

use std::process::ExitCode;

use clap::Parser;
use llamascope_record::index::IndexError;

use args::{Cli, Command};

/// Exit code after Ctrl-C, as shells expect it.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // What only reads may end at once.
    if !matches!(cli.command, Command::Verify(_) | Command::Compare(_) | Command::Show(_)) {
        terminal::stop_on_ctrl_c();
    }
    llamascope_weights::end_on_lost_pages();
    let result = match cli.command {
        Command::Run(args) => commands::run(args),
        Command::Demo(args) => commands::demo(args),
        Command::Compare(args) => commands::compare(args),
        Command::Info(args) => commands::info(args),
        Command::View(args) => view::view(args),
        Command::Dictionary(args) => commands::dictionary(args),
        Command::Train(args) => train::train(args),
        Command::Index(args) => index::index(args),
        Command::Verify(args) => verify::verify(args),
        Command::Labels(command) => labels::labels(command),
        Command::Bench(args) => bench::bench(args),
        Command::Eval(args) => eval::eval(args),
        Command::Explore(args) => explore::explore(args),
        Command::Show(args) => show::show(args),
        Command::Tui(args) => tui::tui(args),
        Command::Chart(args) => chart::chart(args),
        Command::Report(args) => report::report(args),
    };
    let failure = match result {
        Ok(code) => return code,
        Err(failure) => failure,
    };
    terminal::error(&failure);
    if failure.downcast_ref::<llamascope_pipeline::Error>().is_none_or(|error| error.is_resumable()) {
        terminal::say_way_out();
    }
    match failure.downcast_ref::<llamascope_pipeline::Error>() {
        Some(error) if error.is_interruption() => ExitCode::from(INTERRUPTED),
        Some(error) if error.is_usage() => ExitCode::from(2),
        None if failure
            .downcast_ref::<llamascope_train::Error>()
            .is_some_and(llamascope_train::Error::is_interruption) =>
        {
            ExitCode::from(INTERRUPTED)
        }
        None if failure.downcast_ref::<llamascope_train::Error>().is_some_and(llamascope_train::Error::is_usage) => {
            ExitCode::from(2)
        }
        None if failure.downcast_ref::<IndexError>().is_some_and(IndexError::is_interruption) => {
            ExitCode::from(INTERRUPTED)
        }
        None if failure.is::<commands::Usage>() => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}
