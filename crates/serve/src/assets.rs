//! The page: the built web bundle, inside the binary. Nothing is read from disk, and nothing is compressed, because it
//! travels over loopback.

use axum::extract::Request;
use axum::http::{HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};

use crate::answer::etag_of;
use crate::ask::quoted;
use crate::problem::{Code, Problem};

/// Name and bytes of every file of the bundle.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/dist.rs"));

/// The page that all others are views of.
const INDEX: &str = "index.html";

/// Folder of the files whose names hold a hash of their content.
const HASHED: &str = "assets/";

/// Answers everything outside the API: a file of the bundle, or the page for any address that a browser opens.
pub async fn page(request: Request) -> Response {
    let path = request.uri().path().trim_start_matches('/');
    if path == "api" || path.starts_with("api/") {
        let detail = format!("there is no {}; /api/v1/openapi.json lists what there is", quoted(request.uri().path()));
        return Problem::missing(detail).into_response();
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Problem::new(Code::MethodNotAllowed, "pages can only be read; use GET").into_response();
    }
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let file = |name: &str| FILES.iter().find(|(file, _)| *file == name);
    // Views have addresses of their own, which the page itself understands. Files have a dot in their last part.
    let is_view = accept.contains("text/html") && !path.rsplit('/').next().unwrap_or_default().contains('.');
    let found = if path.is_empty() || (is_view && file(path).is_none()) { file(INDEX) } else { file(path) };
    let Some((name, bytes)) = found else {
        return Problem::missing(format!("there is no page {}; begin at /", quoted(request.uri().path())))
            .into_response();
    };
    let etag = etag_of(bytes);
    let fresh = request.headers().get(header::IF_NONE_MATCH).is_some_and(|value| value == etag.as_str());
    let mut response =
        if fresh { axum::http::StatusCode::NOT_MODIFIED.into_response() } else { (*bytes).into_response() };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
    let caching = if name.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(header::ETAG, HeaderValue::from_str(&etag).expect("hexadecimal in quotes"));
    response
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "json" | "webmanifest" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_has_its_page_and_every_file_a_type() {
        assert!(FILES.iter().any(|(name, _)| *name == INDEX));
        for (name, _) in FILES {
            assert_ne!(content_type(name), "application/octet-stream", "{name}");
        }
    }
}
