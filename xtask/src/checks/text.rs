//! What may stand in any text file: UTF-8 with LF, no merge markers, and nothing that ties the project to the machine
//! or to the mirrors that it was written on.

use crate::repo::{File, Finding, Repo};
use crate::source::find_word;

/// Files that are not text.
const BINARY: [&str; 12] =
    ["safetensors", "gguf", "npz", "npy", "bin", "gz", "zst", "parquet", "png", "jpg", "ico", "woff2"];

/// What fuzzing found worth keeping: bytes that are broken on purpose.
const BROKEN: &str = "fuzz/corpus/";

/// Written by cargo, which names the registry in it.
const LOCK: &str = "Cargo.lock";

/// Hosts of registries and hubs, in two parts so that this file passes its own check.
const HOSTS: [(&str, &str); 10] = [
    ("crates", "io"),
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("npmjs", "org"),
    ("npmjs", "com"),
    ("huggingface", "co"),
    ("hf", "co"),
    ("hf-mirror", "com"),
    ("deb.debian", "org"),
    ("proxy.golang", "org"),
];

/// Folders at the root of some machine.
const ROOTS: [&str; 4] = ["work", "home", "root", "Users"];

/// Findings in every file, Rust or not.
pub fn check(repo: &Repo) -> Vec<Finding> {
    let hosts = HOSTS.map(|(name, domain)| format!("{name}.{domain}"));
    let roots = ROOTS.map(|folder| format!("/{folder}/"));
    let markers = ["<", ">", "|"].map(|sign| sign.repeat(7) + " ");
    let mut findings = Vec::new();
    let is_text = |file: &&File| !BINARY.iter().any(|extension| file.is(extension)) && !file.path.starts_with(BROKEN);
    for file in repo.files.iter().filter(is_text) {
        let Some(text) = file.text() else {
            let line = 1 + file.bytes.utf8_chunks().next().map_or(0, |chunk| chunk.valid().matches('\n').count());
            let way_out = "save it as UTF-8, or name its extension in xtask/src/checks/text.rs";
            findings.push(Finding::new(&file.path, line, "not UTF-8", way_out));
            continue;
        };
        for (index, line) in text.split('\n').enumerate() {
            let mut found = |what: String, way_out: &str| {
                findings.push(Finding::new(&file.path, index + 1, what, way_out));
            };
            if line.ends_with('\r') {
                found("a line that ends in CR LF".to_owned(), "save it with LF; in a test write `\\r\\n`");
            }
            if markers.iter().any(|marker| line.starts_with(marker)) {
                found("a merge marker".to_owned(), "finish the merge");
            }
            for host in hosts.iter().filter(|host| file.path != LOCK && find_word(line, host).next().is_some()) {
                found(format!("the host {host}"), "name the package or the model; the client knows where it is");
            }
            for root in roots.iter().filter(|root| begins_a_path(line, root)) {
                found(format!("a path under {root}"), "write it relative to the repository");
            }
        }
    }
    findings
}

/// Whether `root` stands in the line other than as the middle of a longer path or an address.
fn begins_a_path(line: &str, root: &str) -> bool {
    let goes_on = |c: char| c.is_alphanumeric() || "_-.~*}>)".contains(c);
    line.match_indices(root).any(|(at, _)| !line[..at].ends_with(goes_on))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::testing::{places, repo, repo_of_bytes};

    #[test]
    fn bytes_that_are_no_text_and_cr_are_found() {
        let repo = repo_of_bytes(&[
            ("latin.md", b"one\ntwo \xe9\n"),
            ("weights.safetensors", b"\xff\xfe\r\n"),
            ("dos.csv", b"a\r\nb\n"),
            ("fine.csv", "東京\n".as_bytes()),
        ]);
        assert_eq!(places(&check(&repo)), ["dos.csv:1", "latin.md:2"]);
    }

    #[test]
    fn hosts_are_found_outside_the_lock_file() {
        let lines: Vec<String> = HOSTS.iter().map(|(name, domain)| format!("see https://{name}.{domain}/x")).collect();
        let text = lines.join("\n");
        let repo = repo(&[("a.md", &text), ("Cargo.lock", &text), ("b.md", "hf.com and shf.code and example.org\n")]);
        let expected: Vec<String> = (1..=HOSTS.len()).map(|line| format!("a.md:{line}")).collect();
        assert_eq!(places(&check(&repo)), expected);
    }

    #[test]
    fn machine_paths_and_merge_markers_are_found() {
        let [work, home] = [ROOTS[0], ROOTS[1]];
        let text = format!("/{work}/x\nsee '/{home}/me/x'\nfrom frame/{work}/x and a.org/{home}/x\n~/{home}/x\n");
        let merge = format!("{} HEAD\n=======\n{} other\n", "<".repeat(7), ">".repeat(7));
        let repo = repo(&[("a.md", &text), ("b.md", &merge)]);
        assert_eq!(places(&check(&repo)), ["a.md:1", "a.md:2", "b.md:1", "b.md:3"]);
    }
}
