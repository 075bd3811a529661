//! A scene as SVG 1.1, always the same bytes: marks in their order, lengths to a hundredth, no ids, no scripts.
//!
//! Text is hostile until it is written: what acts on a reader or is no character of XML is replaced, the rest escaped.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Anchor, Group, Mark, Scene, Text};
use crate::colour::Theme;
use crate::paint::Paint;
use crate::text;

/// Fonts in order of preference; the first ones are as wide as [`metrics`](super::metrics) says.
pub const FONTS: [&str; 10] = [
    "Helvetica",
    "Arial",
    "Liberation Sans",
    "Noto Sans",
    "DejaVu Sans",
    "Hiragino Sans",
    "Yu Gothic",
    "Noto Sans CJK JP",
    "Noto Sans JP",
    "sans-serif",
];

/// A file of its own, on one theme.
pub fn file(scene: &Scene, theme: Theme) -> String {
    let fill = |paint: Paint, name: &str| format!(" {name}=\"{}\"", paint.on(theme));
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    write_scene(scene, &mut { fill }, &mut out);
    out
}

/// Names of classes for the colours of a page that has both themes.
#[derive(Debug, Default)]
pub struct Classes {
    numbers: BTreeMap<Paint, usize>,
}

impl Classes {
    /// The class that fills with this colour.
    pub fn fill(&mut self, paint: Paint) -> String {
        format!("p{}", self.number(paint))
    }

    fn number(&mut self, paint: Paint) -> usize {
        let next = self.numbers.len();
        *self.numbers.entry(paint).or_insert(next)
    }

    /// The rules of all classes on one theme; `--p` is the colour itself.
    pub fn rules(&self, theme: Theme) -> String {
        let mut by_number: Vec<_> = self.numbers.iter().map(|(paint, number)| (number, paint.on(theme))).collect();
        by_number.sort_unstable();
        by_number.iter().map(|(number, colour)| format!(".p{number}{{--p:{colour}}}")).collect()
    }
}

/// An element of a page: colours are classes, of which the page has the rules for both themes.
pub fn inline(scene: &Scene, classes: &mut Classes) -> String {
    let mut out = String::new();
    let mut paint = |paint: Paint, name: &str| {
        let stroke = if name == "stroke" { " s" } else { "" };
        format!(" class=\"p{}{stroke}\"", classes.number(paint))
    };
    write_scene(scene, &mut paint, &mut out);
    out
}

/// `text` as the content of an element or of a quoted attribute, of XML as well as HTML.
pub fn escape(text: &str) -> String {
    let plain = text::plain(text);
    let mut escaped = String::with_capacity(plain.len());
    for c in plain.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // The two that are no characters of XML, after the controls are gone.
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// A length: at most two decimals, and no zeros at the end.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// How a colour is written, given the name of the property that it fills.
type Ink<'a> = dyn FnMut(Paint, &str) -> String + 'a;

fn write_scene(scene: &Scene, ink: &mut Ink<'_>, out: &mut String) {
    let [width, height] = [scene.width, scene.height].map(number);
    let fonts = FONTS.map(|font| if font.contains(' ') { format!("'{font}'") } else { font.to_owned() }).join(", ");
    let ground = ink(Paint::GROUND, "fill");
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" font-family=\"{fonts}\">\n<title>{}</title>\n<desc>{}</desc>\n\
         <rect width=\"{width}\" height=\"{height}\"{ground}/>",
        escape(&scene.title),
        escape(&scene.description),
    );
    write_marks(&scene.marks, ink, out);
    out.push_str("</svg>\n");
}

fn write_marks(marks: &[Mark], ink: &mut Ink<'_>, out: &mut String) {
    for mark in marks {
        match mark {
            Mark::Rect { x, y, width, height, radius, fill } => {
                let [x, y, width, height] = [*x, *y, *width, *height].map(number);
                let radius = if *radius > 0.0 { format!(" rx=\"{}\"", number(*radius)) } else { String::new() };
                let fill = ink(*fill, "fill");
                let _ = writeln!(
                    out,
                    "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"{radius}{fill}/>"
                );
            }
            Mark::Text(text) => write_text(text, ink, out),
            Mark::Path { points, stroke, width } => {
                let points: Vec<_> = points.iter().map(|[x, y]| format!("{} {}", number(*x), number(*y))).collect();
                let _ = writeln!(
                    out,
                    "<path d=\"M{}\" fill=\"none\"{} stroke-width=\"{}\"/>",
                    points.join("L"),
                    ink(*stroke, "stroke"),
                    number(*width)
                );
            }
            Mark::Group(Group { feature, token, title, marks }) => {
                out.push_str("<g");
                if let Some(feature) = feature {
                    let _ = write!(out, " data-f=\"{feature}\"");
                }
                if let Some(token) = token {
                    let _ = write!(out, " data-t=\"{token}\"");
                }
                out.push('>');
                if !title.is_empty() {
                    let _ = write!(out, "<title>{}</title>", escape(title));
                }
                out.push('\n');
                write_marks(marks, ink, out);
                out.push_str("</g>\n");
            }
        }
    }
}

