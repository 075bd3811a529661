//! The colour of a feature: hue says which one it is, saturation how rare it is, and lightness only helps to keep
//! neighbours apart.
//!
//! Colours are OKLCH, so that saturation means the same at every hue. A hue comes with one of three lightness tiers; a
//! tier's lightness depends on the theme, and all of them are readable on its background (a contrast of 3.2 or more on
//! white, 4.5 or more on `#121212`). The chroma is the rarity's share of what sRGB can show there, [`CHROMA_CAP`] at
//! most. `fixtures/golden/colours.json` holds examples that every implementation has to meet byte for byte.
//!
//! Hue alone can never carry the information: two features may look alike, and readers see differently. So every
//! picture prints ids as well.

pub mod exact;
mod space;

pub use space::{Rgb, hsv, max_chroma, oklch};

/// Chroma of the rarest features, where sRGB has as much.
pub const CHROMA_CAP: f64 = 0.14;
/// Share of the largest chroma that the most common features keep: their hue stays recognisable.
pub const CHROMA_FLOOR: f64 = 0.15;
/// What the golden ratio's multiples advance by: fractions of a turn that stay as far apart as they can.
pub const GOLDEN_TURN: f64 = 0.618_033_988_749_894_9;
/// Hue of slot 0, in turns: a blue.
pub const FIRST_TURN: f64 = 0.7;
/// Number of lightness tiers.
pub const TIERS: u64 = 3;
/// Hue of the ramp that stands for no feature, in turns: the blue of slot 0.
pub const NEUTRAL_TURN: f64 = FIRST_TURN;

/// On what is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    /// White paper.
    #[default]
    Light,
    /// `#121212`.
    Dark,
}

impl Theme {
    /// What the colours are made to be read on.
    pub const fn background(self) -> Rgb {
        match self {
            Theme::Light => Rgb::from_hex(0xffffff),
            Theme::Dark => Rgb::from_hex(0x121212),
        }
    }

    /// The least contrast of a feature's colour with the background.
    pub const fn least_contrast(self) -> f64 {
        match self {
            Theme::Light => 3.2,
            Theme::Dark => 4.5,
        }
    }

    /// OKLCH lightness of the tiers.
    const fn tiers(self) -> [f64; 3] {
        match self {
            Theme::Light => [0.53, 0.42, 0.63],
            Theme::Dark => [0.71, 0.82, 0.61],
        }
    }

    /// HSV value of the palette that looks like the first viewers of this kind.
    const fn hsv_value(self) -> f64 {
        match self {
            Theme::Light => 0.85,
            Theme::Dark => 0.95,
        }
    }

    /// Lightness and chroma of a ramp's two ends.
    const fn ramp(self) -> [[f64; 2]; 2] {
        match self {
            Theme::Light => [[0.97, 0.008], [0.40, 0.15]],
            Theme::Dark => [[0.23, 0.012], [0.88, 0.13]],
        }
    }
}

/// How a colour is made from hue and saturation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Palette {
    /// Even in lightness, readable on the theme's background.
    #[default]
    Oklch,
    /// HSV with a fixed value: the hues are the familiar ones, their lightness and contrast differ widely.
    Hsv,
}

/// A hue and its lightness tier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hue {
    /// From 0 to 1, both ends being the same hue.
    pub turns: f64,
    /// 0, 1 or 2.
    pub tier: u8,
}

impl Hue {
    /// The hue of a place in the order of a layer's features: those near one another are far apart in hue.
    pub fn of_slot(slot: u32) -> Hue {
        let turns = f64::from(slot) * GOLDEN_TURN + FIRST_TURN;
        Hue { turns: turns - turns.floor(), tier: (u64::from(slot) % TIERS) as u8 }
    }

    /// The hue of a feature whatever the run: the same everywhere, but two features may happen to look alike.
    pub fn of_id(layer: u32, id: u32) -> Hue {
        let hash = splitmix64(u64::from(layer) << 32 | u64::from(id));
        Hue { turns: (hash >> 32) as f64 / 4_294_967_296.0, tier: ((hash & 0xffff_ffff) % TIERS) as u8 }
    }
}

/// Sebastiano Vigna's SplitMix64, one step from the state `x`.
pub fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The colour of a feature with this hue and rarity (0 common, 1 rare).
pub fn feature(theme: Theme, palette: Palette, hue: Hue, rarity: f64) -> Rgb {
    let saturation = CHROMA_FLOOR + (1.0 - CHROMA_FLOOR) * rarity;
    match palette {
        Palette::Oklch => {
            let lightness = theme.tiers()[usize::from(hue.tier)];
            oklch(lightness, saturation * max_chroma(lightness, hue.turns, CHROMA_CAP), hue.turns)
        }
        Palette::Hsv => hsv(hue.turns, saturation, theme.hsv_value()),
    }
}

/// The grey of a feature that has no colour of its own, because others are pinned: rarer ones stand out more.
pub fn grey(theme: Theme, rarity: f64) -> Rgb {
    let [_, strong, weak] = theme.tiers();
    oklch(weak + (strong - weak) * rarity, 0.0, 0.0)
}

/// How many features can be pinned.
pub const PINS: usize = 8;

/// Colours for pinned features. Each eight were searched for the largest smallest distance between two of them, for
/// usual, protan, deutan and tritan sight, under the theme's contrast.
pub const fn pins(theme: Theme) -> [Rgb; PINS] {
    let hex: [u32; PINS] = match theme {
        Theme::Light => [0x005cbd, 0xe26a1e, 0x009b8b, 0x8f3d6d, 0xa376e9, 0x285600, 0x52001c, 0x04107a],
        Theme::Dark => [0x4a7ae4, 0xfe9b1b, 0x00c998, 0xc05d8b, 0xd59dff, 0xeff159, 0xb4ecff, 0x918100],
    };
    let mut colours = [Rgb([0; 3]); PINS];
    let mut i = 0;
    while i < PINS {
        colours[i] = Rgb::from_hex(hex[i]);
        i += 1;
    }
    colours
}

/// A ramp of one hue for amounts from 0 to 1: from almost the background to dark on light, to light on dark.
pub fn ramp(theme: Theme, turns: f64, amount: f64) -> Rgb {
    let [[l0, c0], [l1, c1]] = theme.ramp();
    let lightness = l0 + (l1 - l0) * amount;
    oklch(lightness, max_chroma(lightness, turns, c0 + (c1 - c0) * amount), turns)
}

#[cfg(test)]
mod tests;
