use super::*;
use proptest::prelude::*;

fn read(name: &str, bytes: &[u8], column: Option<&str>) -> Result<SentenceFile, InputError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    read_sentences(&path, &format!("data/{name}"), column)
}

/// The texts and lines of a file that is as it should be.
fn texts(name: &str, bytes: &str, column: Option<&str>) -> Vec<(String, u64)> {
    let file = read(name, bytes.as_bytes(), column).unwrap();
    file.sentences.into_iter().map(|sentence| (sentence.text, sentence.source.line)).collect()
}

fn message(name: &str, bytes: &[u8], column: Option<&str>) -> String {
    read(name, bytes, column).unwrap_err().to_string()
}

fn at(text: &str, line: u64) -> (String, u64) {
    (text.to_owned(), line)
}

#[test]
fn an_unquoted_line_is_the_sentence_and_a_quoted_record_is_unquoted() {
    let bytes = "\u{feff}Paris, as ever, is \"big\".\n  two spaces  \r\n\n\"a \"\"word\"\"\"\r\n\"\"\n \t \n\
                 \"over\r\nthree\n\nlines\n\"\n\u{3000}\n京都\u{3000}です\na\0b\rc\nlast";
    let expected = [
        at("Paris, as ever, is \"big\".", 1),
        at("  two spaces  ", 2),
        at("a \"word\"", 4),
        at("", 5),
        at("over\r\nthree\n\nlines\n", 7),
        at("京都\u{3000}です", 13),
        at("a\0b\rc", 14),
        at("last", 15),
    ];
    assert_eq!(texts("s.csv", bytes, None), expected);
    assert_eq!(texts("s.unknown", bytes, None), expected);
    let file = read("s.csv", bytes.as_bytes(), None).unwrap();
    assert_eq!(file.blank_lines, 3);
    assert_eq!(file.sentences[0].source, Source { file: "data/s.csv".into(), line: 1 });
}

#[test]
fn a_column_of_a_table_is_read() {
    let bytes = "\n id,text\r\n1,\"a, \"\"b\"\"\nc\"\r\n\n2,\n3,d \"e\" \r";
    let expected = [at("a, \"b\"\nc", 3), at("", 6), at("d \"e\" ", 7)];
    assert_eq!(texts("s.csv", bytes, Some("text")), expected);
    assert_eq!(texts("s.CSV", bytes, Some(" id")), [at("1", 3), at("2", 6), at("3", 7)]);
    assert_eq!(texts("s.tsv", "a\ttext\n\t\nb,c\t\"d\te\"\n", Some("text")), [at("", 2), at("d\te", 3)]);
    assert_eq!(texts("s.tsv", "a\tb\n", None), [at("a\tb", 1)]);
}

#[test]
fn lines_of_text_have_no_quotes() {
    assert_eq!(texts("s.txt", "\"a\n\r\n\"\"\r\nb", Some("text")), [at("\"a", 1), at("\"\"", 3), at("b", 4)]);
}

#[test]
fn a_key_of_json_lines_is_read() {
    let bytes = "{\"id\": 1, \"text\": \"a\\n\\u0000\\ud83d\\ude00\"}\r\n\n{\"text\": \"\", \"q\": {\"text\": 1}}\n";
    assert_eq!(texts("s.jsonl", bytes, None), [at("a\n\0😀", 1), at("", 3)]);
    assert_eq!(texts("s.ndjson", "{\"t\": \"b\"}", Some("t")), [at("b", 1)]);
}

