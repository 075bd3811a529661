use std::fs;
use std::path::Path;

use llamascope_report::ansi::Depth;
use llamascope_report::paint::Style;
use llamascope_report::score::Scope;
use llamascope_report::text;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::json;
use tempfile::TempDir;

use super::*;

/// Three sentences at layers 4 and 9. Feature 7 is active in ` Paris` and in every token of the second sentence.
fn run() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let sentences: [(&str, &[&str]); 3] = [
        ("The capital is Paris", &["The", " capital", " is", " Paris"]),
        ("東京は日本で一番大きな都市です。", &["東京", "は", "日本", "で", "一番", "大きな", "都市", "です", "。"]),
        ("\u{1b}[2J\u{202e}evil", &["\u{1b}[2J", "\u{202e}evil"]),
    ];
    let mut records = String::new();
    for (sentence, (text, tokens)) in sentences.iter().enumerate() {
        let mut end = 0;
        let spans: Vec<[usize; 2]> = tokens
            .iter()
            .map(|token| {
                end += token.len();
                [end - token.len(), end]
            })
            .collect();
        let zeros = vec![0; tokens.len()];
        let record = json!({
            "sentence": sentence, "text": text, "source": "a.csv", "line": 1, "token_ids": zeros,
            "token_strs": tokens, "spans": spans, "special": zeros, "bos": zeros,
        });
        records += &format!("{record}\n");
        for layer in [4, 9] {
            let path = folder.path().join(format!("layer_{layer:02}"));
            fs::create_dir_all(&path).unwrap();
            let mut lines = String::new();
            for (position, token) in tokens.iter().enumerate() {
                let first = if sentence == 1 || position == 3 { 7 } else { 20 + position };
                let row = json!({
                    "token_pos": position, "token_str": token, "nnz": 3, "feat_ids": [first, 100 + position, layer],
                    "feat_vals": [4.0, 2.0, 1.0 + position as f64 / 100.0],
                });
                lines += &format!("{row}\n");
            }
            fs::write(path.join(format!("sentence_{sentence:04}.jsonl")), lines).unwrap();
        }
    }
    fs::write(folder.path().join("run.json"), json!({"format_version": 1, "complete": true}).to_string()).unwrap();
    fs::write(folder.path().join("sentences.jsonl"), records).unwrap();
    folder
}

fn opened(run: &Path) -> Opened {
    Opened::new(run).unwrap()
}

fn state(opened: &Opened) -> State<'_> {
    State::new(opened, 4, 0, Scope::Run, Style::default(), Theme::Dark, Depth::True).unwrap()
}

fn press(state: &mut State<'_>, keys: &str) {
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\x1b' => KeyCode::Esc,
            '>' => KeyCode::Right,
            '<' => KeyCode::Left,
            'v' => KeyCode::Down,
            '^' => KeyCode::Up,
            c => KeyCode::Char(c),
        };
        state.press(KeyEvent::new(code, KeyModifiers::NONE)).unwrap();
    }
}

