//! What a finished file does not have: notes to self, stubs, skipped tests, catch-all modules, too many lines.

use crate::repo::{File, Finding, Repo};
use crate::source::{Source, find_word, line_of};

const NOTES: [&str; 4] = ["TODO", "FIXME", "XXX", "HACK"];

/// Files beside Rust that are written by hand and can hold a note.
const WRITTEN: [&str; 11] = ["md", "py", "sh", "toml", "yaml", "yml", "js", "mjs", "ts", "css", "html"];

const UNFINISHED: [(&str, &str); 5] = [
    ("todo!", "write it"),
    ("unimplemented!", "write it"),
    ("dbg!", "delete it"),
    ("#[ignore]", "let the test run or delete it"),
    ("#[ignore =", "let the test run or delete it"),
];

const CATCH_ALL: [&str; 6] = ["util", "utils", "common", "helper", "helpers", "misc"];

/// Lines that a Rust file may have, and the most that a row of `LONGER` may raise it to.
const LINES: usize = 500;
const MOST_LINES: usize = 800;

/// Files that may be longer: path, lines, and why splitting them would make them worse.
const LONGER: [(&str, usize, &str); 0] = [];

/// Findings in every Rust file, and notes to self in everything else that is written by hand.
pub fn check(repo: &Repo) -> Vec<Finding> {
    let mut findings: Vec<Finding> = repo.files.iter().flat_map(notes).collect();
    for (path, source) in repo.rust() {
        findings.extend(stubs(path, source));
        findings.extend(catch_alls(path, source));
        findings.extend(length(path, source));
    }
    for (path, ..) in LONGER {
        if repo.text(path).is_none_or(|text| text.lines().count() <= LINES) {
            let what = format!("{path} needs no leave to be long");
            findings.push(Finding::new("xtask/src/checks/sources.rs", 1, what, "delete its row of LONGER"));
        }
    }
    findings
}

fn notes(file: &File) -> Vec<Finding> {
    let by_hand = file.path == ".ci/run" || WRITTEN.iter().any(|extension| file.is(extension));
    let prose = match &file.rust {
        Some(source) => source.comments.as_str(),
        None if by_hand => file.text().unwrap_or_default(),
        None => "",
    };
    let way_out = "do it now, or file an issue and delete the note";
    NOTES
        .iter()
        .flat_map(|note| find_word(prose, note).map(move |at| (note, at)))
        // In backticks it is a word spoken of.
        .filter(|(_, at)| !prose[..*at].ends_with('`'))
        .map(|(note, at)| Finding::new(&file.path, line_of(prose, at), format!("a note to self, {note}"), way_out))
        .collect()
}

fn stubs(path: &str, source: &Source) -> Vec<Finding> {
    let code = source.code.as_str();
    let left = UNFINISHED.iter().flat_map(|(stub, way_out)| find_word(code, stub).map(move |at| (stub, way_out, at)));
    left.map(|(stub, way_out, at)| Finding::new(path, line_of(code, at), format!("{stub} is left"), *way_out)).collect()
}

fn catch_alls(path: &str, source: &Source) -> Vec<Finding> {
    let declared = find_word(&source.code, "mod").filter_map(|at| {
        let name = source.code[at + "mod".len()..].trim_start().split([' ', ';', '{']).next()?;
        CATCH_ALL.contains(&name).then_some((name, at))
    });
    let finding = |(name, at)| {
        let what = format!("a module called {name}");
        Finding::new(path, line_of(&source.code, at), what, "name it after what it is for")
    };
    declared.map(finding).collect()
}

fn length(path: &str, source: &Source) -> Option<Finding> {
    let most =
        LONGER.iter().find(|(longer, ..)| *longer == path).map_or(LINES, |(_, lines, _)| (*lines).min(MOST_LINES));
    let lines = source.text.lines().count();
    let way_out = "split it by reason to exist, or give the reason in xtask/src/checks/sources.rs";
    (lines > most).then(|| Finding::new(path, most + 1, format!("{lines} lines, {most} are allowed"), way_out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::testing::{places, repo};

    #[test]
    fn notes_to_self_are_found_where_they_are_notes() {
        let note = NOTES[0];
        let repo = repo(&[
            ("a.rs", &format!("// {note}: more\nlet s = \"{note}\"; // {note}S are many\n/* x\n{note} */\n")),
            ("b.md", &format!("`{note}` is a word\n{note} is a note\n")),
            ("c.py", &format!("x = 1  # {note} later\n")),
            ("d.csv", &format!("{note}\n")),
        ]);
        assert_eq!(places(&check(&repo)), ["a.rs:1", "a.rs:4", "b.md:2", "c.py:1"]);
    }

    #[test]
    fn stubs_and_skipped_tests_are_found() {
        let repo = repo(&[(
            "a.rs",
            "fn a() { todo!() }\nfn b() { unimplemented!(\"x\") }\n#[test]\n#[ignore]\nfn c() { dbg!(1); }\n#[ignore = \"slow\"]\nfn d() {} // todo!() in a comment\n",
        )]);
        let mut findings = check(&repo);
        findings.sort();
        assert_eq!(places(&findings), ["a.rs:1", "a.rs:2", "a.rs:4", "a.rs:5", "a.rs:6"]);
    }

    #[test]
    fn catch_all_modules_are_found() {
        let repo =
            repo(&[("a.rs", "mod utils;\npub mod  helpers { }\nmod commons;\nfn mod_common() {}\n// mod misc;\n")]);
        assert_eq!(places(&check(&repo)), ["a.rs:1", "a.rs:2"]);
    }

    #[test]
    fn length_has_a_limit() {
        let repo = repo(&[("long.rs", &"\n".repeat(LINES + 1)), ("fits.rs", &"\n".repeat(LINES))]);
        assert_eq!(places(&check(&repo)), [format!("long.rs:{}", LINES + 1)]);
    }
}
