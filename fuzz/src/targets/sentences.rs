//! Files of sentences. The first byte chooses the format, the rest is the file.

use std::cell::LazyCell;

use llamascope_record::{SentenceFile, read_sentences};
use serde_json::json;

use crate::place::Place;
use crate::{Target, fixture};

/// See the module.
pub const TARGET: Target = Target { name: "sentences", run, seeds, base_bytes: 1 << 20, bytes_per_byte: 256 };

/// Extension of the file, and the column or key that is asked for.
const FORMATS: [(&str, Option<&str>); 6] =
    [("csv", None), ("csv", Some("text")), ("tsv", Some("text")), ("txt", None), ("jsonl", None), ("jsonl", Some("t"))];

fn run(data: &[u8]) {
    thread_local!(static PLACE: LazyCell<Place> = const { LazyCell::new(Place::new) });
    let Some((&format, bytes)) = data.split_first() else { return };
    PLACE.with(|place| {
        let (extension, column) = FORMATS[usize::from(format) % FORMATS.len()];
        let path = place.write(&format!("in.{extension}"), bytes);
        let file = match read_sentences(&path, "in", column) {
            Ok(file) => file,
            Err(error) => return drop(error.to_string()),
        };
        assert!(!file.sentences.is_empty());
        assert!(file.sentences.iter().all(|sentence| sentence.source.line > 0));
        assert!(file.sentences.is_sorted_by(|a, b| a.source.line < b.source.line));

        let texts = |file: &SentenceFile| file.sentences.iter().map(|s| s.text.clone()).collect::<Vec<_>>();
        let found = texts(&file);
        let quoted: String = found.iter().map(|text| format!("\"{}\"\n", text.replace('"', "\"\""))).collect();
        let again = read_sentences(&place.write("again.csv", quoted.as_bytes()), "again", None).expect("it is quoted");
        assert_eq!(texts(&again), found);
        let lines: String = found.iter().map(|text| format!("{}\n", json!({ "text": text }))).collect();
        let again = read_sentences(&place.write("again.jsonl", lines.as_bytes()), "again", None).expect("it is JSON");
        assert_eq!(texts(&again), found);
    });
}

fn seeds() -> Vec<Vec<u8>> {
    let with = |format: u8, bytes: &[u8]| [&[format][..], bytes].concat();
    vec![
        with(0, &fixture("llama3/sentences.csv")),
        with(0, b"\xef\xbb\xbfa, b\r\n\"c \"\"d\"\"\ne\"\r\n\"\"\n \n"),
        with(1, b"id,text,more\n1,\"a, b\",x\n2,c,\"y\n\"\n"),
        with(2, b"text\tid\nx y\t1\n\"z\tz\"\t2\n"),
        with(3, b"one\r\n\ntwo \xe6\x9d\xb1\n"),
        with(4, b"{\"text\": \"a \\u6771\"}\n\n{\"id\": 3, \"text\": \"\"}\n"),
        with(5, b"{\"t\": \"x\", \"y\": [1, {\"z\": null}]}\n"),
    ]
}
