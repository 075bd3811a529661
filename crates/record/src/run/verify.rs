//! Whether a run folder is what its manifest says: every file, every row, every hash.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use super::check::read_file;
use super::error::{RunError, RunProblem};
use super::journal::{Ledger, hash_of};
use super::manifest::{LayerSummary, Manifest, SaeInfo, Status};
use super::reader::read_manifest;
use super::records::SentenceRecord;
use super::writer::{in_use, is_leftover, names};
use super::{
    MANIFEST, RESUME, Run, SENTENCES, SUMS, Tally, layer_name, layer_of, rows_path, sentence_name, sentence_of,
};

/// Somebody who is told how much is done, and of how much.
pub type Progress<'a> = dyn Fn(u64, u64) + Sync + 'a;

/// Most findings that are kept; the others are counted.
const FINDINGS: usize = 1_000;

/// Something that is missing or wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The file or folder, seen from the run folder.
    pub file: String,
    /// Its line, from 1, where there is one to name.
    pub line: Option<u64>,
    /// What is wrong; reads on after the file's name.
    pub what: String,
    /// Whether a resume puts it right.
    pub mended_by_resume: bool,
}

/// What is to be said of a run folder.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The run folder.
    pub run: PathBuf,
    /// Whether it is complete and nothing is wrong.
    pub right: bool,
    /// How far it came, according to its manifest.
    pub status: Status,
    /// Whether another process is writing it: whatever else is said will soon be another.
    pub in_use: bool,
    /// Files of rows that it should have.
    pub files_expected: u64,
    /// Those of them that are right.
    pub files_right: u64,
    /// Rows in these.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files of rows that are not there because the run has not come so far.
    pub files_to_come: u64,
    /// What is wrong, by file.
    pub findings: Vec<Finding>,
    /// How many more there are than are listed.
    pub findings_left_out: u64,
    /// Whether `llamascope run --resume` completes and mends all of it; none where there is nothing to do.
    pub mended_by_resume: Option<bool>,
}

/// Reads every file of a run and holds it against the manifest. `progress` is told, now and then and by several threads,
/// how many files of rows have been read and how many there are.
///
/// # Errors
/// A folder that is no run, has no manifest, or has one that cannot be read: then there is nothing to hold it against.
pub fn verify(run: &Path, progress: &Progress<'_>) -> Result<Verdict, RunError> {
    let path = run.join(MANIFEST);
    let manifest = match read_manifest(&path)? {
        Some(manifest) => manifest,
        None => {
            Run::open(run)?;
            return Err(RunError::new(&path, RunProblem::Read(io::ErrorKind::NotFound.into())));
        }
    };
    let mut check = Check { run, manifest: &manifest, findings: Vec::new() };
    let records = check.sentences();
    check.strangers()?;
    let ledger = check.ledger()?;
    let layers = check.rows(&records, &ledger, progress);
    check.summaries(&layers);

    let mut findings = check.findings;
    findings.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    let sum = |of: fn(&Layer) -> u64| layers.iter().map(of).sum::<u64>();
    let complete = manifest.complete && manifest.status == Status::Complete;
    let right = complete && findings.is_empty();
    let mended = findings.iter().all(|finding| finding.mended_by_resume) && manifest.sentences_blake3.is_some();
    let left_out = findings.len().saturating_sub(FINDINGS);
    findings.truncate(FINDINGS);
    Ok(Verdict {
        run: run.to_owned(),
        right,
        status: manifest.status,
        in_use: in_use(run),
        files_expected: (manifest.saes.len() as u64).saturating_mul(manifest.counts.sentences),
        files_right: sum(|layer| layer.files),
        rows: sum(|layer| layer.rows),
        bytes: sum(|layer| layer.bytes),
        files_to_come: sum(|layer| layer.to_come),
        findings,
        findings_left_out: left_out as u64,
        mended_by_resume: (!right).then_some(mended),
    })
}

struct Check<'a> {
    run: &'a Path,
    manifest: &'a Manifest,
    findings: Vec<Finding>,
}

