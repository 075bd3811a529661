//! What a [`Hub`](super::Hub) is made of, and how Python's `huggingface_hub` would have read it from the environment.
//!
//! Source: the package reference page "Environment variables" of `huggingface_hub`.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// No token is longer than a few dozen bytes; a larger "token" file is something else.
const TOKEN_FILE_MAX_BYTES: u64 = 4096;

/// Where the hub is, who asks, and where files are kept. Filled by the application: this crate reads no environment.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HubOptions {
    /// Access token; sent to the endpoint and to no other host.
    pub token: Option<String>,
    /// `http(s)://host[:port][/path]` of a mirror; none is the public hub.
    pub endpoint: Option<String>,
    /// The folder that holds `models--owner--name`; without one nothing can be fetched.
    pub cache: Option<PathBuf>,
    /// Use the cache only; a file that is not there is an error.
    pub offline: bool,
    /// `http://host:port` (or https, socks5) of the proxy that every request goes through.
    pub proxy: Option<String>,
    /// Comma-separated hosts that are reached without the proxy.
    pub no_proxy: Option<String>,
    /// PEM file of the certificate authorities to trust instead of the built-in list (company networks).
    pub ca_bundle: Option<PathBuf>,
}

impl HubOptions {
    /// The options that the named variables ask for, with the meaning and precedence they have for `huggingface_hub`.
    ///
    /// `get` answers for one variable (the application asks the real environment first, then `.env`), `home` is the
    /// user's home folder. Variables: `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`,
    /// `XDG_CACHE_HOME`, `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE`; `HTTPS_PROXY`, `ALL_PROXY`, `HTTP_PROXY`, `NO_PROXY`
    /// in both spellings; `REQUESTS_CA_BUNDLE`, `CURL_CA_BUNDLE`, `SSL_CERT_FILE`. Empty counts as unset.
    ///
    /// Without `HF_TOKEN` the token file that the hub's command-line login writes is read, if there is one.
    pub fn from_vars(get: impl Fn(&str) -> Option<String>, home: Option<&Path>) -> HubOptions {
        let var = |name: &str| get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let first = |names: &[&str]| names.iter().find_map(|name| var(name));
        let path = |name: &str| {
            var(name).map(|value| match (value.strip_prefix("~/"), home) {
                (Some(rest), Some(home)) => home.join(rest),
                _ => PathBuf::from(value),
            })
        };
        let hf_home = path("HF_HOME").or_else(|| {
            let caches = path("XDG_CACHE_HOME").or_else(|| Some(home?.join(".cache")))?;
            Some(caches.join("huggingface"))
        });
        let token_file = path("HF_TOKEN_PATH").or_else(|| Some(hf_home.as_ref()?.join("token")));
        let on = |name: &str| {
            var(name).is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str()))
        };
        HubOptions {
            token: var("HF_TOKEN").or_else(|| read_token(&token_file?)),
            endpoint: var("HF_ENDPOINT"),
            cache: path("HF_HUB_CACHE").or_else(|| Some(hf_home?.join("hub"))),
            offline: on("HF_HUB_OFFLINE") || on("TRANSFORMERS_OFFLINE"),
            proxy: first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"]),
            no_proxy: first(&["NO_PROXY", "no_proxy"]),
            ca_bundle: first(&["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"]).map(PathBuf::from),
        }
    }
}

/// The token in `path`; a file that is missing or unreadable is the same as no login.
fn read_token(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(TOKEN_FILE_MAX_BYTES).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned()).filter(|token| !token.is_empty())
}

/// Written by hand: the derived one would print the token and the proxy's password.
impl fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubOptions")
            .field("token", &self.token.as_ref().map(|_| "<hidden>"))
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("offline", &self.offline)
            .field("proxy", &self.proxy.as_ref().map(|_| "<hidden>"))
            .field("no_proxy", &self.no_proxy)
            .field("ca_bundle", &self.ca_bundle)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &[(&str, &str)], home: Option<&Path>) -> HubOptions {
        let get = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        HubOptions::from_vars(get, home)
    }

    #[test]
    fn cache_follows_the_precedence_of_python() {
        let home = Some(Path::new("/u"));
        let cache = |pairs: &[(&str, &str)]| from(pairs, home).cache.unwrap();
        assert_eq!(cache(&[]), Path::new("/u/.cache/huggingface/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/h")]), Path::new("/h/hub"));
        assert_eq!(cache(&[("HF_HUB_CACHE", "~/c"), ("HF_HOME", "/h")]), Path::new("/u/c"));
        assert_eq!(from(&[], None).cache, None);
    }

    #[test]
    fn the_token_file_serves_when_no_variable_does() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".cache/huggingface");
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!(from(&[], Some(home.path())).token, None);
        std::fs::write(folder.join("token"), "hf_file\n").unwrap();
        assert_eq!(from(&[("HF_TOKEN", "")], Some(home.path())).token.as_deref(), Some("hf_file"));
        assert_eq!(from(&[("HF_TOKEN", " hf_var\n")], Some(home.path())).token.as_deref(), Some("hf_var"));
        std::fs::write(home.path().join("other"), "hf_other").unwrap();
        assert_eq!(from(&[("HF_TOKEN_PATH", "~/other")], Some(home.path())).token.as_deref(), Some("hf_other"));
    }

    #[test]
    fn switches_and_secrets() {
        assert!(from(&[("HF_HUB_OFFLINE", "Yes")], None).offline);
        assert!(from(&[("TRANSFORMERS_OFFLINE", "1")], None).offline);
        assert!(!from(&[("HF_HUB_OFFLINE", "0")], None).offline);
        let options = from(&[("HF_TOKEN", "hf_secret"), ("all_proxy", "http://u:secret@p:1")], None);
        assert_eq!(options.proxy.as_deref(), Some("http://u:secret@p:1"));
        assert!(!format!("{options:?}").contains("secret"));
    }
}
