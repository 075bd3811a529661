//! An SVG of ours as PNG, by resvg with the fonts that it is given.
//!
//! The same file, fonts and scale give the same bytes. Another machine's fonts give another picture; the SVG remains
//! the reproducible one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{self, FontResolver, fontdb};

use super::svg::FONTS;

/// Most pixels that are painted.
pub const MOST_PIXELS: u64 = 1 << 27;

/// Fonts to write with.
#[derive(Clone, Debug)]
pub struct Fonts {
    faces: Arc<fontdb::Database>,
    /// Families in order of preference.
    families: Vec<String>,
}

/// What keeps a picture from being painted.
#[derive(Debug, thiserror::Error)]
pub enum PngError {
    /// No face to write with.
    #[error(
        "no font was found on this machine, so the picture would have no text; install one (such as Debian's \
         fonts-liberation, and fonts-noto-cjk for Japanese), name a file of one with --font, or write .svg"
    )]
    NoFonts,
    /// A file without a font that can be read.
    #[error("{}: holds no font that can be read (TrueType or OpenType)", .0.display())]
    Font(PathBuf),
    /// A size that would not fit the memory.
    #[error("{width} x {height} pixels are more than {MOST_PIXELS}; take a smaller --scale, or write .svg")]
    Size {
        /// Pixels.
        width: u64,
        /// Pixels.
        height: u64,
    },
    /// An SVG that resvg does not take.
    #[error("the picture cannot be painted: {0}")]
    Svg(String),
}

/// A PNG file.
#[derive(Clone, Debug)]
pub struct Painted {
    /// Its bytes.
    pub png: Vec<u8>,
    /// Characters that no font has: there is a box or nothing in their place.
    pub missing: Vec<char>,
}

impl Fonts {
    /// The fonts that the system has, and before them those of `file`.
    ///
    /// # Errors
    /// A file without a font.
    pub fn system(file: Option<&Path>) -> Result<Fonts, PngError> {
        let mut faces = fontdb::Database::new();
        let mut families: Vec<String> = Vec::new();
        if let Some(file) = file {
            faces.load_font_file(file).map_err(|_| PngError::Font(file.to_owned()))?;
            families.extend(faces.faces().filter_map(|face| Some(face.families.first()?.0.clone())));
            if families.is_empty() {
                return Err(PngError::Font(file.to_owned()));
            }
        }
        faces.load_system_fonts();
        families.extend(FONTS.map(str::to_owned));
        Ok(Fonts { faces: Arc::new(faces), families })
    }

    /// No font at all.
    pub fn none() -> Fonts {
        Fonts { faces: Arc::default(), families: Vec::new() }
    }

    /// The face to begin with, of this weight.
    fn first(&self, weight: u16) -> Option<fontdb::ID> {
        let families: Vec<_> = self.families.iter().map(|name| fontdb::Family::Name(name)).collect();
        let weight = fontdb::Weight(weight);
        let query = fontdb::Query { families: &families, weight, ..fontdb::Query::default() };
        self.faces
            .query(&query)
            .or_else(|| self.faces.faces().min_by_key(|face| self.order(face, weight)).map(|f| f.id))
    }

    /// Which face comes before which for a character that the first one lacks; the names decide last, so that the order
    /// of the system's folders does not.
    fn order<'a>(&self, face: &'a fontdb::FaceInfo, weight: fontdb::Weight) -> (usize, bool, u16, &'a str, bool) {
        let listed = |name: &String| face.families.iter().any(|(family, _)| family == name);
        let rank = self.families.iter().position(listed).unwrap_or(self.families.len());
        let upright = face.style == fontdb::Style::Normal;
        (rank, !upright, face.weight.0.abs_diff(weight.0), &face.post_script_name, face.monospaced)
    }
}

