use super::*;

const THEMES: [Theme; 2] = [Theme::Light, Theme::Dark];
const STEPS: u32 = 1440;

fn hues() -> impl Iterator<Item = Hue> {
    (0..STEPS).flat_map(|step| (0..3).map(move |tier| Hue { turns: f64::from(step) / f64::from(STEPS), tier }))
}

#[test]
fn every_colour_of_every_hue_is_readable_on_its_background() {
    for theme in THEMES {
        let readable = |colour: Rgb| colour.contrast(theme.background()) >= theme.least_contrast();
        for hue in hues() {
            for rarity in [0.0, 0.25, 0.5, 0.75, 1.0] {
                let colour = feature(theme, Palette::Oklch, hue, rarity);
                assert!(readable(colour), "{theme:?} {hue:?} {rarity}: {colour}");
                assert!(readable(grey(theme, rarity)));
            }
        }
        assert!(pins(theme).into_iter().all(readable), "{theme:?}");
    }
}

#[test]
fn text_on_a_colour_can_be_read() {
    for theme in THEMES {
        for hue in hues() {
            let colour = feature(theme, Palette::Oklch, hue, 1.0);
            assert!(colour.contrast(colour.text()) >= 4.5, "{colour}");
        }
    }
}

#[test]
fn rarer_is_more_colourful_at_every_hue() {
    let spread = |colour: Rgb| i32::from(*colour.0.iter().max().unwrap()) - i32::from(*colour.0.iter().min().unwrap());
    for theme in THEMES {
        for palette in [Palette::Oklch, Palette::Hsv] {
            for hue in hues() {
                let spreads = [0.0, 0.5, 1.0].map(|rarity| spread(feature(theme, palette, hue, rarity)));
                assert!(spreads[0] < spreads[1] && spreads[1] < spreads[2], "{theme:?} {hue:?}: {spreads:?}");
            }
        }
    }
}

/// Distance of two hues in degrees.
fn degrees(a: Hue, b: Hue) -> f64 {
    let apart = (a.turns - b.turns).abs();
    360.0 * apart.min(1.0 - apart)
}

#[test]
fn the_first_slots_are_far_apart_in_hue() {
    for (slots, least) in [(3, 80.0), (8, 32.0), (12, 19.8), (20, 12.2), (50, 4.6)] {
        for a in 0..slots {
            for b in 0..a {
                let apart = degrees(Hue::of_slot(a), Hue::of_slot(b));
                assert!(apart >= least, "{a} and {b} of {slots}: {apart}");
            }
        }
    }
    // Neighbours differ in lightness as well.
    assert!((0..100).all(|slot| Hue::of_slot(slot).tier != Hue::of_slot(slot + 1).tier));
}

#[test]
fn the_hue_of_an_id_depends_on_layer_and_id_alone_and_fills_the_circle() {
    assert_eq!(Hue::of_id(5, 104), Hue::of_id(5, 104));
    assert_ne!(Hue::of_id(5, 104), Hue::of_id(6, 104));
    let mut sectors = [0u32; 36];
    let mut tiers = [0u32; 3];
    for id in 0..36_000 {
        let hue = Hue::of_id(3, id);
        sectors[(hue.turns * 36.0) as usize] += 1;
        tiers[usize::from(hue.tier)] += 1;
    }
    assert!(sectors.iter().all(|count| (850..1150).contains(count)), "{sectors:?}");
    assert!(tiers.iter().all(|count| (11_600..12_400).contains(count)), "{tiers:?}");
}

#[test]
fn the_hash_is_splitmix64() {
    // The first numbers of the generator with seed 1234567, as its author's test vectors give them.
    let gamma = 0x9e37_79b9_7f4a_7c15u64;
    let numbers = [0u64, 1, 2].map(|n| splitmix64(1_234_567u64.wrapping_add(gamma.wrapping_mul(n))));
    assert_eq!(numbers, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
}

#[test]
fn a_ramp_goes_one_way() {
    for theme in THEMES {
        for turns in [0.0, 0.1, 0.35, 0.7, 0.9] {
            let contrasts: Vec<f64> = (0..=20)
                .map(|step| ramp(theme, turns, f64::from(step) / 20.0).contrast(theme.background()))
                .collect();
            assert!(contrasts.windows(2).all(|pair| pair[0] < pair[1]), "{theme:?} {turns}: {contrasts:?}");
            assert!(contrasts[20] > 7.0);
        }
    }
}

/// Gustavo Machado and others, "A physiologically-based model for simulation of color vision deficiency" (2009), at
/// full severity, on linear sRGB: usual, protan, deutan, tritan.
const SIGHTS: [[[f64; 3]; 3]; 4] = [
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
];

fn oklab_as_seen(colour: Rgb, sight: &[[f64; 3]; 3]) -> [f64; 3] {
    let linear = colour.0.map(|byte| {
        let v = f64::from(byte) / 255.0;
        if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
    });
    let dot = |row: &[f64; 3], x: &[f64; 3]| row[0] * x[0] + row[1] * x[1] + row[2] * x[2];
    let seen = [0, 1, 2].map(|i| dot(&sight[i], &linear).max(0.0));
    let lms = [
        dot(&[0.4122214708, 0.5363325363, 0.0514459929], &seen).cbrt(),
        dot(&[0.2119034982, 0.6806995451, 0.1073969566], &seen).cbrt(),
        dot(&[0.0883024619, 0.2817188376, 0.6299787005], &seen).cbrt(),
    ];
    [
        dot(&[0.2104542553, 0.793617785, -0.0040720468], &lms),
        dot(&[1.9779984951, -2.428592205, 0.4505937099], &lms),
        dot(&[0.0259040371, 0.7827717662, -0.808675766], &lms),
    ]
}

#[test]
fn pins_are_told_apart_by_every_kind_of_sight() {
    for theme in THEMES {
        for (sight, least) in SIGHTS.iter().zip([0.19, 0.11, 0.11, 0.10]) {
            let seen = pins(theme).map(|pin| oklab_as_seen(pin, sight));
            for a in 0..PINS {
                for b in 0..a {
                    let apart = (0..3).map(|i| (seen[a][i] - seen[b][i]).powi(2)).sum::<f64>().sqrt();
                    assert!(apart >= least, "{theme:?}: {a} and {b} are {apart} apart");
                }
            }
        }
    }
}
