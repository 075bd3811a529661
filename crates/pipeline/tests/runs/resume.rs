//! Runs that are stopped, by whatever stops a run, and taken up again: the folder is that of a run that was not.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use llamascope_pipeline::config::Overrides;
use llamascope_pipeline::{Error, Finished, Observer, Progress};
use llamascope_record::run::{Disk, RunProblem, RunWriter, Status, verify};
use serde_json::{Value, json};

use crate::support::{Job, MODEL, SAES, files, remake, sentences};

/// Several waves, each of several chunks.
const TIGHT: u64 = 400 << 10;

/// A run of many waves over the fixture's sentences and a few more.
pub fn job() -> Job {
    let mut all = sentences("llama3");
    all.extend((0..20).map(|i| format!("{i} lamps on the harbour wall went out")));
    let mut job = Job::new(MODEL, SAES).over(&all);
    job.config.memory = Some(TIGHT);
    job
}

/// The files of a run folder, the manifest without what is measured.
pub fn content(run: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = files(run);
    for (name, bytes) in &mut all {
        if name == "run.json" {
            let mut manifest: Value = serde_json::from_slice(bytes).unwrap();
            assert!(manifest["timings"].take().is_object());
            *bytes = serde_json::to_vec_pretty(&manifest).unwrap();
        }
    }
    all
}

#[track_caller]
pub fn assert_same(run: &Path, whole: &[(String, Vec<u8>)], what: &str) {
    let found = content(run);
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&found), names(whole), "{what}");
    for ((name, found), (_, whole)) in found.iter().zip(whole) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(text(found), text(whole), "{what}: {name}");
    }
    let verdict = verify(run, &|_, _| {}).unwrap();
    assert!(verdict.right, "{what}: {verdict:?}");
}

pub fn resume(job: &Job, run: &Path, observer: &dyn Observer) -> Result<Finished, Box<Error>> {
    llamascope_pipeline::resume(run, Overrides::default(), &job.surroundings, observer).map_err(Box::new)
}

/// Why a resume is refused.
#[track_caller]
fn refusal(job: &Job, run: &Path) -> String {
    let error = resume(job, run, &()).expect_err("this should be refused");
    assert!(matches!(*error, Error::Resume { .. } | Error::Weights { .. }), "{error:?}");
    error.to_string()
}

/// Stops at the `at`-th report of progress, and counts the work that was done.
struct StopsAt {
    at: usize,
    reports: AtomicUsize,
}

impl StopsAt {
    fn new(at: usize) -> Self {
        StopsAt { at, reports: AtomicUsize::new(0) }
    }
}

