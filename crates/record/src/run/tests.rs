use std::fs;
use std::path::Path;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::{Sentence, Source, Span, SparseRows, Tokens};

/// A sentence with a token for every character, and a BOS at both ends.
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
    push(1, (text.len(), text.len()), "<s>", true);
    (Sentence { text: text.to_owned(), source: Source { file: "a.csv".into(), line: 7 } }, tokens)
}

fn new_run(folder: &Path) -> RunWriter {
    RunWriter::create(folder, "20260102_030405").unwrap()
}

#[test]
fn a_line_is_written_exactly_so() {
    let folder = tempfile::tempdir().unwrap();
    let run = new_run(&folder.path().join("a/b"));
    assert!(run.path().ends_with("a/b/run_20260102_030405"));
    let (_, mut tokens) = sentence("ab");
    tokens.strs[2] = " 京\u{fffd}\"\\/\n\u{1}\u{7f}😀".into();
    let rows = SparseRows::from_unsorted(1 << 20, [vec![], vec![(104, 1.32), (982, 0.87), (7, 1e-8), (0, 100.0)]]);
    run.write_rows(2, 31, &tokens, &rows.unwrap()).unwrap();
    let lines = fs::read_to_string(run.path().join("layer_02/sentence_0031.jsonl")).unwrap();
    assert_eq!(
        lines,
        "{\"token_pos\": 1, \"token_str\": \"a\", \"nnz\": 0, \"feat_ids\": [], \"feat_vals\": []}\n\
         {\"token_pos\": 2, \"token_str\": \" 京\u{fffd}\\\"\\\\/\\n\\u0001\u{7f}😀\", \"nnz\": 4, \
         \"feat_ids\": [0, 104, 982, 7], \"feat_vals\": [100.0, 1.32, 0.87, 1e-8]}\n"
    );
}

#[test]
fn names_grow_past_their_digits() {
    for (layer, sentence, path) in [
        (0, 0, "layer_00/sentence_0000.jsonl"),
        (99, 9_999, "layer_99/sentence_9999.jsonl"),
        (100, 10_000, "layer_100/sentence_10000.jsonl"),
    ] {
        assert_eq!(rows_path(Path::new(""), layer, sentence), Path::new(path));
        let (folder, file) = path.split_once('/').unwrap();
        assert_eq!((layer_of(folder), sentence_of(file)), (Some(layer), Some(sentence)));
    }
    for strange in ["layer_0", "layer_000", "layer_+1", "layer_", "layer_99999999999999999999999"] {
        assert_eq!(layer_of(strange), None, "{strange}");
    }
    for strange in ["sentence_0000.jsonl.tmp", "sentence_0000", "sentence_00000.jsonl", "sentence_-001.jsonl"] {
        assert_eq!(sentence_of(strange), None, "{strange}");
    }
}

