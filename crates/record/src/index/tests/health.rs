//! Runs that are broken in one way or another: what is right of them is shown, and what is not is told.

use super::*;

/// Kinds, layers and counts of what was found.
fn found(index: &RunIndex) -> Vec<(FindingKind, Option<usize>, u64)> {
    index.health().findings.iter().map(|finding| (finding.kind, finding.layer, finding.count)).collect()
}

fn line(position: u32, ids: &str, vals: &str) -> String {
    let nnz = if ids.is_empty() { 0 } else { ids.split(',').count() };
    format!(
        "{{\"token_pos\": {position}, \"token_str\": \"t{position}\", \"nnz\": {nnz}, \"feat_ids\": [{ids}], \"feat_vals\": [{vals}]}}\n"
    )
}

/// A run whose sentence 2 (three tokens) has these lines at layer 0.
fn with_lines(folder: &Path, lines: &[u8]) -> RunIndex {
    let run = small_run(folder);
    fs::write(run.join("layer_00/sentence_0002.jsonl"), lines).unwrap();
    open(&run)
}

#[test]
fn a_broken_row_is_told_and_its_neighbours_are_shown() {
    use FindingKind::*;
    let good = [line(1, "5", "3.0"), line(2, "6", "2.0"), line(3, "7", "1.0")];
    let with = |at: usize, bad: &str| {
        let mut lines = good.clone();
        lines[at] = bad.to_owned();
        lines.concat()
    };
    let cases: Vec<(String, Vec<(FindingKind, u64)>)> = vec![
        (good.concat(), vec![]),
        (good.concat().trim_end().to_owned(), vec![]),
        (with(2, "{\"token_pos\": 3, \"token_str\": \"x\", \"nnz\": 1, \"feat"), vec![(CutLine, 1), (MissingRow, 1)]),
        (with(1, "not a row\n"), vec![(BrokenLine, 1), (MissingRow, 1)]),
        (with(1, "\n"), vec![(BrokenLine, 1), (MissingRow, 1)]),
        (with(1, ""), vec![(MissingRow, 1)]),
        (String::new(), vec![(MissingRow, 3)]),
        (with(1, &line(2, "6, 8", "2.0")), vec![(Lengths, 1)]),
        (with(1, &line(2, "6", "2.0").replace("\"nnz\": 1", "\"nnz\": 4")), vec![(Lengths, 1)]),
        (with(1, &line(2, "6, 8, 9", "NaN, -1.0, 2.0")), vec![(Value, 2)]),
        (with(1, &line(2, "6, 8", "Infinity, 0.0")), vec![(Value, 2)]),
        (with(1, &line(2, "6, 8", "1.0, 2.0")), vec![(Order, 1)]),
        (with(1, &line(2, "8, 6", "2.0, 2.0")), vec![]),
        (with(1, &line(2, "6, 6", "2.0, 1.0")), vec![(Duplicate, 1)]),
        (with(1, &line(2, "6, 100, 4000000000", "3.0, 2.0, 1.0")), vec![(Id, 2)]),
        (with(1, &line(9, "6", "2.0")), vec![(Position, 1), (MissingRow, 1)]),
        (with(1, &line(1, "6", "2.0")), vec![(Position, 1), (MissingRow, 1)]),
        (with(0, &line(0, "6", "2.0")), vec![(Position, 1), (MissingRow, 1)]),
    ];
    for (lines, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let index = with_lines(folder.path(), lines.as_bytes());
        let expected: Vec<_> = expected.into_iter().map(|(kind, count)| (kind, Some(0), count)).collect();
        assert_eq!(found(&index), expected, "{lines}");
        for finding in &index.health().findings {
            assert_eq!(finding.examples[0].file, "layer_00/sentence_0002.jsonl");
            assert!(finding.kind == MissingRow || finding.examples[0].line.is_some());
        }
        let rows = index.layer(0).unwrap().sentence(2).unwrap();
        let missing = expected.iter().find(|(kind, ..)| *kind == MissingRow).map_or(0, |(.., count)| *count);
        assert_eq!(rows.iter().filter(|row| !row.is_there()).count() as u64, missing, "{lines}");
        assert_eq!(index.layer(0).unwrap().rows(), 5 - missing);
        if lines.contains("[7]") {
            assert_eq!(rows.row(2).iter().collect::<Vec<_>>(), [(7, 1.0)]);
        }
    }
}

