//! What `llamascope explore` has written, packed or not.

use std::cell::LazyCell;
use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use llamascope_record::explored::{Explored, FORMAT, Feature, Header, VERSION, Window, file_name, write};

use crate::Target;
use crate::place::Place;

/// See the module. Packed, a byte may stand for a thousand, and each of those for a few of numbers.
pub const TARGET: Target = Target { name: "explored", run, seeds, base_bytes: 8 << 20, bytes_per_byte: 32 << 10 };

fn run(data: &[u8]) {
    thread_local!(static PLACE: LazyCell<Place> = const { LazyCell::new(Place::new) });
    PLACE.with(|place| {
        let bytes = if data.starts_with(&[0x1f, 0x8b]) { data.to_vec() } else { packed(data) };
        let explored = match Explored::open(&place.write("in.jsonl.gz", &bytes)) {
            Ok(explored) => explored,
            Err(error) => return drop(error.to_string()),
        };
        let mut known: Vec<Feature> = Vec::new();
        for id in explored.ids() {
            let Ok(feature) = explored.feature(id) else { continue };
            let feature = feature.expect("its id is one of them");
            assert_eq!(feature.id, id);
            known.push(feature);
        }
        for feature in &known {
            assert!(feature.rows <= explored.header().rows);
            assert!(feature.contexts.iter().all(|window| window.at < window.tokens.len()));
        }
        // A name is made of whatever the header says, and still lies in the folder.
        let header = explored.header();
        let name = file_name(header.layer, &header.sae_blake3);
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte)), "{name}");
        let last = known.iter().flat_map(pieces).max().map_or(0, |last| last + 1);
        let texts: Vec<String> = (0..last).map(|piece| explored.piece(piece).to_owned()).collect();
        let path = write(place.path(), header, &texts, known.clone()).expect("it can be written");
        let again = Explored::open(&path).expect("what is written is read");
        assert_eq!(again.header(), header);
        let read: Vec<Feature> =
            again.ids().map(|id| again.feature(id).expect("it is right").expect("it has an id")).collect();
        assert_eq!(read, known);
        fs::remove_file(path).expect("it was written");
    });
}

/// The pieces that a feature names.
fn pieces(feature: &Feature) -> impl Iterator<Item = u32> {
    let windows = feature.contexts.iter().flat_map(|window| window.tokens.iter().copied());
    let types = feature.types.iter().map(|(piece, _)| *piece);
    windows.chain(types).chain(feature.promoted.iter().map(|(piece, _)| *piece))
}

fn packed(text: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(text).expect("into memory");
    packed.finish().expect("into memory")
}

fn seeds() -> Vec<Vec<u8>> {
    let header = Header {
        format: FORMAT.into(),
        version: VERSION,
        program: "llamascope 0.0.0".into(),
        layer: 10,
        hook: "blocks.10.hook_resid_post".into(),
        d_sae: 4608,
        convention: "saelens".into(),
        sae_blake3: "00ff".into(),
        model: "model.gguf".into(),
        input: vec!["corpus.txt".into()],
        input_blake3: "11".into(),
        context: 128,
        tokens: 2016,
        rows: 2000,
        massive_norm: 1234.5,
    };
    let window = Window {
        document: 3,
        offset: 7,
        more: (true, false),
        at: 1,
        tokens: vec![1, 2, 0],
        values: vec![(1, 12.5), (2, 0.25)],
    };
    let feature = |id| Feature {
        id,
        rows: 12,
        max: 12.5,
        types: vec![(2, 9)],
        promoted: vec![(1, 0.5), (2, -1.5)],
        contexts: vec![window.clone()],
    };
    let json = |value: serde_json::Result<String>| value.expect("numbers and text") + "\n";
    let mut text = json(serde_json::to_string(&header)) + "[\"\",\" of\",\"\u{6771}\"]\n";
    let bare = text.clone();
    [7, 104, 4607].iter().for_each(|id| text += &json(serde_json::to_string(&feature(*id))));
    vec![text.clone().into_bytes(), bare.into_bytes(), packed(text.as_bytes())]
}