/// Paints an SVG file written by [`svg::file`](super::svg::file), `scale` pixels for one of its own.
///
/// # Errors
/// No fonts, too many pixels, or an SVG of another kind.
pub fn paint(svg: &str, scale: f64, fonts: &Fonts) -> Result<Painted, PngError> {
    if fonts.faces.is_empty() {
        return Err(PngError::NoFonts);
    }
    let missing = Arc::new(Mutex::new(BTreeSet::new()));
    let tree = {
        let has = FontResolver::default_fallback_selector();
        let all: Vec<fontdb::ID> = fonts.faces.faces().map(|face| face.id).collect();
        let missing = Arc::clone(&missing);
        let known = Mutex::new(BTreeMap::new());
        let select_fallback = move |c: char, used: &[fontdb::ID], faces: &mut Arc<fontdb::Database>| {
            let first = *used.first()?;
            let weight = faces.face(first)?.weight;
            let mut known = known.lock().expect("nothing panics with it");
            let face = *known.entry((c, weight.0)).or_insert_with(|| {
                let mut candidates: Vec<_> = faces.faces().filter(|face| !used.contains(&face.id)).collect();
                candidates.sort_by_key(|face| fonts.order(face, weight));
                // The default answers for one face when all others are excluded.
                let best = candidates.into_iter().map(|face| face.id).find(|candidate| {
                    let others = all.iter().copied().filter(|id| id != candidate && *id != first);
                    let excluded: Vec<_> = std::iter::once(first).chain(others).collect();
                    has(c, &excluded, &mut Arc::clone(faces)).is_some()
                });
                if best.is_none() {
                    missing.lock().expect("nothing panics with it").insert(c);
                }
                best
            });
            face.filter(|id| !used.contains(id))
        };
        let options = usvg::Options {
            font_resolver: FontResolver {
                select_font: Box::new(|font, _| fonts.first(font.weight())),
                select_fallback: Box::new(select_fallback),
            },
            fontdb: Arc::clone(&fonts.faces),
            ..usvg::Options::default()
        };
        usvg::Tree::from_str(svg, &options).map_err(|error| PngError::Svg(error.to_string()))?
    };
    let [width, height] = [tree.size().width(), tree.size().height()].map(|side| (f64::from(side) * scale).ceil());
    if width * height > MOST_PIXELS as f64 || (width * height).is_nan() {
        return Err(PngError::Size { width: width as u64, height: height as u64 });
    }
    let empty = || PngError::Size { width: width as u64, height: height as u64 };
    let mut pixels = Pixmap::new(width as u32, height as u32).ok_or_else(empty)?;
    resvg::render(&tree, Transform::from_scale(scale as f32, scale as f32), &mut pixels.as_mut());
    let png = pixels.encode_png().map_err(|error| PngError::Svg(error.to_string()))?;
    let missing = missing.lock().expect("nothing panics with it").iter().copied().collect();
    Ok(Painted { png, missing })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQUARE: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"40\" height=\"20\">\
        <rect width=\"40\" height=\"20\" fill=\"#ff0000\"/><text x=\"2\" y=\"15\" font-size=\"12\">ab</text></svg>";

    #[test]
    fn without_fonts_there_is_an_error_and_a_way_out() {
        let error = paint(SQUARE, 1.0, &Fonts::none()).unwrap_err().to_string();
        assert!(error.contains("--font") && error.contains(".svg"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_font_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("font.ttf");
        std::fs::write(&path, "no font").unwrap();
        let error = Fonts::system(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("font.ttf"), "{error}");
    }

    #[test]
    fn a_picture_has_the_size_asked_for_and_not_more() {
        let fonts = Fonts::system(None).unwrap();
        match paint(SQUARE, 2.0, &fonts) {
            Ok(painted) => {
                assert_eq!(&painted.png[..8], b"\x89PNG\r\n\x1a\n");
                assert_eq!(&painted.png[16..24], [0, 0, 0, 80, 0, 0, 0, 40]);
                assert_eq!(painted.png, paint(SQUARE, 2.0, &fonts).unwrap().png);
                let error = paint(SQUARE, 1e6, &fonts).unwrap_err().to_string();
                assert!(error.contains("--scale"), "{error}");
            }
            // A machine without any font: the error that the first test looks at.
            Err(error) => assert!(matches!(error, PngError::NoFonts), "{error}"),
        }
    }
}
