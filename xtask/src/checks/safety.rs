//! Every `unsafe` gives its reason, stands in a room that may have one, and is counted where the documents say how many
//! there are.

use crate::repo::{Finding, Repo};
use crate::source::{Source, find_word, line_of};

/// Kernels, the mapping of files, and the fuzz targets' counting of memory.
const ROOMS: [&str; 4] = ["crates/compute/", "crates/weights/", "crates/record/src/index/", "fuzz/src/memory.rs"];

/// Where the uses of each room are counted, in a table of rooms and numbers behind this marker.
const COUNTED: &str = "docs/hostile-input.md";
const MARKER: &str = "<!-- unsafe -->";

/// Lines of code that may stand between the reason and the word: the head of a statement that spans lines.
const REACH: usize = 3;

/// One use of `unsafe`.
pub struct Use<'a> {
    /// Path from the root of the repository.
    pub path: &'a str,
    /// Line from 1.
    pub line: usize,
    /// What is unsafe: a block, a function, an `impl`.
    pub what: &'static str,
    /// Why it is sound, or for a function, what its caller has to see to.
    pub reason: Option<String>,
}

/// All uses, by path and line. The type `unsafe fn(..)`, which promises nothing, is none.
pub fn uses(repo: &Repo) -> Vec<Use<'_>> {
    let mut uses = Vec::new();
    for (path, source) in repo.rust() {
        for at in find_word(&source.code, "unsafe").filter(|&at| !is_pointer_type(&source.code[at..])) {
            let line = line_of(&source.code, at);
            let rest = source.code[at + "unsafe".len()..].trim_start();
            let what = match rest.split(|c: char| !c.is_alphanumeric()).next() {
                Some("fn" | "extern") => "function",
                Some("impl" | "trait") => "impl",
                _ => "block",
            };
            uses.push(Use { path, line, what, reason: reason(source, line) });
        }
    }
    uses
}

/// Uses of `unsafe` without a reason nearby, outside the rooms that may, or miscounted.
pub fn check(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    let uses = uses(repo);
    for Use { path, line, reason, .. } in &uses {
        if !ROOMS.iter().any(|room| path.starts_with(room)) {
            let way_out = format!("move it behind a safe function in {}", ROOMS.join(" or "));
            findings.push(Finding::new(path, *line, "unsafe outside the rooms that may", way_out));
        }
        if reason.is_none() {
            let way_out = "write a `// SAFETY:` line, or a `# Safety` section for a function, right above";
            findings.push(Finding::new(path, *line, "unsafe without its reason", way_out));
        }
    }
    if let Some(text) = repo.text(COUNTED) {
        findings.extend(miscounted(text, &uses));
    }
    findings
}

