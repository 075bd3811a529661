//! `chart`, `report` and `show` on a run: files that are the same every time, and answers to what cannot be meant.

use std::fs;

use serde_json::json;

use crate::shell::Shell;

const HOSTILE: &str = "<script>alert(1)</script>";

/// A run of two sentences at layers 3 and 12, written by hand.
fn run() -> Shell {
    let shell = Shell::new();
    shell.write("run/run.json", json!({"format_version": 1, "complete": true, "model": {"id": "a/model"}}).to_string());
    let mut records = String::new();
    for (sentence, words) in [vec!["The", " capital", " is", " 東京"], vec![HOSTILE, "."]].iter().enumerate() {
        let (mut text, mut spans) = (String::new(), Vec::new());
        for word in words {
            let start = text.len();
            text += word;
            spans.push([start, text.len()]);
        }
        let zeros = vec![0; words.len()];
        let record = json!({
            "sentence": sentence, "text": text, "source": "a.csv", "line": 1, "token_ids": zeros, "token_strs": words,
            "spans": spans, "special": zeros, "bos": zeros,
        });
        records += &format!("{record}\n");
        for layer in [3, 12] {
            let rows: String = (0..words.len())
                .map(|position| {
                    let row = json!({
                        "token_pos": position, "token_str": words[position], "nnz": 3,
                        "feat_ids": [104, 20 + position, 982], "feat_vals": [3.5, 2.0, 0.25],
                    });
                    format!("{row}\n")
                })
                .collect();
            shell.write(&format!("run/layer_{layer:02}/sentence_{sentence:04}.jsonl"), rows);
        }
    }
    shell.write("run/sentences.jsonl", records);
    shell
}

#[test]
fn the_same_picture_has_the_same_bytes() {
    let shell = run();
    for kind in ["bars", "multiples", "heatmap"] {
        for (extension, begins) in [("svg", &b"<?xml"[..]), ("png", b"\x89PNG")] {
            let draw = |name: &str| {
                let file = format!("{kind}-{name}.{extension}");
                let args = ["chart", "run", "-L", "12", "-s", "0", "--token", "3", "--kind", kind, "-o", &file];
                let done = shell.run(&args);
                // A machine without fonts cannot paint, and says so.
                if extension == "png" && done.stderr.contains("no font was found") {
                    return None;
                }
                assert_eq!(done.succeeded().stdout, format!("{file}\n"));
                Some(fs::read(shell.path(&file)).unwrap())
            };
            let (first, second) = (draw("a"), draw("b"));
            assert_eq!(first, second);
            assert!(first.is_none_or(|bytes| bytes.starts_with(begins)));
        }
    }
    assert!(
        !fs::read_dir(shell.path(".")).unwrap().any(|e| e.unwrap().path().extension().is_some_and(|e| e == "part"))
    );
}

#[test]
fn themes_and_styles_change_the_picture() {
    let shell = run();
    let mut seen = Vec::new();
    for extra in [
        vec![],
        vec!["--theme", "dark"],
        vec!["--hue", "id"],
        vec!["--hue", "pins", "--pin", "982"],
        vec!["--palette", "hsv"],
        vec!["--rarity", "percentile"],
        vec!["--scope", "sentence"],
        vec!["--width", "600"],
        vec!["--order", "value"],
        vec!["--top-k", "1"],
    ] {
        let args = ["chart", "run", "-s", "0", "-o", "a.svg"].into_iter().chain(extra).collect::<Vec<_>>();
        shell.run(&args).succeeded();
        seen.push((args.join(" "), fs::read_to_string(shell.path("a.svg")).unwrap()));
    }
    // The features of this run are in every sentence alike, and stand in the same order by value and by column.
    for (index, (args, svg)) in seen.iter().enumerate().filter(|(_, (args, _))| !args.contains("--order")) {
        let twin = seen[..index].iter().find(|(_, other)| other == svg);
        assert!(twin.is_none(), "{args} draws what {twin:?} draws");
    }
}

#[test]
fn the_report_is_one_file_and_the_same_every_time() {
    let shell = run();
    for name in ["a.html", "b.html"] {
        assert_eq!(shell.run(&["report", "run", "-o", name]).succeeded().stdout, format!("{name}\n"));
    }
    let html = fs::read_to_string(shell.path("a.html")).unwrap();
    assert_eq!(html, fs::read_to_string(shell.path("b.html")).unwrap());
    assert!(html.starts_with("<!doctype html>") && html.contains("&lt;script&gt;alert(1)") && !html.contains(HOSTILE));
    let only = shell.run(&["report", "run", "-o", "c.html", "--layers", "12", "--sentences", "1"]).succeeded();
    assert_eq!(only.stderr, "");
    let html = fs::read_to_string(shell.path("c.html")).unwrap();
    assert!(html.contains("id=\"s1\"") && !html.contains("id=\"s0\"") && !html.contains("layer 3<"));
}

