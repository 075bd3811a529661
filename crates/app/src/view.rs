//! `llamascope view`: a server on this machine, and a browser that shows it.

use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use anyhow::Result;
use llamascope_serve::{Library, Server, Settings};

use crate::args::ViewArgs;
use crate::commands::print_line;
use crate::machine;
use crate::terminal::{self, say};

pub fn view(args: ViewArgs) -> Result<ExitCode> {
    let surroundings = machine::surroundings()?;
    let settings = Settings {
        cache: machine::index_cache(),
        explored: args.explored,
        memory: args.memory.unwrap_or(surroundings.memory),
        kernel: surroundings.kernel,
        program: surroundings.program,
        now: machine::now,
    };
    let library = Arc::new(Library::open(&args.path, settings)?);
    let runs = library.scan()?.len();
    let server = Server::bind(library, args.port)?;
    let address = server.address();
    say(&format!(
        "showing {runs} {} of {}; Ctrl-C ends it",
        if runs == 1 { "run" } else { "runs" },
        args.path.display()
    ));
    print_line(&address)?;
    if !args.no_open && !open(&address) {
        say("no browser could be started: open this address yourself");
    }
    server.run(terminal::cancelled)?;
    Ok(ExitCode::SUCCESS)
}

/// Starts the user's browser, if the system has a way to do it and a screen to show it on.
fn open(address: &str) -> bool {
    let (program, arguments): (&str, &[&str]) = if cfg!(target_os = "macos") {
        ("open", &[])
    } else if cfg!(windows) {
        ("cmd", &["/C", "start", ""])
    } else if ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some()) {
        ("xdg-open", &[])
    } else {
        return false;
    };
    let mut command = Command::new(program);
    command.args(arguments).arg(address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().is_ok()
}