impl Observer for StopsAt {
    fn progress(&self, _: Progress) {
        self.reports.fetch_add(1, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.reports.load(Ordering::Relaxed) >= self.at
    }
}

/// The only run folder of a job that failed, if there is a manifest in it.
pub fn begun(job: &Job) -> Option<PathBuf> {
    let folders = fs::read_dir(&job.config.output_dir).ok()?.map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = folders.filter(|folder| folder.join("run.json").exists()).collect();
    assert!(folders.len() <= 1, "{folders:?}");
    folders.pop()
}

/// How many reports of progress a whole run makes.
fn reports(job: &Job) -> usize {
    let observer = StopsAt::new(usize::MAX);
    job.try_run(&observer).unwrap();
    fs::remove_dir_all(&job.config.output_dir).unwrap();
    observer.reports.into_inner()
}

#[test]
fn a_run_that_is_stopped_anywhere_and_resumed_is_the_same_to_the_byte() {
    let mut job = job();
    let all = reports(&job);
    assert!(all > 30, "{all}");
    let run = job.run().path;
    let whole = content(&run);
    fs::remove_dir_all(&run).unwrap();
    for at in (1..all).step_by(3) {
        let first = StopsAt::new(at);
        let error = job.try_run(&first).unwrap_err();
        assert!(error.is_interruption(), "{error}");
        assert!(!verify(&run, &|_, _| {}).unwrap().right);
        let rest = StopsAt::new(usize::MAX);
        assert_eq!(resume(&job, &run, &rest).unwrap().path, run);
        assert_same(&run, &whole, &format!("stopped at {at}"));
        // What was stopped in the middle of a wave goes on there: nothing but the chunk in hand is done twice.
        let done = at + rest.reports.into_inner();
        assert!(done <= all + 2, "{done} pieces of work instead of {all}, stopped at {at}");
        fs::remove_dir_all(&run).unwrap();
    }
    // Stopped again and again, and each time with other means.
    job.try_run(&StopsAt::new(2)).unwrap_err();
    for memory in [TIGHT, 1, 1 << 30, TIGHT / 2].into_iter().cycle().take(2 * all) {
        let given = Overrides { memory: Some(memory), threads: Some(1.try_into().unwrap()), ..Overrides::default() };
        match llamascope_pipeline::resume(&run, given, &job.surroundings, &StopsAt::new(4)) {
            Err(error) => assert!(error.is_interruption(), "{error}"),
            Ok(finished) => {
                assert_eq!(finished.manifest.status, Status::Complete);
                assert_same(&run, &whole, "stopped again and again");
                // What was computed before a stop counts.
                let nnz: u64 = finished.manifest.layers.iter().map(|layer| layer.nnz).sum();
                assert!(finished.manifest.timings.candidates >= nnz, "{:?}", finished.manifest.timings);
                return;
            }
        }
    }
    job.surroundings.memory = 0;
    panic!("a run that is resumed again and again never ends");
}

#[test]
fn what_is_missing_or_damaged_is_mended_and_nothing_else_is_touched() {
    let job = job();
    let run = job.run().path;
    let whole = content(&run);
    let rows = |layer: usize, sentence: usize| run.join(format!("layer_{layer:02}/sentence_{sentence:04}.jsonl"));
    let untouched = rows(0, 7);
    let written = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let damage: [(&str, &dyn Fn()); 7] = [
        ("a file is gone", &|| fs::remove_file(rows(1, 3)).unwrap()),
        ("a folder is gone", &|| fs::remove_dir_all(run.join("layer_02")).unwrap()),
        ("a file was cut", &|| fs::write(rows(0, 5), "").unwrap()),
        ("a digit is another", &|| {
            let text = fs::read_to_string(rows(2, 8)).unwrap();
            let at = text.find("feat_vals\": [").unwrap() + 13;
            let digit = if &text[at..at + 1] == "3" { "4" } else { "3" };
            fs::write(rows(2, 8), format!("{}{digit}{}", &text[..at], &text[at + 1..])).unwrap();
        }),
        ("the sentences are gone", &|| fs::remove_file(run.join("sentences.jsonl")).unwrap()),
        ("the list is another", &|| fs::write(run.join("rows.b3sum"), "nothing").unwrap()),
        ("something was left behind", &|| {
            fs::write(run.join("layer_00/sentence_0004.jsonl.tmp"), "{").unwrap();
            fs::write(run.join("run.json.tmp"), "{").unwrap();
            fs::create_dir(run.join("resume")).unwrap();
            fs::write(run.join("resume/residual.bin"), "x").unwrap();
        }),
    ];
    for (what, damage) in damage {
        let before = written(&untouched);
        damage();
        let verdict = verify(&run, &|_, _| {}).unwrap();
        assert!(!verdict.right && verdict.mended_by_resume == Some(true), "{what}: {verdict:?}");
        resume(&job, &run, &()).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_same(&run, &whole, what);
        if what != "the list is another" {
            assert_eq!(written(&untouched), before, "{what}: a file that was right is written again");
        }
    }
}

#[test]
fn verify_names_what_a_resume_does_not_mend() {
    let job = job();
    let run = job.run().path;
    let manifest = fs::read_to_string(run.join("run.json")).unwrap();
    fs::write(run.join("layer_00/notes.txt"), "mine").unwrap();
    let verdict = verify(&run, &|_, _| {}).unwrap();
    assert_eq!((verdict.right, verdict.mended_by_resume), (false, Some(false)));
    assert!(verdict.findings[0].file == "layer_00/notes.txt" && verdict.findings.len() == 1, "{verdict:?}");
    fs::remove_file(run.join("layer_00/notes.txt")).unwrap();
    let told: Value = serde_json::from_str(&manifest).unwrap();
    let nnz = &told["layers"][1]["nnz"];
    fs::write(run.join("run.json"), manifest.replace(&format!("\"nnz\": {nnz},"), "\"nnz\": 1,")).unwrap();
    let verdict = verify(&run, &|_, _| {}).unwrap();
    assert_eq!((verdict.right, verdict.mended_by_resume), (false, Some(false)));
    let expected = format!("the number of active features is {nnz}, run.json says 1");
    assert!(verdict.findings.iter().any(|f| f.file == "layer_01" && f.what == expected), "{verdict:?}");
    fs::remove_file(run.join("run.json")).unwrap();
    assert!(verify(&run, &|_, _| {}).unwrap_err().to_string().contains("run.json"));
}

/// A job that was stopped in the middle, and its folder.
pub fn stopped() -> (Job, PathBuf) {
    let job = job().remade(|_, _| {});
    job.try_run(&StopsAt::new(20)).unwrap_err();
    let run = begun(&job).unwrap();
    (job, run)
}

#[test]
fn what_is_not_what_it_was_is_refused_by_name() {
    let (mut job, run) = stopped();
    let before = content(&run);
    let model = PathBuf::from(&job.config.model_id);
    let input = job.config.input_csvs[0].clone();

    let given = Overrides { dtype: Some(llamascope_pipeline::config::Precision::Bfloat16), ..Overrides::default() };
    let error = llamascope_pipeline::resume(&run, given, &job.surroundings, &()).unwrap_err();
    assert!(
        error.is_usage() && error.to_string().contains("dtype (--dtype) is \"float32\", not \"bfloat16\""),
        "{error}"
    );

    let program = std::mem::replace(&mut job.surroundings.program, "llamascope 9".into());
    let refused = refusal(&job, &run);
    assert!(refused.contains("begun by llamascope test, this is llamascope 9"), "{refused}");
    job.surroundings.program = program;

    let text = fs::read_to_string(&input).unwrap();
    fs::write(&input, text.replace("7 lamps", "8 lamps")).unwrap();
    let refused = refusal(&job, &run);
    let place = format!("sentence {} (", sentences("llama3").len() + 7);
    assert!(refused.contains(&place) && refused.contains("was \"7 lamps on the"), "{refused}");
    fs::write(&input, format!("{text}{}\n", json!({"text": "one more"}))).unwrap();
    assert!(refusal(&job, &run).contains("the input had 32 sentences, now it has 33"));
    fs::write(&input, &text).unwrap();

    let tokenizer = fs::read_to_string(model.join("tokenizer.json")).unwrap();
    let mut other: Value = serde_json::from_str(&tokenizer).unwrap();
    other["added_tokens"][0]["lstrip"] = json!(true);
    fs::write(model.join("tokenizer.json"), other.to_string()).unwrap();
    assert!(refusal(&job, &run).contains("the tokenizer was BLAKE3"));
    fs::write(model.join("tokenizer.json"), &tokenizer).unwrap();

    let rows = |files: Vec<(String, Vec<u8>)>| {
        files
            .into_iter()
            .filter(|(name, _)| name.starts_with("layer_") || name == "sentences.jsonl")
            .collect::<Vec<_>>()
    };
    assert!(rows(content(&run)) == rows(before), "a refusal changes no rows");

    // What does not depend on the other weights may be finished before they are read.
    let weights = fs::read(model.join("model.safetensors")).unwrap();
    let other = job.folder.path().join("other");
    remake(&model, &other, |tensor, values| {
        if tensor == "model.layers.1.mlp.up_proj.weight" {
            values[0] += 1.0;
        }
    });
    fs::copy(other.join("model.safetensors"), model.join("model.safetensors")).unwrap();
    let refused = refusal(&job, &run);
    assert!(refused.contains("the weights (layer 1) are not those that this run was begun with"), "{refused}");
    fs::write(model.join("model.safetensors"), &weights).unwrap();

    resume(&job, &run, &()).unwrap();
    assert!(verify(&run, &|_, _| {}).unwrap().right);
    let fresh = job.run().path;
    assert!(rows(content(&run)) == rows(content(&fresh)));
}

#[test]
fn one_process_at_a_time() {
    let (job, run) = stopped();
    let first = RunWriter::reopen(&run, Disk::default()).unwrap();
    assert!(first.is_locked());
    let error = resume(&job, &run, &()).unwrap_err();
    assert!(matches!(&*error, Error::Run(error) if matches!(error.problem, RunProblem::InUse)), "{error:?}");
    assert!(error.to_string().contains("another process is at work on this run"), "{error}");
    assert!(verify(&run, &|_, _| {}).unwrap().in_use);
    drop(first);
    assert!(!verify(&run, &|_, _| {}).unwrap().in_use);
    resume(&job, &run, &()).unwrap();
}

#[test]
fn what_memory_is_free_neither_hinders_a_resume_nor_changes_it() {
    let mut job = job();
    job.config.memory = None;
    job.surroundings.memory = TIGHT;
    let run = job.run().path;
    let whole = content(&run);
    for free in [0, TIGHT / 3, TIGHT, 1 << 40] {
        fs::remove_dir_all(&run).unwrap();
        job.surroundings.memory = TIGHT;
        job.try_run(&StopsAt::new(20)).unwrap_err();
        job.surroundings.memory = free;
        resume(&job, &run, &()).unwrap();
        assert_same(&run, &whole, &format!("{free} bytes are free"));
    }
}

#[test]
fn weights_that_are_others_with_the_same_bytes_do_not_hinder() {
    let (job, run) = stopped();
    let file = Path::new(&job.config.model_id).join("model.safetensors");
    let weights = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    fs::write(&file, weights).unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    resume(&job, &run, &()).unwrap();
    let whole = content(&run);
    fs::remove_dir_all(&run).unwrap();
    assert_eq!(job.run().path, run);
    assert_same(&run, &whole, "other weights with the same bytes");
}