#[test]
fn of_a_feature_that_stands_twice_the_larger_value_counts() {
    let folder = tempfile::tempdir().unwrap();
    let lines = [line(1, "5, 6, 5", "1.0, 3.0, 2.0"), line(2, "", ""), line(3, "", "")].concat();
    let index = with_lines(folder.path(), lines.as_bytes());
    let rows = index.layer(0).unwrap().sentence(2).unwrap();
    assert_eq!(rows.row(0).iter().collect::<Vec<_>>(), [(6, 3.0), (5, 2.0)]);
}

#[test]
fn bytes_that_are_no_text_are_a_broken_line() {
    let folder = tempfile::tempdir().unwrap();
    let index = with_lines(
        folder.path(),
        b"{\"token_pos\": 1, \"token_str\": \"\xff\", \"nnz\": 0, \"feat_ids\": [], \"feat_vals\": []}\n\0\0\n",
    );
    assert_eq!(found(&index)[0], (FindingKind::BrokenLine, Some(0), 2));
}

#[test]
fn files_and_layers_that_are_missing_are_told() {
    use FindingKind::*;
    let folder = tempfile::tempdir().unwrap();
    let run = small_run(folder.path());
    // An empty sentence needs no file.
    for name in ["layer_00/sentence_0000.jsonl", "layer_00/sentence_0001.jsonl"] {
        fs::remove_file(run.join(name)).unwrap();
    }
    fs::remove_dir_all(run.join("layer_11")).unwrap();
    fs::write(run.join("layer_00/sentence_0003.jsonl"), line(0, "5", "1.0")).unwrap();
    fs::write(run.join("layer_00/sentence_0002.jsonl.tmp"), "").unwrap();
    fs::create_dir(run.join("layer_00/sentence_0004.jsonl")).unwrap();
    let index = open(&run);
    assert_eq!(
        found(&index),
        [
            (MissingLayer, Some(11), 1),
            (MissingFile, Some(0), 1),
            (UnknownSentence, Some(0), 2),
            (UnknownFile, Some(0), 1)
        ]
    );
    let layer = index.layer(0).unwrap();
    assert_eq!((layer.rows(), index.rows(), layer.sentence(0).unwrap().row(1).is_there()), (3, 5, false));
    assert_eq!(index.health().worst(), Some(Severity::Error));
}

#[test]
fn a_run_that_was_stopped_is_shown_as_far_as_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let run = small_run(folder.path());
    let manifest = fs::read_to_string(run.join("run.json")).unwrap();
    let stopped =
        manifest.replace("\"complete\": true", "\"complete\": false").replace("\"complete\",", "\"interrupted\",");
    assert_ne!(manifest, stopped);
    fs::write(run.join("run.json"), stopped).unwrap();
    fs::remove_file(run.join("layer_11/sentence_0002.jsonl")).unwrap();
    let index = open(&run);
    assert_eq!(found(&index), [(FindingKind::Incomplete, None, 1), (FindingKind::MissingFile, Some(11), 1)]);
    assert_eq!(index.health().findings[0].examples[0].what, "its status is interrupted");
    assert_eq!(index.layer(11).unwrap().rows(), 2);
}

