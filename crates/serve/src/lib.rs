//! The local web server: the runs of a folder as JSON under `/api/v1`, the page that shows them, and typed sentences.
//!
//! Knows nothing of argv or stdout. It listens on 127.0.0.1 alone and sends nothing anywhere.

mod answer;
mod api;
mod ask;
mod assets;
mod explored;
mod guard;
pub mod library;
mod problem;
pub mod server;

pub use api::OPENAPI;
pub use library::{Library, LibraryError, Settings};
pub use problem::{Code, Problem};
pub use server::{FIRST_PORT, ServeError, Server, router};
