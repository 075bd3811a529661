use std::fs;
use std::path::Path;

use serde_json::json;

use super::*;

const HOSTILE: &str = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"' onload='x";

/// A run of three sentences at two layers; one of them means harm, as do its token, the model and a label.
fn write_run(folder: &Path, sentences: usize) {
    let manifest = json!({
        "format_version": 1, "complete": true, "program": "llamascope test", "model": {"id": format!("model {HOSTILE}")},
        "config": {"sae_release": HOSTILE},
        "saes": [{"layer": 0, "d_sae": 300, "hook": "blocks.0.hook_resid_post"}, {"layer": 7, "d_sae": 300}],
    });
    fs::write(folder.join("run.json"), manifest.to_string()).unwrap();
    let mut records = String::new();
    for sentence in 0..sentences {
        let text = match sentence {
            1 => HOSTILE.to_owned(),
            2 => "東京 is big".to_owned(),
            _ => format!("number·{sentence} of"),
        };
        let (tokens, spans): (Vec<&str>, Vec<[usize; 2]>) = match sentence {
            2 => (vec!["\u{fffd}", "\u{fffd}", "京", " is", " big"], vec![[0, 3], [0, 3], [3, 6], [6, 9], [9, 13]]),
            _ => (vec![&text], vec![[0, text.len()]]),
        };
        let zeros = vec![0; tokens.len()];
        let record = json!({
            "sentence": sentence, "text": text, "source": HOSTILE, "line": 1, "token_ids": zeros, "token_strs": tokens,
            "spans": spans, "special": zeros, "bos": zeros,
        });
        records += &format!("{record}\n");
        for layer in [0, 7] {
            let rows = folder.join(format!("layer_{layer:02}"));
            fs::create_dir_all(&rows).unwrap();
            let lines: String = tokens
                .iter()
                .enumerate()
                .map(|(position, token)| {
                    let row = json!({
                        "token_pos": position, "token_str": token, "nnz": 2, "feat_ids": [sentence % 300, 299 - layer],
                        "feat_vals": [2.5 + sentence as f64, 0.5],
                    });
                    format!("{row}\n")
                })
                .collect();
            fs::write(rows.join(format!("sentence_{sentence:04}.jsonl")), lines).unwrap();
        }
    }
    fs::write(folder.join("sentences.jsonl"), records).unwrap();
}

fn label(layer: usize, id: u32) -> Option<String> {
    (layer == 7 && id == 292).then(|| format!("label {HOSTILE}"))
}

fn options(sentences: Scope) -> Options<'static> {
    Options { layers: Vec::new(), sentences, top_k: 8, style: Style::default(), label: &label }
}

fn report_of(sentences: usize, scope: Scope) -> Report {
    let folder = tempfile::tempdir().unwrap();
    write_run(folder.path(), sentences);
    let index = RunIndex::open_or_build(folder.path(), None, &()).unwrap();
    report(&index, &options(scope)).unwrap()
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    let [a, b] = [0, 1].map(|_| report_of(3, Scope::Run));
    assert_eq!(a.html, b.html);
    assert!(a.left_out.is_empty());
}

