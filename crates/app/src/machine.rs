//! What the program asks of the machine: memory, time, environment.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use llamascope_pipeline::fetch::{HubOptions, parse_dotenv};
use llamascope_pipeline::{Kernel, Surroundings};
use llamascope_record::open_file;

use crate::commands::Usage;

/// Budget where the system does not tell how much memory is free.
const UNKNOWN_MEMORY: u64 = 8 << 30;

/// Longest `.env` that is read, in bytes.
const DOTENV_LIMIT: u64 = 1 << 20;

/// Everything that a run needs to know of the machine and the moment.
///
/// # Errors
/// A `.env` that cannot be read, a kernel that does not exist.
pub fn surroundings() -> Result<Surroundings, Usage> {
    let (stamp, started) = now();
    let kernel = match std::env::var("LLAMASCOPE_KERNEL") {
        Ok(name) => Some(name.parse::<Kernel>().map_err(|error| Usage(format!("LLAMASCOPE_KERNEL: {error}")))?),
        Err(_) => None,
    };
    Ok(Surroundings {
        hub: hub_options()?,
        memory: free_memory().map_or(UNKNOWN_MEMORY, |free| free / 2),
        kernel,
        program: concat!("llamascope ", env!("CARGO_PKG_VERSION")).into(),
        stamp,
        started,
        peak_memory,
        disk: Default::default(),
    })
}

/// The hub as the environment and `.env` say; the environment wins.
///
/// # Errors
/// A `.env` that is there and cannot be read or understood.
pub fn hub_options() -> Result<HubOptions, Usage> {
    let dotenv = match read_dotenv() {
        Ok(text) => parse_dotenv(&text).map_err(|error| Usage(format!(".env: {error}")))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Usage(format!(".env: {error}"))),
    };
    let get = |name: &str| {
        let in_file = || dotenv.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        std::env::var(name).ok().or_else(in_file)
    };
    Ok(HubOptions::from_vars(get, home().as_deref()))
}

fn read_dotenv() -> io::Result<String> {
    let mut text = String::new();
    let read = open_file(Path::new(".env"))?.take(DOTENV_LIMIT + 1).read_to_string(&mut text)? as u64;
    let too_long = || io::Error::other(format!("longer than {} KiB, which no such file is", DOTENV_LIMIT >> 10));
    if read > DOTENV_LIMIT { Err(too_long()) } else { Ok(text) }
}

/// The moment as `YYYYMMDD_HHMMSS`, and as RFC 3339 has it.
pub fn now() -> (String, String) {
    let now = jiff::ZonedDateTime::now();
    (now.strftime("%Y%m%d_%H%M%S").to_string(), now.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
}

/// Where the index of a run goes whose folder cannot be written to.
pub fn index_cache() -> Option<PathBuf> {
    crate::index::cache(home(), std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from))
}

fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| !home.as_os_str().is_empty())
}

/// Bytes of memory that can be had without swapping, inside the limits of a control group.
fn free_memory() -> Option<u64> {
    let available = kib_line(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?;
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let left_in_group = number("/sys/fs/cgroup/memory.max")
        .map(|limit| limit.saturating_sub(number("/sys/fs/cgroup/memory.current").unwrap_or(0)));
    Some(available.min(left_in_group.unwrap_or(u64::MAX)))
}

/// The most memory that the process has had, in bytes, mapped files included.
fn peak_memory() -> Option<u64> {
    kib_line(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// The number behind `key` in a file of lines such as `VmHWM:   1234 kB`, in bytes.
fn kib_line(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_kibibytes_is_read() {
        let text = "Name:\tx\nVmHWM:\t   20480 kB\nVmRSS:\t 1 kB\n";
        assert_eq!(kib_line(text, "VmHWM:"), Some(20480 * 1024));
        assert_eq!(kib_line(text, "VmPeak:"), None);
        assert_eq!(kib_line("VmHWM: many kB", "VmHWM:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells_its_memory() {
        assert!(peak_memory().is_some_and(|bytes| bytes > 1 << 20));
        assert!(free_memory().is_some_and(|bytes| bytes > 1 << 20));
    }
}