/// The screen as lines of text.
fn screen(state: &State<'_>, columns: u16, lines: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
    terminal.draw(|frame| draw::draw(frame, state)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| {
        let (mut line, mut x) = (String::new(), 0);
        while x < columns {
            let symbol = buffer[(x, y)].symbol();
            line += symbol;
            x += (text::width(symbol) as u16).max(1);
        }
        line.trim_end().to_owned()
    };
    (0..lines).map(row).collect()
}

#[test]
fn keys_move_through_sentences_tokens_and_layers() {
    let folder = run();
    let opened = opened(folder.path());
    let mut state = state(&opened);
    press(&mut state, "l>l>l>");
    assert_eq!((state.sentence, state.token), (0, 3));
    press(&mut state, "h<");
    assert_eq!(state.token, 1);
    press(&mut state, "j");
    assert_eq!((state.sentence, state.token), (1, 0));
    press(&mut state, "jjjk]]");
    assert_eq!((state.sentence, state.layer.number()), (1, 9));
    press(&mut state, "[");
    assert_eq!(state.layer.number(), 4);
    press(&mut state, "vvvvv^");
    assert_eq!(state.bar, 1);
    press(&mut state, "q");
    assert!(state.done());
}

#[test]
fn a_feature_is_followed_over_sentences() {
    let folder = run();
    let opened = opened(folder.path());
    let mut state = state(&opened);
    press(&mut state, "f7\n");
    assert_eq!((state.locked, state.sentence, state.token), (Some(7), 0, 3));
    press(&mut state, "nn");
    assert_eq!((state.sentence, state.token), (1, 1));
    press(&mut state, "ppp");
    assert_eq!((state.sentence, state.token), (0, 3));
    assert!(state.message.contains("no earlier token"), "{}", state.message);
    press(&mut state, "\x1b");
    assert_eq!(state.locked, None);
    press(&mut state, "f999\n");
    assert_eq!((state.locked, state.message.as_str()), (None, "feature 999 is never active at layer 4"));
    press(&mut state, "fx\n");
    assert!(state.message.contains("not the number"));
    press(&mut state, "\n");
    assert_eq!(state.locked, Some(7));
    press(&mut state, "]");
    assert_eq!(state.locked, None);
}

#[test]
fn a_search_leaves_the_sentences_that_match() {
    let folder = run();
    let opened = opened(folder.path());
    let mut state = state(&opened);
    press(&mut state, "/日本\n");
    assert_eq!((state.listed(), state.sentence), (1, 1));
    press(&mut state, "jjkk");
    assert_eq!(state.sentence, 1);
    press(&mut state, "\x1b");
    assert_eq!(state.listed(), 3);
    press(&mut state, "/nowhere\n");
    assert_eq!(state.listed(), 3);
    assert!(state.message.starts_with("0 sentences"), "{}", state.message);
    // While a text is typed, letters are letters.
    press(&mut state, "/qj");
    assert!(!state.done());
    assert_eq!(state.mode, state::Mode::Search("qj".into()));
}

#[test]
fn the_screen_shows_it_all_in_80_by_24() {
    let folder = run();
    let opened = opened(folder.path());
    let mut state = state(&opened);
    press(&mut state, "j");
    let shown = screen(&state, 80, 24);
    let all = shown.join("\n");
    assert!(shown[0].contains("layer 4 (1 of 2) · sentence 1 of 3 · rarity in the run"), "{all}");
    assert!(all.contains("東京は日本で一番大きな都市です。"), "{all}");
    assert!(all.contains("L4/9") && all.contains("▀▀"), "{all}");
    assert!(all.contains("     7 ") && all.contains("4.00"), "{all}");
    assert!(all.contains("feature 7: active in 10 tokens (66.7%)"), "{all}");
    assert!(all.contains("score 66.7, largest 4.00"), "{all}");
    assert!(shown[23].contains("? help") && shown[23].ends_with("q quit"), "{all}");
    press(&mut state, "?");
    assert!(screen(&state, 80, 24).join("\n").contains("next, previous token where it is active"));
    press(&mut state, "?/abc");
    assert!(screen(&state, 80, 24)[23].starts_with("search: abc"));
}

#[test]
fn hostile_text_does_not_reach_the_screen() {
    let folder = run();
    let opened = opened(folder.path());
    let mut state = state(&opened);
    press(&mut state, "jj");
    let all = screen(&state, 80, 24).concat();
    assert!(all.contains("␛[2J") && !all.contains('\u{1b}') && !all.contains('\u{202e}'), "{all}");
}

#[test]
fn any_size_of_the_screen_is_survived() {
    let folder = run();
    let opened = opened(folder.path());
    let mut state = state(&opened);
    for depth in [Depth::None, Depth::Ansi256, Depth::True] {
        state.depth = depth;
        for (columns, lines) in [(1, 1), (10, 3), (20, 5), (40, 12), (80, 24), (200, 60)] {
            for keys in ["j", "?", "?t", "s", "\n", "x", "k"] {
                press(&mut state, keys);
                screen(&state, columns, lines);
            }
        }
    }
}
