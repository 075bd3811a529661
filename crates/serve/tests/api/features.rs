//! Features against what the rows files say of them.

use std::collections::BTreeMap;
use std::fs;

use llamascope_record::labels::{Target, import};
use llamascope_record::run::Run;
use llamascope_report::Score;
use serde_json::{Value, json};

use crate::support::{Client, RUN, copy_of_run, numbers, outputs};

/// Sentence, position and value of each token with a feature.
type Places = BTreeMap<u32, Vec<(usize, u32, f32)>>;

/// Sentence, position, value of every activation of every feature at a layer; the score; the number of rows.
fn oracle(layer: usize) -> (Places, Score) {
    let run = Run::open(&outputs().join(RUN)).unwrap();
    let (mut places, mut score) = (BTreeMap::<u32, Vec<_>>::new(), Score::default());
    for sentence in run.sentences_in(layer) {
        for row in run.rows(layer, sentence).unwrap() {
            score.add(&row.feat_ids, &row.feat_vals);
            for (id, val) in row.feat_ids.iter().zip(&row.feat_vals) {
                places.entry(*id).or_default().push((sentence, row.token_pos, *val));
            }
        }
    }
    (places, score)
}

/// The feature that is active most often.
fn busiest(places: &BTreeMap<u32, Vec<(usize, u32, f32)>>) -> u32 {
    *places.iter().max_by_key(|(id, places)| (places.len(), u32::MAX - **id)).unwrap().0
}

#[test]
fn the_table_holds_every_feature_with_its_score() {
    let client = Client::new();
    let (places, score) = oracle(0);
    let (mut seen, mut cursor) = (Vec::<Value>::new(), String::new());
    loop {
        let page = client.ok(&format!("/features?layer=0&limit=100{cursor}"));
        assert_eq!(
            (page["tokens"].as_u64(), page["total"].as_u64()),
            (Some(score.tokens()), Some(places.len() as u64))
        );
        seen.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), places.len());
    let mut last = f64::MAX;
    for (slot, feature) in seen.iter().enumerate() {
        let id = feature["id"].as_u64().unwrap() as u32;
        let earned = score.points(id);
        assert_eq!((feature["points"].as_u64(), feature["count"].as_u64()), (Some(earned.points), Some(earned.tokens)));
        assert_eq!(feature["max"].as_f64().unwrap() as f32, earned.max);
        assert_eq!(feature["score"].as_f64().unwrap(), score.of(id));
        // By score, equal ones by id: the order of the colour slots.
        assert_eq!(feature["slot"], slot);
        assert!(score.of(id) <= last);
        last = score.of(id);
        let mut sentences: Vec<usize> = places[&id].iter().map(|place| place.0).collect();
        sentences.dedup();
        assert_eq!(feature["sentences"], sentences.len());
        let mean = places[&id].iter().map(|place| f64::from(place.2)).sum::<f64>() / places[&id].len() as f64;
        assert!((feature["mean"].as_f64().unwrap() - mean).abs() <= 1e-6 * mean);
    }
}

#[test]
fn the_table_is_filtered_and_sorted() {
    let client = Client::new();
    let table =
        |query: &str| client.ok(&format!("/features?layer=0&limit=1000&{query}"))["items"].as_array().unwrap().clone();
    let some = table("filter=count%3E%3D2%20max%3C100");
    assert!(!some.is_empty() && some.iter().all(|feature| feature["count"].as_u64().unwrap() >= 2));
    assert!(table("filter=count%3C1").is_empty());
    assert!(table("filter=label~paris").is_empty(), "no labels were imported");
    for (sort, falls) in
        [("max", true), ("density", true), ("id", false), ("slot", false), ("mean", true), ("count", true)]
    {
        let values: Vec<f64> =
            table(&format!("sort={sort}")).iter().map(|feature| feature[sort].as_f64().unwrap()).collect();
        assert!(values.is_sorted_by(|a, b| if falls { a >= b } else { a <= b }), "{sort}");
    }
    let rising: Vec<f64> = table("sort=max&order=asc").iter().map(|feature| feature["max"].as_f64().unwrap()).collect();
    assert!(rising.is_sorted());
}

