//! The colours of one layer's features in one picture, and of everything around them.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::colour::{self, Hue, PINS, Palette, Rgb, Theme};
use crate::rarity::{Rarities, RarityScale};
use crate::score::{FeaturePoints, Score};

/// Where the hue of a feature comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HueMode {
    /// Its place in the order of the layer's features by points: those that matter most are told apart best.
    #[default]
    Slot,
    /// Its id alone: the same in every run.
    Id,
    /// Pinned features alone have a colour.
    Pins,
}

/// A word that is no choice.
#[derive(Debug, thiserror::Error)]
#[error("`{found}` is not one of {expected}")]
pub struct UnknownWord {
    found: String,
    expected: &'static str,
}

macro_rules! words {
    ($type:ty, $($word:literal => $value:expr),+) => {
        impl FromStr for $type {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                match word {
                    $($word => Ok($value),)+
                    _ => Err(UnknownWord { found: word.to_owned(), expected: concat!($($word, " "),+).trim_ascii_end() }),
                }
            }
        }
    };
}

words!(HueMode, "slot" => HueMode::Slot, "id" => HueMode::Id, "pins" => HueMode::Pins);
words!(Theme, "light" => Theme::Light, "dark" => Theme::Dark);
words!(Palette, "oklch" => Palette::Oklch, "hsv" => Palette::Hsv);

/// How features are coloured.
#[derive(Clone, Debug, Default)]
pub struct Style {
    /// How hue and saturation become a colour.
    pub palette: Palette,
    /// Where the hue comes from.
    pub hue: HueMode,
    /// How the score becomes saturation.
    pub rarity: RarityScale,
    /// Features with colours of their own, of which the first eight count; the others are grey when `hue` is `Pins`.
    pub pins: Vec<u32>,
}

/// The features of one layer: their scores and colours.
#[derive(Clone, Debug)]
pub struct Paints {
    style: Style,
    layer: u32,
    slots: BTreeMap<u32, u32>,
    score: Score,
    rarities: Rarities,
}

impl Paints {
    /// Hues by the order of features in the whole run, so that they are the same in every picture of it; rarity by the
    /// score within the scope.
    pub fn new(style: Style, layer: usize, run: &Score, scope: Score) -> Paints {
        let order = run.most_common(usize::MAX);
        let slots = order.iter().zip(0..).map(|((id, _), slot)| (*id, slot)).collect();
        let rarities = Rarities::new(style.rarity, &scope);
        Paints { style, layer: layer as u32, slots, score: scope, rarities }
    }

    /// The layer.
    pub fn layer(&self) -> usize {
        self.layer as usize
    }

    /// How features are coloured.
    pub fn style(&self) -> &Style {
        &self.style
    }

    /// The score of the scope.
    pub fn score(&self) -> &Score {
        &self.score
    }

    /// What a feature has earned in the scope.
    pub fn points(&self, id: u32) -> FeaturePoints {
        self.score.points(id)
    }

    /// The rarity of a feature in the scope.
    pub fn rarity(&self, id: u32) -> f64 {
        self.rarities.of(self.score.points(id).points)
    }

    /// The rarity of a score.
    pub fn rarity_of_score(&self, score: f64) -> f64 {
        self.rarities.of((score * self.score.tokens() as f64).round() as u64)
    }

    /// The hue of a feature. One that the run never saw has no place in its order and takes the hue of its id.
    pub fn hue(&self, id: u32) -> Hue {
        match self.slots.get(&id) {
            Some(&slot) if self.style.hue != HueMode::Id => Hue::of_slot(slot),
            _ => Hue::of_id(self.layer, id),
        }
    }

    /// The colour of a feature.
    pub fn of(&self, id: u32, theme: Theme) -> Rgb {
        if let Some(pin) = self.style.pins.iter().take(PINS).position(|&pin| pin == id) {
            return colour::pins(theme)[pin];
        }
        match self.style.hue {
            HueMode::Pins => colour::grey(theme, self.rarity(id)),
            _ => colour::feature(theme, self.style.palette, self.hue(id), self.rarity(id)),
        }
    }

