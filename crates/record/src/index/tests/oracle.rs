//! An index against the rows as they stand in the files, read and counted the slow way.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::run::Run;

/// What one feature did, by brute force.
#[derive(Debug, Default, PartialEq)]
struct Told {
    postings: Vec<(u32, u32)>,
    points: u64,
    sentences: Vec<usize>,
}

/// Holds everything that an index tells against the run's own files.
fn hold_against_files(run: &Path, index: &RunIndex) {
    let files = Run::open(run).unwrap();
    let records = files.sentence_records().unwrap();
    if !records.is_empty() {
        assert_eq!(index.sentences(), records.len());
        let found: Vec<_> = (0..records.len()).map(|number| index.sentence(number).unwrap().record).collect();
        assert_eq!(found, records);
    }
    assert_eq!(index.layers().iter().map(LayerIndex::number).collect::<Vec<_>>(), files.layers());
    for layer in index.layers() {
        let (mut told, mut rows, mut nnz) = (BTreeMap::<u32, Told>::new(), 0, 0);
        for number in 0..index.sentences() {
            let block = layer.sentence(number).unwrap();
            let positions: Vec<_> = index.sentence(number).unwrap().record.tokens.output_positions().collect();
            assert_eq!((block.len(), index.rows_of(number).len()), (positions.len(), positions.len()));
            let lines = files.rows(layer.number(), number).unwrap_or_default();
            let by_position: BTreeMap<_, _> = lines.iter().map(|line| (line.token_pos as usize, line)).collect();
            assert_eq!(by_position.len(), lines.len());
            for (nth, position) in positions.into_iter().enumerate() {
                let row = index.rows_of(number).start + nth as u32;
                assert_eq!(index.place(row), Some(RowPlace { sentence: number, nth }));
                let found = block.row(nth);
                let Some(line) = by_position.get(&position) else {
                    assert!(!found.is_there() && found.is_empty());
                    continue;
                };
                assert!(found.is_there());
                let mut pairs: Vec<_> = line.feat_ids.iter().copied().zip(line.feat_vals.iter().copied()).collect();
                pairs.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                assert_eq!(found.iter().collect::<Vec<_>>(), pairs);
                assert_eq!(layer.row(row).unwrap().vals(), found.vals());
                (rows, nnz) = (rows + 1, nnz + pairs.len() as u64);
                for (rank, (id, value)) in pairs.into_iter().enumerate() {
                    let feature = told.entry(id).or_default();
                    feature.postings.push((row, value.to_bits()));
                    feature.points += if rank < 100 { 100 - rank as u64 } else { 0 };
                    feature.sentences.push(number);
                }
            }
        }
        assert_eq!((layer.rows(), layer.nnz(), layer.seen()), (rows, nnz, told.len()));
        assert_eq!(layer.points(), told.values().map(|feature| feature.points).sum::<u64>());
        let mut by_points: Vec<_> = told.iter().map(|(&id, feature)| (std::cmp::Reverse(feature.points), id)).collect();
        by_points.sort();
        let slots: Vec<_> = by_points.into_iter().map(|(_, id)| id).collect();
        assert_eq!(layer.by_slot().unwrap(), slots);
        let stats: Vec<_> = layer.features().unwrap().collect();
        assert_eq!(stats.iter().map(|stats| stats.id).collect::<Vec<_>>(), told.keys().copied().collect::<Vec<_>>());
        for stats in stats {
            let feature = told.get_mut(&stats.id).unwrap();
            feature.sentences.dedup();
            let values: Vec<_> = feature.postings.iter().map(|&(_, bits)| f32::from_bits(bits)).collect();
            let max = values.iter().copied().fold(0.0, f32::max);
            let argmax = feature.postings[values.iter().position(|value| *value == max).unwrap()].0;
            let expected = FeatureStats {
                id: stats.id,
                slot: slots.iter().position(|id| *id == stats.id).unwrap() as u32,
                tokens: values.len() as u32,
                sentences: feature.sentences.len() as u32,
                argmax,
                points: feature.points,
                sum: values.iter().map(|&value| f64::from(value)).sum(),
                max,
                min: values.iter().copied().fold(f32::INFINITY, f32::min),
            };
            assert_eq!(stats, expected);
            assert_eq!(layer.stats(stats.id).unwrap(), Some(stats));
            let postings = layer.postings(stats.id).unwrap();
            assert_eq!(postings.iter().map(|p| (p.row, p.val.to_bits())).collect::<Vec<_>>(), feature.postings);
            let histogram = layer.histogram(stats.id).unwrap().unwrap();
            for (bin, count) in histogram.into_iter().enumerate() {
                let inside = |value: &&f32| bin_of(**value) == bin;
                assert_eq!(count as usize, values.iter().filter(inside).count());
            }
        }
    }
}

/// Rows of features with values that are often equal.
fn rows(d_sae: u32) -> impl Strategy<Value = Vec<(u32, f32)>> {
    let value = prop_oneof![Just(1.0f32), Just(0.5), 1e-30f32..1e30, (1u32..0x7f80_0000).prop_map(f32::from_bits)];
    // Half of the rows reach below rank 100.
    let many = prop_oneof![0usize..6, 90usize..130];
    many.prop_flat_map(move |n| btree_map(0..d_sae, value.clone(), n / 2..=n)).prop_map(|row| row.into_iter().collect())
}

/// Texts, size of the dictionary, and the rows of two layers.
fn runs() -> impl Strategy<Value = (Vec<String>, u32, Vec<(usize, Rows)>)> {
    let text = prop_oneof![Just(String::new()), "[a-z京\u{1F600}]{0,4}"];
    (vec(text, 0..5), prop_oneof![Just(300u32), Just(70_000)]).prop_flat_map(|(texts, d_sae)| {
        let lengths: Vec<_> = texts.iter().map(|text| text.chars().count()).collect();
        let layer = move || lengths.iter().map(|&n| vec(rows(d_sae), n).boxed()).collect::<Vec<_>>();
        let layers = (layer(), layer()).prop_map(|(a, b)| vec![(2, a), (7, b)]);
        (Just(texts), Just(d_sae), layers)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn an_index_tells_what_the_files_tell((texts, d_sae, layers) in runs()) {
        let folder = tempfile::tempdir().unwrap();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let run = write_run(folder.path(), &texts, d_sae as usize, &layers);
        let index = open(&run);
        prop_assert!(index.health().is_well() || texts.is_empty(), "{:?}", index.health());
        hold_against_files(&run, &index);
        index.verify().unwrap();

        // The same rows as a bare tree: sentences come out of the rows.
        let rows_of = |index: &RunIndex| -> Vec<_> {
            let layer = |layer: &LayerIndex| (layer.points(), layer.by_slot().unwrap().to_vec(), layer.nnz());
            index.layers().iter().map(layer).collect()
        };
        let expected = rows_of(&index);
        fs::remove_file(run.join("run.json")).unwrap();
        fs::remove_file(run.join("sentences.jsonl")).unwrap();
        if run.join("layer_02").exists() {
            let tree = open(&run);
            hold_against_files(&run, &tree);
            prop_assert_eq!(rows_of(&tree), expected);
            for (number, text) in texts.iter().enumerate().take(tree.sentences()) {
                prop_assert_eq!(tree.text(number).unwrap(), *text);
            }
        }
    }
}