fn write_text(text: &Text, ink: &mut Ink<'_>, out: &mut String) {
    let [x, y, size] = [text.x, text.y, text.size].map(number);
    let anchor = match text.anchor {
        Anchor::Start => "",
        Anchor::Middle => " text-anchor=\"middle\"",
        Anchor::End => " text-anchor=\"end\"",
    };
    let bold = if text.bold { " font-weight=\"600\"" } else { "" };
    let turn =
        if text.turn == 0.0 { String::new() } else { format!(" transform=\"rotate({} {x} {y})\"", number(text.turn)) };
    let fill = ink(text.fill, "fill");
    let _ = writeln!(
        out,
        "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\"{anchor}{bold}{turn}{fill}>{}</text>",
        escape(&text.text)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(text: &str) -> Scene {
        let group = Group {
            feature: Some(104),
            token: Some(3),
            title: text.to_owned(),
            marks: vec![
                Mark::round(1.0, 2.005, 30.0, 4.0, 9.0, Paint::MUTED),
                Text::new(-0.001, 5.5, 12.0, Paint::TEXT, text).end().bold().turned(-45.0).into(),
            ],
        };
        let line = Mark::Path { points: vec![[0.0, 1.0], [2.0, 3.25]], stroke: Paint::GRID, width: 1.0 };
        Scene {
            width: 100.0,
            height: 50.5,
            title: text.to_owned(),
            description: text.to_owned(),
            marks: vec![line, group.into()],
        }
    }

    #[test]
    fn a_scene_is_written_mark_by_mark() {
        let svg = file(&scene("a"), Theme::Light);
        for part in [
            "width=\"100\" height=\"50.5\" viewBox=\"0 0 100 50.5\"",
            "<rect width=\"100\" height=\"50.5\" fill=\"#ffffff\"/>",
            "<path d=\"M0 1L2 3.25\" fill=\"none\" stroke=\"#e2e4e8\" stroke-width=\"1\"/>",
            "<g data-f=\"104\" data-t=\"3\"><title>a</title>",
            "<text x=\"0\" y=\"5.5\" font-size=\"12\" text-anchor=\"end\" font-weight=\"600\" \
             transform=\"rotate(-45 0 5.5)\" fill=\"#1b1c1f\">a</text>",
            " rx=\"2\" fill=\"#5f6369\"/>",
        ] {
            assert!(svg.contains(part), "{part}\n{svg}");
        }
        assert_eq!(svg, file(&scene("a"), Theme::Light));
        assert!(file(&scene("a"), Theme::Dark).contains("fill=\"#121212\""));
    }

    #[test]
    fn a_page_gets_classes_with_a_rule_for_each_theme() {
        let mut classes = Classes::default();
        let svg = inline(&scene("a"), &mut classes);
        assert!(!svg.contains("fill=\"#") && svg.contains("class=\"p1 s\""), "{svg}");
        let (light, dark) = (classes.rules(Theme::Light), classes.rules(Theme::Dark));
        assert!(light.starts_with(".p0{--p:#ffffff}") && dark.starts_with(".p0{--p:#121212}"), "{light}{dark}");
        assert_eq!(light.matches('{').count(), 4);
    }

    #[test]
    fn hostile_text_remains_text() {
        let hostile = "</title></text><script>alert(1)</script>\" onload='x' ]]> &amp; \u{0}\u{b}\u{ffff}\u{202e}\u{fffe}\n";
        let svg = file(&scene(hostile), Theme::Light);
        let document = roxmltree::Document::parse(&svg).unwrap();
        let names: Vec<_> = document.descendants().filter(|n| n.is_element()).map(|n| n.tag_name().name()).collect();
        assert_eq!(names, ["svg", "title", "desc", "rect", "path", "g", "title", "rect", "text"]);
        let shown = "</title></text><script>alert(1)</script>\" onload='x' ]]> &amp; ␀␋\u{fffd}\\u{202e}\u{fffd}↵";
        let texts: Vec<_> = document.descendants().filter(|n| n.is_text()).filter_map(|n| n.text()).collect();
        assert_eq!(texts.iter().filter(|text| **text == shown).count(), 4, "{texts:?}");
        let attributes = document.descendants().flat_map(|node| node.attributes().map(|a| a.name().to_owned()));
        assert!(attributes.into_iter().all(|name| !name.starts_with("on")));
    }

    proptest::proptest! {
        #[test]
        fn any_text_makes_a_well_formed_file(text: String) {
            let svg = file(&scene(&text), Theme::Dark);
            proptest::prop_assert!(roxmltree::Document::parse(&svg).is_ok(), "{}", svg);
        }
    }
}
