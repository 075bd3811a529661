//! Answers: JSON with an ETag, or "not changed".

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::problem::{Code, Problem};

/// JSON that is ready to be sent.
#[derive(Debug)]
pub enum Answer {
    /// A body, with the ETag of the data that it was made from where it may be kept.
    Json {
        /// The document.
        body: Vec<u8>,
        /// Quoted, as the header has it.
        etag: Option<String>,
    },
    /// The client has it already.
    NotModified {
        /// Quoted, as the header has it.
        etag: String,
    },
}

impl Answer {
    /// A document.
    ///
    /// # Errors
    /// A value that JSON does not have, which is a mistake of this program.
    pub fn json(document: &impl Serialize) -> Result<Answer, Problem> {
        match serde_json::to_vec(document) {
            Ok(body) => Ok(Answer::Json { body, etag: None }),
            Err(error) => Err(Problem::new(Code::Internal, format!("the answer cannot be written: {error}"))),
        }
    }

    /// The same with the ETag of what it was made from.
    pub fn tagged(self, etag: String) -> Answer {
        match self {
            Answer::Json { body, .. } => Answer::Json { body, etag: Some(etag) },
            other => other,
        }
    }

    /// The same with a hash of itself as ETag; "not changed" where the client has that.
    pub fn tagged_by_content(self, if_none_match: Option<&str>) -> Answer {
        match self {
            Answer::Json { body, .. } => {
                let etag = etag_of(&body);
                match matches(if_none_match, &etag) {
                    true => Answer::NotModified { etag },
                    false => Answer::Json { body, etag: Some(etag) },
                }
            }
            other => other,
        }
    }
}

/// Whether the ETags that a client has (the value of `If-None-Match`) hold this one.
pub fn matches(if_none_match: Option<&str>, etag: &str) -> bool {
    let Some(tags) = if_none_match else { return false };
    tags.trim() == "*" || tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag)
}

/// A strong ETag of some bytes, quoted: FNV-1a over them, which is no defence and needs to be none.
pub fn etag_of(bytes: &[u8]) -> String {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    format!("\"{hash:016x}{:x}\"", bytes.len())
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let (mut response, etag) = match self {
            Answer::Json { body, etag } => (body.into_response(), etag),
            Answer::NotModified { etag } => (StatusCode::NOT_MODIFIED.into_response(), Some(etag)),
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let caching = if etag.is_some() { "private, no-cache" } else { "no-store" };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
        if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(&etag).ok()) {
            headers.insert(header::ETAG, etag);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_none_match_is_a_list() {
        for tags in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*"] {
            assert!(matches(Some(tags), "\"a\""), "{tags}");
        }
        assert!(!matches(Some("\"ab\""), "\"a\"") && !matches(Some("a"), "\"a\"") && !matches(None, "\"a\""));
    }

    #[test]
    fn other_bytes_have_another_tag() {
        assert_ne!(etag_of(b"a"), etag_of(b"b"));
        assert_eq!(etag_of(b"a"), etag_of(b"a"));
    }
}
