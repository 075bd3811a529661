//! What a person sees while work goes on, all of it on stderr: one line that changes where there is a terminal, plain
//! lines elsewhere.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use console::style;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use llamascope_pipeline::{Observer, Progress};
use llamascope_record::index::Watch;

use crate::INTERRUPTED;

/// Set by the first Ctrl-C.
static CANCELLED: AtomicBool = AtomicBool::new(false);
/// How to go on with the run at work, told whenever it ends early.
static WAY_OUT: Mutex<Option<String>> = Mutex::new(None);
/// How long a run may take to stop: a piece of work that takes longer is given up, and done again by the resume.
const STOP_WITHIN: Duration = Duration::from_millis(1800);
/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The first Ctrl-C (or SIGTERM) asks the work to stop at the next occasion, the second stops at once.
pub fn stop_on_ctrl_c() {
    let handler = || {
        // The terminal has written `^C` behind the bar.
        let clear = if std::io::stderr().is_terminal() { "\r\x1b[2K" } else { "" };
        if CANCELLED.swap(true, Ordering::SeqCst) {
            say(&format!("{clear}stopped"));
            say_way_out();
            std::process::exit(INTERRUPTED.into());
        }
        say(&format!("{clear}stopping after what is in hand; press Ctrl-C again to stop at once"));
        std::thread::spawn(|| {
            std::thread::sleep(STOP_WITHIN);
            if way_out().is_some() {
                say("stopped: what was in hand would have taken longer");
                say_way_out();
                std::process::exit(INTERRUPTED.into());
            }
        });
    };
    // Without a handler Ctrl-C still ends the program, only less gently.
    let _ = ctrlc::set_handler(handler);
}

/// The run in this folder can be resumed: from now on whatever ends the program early says how.
fn remember_way_out(run: &Path) {
    let line = format!("to go on: llamascope run --resume {}", quoted(&run.display().to_string()));
    llamascope_weights::set_way_out(&line);
    *way_out() = Some(line);
}

/// The run is complete.
pub fn forget_way_out() {
    llamascope_weights::set_way_out("");
    *way_out() = None;
}

/// Says how to go on with the run, if there is one.
pub fn say_way_out() {
    if let Some(line) = way_out().as_deref() {
        say(line);
    }
}

fn way_out() -> MutexGuard<'static, Option<String>> {
    WAY_OUT.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A word as a shell takes it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// Whether somebody has pressed Ctrl-C.
pub fn cancelled() -> bool {
    CANCELLED.load(Ordering::SeqCst)
}

/// A line on stderr. Nobody reading it is no reason to stop.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// What went wrong.
pub fn error(error: &anyhow::Error) {
    say(&format!("{} {error:#}", style("error:").red().bold().for_stderr()));
}

/// Shows what a pipeline tells.
pub struct Terminal {
    quiet: bool,
    /// Whether a line can change in place.
    live: bool,
    shown: Mutex<Shown>,
}

/// What stands on the line that changes.
struct Shown {
    kind: Kind,
    bar: ProgressBar,
    since: Instant,
    last_line: Instant,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Nothing,
    Stage,
    Run,
    Index,
    Training,
    Verify,
    Download(String),
}

impl Kind {
    /// Whatever is cut off on a narrow terminal stands last.
    fn template(&self) -> &'static str {
        match self {
            Kind::Nothing | Kind::Stage => "{wide_msg}",
            Kind::Run | Kind::Index | Kind::Training | Kind::Verify => "{bar:20.cyan} {percent:>3}%  {wide_msg}",
            Kind::Download(_) => "{bar:20.cyan} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left  {wide_msg}",
        }
    }
}

impl Terminal {
    pub fn new(quiet: bool) -> Self {
        let now = Instant::now();
        let shown = Shown { kind: Kind::Nothing, bar: ProgressBar::hidden(), since: now, last_line: now };
        Terminal { quiet, live: !quiet && std::io::stderr().is_terminal(), shown: Mutex::new(shown) }
    }

    /// Takes away the line that changes.
    pub fn finish(&self) {
        drop(self.begin(Kind::Nothing, 0, 0));
    }

