mod damage;
mod health;
mod oracle;

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::run::{Counts, Manifest, RunWriter, SaeInfo, Status};
use crate::{Sentence, Source, Span, SparseRows, Tokens};

/// A sentence with a token for every character behind a BOS.
fn sentence(text: &str) -> (Sentence, Tokens) {
    let mut tokens = Tokens::default();
    let mut push = |id: usize, span: (usize, usize), text: &str, bos: bool| {
        tokens.ids.push(id as u32);
        tokens.spans.push(Span { start: span.0 as u32, end: span.1 as u32 });
        tokens.strs.push(text.to_owned());
        tokens.special.push(bos);
        tokens.bos.push(bos);
    };
    push(1, (0, 0), "<s>", true);
    for (start, c) in text.char_indices() {
        push(c as usize, (start, start + c.len_utf8()), &c.to_string(), false);
    }
    (Sentence { text: text.to_owned(), source: Source { file: "a.csv".into(), line: 7 } }, tokens)
}

/// Features of the rows of all sentences at one layer: a list a row.
type Rows = Vec<Vec<Vec<(u32, f32)>>>;

/// A run of these texts and rows, complete.
fn write_run(folder: &Path, texts: &[&str], d_sae: usize, layers: &[(usize, Rows)]) -> PathBuf {
    let writer = RunWriter::create(folder, "20260102_030405").unwrap();
    let (sentences, tokens): (Vec<_>, Vec<_>) = texts.iter().map(|text| sentence(text)).unzip();
    writer.write_sentences(&sentences, &tokens).unwrap();
    for (layer, sentences) in layers {
        for (index, rows) in sentences.iter().enumerate() {
            let rows = SparseRows::from_unsorted(d_sae, rows.iter().cloned()).unwrap();
            writer.write_rows(*layer, index, &tokens[index], &rows).unwrap();
        }
    }
    let sae =
        |layer: usize| SaeInfo { layer, d_sae, hook: format!("blocks.{layer}.hook_resid_post"), ..SaeInfo::default() };
    let manifest = Manifest {
        complete: true,
        status: Status::Complete,
        saes: layers.iter().map(|(layer, _)| sae(*layer)).collect(),
        counts: Counts { sentences: texts.len() as u64, ..Counts::default() },
        ..Manifest::default()
    };
    writer.write_manifest(&manifest).unwrap();
    writer.path().to_owned()
}

/// A small run with a bit of everything.
fn small_run(folder: &Path) -> PathBuf {
    let at = |layer: u32| {
        vec![
            vec![vec![(3 + layer, 2.0), (7, 0.5), (1, 0.5)], vec![]],
            vec![],
            vec![vec![(7, 9.25)], vec![(7, 1e-8), (3, 0.25)], vec![(0, 1.0)]],
        ]
    };
    write_run(folder, &["ab", "", "京都x"], 100, &[(0, at(0)), (11, at(1))])
}

fn open(run: &Path) -> RunIndex {
    RunIndex::open_or_build(run, None, &()).unwrap()
}

#[test]
fn a_run_is_found_again_in_its_index() {
    let folder = tempfile::tempdir().unwrap();
    let run = small_run(folder.path());
    let missing = RunIndex::open(&run, None).unwrap_err();
    assert!(missing.is_curable() && missing.to_string().contains("llamascope index"), "{missing}");
    let index = open(&run);
    assert_eq!(index.health(), &Health::default());
    assert_eq!((index.sentences(), index.rows()), (3, 5));
    assert_eq!((index.rows_of(0), index.rows_of(1), index.rows_of(2), index.rows_of(3)), (0..2, 2..2, 2..5, 0..0));
    assert_eq!(index.place(2), Some(RowPlace { sentence: 2, nth: 0 }));
    assert_eq!(index.place(5), None);
    let (written, tokens) = sentence("京都x");
    let found = index.sentence(2).unwrap();
    assert_eq!((&found.record.sentence, &found.record.tokens, found.from_rows), (&written, &tokens, false));
    assert!(index.sentence(3).unwrap_err().to_string().contains("no sentence 3; it has 3"));

    let layer = index.layer(11).unwrap();
    assert_eq!((layer.hook(), layer.d_sae(), layer.rows(), layer.nnz()), ("blocks.11.hook_resid_post", 100, 5, 7));
    let row = layer.row(0).unwrap();
    assert!(matches!(row.ids(), Ids::Small([4, 1, 7])), "{row:?}");
    assert_eq!(row.vals(), [2.0, 0.5, 0.5]);
    assert!(layer.row(1).unwrap().is_there() && layer.row(1).unwrap().is_empty());
    let postings: Vec<_> = layer.postings(7).unwrap().iter().map(|p| (p.row, p.val)).collect();
    assert_eq!(postings, [(0, 0.5), (2, 9.25), (3, 1e-8)]);
    assert_eq!(layer.postings(7).unwrap().within(1..3).len(), 1);
    let stats = layer.stats(7).unwrap().unwrap();
    assert_eq!((stats.tokens, stats.sentences, stats.points, stats.argmax), (3, 2, 98 + 100 + 99, 2));
    assert_eq!((stats.max, stats.min, stats.sum), (9.25, 1e-8, 0.5 + 9.25 + f64::from(1e-8f32)));
    assert_eq!(layer.histogram(7).unwrap().unwrap().iter().sum::<u32>(), 3);
    // Points: 7 has 297; 0, 3 and 4 have 100; 1 has 99.
    assert_eq!(layer.by_slot().unwrap(), [7, 0, 3, 4, 1]);
    assert_eq!((layer.stats(2).unwrap(), layer.postings(99).unwrap().len()), (None, 0));
}

