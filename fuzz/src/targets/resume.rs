//! What a run that was stopped has left for its resume: which files of rows are there, the journal, rows on their way, the
//! list of hashes. Whatever they say, a resume ends with the rows of a run that nothing disturbed, or refuses the weights.

use std::cell::LazyCell;
use std::fs;
use std::path::Path;

use llamascope_pipeline::config::Overrides;
use llamascope_pipeline::{Error, Surroundings};
use llamascope_record::run::verify;

use crate::place::Place;
use crate::tiny::{RUN, StopsAfter, config, surroundings};
use crate::{Target, join, parts};

/// See the module. A resume opens the model and its SAEs.
pub const TARGET: Target = Target { name: "resume", run, seeds, base_bytes: 64 << 20, bytes_per_byte: 4 << 10 };

const SENTENCES: &str = "The capital of France is Paris, and that of Japan\n東京。\n1 + 1 = 2\nA lamp on the harbour wall went out, and nobody \
                         noticed\nIt was late\n";
/// What is left of a run, in the order of the parts of an input; before them stands a byte for each file of rows.
const LEFT: [&str; 3] = ["resume/journal.jsonl", "resume/residual.bin", "rows.b3sum"];

/// A run that was stopped once, and what it would have been.
struct Stopped {
    place: Place,
    /// Its manifest and sentences.
    begun: Vec<(String, Vec<u8>)>,
    /// All files of rows.
    rows: Vec<(String, Vec<u8>)>,
}

fn run(data: &[u8]) {
    thread_local!(static STOPPED: LazyCell<Stopped> = const { LazyCell::new(stopped) });
    STOPPED.with(|stopped| {
        let run = format!("outputs/{RUN}");
        let write = |name: &str, bytes: &[u8]| stopped.place.write(&format!("{run}/{name}"), bytes);
        stopped.place.clear(&run);
        stopped.begun.iter().for_each(|(name, bytes)| drop(write(name, bytes)));
        let [there, left @ ..]: [&[u8]; 1 + LEFT.len()] = parts(data);
        for (number, (name, bytes)) in stopped.rows.iter().enumerate() {
            match there.get(number) {
                Some(b'0') => {}
                Some(b'<') => drop(write(name, &bytes[..bytes.len() / 2])),
                Some(b'>') => drop(write(name, &stopped.rows[(number + 1) % stopped.rows.len()].1)),
                Some(b't') => drop(write(&format!("{name}.tmp"), bytes)),
                _ => drop(write(name, bytes)),
            }
        }
        LEFT.iter().zip(left).filter(|(_, bytes)| !bytes.is_empty()).for_each(|(name, bytes)| drop(write(name, bytes)));

        let path = stopped.place.path().join(&run);
        let before = verify(&path, &|_, _| {}).expect("it has a manifest");
        assert!(!before.right, "it is not complete");
        match llamascope_pipeline::resume(&path, Overrides::default(), &tight(), &()) {
            Ok(_) => {
                assert!(rows(&path) == stopped.rows, "the rows are others");
                let after = verify(&path, &|_, _| {}).expect("it has a manifest");
                assert!(after.right, "{after:?}");
            }
            // A hash of weights in the journal that is not theirs.
            Err(Error::Weights { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    });
}

/// So little memory that every sentence or two are a wave of their own.
fn tight() -> Surroundings {
    Surroundings { memory: 1 << 10, ..surroundings() }
}

/// A place with a run that was stopped after some reports of progress.
fn stopped_after(reports: usize) -> Place {
    let place = Place::new();
    let observer = StopsAfter::new(reports);
    let ended = llamascope_pipeline::run(&config(&place, SENTENCES), &tight(), &observer);
    assert!(ended.is_err_and(|error| error.is_interruption()), "it was stopped");
    place
}

fn stopped() -> Stopped {
    let place = stopped_after(1);
    let path = place.path().join("outputs").join(RUN);
    let read = |name: &str| (name.to_owned(), fs::read(path.join(name)).expect("a run has it"));
    let begun = vec![read("run.json"), read("sentences.jsonl")];
    llamascope_pipeline::resume(&path, Overrides::default(), &tight(), &()).expect("nothing hinders it");
    Stopped { rows: rows(&path), place, begun }
}

/// The files of rows of a run, by name.
fn rows(run: &Path) -> Vec<(String, Vec<u8>)> {
    let mut rows = Vec::new();
    for layer in fs::read_dir(run).expect("it is there").map(|entry| entry.expect("it can be read").path()) {
        if layer.is_dir() {
            for file in fs::read_dir(&layer).expect("it is there").map(|entry| entry.expect("it can be read").path()) {
                let name = file.strip_prefix(run).expect("it lies in the run").display().to_string();
                rows.push((name, fs::read(&file).expect("it can be read")));
            }
        }
    }
    rows.sort();
    rows
}

fn seeds() -> Vec<Vec<u8>> {
    let left = |reports: usize| {
        let place = stopped_after(reports);
        let path = place.path().join("outputs").join(RUN);
        LEFT.map(|name| fs::read(path.join(name)).unwrap_or_default())
    };
    let [[journal, residual, _], [early, kept, _]] = [left(3), left(1)];
    let sums = {
        let Stopped { place, .. } = stopped();
        fs::read(place.path().join("outputs").join(RUN).join("rows.b3sum")).expect("it is complete")
    };
    vec![
        join(&[b"111", &journal, &residual]),
        join(&[b"000000", &early, &kept]),
        join(&[b"1<>t01", &journal, b"", &sums]),
        join(&[b"", b"", &residual, &sums]),
    ]
}