#[test]
fn a_manifest_that_cannot_be_read_hides_nothing_else() {
    for bad in ["", "{", "[]", "{\"format_version\": 1, \"layers\": 3}"] {
        let folder = tempfile::tempdir().unwrap();
        let run = small_run(folder.path());
        fs::write(run.join("run.json"), bad).unwrap();
        let index = open(&run);
        assert_eq!(found(&index), [(FindingKind::BrokenManifest, None, 1)], "{bad}");
        assert!(index.manifest().is_none() && index.text(2).unwrap() == "京都x");
        // Without a manifest the largest id tells how large the dictionary is.
        assert_eq!(index.layer(11).unwrap().d_sae(), 8);
    }
    let folder = tempfile::tempdir().unwrap();
    let run = small_run(folder.path());
    fs::write(run.join("run.json"), "{\"format_version\": 99}").unwrap();
    let error = RunIndex::open_or_build(&run, None, &()).unwrap_err();
    assert!(error.to_string().contains("format version 99"), "{error}");
}

#[test]
fn a_sentence_whose_line_is_broken_is_put_together_from_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let run = small_run(folder.path());
    let sentences = fs::read_to_string(run.join("sentences.jsonl")).unwrap();
    let cut = sentences.len() - 30;
    fs::write(run.join("sentences.jsonl"), &sentences[..cut]).unwrap();
    let index = open(&run);
    assert_eq!(found(&index), [(FindingKind::BrokenSentence, None, 1)]);
    assert_eq!(index.health().findings[0].examples[0].line, Some(3));
    let sentence = index.sentence(2).unwrap();
    assert!(sentence.from_rows && !index.sentence(0).unwrap().from_rows);
    assert_eq!(sentence.record.sentence.text, "京都x");
    assert_eq!(sentence.record.tokens.bos, [true, false, false, false]);
    assert_eq!(index.layer(0).unwrap().rows(), 5);
}

#[test]
fn a_bare_tree_is_shown_with_its_gaps() {
    use FindingKind::*;
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    let write = |name: &str, text: String| {
        let path = run.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("layer_03/sentence_0000.jsonl", [line(1, "5", "1.0"), line(3, "6", "1.0")].concat());
    write("layer_04/sentence_0000.jsonl", [line(1, "5", "1.0"), line(2, "5000", "1.0"), line(70, "1", "1.0")].concat());
    write("layer_04/sentence_0002.jsonl", line(0, "1", "1.0"));
    write("layer_04/sentence_999999999.jsonl", line(0, "1", "1.0"));
    let index = open(run);
    assert_eq!(
        found(&index),
        [
            (NoManifest, None, 1),
            (NoSentences, None, 1),
            (MissingFile, Some(3), 1),
            (UnknownSentence, Some(4), 1),
            (Position, Some(4), 1),
            (MissingRow, Some(3), 1),
            (MissingRow, Some(4), 1),
        ]
    );
    assert_eq!((index.sentences(), index.rows()), (3, 4));
    assert_eq!(index.text(0).unwrap(), "t1t2t3");
    assert_eq!(index.sentence(0).unwrap().record.tokens.bos, [true, false, false, false]);
    let [three, four] = index.layers() else { panic!("two layers") };
    assert_eq!((three.rows(), four.rows(), three.d_sae(), four.d_sae()), (2, 3, 7, 5001));
    assert!(matches!(four.row(0).unwrap().ids(), Ids::Large([5])));
}

#[test]
fn a_folder_that_is_no_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = RunIndex::open_or_build(folder.path(), None, &()).unwrap_err();
    assert!(error.to_string().contains("is not a run"), "{error}");
    assert!(!folder.path().join(INDEX).exists());
    let nowhere = folder.path().join("nowhere");
    assert!(RunIndex::open_or_build(&nowhere, None, &()).unwrap_err().to_string().contains("nowhere"));
}

#[test]
fn every_kind_of_finding_has_its_sentence() {
    for kind in FindingKind::ALL {
        assert!(kind.says().ends_with('.'), "{kind:?}");
        assert_eq!(serde_json::to_string(kind).unwrap().parse::<f64>().ok(), None);
    }
}