#[test]
fn an_index_is_used_again_and_the_same_bytes_come_out_of_another_build() {
    let folder = tempfile::tempdir().unwrap();
    let run = small_run(folder.path());
    let generation = open(&run).generation().to_owned();
    let files = |run: &Path| {
        let mut files: Vec<_> = fs::read_dir(run.join(INDEX)).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        files.iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect::<Vec<_>>()
    };
    let before = files(&run);
    assert_eq!(before.len(), 7, "two tables, two layers of two files, the lock");
    let opened = RunIndex::open(&run, None).unwrap();
    assert_eq!(opened.generation(), generation);
    opened.verify().unwrap();
    RunIndex::build(&run, None, &()).unwrap();
    assert_eq!(files(&run), before);
    // The map of the earlier files is still whole.
    opened.verify().unwrap();
}

#[test]
fn a_run_that_changes_gets_another_index() {
    let folder = tempfile::tempdir().unwrap();
    let run = small_run(folder.path());
    let generation = open(&run).generation().to_owned();
    let rows = run.join("layer_00/sentence_0002.jsonl");
    let text = fs::read_to_string(&rows).unwrap();
    fs::write(&rows, text.replace("9.25", "8.5")).unwrap();
    assert!(matches!(RunIndex::open(&run, None).unwrap_err().problem, IndexProblem::Stale));
    let index = open(&run);
    assert_ne!(index.generation(), generation);
    assert_eq!(index.layer(0).unwrap().stats(7).unwrap().unwrap().max, 8.5);
    fs::remove_dir_all(run.join("layer_11")).unwrap();
    let index = open(&run);
    assert_eq!(index.layers().len(), 1);
    assert!(!run.join("index/layer_11.rows.idx").exists());
}

#[test]
fn texts_are_searched_in_any_case_and_language() {
    let folder = tempfile::tempdir().unwrap();
    let run = write_run(folder.path(), &["The Bank", "東京の銀行", "ΣΑΣ bank.", "100%"], 8, &[]);
    let index = open(&run);
    let text = |needle: &str| index.search(&Query::text(needle).unwrap(), 0, 10).unwrap().sentences;
    assert_eq!(
        (text("bank"), text("銀行"), text("σας"), text("0%"), text("k.")),
        (vec![0, 2], vec![1], vec![2], vec![3], vec![2])
    );
    let query = Query::regex(r"^\S+ \S+$").unwrap();
    let first = index.search(&query, 0, 1).unwrap();
    assert_eq!(first, Found { sentences: vec![0], next: Some(2) });
    assert_eq!(index.search(&query, 2, 1).unwrap(), Found { sentences: vec![2], next: None });
    assert_eq!(Query::text("BANK").unwrap().spans("ΣΑΣ bank."), [7..11]);
    for bad in ["(", "a{1000}{1000}{1000}", &"x".repeat(2000)] {
        assert!(matches!(Query::regex(bad).unwrap_err().problem, IndexProblem::Query(_)));
    }
}

#[test]
fn whoever_watches_can_stop_it_and_nothing_half_is_left() {
    struct Stop;
    impl Watch for Stop {
        fn cancelled(&self) -> bool {
            true
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let run = small_run(folder.path());
    let error = RunIndex::open_or_build(&run, None, &Stop).unwrap_err();
    assert!(matches!(error.problem, IndexProblem::Cancelled));
    assert!(RunIndex::open(&run, None).unwrap_err().is_curable());
    assert_eq!(open(&run).sentences(), 3);
    assert!(fs::read_dir(run.join(INDEX)).unwrap().all(|e| !e.unwrap().path().to_string_lossy().ends_with("tmp")));
}

#[test]
fn progress_ends_where_it_said_it_would() {
    use std::sync::Mutex;
    struct Log(Mutex<Vec<(u64, u64)>>);
    impl Watch for Log {
        fn progress(&self, done: u64, total: u64) {
            self.0.lock().unwrap().push((done, total));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let run = small_run(folder.path());
    let log = Log(Mutex::new(Vec::new()));
    RunIndex::build(&run, None, &log).unwrap();
    let log = log.0.into_inner().unwrap();
    assert!(log.iter().all(|(done, total)| done <= total), "{log:?}");
    let (done, total) = log.iter().max().unwrap();
    // Sorting is told in parts that are rounded down.
    assert!(total - done < 8, "{log:?}");
}

#[cfg(unix)]
#[test]
fn where_the_run_may_not_be_written_to_the_cache_is_used() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let run = small_run(folder.path());
    let allow = |mode| fs::set_permissions(&run, fs::Permissions::from_mode(mode)).unwrap();
    allow(0o555);
    let forbidden = fs::create_dir(run.join("probe")).is_err();
    let cache = folder.path().join("cache");
    let built = RunIndex::open_or_build(&run, Some(&cache), &()).unwrap();
    assert_eq!(built.sentences(), 3);
    // Whoever runs the tests as root may write everywhere: then the run folder is used, as it must be.
    assert_eq!(cache.exists(), forbidden);
    RunIndex::open(&run, Some(&cache)).unwrap();
    if forbidden {
        let error = RunIndex::open_or_build(&run, None, &()).unwrap_err();
        assert!(error.to_string().contains("cannot be written"), "{error}");
    }
    allow(0o755);
}
