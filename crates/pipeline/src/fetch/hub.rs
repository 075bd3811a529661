//! The hub's protocol: what a file is (`HEAD`), and its bytes (`GET` with `Range`), over `ureq`.
//!
//! Addresses come from the `hf-hub` crate. Its own transfer (0.5) is not used: after a redirect it sends the token to
//! the storage host, it checks neither size nor hash, cannot be cancelled, has no timeouts, and panics on hostile replies.
//! Source for headers and codes: `file_download.py` and `utils/_http.py` of Python's `huggingface_hub`.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use hf_hub::api::sync::ApiBuilder;
use hf_hub::{Cache, Repo, RepoType};
use ureq::Body;
use ureq::http::{Method, Response, StatusCode, Uri};

use super::cache::{is_commit, is_hex};
use super::client::{Client, Failure, go_on, host_of, pause, retry_after, retrying, setting, text};
use super::errors::FetchError;
use super::hash::sha256_of;
use super::{HubOptions, Progress};

const MAX_ETAG_BYTES: usize = 128;
/// Largest list of a repository's files that is read.
const MAX_LISTING_BYTES: u64 = 16 << 20;
const PIECE_BYTES: usize = 64 << 10;

/// A hub of models: where it is, who asks, and the cache of what it has given.
pub struct Hub {
    client: Client,
    pub(super) cache: PathBuf,
    pub(super) offline: bool,
}

/// What the hub says of one file before its bytes.
pub(super) struct Head {
    pub(super) commit: String,
    pub(super) etag: String,
    size: Option<u64>,
    url: String,
}

