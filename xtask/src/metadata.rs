//! What `cargo metadata` tells about the workspace and everything that it pulls in.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

/// One package: a member of the workspace or a dependency.
#[derive(Debug, Clone, Default)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Whether it comes from outside the repository.
    pub foreign: bool,
    /// Its licence as an SPDX expression, if it names one.
    pub license: Option<String>,
    /// Its manifest, from the root of the repository.
    pub manifest: String,
    /// What its manifest depends on.
    pub dependencies: Vec<Dependency>,
}

/// One dependency as a manifest names it.
#[derive(Debug, Clone)]
pub struct Dependency {
    /// Name of the package.
    pub name: String,
    /// Whether only tests, examples and benches have it.
    pub dev: bool,
}

/// The members of the workspace.
pub fn members(root: &Path) -> anyhow::Result<Vec<Package>> {
    parse(root, &cargo(root, &["--no-deps"])?)
}

/// The members and every package that they pull in, on any platform. Needs no network once `cargo fetch` was run.
pub fn everything(root: &Path) -> anyhow::Result<Vec<Package>> {
    parse(root, &cargo(root, &["--locked"])?)
}

fn cargo(root: &Path, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    let output = command.current_dir(root).args(["metadata", "--format-version", "1"]).args(arguments).output();
    let output = output.context("cannot run cargo metadata")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata {}: {}", arguments.join(" "), said.trim());
    Ok(output.stdout)
}

/// Reads the answer of `cargo metadata --format-version 1`.
pub fn parse(root: &Path, json: &[u8]) -> anyhow::Result<Vec<Package>> {
    let answer: Value = serde_json::from_slice(json).context("cargo metadata did not answer in JSON")?;
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let package = |package: &Value| Package {
        name: text(package, "name"),
        version: text(package, "version"),
        foreign: !package["source"].is_null(),
        license: package["license"].as_str().map(str::to_owned),
        manifest: {
            let path = text(package, "manifest_path");
            let relative = Path::new(&path).strip_prefix(root).map(|path| path.to_string_lossy().into_owned());
            relative.unwrap_or(path)
        },
        dependencies: list(package, "dependencies")
            .iter()
            .map(|dependency| Dependency { name: text(dependency, "name"), dev: dependency["kind"] == "dev" })
            .collect(),
    };
    Ok(list(&answer, "packages").iter().map(package).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_real_workspace_answers_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"one\", \"two\"]\n");
        let package = |name: &str| format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nlicense = \"MIT\"\n");
        write("one/Cargo.toml", &(package("one") + "[dev-dependencies]\ntwo = { path = \"../two\" }\n"));
        write("two/Cargo.toml", &package("two"));
        write("one/src/lib.rs", "");
        write("two/src/lib.rs", "");

        let members = members(&root).unwrap();
        let one = members.iter().find(|package| package.name == "one").unwrap();
        assert_eq!(
            (one.manifest.as_str(), one.license.as_deref(), one.foreign),
            ("one/Cargo.toml", Some("MIT"), false)
        );
        assert_eq!(one.dependencies.len(), 1);
        assert!(one.dependencies[0].name == "two" && one.dependencies[0].dev);
        // No lock file yet: the locked answer is refused, and cargo's own words say why.
        let error = everything(&root).unwrap_err().to_string();
        assert!(error.contains("--locked"), "{error}");
    }
}
