//! The licences that come in: every package of the lock file against the lists in `deny.toml`, on any platform.
//!
//! Expressions are SPDX (annex D of the specification: `OR`, `AND`, `WITH`, parentheses), with the `/` that older
//! manifests use for `OR`.

use anyhow::Context;
use toml::{Table, Value};

use crate::metadata::Package;
use crate::repo::{Finding, Repo};

const LISTS: &str = "deny.toml";
const LOCK: &str = "Cargo.lock";

/// Foreign packages whose licence the lists do not allow, and exceptions that nothing needs any more.
pub fn check(repo: &Repo, packages: &[Package]) -> anyhow::Result<Vec<Finding>> {
    let lists: Table = repo.text(LISTS).unwrap_or_default().parse().with_context(|| LISTS.to_owned())?;
    let licenses = lists.get("licenses");
    let allowed = strings(licenses.and_then(|table| table.get("allow")));
    let exceptions = licenses.and_then(|table| table.get("exceptions")).and_then(Value::as_array);
    let exceptions: Vec<(&str, Vec<&str>)> = exceptions
        .into_iter()
        .flatten()
        .map(|entry| (entry.get("crate").and_then(Value::as_str).unwrap_or_default(), strings(entry.get("allow"))))
        .collect();

    let lock = repo.text(LOCK).unwrap_or_default();
    let mut findings = Vec::new();
    for package in packages.iter().filter(|package| package.foreign) {
        let Some(expression) = &package.license else {
            let what = format!("{} {} names no licence", package.name, package.version);
            findings.push(Finding::new(LOCK, line_in_lock(lock, package), what, "take another package"));
            continue;
        };
        let excepted = exceptions.iter().filter(|(name, _)| *name == package.name).flat_map(|(_, allow)| allow);
        let may: Vec<&str> = allowed.iter().chain(excepted).copied().collect();
        if !allows(expression, &may) {
            let what = format!("{} {} is under {expression}", package.name, package.version);
            let way_out = format!("take another package, or allow the licence in {LISTS} with a reason");
            findings.push(Finding::new(LOCK, line_in_lock(lock, package), what, way_out));
        }
    }
    for (name, _) in exceptions {
        if !packages.iter().any(|package| package.name == name) {
            let line = repo.text(LISTS).and_then(|text| text.lines().position(|line| line.contains(name)));
            let what = format!("an exception for {name}, which nothing uses");
            findings.push(Finding::new(LISTS, line.map_or(1, |at| at + 1), what, "delete it"));
        }
    }
    Ok(findings)
}

fn strings(value: Option<&Value>) -> Vec<&str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn line_in_lock(lock: &str, package: &Package) -> usize {
    let [name, version] =
        [("name", &package.name), ("version", &package.version)].map(|(k, v)| format!("{k} = \"{v}\""));
    let lines: Vec<&str> = lock.lines().collect();
    lines.windows(2).position(|pair| *pair == [name.as_str(), version.as_str()]).map_or(1, |at| at + 1)
}

/// Whether a choice that the expression leaves can be met with the allowed licences alone. What does not parse is not.
fn allows(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    either(&mut rest, allowed) == Some(true) && rest.is_empty()
}

fn either(rest: &mut &[&str], allowed: &[&str]) -> Option<bool> {
    let mut met = both(rest, allowed)?;
    while let ["OR", tail @ ..] = *rest {
        *rest = tail;
        met |= both(rest, allowed)?;
    }
    Some(met)
}

fn both(rest: &mut &[&str], allowed: &[&str]) -> Option<bool> {
    let mut met = one(rest, allowed)?;
    while let ["AND", tail @ ..] = *rest {
        *rest = tail;
        met &= one(rest, allowed)?;
    }
    Some(met)
}

fn one(rest: &mut &[&str], allowed: &[&str]) -> Option<bool> {
    match *rest {
        ["(", tail @ ..] => {
            *rest = tail;
            let met = either(rest, allowed)?;
            *rest = rest.strip_prefix(&[")"])?;
            Some(met)
        }
        [license, "WITH", exception, tail @ ..] => {
            *rest = tail;
            Some(allowed.contains(&format!("{license} WITH {exception}").as_str()))
        }
        [license, tail @ ..] => {
            *rest = tail;
            Some(allowed.contains(license))
        }
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::testing::repo;

    #[test]
    fn expressions() {
        let allowed = ["MIT", "Apache-2.0", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"];
        for yes in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0-only OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0-only",
            "GPL-3.0-only AND MIT OR MIT",
        ] {
            assert!(allows(yes, &allowed), "{yes}");
        }
        for no in [
            "",
            "GPL-3.0-only",
            "MIT AND GPL-3.0-only",
            "MIT OR",
            "(MIT",
            "MIT)",
            "MIT MIT",
            "GPL-2.0-only WITH Classpath-exception-2.0",
            "MIT AND (GPL-3.0-only OR AGPL-3.0-only)",
        ] {
            assert!(!allows(no, &allowed), "{no}");
        }
    }

    fn package(name: &str, license: Option<&str>) -> Package {
        let license = license.map(str::to_owned);
        Package { name: name.into(), version: "1.0.0".into(), foreign: true, license, ..Package::default() }
    }

    #[test]
    fn what_the_lists_do_not_allow_is_found_where_it_is_locked() {
        let repo = repo(&[
            (
                "deny.toml",
                "[licenses]\nallow = [\"MIT\"]\nexceptions = [\n  { crate = \"odd\", allow = [\"MPL-2.0\"] },\n  { crate = \"gone\", allow = [\"MPL-2.0\"] },\n]\n",
            ),
            ("Cargo.lock", "[[package]]\nname = \"bad\"\nversion = \"1.0.0\"\n"),
        ]);
        let packages = [
            package("good", Some("MIT")),
            package("odd", Some("MPL-2.0")),
            package("bad", Some("GPL-3.0-only")),
            package("silent", None),
        ];
        let findings: Vec<String> = check(&repo, &packages).unwrap().iter().map(Finding::to_string).collect();
        assert_eq!(findings.len(), 3, "{findings:?}");
        assert!(findings[0].starts_with("Cargo.lock:2: bad 1.0.0 is under GPL-3.0-only"), "{}", findings[0]);
        assert!(findings[1].contains("silent 1.0.0 names no licence"), "{}", findings[1]);
        assert!(findings[2].starts_with("deny.toml:5: an exception for gone"), "{}", findings[2]);
    }

    #[test]
    fn without_lists_nothing_is_allowed() {
        assert_eq!(check(&repo(&[]), &[package("good", Some("MIT"))]).unwrap().len(), 1);
    }
}