#[test]
fn hostile_text_adds_no_element_and_no_attribute() {
    let html = report_of(3, Scope::Run).html;
    assert_eq!(html.matches("<script").count(), 1);
    assert_eq!(html.matches("</script").count(), 1);
    assert_eq!(html.matches("<img").count(), 0);
    assert!(html.contains("&lt;img src=x onerror=alert(2)&gt;"));
    // Outside quotes and tags nothing hostile is left: every tag is one of ours.
    let known = [
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "h1",
        "h2",
        "h3",
        "p",
        "dl",
        "div",
        "dt",
        "dd",
        "nav",
        "button",
        "input",
        "span",
        "main",
        "figure",
        "svg",
        "desc",
        "rect",
        "text",
        "path",
        "g",
        "figcaption",
        "section",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "br",
        "b",
        "a",
        "footer",
        "script",
    ];
    let body = html.split_once("<body>").unwrap().1.split_once("<script>").unwrap().0;
    for tag in body.split('<').skip(1) {
        let name: String = tag.trim_start_matches('/').chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
        assert!(known.contains(&name.as_str()), "<{}", tag.chars().take(60).collect::<String>());
        let inside = tag.split_once('>').unwrap().0;
        let unquoted: String = inside.split('"').step_by(2).collect();
        assert!(!unquoted.contains(" on") && !unquoted.contains('\''), "<{inside}");
    }
    // The pictures are well-formed for a parser that forgives nothing, and hostile text in them is text.
    let pictures: Vec<&str> = body.split("<svg").skip(1).map(|rest| rest.split_once("</svg>").unwrap().0).collect();
    assert_eq!(pictures.len(), 2 + 3 * 3);
    for picture in pictures {
        let picture = format!("<svg{picture}</svg>");
        let parsed = roxmltree::Document::parse(&picture).unwrap();
        for element in parsed.descendants().filter(roxmltree::Node::is_element) {
            assert!(["svg", "title", "desc", "rect", "text", "path", "g"].contains(&element.tag_name().name()));
            assert!(element.attributes().all(|attribute| !attribute.name().starts_with("on")));
        }
    }
}

#[test]
fn nothing_is_fetched() {
    let html = report_of(3, Scope::Run).html;
    let policy = html.split("Content-Security-Policy\" content=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    let script = html.split_once("<script>").unwrap().1.split_once("</script>").unwrap().0;
    let style = html.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
    assert!(policy.contains(&markup::hash_source(script)) && policy.contains(&markup::hash_source(style)));
    for word in [" src=", "url(", "@import", "http-equiv=\"refresh", "<link", "fetch(", "XMLHttpRequest"] {
        let quoted = html.replace("img src=x onerror", "");
        assert!(!quoted.contains(word), "{word}");
    }
    let elsewhere = html.matches("http").count();
    let namespaces = html.matches("http://www.w3.org/2000/svg").count() + html.matches("http-equiv").count();
    assert_eq!(elsewhere, namespaces);
}

#[test]
fn a_feature_can_be_found_everywhere_by_its_layer_and_id() {
    let html = report_of(3, Scope::Run).html;
    // Sentence 2 has feature 2 in five tokens: the strip (three pieces of text) and the multiples of either layer, and a
    // row of each table.
    let marks = html.matches("data-f=\"2\"").count();
    assert_eq!(marks, 2 * (4 + 5 + 1));
    assert!(html.contains("<section class=\"sentence\" id=\"s2\">") && html.contains("href=\"#s2\""));
    assert!(html.contains("<b class=\"p") && html.contains(">東</b>京 is big"));
    assert!(html.contains("lang=\"\""));
    // A dot of the text remains a dot, and a space a space.
    assert!(html.contains(">number·0 of</span>"));
    assert!(html.contains("label &lt;/script&gt;"));
    for theme in ["@media (prefers-color-scheme:dark){.p0{", ".p0{--p:#"] {
        assert!(html.contains(theme));
    }
}

#[test]
fn what_does_not_fit_is_left_out_and_named() {
    let report = report_of(MOST_SENTENCES + 5, Scope::Run);
    assert_eq!(report.html.matches("<section class=\"sentence\"").count(), MOST_SENTENCES);
    assert!(report.left_out[0].starts_with("the last 5 of 205 sentences"), "{:?}", report.left_out);
    assert!(report.html.contains("Left out: the last 5 of 205 sentences"));
    let chosen = report_of(20, "3,7-8".parse().unwrap());
    let shown: Vec<bool> = (0..20).map(|n| chosen.html.contains(&format!("id=\"s{n}\""))).collect();
    assert_eq!(shown.iter().enumerate().filter(|(_, shown)| **shown).map(|(n, _)| n).collect::<Vec<_>>(), [3, 7, 8]);
}
