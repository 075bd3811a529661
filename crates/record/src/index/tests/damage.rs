//! Files of an index that lie: no byte of them is believed, and nothing panics.

use proptest::prelude::*;

use super::super::container::{Identity, Key, Kind, META_NONE, Sealed, Writer};
use super::*;

/// Asks an index everything there is to ask.
fn ask_everything(index: &RunIndex) -> Result<(), IndexError> {
    for number in 0..index.sentences() {
        index.sentence(number)?;
        index.source(number)?;
        for layer in index.layers() {
            layer.sentence(number)?.iter().for_each(|row| drop(row.ids().to_vec()));
        }
    }
    for layer in index.layers() {
        layer.by_slot()?;
        for stats in layer.features()? {
            layer.postings(stats.id)?;
            layer.histogram(stats.id)?;
        }
    }
    index.search(&Query::text("京")?, 0, 10).map(drop)
}

const FILES: [&str; 6] = [
    "texts.idx",
    "tokens.idx",
    "layer_00.rows.idx",
    "layer_00.postings.idx",
    "layer_11.rows.idx",
    "layer_11.postings.idx",
];

#[test]
fn every_byte_counts() {
    let folder = tempfile::tempdir().unwrap();
    let run = small_run(folder.path());
    open(&run);
    for name in FILES {
        let path = run.join(INDEX).join(name);
        let good = fs::read(&path).unwrap();
        // All of the header, and a byte here and there of the rest.
        for at in (0..128).chain((128..good.len()).step_by(37)) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(&path, &bad).unwrap();
            let found = RunIndex::open(&run, None).and_then(|index| index.verify());
            let error = found.expect_err(&format!("{name}: byte {at} is believed"));
            assert!(error.is_curable(), "{name}, byte {at}: {error}");
        }
        for cut in (0..good.len()).step_by(61).chain([good.len() - 1]) {
            fs::write(&path, &good[..cut]).unwrap();
            assert!(RunIndex::open(&run, None).unwrap_err().is_curable(), "{name} cut at {cut}");
        }
        fs::write(&path, [good.as_slice(), b"more"].concat()).unwrap();
        assert!(RunIndex::open(&run, None).unwrap_err().is_curable());
        open(&run).verify().unwrap();
        assert_eq!(fs::read(&path).unwrap(), good, "{name} was built again");
    }
}

#[test]
fn a_file_under_the_name_of_another_is_not_taken_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = small_run(folder.path());
    open(&run);
    for (from, to) in [(0, 1), (2, 4), (3, 5), (2, 3)] {
        let [from, to] = [from, to].map(|at: usize| run.join(INDEX).join(FILES[at]));
        let kept = fs::read(&to).unwrap();
        fs::copy(&from, &to).unwrap();
        assert!(RunIndex::open(&run, None).unwrap_err().is_curable());
        fs::write(&to, kept).unwrap();
    }
    ask_everything(&RunIndex::open(&run, None).unwrap()).unwrap();
}

/// Seals sections of any content, as somebody could who knows the format.
fn forge(path: &Path, kind: Kind, layer: u32, key: Key, meta: [u64; 8], sections: &[Vec<u8>]) {
    let mut file = Writer::create(path).unwrap();
    sections.iter().for_each(|section| file.section(section).unwrap());
    file.finish(Identity { kind, layer, key }, meta).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_forged_file_with_right_hashes_makes_nothing_panic(
        which in 0usize..4,
        section in 0usize..7,
        at in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 1..9),
        grow in prop::option::of(0usize..40),
        meta in prop::option::of((0usize..8, prop_oneof![0u64..5, any::<u64>()])),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let run = small_run(folder.path());
        open(&run);
        let (name, kind, count) = [
            ("texts.idx", Kind::Texts, 7),
            ("tokens.idx", Kind::Tokens, 5),
            ("layer_00.rows.idx", Kind::Rows, 2),
            ("layer_00.postings.idx", Kind::Postings, 5),
        ][which];
        let path = run.join(INDEX).join(name);
        let key = super::super::source::Source::look(&run).unwrap().key;
        let sealed = Sealed::open(&path, Identity { kind, layer: 0, key }).unwrap();
        let mut numbers = *sealed.meta();
        let mut sections: Vec<Vec<u8>> = (0..count).map(|at| sealed.all::<u8>(at).unwrap().to_vec()).collect();
        let forged = &mut sections[section % count];
        match grow {
            Some(length) => forged.resize(length, bytes[0]),
            None if forged.is_empty() => {}
            None => {
                let at = at.index(forged.len());
                forged[at..].iter_mut().zip(&bytes).for_each(|(old, new)| *old = *new);
            }
        }
        if let Some((at, number)) = meta {
            numbers[at] = number;
        }
        forge(&path, kind, 0, key, numbers, &sections);
        // Whatever comes of it, an error or other numbers, it comes without a panic.
        let _ = RunIndex::open(&run, None).map(|index| ask_everything(&index));
    }

    #[test]
    fn any_bytes_at_all_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.idx");
        fs::write(&path, &bytes).unwrap();
        let identity = Identity { kind: Kind::Texts, layer: 0, key: [0; 32] };
        prop_assert!(Sealed::open(&path, identity).is_err());
    }
}

#[test]
fn sections_come_back_across_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.idx");
    let numbers: Vec<u64> = (0..50_000).collect();
    let mut file = Writer::create(&path).unwrap();
    file.section(&[7u8; 3]).unwrap();
    file.section(&numbers).unwrap();
    let identity = Identity { kind: Kind::Rows, layer: 3, key: [9; 32] };
    file.finish(identity, META_NONE).unwrap();
    let file = Sealed::open(&path, identity).unwrap();
    assert_eq!(file.all::<u64>(1).unwrap(), numbers);
    assert_eq!(file.numbers::<u64>(1, 8 * 8_190, 4).unwrap(), [8_190, 8_191, 8_192, 8_193]);
    assert_eq!(file.section_len(0), 3);
    assert!(file.numbers::<u64>(1, 8 * 49_999, 2).is_err());
    assert!(file.numbers::<u64>(1, 4, 1).is_err(), "an odd place");
    assert!(file.numbers::<u64>(1, 0, u64::MAX).is_err());
    assert!(file.bytes(2, 0..0).is_err());
    assert!(Sealed::open(&path, Identity { layer: 4, ..identity }).is_err());
    assert!(Sealed::open(&path, Identity { key: [8; 32], ..identity }).is_err());
}
