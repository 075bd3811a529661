//! The run folder against its contract.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use llamascope_pipeline::Observer;
use llamascope_record::run::{MANIFEST, Manifest, Run, SentenceRecord, Timings, TokenRow, read_manifest};
use serde_json::Value;

use crate::support::{Job, MODEL, SAES, files, sentences};

/// A line of rows up to its values, put together by other means than the program's.
fn beginning(row: &TokenRow) -> String {
    let token_str = serde_json::to_string(&row.token_str).unwrap();
    let TokenRow { token_pos, nnz, feat_ids, .. } = row;
    format!(
        "{{\"token_pos\": {token_pos}, \"token_str\": {token_str}, \"nnz\": {nnz}, \"feat_ids\": {feat_ids:?}, \
         \"feat_vals\": ["
    )
}

/// Whether `line` is the row in exactly the contract's form. Of two shortest texts of a value that are equally near to it
/// either will do.
fn assert_form(line: &str, row: &TokenRow) {
    let beginning = beginning(row);
    let values = line.strip_prefix(&beginning).and_then(|rest| rest.strip_suffix("]}\n"));
    let values = values.unwrap_or_else(|| panic!("{line} does not begin with {beginning} or does not end with ]}}"));
    let texts: Vec<&str> = if values.is_empty() { Vec::new() } else { values.split(", ").collect() };
    assert_eq!(texts.len(), row.feat_vals.len(), "{line}");
    for (text, value) in texts.iter().zip(&row.feat_vals) {
        assert_eq!(text.parse::<f32>().unwrap().to_bits(), value.to_bits(), "{text} in {line}");
        assert_eq!(text.len(), format!("{value:?}").len(), "{text} is not the shortest in {line}");
    }
}

#[test]
fn the_contracts_own_example_is_such_a_line() {
    let example =
        r#"{"token_pos": 7, "token_str": "Paris", "nnz": 2, "feat_ids": [104, 982], "feat_vals": [1.32, 0.87]}"#;
    let row = TokenRow {
        token_pos: 7,
        token_str: "Paris".into(),
        nnz: 2,
        feat_ids: vec![104, 982],
        feat_vals: vec![1.32, 0.87],
    };
    assert_form(&format!("{example}\n"), &row);
}

#[test]
fn every_line_has_exactly_the_contracts_form() {
    for (model, saes) in [(MODEL, SAES), ("tied/model", "tied/saes_standard")] {
        let job = Job::new(model, saes);
        let run = job.open();
        for &layer in run.layers() {
            for sentence in run.sentences_in(layer) {
                let path = run.path().join(format!("layer_{layer:02}/sentence_{sentence:04}.jsonl"));
                let text = fs::read_to_string(&path).unwrap();
                let rows = run.rows(layer, sentence).unwrap();
                assert_eq!(text.split_inclusive('\n').count(), rows.len(), "{}", path.display());
                text.split_inclusive('\n').zip(&rows).for_each(|(line, row)| assert_form(line, row));
            }
        }
    }
}

#[test]
fn equal_values_stand_by_ascending_feature_and_no_feature_is_zero() {
    let job = Job::new("tied/model", "tied/saes_standard");
    let run = job.open();
    let rows = (0..11).flat_map(|sentence| run.rows(0, sentence).unwrap()).collect::<Vec<_>>();
    assert!(rows.len() > 400);
    for row in rows {
        let entries: Vec<_> = row.feat_vals.iter().zip(&row.feat_ids).collect();
        assert!(entries.iter().all(|(value, _)| **value > 0.0));
        assert!(entries.is_sorted_by(|a, b| a.0 > b.0 || (a.0 == b.0 && a.1 < b.1)), "{row:?}");
    }
}

#[test]
fn a_run_is_this_tree() {
    let job = Job::new(MODEL, SAES).layers([0, 2]);
    let finished = job.run();
    assert_eq!(finished.path, job.config.output_dir.join("run_20260102_030405"));
    let mut expected = vec!["run.json".to_owned(), "sentences.jsonl".to_owned(), "rows.b3sum".to_owned()];
    for layer in [0, 2] {
        expected.extend((0..12).map(|sentence| format!("layer_{layer:02}/sentence_{sentence:04}.jsonl")));
    }
    expected.sort();
    let found: Vec<String> = files(&finished.path).into_iter().map(|(name, _)| name).collect();
    assert_eq!(found, expected);
    assert_eq!(job.run().path, job.config.output_dir.join("run_20260102_030405_2"), "a run never overwrites another");
}

