//! What goes wrong under a run or lies in its folder: disks that fail, threads that panic, weights that change, journals that
//! lie, links and pipes. The resume ends with the folder of a run that nothing disturbed.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use llamascope_pipeline::{Error, Observer, Progress};
use llamascope_record::run::{Disk, Operation, verify};

use crate::resume::{assert_same, begun, content, job, resume, stopped};
use crate::support::{Job, files};

/// Runs on a disk that goes wrong at the `nth` operation, then goes on with it on a good one.
fn survives(job: &mut Job, whole: &[(String, Vec<u8>)], disk: Disk, check: impl Fn(&Error)) -> bool {
    job.surroundings.disk = disk;
    let result = job.try_run(&());
    job.surroundings.disk = Disk::default();
    let failed = match result {
        Ok(finished) => {
            assert_same(&finished.path, whole, "nothing went wrong");
            fs::remove_dir_all(finished.path).unwrap();
            return false;
        }
        Err(error) => error,
    };
    check(&failed);
    let said = failed.to_string();
    if let Some(run) = begun(job) {
        let manifest = fs::read_to_string(run.join("run.json")).unwrap();
        assert!(!manifest.contains("\"complete\": true"), "{said}: {manifest}");
        resume(job, &run, &()).unwrap_or_else(|error| panic!("after `{said}`: {error}"));
        assert_same(&run, whole, &said);
    }
    fs::remove_dir_all(&job.config.output_dir).unwrap();
    true
}

#[test]
fn a_disk_that_fails_at_any_operation_costs_no_row() {
    let mut job = job();
    job.config.layers = "0,2".parse().unwrap();
    let run = job.run().path;
    let whole = content(&run);
    fs::remove_dir_all(&run).unwrap();
    for (kind, lasts) in [(ErrorKind::StorageFull, true), (ErrorKind::Other, false)] {
        // Every operation at the beginning and the end, every seventh between them.
        for nth in (0..24).chain((24..260).step_by(7)).chain(260..) {
            let count = AtomicUsize::new(0);
            let failing = Arc::new(Mutex::new(None));
            let seen = failing.clone();
            let met = Arc::new(AtomicBool::new(false));
            let reached = met.clone();
            let disk = Disk::asking(move |operation, path| {
                let now = count.fetch_add(1, Ordering::Relaxed);
                // A full disk still lets go of files.
                let fails = now == nth || (now > nth && lasts && operation != Operation::Remove);
                if !fails {
                    return Ok(());
                }
                // A run goes on without its kept rows.
                if !path.ends_with("resume/residual.bin") {
                    seen.lock().unwrap().get_or_insert(path.to_owned());
                }
                reached.store(true, Ordering::Relaxed);
                Err(kind.into())
            });
            let failed = survives(&mut job, &whole, disk, |error| {
                let path = failing.lock().unwrap().clone().expect("something failed");
                assert!(error.to_string().contains(&path.display().to_string()), "{error}: {}", path.display());
                assert!(error.is_resumable(), "{error:?}");
                assert!(matches!(error, Error::Run(_)), "{error:?}");
            });
            if !met.load(Ordering::Relaxed) {
                assert!(!failed && nth > 200, "{nth} operations");
                break;
            }
        }
    }
}

#[test]
fn a_panic_of_the_writer_costs_no_row() {
    let mut job = job();
    let whole = content(&job.run().path);
    fs::remove_dir_all(&job.config.output_dir).unwrap();
    for nth in [0, 5, 30] {
        let count = AtomicUsize::new(0);
        let disk = Disk::asking(move |operation, path| {
            let rows = operation == Operation::Write && path.display().to_string().contains("layer_");
            assert!(!rows || count.fetch_add(1, Ordering::Relaxed) != nth, "a test lets the writer panic");
            Ok(())
        });
        let failed = survives(&mut job, &whole, disk, |error| {
            assert!(matches!(error, Error::Panicked(said) if said.contains("lets the writer panic")), "{error:?}");
        });
        assert!(failed);
    }
}

