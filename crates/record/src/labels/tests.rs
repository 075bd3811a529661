use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn line(layer: &str, index: &str, description: &str, more: &str) -> String {
    format!(
        "{{\"modelId\":\"llama3.1-8b\",\"layer\":\"{layer}\",\"index\":{index},\"description\":{description},\"embedding\":[0.5,1]{more}}}\n"
    )
}

fn dictionary(layer: &str) -> Dictionary {
    Dictionary { model: "llama3.1-8b".into(), layer: layer.into() }
}

#[test]
fn exports_are_taken_in_and_found_by_every_run_beside_them() {
    let folder = tempfile::tempdir().unwrap();
    let outputs = folder.path().join("outputs");
    let run = outputs.join("run_1");
    let twelve = "12-llamascope-res-32k";
    let batches = [
        [
            line(twelve, "\"104\"", "\"names of\\n capitals\"", ""),
            line(twelve, "7", "null", ""),
            line("3-x", "0", "\"three\"", ""),
        ]
        .concat(),
        line(
            twelve,
            "104",
            "\"cities\"",
            ",\"createdAt\":\"2025-01-01\",\"explanationModelName\":\"m\",\"typeName\":\"t\"",
        ),
    ];
    let files = [folder.path().join("batch-0.jsonl.gz"), folder.path().join("batch-1.jsonl")];
    fs::write(&files[0], [gzip(batches[0].as_bytes()), gzip(b"\n")].concat()).unwrap();
    fs::write(&files[1], &batches[1]).unwrap();
    let target = Target::OutputDir(&outputs);
    let first = import(&files[..1], target).unwrap();
    let path = outputs.join("labels/llama3.1-8b").join(format!("{twelve}.jsonl"));
    assert_eq!(first[0], Imported { path, added: 1, changed: 0, total: 1 });
    assert_eq!(first.len(), 2);

    let dictionaries = BTreeMap::from([(12, dictionary(twelve)), (5, dictionary("5-none"))]);
    let read = || Labels::read(&run, [5, 12], &dictionaries).unwrap();
    assert_eq!((read().get(12, 104), read().get(12, 7), read().get(5, 104)), (Some("names of capitals"), None, None));
    // The later one is shown, whichever comes first.
    let second = import(&files[1..], target).unwrap();
    assert_eq!((second[0].added, second[0].changed, second[0].total), (0, 1, 1));
    assert_eq!(read().get(12, 104), Some("cities"));
    assert_eq!(import(&files[..1], target).unwrap()[0].changed, 0);
    assert_eq!(read().get(12, 104), Some("cities"));
    assert_eq!(list(&outputs.join(LABELS)).unwrap(), [(dictionary("3-x"), 1), (dictionary(twelve), 1)]);

    // What lies in the run goes before.
    let imported = import(&files[1..], Target::Layer { run: &run, layer: 5 }).unwrap();
    assert_eq!(imported[0].path, run.join("labels/layer_05.jsonl"));
    assert_eq!(read().get(5, 104), Some("cities"));
    assert_eq!((read().len(), read().layer(12).collect::<Vec<_>>()), (2, vec![(104, "cities")]));
}

#[test]
fn the_order_of_files_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let texts = ["\"b\"", "\"a\"", "\"c\""];
    let stored = |order: [usize; 3]| {
        let outputs = tempfile::tempdir().unwrap();
        let files: Vec<_> = order.map(|at| folder.path().join(format!("{at}.jsonl"))).into();
        for at in order {
            fs::write(folder.path().join(format!("{at}.jsonl")), line("0-x", "1", texts[at], "")).unwrap();
        }
        import(&files, Target::OutputDir(outputs.path())).unwrap();
        fs::read(outputs.path().join("labels/llama3.1-8b/0-x.jsonl")).unwrap()
    };
    let bytes = stored([0, 1, 2]);
    assert_eq!(
        String::from_utf8_lossy(&bytes),
        "{\"index\":1,\"description\":\"a\",\"by\":\"\",\"method\":\"\",\"written\":\"\"}\n"
    );
    assert_eq!((stored([2, 1, 0]), stored([1, 0, 2])), (bytes.clone(), bytes));
}

#[test]
fn files_that_are_no_exports_are_refused_with_file_and_line_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let outputs = folder.path().join("outputs");
    let path = folder.path().join("batch-0.jsonl");
    let good = line("0-x", "1", "\"one\"", "");
    let long = format!("{{\"index\": 1, \"description\": \"{}\"}}\n", "x".repeat(2 << 20));
    for (content, words) in [
        (b"".to_vec(), "holds no explanation"),
        (format!("{good}{{\n").into_bytes(), "line 2: is not a line of an export"),
        (format!("{good}[]").into_bytes(), "line 2"),
        (line("0-x", "-1", "\"one\"", "").into_bytes(), "line 1"),
        (line("0-x", "4194304", "\"one\"", "").into_bytes(), "index \"4194304\" is not a number below"),
        (line("0-x", "\"one\"", "\"one\"", "").into_bytes(), "index \"one\""),
        (line("../../etc", "1", "\"one\"", "").into_bytes(), "layer \"../../etc\" cannot be a file's name"),
        (line(".x", "1", "\"one\"", "").into_bytes(), "cannot be a file's name"),
        (b"{\"index\": 1, \"description\": \"one\"}".to_vec(), "--run and --layer"),
        (long.clone().into_bytes(), "line 1: is longer than 1024 KiB"),
        (gzip(long.as_bytes()), "line 1: is longer than 1024 KiB"),
        (gzip(good.as_bytes())[..20].to_vec(), "cannot be read"),
    ] {
        fs::write(&path, &content).unwrap();
        let error = import(std::slice::from_ref(&path), Target::OutputDir(&outputs)).unwrap_err().to_string();
        assert!(error.contains("batch-0.jsonl") && error.contains(words), "{words}: {error}");
        assert!(!outputs.exists());
    }
    let missing = import(&[folder.path().join("nowhere")], Target::OutputDir(&outputs)).unwrap_err();
    assert!(missing.to_string().contains("nowhere: cannot be read"), "{missing}");
}

#[test]
fn a_file_of_labels_that_is_broken_is_an_error_and_none_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert!(Labels::read(&run, [0], &BTreeMap::new()).unwrap().is_empty());
    fs::create_dir_all(run.join(LABELS)).unwrap();
    fs::write(path_in_run(&run, 0), "{\"index\":1,\"description\":\"a\"}\n{\"index\":").unwrap();
    let error = Labels::read(&run, [0], &BTreeMap::new()).unwrap_err().to_string();
    assert!(error.contains("layer_00.jsonl, line 2"), "{error}");
    assert!(list(&folder.path().join("nowhere")).unwrap().is_empty());
}

#[test]
fn long_texts_are_cut_between_characters() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    fs::write(&path, line("0-x", "1", &format!("\"{}\"", "京".repeat(500)), "")).unwrap();
    let run = folder.path().join("run");
    import(&[path], Target::Layer { run: &run, layer: 0 }).unwrap();
    let labels = Labels::read(&run, [0], &BTreeMap::new()).unwrap();
    assert_eq!(labels.get(0, 1), Some("京".repeat(333).as_str()));
}
