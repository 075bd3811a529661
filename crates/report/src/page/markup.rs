//! Small pieces of HTML.

use sha2::{Digest, Sha256};

/// The source expression of a Content Security Policy that allows exactly this inline text.
pub fn hash_source(text: &str) -> String {
    format!("sha256-{}", base64(&Sha256::digest(text.as_bytes())))
}

/// RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, i| bits << 8 | u32::from(chunk.get(i).copied().unwrap_or(0)));
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= chunk.len() { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    text
}

/// ` lang="ja"` for text with kana, so that ideographs get their Japanese shapes; else the language is not known.
pub fn language(text: &str) -> &'static str {
    let kana = |c| matches!(c, '\u{3041}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{ff66}'..='\u{ff9d}');
    if text.contains(kana) { " lang=\"ja\"" } else { " lang=\"\"" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let encoded = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base64(text.as_bytes()));
        assert_eq!(encoded, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
        // The example of the specification of Content Security Policy.
        let example = "alert('Hello, world.');";
        assert_eq!(hash_source(example), "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng=");
    }

    #[test]
    fn kana_tell_japanese() {
        assert_eq!(
            [language("東京です"), language("東京"), language("Paris")],
            [" lang=\"ja\"", " lang=\"\"", " lang=\"\""]
        );
    }
}
