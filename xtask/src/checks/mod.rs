//! The checks, one question each: repository in, findings out.

mod arrows;
mod documents;
mod libraries;
mod licences;
pub mod safety;
mod sources;
mod text;

use crate::metadata;
use crate::repo::{Finding, Repo};

/// Every finding of every check.
pub fn all(repo: &Repo) -> anyhow::Result<Vec<Finding>> {
    let files = [libraries::check, safety::check, sources::check, documents::check, text::check];
    let mut findings: Vec<Finding> = files.iter().flat_map(|check| check(repo)).collect();
    findings.extend(arrows::check(repo, &metadata::members(&repo.root)?));
    findings.extend(licences::check(repo, &metadata::everything(&repo.root)?)?);
    Ok(findings)
}