/// What was found at one layer.
#[derive(Default)]
struct Layer {
    files: u64,
    rows: u64,
    bytes: u64,
    to_come: u64,
    tally: Tally,
    findings: Vec<Finding>,
}

fn finding(file: impl Into<String>, line: Option<u64>, what: impl ToString, mended_by_resume: bool) -> Finding {
    Finding { file: file.into(), line, what: what.to_string(), mended_by_resume }
}

impl Check<'_> {
    fn find(&mut self, file: &str, what: impl ToString, mended_by_resume: bool) {
        self.findings.push(finding(file, None, what, mended_by_resume));
    }

    /// The sentences, if they are what they were.
    fn sentences(&mut self) -> Vec<SentenceRecord> {
        let path = self.run.join(SENTENCES);
        let records = match super::records::read_records(&path) {
            Ok(records) => records,
            Err(error) => {
                self.findings.push(finding(SENTENCES, error.line, said(&error.problem), true));
                return Vec::new();
            }
        };
        let counts = &self.manifest.counts;
        let tokens: u64 = records.iter().map(|record| record.tokens.len() as u64).sum();
        let expected = self.manifest.sentences_blake3.as_deref();
        let found = hash_of(&path).map(|hash| hash.to_hex().to_string()).unwrap_or_default();
        if expected.is_some_and(|expected| expected != found) {
            self.find(
                SENTENCES,
                format!("its BLAKE3 is {found}, {MANIFEST} says {}", expected.unwrap_or_default()),
                true,
            );
        } else if (records.len() as u64, tokens) != (counts.sentences, counts.tokens) {
            let told = format!("{} sentences, {} tokens", counts.sentences, counts.tokens);
            self.find(
                SENTENCES,
                format!("{} sentences, {tokens} tokens; {MANIFEST} says {told}", records.len()),
                false,
            );
        } else {
            return records;
        }
        Vec::new()
    }

    /// Files that are not of this run.
    fn strangers(&mut self) -> Result<(), RunError> {
        /// What else lies in a run folder: the run itself, an index, labels.
        const KNOWN: [&str; 6] = [MANIFEST, SENTENCES, SUMS, RESUME, "index", "labels"];
        let sentences = self.manifest.counts.sentences;
        for name in names(self.run)? {
            let layer = layer_of(&name).filter(|layer| self.manifest.saes.iter().any(|sae| sae.layer == *layer));
            let leftover = KNOWN.iter().any(|file| is_leftover(&name, |of| of == *file));
            if leftover {
                self.find(&name, "left half-written by a process that was killed", true);
            } else if name == RESUME && self.manifest.complete {
                self.find(&name, "left from before the run was complete", true);
            } else if layer.is_some() && self.run.join(&name).is_dir() {
                for file in names(&self.run.join(&name))? {
                    if is_leftover(&file, |of| sentence_of(of).is_some()) {
                        self.find(&format!("{name}/{file}"), "left half-written by a process that was killed", true);
                    } else if sentence_of(&file).is_none_or(|sentence| sentence as u64 >= sentences) {
                        self.find(&format!("{name}/{file}"), "is not of this run: move it elsewhere", false);
                    }
                }
            } else if layer_of(&name).is_some() {
                self.find(&name, format!("is not of this run: {MANIFEST} knows no such layer"), false);
            }
        }
        Ok(())
    }

    /// The hashes of the files.
    fn ledger(&mut self) -> Result<Ledger, RunError> {
        let path = self.run.join(SUMS);
        if let Some(expected) = self.manifest.rows_blake3.clone().filter(|_| self.manifest.complete) {
            match hash_of(&path) {
                Err(error) => self.find(SUMS, said(&RunProblem::Read(error)), true),
                Ok(found) if found.to_hex().as_str() != expected => {
                    self.find(SUMS, format!("its BLAKE3 is {found}, {MANIFEST} says {expected}"), true);
                }
                Ok(_) => {}
            }
        }
        Ledger::claimed(self.run, self.manifest)
    }

    /// Reads all rows.
    fn rows(&mut self, records: &[SentenceRecord], ledger: &Ledger, progress: &Progress<'_>) -> Vec<Layer> {
        /// Files between two reports.
        const REPORT_EVERY: u64 = 64;
        let (total, done) = (self.manifest.saes.len() as u64 * records.len() as u64, AtomicU64::new(0));
        let complete = self.manifest.complete;
        let of_layer = |sae: &SaeInfo| {
            let mut layer = Layer { tally: Tally::new(std::slice::from_ref(sae)), ..Layer::default() };
            for record in records {
                let (sentence, tokens) = (record.index, &record.tokens);
                let hash = ledger.hash(sae.layer, sentence);
                match read_file(&rows_path(self.run, sae.layer, sentence), tokens, sae.d_sae, hash) {
                    Ok(rows) => {
                        layer.files += 1;
                        layer.rows += rows.len() as u64;
                        layer.bytes += rows.bytes;
                        layer.tally.add(sae.layer, sentence, rows.iter());
                    }
                    Err(error) if is_absent(&error) && !complete && hash.is_none() => layer.to_come += 1,
                    Err(error) => {
                        let file = format!("{}/{}", layer_name(sae.layer), sentence_name(sentence));
                        layer.findings.push(finding(file, error.line, said(&error.problem), true));
                    }
                }
                let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                if done.is_multiple_of(REPORT_EVERY) || done == total {
                    progress(done, total);
                }
            }
            layer
        };
        let mut layers: Vec<Layer> = self.manifest.saes.par_iter().map(of_layer).collect();
        layers.iter_mut().for_each(|layer| self.findings.append(&mut layer.findings));
        layers
    }

    /// Holds what was counted against what the manifest says, where all rows are there.
    fn summaries(&mut self, layers: &[Layer]) {
        let expected = self.manifest.counts.sentences;
        if !self.manifest.complete || layers.iter().any(|layer| layer.files != expected) {
            return;
        }
        let told: BTreeMap<usize, &LayerSummary> =
            self.manifest.layers.iter().map(|summary| (summary.layer, summary)).collect();
        let mut all = Tally::default();
        for layer in layers {
            all.join(layer.tally.clone());
        }
        for found in all.summaries() {
            match told.get(&found.layer) {
                Some(told) => {
                    let mut differing = Vec::new();
                    let mut hold = |what: &str, found: String, told: String| {
                        if found != told {
                            differing.push(format!("{what} is {found}, {MANIFEST} says {told}"));
                        }
                    };
                    hold("the number of rows", found.rows.to_string(), told.rows.to_string());
                    hold("the number of active features", found.nnz.to_string(), told.nnz.to_string());
                    hold("the mean L0", found.l0_mean.to_string(), told.l0_mean.to_string());
                    hold("the largest L0", found.l0_max.to_string(), told.l0_max.to_string());
                    hold(
                        "the number of features seen",
                        found.features_seen.to_string(),
                        told.features_seen.to_string(),
                    );
                    hold("the fingerprint", found.fingerprint, told.fingerprint.clone());
                    differing.iter().for_each(|what| self.find(&layer_name(found.layer), what, false));
                }
                None => self.find(&layer_name(found.layer), format!("{MANIFEST} does not sum it up"), false),
            }
        }
        let (rows, told) = (layers.iter().map(|layer| layer.rows).sum::<u64>(), self.manifest.counts.rows);
        if rows != told {
            self.find(MANIFEST, format!("says {told} rows, there are {rows}"), false);
        }
        let fingerprint = all.fingerprint();
        if self.manifest.fingerprint.as_ref() != Some(&fingerprint) {
            let told = self.manifest.fingerprint.as_deref().unwrap_or("none");
            self.find(MANIFEST, format!("the fingerprint of all rows is {fingerprint}, it says {told}"), false);
        }
    }
}

fn is_absent(error: &RunError) -> bool {
    matches!(&error.problem, RunProblem::Read(error) if error.kind() == io::ErrorKind::NotFound)
}

fn said(problem: &RunProblem) -> String {
    match problem {
        RunProblem::Read(error) if error.kind() == io::ErrorKind::NotFound => "is missing".into(),
        problem => problem.to_string(),
    }
}
