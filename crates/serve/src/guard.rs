//! What stands between a local server and the rest of the web. Any page in the user's browser can send requests to this
//! machine; these rules see to it that only our own page gets an answer.
//!
//! - The `Host` header has to name this machine: a foreign name that was made to resolve to 127.0.0.1 (DNS rebinding) is
//!   refused.
//! - A request that a browser sends for another site is refused (`Sec-Fetch-Site`, `Origin`); no CORS header is ever set.
//! - What is answered may load nothing from elsewhere and may not be framed.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::ask::quoted;
use crate::problem::{Code, Problem};

/// Longest that a request may take.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Sent with everything. Attributes of style are allowed because the page places its marks with them.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; img-src 'self' data: blob:; \
         connect-src 'self'; object-src 'none'; frame-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Refuses what does not come from this machine's own page, limits the time, and sets the headers.
pub async fn guard(State(port): State<u16>, request: Request, next: Next) -> Response {
    let mut response = match check(request.method(), request.uri().path(), request.headers(), port) {
        Err(problem) => problem.into_response(),
        Ok(()) => tokio::time::timeout(TIME_LIMIT, next.run(request)).await.unwrap_or_else(|_| {
            let detail = format!("this took longer than {} s; ask for less at once", TIME_LIMIT.as_secs());
            Problem::new(Code::Timeout, detail).into_response()
        }),
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn check(method: &Method, path: &str, headers: &HeaderMap, port: u16) -> Result<(), Problem> {
    let forbidden = |detail: String| Err(Problem::new(Code::Forbidden, detail));
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));

    let hosts = headers.get_all(header::HOST).iter().count();
    let host = text(header::HOST).unwrap_or_default();
    if hosts != 1 || !is_local(host, port) {
        return forbidden(format!(
            "the request is for the host {}; this server answers for localhost:{port} and 127.0.0.1:{port} only: open that \
             address",
            quoted(host)
        ));
    }
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let site = text(HeaderName::from_static("sec-fetch-site")).unwrap_or("none");
    let follows_a_link = reads
        && !path.starts_with("/api/")
        && text(HeaderName::from_static("sec-fetch-mode")).is_some_and(|mode| mode == "navigate");
    if !matches!(site, "none" | "same-origin") && !follows_a_link {
        return forbidden("the request comes from a page of another site; open this server's own page".into());
    }
    // Programs other than browsers send no origin.
    if !reads && let Some(origin) = text(header::ORIGIN) {
        let ours = origin.strip_prefix("http://").is_some_and(|host| is_local(host, port));
        if !ours {
            return forbidden(format!("the request comes from {}; only this server's own page may", quoted(origin)));
        }
    }
    Ok(())
}

/// Whether a host with its port is this server.
fn is_local(host: &str, port: u16) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, digits)) if digits == port.to_string() => name,
        // Browsers leave out the port that belongs to http.
        _ if port == 80 => host,
        _ => return false,
    };
    name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "[::1]"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_local() {
        for host in ["localhost:7311", "LOCALHOST:7311", "127.0.0.1:7311", "[::1]:7311"] {
            assert!(is_local(host, 7311), "{host}");
        }
        for host in [
            "",
            "localhost",
            "localhost:80",
            "127.0.0.1",
            "evil.example:7311",
            "localhost.evil.example:7311",
            "127.0.0.2:7311",
            "0.0.0.0:7311",
            "localhost:7311:7311",
            "localhost:07311",
            "evil.example:80@localhost:7311",
            "[::2]:7311",
            " localhost:7311",
        ] {
            assert!(!is_local(host, 7311), "{host}");
        }
        assert!(is_local("localhost", 80) && is_local("localhost:80", 80));
    }
}
