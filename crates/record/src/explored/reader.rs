//! Reading: the text is kept as it is, a feature is parsed when it is asked for.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::de::DeserializeOwned;

use super::{ExploredError, FEATURE_LIMIT, FORMAT, Feature, HEADER_LIMIT, Header, PIECES_LIMIT, READ_LIMIT, VERSION};

/// An open file.
pub struct Explored {
    path: PathBuf,
    header: Header,
    pieces: Vec<String>,
    text: Vec<u8>,
    /// Where the line of each feature that has one starts and ends, by id.
    lines: Vec<(u32, std::ops::Range<usize>)>,
}

impl Explored {
    /// Opens a file.
    ///
    /// # Errors
    /// One that cannot be read, is damaged or of another version.
    pub fn open(path: &Path) -> Result<Explored, ExploredError> {
        let path = path.to_owned();
        let file = crate::open_file(&path).map_err(|source| ExploredError::Io { path: path.clone(), source })?;
        let mut text = Vec::new();
        let read = MultiGzDecoder::new(std::io::BufReader::new(file)).take(READ_LIMIT + 1).read_to_end(&mut text);
        read.map_err(|source| ExploredError::Io { path: path.clone(), source })?;
        Explored::parse(path, text)
    }

    fn parse(path: PathBuf, text: Vec<u8>) -> Result<Explored, ExploredError> {
        let broken = |line: usize, what: String| ExploredError::Broken { path: path.clone(), line, what };
        if text.len() as u64 > READ_LIMIT {
            return Err(broken(1, format!("more than {} MiB of text", READ_LIMIT >> 20)));
        }
        let mut spans = text.split_inclusive(|byte| *byte == b'\n').scan(0, |start, line| {
            let span = *start..*start + line.len();
            *start = span.end;
            Some(span)
        });
        let first = spans.next().ok_or_else(|| broken(1, "it is empty".into()))?;
        // The version comes before the rest of the header: another version may have other keys.
        let outline: serde_json::Value = json(&text[first.clone()], HEADER_LIMIT).map_err(|what| broken(1, what))?;
        let version = outline.get("version").and_then(serde_json::Value::as_u64);
        match (outline.get("format").and_then(serde_json::Value::as_str), version) {
            (Some(FORMAT), Some(version)) if version == u64::from(VERSION) => {}
            (Some(FORMAT), Some(version)) => {
                return Err(ExploredError::Version { path, found: u32::try_from(version).unwrap_or(u32::MAX) });
            }
            _ => return Err(broken(1, format!("its first line does not say that it is `{FORMAT}`"))),
        }
        let header: Header = json(&text[first], HEADER_LIMIT).map_err(|what| broken(1, what))?;
        let second = spans.next().ok_or_else(|| broken(2, "the pieces of text are missing".into()))?;
        let pieces: Vec<String> = json(&text[second], PIECES_LIMIT).map_err(|what| broken(2, what))?;
        let mut lines: Vec<(u32, std::ops::Range<usize>)> = Vec::new();
        for (number, span) in (3..).zip(spans) {
            let id = leading_id(&text[span.clone()])
                .ok_or_else(|| broken(number, "expected a feature, an object that begins with its id".into()))?;
            if id as usize >= header.d_sae || lines.last().is_some_and(|(before, _)| *before >= id) {
                return Err(broken(
                    number,
                    format!("feature {id} is out of order, or not of {} features", header.d_sae),
                ));
            }
            lines.push((id, span));
        }
        Ok(Explored { header, pieces, lines, path, text })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it was made of.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The piece of this number; empty if there is none.
    pub fn piece(&self, number: u32) -> &str {
        self.pieces.get(number as usize).map_or("", String::as_str)
    }

    /// The features that the file knows, in ascending order.
    pub fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.lines.iter().map(|line| line.0)
    }

    /// What is known of a feature; none if it was never active.
    ///
    /// # Errors
    /// A line that is damaged.
    pub fn feature(&self, id: u32) -> Result<Option<Feature>, ExploredError> {
        let Ok(place) = self.lines.binary_search_by_key(&id, |line| line.0) else { return Ok(None) };
        let feature = json::<Feature>(&self.text[self.lines[place].1.clone()], FEATURE_LIMIT);
        let feature = feature.and_then(|feature| self.check(feature));
        let broken = |what| ExploredError::Broken { path: self.path.clone(), line: place + 3, what };
        feature.map(Some).map_err(broken)
    }

    fn check(&self, feature: Feature) -> Result<Feature, String> {
        let piece = |piece: &u32| (*piece as usize) < self.pieces.len();
        let positive = |value: f32| value.is_finite() && value > 0.0;
        if feature.rows > self.header.rows || !positive(feature.max) {
            return Err("its number of rows or its largest value cannot be".into());
        }
        let named = feature.types.iter().all(|(token, _)| piece(token))
            && feature.promoted.iter().all(|(token, logit)| piece(token) && logit.is_finite());
        let shown = feature.contexts.iter().all(|window| {
            window.tokens.iter().all(piece)
                && window.at < window.tokens.len()
                && window.values.iter().all(|(at, value)| *at < window.tokens.len() && positive(*value))
        });
        if named && shown { Ok(feature) } else { Err("it names a piece or a place that does not exist".into()) }
    }
}

fn json<T: DeserializeOwned>(line: &[u8], limit: usize) -> Result<T, String> {
    if line.len() > limit {
        return Err(format!("a line of {} bytes, {limit} are allowed", line.len()));
    }
    serde_json::from_slice(line).map_err(|error| crate::json::explain(&error))
}

/// The id at the front of a feature's line.
fn leading_id(line: &[u8]) -> Option<u32> {
    let digits = line.strip_prefix(b"{\"id\":")?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}
