//! Sentences, rows and comparisons against the run's own files.

use std::collections::BTreeMap;

use llamascope_record::run::Run;
use serde_json::{Value, json};

use crate::support::{Client, RUN, SENTENCES, numbers, outputs};

fn run() -> Run {
    Run::open(&outputs().join(RUN)).unwrap()
}

#[test]
fn a_sentence_is_sent_as_it_is_stored() {
    let client = Client::new();
    for record in run().sentence_records().unwrap() {
        let sentence = client.ok(&format!("/sentences/{}", record.index));
        assert_eq!(sentence["text"], SENTENCES[record.index]);
        let tokens = sentence["tokens"].as_array().unwrap();
        assert_eq!(tokens.len(), record.tokens.len());
        for (pos, token) in tokens.iter().enumerate() {
            assert_eq!(token["text"], record.tokens.strs[pos]);
            assert_eq!(token["id"], record.tokens.ids[pos]);
            assert_eq!(token["row"].is_null(), record.tokens.bos[pos]);
        }
        // Groups cover all tokens in order, and together they are the text.
        let groups = sentence["groups"].as_array().unwrap();
        let mut next = 0;
        for group in groups {
            assert_eq!(group["first"], next);
            next += group["len"].as_u64().unwrap();
        }
        assert_eq!(next as usize, tokens.len());
        let shown = groups.iter().filter(|group| tokens[group["first"].as_u64().unwrap() as usize]["bos"] == false);
        let text: String = shown.map(|group| group["text"].as_str().unwrap()).collect();
        assert_eq!(text.trim_start(), SENTENCES[record.index]);
    }
}

#[test]
fn rows_are_those_of_the_files_strongest_first() {
    let (client, run) = (Client::new(), run());
    for sentence in 0..SENTENCES.len() {
        let answer = client.ok(&format!("/sentences/{sentence}/activations?top_k=1000"));
        let layers = answer["layers"].as_array().unwrap();
        assert_eq!(layers.len(), run.layers().len());
        for layer in layers {
            let number = layer["layer"].as_u64().unwrap() as usize;
            let rows = run.rows(number, sentence).unwrap();
            assert_eq!(
                numbers(&answer["positions"]),
                rows.iter().map(|row| u64::from(row.token_pos)).collect::<Vec<_>>()
            );
            let (ptr, ids) = (numbers(&layer["ptr"]), numbers(&layer["ids"]));
            for (at, row) in rows.iter().enumerate() {
                let range = ptr[at] as usize..ptr[at + 1] as usize;
                assert_eq!(ids[range.clone()], row.feat_ids.iter().map(|id| u64::from(*id)).collect::<Vec<_>>()[..]);
                let vals: Vec<f32> =
                    layer["vals"].as_array().unwrap()[range].iter().map(|val| val.as_f64().unwrap() as f32).collect();
                assert_eq!(vals, row.feat_vals);
                assert_eq!(layer["nnz"][at], row.nnz);
            }
            let mut known = ids.clone();
            known.sort_unstable();
            known.dedup();
            assert_eq!(numbers(&layer["features"]["ids"]), known);
        }
    }
}

#[test]
fn a_cut_keeps_the_strongest_and_leaves_the_points() {
    let client = Client::new();
    let whole = client.ok("/sentences/0/activations?layers=0&scope=sentence")["layers"][0].clone();
    let cut = client.ok("/sentences/0/activations?layers=0&scope=sentence&top_k=2")["layers"][0].clone();
    let ptr = numbers(&cut["ptr"]);
    assert!(ptr.windows(2).all(|pair| pair[1] - pair[0] <= 2) && cut["nnz"] == whole["nnz"]);
    let points = |layer: &Value| -> BTreeMap<u64, u64> {
        numbers(&layer["features"]["ids"]).into_iter().zip(numbers(&layer["features"]["points"])).collect()
    };
    let all = points(&whole);
    assert!(points(&cut).iter().all(|(id, sum)| all[id] == *sum));
    // The checksum of the score: all points are those of all ranks.
    let ranks: u64 =
        numbers(&whole["nnz"]).iter().map(|n| (1..=(*n).min(100)).map(|rank| 101 - rank).sum::<u64>()).sum();
    assert_eq!(all.values().sum::<u64>(), ranks);
    let least = client.ok("/sentences/0/activations?layers=0&min=0.5")["layers"][0]["vals"].clone();
    assert!(least.as_array().unwrap().iter().all(|val| val.as_f64().unwrap() >= 0.5));
}