#[test]
fn sentence_numbers_grow_past_four_digits() {
    let job = Job::new(MODEL, SAES).layers([0]).over(&vec!["q"; 10_001]);
    let layer = job.run().path.join("layer_00");
    let (first, last) = (layer.join("sentence_0000.jsonl"), layer.join("sentence_10000.jsonl"));
    assert_eq!(fs::read(first).unwrap(), fs::read(last).unwrap());
    assert!(layer.join("sentence_9999.jsonl").exists());
}

#[test]
fn bos_has_no_row_wherever_it_stands() {
    let bos = "<|begin_of_text|>";
    // (sentence, positions that have a row): the tokenizer puts a BOS before each.
    let cases = [
        ("".to_owned(), vec![]),
        (bos.to_owned(), vec![]),
        ("q".to_owned(), vec![1]),
        (format!("{bos}q"), vec![2]),
        (format!("q{bos}{bos}q{bos}"), vec![1, 4]),
        ("q<|end_of_text|>q".to_owned(), vec![1, 2, 3]),
    ];
    let job = Job::new(MODEL, SAES).over(&cases.each_ref().map(|(text, _)| text));
    let run = job.open();
    for layer in 0..3 {
        for (sentence, (text, positions)) in cases.iter().enumerate() {
            let rows = run.rows(layer, sentence).unwrap();
            assert_eq!(rows.iter().map(|row| row.token_pos).collect::<Vec<_>>(), *positions, "{text}");
        }
        let empty = run.path().join(format!("layer_{layer:02}/sentence_0000.jsonl"));
        assert_eq!(fs::metadata(empty).unwrap().len(), 0);
    }
    assert_eq!(run.manifest.unwrap().counts.empty_sentences, 2);
}

#[test]
fn run_json_tells_what_ran() {
    let mut job = Job::new(MODEL, SAES);
    let blank = job.folder.path().join("blank.txt");
    fs::write(&blank, "\none\n\n\ntwo\n").unwrap();
    job.config.input_csvs.push(blank);
    let run = job.open();
    let manifest = run.manifest.as_ref().unwrap();
    let json: Value = serde_json::from_slice(&fs::read(run.path().join("run.json")).unwrap()).unwrap();
    for (key, value) in [
        ("/format_version", 1.into()),
        ("/program", "llamascope test".into()),
        ("/complete", true.into()),
        ("/status", "complete".into()),
        ("/started", "2026-01-02T03:04:05Z".into()),
        ("/config", job.config.to_json()),
        ("/model/architecture", "LlamaForCausalLM".into()),
        ("/model/n_layers", 3.into()),
        ("/model/d_model", 48.into()),
        ("/model/vocab", 512.into()),
        ("/saes/2/layer", 2.into()),
        ("/saes/2/hook", "blocks.2.hook_resid_post".into()),
        ("/saes/2/convention", "saelens".into()),
        ("/saes/2/activation", "jumprelu".into()),
        ("/saes/2/d_in", 48.into()),
        ("/saes/2/d_sae", 384.into()),
        ("/device/name", "cpu".into()),
        ("/device/threads", 2.into()),
        ("/device/dtype", "float32".into()),
        ("/counts/sentences", 14.into()),
        ("/counts/empty_sentences", 1.into()),
        ("/counts/blank_lines", 3.into()),
        ("/counts/truncated", 0.into()),
        ("/peak_memory_bytes", 1.into()),
        ("/waves", 1.into()),
    ] {
        assert_eq!(json.pointer(key), Some(&value), "{key}");
    }
    for key in [
        "/model/weights_blake3",
        "/model/tokenizer_blake3",
        "/saes/0/blake3",
        "/fingerprint",
        "/layers/0/fingerprint",
        "/sentences_blake3",
        "/rows_blake3",
    ] {
        let hash = json.pointer(key).and_then(Value::as_str).unwrap_or_default();
        assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key} is `{hash}`");
    }
    for key in ["load_s", "tokenize_s", "forward_s", "encode_s", "write_s", "total_s", "tokens_per_s"] {
        assert!(json["timings"][key].as_f64().unwrap() > 0.0, "{key}");
    }
    // One after the other: none is counted twice.
    let seconds = |key: &str| json["timings"][key].as_f64().unwrap();
    let stages: f64 = ["load_s", "tokenize_s", "forward_s", "encode_s"].map(seconds).iter().sum();
    assert!(stages <= seconds("total_s"), "{}", json["timings"]);
    let records = run.sentence_records().unwrap();
    assert_eq!(manifest.counts.tokens, records.iter().map(|record| record.tokens.len() as u64).sum::<u64>());
    assert_summaries_match_the_rows(&run);
}

