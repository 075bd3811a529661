use std::io::Write;
use std::path::Path;

use super::*;

fn header() -> Header {
    Header {
        format: FORMAT.into(),
        version: VERSION,
        program: "llamascope test".into(),
        layer: 1,
        hook: "blocks.1.hook_resid_post".into(),
        d_sae: 8,
        convention: "saelens".into(),
        sae_blake3: "00".into(),
        model: "model".into(),
        input: vec!["text.txt".into()],
        input_blake3: "11".into(),
        context: 128,
        tokens: 1008,
        rows: 1000,
        massive_norm: 80.5,
    }
}

fn feature(id: u32) -> Feature {
    let window = Window {
        document: 3,
        offset: 7,
        more: (true, false),
        at: 1,
        tokens: vec![0, 1, 2],
        values: vec![(1, 2.5), (2, 0.25)],
    };
    Feature { id, rows: 12, max: 2.5, types: vec![(1, 9)], promoted: vec![(2, 0.5)], contexts: vec![window] }
}

fn pieces() -> Vec<String> {
    ["The", " 東", ""].map(str::to_owned).into()
}

fn place(folder: &Path) -> std::path::PathBuf {
    folder.join(file_name(1, "00"))
}

fn open(folder: &Path) -> Result<Explored, String> {
    Explored::open(&place(folder)).map_err(|error| error.to_string())
}

/// A file with these lines.
fn lines(lines: &[String]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(place(folder.path())).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    lines.iter().for_each(|line| gzip.write_all(format!("{line}\n").as_bytes()).unwrap());
    gzip.finish().unwrap();
    folder
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    assert!(open(folder.path()).is_err());
    let write = || write(folder.path(), &header(), &pieces(), [feature(2), feature(7)]).unwrap();
    assert_eq!(write(), place(folder.path()));
    let bytes = std::fs::read(place(folder.path())).unwrap();
    write();
    assert_eq!(std::fs::read(place(folder.path())).unwrap(), bytes);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let explored = open(folder.path()).unwrap();
    assert_eq!(explored.header(), &header());
    assert_eq!(explored.ids().collect::<Vec<_>>(), [2, 7]);
    assert_eq!(explored.feature(7).unwrap().unwrap(), feature(7));
    assert!(explored.feature(3).unwrap().is_none());
    assert_eq!((explored.piece(1), explored.piece(99)), (" 東", ""));
}

#[test]
fn damage_is_named_and_never_believed() {
    let json = |value: &dyn Fn(&mut serde_json::Value)| {
        let mut outline = serde_json::to_value(header()).unwrap();
        value(&mut outline);
        outline.to_string()
    };
    let good = json(&|_| {});
    let pieces = serde_json::to_string(&pieces()).unwrap();
    let feature = |id| serde_json::to_string(&feature(id)).unwrap();
    let message = |content: &[String]| open(lines(content).path()).err().expect("an error");
    assert!(message(&[]).contains("it is empty"));
    assert!(message(&["{}".into()]).contains("does not say"));
    assert!(message(&[json(&|h| h["version"] = 9.into()), "what".into()]).contains("version 9"));
    assert!(message(&[json(&|h| h["extra"] = 9.into()), pieces.clone()]).contains("line 1"));
    assert!(message(std::slice::from_ref(&good)).contains("line 2"));
    assert!(message(&[good.clone(), "[1]".into()]).contains("line 2"));
    assert!(
        message(&[good.clone(), pieces.clone(), feature(2), feature(2)]).contains("line 4: feature 2 is out of order")
    );
    assert!(message(&[good.clone(), pieces.clone(), feature(8)]).contains("line 3"));
    assert!(message(&[good.clone(), pieces.clone(), "[]".into()]).contains("line 3"));
    let long = format!("[\"\"{}]", ",\"\"".repeat(PIECES_LIMIT / 3));
    assert!(message(&[good.clone(), long]).contains("are allowed"));
    assert!(message(&[format!("[0{}]", ",0".repeat(HEADER_LIMIT))]).contains("are allowed"));
    let wrong = |from: &str, to: &str| {
        let line = feature(2).replace(from, to);
        assert_ne!(line, feature(2));
        let opened = open(lines(&[good.clone(), pieces.clone(), line]).path()).unwrap();
        opened.feature(2).unwrap_err().to_string()
    };
    for (from, to) in [
        ("],1,[", "],3,["),
        ("[0,1,2]", "[0,1,3]"),
        ("[2,0.25]", "[3,0.25]"),
        ("[1,9]", "[5,9]"),
        ("\"rows\":12", "\"rows\":1001"),
        ("\"max\":2.5", "\"max\":-2.5"),
        ("\"contexts\":[[3,", "\"contexts\":[[-3,"),
        ("\"contexts\"", "\"kontexts\""),
    ] {
        let message = wrong(from, to);
        assert!(message.contains("line 3") && message.contains("llamascope explore"), "{from} -> {to}: {message}");
    }
}

#[test]
fn a_file_that_is_cut_off_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &header(), &pieces(), (0..8).map(feature)).unwrap();
    let path = place(folder.path());
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
    assert!(open(folder.path()).is_err());
    std::fs::write(&path, b"no gzip").unwrap();
    assert!(open(folder.path()).is_err());
}
