//! OKLCH to 8-bit sRGB with a gamut mapping of our own, and the contrast of two colours.
//!
//! OKLab is Björn Ottosson's ("A perceptual color space for image processing", 2020); transfer function and relative
//! luminance are those of IEC 61966-2-1 and WCAG 2.2. Everything is computed in f64 with the functions of
//! [`exact`](super::exact), in the order written here, so that another language gets the same bytes.

use std::fmt;

use super::exact::{cube_root, fifth_root, sin_cos};

/// Halvings of the interval in which the largest chroma is looked for.
const GAMUT_STEPS: u32 = 24;

/// An sRGB colour. Written `#rrggbb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rgb(pub [u8; 3]);

impl Rgb {
    /// `0xrrggbb`.
    pub const fn from_hex(hex: u32) -> Rgb {
        Rgb([(hex >> 16) as u8, (hex >> 8) as u8, hex as u8])
    }

    /// Relative luminance, from 0 (black) to 1 (white).
    pub fn luminance(self) -> f64 {
        let [r, g, b] = self.0.map(decode);
        0.2126 * r + 0.7152 * g + 0.0722 * b
    }

    /// Contrast ratio with another colour, from 1 to 21.
    pub fn contrast(self, other: Rgb) -> f64 {
        let (a, b) = (self.luminance() + 0.05, other.luminance() + 0.05);
        if a > b { a / b } else { b / a }
    }

    /// Black or white, whichever is read better on this colour.
    pub fn text(self) -> Rgb {
        let (black, white) = (Rgb::from_hex(0x000000), Rgb::from_hex(0xffffff));
        if self.contrast(black) >= self.contrast(white) { black } else { white }
    }
}

impl fmt::Display for Rgb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [r, g, b] = self.0;
        write!(f, "#{r:02x}{g:02x}{b:02x}")
    }
}

/// The largest chroma up to `cap` that sRGB can show at this lightness and hue (in turns).
pub fn max_chroma(lightness: f64, hue: f64, cap: f64) -> f64 {
    let fits = |chroma| linear(lightness, chroma, hue).iter().all(|channel| (0.0..=1.0).contains(channel));
    if fits(cap) {
        return cap;
    }
    let (mut low, mut high) = (0.0, cap);
    for _ in 0..GAMUT_STEPS {
        let middle = (low + high) / 2.0;
        if fits(middle) { low = middle } else { high = middle }
    }
    low
}

/// An OKLCH colour; the hue in turns from 0 to 1. Channels outside sRGB are cut off.
pub fn oklch(lightness: f64, chroma: f64, hue: f64) -> Rgb {
    Rgb(linear(lightness, chroma, hue).map(encode))
}

/// An HSV colour: hue in turns from 0 to 1, saturation and value from 0 to 1.
pub fn hsv(hue: f64, saturation: f64, value: f64) -> Rgb {
    let channel = |n: f64| {
        let k = n + hue * 6.0;
        let k = if k >= 6.0 { k - 6.0 } else { k };
        let ramp = k.min(4.0 - k).clamp(0.0, 1.0);
        ((value - value * saturation * ramp) * 255.0 + 0.5).floor() as u8
    };
    Rgb([channel(5.0), channel(3.0), channel(1.0)])
}

/// Linear sRGB of an OKLCH colour, not cut off.
fn linear(lightness: f64, chroma: f64, hue: f64) -> [f64; 3] {
    let (sin, cos) = sin_cos(hue);
    let (a, b) = (chroma * cos, chroma * sin);
    let l = lightness + 0.3963377774 * a + 0.2158037573 * b;
    let m = lightness - 0.1055613458 * a - 0.0638541728 * b;
    let s = lightness - 0.0894841775 * a - 1.291485548 * b;
    let (l, m, s) = (l * l * l, m * m * m, s * s * s);
    [
        4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
        -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
        -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
    ]
}

/// A linear channel as a byte: the sRGB curve, whose power of 1/2.4 is the cube root of the fourth root, to the fifth.
fn encode(channel: f64) -> u8 {
    let x = channel.clamp(0.0, 1.0);
    let curved = if x <= 0.0031308 {
        12.92 * x
    } else {
        let y = cube_root(x.sqrt().sqrt());
        1.055 * (y * y * y * y * y) - 0.055
    };
    (curved * 255.0 + 0.5).floor() as u8
}

/// A byte as a linear channel: the power of 2.4 is the square times the square of the fifth root.
fn decode(byte: u8) -> f64 {
    let v = f64::from(byte) / 255.0;
    if v <= 0.04045 {
        return v / 12.92;
    }
    let t = (v + 0.055) / 1.055;
    let y = fifth_root(t);
    t * t * (y * y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_colours_are_found() {
        // CSS Color 4's own pairs, from its conversion of sRGB primaries.
        assert_eq!(oklch(0.627955, 0.257683, 29.2339 / 360.0).to_string(), "#ff0000");
        assert_eq!(oklch(0.866440, 0.294827, 142.4953 / 360.0).to_string(), "#00ff00");
        assert_eq!(oklch(0.452014, 0.313214, 264.0520 / 360.0).to_string(), "#0000ff");
        assert_eq!(oklch(1.0, 0.0, 0.0).to_string(), "#ffffff");
        assert_eq!(hsv(0.0, 1.0, 1.0).to_string(), "#ff0000");
        assert_eq!(hsv(1.0 / 3.0, 1.0, 1.0).to_string(), "#00ff00");
        assert_eq!(hsv(0.5, 0.5, 0.8).to_string(), "#66cccc");
        let (black, white) = (Rgb::from_hex(0), Rgb::from_hex(0xffffff));
        assert!((black.contrast(white) - 21.0).abs() < 1e-9);
        assert!((Rgb::from_hex(0x777777).contrast(white) - 4.478).abs() < 1e-3);
        assert_eq!(Rgb::from_hex(0xffff00).text(), black);
        assert_eq!(Rgb::from_hex(0x0000aa).text(), white);
    }

    #[test]
    fn a_byte_survives_the_curve_and_back() {
        for byte in 0..=255 {
            assert_eq!(encode(decode(byte)), byte);
        }
    }

    #[test]
    fn the_largest_chroma_is_inside_and_a_little_more_is_outside() {
        let inside = |l, c, h| linear(l, c, h).iter().all(|x| (0.0..=1.0).contains(x));
        for step in 0..720 {
            let hue = f64::from(step) / 720.0;
            for lightness in [0.2, 0.42, 0.63, 0.82, 0.95] {
                let chroma = max_chroma(lightness, hue, 0.4);
                assert!(inside(lightness, chroma, hue) && !inside(lightness, chroma + 1e-4, hue));
            }
        }
    }
}