/// Rows of the table that tell another number than there is.
fn miscounted(text: &str, uses: &[Use<'_>]) -> Vec<Finding> {
    let begin = text.lines().position(|line| line == MARKER);
    let found = |room: &str| uses.iter().filter(|a_use| a_use.path.starts_with(room)).count();
    let mut findings = Vec::new();
    for room in ROOMS {
        let row = begin.and_then(|begin| {
            let cell = format!("| `{room}` |");
            text.lines().enumerate().skip(begin).find_map(|(at, line)| Some((at, line.strip_prefix(&cell)?)))
        });
        let told = row.and_then(|(_, rest)| rest.split('|').next()?.trim().parse().ok());
        if told != Some(found(room)) {
            let way_out = format!("write the row `| `{room}` | {} |` behind `{MARKER}`", found(room));
            let line = row.map_or(1, |(at, _)| at + 1);
            findings.push(Finding::new(COUNTED, line, format!("the uses of unsafe in {room} are miscounted"), way_out));
        }
    }
    findings
}

/// Whether this is the type `unsafe fn(..)`, which promises nothing.
fn is_pointer_type(code: &str) -> bool {
    let mut rest = code["unsafe".len()..].trim_start();
    if let Some(foreign) = rest.strip_prefix("extern") {
        rest = foreign.trim_start();
    }
    rest.strip_prefix("fn").is_some_and(|rest| rest.trim_start().starts_with('('))
}

/// The reason that a comment gives on the line, just inside, or in the run of comments and attributes above it.
fn reason(source: &Source, line: usize) -> Option<String> {
    let comments: Vec<&str> = source.comments.lines().collect();
    let code: Vec<&str> = source.code.lines().collect();
    let gives = |index: usize| {
        let comment = comments.get(index)?;
        (comment.contains("SAFETY:") || comment.contains("# Safety")).then(|| told(&comments[index..]))
    };
    if let Some(reason) = gives(line - 1).or_else(|| gives(line)) {
        return Some(reason);
    }
    let mut reach = REACH;
    for index in (0..line - 1).rev() {
        let code = code[index].trim();
        if let Some(reason) = gives(index) {
            return Some(reason);
        }
        if !code.is_empty() && !code.starts_with("#[") {
            reach -= 1;
            // A closed statement or block above belongs to something else.
            if reach == 0 || code.ends_with([';', '}']) {
                return None;
            }
        }
    }
    None
}

/// The text of a reason from its first line to the end of the comment.
fn told(comments: &[&str]) -> String {
    let bare = |comment: &str| comment.trim().trim_start_matches(['/', '!']).trim().to_owned();
    let mut lines = comments.iter().map(|comment| bare(comment));
    let first = lines.next().unwrap_or_default();
    let mut words = vec![first.split_once("SAFETY:").map_or("", |(_, rest)| rest.trim()).to_owned()];
    words.extend(lines.take_while(|line| !line.is_empty()));
    words.join(" ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::testing::{places, repo};

    #[test]
    fn a_reason_near_is_enough() {
        let repo = repo(&[(
            "crates/compute/src/kernel.rs",
            "// unsafe in a comment\n#![deny(unsafe_code)]\n/// Adds.\n///\n/// # Safety\n/// AVX2 is there.\n#[target_feature(enable = \"avx2\")]\n#[inline]\nunsafe fn add() {}\ntype Kernel = unsafe fn(*const f32);\nfn run() {\n    // SAFETY: checked above.\n    let sum =\n        unsafe { add() };\n    unsafe { add() } // SAFETY: the same.\n    unsafe {\n        // SAFETY: inside.\n        add()\n    }\n}\n",
        )]);
        assert_eq!(check(&repo), []);
    }

    #[test]
    fn no_reason_or_one_that_belongs_to_something_else_is_found() {
        let repo = repo(&[(
            "crates/weights/src/map.rs",
            "// SAFETY: of the first.\nlet a = unsafe { x() };\nlet b = unsafe { y() };\n\nunsafe impl Send for M {}\n",
        )]);
        assert_eq!(places(&check(&repo)), ["crates/weights/src/map.rs:3", "crates/weights/src/map.rs:5"]);
    }

    #[test]
    fn the_inventory_tells_what_is_unsafe_and_why() {
        let repo = repo(&[(
            "crates/compute/src/kernel.rs",
            "/// Adds.\n///\n/// # Safety\n/// AVX2 is there,\n/// and so are the numbers.\nunsafe fn add() {}\nfn run() {\n    // SAFETY: checked\n    // above.\n    unsafe { add() }\n}\n// SAFETY: plain.\nunsafe impl Send for M {}\n",
        )]);
        let told: Vec<_> = uses(&repo).into_iter().map(|u| (u.line, u.what, u.reason.unwrap())).collect();
        let expected = [
            (6, "function", "AVX2 is there, and so are the numbers."),
            (10, "block", "checked above."),
            (13, "impl", "plain."),
        ];
        assert_eq!(told, expected.map(|(line, what, reason)| (line, what, reason.to_owned())));
    }

    #[test]
    fn a_number_that_no_longer_holds_is_found() {
        let table = "<!-- unsafe -->\n| `crates/compute/` | 0 |\n| `crates/weights/` | 2 |\n| `crates/record/src/index/` | 0 |\n| `fuzz/src/memory.rs` | 0 |\n";
        let repo = repo(&[("crates/weights/src/map.rs", "// SAFETY: x.\nlet a = unsafe { x() };\n"), (COUNTED, table)]);
        let findings = check(&repo);
        assert_eq!(places(&findings), ["docs/hostile-input.md:3"]);
        assert!(findings[0].way_out.contains("| 1 |"), "{}", findings[0]);
    }

    #[test]
    fn other_rooms_have_none() {
        let repo = repo(&[("crates/sae/src/a.rs", "// SAFETY: no.\nunsafe { x() }\n")]);
        assert_eq!(places(&check(&repo)), ["crates/sae/src/a.rs:2"]);
    }
}
