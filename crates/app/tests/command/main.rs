//! The binary as a whole: what is typed, what comes back on stdout and stderr, the exit code, and what lies on the disk.

mod bench;
mod config;
mod explore;
mod files;
#[cfg(unix)]
mod full_disk;
mod hub;
mod index;
mod input;
mod normal;
mod pictures;
#[cfg(unix)]
mod resume;
mod shell;
#[cfg(unix)]
mod signals;
mod train;
#[cfg(unix)]
mod view;