    /// The colour of a feature on both themes.
    pub fn paint(&self, id: u32) -> Paint {
        Paint { light: self.of(id, Theme::Light), dark: self.of(id, Theme::Dark) }
    }
}

/// A colour on either theme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Paint {
    /// On white.
    pub light: Rgb,
    /// On `#121212`.
    pub dark: Rgb,
}

impl Paint {
    /// What is read first.
    pub const TEXT: Paint = Paint::new(0x1b1c1f, 0xececee);
    /// What is read second.
    pub const MUTED: Paint = Paint::new(0x5f6369, 0xa3a7ad);
    /// Lines, and the track of a bar.
    pub const GRID: Paint = Paint::new(0xe2e4e8, 0x303236);
    /// The ground of a cell without anything in it.
    pub const EMPTY: Paint = Paint::new(0xf4f5f7, 0x1b1c1e);
    /// The background.
    pub const GROUND: Paint = Paint { light: Theme::Light.background(), dark: Theme::Dark.background() };

    const fn new(light: u32, dark: u32) -> Paint {
        Paint { light: Rgb::from_hex(light), dark: Rgb::from_hex(dark) }
    }

    /// The colour on one theme.
    pub fn on(self, theme: Theme) -> Rgb {
        match theme {
            Theme::Light => self.light,
            Theme::Dark => self.dark,
        }
    }

    /// Text on this colour.
    pub fn text(self) -> Paint {
        Paint { light: self.light.text(), dark: self.dark.text() }
    }

    /// An amount from 0 to 1 on the ramp of this hue.
    pub fn ramp(turns: f64, amount: f64) -> Paint {
        let on = |theme| colour::ramp(theme, turns, amount);
        Paint { light: on(Theme::Light), dark: on(Theme::Dark) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score() -> Score {
        let mut score = Score::default();
        score.add(&[9, 4], &[2.0, 1.0]);
        score.add(&[4], &[2.0]);
        score
    }

    fn paints(style: Style) -> Paints {
        Paints::new(style, 3, &score(), score())
    }

    #[test]
    fn the_feature_with_most_points_has_the_first_hue() {
        let slots = paints(Style::default());
        assert_eq!([slots.hue(4), slots.hue(9), slots.hue(77)], [Hue::of_slot(0), Hue::of_slot(1), Hue::of_id(3, 77)]);
        assert_eq!((slots.rarity(77), slots.rarity(4) < slots.rarity(9)), (1.0, true));
        let ids = paints(Style { hue: HueMode::Id, ..Style::default() });
        assert_eq!(ids.hue(4), Hue::of_id(3, 4));
    }

    #[test]
    fn pins_stand_out_from_grey() {
        let style = Style { hue: HueMode::Pins, pins: vec![9], ..Style::default() };
        for theme in [Theme::Light, Theme::Dark] {
            assert_eq!(paints(style.clone()).of(9, theme), colour::pins(theme)[0]);
            let [r, g, b] = paints(style.clone()).of(4, theme).0;
            assert!(r == g && g == b);
        }
    }

    #[test]
    fn the_scope_changes_saturation_and_not_hue() {
        let mut sentence = Score::default();
        sentence.add(&[4], &[1.0]);
        let (run, scoped) = (paints(Style::default()), Paints::new(Style::default(), 3, &score(), sentence));
        assert_eq!(run.hue(9), scoped.hue(9));
        assert!(run.rarity(9) < scoped.rarity(9));
    }

    #[test]
    fn everything_around_can_be_read() {
        for theme in [Theme::Light, Theme::Dark] {
            for ground in [Paint::GROUND, Paint::EMPTY] {
                assert!(Paint::TEXT.on(theme).contrast(ground.on(theme)) > 12.0);
                assert!(Paint::MUTED.on(theme).contrast(ground.on(theme)) > 4.5);
            }
        }
    }

    #[test]
    fn a_wrong_word_is_told_the_right_ones() {
        let error = "hue".parse::<HueMode>().unwrap_err().to_string();
        assert_eq!(error, "`hue` is not one of slot id pins");
    }
}
