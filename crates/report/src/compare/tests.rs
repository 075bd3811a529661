//! Comparisons of rows made up here, and of folders of them.

use std::fs;
use std::path::Path;

use llamascope_record::run::{Run, TokenRow};
use proptest::prelude::*;

use super::*;

fn row(token_pos: u32, features: &[(u32, f32)]) -> TokenRow {
    let (feat_ids, feat_vals) = features.iter().copied().unzip();
    TokenRow { token_pos, token_str: format!(" t{token_pos}"), nnz: features.len() as u32, feat_ids, feat_vals }
}

fn compare(a: &[TokenRow], b: &[TokenRow]) -> Comparison {
    let mut comparer = Comparer::default();
    comparer.sentence(3, 0, a, b);
    comparer.finish()
}

#[test]
fn identical_rows_agree_wholly() {
    let rows = [row(1, &[(4, 2.0), (2, 1.0)]), row(2, &[])];
    let comparison = compare(&rows, &rows);
    let expected = Agreement {
        tokens: 2,
        l0_mean_a: 1.0,
        l0_mean_b: 1.0,
        jaccard: 1.0,
        jaccard_mean: 1.0,
        identical: 1.0,
        same_order: 1.0,
        rel_max: 0.0,
        rel_median: 0.0,
        rel_median_exact: true,
        abs_max: 0.0,
    };
    assert_eq!(comparison.layers, [LayerComparison { layer: 3, agreement: expected.clone() }]);
    assert_eq!((comparison.overall, comparison.worst.len(), comparison.difference_count), (expected, 0, 0));
}

#[test]
fn every_number_follows_its_definition() {
    let a = [
        row(1, &[(4, 2.0), (2, 1.0), (9, 0.5)]),
        row(2, &[(5, 1.0)]),
        row(3, &[]),
        row(4, &[(1, 3.0), (2, 2.0)]),
        row(5, &[(7, 1.0)]),
    ];
    let b = [
        row(1, &[(4, 1.5), (2, 1.0), (8, 0.5)]),
        row(2, &[]),
        row(3, &[]),
        row(4, &[(2, 2.5), (1, 2.4)]),
        row(5, &[(7, 1.0)]),
    ];
    let comparison = compare(&a, &b);
    let found = &comparison.layers[0].agreement;
    assert_eq!(found.tokens, 5);
    assert_eq!((found.l0_mean_a, found.l0_mean_b), (7.0 / 5.0, 6.0 / 5.0));
    // Shared: 2 + 0 + 0 + 2 + 1; in either: 4 + 1 + 0 + 2 + 1.
    assert_eq!(found.jaccard, 5.0 / 8.0);
    assert_eq!(found.jaccard_mean, (0.5 + 0.0 + 1.0 + 1.0 + 1.0) / 5.0);
    assert_eq!((found.identical, found.same_order), (3.0 / 5.0, 2.0 / 5.0));
    // Relative differences: 0.25, 0, 0.2, 0.2, 0 (the third of the five, in order, is 0.2).
    assert_eq!(found.rel_max, 0.25);
    assert!((found.rel_median - 0.2).abs() < 1e-7 && found.rel_median_exact);
    assert!((found.abs_max - 0.6).abs() < 1e-6);

    let worst: Vec<_> = comparison.worst.iter().map(|token| token.token_pos).collect();
    assert_eq!(worst, [2, 1, 4]);
    let first = &comparison.worst[1];
    assert_eq!((first.jaccard, first.rel_max), (0.5, 0.25));
    assert_eq!((&first.only_a[..], &first.only_b[..]), (&[9][..], &[8][..]));
}

#[test]
fn the_worst_tokens_are_few_and_list_the_strongest_features() {
    let full: Vec<(u32, f32)> = (0..50).map(|rank| (100 - rank, 100.0 - rank as f32)).collect();
    let a: Vec<_> = (1..=40).map(|n| row(n, &full[..n as usize])).collect();
    let b: Vec<_> = (1..=40).map(|n| row(n, &full[..1])).collect();
    let worst = compare(&a, &b).worst;
    assert_eq!(worst.iter().map(|token| token.token_pos).collect::<Vec<_>>(), (31..=40).rev().collect::<Vec<_>>());
    assert_eq!((worst[0].only_a_count, &worst[0].only_a[..]), (39, &[99, 98, 97, 96, 95][..]));
    assert_eq!((worst[0].only_b_count, worst[0].only_b.len()), (0, 0));
}