impl Hub {
    /// A hub as the options describe it. Does not touch the network.
    ///
    /// Errors: [`FetchError::Setting`] for an option that cannot be used, [`FetchError::Disk`] for an unreadable CA file.
    pub fn new(options: HubOptions) -> Result<Hub, FetchError> {
        let missing = || setting("HF_HOME", "must name a folder: no home folder was found");
        let cache = options.cache.clone().ok_or_else(missing)?;
        // `hf-hub` knows where the public hub is; nothing else of its client is used.
        let mut builder = ApiBuilder::from_cache(Cache::new(cache.clone())).with_token(None);
        if let Some(endpoint) = &options.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
        }
        let api = builder.build().map_err(|error| setting("HF_ENDPOINT", &error.to_string()))?;
        let url = api.model("x".into()).url("");
        let endpoint = url.strip_suffix("/x/resolve/main/").unwrap_or(&url).to_owned();
        Ok(Hub { client: Client::new(&options, endpoint)?, cache, offline: options.offline })
    }

    /// The repository's page in a browser.
    pub(super) fn page(&self, repo: &str) -> String {
        format!("{}/{repo}", self.client.endpoint)
    }

    /// Asks what `file` of `repo` is at `revision`; `None` when the repository has no such file.
    pub(super) fn head(
        &self,
        repo: &str,
        revision: &str,
        file: &str,
        progress: &dyn Progress,
    ) -> Result<Option<Head>, FetchError> {
        let at = Repo::with_revision(repo.to_owned(), RepoType::Model, revision.to_owned());
        let url =
            format!("{}/{}/resolve/{}/{}", self.client.endpoint, at.url(), at.url_revision(), percent_encode(file));
        let (response, host) = retrying(file, progress, || {
            let (response, uri) = self.client.send(Method::HEAD, &url, None, false)?;
            match response.status().as_u16() {
                // A redirect to the storage carries the headers as well.
                200..400 => Ok((response, host_of(&uri))),
                404 if error_code(&response).is_none_or(|code| code == "EntryNotFound") => {
                    Ok((response, host_of(&uri)))
                }
                _ => Err(self.refusal(&response, &uri, repo, revision, file)),
            }
        })?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let reply = |problem: &str| FetchError::Reply { host: host.clone(), problem: problem.to_owned() };
        let commit = text(&response, "x-repo-commit").filter(|commit| is_commit(commit));
        let etag = text(&response, "x-linked-etag").or_else(|| text(&response, "etag"));
        let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"')).filter(|etag| is_etag(etag));
        let size = text(&response, "x-linked-size")
            .or_else(|| text(&response, "content-length").filter(|_| response.status().is_success()));
        Ok(Some(Head {
            commit: commit.ok_or_else(|| reply("no commit in the header x-repo-commit"))?.to_owned(),
            etag: etag.ok_or_else(|| reply("no usable header etag"))?.to_owned(),
            size: size.map(str::parse).transpose().map_err(|_| reply("the file's size is not a number"))?,
            url,
        }))
    }

    /// Completes `part`, which may hold the beginning of the file already, and checks it.
    pub(super) fn download(
        &self,
        head: &Head,
        file: &str,
        part: &Path,
        progress: &dyn Progress,
    ) -> Result<(), FetchError> {
        let mut out = OpenOptions::new().append(true).create(true).open(part).map_err(FetchError::disk(part))?;
        let mut done = out.metadata().map_err(FetchError::disk(part))?.len();
        let mut total = head.size;
        if total.is_none_or(|total| done > total) {
            done = truncate(&out, part)?;
        }
        let mut failed = 0;
        while total != Some(done) {
            let before = done;
            if let Err(failure) = self.receive(head, file, (&mut out, part), &mut done, &mut total, progress) {
                if done > before {
                    failed = 0;
                }
                if matches!(failure.error, FetchError::Size { .. }) {
                    truncate(&out, part)?;
                }
                pause(failure, &mut failed, file, progress)?;
            }
        }
        out.sync_data().map_err(FetchError::disk(part))?;
        // The hub names large files by the sha256 of their contents, small ones by their git hash.
        if head.etag.len() == 64 && is_hex(&head.etag) {
            let found = sha256_of(part).map_err(FetchError::disk(part))?;
            if found != head.etag.to_lowercase() {
                truncate(&out, part)?;
                return Err(FetchError::Hash { file: file.into(), expected: head.etag.clone(), found });
            }
        }
        Ok(())
    }

    /// One `GET` from byte `done` to the end or to the first trouble.
    fn receive(
        &self,
        head: &Head,
        file: &str,
        (out, part): (&mut File, &Path),
        done: &mut u64,
        total: &mut Option<u64>,
        progress: &dyn Progress,
    ) -> Result<(), Failure> {
        let (response, uri) = self.client.send(Method::GET, &head.url, Some(*done), true)?;
        let host = host_of(&uri);
        let reply = |problem: &str| FetchError::Reply { host: host.clone(), problem: problem.to_owned() };
        let offered = match response.status() {
            StatusCode::OK => {
                *done = truncate(out, part)?;
                text(&response, "content-length").and_then(|size| size.parse().ok())
            }
            StatusCode::PARTIAL_CONTENT => {
                let (from, size) = text(&response, "content-range")
                    .and_then(content_range)
                    .ok_or_else(|| reply("the header content-range cannot be read"))?;
                if from != *done {
                    return Err(reply("another range was sent than was asked for").into());
                }
                size
            }
            // A signed address may have run out; the next attempt asks the hub for a new one.
            status => {
                return Err(Failure {
                    error: FetchError::Status { host, status: status.as_u16(), file: file.into() },
                    retry: Some(retry_after(&response)),
                });
            }
        };
        let size = total.or(offered).ok_or_else(|| reply("the file's size is not announced"))?;
        *total = Some(size);
        if let Some(found) = offered.filter(|&found| found != size) {
            return Err(FetchError::Size { file: file.into(), expected: size, found }.into());
        }
        progress.bytes(file, *done, size);
        let mut body = response.into_body().into_reader().take(size - *done);
        let mut piece = vec![0; PIECE_BYTES];
        while *done < size {
            go_on(file, progress)?;
            let broken = |reason: String| Failure {
                error: FetchError::Interrupted { file: file.into(), done: *done, total: size, reason },
                retry: Some(None),
            };
            let read = body.read(&mut piece).map_err(|error| broken(error.to_string()))?;
            if read == 0 {
                return Err(broken("the connection was closed".into()));
            }
            out.write_all(&piece[..read]).map_err(FetchError::disk(part))?;
            *done += read as u64;
            progress.bytes(file, *done, size);
        }
        Ok(())
    }

    /// The names of all files of `repo` that end with `suffix`, sorted.
    pub(super) fn files_ending(
        &self,
        repo: &str,
        revision: &str,
        suffix: &str,
        progress: &dyn Progress,
    ) -> Result<Vec<String>, FetchError> {
        #[derive(serde::Deserialize)]
        struct Info {
            siblings: Vec<hf_hub::api::Siblings>,
        }
        let at = Repo::with_revision(repo.to_owned(), RepoType::Model, revision.to_owned());
        let url = format!("{}/api/{}", self.client.endpoint, at.api_url());
        let (response, uri) = retrying("the list of files", progress, || {
            let (response, uri) = self.client.send(Method::GET, &url, None, false)?;
            if !response.status().is_success() {
                return Err(self.refusal(&response, &uri, repo, revision, "the list of files"));
            }
            Ok((response, uri))
        })?;
        let listing = response.into_body().into_reader().take(MAX_LISTING_BYTES);
        let info: Info = serde_json::from_reader(std::io::BufReader::new(listing)).map_err(|error| {
            FetchError::Reply { host: host_of(&uri), problem: format!("its list of files: {error}") }
        })?;
        let mut names: Vec<String> = info.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        names.retain(|name| name.ends_with(suffix));
        names.sort();
        Ok(names)
    }

    /// The meaning of a status that is an error.
    fn refusal(&self, response: &Response<Body>, uri: &Uri, repo: &str, revision: &str, file: &str) -> Failure {
        let (repo, page) = (repo.to_owned(), self.page(repo));
        let error = match (response.status().as_u16(), error_code(response)) {
            (401, _) => FetchError::Unauthorized {
                repo,
                page,
                tokens_page: format!("{}/settings/tokens", self.client.endpoint),
                token_sent: self.client.token.is_some(),
            },
            (403, _) => FetchError::Forbidden { repo, page },
            (404, Some("RevisionNotFound")) => {
                FetchError::NotFound { what: format!("revision `{revision}` of {repo}"), page }
            }
            (404, _) => FetchError::NotFound { what: format!("repository {repo}"), page },
            (status, _) => {
                let error = FetchError::Status { host: host_of(uri), status, file: file.to_owned() };
                let retry = (status == 429 || status >= 500).then(|| retry_after(response));
                return Failure { error, retry };
            }
        };
        error.into()
    }
}

fn error_code(response: &Response<Body>) -> Option<&str> {
    text(response, "x-error-code")
}

/// `bytes 5-9/10` is (5, 10); the size may be unknown.
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = value.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, size.parse().ok()))
}

/// An etag becomes a file name.
fn is_etag(etag: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=MAX_ETAG_BYTES).contains(&etag.len()) && etag.bytes().all(allowed)
}

fn percent_encode(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    path.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

fn truncate(file: &File, path: &Path) -> Result<u64, FetchError> {
    file.set_len(0).map_err(FetchError::disk(path)).map(|()| 0)
}
