use std::collections::BTreeMap;

use llamascope_record::{Span, Tokens};

use super::geometry::*;
use super::*;
use crate::colour::Theme;
use crate::paint::{Paints, Style};
use crate::scene::{Scene, svg};
use crate::score::Score;

/// Tokens that begin with a BOS; the text is what they say.
fn sentence(pieces: &[(&str, Vec<(u32, f32)>)]) -> SentenceRows {
    let (mut text, mut tokens) = (String::new(), Tokens::default());
    let mut push = |text: &mut String, piece: &str, bos: bool| {
        let start = text.len() as u32;
        text.push_str(if bos { "" } else { piece });
        tokens.ids.push(0);
        tokens.spans.push(Span { start, end: text.len() as u32 });
        tokens.strs.push(piece.to_owned());
        tokens.special.push(bos);
        tokens.bos.push(bos);
    };
    push(&mut text, "<s>", true);
    pieces.iter().for_each(|(piece, _)| push(&mut text, piece, false));
    SentenceRows::new(3, &text, &tokens, pieces.iter().map(|(_, features)| features.clone()).collect())
}

fn example() -> SentenceRows {
    sentence(&[
        ("The", vec![(7, 400.0), (104, 300.0)]),
        (" capital", vec![(104, 3.0), (982, 2.0), (13_001, 0.5)]),
        ("<script>alert(1)</script>\u{202e}", vec![(104, 2.0)]),
        (" 東京", vec![]),
    ])
}

fn paints(rows: &SentenceRows) -> Paints {
    let mut score = Score::default();
    for token in &rows.tokens {
        let (ids, vals): (Vec<_>, Vec<_>) = token.features.iter().copied().unzip();
        score.add(&ids, &vals);
    }
    Paints::new(Style::default(), 12, &score, score.clone())
}

fn label(id: u32) -> Option<String> {
    (id == 104).then(|| "capital cities & \"their\" <b>countries</b>, and a good deal more than fits".to_owned())
}

fn frame(width: f64) -> Frame<'static> {
    Frame {
        width,
        bare: false,
        source: "a/model · blocks.12.hook_resid_post".into(),
        label: &label,
        scope: "run".into(),
    }
}

fn charts(width: f64) -> Vec<Scene> {
    let rows = example();
    let paints = paints(&rows);
    let layers = [(12, rows.clone()), (20, rows.clone())];
    let mut scenes: Vec<_> = (0..4).map(|token| bars(&rows, token, &paints, &frame(width), 20)).collect();
    scenes.extend([Order::Aligned, Order::Value].map(|order| multiples(&rows, &paints, &frame(width), 8, order)));
    scenes.extend([Metric::Nnz, Metric::Max, Metric::L1].map(|metric| heatmap(&layers, metric, false, &frame(width))));
    scenes
}