#[test]
fn broken_files_are_named_with_line_and_way_out() {
    let cases: [(&str, &[u8], Option<&str>, &str); 20] = [
        ("s.csv", b"", None, "data/s.csv: the file is empty"),
        ("s.csv", b"\xef\xbb\xbf", None, "the file is empty"),
        ("s.csv", b"\n \n\r\n", None, "data/s.csv: holds no sentence (blank lines: 3)"),
        ("s.csv", b"id,text\n\n", Some("text"), "holds no sentence (blank lines: 1)"),
        ("s.csv", b"a\n\n\"b\nc\nd", None, "line 3: the quote that opens here is never closed"),
        ("s.csv", b"id,text\n1,a\n2,\"b\nc\nd", Some("text"), "line 3: the quote that opens here"),
        ("s.csv", b"\"a\nb\",c\n", None, "line 2: `,c` follows the end of the quoted field that opened on line 1"),
        ("s.csv", b"\"Yes,\" he said.\n", None, "` he said.` follows the end"),
        ("s.csv", b"id,text\n\"1\"\x1b[2J,a\n", Some("text"), "`\u{fffd}[2J,a` follows the end"),
        ("s.csv", b"a\nb\x8c\n", None, "line 2: is not UTF-8: found the byte 0x8C at offset 3; save the file as UTF-8"),
        ("s.csv", b"\xff\xfea\0", None, "line 1: is not UTF-8: found the byte 0xFF at offset 0"),
        (
            "s.csv",
            b"id,txt\n1,a\n",
            Some("text"),
            "line 1: no column `text` in the header; it has `id`, `txt` (did you mean `txt`?)",
        ),
        ("s.csv", b"id,text\n1,a\n2,b,c\n", Some("text"), "line 3: the row has 3 fields but the header has 2"),
        ("s.csv", b"id,text\n1\n", Some("text"), "line 2: the row has 1 fields"),
        ("s.jsonl", b"{\"text\": \"a\"}\n{\"text\": \n", None, "line 2: is not a JSON object: the line is cut off"),
        ("s.jsonl", b"[1]", None, "line 1: is not a JSON object: invalid type: sequence, expected a map (column 0)"),
        ("s.jsonl", b"{\"text\": 1}", None, "line 1: the key `text` must hold a string, found a number"),
        ("s.jsonl", b"{\"Test\": \"a\"}", None, "no key `text` in the object; it has `Test` (did you mean `Test`?)"),
        ("s.jsonl", b"{}", None, "it has none"),
        ("s.jsonl", b"{\"text\": \"\\ud800\"}", None, "line 1: is not a JSON object"),
    ];
    for (name, bytes, column, expected) in cases {
        let found = message(name, bytes, column);
        assert!(found.contains(expected), "{found}\nlacks\n{expected}");
    }
    let missing = read_sentences(Path::new("/nowhere/s.csv"), "s.csv", None).unwrap_err().to_string();
    assert!(missing.starts_with("s.csv: cannot be read: "), "{missing}");
    let folder = read_sentences(&std::env::temp_dir(), "tmp", None).unwrap_err().to_string();
    assert!(folder.starts_with("tmp: cannot be read: "), "{folder}");
}

#[test]
fn messages_stay_short_and_work_linear() {
    let wide = "x,".repeat(1 << 20);
    assert!(message("s.csv", wide.as_bytes(), Some("text")).contains("more than 16384 columns"));
    let long_name = format!("{},{}\n", "é".repeat(1 << 20), "n,".repeat(50));
    assert!(message("s.csv", long_name.as_bytes(), Some("text")).len() < 500);
    let quotes = "\"".repeat((1 << 20) | 1);
    assert!(message("s.csv", quotes.as_bytes(), None).contains("never closed"));
    let deep = "[".repeat(1 << 20);
    assert!(
        message("s.jsonl", format!("{{\"text\": {deep}").as_bytes(), None).contains("line 1: is not a JSON object")
    );
}

/// Any byte, with a liking for those that mean something.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![Just(b'"'), Just(b','), Just(b'\t'), Just(b'\n'), Just(b'\r'), any::<u8>()]
}

proptest! {
    /// Whatever another program quotes is read back, alone or as a column.
    #[test]
    fn quoted_texts_come_back(texts in prop::collection::vec(any::<String>(), 1..8), crlf: bool) {
        let end = if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
        let mut builder = csv::WriterBuilder::new();
        builder.terminator(end).quote_style(csv::QuoteStyle::Always);
        let (mut alone, mut table) = (builder.from_writer(Vec::new()), builder.from_writer(Vec::new()));
        table.write_record(["n", "text", "note"]).unwrap();
        for (i, text) in texts.iter().enumerate() {
            alone.write_record([text]).unwrap();
            table.write_record([&i.to_string(), text, "\"x\", y\n"]).unwrap();
        }
        for (bytes, column) in [(alone.into_inner().unwrap(), None), (table.into_inner().unwrap(), Some("text"))] {
            let file = read("s.csv", &bytes, column).unwrap();
            prop_assert_eq!(file.sentences.into_iter().map(|s| s.text).collect::<Vec<_>>(), texts.clone());
        }
    }

    /// Any bytes at all are read or refused.
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(byte(), 0..60)) {
        for name in ["s.csv", "s.tsv", "s.txt", "s.jsonl"] {
            for column in [None, Some("a")] {
                if let Ok(file) = read(name, &bytes, column) {
                    prop_assert!(!file.sentences.is_empty());
                }
            }
        }
    }
}