#[test]
fn the_head_of_a_feature_page_names_its_peak() {
    let client = Client::new();
    let (places, score) = oracle(0);
    let id = busiest(&places);
    let feature = client.ok(&format!("/features/0/{id}"));
    let peak = places[&id].iter().max_by(|a, b| a.2.total_cmp(&b.2).then((b.0, b.1).cmp(&(a.0, a.1)))).unwrap();
    assert_eq!(
        (feature["peak"]["sentence"].as_u64(), feature["peak"]["pos"].as_u64()),
        (Some(peak.0 as u64), Some(u64::from(peak.1)))
    );
    assert_eq!((&feature["tokens"], &feature["weights"]["state"]), (&json!(score.tokens()), &json!("available")));
    assert_eq!((&feature["neuronpedia"], &feature["hook"]), (&json!(null), &json!("blocks.0.hook_resid_post")));
    // A feature of the dictionary that the run has never seen.
    let d_sae = feature["d_sae"].as_u64().unwrap() as u32;
    let unseen = (0..d_sae).find(|id| !places.contains_key(id)).unwrap();
    let unseen = client.ok(&format!("/features/0/{unseen}"));
    assert_eq!((&unseen["slot"], &unseen["count"], &unseen["peak"]), (&json!(null), &json!(0), &json!(null)));
    let id = unseen["id"].as_u64().unwrap();
    assert_eq!(client.ok(&format!("/features/0/{id}/activations"))["total"], 0);
    assert_eq!(client.ok(&format!("/features/0/{id}/activations?mode=quantile"))["intervals"], json!([]));
    assert_eq!(client.ok(&format!("/features/0/{id}/histogram"))["bins"], json!([]));
    assert_eq!(client.ok(&format!("/features/0/{id}/tokens"))["items"], json!([]));
    assert_eq!(client.ok(&format!("/features/0/{id}/neighbors"))["items"], json!([]));
}

