//! A run folder: manifest, sentences, and the rows of two sentences at two layers. Read as it stands, verified, indexed, and shown;
//! reader and index, which parse on their own, have to tell the same.

use std::cell::LazyCell;

use llamascope_record::index::{IndexError, Query, RunIndex};
use llamascope_record::run::{Fingerprint, MANIFEST, OutputRow, Run, SENTENCES, SUMS, TokenRow, verify};
use llamascope_report::page::{self, Options};
use llamascope_report::paint::Style;
use llamascope_report::score::Scope;
use llamascope_report::{compare, info, summary};

use crate::place::Place;
use crate::{Target, fixture, join, parts};

/// See the module. An index keeps a histogram of each feature, and the page a chart of each sentence.
pub const TARGET: Target = Target { name: "run_folder", run, seeds, base_bytes: 64 << 20, bytes_per_byte: 4 << 10 };

/// The files, in the order of the parts of an input.
pub const FILES: [&str; 8] = [
    MANIFEST,
    SENTENCES,
    "layer_00/sentence_0000.jsonl",
    "layer_00/sentence_0001.jsonl",
    "layer_07/sentence_0000.jsonl",
    "layer_07/sentence_0001.jsonl",
    SUMS,
    "resume/journal.jsonl",
];

fn run(data: &[u8]) {
    thread_local!(static PLACE: LazyCell<Place> = const { LazyCell::new(Place::new) });
    PLACE.with(|place| {
        place.clear("run");
        let files: [&[u8]; FILES.len()] = parts(data);
        for (name, bytes) in FILES.iter().zip(files) {
            if !bytes.is_empty() {
                place.write(&format!("run/{name}"), bytes);
            }
        }
        let path = place.path().join("run");
        let run = Run::open(&path).map_err(|error| error.to_string());
        if let Ok(run) = &run {
            info::run_info(run);
            let _ = summary::run_summary(run).map_err(|error| error.to_string());
            let _ = compare::compare_runs(run, run).map(|comparison| comparison.to_table());
            if let Ok(fingerprint) = run.fingerprint() {
                assert_eq!(rewritten(run), fingerprint.of_run());
            }
        }
        if let Ok(verdict) = verify(&path, &|_, _| {}) {
            let run = run.as_ref().expect("it was read to be verified");
            let told = run.manifest.as_ref().and_then(|manifest| manifest.fingerprint.clone());
            assert!(!verdict.right || run.fingerprint().is_ok_and(|found| Some(found.of_run()) == told));
        }
        match RunIndex::open_or_build(&path, None, &()) {
            Err(error) => drop(error.to_string()),
            Ok(index) => {
                index.verify().expect("it was just built");
                if let (Ok(run), true) = (&run, index.health().is_well()) {
                    agree(run, &index);
                }
                look_at_all(&index).expect("it was just built");
                show(&index);
            }
        }
    });
}

/// The fingerprint of the rows after each of them was written as a line and read again.
fn rewritten(run: &Run) -> String {
    let mut fingerprint = Fingerprint::default();
    for &layer in run.layers() {
        for sentence in run.sentences_in(layer) {
            let rows = run.rows(layer, sentence).expect("they were read before");
            let again: Vec<TokenRow> = rows
                .iter()
                .map(|row| {
                    let line = serde_json::json!({
                        "token_pos": row.token_pos, "token_str": row.token_str, "nnz": row.nnz,
                        "feat_ids": row.feat_ids, "feat_vals": row.feat_vals,
                    });
                    serde_json::from_value(line).expect("a row that was read")
                })
                .collect();
            fingerprint.add(layer, sentence, again.iter().map(OutputRow::from));
        }
    }
    fingerprint.of_run()
}

/// A run in which nothing is wrong is the same to its reader and to its index.
fn agree(run: &Run, index: &RunIndex) {
    let records = run.sentence_records().expect("nothing is wrong with the sentences");
    let found: Vec<_> =
        (0..index.sentences()).map(|number| index.sentence(number).expect("it is there").record).collect();
    assert_eq!(found, records);
    for layer in index.layers() {
        for (number, record) in records.iter().enumerate() {
            let rows = run.rows(layer.number(), number).expect("nothing is wrong with the rows");
            let block = layer.sentence(number).expect("it is there");
            let positions: Vec<_> = record.tokens.output_positions().collect();
            assert_eq!((rows.len(), block.len()), (positions.len(), positions.len()));
            for ((row, found), position) in rows.iter().zip(block.iter()).zip(positions) {
                let mut pairs: Vec<_> = row.feat_ids.iter().copied().zip(row.feat_vals.iter().copied()).collect();
                pairs.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                assert_eq!((row.token_pos as usize, found.iter().collect::<Vec<_>>()), (position, pairs));
            }
        }
    }
}

