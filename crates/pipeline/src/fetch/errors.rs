//! Why a download failed, and the way out. No variant can hold the token or a signed address.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// A failed fetch. `repo` is `owner/name`, `page` an address to open in a browser.
#[derive(Debug, Error)]
pub enum FetchError {
    /// A name that cannot be asked for, or that must not become a path in the cache.
    #[error("`{name}` is not {expected}")]
    Name {
        /// The name as it was given or read.
        name: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// An option that cannot be used. Its value is not shown, it may hold a secret.
    #[error("{setting} {problem}")]
    Setting {
        /// The environment variable that fills the option.
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The network is forbidden and the cache does not have the file.
    #[error(
        "`{file}` of {repo} is not in the cache {} and HF_HUB_OFFLINE forbids to fetch it: unset it once, or name a \
         local folder instead of an id", cache.display()
    )]
    Offline {
        /// Repository asked for.
        repo: String,
        /// File that is missing.
        file: String,
        /// Folder that was looked through.
        cache: PathBuf,
    },
    /// 401: nobody said who asks, or the hub does not know the token.
    #[error("the hub refuses {repo} (401): {}", unauthorized(*token_sent, page, tokens_page))]
    Unauthorized {
        /// Repository asked for.
        repo: String,
        /// The repository's page, where a licence can be accepted.
        page: String,
        /// The page that makes tokens.
        tokens_page: String,
        /// Whether a token went with the request.
        token_sent: bool,
    },
    /// 403: the token is known but has no right to this repository.
    #[error(
        "the hub refuses {repo} (403): this token's account has not been granted access. Open {page}, accept the licence \
         (some owners take a while to answer), see that the token may read gated repositories, and run again"
    )]
    Forbidden {
        /// Repository asked for.
        repo: String,
        /// The page where the licence is accepted.
        page: String,
    },
    /// 404.
    #[error("{what} does not exist (404): check the spelling at {page}")]
    NotFound {
        /// The repository, revision or file, named.
        what: String,
        /// The repository's page.
        page: String,
    },
    /// A repository without safetensors weights.
    #[error("{repo} has no safetensors weights{}", gguf_advice(repo, gguf))]
    NoWeights {
        /// Repository asked for.
        repo: String,
        /// The GGUF files that it has instead.
        gguf: Vec<String>,
    },
    /// No answer from the host at all.
    #[error(
        "{host} could not be reached ({reason}): check the network, set HF_ENDPOINT to a mirror, or name a local folder \
         instead of an id{}", if reason.contains("certificate") { "; REQUESTS_CA_BUNDLE names your network's own CA file" } else { "" }
    )]
    Unreachable {
        /// Host, and port where there is one.
        host: String,
        /// What the network said.
        reason: String,
    },
    /// The host answered with an error, and went on doing so.
    #[error(
        "{host} answered {status} for `{file}`{}", if *status == 429 { ": too many requests, try again in some minutes" }
        else if *status >= 500 { ": the server has a problem, try again later" } else { "" }
    )]
    Status {
        /// Host that answered.
        host: String,
        /// HTTP status.
        status: u16,
        /// File asked for.
        file: String,
    },
    /// The host answered, but not as a hub does.
    #[error("{host} does not answer as a hub does: {problem}. Is HF_ENDPOINT right, or does a proxy stand between?")]
    Reply {
        /// Host that answered.
        host: String,
        /// What was expected and what came.
        problem: String,
    },
    /// The connection broke again and again.
    #[error("`{file}` broke off at {done} of {total} bytes ({reason}): run again, it goes on from there")]
    Interrupted {
        /// File asked for.
        file: String,
        /// Bytes that are kept in the cache.
        done: u64,
        /// Bytes that the file has.
        total: u64,
        /// What the network said.
        reason: String,
    },
    /// The host announced two sizes for one file; nothing is kept.
    #[error("`{file}` should have {expected} bytes and {found} were offered: the download was thrown away, run again")]
    Size {
        /// File asked for.
        file: String,
        /// Bytes announced.
        expected: u64,
        /// Bytes offered afterwards.
        found: u64,
    },
    /// What arrived is not what the hub has; nothing is kept.
    #[error("`{file}` arrived damaged (sha256 {found}, the hub has {expected}): it was thrown away, run again")]
    Hash {
        /// File asked for.
        file: String,
        /// The hub's sha256, in hex.
        expected: String,
        /// The sha256 of what arrived.
        found: String,
    },
    /// `model.safetensors.index.json` cannot be used.
    #[error("{}: {problem}", path.display())]
    Index {
        /// The index file in the cache.
        path: PathBuf,
        /// What was expected and what was found.
        problem: String,
    },
    /// The cache cannot be read or written.
    #[error("{}: {source}{}", path.display(), disk_advice(source.kind()))]
    Disk {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// [`Progress::cancelled`](super::Progress::cancelled) said so.
    #[error("`{file}` was cancelled: what has arrived is kept")]
    Cancelled {
        /// File that was under way.
        file: String,
    },
}

impl FetchError {
    /// Turns the error of a file operation on `path` into [`FetchError::Disk`].
    pub(super) fn disk(path: &std::path::Path) -> impl FnOnce(io::Error) -> FetchError {
        let path = path.to_path_buf();
        |source| FetchError::Disk { path, source }
    }
}

fn unauthorized(token_sent: bool, page: &str, tokens_page: &str) -> String {
    if token_sent {
        format!("it does not accept the token. Make a new one at {tokens_page} and put HF_TOKEN=... in .env")
    } else {
        format!(
            "it is gated, private or does not exist. Check the spelling; open {page} and accept the licence if it asks \
             for that; make a token at {tokens_page} and put HF_TOKEN=... in .env"
        )
    }
}

fn gguf_advice(repo: &str, gguf: &[String]) -> String {
    match gguf.first() {
        None => ": a model needs config.json, tokenizer.json and model.safetensors".into(),
        Some(first) => format!(": name one of its GGUF files as {repo}/{first} (it has {})", gguf.join(", ")),
    }
}

/// What to do about an error of the disk; shared with the wheels.
pub(super) fn disk_advice(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ": the disk is full; make room, or set HF_HOME to a folder on a larger disk, and run again"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ": set HF_HOME to a folder that can be written"
        }
        _ => "",
    }
}
