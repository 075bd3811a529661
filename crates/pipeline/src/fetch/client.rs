//! One request over `ureq`: timeouts, redirects that do not leak the token, and what may be tried again.

use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use ureq::http::{Method, Response, Uri, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Proxy};

use super::errors::FetchError;
use super::{HubOptions, Progress};

/// A silent connection is given up after this, at whichever step.
const SILENCE: Duration = Duration::from_secs(30);
/// A failure that may pass is tried this often in a row without one byte of progress.
const ATTEMPTS: u32 = 4;
/// The pause after the first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(300);
/// The longest `Retry-After` that is obeyed.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const MAX_REDIRECTS: usize = 5;

/// Speaks with the host of the hub, and without the token with others that it points to.
pub(super) struct Client {
    agent: Agent,
    /// Without a slash at its end.
    pub(super) endpoint: String,
    origin: Uri,
    pub(super) token: Option<String>,
}

/// An error, and whether it may pass by itself.
pub(super) struct Failure {
    pub(super) error: FetchError,
    /// How long the server asks to wait; `None` within `Some` leaves it to us.
    pub(super) retry: Option<Option<Duration>>,
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Failure {
        Failure { error, retry: None }
    }
}

impl Client {
    pub(super) fn new(options: &HubOptions, endpoint: String) -> Result<Client, FetchError> {
        if let Some(token) = &options.token
            && !token.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(setting("HF_TOKEN", "holds a character that no token has; copy it again"));
        }
        let origin: Uri = endpoint
            .parse()
            .ok()
            .filter(|uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")))
            .filter(|uri| uri.query().is_none() && uri.authority().is_some_and(|a| !a.as_str().contains('@')))
            .ok_or_else(|| setting("HF_ENDPOINT", "must look like https://host[:port][/path], without a password"))?;
        let mut config = Agent::config_builder()
            .user_agent(concat!("llamascope/", env!("CARGO_PKG_VERSION")))
            // Sizes and ranges are those of the file, not of a compressed copy.
            .accept_encoding("identity")
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_resolve(Some(SILENCE))
            .timeout_connect(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .timeout_per_write(Some(SILENCE))
            .proxy(options.proxy.as_deref().map(|url| proxy(url, options.no_proxy.as_deref())).transpose()?);
        if let Some(path) = &options.ca_bundle {
            config = config.tls_config(TlsConfig::builder().root_certs(read_ca_bundle(path)?).build());
        }
        let token = options.token.clone();
        Ok(Client { agent: config.build().new_agent(), endpoint, origin, token })
    }

    /// Sends one request and follows redirects, to other hosts only if `away`. The token goes to the hub alone.
    pub(super) fn send(
        &self,
        method: Method,
        url: &str,
        from: Option<u64>,
        away: bool,
    ) -> Result<(Response<Body>, Uri), Failure> {
        let reply = |uri: &Uri, problem: &str| FetchError::Reply { host: host_of(uri), problem: problem.to_owned() };
        let mut uri: Uri = url.parse().map_err(|_| reply(&self.origin, "the address cannot be written as a URL"))?;
        for _ in 0..=MAX_REDIRECTS {
            let mut request = ureq::http::Request::builder().method(method.clone()).uri(&uri);
            if let Some(token) = self.token.as_ref().filter(|_| same_origin(&uri, &self.origin)) {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            if let Some(from) = from {
                request = request.header(header::RANGE, format!("bytes={from}-"));
            }
            let request = request.body(()).map_err(|_| reply(&uri, "the request cannot be written"))?;
            let response = self.agent.run(request).map_err(|error| unreachable(&uri, &error))?;
            if !response.status().is_redirection() {
                return Ok((response, uri));
            }
            let next = text(&response, "location")
                .and_then(|location| resolve(&uri, location))
                .ok_or_else(|| reply(&uri, "a redirect leads nowhere"))?;
            if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(reply(&uri, "it redirects from https to a connection without encryption").into());
            }
            if !away && !same_origin(&next, &self.origin) {
                return Ok((response, uri));
            }
            uri = next;
        }
        Err(reply(&uri, "it redirects in a circle").into())
    }
}

/// Repeats `attempt` while its failures may pass.
pub(super) fn retrying<T>(
    file: &str,
    progress: &dyn Progress,
    mut attempt: impl FnMut() -> Result<T, Failure>,
) -> Result<T, FetchError> {
    let mut failed = 0;
    loop {
        go_on(file, progress)?;
        match attempt() {
            Ok(value) => return Ok(value),
            Err(failure) => pause(failure, &mut failed, file, progress)?,
        }
    }
}

/// Waits before the next attempt, or gives up with the failure's error.
pub(super) fn pause(failure: Failure, failed: &mut u32, file: &str, progress: &dyn Progress) -> Result<(), FetchError> {
    *failed += 1;
    let Some(asked) = failure.retry.filter(|_| *failed < ATTEMPTS) else {
        return Err(failure.error);
    };
    let mut left = asked.unwrap_or(FIRST_PAUSE * 2u32.pow(*failed - 1)).min(LONGEST_PAUSE);
    while !left.is_zero() {
        go_on(file, progress)?;
        let slice = left.min(Duration::from_millis(100));
        sleep(slice);
        left -= slice;
    }
    Ok(())
}

pub(super) fn go_on(file: &str, progress: &dyn Progress) -> Result<(), FetchError> {
    if progress.cancelled() { Err(FetchError::Cancelled { file: file.to_owned() }) } else { Ok(()) }
}

fn unreachable(uri: &Uri, error: &ureq::Error) -> Failure {
    let lasting = match error {
        ureq::Error::HostNotFound => true,
        ureq::Error::Io(error) => {
            matches!(error.kind(), std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::InvalidData)
        }
        ureq::Error::Timeout(_) | ureq::Error::Protocol(_) | ureq::Error::ConnectionFailed => false,
        _ => true,
    };
    let error = FetchError::Unreachable { host: host_of(uri), reason: error.to_string() };
    Failure { error, retry: (!lasting).then_some(None) }
}

/// Seconds only: the date form would need a clock.
pub(super) fn retry_after(response: &Response<Body>) -> Option<Duration> {
    text(response, "retry-after")?.parse().ok().map(Duration::from_secs)
}

/// A header that is text.
pub(super) fn text<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

pub(super) fn host_of(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    authority.rsplit('@').next().unwrap_or_default().to_owned()
}

fn same_origin(a: &Uri, b: &Uri) -> bool {
    let port = |uri: &Uri| uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    a.scheme() == b.scheme() && host(a) == host(b) && port(a) == port(b)
}

/// The address a `Location` means: a whole one, or a path on the same host.
fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let target = if location.starts_with('/') && !location.starts_with("//") {
        format!("{}://{}{location}", base.scheme_str()?, base.authority()?)
    } else {
        location.to_owned()
    };
    target.parse().ok().filter(|uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
}

pub(super) fn setting(setting: &'static str, problem: &str) -> FetchError {
    FetchError::Setting { setting, problem: problem.to_owned() }
}

fn proxy(url: &str, no_proxy: Option<&str>) -> Result<Proxy, FetchError> {
    let bad = |_| FetchError::Setting {
        setting: "HTTPS_PROXY",
        problem: "must look like http://[user:password@]host:port (or socks5://)".into(),
    };
    let parsed = Proxy::new(url).map_err(bad)?;
    let mut builder = Proxy::builder(parsed.protocol()).host(parsed.host()).port(parsed.port());
    if let Some(user) = parsed.username() {
        builder = builder.username(user);
    }
    if let Some(password) = parsed.password() {
        builder = builder.password(password);
    }
    for host in no_proxy.unwrap_or_default().split(',').map(str::trim).filter(|host| !host.is_empty()) {
        builder = builder.no_proxy(host);
    }
    builder.build().map_err(bad)
}

fn read_ca_bundle(path: &Path) -> Result<RootCerts, FetchError> {
    let pem = std::fs::read(path).map_err(FetchError::disk(path))?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        let problem = format!("names {}, which holds no PEM certificate", path.display());
        return Err(FetchError::Setting { setting: "REQUESTS_CA_BUNDLE", problem });
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}