#[test]
fn a_journal_and_kept_rows_that_lie_are_not_believed() {
    let (job, run) = stopped();
    let whole = {
        let other = crate::resume::job().remade(|_, _| {});
        let path = other.run().path;
        files(&path).into_iter().filter(|(name, _)| name.starts_with("layer_")).collect::<Vec<_>>()
    };
    let (journal, residual) = (run.join("resume/journal.jsonl"), run.join("resume/residual.bin"));
    let keep = (fs::read(&journal).unwrap(), fs::read(&residual).unwrap());
    let begun = files(&run);
    let lies: [(&str, &dyn Fn()); 6] = [
        ("no journal", &|| fs::remove_file(&journal).unwrap()),
        ("a journal that is cut", &|| fs::write(&journal, &keep.0[..keep.0.len() - 9]).unwrap()),
        ("a journal of nonsense", &|| fs::write(&journal, [0xff; 4096]).unwrap()),
        ("kept rows that are cut", &|| fs::write(&residual, &keep.1[..keep.1.len() - 9]).unwrap()),
        ("kept rows of another number", &|| {
            let mut bytes = keep.1.clone();
            bytes[100] ^= 1;
            fs::write(&residual, bytes).unwrap();
        }),
        ("a file that the journal names is another", &|| {
            fs::write(run.join("layer_00/sentence_0000.jsonl"), "{}\n").unwrap();
        }),
    ];
    for (what, lie) in lies {
        lie();
        resume(&job, &run, &()).unwrap_or_else(|error| panic!("{what}: {error}"));
        let found: Vec<_> = files(&run).into_iter().filter(|(name, _)| name.starts_with("layer_")).collect();
        assert!(found == whole, "{what}");
        assert!(verify(&run, &|_, _| {}).unwrap().right, "{what}");
        fs::remove_dir_all(&run).unwrap();
        for (name, bytes) in &begun {
            fs::create_dir_all(run.join(name).parent().unwrap()).unwrap();
            fs::write(run.join(name), bytes).unwrap();
        }
    }
}

#[test]
#[cfg(unix)]
fn links_and_pipes_in_a_run_folder_are_replaced_and_not_followed() {
    let job = job();
    let run = job.run().path;
    let whole = content(&run);
    let elsewhere = job.folder.path().join("mine.txt");
    fs::write(&elsewhere, "mine").unwrap();
    let link = |name: &str| {
        let path = run.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    };
    let links = ["layer_00/sentence_0003.jsonl", "layer_01/sentence_0004.jsonl.tmp", "run.json.tmp", "rows.b3sum.tmp"];
    links.into_iter().for_each(link);
    ["resume/journal.jsonl.tmp", "resume/residual.bin.tmp"].into_iter().for_each(link);
    for pipe in ["layer_02/sentence_0001.jsonl", "sentences.jsonl", "rows.b3sum", "resume/residual.bin"] {
        let _ = fs::remove_file(run.join(pipe));
        let made = std::process::Command::new("mkfifo").arg(run.join(pipe)).status().unwrap();
        assert!(made.success());
    }
    let verdict = verify(&run, &|_, _| {}).unwrap();
    assert_eq!((verdict.right, verdict.mended_by_resume), (false, Some(true)), "{verdict:?}");
    resume(&job, &run, &()).unwrap();
    assert_same(&run, &whole, "links and pipes");
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "mine");
    assert!(fs::symlink_metadata(run.join("layer_00/sentence_0003.jsonl")).unwrap().is_file());
}

/// Writes to the model's file in the middle of the run.
struct Meddles {
    file: PathBuf,
    reports: AtomicUsize,
}

impl Observer for Meddles {
    fn progress(&self, _: Progress) {
        if self.reports.fetch_add(1, Ordering::Relaxed) == 12 {
            use std::io::{Seek, SeekFrom, Write};
            let mut file = fs::File::options().write(true).open(&self.file).unwrap();
            file.seek(SeekFrom::End(-4)).unwrap();
            file.write_all(&[1, 2, 3, 4]).unwrap();
        }
    }
}

#[test]
fn weights_that_are_written_to_meanwhile_end_the_run() {
    let job = job().remade(|_, _| {});
    let file = Path::new(&job.config.model_id).join("model.safetensors");
    let weights = fs::read(&file).unwrap();
    // A time that the file system can tell from that of the writing.
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    fs::File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
    let error = job.try_run(&Meddles { file: file.clone(), reports: AtomicUsize::new(0) }).unwrap_err();
    assert!(matches!(*error, Error::Altered { .. }), "{error:?}");
    let said = error.to_string();
    assert!(said.contains("model.safetensors was written to while it was in use"), "{said}");
    fs::write(&file, weights).unwrap();
    let run = begun(&job).unwrap();
    resume(&job, &run, &()).unwrap();
    let fresh = job.run();
    let rows = |run: &Path| files(run).into_iter().filter(|(name, _)| name.starts_with("layer_")).collect::<Vec<_>>();
    assert!(rows(&run) == rows(&fresh.path));
}