#[test]
fn what_is_not_the_same_token_is_not_compared() {
    let a = [row(1, &[(1, 1.0)]), row(2, &[(2, 1.0)]), row(3, &[(3, 1.0)])];
    let mut b = a.clone();
    b[1].token_str = "other\x1b".into();
    let comparison = compare(&a, &b);
    assert_eq!(comparison.overall.tokens, 1);
    let failures = Requirement::default().failures(&comparison);
    let expected = "layer_03/sentence_0000.jsonl, line 2: token 2 is `·t2` in run A, token 2 is `other␛` in run B";
    assert_eq!(failures, [expected]);

    let shorter = compare(&a, &a[..2]);
    assert_eq!(shorter.overall.tokens, 2);
    assert_eq!(
        Requirement::default().failures(&shorter),
        ["layer_03/sentence_0000.jsonl: 3 rows in run A, 2 in run B"]
    );
}

#[test]
fn requirements_name_the_layers_that_miss_them() {
    let comparison = compare(&[row(1, &[(1, 1.0), (2, 0.5)])], &[row(1, &[(1, 0.75)])]);
    let failures = |jaccard, rel| Requirement { jaccard, rel }.failures(&comparison);
    assert!(failures(None, None).is_empty());
    assert!(failures(Some(0.5), Some(0.25)).is_empty());
    assert_eq!(failures(Some(0.999), None), ["layer 3: Jaccard 0.500000 is below 0.999"]);
    let too_far = "layer 3: the largest relative difference 2.5e-1 is above 0.0001";
    assert_eq!(failures(None, Some(1e-4)), [too_far]);
    assert_eq!(failures(Some(f64::NAN), Some(f64::NAN)).len(), 2);
    let nothing = Comparer::default().finish();
    assert_eq!(Requirement::default().failures(&nothing), ["the runs have no token in common"]);
}

#[test]
fn the_table_is_aligned_and_narrow() {
    let mut comparer = Comparer::default();
    let japanese = TokenRow { token_str: "東京都".into(), ..row(7, &[(32767, 1.0), (5, 0.5), (6, 0.25)]) };
    let without = TokenRow { token_str: "東京都".into(), ..row(7, &[(5, 0.5)]) };
    comparer.sentence(0, 2, std::slice::from_ref(&japanese), std::slice::from_ref(&japanese));
    comparer.sentence(31, 10_000, &[japanese, row(8, &[(1, 1.0)])], &[without, row(8, &[(1, 1.000001), (2, 0.5)])]);
    comparer.differs(Difference::Layer { only_in: Side::B, layer: 5 });
    let shown = comparer.finish().to_table();
    let expected = "\
layer  tokens  L0 A  L0 B   Jaccard      mean  identical  same order  rel max  rel median  abs max
-----  ------  ----  ----  --------  --------  ---------  ----------  -------  ----------  -------
    0       1   3.0   3.0  1.000000  1.000000   1.000000    1.000000        0           0        0
   31       2   2.0   1.5  0.400000  0.416666   0.000000    0.000000   9.5e-7           0   9.5e-7
  all       3   2.3   2.0  0.625000  0.611111   0.333333    0.333333   9.5e-7           0   9.5e-7

Jaccard: features active in both runs / in either, over all tokens (mean: of the tokens' own).
rel: |a - b| / max(a, b) of the features active in both.

worst tokens
layer  sentence  pos  token    Jaccard  rel max  only in A  only in B
-----  --------  ---  ------  --------  -------  ---------  ---------
   31     10000    7  東京都  0.333333        0  32767 6
   31     10000    8  ·t8     0.500000   9.5e-7             2

not in both runs
- layer_05: only in run B
";
    assert_eq!(shown, expected);
}

/// Writes rows as `layer_LL/sentence_SSSS.jsonl`.
fn write(run: &Path, layer: usize, sentence: usize, rows: &[TokenRow]) {
    let folder = run.join(format!("layer_{layer:02}"));
    fs::create_dir_all(&folder).unwrap();
    let lines: String = rows
        .iter()
        .map(|row| {
            let TokenRow { token_pos, token_str, nnz, feat_ids, feat_vals } = row;
            let line = serde_json::json!({
                "token_pos": token_pos, "token_str": token_str, "nnz": nnz, "feat_ids": feat_ids, "feat_vals": feat_vals,
            });
            format!("{line}\n")
        })
        .collect();
    fs::write(folder.join(format!("sentence_{sentence:04}.jsonl")), lines).unwrap();
}

#[test]
fn folders_are_compared_and_what_one_lacks_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let rows = [row(1, &[(1, 1.0)])];
    for (run, layer, sentence) in [(&a, 0, 0), (&b, 0, 0), (&a, 0, 1), (&b, 0, 2), (&a, 1, 0), (&b, 2, 0)] {
        write(run, layer, sentence, &rows);
    }
    let (run_a, run_b) = (Run::open(&a).unwrap(), Run::open(&b).unwrap());
    let comparison = compare_runs(&run_a, &run_b).unwrap();
    let differences: Vec<_> = comparison.differences.iter().map(Difference::to_string).collect();
    let expected = [
        "layer_00/sentence_0001.jsonl: only in run A",
        "layer_00/sentence_0002.jsonl: only in run B",
        "layer_01: only in run A",
        "layer_02: only in run B",
    ];
    assert_eq!(differences, expected);
    assert_eq!((comparison.overall.tokens, comparison.difference_count), (1, 4));
    let failures = Requirement::default().failures(&comparison);
    assert_eq!(failures, ["layer_00/sentence_0001.jsonl: only in run A (and 3 more differences like it)"]);

    let itself = compare_runs(&run_a, &run_a).unwrap();
    assert!(Requirement { jaccard: Some(1.0), rel: Some(0.0) }.failures(&itself).is_empty());
}