#[test]
fn a_run_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let writer = new_run(folder.path());
    assert!(new_run(folder.path()).path().ends_with("run_20260102_030405_2"));
    assert!(new_run(folder.path()).path().ends_with("run_20260102_030405_3"));

    let (sentences, tokens): (Vec<_>, Vec<_>) = ["Straße 京\n", "", "\0\""].into_iter().map(sentence).unzip();
    writer.write_sentences(&sentences, &tokens).unwrap();
    let mut fingerprint = Fingerprint::default();
    for layer in [11, 3] {
        for (index, tokens) in tokens.iter().enumerate() {
            let row = |position: usize| vec![(position as u32, 0.1), (layer as u32 * 100, f32::MIN_POSITIVE / 4.0)];
            let rows = SparseRows::from_unsorted(4096, tokens.output_positions().map(row)).unwrap();
            writer.write_rows(layer, index, tokens, &rows).unwrap();
            fingerprint.add(layer, index, output_rows(tokens, &rows).unwrap());
        }
    }
    let mut manifest = Manifest {
        program: "llamascope 0.1.0".into(),
        config: serde_json::json!({"model_id": "m", "layers": [3, 11]}),
        saes: vec![SaeInfo { layer: 3, d_sae: 4096, l0_target: Some(50.0), ..SaeInfo::default() }],
        layers: vec![LayerSummary { l0_mean: f64::NAN, ..LayerSummary::default() }],
        ..Manifest::default()
    };
    writer.write_manifest(&manifest).unwrap();
    assert_eq!(Run::open(writer.path()).unwrap().manifest.unwrap().status, Status::Running);
    manifest.complete = true;
    manifest.status = Status::Complete;
    manifest.fingerprint = Some(fingerprint.of_run());
    writer.write_manifest(&manifest).unwrap();

    let run = Run::open(writer.path()).unwrap();
    manifest.layers[0].l0_mean = 0.0;
    assert_eq!(run.manifest, Some(manifest));
    assert_eq!(run.layers(), [3, 11]);
    assert_eq!((run.sentences_in(3), run.sentences_in(4)), (vec![0, 1, 2], vec![]));
    let rows = run.rows(3, 0).unwrap();
    assert_eq!(rows.iter().map(|row| row.token_str.as_str()).collect::<String>(), "Straße 京\n");
    assert_eq!((rows[0].token_pos, rows[0].nnz), (1, 2));
    assert_eq!((&rows[0].feat_ids, &rows[0].feat_vals), (&vec![1, 300], &vec![0.1, f32::MIN_POSITIVE / 4.0]));
    assert_eq!(run.rows(11, 1).unwrap(), []);
    let records = run.sentence_records().unwrap();
    for (index, record) in records.iter().enumerate() {
        assert_eq!((record.index, &record.sentence, &record.tokens), (index, &sentences[index], &tokens[index]));
    }
    assert_eq!(records.len(), 3);
    assert_eq!(run.fingerprint().unwrap().of_run(), fingerprint.of_run());
    assert_eq!(run.fingerprint().unwrap().of_layer(11), fingerprint.of_layer(11));

    fs::remove_file(run.path().join(SENTENCES)).unwrap();
    assert!(run.sentence_records().unwrap_err().to_string().contains("sentences.jsonl: cannot be read: "));
    fs::remove_file(run.path().join(MANIFEST)).unwrap();
    let bare = Run::open(run.path()).unwrap();
    assert_eq!((bare.manifest.as_ref(), bare.layers(), bare.sentence_records().unwrap()), (None, run.layers(), vec![]));
    assert_eq!(bare.rows(3, 0).unwrap(), rows);
}

#[test]
fn sentences_have_these_keys() {
    let folder = tempfile::tempdir().unwrap();
    let writer = new_run(folder.path());
    let (sentence, tokens) = sentence("é");
    writer.write_sentences(&[sentence], &[tokens]).unwrap();
    assert_eq!(
        fs::read_to_string(writer.path().join(SENTENCES)).unwrap(),
        "{\"sentence\":0,\"text\":\"é\",\"source\":\"a.csv\",\"line\":7,\"token_ids\":[1,233,1],\
         \"token_strs\":[\"<s>\",\"é\",\"<s>\"],\"spans\":[[0,0],[0,2],[2,2]],\"special\":[1,0,1],\"bos\":[1,0,1]}\n"
    );
}

#[test]
fn what_cannot_be_written_is_named_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    for taken in [file.clone(), file.join("out")] {
        let error = RunWriter::create(&taken, "s").unwrap_err();
        assert_eq!(error.path, taken);
        assert!(error.to_string().ends_with("a file stands where a folder is needed: choose another output_dir"));
    }
    let run = new_run(folder.path());
    let (_, tokens) = sentence("ab");
    let rows = |count| SparseRows::from_unsorted(9, vec![vec![]; count]).unwrap();
    for count in [1, 3] {
        let error = run.write_rows(0, 0, &tokens, &rows(count)).unwrap_err().to_string();
        assert!(error.ends_with(&format!("2 tokens have a row but {count} rows were given")), "{error}");
    }
    fs::write(run.path().join("layer_00"), "x").unwrap();
    let error = run.write_rows(0, 0, &tokens, &rows(2)).unwrap_err().to_string();
    assert!(error.contains("layer_00: cannot be written: "), "{error}");
    fs::create_dir_all(run.path().join("layer_01/sentence_0000.jsonl/full")).unwrap();
    let error = run.write_rows(1, 0, &tokens, &rows(2)).unwrap_err().to_string();
    assert!(error.contains("sentence_0000.jsonl: cannot be written: "), "{error}");
    assert_eq!(fs::read_dir(run.path().join("layer_01")).unwrap().count(), 1);
}