#[test]
fn show_writes_plain_text_into_a_pipe_and_colours_on_request() {
    let shell = run();
    let plain = shell.run(&["show", "run", "-s", "0", "-L", "12"]).succeeded().stdout;
    assert!(plain.starts_with("sentence 0 at layer 12 · a/model\nThe capital is 東京\n"), "{plain}");
    assert!(plain.contains("   3 ·東京") && plain.contains("104") && !plain.contains('\x1b'), "{plain}");
    let coloured = shell.run(&["show", "run", "-L", "12", "--colour", "true"]).succeeded().stdout;
    assert!(coloured.contains("\x1b[38;2;"), "{coloured}");
    let coloured = shell.run(&["show", "run", "-L", "12", "--color", "256"]).succeeded().stdout;
    assert!(coloured.contains("\x1b[38;5;") && !coloured.contains("\x1b[38;2;"), "{coloured}");
    let token = shell.run(&["show", "run", "-s", "0", "-L", "12", "-t", "1", "--width", "60"]).succeeded().stdout;
    assert!(token.contains("·capital  token 1, 3 active features") && token.contains("   982 "), "{token}");
}

#[test]
fn a_pinned_feature_that_is_never_active_is_said() {
    let shell = run();
    let shown =
        shell.run(&["show", "run", "-s", "0", "-L", "12", "--hue", "pins", "--pin", "104", "--pin", "77"]).succeeded();
    assert_eq!(shown.stderr, "warning: --pin 77: never active in this run (layers: 12)\n");
}

#[test]
fn what_is_not_there_is_named_with_what_is() {
    let shell = run();
    let chart = |extra: &[&'static str]| [&["chart", "run", "-o", "a.svg"], extra].concat();
    for (args, words) in [
        (chart(&["-s", "9"]), vec!["--sentence 9", "0 to 1"]),
        (chart(&["-s", "0", "-L", "4"]), vec!["--layer 4", "3, 12"]),
        (chart(&["-s", "1", "-t", "7"]), vec!["--token 7", "0 to 1"]),
        (chart(&["-s", "1", "--width", "20"]), vec!["--width 20", "360"]),
        (chart(&["-s", "1", "--scale", "0"]), vec!["--scale 0"]),
        (vec!["chart", "run", "-s", "0", "-o", "a.jpg"], vec!["a.jpg", ".svg or .png"]),
        (vec!["report", "run", "-o", "a.html", "--layers", "4"], vec!["--layer 4", "3, 12"]),
        (vec!["report", "run", "-o", "a.html", "--sentences", "sentence"], vec!["0-9,12"]),
        (vec!["show", "run", "-s", "2"], vec!["--sentence 2"]),
        (vec!["tui", "run"], vec!["needs a terminal", "llamascope show"]),
    ] {
        shell.run(&args).failed(2, &words);
        assert!(!shell.path("a.svg").exists() && !shell.path("a.html").exists(), "{args:?}");
    }
    shell.run(&["show", "nowhere"]).failed(1, &["nowhere"]);
    shell.run(&["chart", "run", "-s", "0", "-o", "no/such/folder/a.svg"]).failed(1, &["no/such/folder/a.svg"]);
    shell
        .run(&["chart", "run", "-s", "0", "-o", "a.png", "--font", "run/run.json"])
        .failed(1, &["run.json", "no font"]);
    let pins: Vec<&str> = std::iter::repeat_n(["--pin", "1"], 9).flatten().collect();
    shell.run(&[&["chart", "run", "-s", "0", "-o", "a.svg"], pins.as_slice()].concat()).failed(2, &["--pin", "8"]);
    // What clap says of a wrong word names the right ones.
    let done = shell.run(&["chart", "run", "-s", "0", "-o", "a.svg", "--hue", "rainbow"]);
    assert!(done.code == Some(2) && done.stderr.contains("slot id pins"), "{done:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn the_tui_ends_when_its_terminal_is_closed() {
    use std::io::Read;
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    let shell = run();
    let tui = format!("stty rows 40 cols 120; echo $$ > pid; exec '{}' tui run", env!("CARGO_BIN_EXE_llamascope"));
    let mut command = shell.command("script", &["-qfec", &tui, "/dev/null"]);
    let mut terminal = command.env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut drawn, mut stdout) = (Vec::new(), terminal.stdout.take().unwrap());
    while !String::from_utf8_lossy(&drawn).contains("capital") {
        let mut bytes = [0; 4096];
        let count = stdout.read(&mut bytes).unwrap();
        assert!(count > 0, "it ended: {}", String::from_utf8_lossy(&drawn));
        drawn.extend(&bytes[..count]);
    }
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    let pid = fs::read_to_string(shell.path("pid")).unwrap();
    let command_line = format!("/proc/{}/cmdline", pid.trim());
    let started = Instant::now();
    // What has ended and waits for its parent has an empty one.
    while fs::read(&command_line).is_ok_and(|words| !words.is_empty()) {
        assert!(started.elapsed() < Duration::from_secs(60), "it goes on without a terminal");
        std::thread::sleep(Duration::from_millis(20));
    }
}
