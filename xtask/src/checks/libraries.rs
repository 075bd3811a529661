//! Library crates do not print, exit, or read the environment or the clock: the shells do, and hand in what is needed.

use crate::repo::{Finding, Repo};
use crate::source::{find_word, line_of};

/// Members of `crates/` that are shells, not libraries.
const SHELLS: [&str; 1] = ["app"];

/// What a library may not touch, and the way out.
const REFUSED: [(&str, &str); 13] = [
    ("print!", RETURN),
    ("println!", RETURN),
    ("eprint!", RETURN),
    ("eprintln!", RETURN),
    ("io::stdout", RETURN),
    ("io::stderr", RETURN),
    ("io::stdin", "take a reader as an argument"),
    ("process::exit", "return an error"),
    ("process::abort", "return an error"),
    ("env::", "take the value as an argument"),
    ("option_env!", "take the value as an argument"),
    ("SystemTime::now", "take the time as an argument"),
    ("Instant::now", "take the time as an argument"),
];

const RETURN: &str = "return the text, or report through an event";

/// Files or folders that may do one of these, and why.
const ALLOWED: [(&str, &str, &str); 3] = [
    ("crates/pipeline/src/", "Instant::now", "the timings of a run: durations only, never a date, never in a row"),
    (
        "crates/train/src/trainer.rs",
        "Instant::now",
        "when to write a checkpoint, and the rate; never in a number that is trained",
    ),
    ("crates/pipeline/src/fetch/pip.rs", "io::stderr", "pip draws its own progress, where the shell asks for it"),
];

/// Calls outside tests that a library crate may not make.
pub fn check(repo: &Repo) -> Vec<Finding> {
    let test_files = test_files(repo);
    let mut findings = Vec::new();
    for (path, source) in repo.rust() {
        if !is_library(path) || test_files.iter().any(|test| path.starts_with(test)) {
            continue;
        }
        for (call, way_out) in REFUSED {
            if ALLOWED.iter().any(|(place, allowed, _)| path.starts_with(place) && *allowed == call) {
                continue;
            }
            for at in find_word(&source.code, call) {
                let line = line_of(&source.code, at);
                if !source.is_test(line) {
                    findings.push(Finding::new(path, line, format!("{call} in a library"), way_out));
                }
            }
        }
    }
    findings
}

/// Whether a path is source of a library crate: not a shell's, not an integration test, example or bench.
fn is_library(path: &str) -> bool {
    let mut parts = path.split('/');
    parts.next() == Some("crates")
        && parts.next().is_some_and(|room| !SHELLS.contains(&room))
        && parts.next() == Some("src")
}

/// Where the modules stand that are declared under `#[cfg(test)]` as `mod name;`: the file, and the folder.
fn test_files(repo: &Repo) -> Vec<String> {
    let mut files = Vec::new();
    for (path, source) in repo.rust() {
        let stem = path.strip_suffix(".rs").unwrap_or(path);
        let folder = match stem.rsplit_once('/') {
            Some((folder, "lib" | "main" | "mod")) => folder,
            _ => stem,
        };
        for (index, line) in source.code.lines().enumerate() {
            let declared = line.trim().trim_start_matches("pub ").strip_prefix("mod ");
            if let Some(name) = declared.and_then(|rest| rest.strip_suffix(';')).filter(|_| source.is_test(index + 1)) {
                files.extend([format!("{folder}/{name}.rs"), format!("{folder}/{name}/")]);
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::testing::{places, repo};

    #[test]
    fn a_library_that_touches_the_outside_is_found() {
        let repo = repo(&[(
            "crates/model/src/llama.rs",
            "fn a() {\n    println!(\"x\");\n    let t = std::time::Instant::now();\n    let v = std::env::var(\"X\");\n    std::process::exit(1);\n}\n",
        )]);
        let mut findings = check(&repo);
        findings.sort();
        assert_eq!(places(&findings), [2, 3, 4, 5].map(|line| format!("crates/model/src/llama.rs:{line}")));
    }

    #[test]
    fn shells_tests_comments_strings_and_compile_time_are_free() {
        let free = "//! println!(\"doc\")\n// std::env::var\nconst A: &str = \"eprintln!\";\nconst V: &str = env!(\"CARGO_PKG_VERSION\");\nfn writeln_print() { my_print!(); }\n#[cfg(test)]\nmod tests {\n    fn t() { println!(); std::env::temp_dir(); }\n}\n";
        let prints = "fn main() { println!(); }\n";
        let repo = repo(&[
            ("crates/sae/src/lib.rs", free),
            ("crates/app/src/main.rs", prints),
            ("crates/sae/tests/it.rs", prints),
            ("xtask/src/main.rs", prints),
            ("crates/sae/src/a.rs", "#[cfg(test)]\nmod fakes;\n"),
            ("crates/sae/src/a/fakes.rs", prints),
            ("crates/sae/src/a/fakes/deep.rs", prints),
        ]);
        assert_eq!(check(&repo), []);
    }

    #[test]
    fn the_clock_is_for_the_pipeline_s_timings_alone() {
        let clock = "fn a() { Instant::now(); SystemTime::now(); }\n";
        let repo = repo(&[("crates/pipeline/src/timing.rs", clock), ("crates/report/src/page.rs", clock)]);
        let whats: Vec<String> = check(&repo).into_iter().map(|finding| finding.file + " " + &finding.what).collect();
        assert_eq!(
            whats,
            [
                "crates/pipeline/src/timing.rs SystemTime::now in a library",
                "crates/report/src/page.rs SystemTime::now in a library",
                "crates/report/src/page.rs Instant::now in a library",
            ]
        );
    }
}