    /// Makes the line one of this kind, which begins at `done` of `total`, unless it is one already.
    fn begin(&self, kind: Kind, done: u64, total: u64) -> MutexGuard<'_, Shown> {
        let mut shown = self.shown.lock().expect("no thread panics with the bar");
        if shown.kind == kind {
            return shown;
        }
        shown.bar.finish_and_clear();
        let drawn = self.live && kind != Kind::Nothing;
        let target = if drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template(kind.template()).expect("the templates are right");
        let bar = ProgressBar::with_draw_target(Some(total), target).with_style(style.progress_chars("━╸─"));
        // A resumed download has not been fast, it was there.
        bar.set_position(done);
        bar.reset_eta();
        let now = Instant::now();
        *shown = Shown { kind, bar, since: now, last_line: now };
        shown
    }

    /// A line that stays, above the one that changes.
    fn line(&self, text: &str) {
        let shown = self.shown.lock().expect("no thread panics with the bar");
        shown.bar.suspend(|| say(text));
    }

    /// So many files of a run have been read by `verify`.
    pub fn verifying(&self, done: u64, total: u64) {
        self.update(Kind::Verify, done, total, |elapsed| {
            let rate = done as f64 / elapsed.as_secs_f64().max(1e-3);
            let left = duration((total.saturating_sub(done) as f64 / rate.max(1.0)).ceil() as u64);
            format!("{done} of {total} files, {left} left")
        });
    }

    /// Updates a bar, or writes a line now and then where no line can change.
    fn update(&self, kind: Kind, done: u64, total: u64, text: impl FnOnce(Duration) -> String) {
        let mut shown = self.begin(kind, done, total);
        let text = text(shown.since.elapsed());
        if !self.live && !self.quiet && shown.last_line.elapsed() >= LINE_EVERY {
            shown.last_line = Instant::now();
            say(&format!("{}%: {text}", done * 100 / total.max(1)));
        }
        shown.bar.set_message(text);
        shown.bar.set_position(done);
        drop(shown);
        if done == total {
            self.finish();
        }
    }
}

impl Observer for Terminal {
    fn stage(&self, what: &str) {
        if self.live {
            self.begin(Kind::Stage, 0, 0).bar.set_message(what.to_owned());
        } else if !self.quiet {
            say(what);
        }
    }

    fn note(&self, text: &str) {
        if !self.quiet {
            self.line(text);
        }
    }

    fn warn(&self, text: &str) {
        self.line(&format!("{} {text}", style("warning:").yellow().bold().for_stderr()));
    }

    fn run_folder(&self, run: &Path) {
        remember_way_out(run);
    }

    fn download(&self, file: &str, done: u64, total: u64) {
        self.update(Kind::Download(file.into()), done, total, |_| file.to_owned());
    }

    fn progress(&self, progress: Progress) {
        self.update(Kind::Run, progress.done, progress.total, |elapsed| pace(progress, elapsed));
    }

    fn cancelled(&self) -> bool {
        cancelled()
    }
}

impl Watch for Terminal {
    fn progress(&self, done: u64, total: u64) {
        self.update(Kind::Index, done, total, |elapsed| {
            let rate = done as f64 / elapsed.as_secs_f64().max(1e-3);
            let left = duration((total.saturating_sub(done) as f64 / rate.max(1.0)).ceil() as u64);
            format!("indexing, {:.0} MB/s, {left} left", rate / 1e6)
        });
    }

    fn cancelled(&self) -> bool {
        CANCELLED.load(Ordering::SeqCst)
    }
}

impl llamascope_train::Watch for Terminal {
    fn training(&self, progress: &llamascope_train::Progress) {
        self.update(Kind::Training, progress.step, progress.steps, |_| crate::train::line(progress));
    }
}

/// How fast a run goes, how long it will, and where it is. A token counts when it has gone through all layers.
fn pace(progress: Progress, elapsed: Duration) -> String {
    let Progress { wave, waves, layer, last_layer, done, total, tokens } = progress;
    let place = format!("layer {layer}/{last_layer}, wave {wave}/{waves}");
    if done == 0 {
        return place;
    }
    let rate = done as f64 / elapsed.as_secs_f64().max(1e-3);
    let left = duration((total.saturating_sub(done) as f64 / rate).ceil() as u64);
    // A token has been run when all of its work is done.
    format!("{:.0} tokens/s, {left} left, {place}", rate * tokens as f64 / total.max(1) as f64)
}

/// Seconds as a person says them, to two units.
pub fn duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_counts_whole_tokens() {
        let progress =
            Progress { wave: 2, waves: 3, layer: 7, last_layer: 9, done: 5_000, total: 20_000, tokens: 2_000 };
        assert_eq!(pace(progress, Duration::from_secs(10)), "50 tokens/s, 30 s left, layer 7/9, wave 2/3");
        let begun = Progress { done: 0, ..progress };
        assert_eq!(pace(begun, Duration::ZERO), "layer 7/9, wave 2/3");
    }

    #[test]
    fn a_word_is_quoted_where_a_shell_would_read_it_otherwise() {
        assert_eq!(
            ["outputs/run_1", "a b", "it's", "", "出力"].map(quoted),
            ["outputs/run_1", "'a b'", r"'it'\''s'", "''", "出力"]
        );
    }

    #[test]
    fn durations_have_two_units() {
        assert_eq!(
            [0, 59, 60, 3599, 3600, 90_061].map(duration),
            ["0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "25 h 1 min"]
        );
    }

    #[test]
    fn every_template_is_right() {
        for kind in [Kind::Nothing, Kind::Stage, Kind::Run, Kind::Index, Kind::Training, Kind::Download(String::new())]
        {
            assert!(ProgressStyle::with_template(kind.template()).is_ok(), "{kind:?}");
        }
    }
}