#[test]
fn broken_rows_are_named_by_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let layer = folder.path().join("layer_00");
    fs::create_dir(&layer).unwrap();
    let good = r#"{"token_str": "a", "token_pos": 1, "nnz": 1, "feat_ids": [3], "feat_vals": [2], "more": 1}"#;
    let line = |position: &str, nnz: &str, ids: &str, vals: &str| {
        format!(
            r#"{{"token_pos": {position}, "token_str": "b", "nnz": {nnz}, "feat_ids": [{ids}], "feat_vals": [{vals}]}}"#
        )
    };
    let cases = [
        (good[..40].to_owned(), "the line is cut off"),
        (String::new(), "the line is cut off"),
        (line("2", "2", "1", "1.0"), "nnz is 2, but there are 1 feat_ids and 1 feat_vals"),
        (line("2", "1", "1", "1.0, 0.5"), "nnz is 1, but there are 1 feat_ids and 2 feat_vals"),
        (line("2", "1", "1", "NaN"), "is not what a run holds: expected value"),
        (line("2", "1", "1", "1e39"), "is not what a run holds: number out of range"),
        (line("2", "1", "1", "-0.5"), "feature 1 has the value -0.5, which is not a finite positive f32"),
        (line("2", "1", "1", "1e-60"), "feature 1 has the value 0, "),
        (line("2", "2", "1, 2", "1.0, 1.5"), "feat_vals are not in descending order"),
        (line("2", "3", "1, 2, 1", "1.0, 1.0, 0.5"), "feature 1 stands there twice"),
        (line("2", "1", "-1", "1.0"), "expected u32"),
        (line("2", "1", "4294967296", "1.0"), "expected u32"),
        (line("-2", "0", "", ""), "expected u32"),
        (line("1", "0", "", ""), "token_pos 1 follows token_pos 1"),
        ("[]".to_owned(), "is not what a run holds: invalid length 0"),
        ("{}".to_owned(), "missing field `token_pos`"),
        ("[".repeat(1000), "is not what a run holds: "),
    ];
    for (second, expected) in cases {
        fs::write(layer.join("sentence_0000.jsonl"), format!("{good}\n{second}\n")).unwrap();
        let error = Run::open(folder.path()).unwrap().rows(0, 0).unwrap_err().to_string();
        assert!(error.contains("sentence_0000.jsonl, line 2: "), "{error}");
        assert!(error.contains(expected), "{error}\nlacks\n{expected}");
    }
    fs::write(layer.join("sentence_0000.jsonl"), format!("{good}\n{}", line("9", "2", "5, 4", "1.0, 1.0"))).unwrap();
    let run = Run::open(folder.path()).unwrap();
    assert_eq!(run.rows(0, 0).unwrap().len(), 2);
    assert!(run.rows(0, 1).unwrap_err().to_string().contains("sentence_0001.jsonl: cannot be read: "));

    let manifest = r#"{"format_version": 1, "saes": [{"layer": 0, "d_sae": 5, "colour": 1}], "later": []}"#;
    fs::write(folder.path().join(MANIFEST), manifest).unwrap();
    let error = Run::open(folder.path()).unwrap().rows(0, 0).unwrap_err().to_string();
    assert!(error.ends_with("line 2: feature 5 is outside the layer's dictionary of 5"), "{error}");
}

#[test]
fn endless_lines_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["layer_00/sentence_0000.jsonl", SENTENCES, MANIFEST] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::File::create(path).unwrap().set_len(2 * LINE_LIMIT).unwrap();
    }
    assert!(Run::open(folder.path()).unwrap_err().to_string().ends_with("run.json: is longer than 64 MiB"));
    fs::remove_file(folder.path().join(MANIFEST)).unwrap();
    let run = Run::open(folder.path()).unwrap();
    assert!(run.rows(0, 0).unwrap_err().to_string().ends_with("line 1: is longer than 64 MiB"));
    assert!(run.sentence_records().unwrap_err().to_string().ends_with("line 1: is longer than 64 MiB"));
}

#[test]
fn broken_sentences_are_named_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let writer = new_run(folder.path());
    fs::create_dir(writer.path().join("layer_00")).unwrap();
    let (sentence, tokens) = sentence("é");
    writer.write_sentences(&[sentence], &[tokens]).unwrap();
    let path = writer.path().join(SENTENCES);
    let good = fs::read_to_string(&path).unwrap();
    for (from, to, expected) in [
        ("\"sentence\":0", "\"sentence\":1", "sentences are not numbered 0, 1, 2, ..."),
        ("[1,233,1]", "[1,233]", "token_ids, token_strs, spans, special and bos differ in length"),
        ("[0,2]", "[0,1]", "a span is not a range of characters of the text"),
        ("[2,2]", "[2,3]", "a span is not a range"),
        ("[2,2]", "[2,0]", "a span is not a range"),
        ("\"bos\":[1,", "\"bos\":[2,", "special and bos must be 0 or 1"),
        ("]}", "", "the line is cut off"),
    ] {
        fs::write(&path, good.replace(from, to)).unwrap();
        let error = Run::open(writer.path()).unwrap().sentence_records().unwrap_err().to_string();
        assert!(error.contains("sentences.jsonl, line 1: ") && error.contains(expected), "{error}");
    }
}

