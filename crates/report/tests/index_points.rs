//! The points that an index counts are those of [`Score`]: two ways to the same integers.

use std::path::Path;

use llamascope_record::index::RunIndex;
use llamascope_record::run::{Counts, Manifest, Run, RunWriter, SaeInfo};
use llamascope_record::{Sentence, Source, Span, SparseRows, Tokens};
use llamascope_report::Score;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// The features of all rows of one sentence.
type Rows = Vec<Vec<(u32, f32)>>;

fn write_run(folder: &Path, sentences: &[Rows]) -> std::path::PathBuf {
    let writer = RunWriter::create(folder, "20260102_030405").unwrap();
    let tokens = |rows: &Rows| Tokens {
        ids: vec![5; rows.len()],
        spans: vec![Span { start: 0, end: 0 }; rows.len()],
        strs: vec!["x".into(); rows.len()],
        special: vec![false; rows.len()],
        bos: vec![false; rows.len()],
    };
    let text = Sentence { text: "x".into(), source: Source { file: "a.csv".into(), line: 1 } };
    let tokens: Vec<_> = sentences.iter().map(tokens).collect();
    writer.write_sentences(&vec![text; sentences.len()], &tokens).unwrap();
    for (index, rows) in sentences.iter().enumerate() {
        let rows = SparseRows::from_unsorted(400, rows.iter().cloned()).unwrap();
        writer.write_rows(0, index, &tokens[index], &rows).unwrap();
    }
    let manifest = Manifest {
        complete: true,
        saes: vec![SaeInfo { d_sae: 400, ..SaeInfo::default() }],
        counts: Counts { sentences: sentences.len() as u64, ..Counts::default() },
        ..Manifest::default()
    };
    writer.write_manifest(&manifest).unwrap();
    writer.path().to_owned()
}

/// Tokens, points and largest value of every feature, as the score of the run's files has them and as its index has.
fn both(run: &Path) -> [(u64, Vec<(u32, u64, u64, f32)>, Vec<u32>); 2] {
    let files = Run::open(run).unwrap();
    let mut score = Score::default();
    for sentence in files.sentences_in(0) {
        files.rows(0, sentence).unwrap().iter().for_each(|row| score.add(&row.feat_ids, &row.feat_vals));
    }
    let counted = score.features().map(|(id, feature)| (id, feature.tokens, feature.points, feature.max)).collect();
    let slots = score.most_common(usize::MAX).into_iter().map(|(id, _)| id).collect();
    let index = RunIndex::open_or_build(run, None, &()).unwrap();
    let layer = index.layer(0).unwrap();
    let indexed = layer.features().unwrap().map(|f| (f.id, f.tokens.into(), f.points, f.max)).collect();
    [(score.tokens(), counted, slots), (layer.rows(), indexed, layer.by_slot().unwrap().to_vec())]
}

fn sentences() -> impl Strategy<Value = Vec<Rows>> {
    let value = prop_oneof![Just(1.0f32), Just(2.0), 0.001f32..50.0];
    let row = btree_map(0u32..400, value, 0..150).prop_map(|row| row.into_iter().collect());
    vec(vec(row, 0..5), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn an_index_counts_the_points_of_the_score_and_so_do_its_parts(sentences in sentences(), cut in 0usize..5) {
        let folder = tempfile::tempdir().unwrap();
        let [counted, indexed] = both(&write_run(folder.path(), &sentences));
        prop_assert_eq!(&counted, &indexed);
        // Every rank of every token has earned its points, and nothing else has.
        let ranks = |row: &Vec<(u32, f32)>| (1..=row.len().min(100) as u64).map(|rank| 101 - rank).sum::<u64>();
        let points: u64 = indexed.1.iter().map(|(.., points, _)| points).sum();
        prop_assert_eq!(points, sentences.iter().flatten().map(ranks).sum::<u64>());

        let cut = cut.min(sentences.len());
        let mut merged = std::collections::BTreeMap::new();
        let mut tokens = 0;
        for part in [&sentences[..cut], &sentences[cut..]] {
            let folder = tempfile::tempdir().unwrap();
            if part.is_empty() {
                continue;
            }
            let [_, (rows, features, _)] = both(&write_run(folder.path(), part));
            tokens += rows;
            for (id, tokens, points, max) in features {
                let feature = merged.entry(id).or_insert((0, 0, 0.0f32));
                *feature = (feature.0 + tokens, feature.1 + points, feature.2.max(max));
            }
        }
        let merged: Vec<_> = merged.into_iter().map(|(id, (tokens, points, max))| (id, tokens, points, max)).collect();
        prop_assert_eq!((tokens, merged), (indexed.0, indexed.1));
    }
}
