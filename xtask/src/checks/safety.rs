//! Every `unsafe` gives its reason, and stands in a room that may have one.

use crate::repo::{Finding, Repo};
use crate::source::{Source, find_word, line_of};

/// Kernels and the mapping of files.
const ROOMS: [&str; 3] = ["crates/compute/", "crates/weights/", "crates/record/src/index/"];

/// Lines of code that may stand between the reason and the word: the head of a statement that spans lines.
const REACH: usize = 3;

/// Uses of `unsafe` without a reason nearby, or outside the rooms that may.
pub fn check(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, source) in repo.rust() {
        for at in find_word(&source.code, "unsafe") {
            let line = line_of(&source.code, at);
            if !ROOMS.iter().any(|room| path.starts_with(room)) {
                let way_out = format!("move it behind a safe function in {}", ROOMS.join(" or "));
                findings.push(Finding::new(path, line, "unsafe outside the rooms that may", way_out));
            }
            if !is_pointer_type(&source.code[at..]) && !has_reason(source, line) {
                let way_out = "write a `// SAFETY:` line, or a `# Safety` section for a function, right above";
                findings.push(Finding::new(path, line, "unsafe without its reason", way_out));
            }
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

/// Whether a comment on the line, just inside, or in the run of comments and attributes above it gives a reason.
fn has_reason(source: &Source, line: usize) -> bool {
    let comments: Vec<&str> = source.comments.lines().collect();
    let code: Vec<&str> = source.code.lines().collect();
    let gives = |index: usize| {
        comments.get(index).is_some_and(|comment| comment.contains("SAFETY:") || comment.contains("# Safety"))
    };
    if gives(line - 1) || gives(line) {
        return true;
    }
    let mut reach = REACH;
    for index in (0..line - 1).rev() {
        let code = code[index].trim();
        if gives(index) {
            return true;
        }
        if !code.is_empty() && !code.starts_with("#[") {
            reach -= 1;
            // A closed statement or block above belongs to something else.
            if reach == 0 || code.ends_with([';', '}']) {
                return false;
            }
        }
    }
    false
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
    fn other_rooms_have_none() {
        let repo = repo(&[("crates/sae/src/a.rs", "// SAFETY: no.\nunsafe { x() }\n")]);
        assert_eq!(places(&check(&repo)), ["crates/sae/src/a.rs:2"]);
    }
}
