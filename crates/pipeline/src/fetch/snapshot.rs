//! Which files of a repository a model or an SAE needs, taken from one commit.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use hf_hub::{Repo, RepoType};

use super::Progress;
use super::cache::RepoCache;
use super::client::go_on;
use super::errors::FetchError;
use super::hub::Hub;

/// The branch that is meant when no revision is given.
const DEFAULT_REVISION: &str = "main";
const MAX_NAME_BYTES: usize = 512;
/// Largest index of shards that is read; Llama-3.1-405B has 0.1 MB.
const MAX_INDEX_BYTES: u64 = 64 << 20;
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// True if `id` has the form of a hub id, `owner/name` or `owner/name/path/file.gguf`, and no file or folder of that
/// name exists.
pub fn looks_like_hub_id(id: &str) -> bool {
    split_id(id).is_some() && !is_local(Path::new(id))
}

/// Whether something of that name is on this machine: a link that leads nowhere, or round and round, is, and what is wrong
/// with it is said when it is opened.
pub(crate) fn is_local(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Fetches what a model needs and returns the folder that holds it (for `owner/name/file.gguf`: the file).
///
/// `config.json`, `tokenizer.json`, and where the repository has them `tokenizer_config.json` and
/// `generation_config.json`; then `model.safetensors`, or of its shards those with a tensor for which `needed` is true.
/// `revision` is a branch, tag or commit. What the cache has is used as it is and costs no request: a branch stays at the
/// commit it was first fetched at.
///
/// Errors: see [`FetchError`]; what has arrived is kept, a repeated call goes on from there.
pub fn fetch_model(
    hub: &Hub,
    id: &str,
    revision: Option<&str>,
    needed: impl Fn(&str) -> bool,
    progress: &dyn Progress,
) -> Result<PathBuf, FetchError> {
    let (repo, gguf) = split_id(id).ok_or_else(|| FetchError::Name {
        name: id.to_owned(),
        expected: "a hub id: owner/name, or owner/name/file.gguf for one GGUF file",
    })?;
    let mut snapshot = Snapshot::new(hub, repo, revision, progress)?;
    if let Some(gguf) = gguf {
        return snapshot.required(gguf);
    }
    if snapshot.optional("config.json")?.is_none() {
        return Err(snapshot.no_weights());
    }
    snapshot.required("tokenizer.json")?;
    snapshot.optional("tokenizer_config.json")?;
    snapshot.optional("generation_config.json")?;
    if snapshot.optional(WEIGHTS)?.is_none() {
        let index = snapshot.optional(INDEX)?.ok_or_else(|| snapshot.no_weights())?;
        for shard in shards(&index, needed)? {
            snapshot.required(&shard)?;
        }
    }
    Ok(snapshot.folder())
}

/// Fetches `files` of an SAE repository and returns the folder that holds them, at their own paths.
///
/// Revision, cache and errors as in [`fetch_model`].
pub fn fetch_sae(
    hub: &Hub,
    repo: &str,
    revision: Option<&str>,
    files: &[String],
    progress: &dyn Progress,
) -> Result<PathBuf, FetchError> {
    let mut snapshot = Snapshot::new(hub, repo, revision, progress)?;
    for file in files {
        snapshot.required(file)?;
    }
    Ok(snapshot.folder())
}

/// The shards that hold a needed tensor.
fn shards(index: &Path, needed: impl Fn(&str) -> bool) -> Result<BTreeSet<String>, FetchError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let bad = |problem: String| FetchError::Index { path: index.to_owned(), problem };
    let bytes = fs::metadata(index).map_err(FetchError::disk(index))?.len();
    if bytes > MAX_INDEX_BYTES {
        return Err(bad(format!("an index of at most {MAX_INDEX_BYTES} bytes was expected, this one has {bytes}")));
    }
    let file = BufReader::new(File::open(index).map_err(FetchError::disk(index))?);
    let index: Index = serde_json::from_reader(file).map_err(|error| bad(error.to_string()))?;
    Ok(index.weight_map.into_iter().filter(|(tensor, _)| needed(tensor)).map(|(_, shard)| shard).collect())
}

/// One repository at one commit, which the first file settles: no mixture of two versions can arise.
struct Snapshot<'a> {
    hub: &'a Hub,
    repo: &'a str,
    revision: &'a str,
    cache: RepoCache,
    commit: Option<String>,
    progress: &'a dyn Progress,
}

impl<'a> Snapshot<'a> {
    fn new(
        hub: &'a Hub,
        repo: &'a str,
        revision: Option<&'a str>,
        progress: &'a dyn Progress,
    ) -> Result<Self, FetchError> {
        if !matches!(split_id(repo), Some((_, None))) {
            return Err(FetchError::Name { name: repo.to_owned(), expected: "a repository of the form owner/name" });
        }
        let revision = revision.unwrap_or(DEFAULT_REVISION);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
        if !is_inner_path(revision) || !revision.bytes().all(plain) {
            return Err(FetchError::Name { name: revision.to_owned(), expected: "a branch, tag or commit" });
        }
        let cache = RepoCache::new(&hub.cache, &Repo::new(repo.to_owned(), RepoType::Model));
        let commit = cache.commit(revision);
        Ok(Snapshot { hub, repo, revision, cache, commit, progress })
    }

    fn folder(&self) -> PathBuf {
        self.cache.snapshot(self.commit.as_deref().unwrap_or(self.revision))
    }