#[test]
fn sentences_are_found_by_text_and_by_feature() {
    let client = Client::new();
    let found = |query: &str| {
        let list = client.ok(&format!("/sentences?{query}"));
        let items = list["items"].as_array().unwrap();
        assert_eq!(list["total"].as_u64().unwrap() as usize, items.len());
        items.iter().map(|item| item["index"].as_u64().unwrap() as usize).collect::<Vec<_>>()
    };
    assert_eq!(found("q=CAPITAL%20of%20france"), [0, 5]);
    assert_eq!(found("q=%E6%9D%B1%E4%BA%AC"), [2]);
    assert_eq!(found("q=%5E%5Cd%20.%20%5Cd&regex=true"), [6]);
    assert_eq!(found("q=nothing+like+this"), Vec::<usize>::new());
    assert_eq!(
        found("sort=length")[0],
        (0..8).max_by_key(|s| client.ok(&format!("/sentences/{s}"))["tokens"].as_array().unwrap().len()).unwrap()
    );

    let run = run();
    let feature = client.ok("/features?layer=0&sort=sentences&order=asc&limit=1")["items"][0].clone();
    let id = feature["id"].as_u64().unwrap() as u32;
    let mut expected: Vec<(usize, f32)> = Vec::new();
    for sentence in run.sentences_in(0) {
        let rows = run.rows(0, sentence).unwrap();
        let vals =
            rows.iter().flat_map(|row| row.feat_ids.iter().zip(&row.feat_vals)).filter(|(other, _)| **other == id);
        expected.extend(vals.map(|(_, val)| *val).reduce(f32::max).map(|max| (sentence, max)));
    }
    assert_eq!(found(&format!("feature=0:{id}")), expected.iter().map(|peak| peak.0).collect::<Vec<_>>());
    expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    assert_eq!(found(&format!("feature=0:{id}&sort=max")), expected.iter().map(|peak| peak.0).collect::<Vec<_>>());
    assert_eq!(found(&format!("feature=0:{id}&min={}&sort=max", expected[0].1)), [expected[0].0]);
    assert_eq!(found(&format!("feature=0:{id}&q=nothing+like+this")), Vec::<usize>::new());
}

#[test]
fn pages_of_sentences_make_up_the_list() {
    let client = Client::new();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.ok(&format!("/sentences?limit=3{cursor}"));
        assert_eq!(page["total"], 8);
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["index"].as_u64().unwrap()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert!(seen.into_iter().eq(0..8));
    let jumped = client.ok("/sentences?limit=3&offset=6");
    assert_eq!(
        jumped["items"].as_array().unwrap().iter().map(|item| item["index"].as_u64().unwrap()).collect::<Vec<_>>(),
        [6, 7]
    );
}

#[test]
fn the_heatmap_measures_the_rows() {
    let (client, run) = (Client::new(), run());
    let rows = run.rows(0, 0).unwrap();
    let cells = |metric: &str| {
        let map = client.ok(&format!("/sentences/0/heatmap?layers=0&metric={metric}"));
        assert_eq!(map["positions"].as_array().unwrap().len(), rows.len());
        map["values"][0].as_array().unwrap().iter().map(|cell| cell.as_f64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(cells("nnz"), rows.iter().map(|row| f64::from(row.nnz)).collect::<Vec<_>>());
    assert_eq!(
        cells("max"),
        rows.iter().map(|row| row.feat_vals.first().map_or(0.0, |val| f64::from(*val))).collect::<Vec<_>>()
    );
    let sums = rows.iter().map(|row| row.feat_vals.iter().map(|val| f64::from(*val)).sum::<f64>());
    assert_eq!(cells("sum"), sums.collect::<Vec<_>>());
    let novelty = cells("novelty");
    assert_eq!(novelty[0], 1.0);
    for at in 1..rows.len() {
        let new = rows[at].feat_ids.iter().filter(|id| !rows[at - 1].feat_ids.contains(id)).count();
        assert_eq!(novelty[at], new as f64 / f64::from(rows[at].nnz).max(1.0));
    }
    let id = rows[0].feat_ids[0];
    assert_eq!(cells(&format!("feature&feature=0:{id}"))[0], f64::from(rows[0].feat_vals[0]));
}

#[test]
fn equal_sentences_compare_as_equal_and_others_as_what_they_are() {
    let client = Client::new();
    let same = client.ok("/compare?a=s:0,L:0&b=s:5,L:0");
    assert_eq!(
        (&same["same_dictionary"], &same["jaccard"], &same["only_a"], &same["only_b"]),
        (&json!(true), &json!(1.0), &json!(0), &json!(0))
    );
    assert!((same["cosine"].as_f64().unwrap() - 1.0).abs() < 1e-6);
    assert!(same["pairs"].as_array().unwrap().iter().all(|pair| pair["a"] == pair["b"] && pair["jaccard"] == 1.0));
    assert!(same["features"].as_array().unwrap().iter().all(|feature| feature["delta"] == 0.0));

    let other = client.ok("/compare?a=s:0,L:0&b=s:4,L:0");
    assert_eq!(other["a"]["run"], RUN);
    let pairs = other["pairs"].as_array().unwrap();
    for pair in pairs.iter().filter(|pair| pair["a"].is_u64() && pair["b"].is_u64()) {
        let text = |side: &str| &other[side]["texts"][pair[side].as_u64().unwrap() as usize];
        assert_eq!(text("a"), text("b"));
    }
    assert!(pairs.iter().any(|pair| pair["a"].is_null()) && pairs.iter().any(|pair| pair["b"].is_null()));
    let features = other["features"].as_array().unwrap().len() as u64;
    let count = |key: &str| other[key].as_u64().unwrap();
    assert_eq!(count("both") + count("only_a") + count("only_b"), features);

    let layers = client.ok("/compare?a=s:0,L:0&b=s:0,L:1");
    assert_eq!(
        (&layers["same_dictionary"], &layers["jaccard"], &layers["pairs"][0]["cosine"]),
        (&json!(false), &json!(null), &json!(null))
    );
    assert!(layers["features"].as_array().unwrap().is_empty(), "ids of two layers are never compared");
    for found in layers["matches"].as_array().unwrap() {
        assert!(found["cosine"].as_f64().unwrap() >= 0.5);
    }
    let two_runs = client.ok(&format!("/compare?a=s:0,L:0&b=s:5,L:0,r:{RUN}"));
    assert_eq!(two_runs["jaccard"], 1.0);
}