#[test]
fn dictionaries_of_another_size_or_place_are_not_compared() {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str, d_sae: usize, hook: &str, complete: bool| {
        let path = folder.path().join(name);
        write(&path, 0, 0, &[row(1, &[(1, 1.0)])]);
        let sae = serde_json::json!({ "layer": 0, "d_sae": d_sae, "hook": hook });
        let manifest = serde_json::json!({ "format_version": 1, "complete": complete, "saes": [sae] });
        fs::write(path.join("run.json"), manifest.to_string()).unwrap();
        Run::open(&path).unwrap()
    };
    let reference = open("a", 512, "blocks.0.hook_resid_post", true);
    let says = |other: &Run| compare_runs(&reference, other).unwrap_err().to_string();
    assert_eq!(
        says(&open("b", 1024, "blocks.0.hook_resid_post", true)),
        "layer 0: the d_sae is 512 in run A and 1024 in run B: their features have nothing in common"
    );
    assert_eq!(
        says(&open("c", 512, "blocks.0.hook_mlp_out", true)),
        "layer 0: the hook point is blocks.0.hook_resid_post in run A and blocks.0.hook_mlp_out in run B: \
         their features have nothing in common"
    );
    let stopped = compare_runs(&reference, &open("d", 512, "blocks.0.hook_resid_post", false)).unwrap();
    assert_eq!(Requirement::default().failures(&stopped), ["run B is not complete"]);
}

#[test]
fn the_json_has_the_layer_beside_its_numbers() {
    let rows = [row(1, &[(1, 1.0)])];
    let mut comparer = Comparer::default();
    comparer.sentence(3, 0, &rows, &rows);
    comparer.differs(Difference::Sentence { only_in: Side::A, layer: 3, sentence: 1 });
    let json = serde_json::to_value(comparer.finish()).unwrap();
    assert_eq!(json["layers"][0]["layer"], 3);
    assert_eq!(json["layers"][0]["jaccard"], 1.0);
    let difference = serde_json::json!({ "kind": "sentence", "only_in": "a", "layer": 3, "sentence": 1 });
    assert_eq!(json["differences"][0], difference);
}

fn rows() -> impl Strategy<Value = Vec<TokenRow>> {
    let features = prop::collection::hash_map(0u32..40, 1e-6f32..1e3, 0..20);
    prop::collection::vec(features, 1..8).prop_map(|tokens| {
        let canonical = |features: std::collections::HashMap<u32, f32>| {
            let mut features: Vec<_> = features.into_iter().collect();
            features.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            features
        };
        tokens.into_iter().zip(1..).map(|(features, pos)| row(pos, &canonical(features))).collect()
    })
}

proptest! {
    #[test]
    fn agreement_is_symmetric_and_within_bounds(a in rows(), b in rows()) {
        let (forth, back) = (compare(&a, &b).overall, compare(&b, &a).overall);
        prop_assert_eq!(&forth, &Agreement { l0_mean_a: back.l0_mean_b, l0_mean_b: back.l0_mean_a, ..back.clone() });
        for share in [forth.jaccard, forth.jaccard_mean, forth.identical, forth.rel_max, forth.rel_median] {
            prop_assert!((0.0..=1.0).contains(&share));
        }
        prop_assert!(forth.same_order <= forth.identical && forth.rel_median <= forth.rel_max);
        let itself = compare(&a, &a).overall;
        prop_assert_eq!((itself.jaccard, itself.rel_max, itself.same_order), (1.0, 0.0, 1.0));
    }
}
