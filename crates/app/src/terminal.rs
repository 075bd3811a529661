//! What a person sees while work goes on, all of it on stderr: a bar where there is a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use llamascope_pipeline::{Observer, Progress};

/// Set by the first Ctrl-C.
static CANCELLED: AtomicBool = AtomicBool::new(false);
/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The first Ctrl-C (or SIGTERM) asks the work to stop at the next occasion, the second stops at once.
pub fn stop_on_ctrl_c() {
    let handler = || {
        if CANCELLED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        say("stopping after what is in hand; press Ctrl-C again to stop at once");
    };
    // Without a handler Ctrl-C still ends the program, only less gently.
    let _ = ctrlc::set_handler(handler);
}

/// A line on stderr. Nobody reading it is no reason to stop.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// What went wrong.
pub fn error(error: &anyhow::Error) {
    say(&format!("error: {error:#}"));
}

/// Shows what a pipeline tells.
pub struct Terminal {
    quiet: bool,
    bar: Mutex<Shown>,
}

/// What stands on the screen.
struct Shown {
    kind: Kind,
    bar: ProgressBar,
    since: Instant,
    last_line: Instant,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Nothing,
    Run,
    Download(String),
}

impl Terminal {
    pub fn new(quiet: bool) -> Self {
        let now = Instant::now();
        let shown = Shown { kind: Kind::Nothing, bar: ProgressBar::hidden(), since: now, last_line: now };
        Terminal { quiet, bar: Mutex::new(shown) }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.begin(Kind::Nothing, 0, "");
    }

    /// Shows a bar of this kind, and returns whether it is a new one.
    fn begin(&self, kind: Kind, total: u64, template: &str) -> bool {
        let mut shown = self.bar.lock().expect("no thread panics with the bar");
        if shown.kind == kind {
            return false;
        }
        shown.bar.finish_and_clear();
        let drawn = kind != Kind::Nothing && !self.quiet;
        let target = if drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let now = Instant::now();
        *shown = Shown {
            kind,
            bar: ProgressBar::with_draw_target(Some(total), target).with_style(style.progress_chars("━╸─")),
            since: now,
            last_line: now,
        };
        true
    }

    fn line(&self, text: &str) {
        let shown = self.bar.lock().expect("no thread panics with the bar");
        shown.bar.suspend(|| say(text));
    }

    /// Where there is no terminal: a line now and then.
    fn plain(&self, text: impl FnOnce(Duration) -> String) {
        if self.quiet || std::io::stderr().is_terminal() {
            return;
        }
        let mut shown = self.bar.lock().expect("no thread panics with the bar");
        if shown.last_line.elapsed() >= LINE_EVERY {
            shown.last_line = Instant::now();
            say(&text(shown.since.elapsed()));
        }
    }
}

impl Observer for Terminal {
    fn stage(&self, what: &str) {
        self.finish();
        if !self.quiet {
            say(what);
        }
    }

    fn note(&self, text: &str) {
        if !self.quiet {
            self.line(text);
        }
    }

    fn warn(&self, text: &str) {
        self.line(&format!("warning: {text}"));
    }

    fn download(&self, file: &str, done: u64, total: u64) {
        let template = "{msg} {bar:24} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
        self.begin(Kind::Download(file.into()), total, template);
        {
            let shown = self.bar.lock().expect("no thread panics with the bar");
            shown.bar.set_message(file.to_owned());
            shown.bar.set_position(done);
        }
        self.plain(|_| format!("{file}: {} of {} MB", done / 1_000_000, total / 1_000_000));
        if done == total {
            self.finish();
        }
    }

    fn progress(&self, progress: Progress) {
        self.begin(Kind::Run, progress.total, "{msg} {bar:24} {percent:>3}% {eta} left");
        let place = format!(
            "wave {}/{} layer {}/{}",
            progress.wave, progress.waves, progress.layer, progress.last_layer
        );
        // A token has been run when it has gone through all layers.
        let tokens = progress.done as f64 / (progress.last_layer + 1) as f64;
        {
            let shown = self.bar.lock().expect("no thread panics with the bar");
            let rate = tokens / shown.since.elapsed().as_secs_f64().max(1e-3);
            shown.bar.set_message(format!("{place} {rate:>6.0} tokens/s"));
            shown.bar.set_position(progress.done);
        }
        self.plain(|elapsed| {
            let rate = progress.done as f64 / elapsed.as_secs_f64().max(1e-3);
            let left = (progress.total - progress.done) as f64 / rate.max(1e-3);
            let rate = rate / (progress.last_layer + 1) as f64;
            format!("{place}: {}%, {rate:.0} tokens/s, {left:.0} s left", progress.done * 100 / progress.total.max(1))
        });
        if progress.done == progress.total {
            self.finish();
        }
    }

    fn cancelled(&self) -> bool {
        CANCELLED.load(Ordering::SeqCst)
    }
}