/// Keeps the manifest that a run begins with.
#[derive(Default)]
struct Beginning(Mutex<Option<Manifest>>);

impl Observer for Beginning {
    fn run_folder(&self, run: &Path) {
        *self.0.lock().unwrap() = read_manifest(&run.join(MANIFEST)).unwrap();
    }
}

#[test]
fn a_new_run_begins_with_no_time_of_earlier_parts() {
    let beginning = Beginning::default();
    Job::new(MODEL, SAES).try_run(&beginning).unwrap();
    let manifest = beginning.0.into_inner().unwrap().unwrap();
    assert_eq!(manifest.timings, Timings::default(), "it would be added to what the run takes");
}

/// What the manifest says of the rows, counted anew.
fn assert_summaries_match_the_rows(run: &Run) {
    let manifest = run.manifest.as_ref().unwrap();
    let fingerprint = run.fingerprint().unwrap();
    assert_eq!(manifest.fingerprint.as_deref(), Some(fingerprint.of_run().as_str()));
    let (mut total, mut nnz_total) = (0, 0);
    assert_eq!(manifest.layers.len(), run.layers().len());
    for (summary, &layer) in manifest.layers.iter().zip(run.layers()) {
        let sentences = run.sentences_in(layer);
        let rows: Vec<_> = sentences.iter().flat_map(|sentence| run.rows(layer, *sentence).unwrap()).collect();
        let nnz: u64 = rows.iter().map(|row| row.nnz as u64).sum();
        let mut seen: Vec<u32> = rows.iter().flat_map(|row| row.feat_ids.iter().copied()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!((summary.layer, summary.d_sae), (layer, 384));
        assert_eq!((summary.rows, summary.nnz), (rows.len() as u64, nnz));
        assert_eq!(summary.l0_max, rows.iter().map(|row| row.nnz as u64).max().unwrap());
        assert!((summary.l0_mean - nnz as f64 / rows.len() as f64).abs() < 1e-9);
        assert_eq!(summary.features_seen, seen.len() as u64);
        assert_eq!(Some(&summary.fingerprint), fingerprint.of_layer(layer).as_ref());
        (total, nnz_total) = (total + summary.rows, nnz_total + nnz);
    }
    assert_eq!(manifest.counts.rows, total);
    assert!((nnz_total..=total * 384).contains(&manifest.timings.candidates), "{}", manifest.timings.candidates);
}

#[test]
fn sentences_jsonl_places_every_token_in_its_text() {
    for (model, folder, saes) in [(MODEL, "llama3", SAES), ("tied/model", "tied", "tied/saes_topk")] {
        let job = Job::new(model, saes);
        let run = job.open();
        let (records, texts) = (run.sentence_records().unwrap(), sentences(folder));
        assert_eq!(records.len(), texts.len());
        for (record, text) in records.iter().zip(&texts) {
            assert_eq!(record.sentence.text, *text);
            assert!(record.sentence.source.file.ends_with("sentences.csv"));
            assert_spans(record);
            for &layer in run.layers() {
                let rows = run.rows(layer, record.index).unwrap();
                let of_rows: Vec<_> = rows.iter().map(|row| (row.token_pos as usize, row.token_str.as_str())).collect();
                let tokens = &record.tokens;
                let of_tokens: Vec<_> = tokens.output_positions().map(|at| (at, tokens.strs[at].as_str())).collect();
                assert_eq!(of_rows, of_tokens);
            }
        }
        let lines: Vec<u64> = records.iter().map(|record| record.sentence.source.line).collect();
        // The sentence with five line breaks inside its quotes is the sixth.
        assert_eq!(lines[..7], [1, 2, 3, 4, 5, 6, 11], "{model}");
    }
}

/// Spans go through the text in order, leave nothing out, and a token that is whole characters stands there itself.
fn assert_spans(record: &SentenceRecord) {
    let (text, tokens) = (&record.sentence.text, &record.tokens);
    let mut covered = 0;
    for (span, token) in tokens.spans.iter().zip(&tokens.strs) {
        let (start, end) = (span.start as usize, span.end as usize);
        assert!(start <= covered && covered <= end, "{token:?} at {span:?} of {text:?}, {covered} bytes are covered");
        let slice = text.get(start..end).expect("a span of whole characters");
        let added = start == end;
        assert!(added || token.contains('\u{fffd}') || slice == token, "{slice:?} is not {token:?} in {text:?}");
        covered = end;
    }
    assert_eq!(covered, text.len(), "{text:?}");
}
