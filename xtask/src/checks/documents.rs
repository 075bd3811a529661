//! Documents that stay true: every crate says what it is, every link leads somewhere, the README has its commands.

use crate::readme;
use crate::repo::{Finding, Repo};

/// Crates without a header, links to nothing, commands that are not there.
pub fn check(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, source) in repo.rust() {
        let is_root = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
        if is_root && !source.text.starts_with("//!") {
            findings.push(Finding::new(
                path,
                1,
                "no header",
                "begin with `//!`: what the crate is and what it does not know",
            ));
        }
    }
    for file in repo.files.iter().filter(|file| file.is("md")) {
        for (line, target) in links(file.text().unwrap_or_default()) {
            if !resolves(repo, &file.path, &target) {
                let what = format!("a link to {target}, which is not there");
                findings.push(Finding::new(&file.path, line, what, "mend the path, from this file's folder"));
            }
        }
    }
    for marker in [readme::TEST, readme::DEMO] {
        if let Err(error) = readme::command(repo.text(readme::PATH).unwrap_or_default(), marker) {
            let way_out = format!("put the command into a fenced block right after a line `{marker}`");
            findings.push(Finding::new(readme::PATH, 1, error.to_string(), way_out));
        }
    }
    findings
}

/// Line and target of every inline link and image outside code.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let prose: String = line.split('`').step_by(2).collect();
            // The first piece comes before any target.
            for piece in prose.split("](").skip(1) {
                let target = piece.split([')', ' ']).next().unwrap_or_default();
                links.push((index + 1, target.trim_matches(['<', '>']).to_owned()));
            }
        }
    }
    links
}

fn resolves(repo: &Repo, from: &str, target: &str) -> bool {
    let path = target.split('#').next().unwrap_or_default();
    if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
        return true;
    }
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_none() => return false,
            ".." => {}
            _ => parts.push(part),
        }
    }
    !path.starts_with('/') && repo.contains(&parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::testing::{places, repo};

    const README: &str = "<!-- test -->\n```sh\ncargo test\n```\n<!-- demo -->\n```sh\ncargo run\n```\n";

    #[test]
    fn links_are_followed_from_the_document_s_folder() {
        let repo = repo(&[
            ("README.md", README),
            (
                "docs/a.md",
                "[up](../README.md#x) [b](b.md) [web](https://example.org/x) [here](#part) [folder](../docs)\n",
            ),
            (
                "docs/b.md",
                "[no](c.md) `[code](d.md)`\n```\n[fenced](e.md)\n```\n![img](../../f.png)\n[root](/docs/a.md)\n",
            ),
        ]);
        assert_eq!(places(&check(&repo)), ["docs/b.md:1", "docs/b.md:5", "docs/b.md:6"]);
    }

    #[test]
    fn the_readme_has_its_commands() {
        let findings = check(&repo(&[("README.md", "# x\n")]));
        assert_eq!(places(&findings), ["README.md:1", "README.md:1"]);
        assert_eq!(check(&repo(&[])).len(), 2);
    }

    #[test]
    fn a_crate_begins_with_its_header() {
        let repo = repo(&[
            ("README.md", README),
            ("crates/a/src/lib.rs", "//! What it is.\n"),
            ("crates/b/src/lib.rs", "\npub mod x;\n"),
            ("crates/b/src/x.rs", "pub fn x() {}\n"),
        ]);
        assert_eq!(places(&check(&repo)), ["crates/b/src/lib.rs:1"]);
    }
}
