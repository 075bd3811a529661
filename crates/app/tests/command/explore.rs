//! `llamascope explore`: what it writes, where, and what it refuses.

use llamascope_record::explored::Explored;

use crate::shell::{Done, Shell, fixture};

/// A shell with a text and copies of two SAEs, and the arguments that explore it.
fn ready() -> (Shell, Vec<String>) {
    let shell = Shell::new();
    shell.write_text("text.txt", 59);
    for layer in [1, 2] {
        let sae = format!("Llama3_1-8B-Base-L{layer}R-8x");
        shell.copy(&format!("llama3/saes/{sae}"), &format!("saes/{sae}"));
    }
    let model = fixture("llama3/model").display().to_string();
    let typed = ["explore", "--model", &model, "--sae", "saes", "--input", "text.txt", "--context", "24"];
    let typed = typed.map(str::to_owned).to_vec();
    (shell, typed)
}

fn run(shell: &Shell, typed: &[String], more: &[&str]) -> Done {
    let typed: Vec<&str> = typed.iter().map(String::as_str).chain(more.iter().copied()).collect();
    shell.run(&typed)
}

#[test]
fn a_file_for_each_layer_lies_beside_its_sae_and_says_what_was_found() {
    let (shell, typed) = ready();
    let ended = run(&shell, &typed, &["--layers", "1,2"]).succeeded();
    let paths: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(paths.len(), 2);
    for (layer, path) in [1, 2].into_iter().zip(&paths) {
        assert!(path.starts_with(&format!("saes/Llama3_1-8B-Base-L{layer}R-8x/explored_layer_{layer:02}_")), "{path}");
        assert!(ended.stderr.contains(&format!("layer {layer}: ")), "{ended:?}");
        let explored = Explored::open(&shell.path(path)).unwrap();
        assert_eq!((explored.header().layer, explored.header().context), (layer, 24));
        assert!(explored.ids().count() > 3);
    }
    // One thread, another folder, nothing said: the same bytes.
    let quiet =
        run(&shell, &typed, &["--layers", "2", "--threads", "1", "--output-dir", "found", "--quiet"]).succeeded();
    assert!(!quiet.stderr.contains("features active"), "{quiet:?}");
    let bytes = |path: &str| std::fs::read(shell.path(path)).unwrap();
    let narrow = bytes(quiet.stdout.trim());
    let wide = bytes(paths[1]);
    assert!(narrow == wide, "{} and {} bytes", narrow.len(), wide.len());
}

#[test]
fn what_cannot_be_explored_is_said_and_leaves_nothing() {
    let (shell, typed) = ready();
    run(&shell, &typed, &["--layers", "9"]).failed(2, &["9"]);
    run(&shell, &typed, &["--contexts", "0"]).failed(2, &["--contexts"]);
    shell.write("short.txt", "lamp and wall\n");
    run(&shell, &typed, &["--input", "missing.txt"]).failed(1, &["missing.txt"]);
    let short: Vec<String> = typed.iter().map(|word| word.replace("text.txt", "short.txt")).collect();
    run(&shell, &short, &[]).failed(1, &["more text"]);
    shell.write("found", "a file\n");
    run(&shell, &typed, &["--output-dir", "found"]).failed(1, &["found"]);
    assert!(
        !std::fs::read_dir(shell.path("saes/Llama3_1-8B-Base-L1R-8x"))
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().starts_with("explored") })
    );
    let help = shell.run(&["explore", "--help"]).succeeded();
    for word in ["Example", "In a large corpus", "--window"] {
        assert!(help.stdout.contains(word), "{word}: {help:?}");
    }
}
