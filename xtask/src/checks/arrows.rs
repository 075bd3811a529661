//! Which room may know which: the table of ARCHITECTURE.md, held to the manifests.

use crate::metadata::{Dependency, Package};
use crate::repo::{Finding, Repo};

/// Rank of every room: an arrow points to a lower rank, never sideways or up.
const RANKS: [(&str, u8); 9] = [
    ("record", 0),
    ("compute", 0),
    ("weights", 1),
    ("model", 2),
    ("sae", 2),
    ("report", 2),
    ("pipeline", 3),
    ("serve", 4),
    ("app", 5),
];

/// Arrows that point down and are forbidden all the same, because of what the room must not know.
const FORBIDDEN: [(&str, &str, &str); 3] = [
    ("report", "compute", "report knows no tensors"),
    ("report", "weights", "report knows no files of weights"),
    ("app", "compute", "app does not know how anything is computed"),
];

/// Foreign packages that only these rooms may have outside tests.
const ONLY_IN: [(&str, &[&str]); 14] = [
    ("anyhow", &["app", "xtask"]),
    ("clap", &["app"]),
    ("ctrlc", &["app"]),
    ("indicatif", &["app"]),
    ("ratatui", &["app"]),
    ("resvg", &["report"]),
    ("axum", &["serve"]),
    ("tokio", &["serve"]),
    ("hf-hub", &["pipeline"]),
    ("ureq", &["pipeline"]),
    ("tokenizers", &["model"]),
    ("safetensors", &["weights"]),
    // Weights, and the index of a run: files that are larger than memory and read here and there.
    ("memmap2", &["weights", "record"]),
    ("half", &["compute", "weights"]),
];

const PREFIX: &str = "llamascope-";

/// Dependencies that no arrow of the table allows.
pub fn check(repo: &Repo, members: &[Package]) -> Vec<Finding> {
    members
        .iter()
        .flat_map(|member| {
            let room = member.name.strip_prefix(PREFIX).unwrap_or(&member.name);
            if room == "fuzz" {
                // It feeds every room, and holds some against foreign readers of the same formats.
                return Vec::new();
            }
            if rank(room).is_none() && room != "xtask" {
                let way_out = "give it a rank in xtask/src/checks/arrows.rs and a row in ARCHITECTURE.md";
                return vec![Finding::new(&member.manifest, 1, format!("the room {room} has no rank"), way_out)];
            }
            let faults = member.dependencies.iter().filter_map(|dependency| {
                let (what, way_out) = fault(room, dependency)?;
                let line = line_of_dependency(repo.text(&member.manifest).unwrap_or_default(), &dependency.name);
                Some(Finding::new(&member.manifest, line, what, way_out))
            });
            faults.collect()
        })
        .collect()
}

fn rank(room: &str) -> Option<u8> {
    RANKS.iter().find(|(name, _)| *name == room).map(|(_, rank)| *rank)
}

fn fault(room: &str, dependency: &Dependency) -> Option<(String, String)> {
    let Some(other) = dependency.name.strip_prefix(PREFIX) else {
        let (_, rooms) = ONLY_IN.iter().find(|(name, _)| *name == dependency.name)?;
        let refused = !dependency.dev && !rooms.contains(&room);
        let what = format!("{room} depends on {}", dependency.name);
        return refused.then(|| (what, format!("only {} may: move the code there", rooms.join(" and "))));
    };
    if let Some((.., reason)) = FORBIDDEN.iter().find(|(from, to, _)| *from == room && *to == other) {
        return Some((format!("{room} depends on {other}"), format!("{reason}: move the code to the room that does")));
    }
    // xtask stands apart: it checks the rooms and uses none.
    let down = rank(room).is_some_and(|from| rank(other).is_some_and(|to| to < from));
    let way_out = "an arrow may only point down: move the shared noun down or the joining code up";
    (!down).then(|| (format!("{room} depends on {other}"), way_out.to_owned()))
}

fn line_of_dependency(manifest: &str, name: &str) -> usize {
    let names = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['.', ' ', '=']));
    manifest.lines().position(|line| names(line.trim_start())).map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::testing::{places, repo};

    fn member(room: &str, dependencies: &[(&str, bool)]) -> Package {
        Package {
            name: if room == "xtask" { room.to_owned() } else { format!("{PREFIX}{room}") },
            manifest: format!("crates/{room}/Cargo.toml"),
            dependencies: dependencies.iter().map(|&(name, dev)| Dependency { name: name.to_owned(), dev }).collect(),
            ..Package::default()
        }
    }

    fn faults(room: &str, dependencies: &[(&str, bool)]) -> Vec<String> {
        let findings = check(&repo(&[]), &[member(room, dependencies)]);
        findings.into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn arrows_point_down() {
        let below = [("llamascope-record", false), ("llamascope-compute", false), ("llamascope-weights", true)];
        assert!(faults("model", &below).is_empty());
        assert!(faults("pipeline", &[("llamascope-sae", false), ("hf-hub", false)]).is_empty());
    }

    #[test]
    fn sideways_up_and_into_nowhere_are_refused_in_tests_too() {
        assert_eq!(faults("record", &[("llamascope-compute", false)]), ["record depends on compute"]);
        assert_eq!(faults("sae", &[("llamascope-model", true)]), ["sae depends on model"]);
        assert_eq!(faults("weights", &[("llamascope-pipeline", false)]), ["weights depends on pipeline"]);
        assert_eq!(faults("app", &[("llamascope-elsewhere", false)]), ["app depends on elsewhere"]);
        assert_eq!(faults("xtask", &[("llamascope-record", false)]), ["xtask depends on record"]);
        assert_eq!(faults("report", &[("llamascope-compute", false)]), ["report depends on compute"]);
    }

    #[test]
    fn foreign_packages_stay_in_their_rooms_outside_tests() {
        assert_eq!(faults("sae", &[("anyhow", false), ("serde", false)]), ["sae depends on anyhow"]);
        assert_eq!(faults("record", &[("safetensors", false)]), ["record depends on safetensors"]);
        assert!(faults("sae", &[("safetensors", true)]).is_empty());
        assert!(faults("xtask", &[("anyhow", false)]).is_empty());
    }

    #[test]
    fn the_fuzz_targets_reach_everything() {
        assert!(faults("fuzz", &[("llamascope-serve", false), ("safetensors", false), ("axum", false)]).is_empty());
        assert_eq!(faults("record", &[("llamascope-fuzz", true)]), ["record depends on fuzz"]);
    }

    #[test]
    fn a_new_room_needs_a_rank() {
        assert_eq!(faults("attic", &[]), ["the room attic has no rank"]);
    }

    #[test]
    fn the_line_is_the_manifest_s() {
        let manifest = "[dependencies]\nanyhowever = \"1\"\nanyhow.workspace = true\n";
        let repo = repo(&[("crates/sae/Cargo.toml", manifest)]);
        let findings = check(&repo, &[member("sae", &[("anyhow", false)])]);
        assert_eq!(places(&findings), ["crates/sae/Cargo.toml:3"]);
    }
}