    /// The file, from the cache or the hub.
    fn required(&mut self, file: &str) -> Result<PathBuf, FetchError> {
        if let Some(path) = self.cached(file)? {
            return Ok(path);
        }
        if self.hub.offline {
            let cache = self.hub.cache.clone();
            return Err(FetchError::Offline { repo: self.repo.to_owned(), file: file.to_owned(), cache });
        }
        self.fetch(file)?.ok_or_else(|| FetchError::NotFound {
            what: format!("file `{file}` of {} at revision `{}`", self.repo, self.revision),
            page: self.hub.page(self.repo),
        })
    }

    /// The file, or none if the repository has none.
    fn optional(&mut self, file: &str) -> Result<Option<PathBuf>, FetchError> {
        let known_missing = self.commit.as_ref().is_some_and(|commit| self.cache.known_missing(commit, file));
        match self.cached(file)? {
            None if known_missing || self.hub.offline => Ok(None),
            None => self.fetch(file),
            found => Ok(found),
        }
    }

    fn cached(&self, file: &str) -> Result<Option<PathBuf>, FetchError> {
        if !is_inner_path(file) {
            return Err(FetchError::Name { name: file.to_owned(), expected: "a path inside a repository" });
        }
        Ok(self.commit.as_ref().and_then(|commit| self.cache.file(commit, file)))
    }

    fn fetch(&mut self, file: &str) -> Result<Option<PathBuf>, FetchError> {
        let revision = self.commit.as_deref().unwrap_or(self.revision);
        let Some(head) = self.hub.head(self.repo, revision, file, self.progress)? else {
            if let Some(commit) = &self.commit {
                self.cache.mark_missing(commit, file)?;
            }
            return Ok(None);
        };
        let commit = self.commit.get_or_insert_with(|| head.commit.clone());
        let blob = self.cache.blob(&head.etag);
        let lock = self.cache.lock(&head.etag, || go_on(file, self.progress))?;
        if !blob.is_file() {
            let part = blob.with_extension("part");
            self.hub.download(&head, file, &part, self.progress)?;
            fs::rename(&part, &blob).map_err(FetchError::disk(&blob))?;
        }
        let path = self.cache.link(&head.etag, commit, file)?;
        drop(lock);
        self.cache.write_ref(self.revision, commit)?;
        Ok(Some(path))
    }

    /// Why there is nothing to load: offline, no such repository, or GGUF files only.
    fn no_weights(&self) -> FetchError {
        let repo = self.repo.to_owned();
        if self.hub.offline {
            return FetchError::Offline { repo, file: WEIGHTS.into(), cache: self.hub.cache.clone() };
        }
        match self.hub.files_ending(self.repo, self.revision, ".gguf", self.progress) {
            Ok(gguf) => FetchError::NoWeights { repo, gguf },
            Err(error) => error,
        }
    }
}

/// `owner/name` and, if a third part follows, the GGUF file that it names.
fn split_id(id: &str) -> Option<(&str, Option<&str>)> {
    let (owner, rest) = id.split_once('/')?;
    let name = rest.split('/').next()?;
    let file = rest[name.len()..].strip_prefix('/');
    let file_is_gguf = file.is_none_or(|file| is_inner_path(file) && file.to_lowercase().ends_with(".gguf"));
    let repo = &id[..owner.len() + 1 + name.len()];
    (is_name(owner) && is_name(name) && file_is_gguf).then_some((repo, file))
}

/// A part of a repository's id, by the hub's own rule.
fn is_name(part: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let edge = |end: Option<&u8>| end.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let (first, last) = (part.as_bytes().first(), part.as_bytes().last());
    part.len() <= 96
        && part.bytes().all(allowed)
        && edge(first)
        && edge(last)
        && !part.contains("--")
        && !part.contains("..")
}

/// A relative path that stays inside the folder it is joined to, on every system.
fn is_inner_path(path: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&path.len())
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !path.contains(|c: char| c.is_control() || matches!(c, '\\' | ':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_ids_and_other_things() {
        assert_eq!(split_id("meta-llama/Llama-3.1-8B"), Some(("meta-llama/Llama-3.1-8B", None)));
        assert_eq!(split_id("o/n/q/f.Q4_1.gguf"), Some(("o/n", Some("q/f.Q4_1.gguf"))));
        for bad in
            ["", "gpt2", "/a/b", "./a/b", "../b", "~/b", "a/b/", "a/b/c", "a b/c", "a/b/../c.gguf", "a\\b/c", "é/b"]
        {
            assert_eq!(split_id(bad), None, "{bad}");
        }
        assert!(looks_like_hub_id("owner/name"));
        assert!(!looks_like_hub_id("src/lib.rs"), "an existing path is a path");
    }

    #[test]
    fn only_shards_with_needed_tensors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(INDEX);
        fs::write(&path, r#"{"metadata":{"total_size":9},"weight_map":{"l.0":"a","l.1":"b","l.2":"c","h":"c"}}"#)
            .unwrap();
        let names: Vec<_> = shards(&path, |tensor| tensor != "l.1").unwrap().into_iter().collect();
        assert_eq!(names, ["a", "c"]);
        fs::write(&path, r#"{"weight_map":{"l.0":7}}"#).unwrap();
        assert!(matches!(shards(&path, |_| true), Err(FetchError::Index { .. })));
    }
}
