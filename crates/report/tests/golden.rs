//! `fixtures/golden/colours.json`: what every implementation of scores, rarities and colours has to find, to the last
//! bit. The web page's tests read the same file. After a change that is meant, `BLESS=1 cargo test -p llamascope-report
//! --test golden` writes it anew.

use std::path::Path;

use llamascope_report::colour::{self, Hue, Palette, Rgb, Theme};
use llamascope_report::rarity::{Rarities, RarityScale};
use llamascope_report::score::Score;
use serde_json::{Value, json};

const SLOTS: [u32; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 20, 21, 49, 500, 32_767, 1_000_000];
const FEATURES: [(u32, u32); 9] =
    [(0, 0), (0, 1), (5, 104), (6, 104), (12, 982), (12, 13_001), (31, 32_767), (79, 131_071), (0, u32::MAX)];
const RARITIES: [f64; 5] = [0.0, 0.1, 0.41, 0.75, 1.0];

fn themes() -> [(&'static str, Theme); 2] {
    [("light", Theme::Light), ("dark", Theme::Dark)]
}

fn palettes() -> [(&'static str, Palette); 2] {
    [("oklch", Palette::Oklch), ("hsv", Palette::Hsv)]
}

fn hue(hue: Hue) -> Value {
    json!({"turns": hue.turns, "tier": hue.tier})
}

fn colours() -> Vec<Value> {
    let mut all = Vec::new();
    for (theme_name, theme) in themes() {
        for (palette_name, palette) in palettes() {
            for rarity in RARITIES {
                let mut entry = |name: &str, address: Value, hue: Hue| {
                    let rgb = colour::feature(theme, palette, hue, rarity);
                    all.push(json!({
                        "theme": theme_name, "palette": palette_name, "hue": name, "of": address, "rarity": rarity,
                        "hex": rgb.to_string(), "text": rgb.text().to_string(),
                    }));
                };
                SLOTS.iter().for_each(|&slot| entry("slot", json!({"slot": slot}), Hue::of_slot(slot)));
                for (layer, id) in FEATURES {
                    entry("id", json!({"layer": layer, "id": id}), Hue::of_id(layer, id));
                }
            }
        }
    }
    all
}

fn ramps() -> Vec<Value> {
    let mut all = Vec::new();
    for (name, theme) in themes() {
        for turns in [colour::NEUTRAL_TURN, 0.0, 0.08, 0.31] {
            for amount in [0.0, 0.125, 0.5, 0.8, 1.0] {
                let rgb = colour::ramp(theme, turns, amount);
                all.push(json!({"theme": name, "turns": turns, "amount": amount, "hex": rgb.to_string()}));
            }
        }
    }
    all
}

/// Tokens as `(id, value)`: ties, ranks below the hundredth, a token without features, values that are none.
fn tokens() -> Vec<Vec<(u32, f64)>> {
    vec![
        vec![(7, 3.5), (104, 3.5), (2, 9.25), (13_001, 0.5)],
        vec![(104, 1.0)],
        vec![],
        (0..120).map(|id| (id * 3 % 121, f64::from(1 + id % 17))).collect(),
        vec![(2, 4.0), (9, -1.0), (11, 0.0), (7, 2.0)],
    ]
}

fn scores() -> Value {
    let mut score = Score::default();
    for token in tokens() {
        let (ids, vals): (Vec<u32>, Vec<f32>) = token.iter().map(|&(id, value)| (id, value as f32)).unzip();
        score.add(&ids, &vals);
    }
    let scales = [("log", RarityScale::Log), ("linear", RarityScale::Linear), ("percentile", RarityScale::Percentile)];
    let scales = scales.map(|(name, scale)| (name, Rarities::new(scale, &score)));
    let features: Vec<Value> = score
        .most_common(usize::MAX)
        .into_iter()
        .map(|(id, feature)| {
            let [log, linear, percentile] = scales.each_ref().map(|(_, rarities)| rarities.of(feature.points));
            json!({
                "id": id, "tokens": feature.tokens, "points": feature.points, "max": feature.max,
                "score": score.of(id), "log": log, "linear": linear, "percentile": percentile,
            })
        })
        .collect();
    json!({"tokens": tokens(), "n_tokens": score.tokens(), "features_by_slot": features})
}

fn log_rarities() -> Vec<Value> {
    let mut all = Vec::new();
    for tokens in [1u64, 2, 15, 300, 5000, 2_000_000] {
        for points in [0u64, 1, 51, 100, 5_000, 100_000, 10_000_000] {
            if points <= 100 * tokens {
                let rarity = llamascope_report::rarity::log(points as f64 / tokens as f64, tokens);
                all.push(json!({"points": points, "tokens": tokens, "rarity": rarity}));
            }
        }
    }
    all
}

fn golden() -> Value {
    let greys = themes().map(|(name, theme)| {
        let of = |rarity| json!({"rarity": rarity, "hex": colour::grey(theme, rarity).to_string()});
        json!({"theme": name, "greys": RARITIES.map(of)})
    });
    let pins = themes().map(|(name, theme)| json!({"theme": name, "pins": colour::pins(theme).map(|p| p.to_string())}));
    let contrasts = [(0x000000, 0xffffff), (0x005cbd, 0xffffff), (0x4a7ae4, 0x121212), (0x777777, 0x777777)];
    let contrasts = contrasts.map(|(a, b)| {
        let (a, b) = (Rgb::from_hex(a), Rgb::from_hex(b));
        json!({"a": a.to_string(), "b": b.to_string(), "ratio": a.contrast(b)})
    });
    json!({
        "about": "Written by crates/report/tests/golden.rs. Numbers are f64 and compare equal, colours byte for byte. \
            The arithmetic is in crates/report/src/colour: only + - * / and sqrt, in a fixed order.",
        "hues_of_slots": SLOTS.map(|slot| json!({"slot": slot, "hue": hue(Hue::of_slot(slot))})),
        "hues_of_ids": FEATURES.map(|(layer, id)| json!({
            "layer": layer, "id": id, "hue": hue(Hue::of_id(layer, id)),
            "splitmix64": colour::splitmix64(u64::from(layer) << 32 | u64::from(id)).to_string(),
        })),
        "log_rarities": log_rarities(),
        "scores": scores(),
        "greys": greys,
        "pins": pins,
        "contrasts": contrasts,
        "ramps": ramps(),
        "colours": colours(),
    })
}

/// One entry a line, so that a change shows what changed.
fn written(golden: &Value) -> String {
    let mut text = String::from("{\n");
    let entries = golden.as_object().expect("an object");
    for (index, (key, value)) in entries.iter().enumerate() {
        let end = if index + 1 == entries.len() { "\n" } else { ",\n" };
        match value {
            Value::Array(items) => {
                let lines: Vec<_> = items.iter().map(|item| format!("    {item}")).collect();
                text += &format!("  {key:?}: [\n{}\n  ]{end}", lines.join(",\n"));
            }
            other => text += &format!("  {key:?}: {other}{end}"),
        }
    }
    text + "}\n"
}

#[test]
fn scores_rarities_and_colours_are_the_golden_ones() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/colours.json");
    let found = written(&golden());
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    for (line, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "line {}", line + 1);
    }
    assert_eq!(found.len(), expected.len());
}