#[test]
fn activations_come_strongest_first_with_their_context() {
    let client = Client::new();
    let (places, _) = oracle(0);
    let id = busiest(&places);
    let (mut seen, mut cursor, mut last) = (0, String::new(), f64::MAX);
    loop {
        let page = client.ok(&format!("/features/0/{id}/activations?limit=3&context=2{cursor}"));
        assert_eq!(page["total"].as_u64().unwrap() as usize, places[&id].len());
        for item in page["items"].as_array().unwrap() {
            let value = item["value"].as_f64().unwrap();
            let place =
                (item["sentence"].as_u64().unwrap() as usize, item["pos"].as_u64().unwrap() as u32, value as f32);
            assert!(places[&id].contains(&place) && value <= last, "{place:?}");
            last = value;
            seen += 1 + item["same"].as_u64().unwrap() as usize;
            let tokens = item["tokens"].as_array().unwrap();
            let target: Vec<&Value> = tokens.iter().filter(|token| token["target"] == true).collect();
            assert_eq!(target.len(), 1);
            assert!(target[0]["value"].as_f64().unwrap() >= value);
            for token in tokens {
                let here =
                    places[&id].iter().find(|p| p.0 == place.0 && u64::from(p.1) == token["pos"].as_u64().unwrap());
                assert!(here.is_none_or(|here| token["value"].as_f64().unwrap() as f32 >= here.2));
            }
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, places[&id].len(), "every activation is shown once or counted as the same");
}

#[test]
fn a_draw_is_fixed_and_intervals_cover_all_values() {
    let client = Client::new();
    let (places, _) = oracle(0);
    let id = busiest(&places);
    let draw = client.ok(&format!("/features/0/{id}/activations?mode=random&limit=5"));
    assert_eq!(Client::new().ok(&format!("/features/0/{id}/activations?mode=random&limit=5")), draw);
    let quantile = client.ok(&format!("/features/0/{id}/activations?mode=quantile&limit=10"));
    let intervals = quantile["intervals"].as_array().unwrap();
    assert_eq!(
        intervals.iter().map(|interval| interval["count"].as_u64().unwrap()).sum::<u64>() as usize,
        places[&id].len()
    );
    for item in quantile["items"].as_array().unwrap() {
        let interval = &intervals[item["interval"].as_u64().unwrap() as usize];
        let (low, value, high) = (interval["low"].as_f64(), item["value"].as_f64(), interval["high"].as_f64());
        assert!(
            low.unwrap() - 1e-6 <= value.unwrap() && value.unwrap() <= high.unwrap() + 1e-6,
            "{item} in {interval}"
        );
    }
}

#[test]
fn histogram_tokens_and_scores_add_up() {
    let client = Client::new();
    let (places, score) = oracle(0);
    let id = busiest(&places);
    let histogram = client.ok(&format!("/features/0/{id}/histogram"));
    let bins = histogram["bins"].as_array().unwrap();
    assert_eq!(bins.iter().map(|bin| bin["count"].as_u64().unwrap()).sum::<u64>() as usize, places[&id].len());
    assert_eq!(histogram["zeros"].as_u64().unwrap() as usize + places[&id].len(), score.tokens() as usize);
    for bin in bins {
        let (low, high) = (bin["low"].as_f64().unwrap() as f32, bin["high"].as_f64().unwrap() as f32);
        let inside = places[&id].iter().filter(|place| low <= place.2 && place.2 <= high).count() as u64;
        assert!(inside >= bin["count"].as_u64().unwrap(), "{bin}");
    }
    let tokens = client.ok(&format!("/features/0/{id}/tokens"));
    let items = tokens["items"].as_array().unwrap();
    assert_eq!(items.iter().map(|item| item["count"].as_u64().unwrap()).sum::<u64>() as usize, places[&id].len());

    let scores = client.ok("/scores?layer=0&limit=10000");
    assert_eq!(numbers(&scores["ids"]), places.keys().map(|id| u64::from(*id)).collect::<Vec<_>>());
    let points = numbers(&scores["points"]);
    assert!(points.iter().copied().eq(places.keys().map(|id| score.points(*id).points)));
    let one = client.ok("/scores?layer=0&scope=sentence:2&limit=10000");
    let run = Run::open(&outputs().join(RUN)).unwrap();
    let rows = run.rows(0, 2).unwrap();
    let ranks: u64 = rows.iter().map(|row| (1..=u64::from(row.nnz).min(100)).map(|rank| 101 - rank).sum::<u64>()).sum();
    assert_eq!(
        (one["tokens"].as_u64().unwrap() as usize, numbers(&one["points"]).iter().sum::<u64>()),
        (rows.len(), ranks)
    );
}

#[test]
fn neighbours_are_counted_and_measured() {
    let client = Client::new();
    let (places, score) = oracle(0);
    let id = busiest(&places);
    let here: Vec<(usize, u32)> = places[&id].iter().map(|place| (place.0, place.1)).collect();
    let found = client.ok(&format!("/features/0/{id}/neighbors?k=5"));
    assert_eq!(found["sampled"].as_u64().unwrap() as usize, here.len(), "a small run is counted in full");
    for item in found["items"].as_array().unwrap() {
        let other = item["feature"]["id"].as_u64().unwrap() as u32;
        let theirs: Vec<(usize, u32)> = places[&other].iter().map(|place| (place.0, place.1)).collect();
        let both = here.iter().filter(|place| theirs.contains(place)).count();
        assert_eq!(item["together"], both);
        let jaccard = both as f64 / (here.len() + theirs.len() - both) as f64;
        assert!((item["jaccard"].as_f64().unwrap() - jaccard).abs() < 1e-12);
        let lift = both as f64 / here.len() as f64 / (theirs.len() as f64 / score.tokens() as f64);
        assert!((item["lift"].as_f64().unwrap() - lift).abs() < 1e-9 * lift);
    }
    let near = client.ok(&format!("/features/0/{id}/neighbors?by=decoder&k=5"));
    let cosines: Vec<f64> =
        near["items"].as_array().unwrap().iter().map(|item| item["cosine"].as_f64().unwrap()).collect();
    assert!(cosines.len() == 5 && cosines.is_sorted_by(|a, b| a >= b) && cosines[0] <= 1.0);
    let logits = client.ok(&format!("/features/0/{id}/logits?k=4"));
    let list = |key: &str| {
        logits[key].as_array().unwrap().iter().map(|token| token["logit"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    assert!(list("promoted").is_sorted_by(|a, b| a >= b) && list("suppressed").is_sorted());
    assert!(list("promoted")[0] >= logits["mean"].as_f64().unwrap() && logits["std"].as_f64().unwrap() > 0.0);
}

#[test]
fn labels_that_are_imported_while_the_server_runs_are_shown() {
    let (folder, run) = copy_of_run();
    let client = Client::of(&run);
    let before = client.ask("/features/0/5");
    assert_eq!(before.json()["label"], Value::Null);
    let export = folder.path().join("batch-0.jsonl");
    let line = json!({"modelId": "m", "layer": "0-x", "index": "5", "description": "names of capitals"});
    fs::write(&export, format!("{line}\n")).unwrap();
    import(&[export], Target::Layer { run: &run, layer: 0 }).unwrap();
    let after = client.ask("/features/0/5");
    assert_eq!(after.json()["label"], "names of capitals");
    assert_ne!(after.header("etag"), before.header("etag"), "whoever kept the old answer has to ask again");
}