#[test]
fn what_is_no_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Run::open(folder.path()).unwrap_err().to_string();
    assert!(open().ends_with("is not a run: it holds neither run.json nor a folder such as layer_00"));
    for (manifest, expected) in [
        (r#"{"format_version": 2, "program": 3}"#, "has the format version 2, this program reads version 1"),
        ("{}", "missing field `format_version`"),
        (r#"{"format_version": 1, "complete""#, "run.json: is not what a run holds: EOF"),
        (r#"{"format_version": 1, "status": "odd"}"#, "unknown variant `odd`"),
        (r#"{"format_version": 1, "counts": {"rows": -1}}"#, "expected u64"),
    ] {
        fs::write(folder.path().join(MANIFEST), manifest).unwrap();
        assert!(open().contains(expected), "{}\nlacks\n{expected}", open());
    }
    assert!(Run::open(&folder.path().join("none")).unwrap_err().to_string().contains("none: cannot be read: "));
}

/// Finite positive f32 of every size.
fn value() -> impl Strategy<Value = f32> {
    prop_oneof![
        (1..=f32::MAX.to_bits()).prop_map(f32::from_bits),
        (1u32..100).prop_map(f32::from_bits),
        (0u32..100).prop_map(|below| f32::from_bits(f32::MAX.to_bits() - below)),
        (1u32..1000).prop_map(|n| n as f32),
        Just(1e-8),
        Just(3e38),
        Just(f32::MIN_POSITIVE),
    ]
}

proptest! {
    /// What is written is read back to the bit, and every value is the shortest text for its f32, with a fraction or an
    /// exponent.
    #[test]
    fn rows_come_back(
        rows in vec((any::<String>(), btree_map(any::<u32>(), value(), 0..30)), 0..6),
    ) {
        let mut tokens = Tokens { strs: vec!["<s>".into()], bos: vec![true], ..Tokens::default() };
        tokens.strs.extend(rows.iter().map(|row| row.0.clone()));
        tokens.bos.resize(rows.len() + 1, false);
        let entries = rows.iter().map(|row| row.1.clone().into_iter().collect());
        let sparse = SparseRows::from_unsorted(1 << 32, entries).unwrap();

        let folder = tempfile::tempdir().unwrap();
        let writer = new_run(folder.path());
        writer.write_rows(0, 0, &tokens, &sparse).unwrap();
        let read = Run::open(writer.path()).unwrap().rows(0, 0).unwrap();
        prop_assert_eq!(read.len(), sparse.len());
        for (expected, found) in output_rows(&tokens, &sparse).unwrap().zip(&read) {
            prop_assert_eq!(expected, OutputRow::from(found));
        }

        let text = fs::read_to_string(rows_path(writer.path(), 0, 0)).unwrap();
        for (line, (_, vals)) in text.lines().zip(sparse.iter()) {
            let (_, list) = line.rsplit_once("\"feat_vals\": [").unwrap();
            let written: Vec<&str> = list.trim_end_matches("]}").split(", ").filter(|text| !text.is_empty()).collect();
            prop_assert_eq!(written.len(), vals.len());
            for (text, value) in written.iter().zip(vals) {
                prop_assert!(text.contains(['.', 'e']), "{}", text);
                let digits = |text: &str| {
                    let mantissa = text.split('e').next().unwrap().replace('.', "");
                    mantissa.trim_matches('0').len()
                };
                prop_assert_eq!(digits(text), digits(&format!("{value:e}")), "{}", text);
            }
        }
    }

    /// Any bytes at all are rows or refused.
    #[test]
    fn no_line_makes_the_reader_panic(cut in 0usize..90, byte: u8) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("layer_00")).unwrap();
        let mut line =
            br#"{"token_pos": 7, "token_str": "a", "nnz": 2, "feat_ids": [1, 98], "feat_vals": [1.32, 8e-1]}"#.to_vec();
        line[cut] = byte;
        fs::write(rows_path(folder.path(), 0, 0), &line).unwrap();
        for row in Run::open(folder.path()).unwrap().rows(0, 0).unwrap_or_default() {
            prop_assert_eq!(row.feat_ids.len(), row.feat_vals.len());
            prop_assert!(row.feat_vals.iter().all(|value| value.is_finite() && *value > 0.0));
        }
    }
}
