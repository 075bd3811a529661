//! An export of explanations, packed or not, imported twice.

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use llamascope_record::labels::{LABELS, Labels, TEXT_BYTES, Target as Goal, import, list};

use crate::Target;
use crate::place::Place;

/// See the module. Packed, a byte may stand for a thousand; lines have a limit of their own.
pub const TARGET: Target = Target { name: "labels", run, seeds, base_bytes: 8 << 20, bytes_per_byte: 8 << 10 };

fn run(data: &[u8]) {
    thread_local!(static PLACE: LazyCell<Place> = const { LazyCell::new(Place::new) });
    PLACE.with(|place| {
        place.clear(LABELS);
        place.clear("run");
        let export = [place.write("batch-0.jsonl.gz", data)];
        let first = match import(&export, Goal::OutputDir(place.path())) {
            Ok(imported) => imported,
            Err(error) => return drop(error.to_string()),
        };
        assert!(first.iter().all(|file| file.path.starts_with(place.path().join(LABELS)) && file.total > 0));
        let again = import(&export, Goal::OutputDir(place.path())).expect("it was imported before");
        assert!(again.iter().all(|file| (file.added, file.changed) == (0, 0)), "a second import changed something");

        let dictionaries = list(&place.path().join(LABELS)).expect("it was written");
        assert_eq!(
            dictionaries.iter().map(|(_, count)| count).sum::<usize>(),
            first.iter().map(|file| file.total).sum::<usize>()
        );
        let run = place.path().join("run");
        let by_layer: BTreeMap<_, _> = dictionaries.into_iter().map(|(dictionary, _)| dictionary).enumerate().collect();
        let labels = Labels::read(&run, 0..by_layer.len(), &by_layer).expect("it was written");
        for layer in 0..by_layer.len() {
            assert!(labels.layer(layer).all(|(_, text)| !text.is_empty() && text.len() <= TEXT_BYTES));
        }
        import(&export, Goal::Layer { run: &run, layer: 3 }).expect("it was imported before");
    });
}

fn seeds() -> Vec<Vec<u8>> {
    let lines = "{\"modelId\":\"llama3.1-8b\",\"layer\":\"12-llamascope-res-32k\",\"index\":\"104\",\"description\":\"names of\\n capitals\",\"explanationModelName\":\"gpt-4o-mini\",\"typeName\":\"oai_token-act-pair\",\"createdAt\":\"2025-01-01\",\"embedding\":[0.1,0.2]}\n\n{\"modelId\":\"llama3.1-8b\",\"layer\":\"12-llamascope-res-32k\",\"index\":104,\"description\":\"other\"}\n{\"modelId\":\"m\",\"layer\":\"0-x\",\"index\":7,\"description\":null}\n";
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(lines.as_bytes()).expect("into memory");
    vec![lines.as_bytes().to_vec(), packed.finish().expect("into memory")]
}