#[test]
fn documents_are_the_sentences_of_the_same_file() {
    let files: [(&str, &str, Option<&str>); 9] = [
        ("s.txt", "one\n\n \t\ntwo\r\n\u{3000}\n\"three", None),
        ("s.txt", "\u{feff}one\ntwo\n", None),
        ("s.csv", "\u{feff}a, b\n\"x\r\n\n\"\"y\"\"\"\n\n\"\"\nlast", None),
        ("s.csv", "5\" pipe\n\"q\"\n", None),
        ("s.csv", "\n id,text\r\n1,\"a, \"\"b\"\"\nc\"\r\n\n2,\n3,d \"e\" \r", Some("text")),
        ("s.tsv", "a\ttext\n\t\nb,c\t\"d\te\"\n5\" x\ty\n", Some("text")),
        ("s.jsonl", "{\"text\": \"a\\nb\"}\n\n{\"x\": 1, \"text\": \"\"}", None),
        ("s.ndjson", "{\"t\": \"\u{4eac}\u{90fd}\"}\n", Some("t")),
        ("s.other", "no line end", None),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes, column) in files {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let sentences = read_sentences(&path, name, column).unwrap();
        let documents = Documents::open(&path, name, column).unwrap();
        let read = (0..documents.len()).map(|index| documents.read(index).unwrap());
        let read: Vec<(String, u64)> = read.map(|document| (document.text, document.line)).collect();
        let expected: Vec<(String, u64)> = sentences.sentences.into_iter().map(|s| (s.text, s.source.line)).collect();
        assert_eq!(read, expected, "{name} {bytes:?}");
        assert_eq!(documents.blank_lines(), sentences.blank_lines, "{name} {bytes:?}");
        assert_eq!(documents.blake3(), blake3::hash(bytes.as_bytes()));
    }
}

#[test]
fn what_is_wrong_with_documents_is_what_is_wrong_with_sentences() {
    let files: [(&str, &[u8], Option<&str>); 9] = [
        ("s.txt", b"", None),
        ("s.txt", "\u{feff}".as_bytes(), None),
        ("s.txt", b"\n \n", None),
        ("s.txt", b"a\nb\xffc\n", None),
        ("s.csv", b"a\n\"b\nc", None),
        ("s.csv", b"\"a\" b\n", None),
        ("s.csv", b"id,txt\n1,a\n", Some("text")),
        ("s.csv", b"id,text\n1,a\n2,b,c\n", Some("text")),
        ("s.jsonl", b"{\"text\": 3}\n", None),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes, column) in files {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let expected = read_sentences(&path, name, column).unwrap_err().to_string();
        let found = Documents::open(&path, name, column).err().expect("an error").to_string();
        assert_eq!(found, expected);
    }
    let found = Documents::open(folder.path(), "folder", None).err().expect("an error").to_string();
    assert!(found.contains("cannot be read"), "{found}");
}

#[test]
fn a_file_that_changes_under_the_reader_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.jsonl");
    std::fs::write(&path, "{\"text\": \"a\"}\n{\"text\": \"b\"}\n").unwrap();
    let documents = Documents::open(&path, "s.jsonl", None).unwrap();
    std::fs::write(&path, "{\"text\": \"a\"}\n").unwrap();
    assert_eq!(documents.read(0).unwrap().text, "a");
    let found = documents.read(1).unwrap_err().to_string();
    assert!(found.starts_with("s.jsonl, line 2: has changed"), "{found}");
}
