//! The same bytes, whatever a sentence runs among and on.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use llamascope_pipeline::Kernel;
use llamascope_pipeline::config::Precision;
use llamascope_record::run::Manifest;

use crate::support::{Job, MODEL, SAES, rows_files, sentences};

const DTYPES: [Precision; 3] = [Precision::Float32, Precision::Bfloat16, Precision::Float16];

/// How a run goes about its work: none of it may show in the rows.
#[derive(Clone, Copy, Debug)]
struct Way {
    kernel: Kernel,
    threads: usize,
    memory: u64,
}

/// Room for everything at once.
const AMPLE: u64 = 1 << 30;
/// Room for the weights of the fixture and about a tenth of the rows of [`crowd`].
const TIGHT: u64 = 400 << 10;
/// Room for nothing: every sentence goes alone.
const NONE: u64 = 1;

/// Runs these sentences and gives the files of rows and the manifest.
fn run<S: AsRef<str>>(sentences: &[S], dtype: Precision, way: Way) -> (Vec<(String, Vec<u8>)>, Manifest) {
    let mut job = Job::new(MODEL, SAES).over(sentences);
    job.config.dtype = dtype;
    job.config.threads = Some(way.threads.try_into().unwrap());
    job.config.memory = Some(way.memory);
    job.surroundings.kernel = Some(way.kernel);
    let finished = job.run();
    assert_eq!(finished.manifest.device.kernel, way.kernel.name());
    assert_eq!(finished.manifest.device.threads, way.threads);
    (rows_files(&finished.path), finished.manifest)
}

/// Two hundred other sentences with those of the fixture among them, and where these stand.
fn crowd() -> (Vec<String>, Vec<usize>) {
    /// Short ones, so that all together fit into one wave.
    const VARIED: [usize; 7] = [0, 3, 4, 5, 6, 7, 8];
    let own = sentences("llama3");
    let mut all: Vec<String> = (0..200)
        .map(|i| {
            let text = &own[VARIED[i % VARIED.len()]];
            let middle = text.char_indices().nth(i / VARIED.len()).map_or(text.len(), |(at, _)| at);
            format!("{i} {}{}", &text[middle..], &text[..middle])
        })
        .collect();
    let places: Vec<usize> = (0..own.len()).map(|i| i * 19).collect();
    places.iter().zip(own).for_each(|(place, text)| all.insert(*place, text));
    (all, places)
}

#[test]
fn a_sentence_has_the_same_bytes_alone_and_among_two_hundred_others() {
    let (crowd, places) = crowd();
    let own = sentences("llama3");
    assert_eq!(crowd.len(), 200 + own.len());
    for (dtype, kernel) in DTYPES.into_iter().flat_map(|dtype| fast_kernels().map(move |kernel| (dtype, kernel))) {
        let mut first: Option<BTreeMap<String, Vec<u8>>> = None;
        for (threads, memory, waves) in [(1, AMPLE, 1..=1), (2, TIGHT, 10..=30), (3, NONE, 100..=212)] {
            let way = Way { kernel, threads, memory };
            let (files, manifest) = run(&crowd, dtype, way);
            assert!(waves.contains(&manifest.waves), "{way:?}: {} waves", manifest.waves);
            let files = BTreeMap::from_iter(files);
            assert_eq!(files.len(), 3 * crowd.len());
            assert!(*first.get_or_insert_with(|| files.clone()) == files, "{dtype:?}: {way:?} changes the rows");
        }
        let among = first.expect("it has been run");
        for (text, place) in own.iter().zip(&places) {
            let (alone, _) = run(&[text], dtype, Way { kernel, threads: 2, memory: AMPLE });
            assert_eq!(alone.len(), 3);
            for (name, bytes) in alone {
                let name = name.replace("sentence_0000", &format!("sentence_{place:04}"));
                assert!(among[&name] == bytes, "{dtype:?}, {kernel:?}: {name} is another when `{text}` runs alone");
            }
        }
    }
}

/// All kernels but the portable one where there is a better one: it is slow where the compiler may not use fused
/// multiply-adds, and gets the smaller test below.
fn fast_kernels() -> impl Iterator<Item = Kernel> {
    Kernel::available().filter(|kernel| *kernel == Kernel::detect() || *kernel != Kernel::Portable)
}

#[test]
fn all_kernels_give_the_same_bytes() {
    let own = sentences("llama3");
    for dtype in DTYPES {
        let mut of_kernels = None;
        for kernel in Kernel::available() {
            let mut of_ways = None;
            for (threads, memory) in [(1, AMPLE), (2, TIGHT), (3, NONE)] {
                let way = Way { kernel, threads, memory };
                let (files, manifest) = run(&own, dtype, way);
                assert_eq!(files.len(), 3 * own.len());
                let found = (manifest.fingerprint.expect("it is complete"), files);
                assert!(*of_ways.get_or_insert_with(|| found.clone()) == found, "{dtype:?}: {way:?} changes the rows");
            }
            // AMX adds products up in an order of its own.
            if kernel.name() != "amx" {
                let found = of_ways.expect("it has been run");
                assert!(
                    *of_kernels.get_or_insert_with(|| found.clone()) == found,
                    "{dtype:?}: {kernel:?} changes the rows"
                );
            }
        }
    }
}

#[test]
fn the_form_of_the_input_does_not_matter() {
    let texts = &["The lamp on the harbour wall", "港の灯台は夜になると光り", "q"];
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let rows_of = |path: &Path, column: Option<&str>| {
        let mut job = Job::new(MODEL, SAES);
        job.config.input_csvs = vec![path.into()];
        job.config.text_column = column.map(str::to_owned);
        rows_files(&job.run().path)
    };
    let lines = texts.join("\n");
    let expected = rows_of(&write("a.csv", lines.clone()), None);
    assert_eq!(expected.len(), 3 * texts.len());
    let table =
        texts.iter().enumerate().fold("id,text\n".to_owned(), |table, (i, text)| format!("{table}{i},{text}\n"));
    let objects: String = texts.iter().map(|text| format!("{{\"text\": \"{text}\"}}\n")).collect();
    for (path, column) in [
        (write("a.txt", lines), None),
        (write("table.csv", format!("\u{feff}{table}")), Some("text")),
        (write("a.jsonl", objects), Some("text")),
    ] {
        assert!(rows_of(&path, column) == expected, "{}", path.display());
    }
}