#[test]
fn a_token_that_is_bos_is_not_shown_and_positions_count_it() {
    let rows = example();
    assert_eq!(rows.tokens.iter().map(|token| token.position).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(rows.tokens[1].text, "·capital");
    assert_eq!((rows.index_of(4), rows.index_of(0)), (Some(3), None));
}

#[test]
fn parts_of_a_character_share_its_text() {
    let spans = [(0, 3), (0, 3), (3, 5)].map(|(start, end)| Span { start, end });
    let tokens = Tokens {
        ids: vec![0; 3],
        spans: spans.into(),
        strs: vec!["\u{fffd}".into(), "\u{fffd}".into(), " a".into()],
        special: vec![false; 3],
        bos: vec![false; 3],
    };
    let rows = SentenceRows::new(0, "東 a", &tokens, vec![vec![(1, 1.0), (0, 1.0)], vec![], vec![]]);
    assert_eq!(rows.tokens.iter().map(Token::name).collect::<Vec<_>>(), ["東 1/2", "東 2/2", "·a"]);
    assert_eq!(rows.tokens[0].features, [(0, 1.0), (1, 1.0)]);
}

/// Every element of a drawn scene, parsed as any other program would.
fn check(scene: &Scene, theme: Theme) {
    let written = svg::file(scene, theme);
    assert_eq!(written, svg::file(scene, theme));
    let document = roxmltree::Document::parse(&written).unwrap();
    for node in document.descendants().filter(|node| node.is_element()) {
        let name = node.tag_name().name();
        assert!(["svg", "title", "desc", "rect", "g", "path", "text"].contains(&name), "{name}");
        assert!(node.attributes().all(|a| !a.name().starts_with("on") && !a.name().contains("href")));
        let number = |name: &str| node.attribute(name).map(|value| value.parse::<f64>().unwrap());
        if name == "rect" {
            let [x, y] = ["x", "y"].map(|name| number(name).unwrap_or(0.0));
            let [width, height] = ["width", "height"].map(|name| number(name).unwrap());
            assert!(x >= 0.0 && y >= 0.0 && x + width <= scene.width + 0.01 && y + height <= scene.height + 0.01);
        }
        if name == "text" && node.attribute("transform").is_none() {
            let size = number("font-size").unwrap();
            let width = crate::scene::metrics::width(node.text().unwrap_or("")) * size;
            let x = number("x").unwrap();
            let left = match node.attribute("text-anchor") {
                Some("middle") => x - width / 2.0,
                Some("end") => x - width,
                _ => x,
            };
            let says = node.text().unwrap_or("");
            assert!(left >= -0.01 && left + width <= scene.width + 0.01, "{says:?} from {left} wide {width}");
            let y = number("y").unwrap();
            assert!(y >= size * 0.7 && y <= scene.height, "{says:?} at {y}");
        }
    }
}

#[test]
fn every_chart_stays_on_its_paper_at_every_width() {
    for width in [WIDTHS.0, 500.0, WIDTH, 1600.0] {
        for scene in charts(width) {
            check(&scene, Theme::Light);
            check(&scene, Theme::Dark);
        }
    }
}

/// Fill of the first rectangle of every group of a feature.
fn fills(scene: &Scene) -> BTreeMap<u32, Vec<String>> {
    let written = svg::file(scene, Theme::Light);
    let document = roxmltree::Document::parse(&written).unwrap();
    let mut fills: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for group in document.descendants().filter(|node| node.has_attribute("data-f")) {
        let id = group.attribute("data-f").unwrap().parse().unwrap();
        let rect = group.children().find(|node| node.has_tag_name("rect")).unwrap();
        fills.entry(id).or_default().push(rect.attribute("fill").unwrap().to_owned());
    }
    fills
}

#[test]
fn a_feature_has_one_colour_in_all_charts() {
    let mut seen: BTreeMap<u32, String> = BTreeMap::new();
    for scene in charts(WIDTH) {
        for (id, colours) in fills(&scene) {
            for colour in colours {
                assert_eq!(*seen.entry(id).or_insert_with(|| colour.clone()), colour, "feature {id}");
            }
        }
    }
    assert_eq!(seen.len(), 4);
}

#[test]
fn bars_are_as_long_as_their_values() {
    let rows = example();
    let scene = bars(&rows, 1, &paints(&rows), &frame(WIDTH), 20);
    let written = svg::file(&scene, Theme::Light);
    let document = roxmltree::Document::parse(&written).unwrap();
    let widths: Vec<f64> = document
        .descendants()
        .filter(|node| node.has_attribute("data-f"))
        .map(|group| group.children().find(|node| node.has_tag_name("rect")).unwrap().attribute("width").unwrap())
        .map(|width| width.parse().unwrap())
        .collect();
    assert_eq!(widths.len(), 3);
    assert!((widths[1] / widths[0] - 2.0 / 3.0).abs() < 1e-3 && (widths[2] / widths[0] - 0.5 / 3.0).abs() < 1e-3);
}

#[test]
fn a_long_sentence_is_cut_and_says_so() {
    let pieces: Vec<(&str, Vec<(u32, f32)>)> = (0..2 * MOST_TOKENS).map(|n| ("word ", vec![(n as u32, 1.0)])).collect();
    let rows = sentence(&pieces);
    let paints = paints(&rows);
    let scene = multiples(&rows, &paints, &frame(WIDTH), 8, Order::Aligned);
    check(&scene, Theme::Light);
    assert!(scene.description.contains("the last 400 tokens are left out"), "{}", scene.description);
    let scene = heatmap(&[(0, rows.clone())], Metric::Nnz, false, &frame(WIDTH));
    check(&scene, Theme::Light);
    let scene = bars(&rows, 700, &paints, &frame(WIDTH), 20);
    check(&scene, Theme::Light);
}

#[test]
fn values_are_short() {
    let shown = [0.0, 0.0004, 0.05, 1.234, 45.67, 1234.5, 2.5e7].map(short);
    assert_eq!(shown, ["0", "4.0e-4", "0.050", "1.23", "45.7", "1234", "2.5e7"]);
}

#[test]
fn in_a_page_there_is_no_title_and_no_legend() {
    let rows = example();
    let bare = Frame { bare: true, ..frame(WIDTH) };
    let (alone, inside) = (
        multiples(&rows, &paints(&rows), &frame(WIDTH), 8, Order::Aligned),
        multiples(&rows, &paints(&rows), &bare, 8, Order::Aligned),
    );
    check(&inside, Theme::Light);
    check(&rarity_legend(&paints(&rows), &bare), Theme::Dark);
    assert!(inside.height + 80.0 < alone.height);
    assert!(!svg::file(&inside, Theme::Light).contains("font-weight=\"600\""));
}

#[test]
fn nothing_at_all_is_a_picture_too() {
    let rows = sentence(&[]);
    check(&multiples(&rows, &paints(&rows), &frame(WIDTH), 8, Order::Aligned), Theme::Dark);
    check(&heatmap(&[], Metric::Max, true, &frame(WIDTH)), Theme::Dark);
}