/// Asks an index for everything that it has, and believes nothing of it.
pub fn look_at_all(index: &RunIndex) -> Result<(), IndexError> {
    for number in 0..index.sentences() {
        index.sentence(number)?;
        index.token_count(number)?;
        index.source(number)?;
        index.text(number)?;
    }
    assert!(index.sentence(index.sentences()).is_err());
    for layer in index.layers() {
        for number in 0..index.sentences() {
            layer.sentence(number)?.iter().for_each(|row| assert_eq!(row.iter().count(), row.len()));
        }
        for row in index.rows().saturating_sub(4)..index.rows() {
            layer.row(row)?;
        }
        for stats in layer.features()?.take(1 << 10) {
            layer.postings(stats.id)?.iter().for_each(|posting| {
                assert!(index.place(posting.row).is_none_or(|place| place.sentence < index.sentences()))
            });
            layer.histogram(stats.id)?;
        }
        layer.by_slot()?;
    }
    let query = Query::text("a").expect("it is short");
    index.search(&query, 0, 10)?;
    Ok(())
}

/// Shows a run as a page. What stands in the run must not become part of the page's program.
fn show(index: &RunIndex) {
    let options = Options {
        layers: Vec::new(),
        sentences: Scope::Run,
        top_k: 4,
        style: Style::default(),
        label: &|_, _| Some("</script><b>".to_owned()),
    };
    let report = page::report(index, &options).expect("it was just built");
    let scripts = |what: &str| report.html.matches(what).count();
    assert!(scripts("<script") <= 2 && scripts("<script") == scripts("</script"), "the page holds a foreign program");
    assert_eq!(scripts("<b>"), 0, "a label was taken for markup");
}

fn seeds() -> Vec<Vec<u8>> {
    let manifest = br#"{"format_version": 1, "program": "llamascope 0.1.0", "complete": true, "status": "complete", "model": {"id": "m", "n_layers": 8, "d_model": 32}, "saes": [{"layer": 0, "hook": "blocks.0.hook_resid_post", "d_in": 32, "d_sae": 128}, {"layer": 7, "hook": "blocks.7.hook_resid_post", "d_in": 32, "d_sae": 70000}], "counts": {"sentences": 2, "tokens": 5, "rows": 6}, "layers": [{"layer": 0, "d_sae": 128, "l0_mean": null}]}"#;
    let sentences = "{\"sentence\":0,\"text\":\"a </script>\",\"source\":\"in.csv\",\"line\":1,\"token_ids\":[1,5,6],\"token_strs\":[\"<s>\",\"a\",\" </script>\"],\"spans\":[[0,0],[0,1],[1,11]],\"special\":[1,0,0],\"bos\":[1,0,0]}\n{\"sentence\":1,\"text\":\"東\",\"source\":\"in.csv\",\"line\":2,\"token_ids\":[1,7],\"token_strs\":[\"<s>\",\"東\"],\"spans\":[[0,0],[0,3]],\"special\":[1,0],\"bos\":[1,0]}\n";
    let rows = [
        "{\"token_pos\": 1, \"token_str\": \"a\", \"nnz\": 2, \"feat_ids\": [104, 9], \"feat_vals\": [1.32, 0.87]}\n{\"token_pos\": 2, \"token_str\": \" </script>\", \"nnz\": 0, \"feat_ids\": [], \"feat_vals\": []}\n",
        "{\"token_pos\": 1, \"token_str\": \"東\", \"nnz\": 1, \"feat_ids\": [9], \"feat_vals\": [1e-8]}\n",
        "{\"token_pos\": 1, \"token_str\": \"a\", \"nnz\": 3, \"feat_ids\": [69999, 1, 2], \"feat_vals\": [3.0, 1.5, 1.5]}\n{\"token_pos\": 2, \"token_str\": \" </script>\", \"nnz\": 1, \"feat_ids\": [1], \"feat_vals\": [1e10]}\n",
        "{\"token_pos\":1,\"feat_vals\":[2],\"feat_ids\":[3],\"nnz\":1,\"token_str\":\"\\u6771\"}",
    ]
    .map(str::as_bytes);
    let [a, b, c, d] = rows;
    vec![
        join(&[manifest, sentences.as_bytes(), a, b, c, d]),
        join(&[b"", sentences.as_bytes(), a, b]),
        join(&[b"", b"", a, b, c, d]),
        join(&[manifest, sentences.as_bytes(), a, b"", c, b"{\"token_pos\": 0, \"nnz\": 9"]),
        join(&[b"", b"", &fixture("tied/expected/topk/layer_00/sentence_0008.jsonl")]),
    ]
}
