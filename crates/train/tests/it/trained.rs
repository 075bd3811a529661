//! What comes out of a training, on rows that are known to be sums of few directions.

use llamascope_record::{Site, Tap};
use llamascope_sae::{Activation, Convention, Sae, find_saes, reference};
use llamascope_train::settings::{Kind, Layout, Stored};

use crate::support::{ACTIVE, D, Job, rows};

#[test]
fn every_kind_learns_rows_that_are_sums_of_few_directions() {
    for (kind, l1) in [(Kind::TopK, 0.0), (Kind::BatchTopK, 0.0), (Kind::Relu, 0.3)] {
        let job = Job::new().with(|settings| (settings.kind, settings.l1) = (kind, l1));
        let finished = job.train().unwrap();
        assert_eq!(finished.exported.iter().map(|exported| exported.layer).collect::<Vec<_>>(), [3, 8]);
        for exported in &finished.exported {
            assert!(exported.explained_variance > 0.9, "{kind:?}: {exported:?}");
            // Twice as many features as directions: BatchTopK needs no more than these.
            assert!(exported.dead_fraction < 0.5, "{kind:?}: {exported:?}");
            let k = (ACTIVE + 1) as f64;
            let most = if kind == Kind::Relu { (3 * D) as f64 / 2.0 } else { k + 1e-6 };
            assert!(exported.l0 > 1.0 && exported.l0 <= most, "{kind:?}: {exported:?}");
        }
        let folder = &job.settings.output_dir;
        let lines = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
        let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        assert_eq!(last["step"], 8 * (36_000 / 1024 - 1));
        assert!(std::fs::read_to_string(folder.join("curves.svg")).unwrap().contains("explained variance"));
        let record = std::fs::read_to_string(folder.join("training.json")).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&record).unwrap()["settings"]["k"], ACTIVE + 1);
    }
}

#[test]
fn both_layouts_and_all_conventions_say_the_same_of_a_row() {
    let job = Job::new().with(|settings| {
        settings.layouts = vec![Layout::LlamaScope, Layout::Saelens];
        settings.kind = Kind::BatchTopK;
    });
    let finished = job.train().unwrap();
    let fresh = rows(500, 1);
    let [scope, saelens] = &finished.exported[0].folders[..] else { panic!("two layouts") };
    let opened = Sae::open(saelens, Convention::Saelens).unwrap();
    assert_eq!(opened.tap, Tap { layer: 3, site: Site::ResidPost });
    let (mut active, mut count) = (0, 0);
    for row in fresh.chunks_exact(D) {
        let expected = reference::encode(&opened, row);
        for convention in Convention::ALL {
            let found = reference::encode(&Sae::open(scope, convention).unwrap(), row);
            // The one unit is that of scaled rows, the other that of rows as they are.
            let factor = (D as f32).sqrt() / finished.exported[0].average_norm;
            let factor = if convention == Convention::Saelens { 1.0 } else { 1.0 / factor };
            // Whatever stands on the threshold to the last digit may fall on either side.
            count += expected.len().abs_diff(found.len());
            for ((id, value), (other_id, other)) in expected.iter().zip(&found) {
                assert!(
                    id == other_id && (value * factor - other).abs() < 1e-4 * other.abs(),
                    "{expected:?} {found:?}"
                );
            }
        }
        active += expected.len();
    }
    assert!(count <= 1 && active > 500, "{count} of {active} differ");
}

#[test]
fn weights_are_stored_as_asked_for_and_top_k_stays_what_it_is_where_a_layout_can_say_it() {
    let job = Job::new().with(|settings| {
        settings.weights = Stored::Bfloat16;
        settings.jumprelu = false;
        settings.layouts = vec![Layout::Saelens];
    });
    let finished = job.train().unwrap();
    for exported in &finished.exported {
        let sae = Sae::open(&exported.folders[0], Convention::Saelens).unwrap();
        assert_eq!((&sae.activation, exported.threshold), (&Activation::TopK(ACTIVE + 1), None));
        assert!(exported.explained_variance > 0.9, "{exported:?}");
        let numbers = sae.w_enc.to_f32();
        assert!(numbers.iter().all(|w| w.to_bits() & 0xffff == 0), "bfloat16 has no more digits");
    }
    assert_eq!(find_saes(&job.settings.output_dir.join("saelens")).unwrap().len(), 2);
}

#[test]
fn massive_rows_are_left_out_and_counted() {
    let mut all = rows(40_000, 1);
    for row in (0..40_000).step_by(50) {
        all[row * D..][..D].fill(500.0);
    }
    let job = Job::new().with(|settings| settings.layers = "3".parse().unwrap());
    crate::support::write_rows(job.settings.activations.as_ref().unwrap(), &[(3, all)]);
    let finished = job.train().unwrap();
    let exported = &finished.exported[0];
    assert!(exported.average_norm < 10.0 && exported.explained_variance > 0.9, "{exported:?}");
    let record = std::fs::read(job.settings.output_dir.join("training.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let [read, left_out] = ["tokens", "tokens_left_out_as_massive"].map(|key| record[key].as_u64().unwrap());
    assert_eq!(left_out, read.div_ceil(50));
}
