//! The parameters of a request. All of them are hostile until they are taken here: each has a kind and a limit, an
//! unknown one is an error that lists the known ones.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::header;
use axum::http::request::Parts;

use crate::problem::Problem;

/// Longest query string.
const MAX_QUERY: usize = 8_000;
/// Most parameters in one.
const MAX_PARAMETERS: usize = 32;
/// Longest piece of a request that a message repeats, in characters.
const MAX_QUOTED: usize = 60;

/// What a request asks for.
#[derive(Debug, Default)]
pub struct Ask {
    path: Vec<(String, String)>,
    query: Vec<(String, String)>,
    /// Names that were asked for, for the message about an unknown one.
    known: Vec<&'static str>,
    /// The ETags that the client has.
    pub if_none_match: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Ask {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Ask, Problem> {
        let path = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::missing("the path is not UTF-8 when its %-escapes are undone"))?;
        let path = path.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let if_none_match = parts.headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        Ok(Ask {
            path,
            query: parse_query(parts.uri.query().unwrap_or_default())?,
            known: Vec::new(),
            if_none_match: if_none_match.map(str::to_owned),
        })
    }
}

/// The pairs of a query string, in which no name stands twice.
fn parse_query(query: &str) -> Result<Vec<(String, String)>, Problem> {
    if query.len() > MAX_QUERY {
        return Err(Problem::bad(format!("the query has {} bytes, at most {MAX_QUERY} are accepted", query.len())));
    }
    let mut pairs: Vec<(String, String)> = Vec::new();
    for piece in query.split('&').filter(|piece| !piece.is_empty()) {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        let (name, value) = (decode(name)?, decode(value)?);
        if pairs.iter().any(|(other, _)| *other == name) {
            return Err(Problem::bad(format!("the parameter {} stands there twice; give it once", quoted(&name))));
        }
        if pairs.len() == MAX_PARAMETERS {
            return Err(Problem::bad(format!("more than {MAX_PARAMETERS} parameters")));
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

/// Undoes the escapes of a form: `+` and `%XX`.
fn decode(text: &str) -> Result<String, Problem> {
    let bytes = text.as_bytes();
    let hex = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16)).map(|digit| digit as u8);
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(high << 4 | low);
                at += 2;
            }
            (b'+', ..) => decoded.push(b' '),
            (byte, ..) => decoded.push(byte),
        }
        at += 1;
    }
    let decoded = String::from_utf8(decoded);
    decoded.map_err(|_| Problem::bad(format!("{} is not UTF-8 when its %-escapes are undone", quoted(text))))
}

/// A piece of a request in a message: cut, and without control characters.
pub fn quoted(text: &str) -> String {
    let mut short: String =
        text.chars().take(MAX_QUOTED).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(MAX_QUOTED).is_some() {
        short.push('…');
    }
    format!("`{short}`")
}

impl Ask {
    /// A piece of the path, as text.
    pub fn segment(&self, name: &str) -> &str {
        self.path.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// A piece of the path that is a number.
    ///
    /// # Errors
    /// Anything else is not found.
    pub fn number(&self, name: &str) -> Result<usize, Problem> {
        let text = self.segment(name);
        // Only one spelling of a number names a resource.
        let number =
            text.parse().ok().filter(|number: &usize| number.to_string() == text && *number <= u32::MAX as usize);
        number.ok_or_else(|| Problem::missing(format!("{name} {} is not a number from 0 up", quoted(text))))
    }

    /// The text of a parameter, if it is there and not empty.
    ///
    /// # Errors
    /// A text longer than `limit` bytes.
    pub fn text(&mut self, name: &'static str, limit: usize) -> Result<Option<String>, Problem> {
        self.known.push(name);
        let Some(at) = self.query.iter().position(|(key, _)| key == name) else {
            return Ok(None);
        };
        let (_, value) = self.query.remove(at);
        if value.len() > limit {
            return Err(Problem::bad(format!("{name} has {} bytes, at most {limit} are accepted", value.len())));
        }
        Ok((!value.is_empty()).then_some(value))
    }

    /// A parameter that is a number in a range.
    ///
    /// # Errors
    /// Anything else.
    pub fn within<T>(&mut self, name: &'static str, range: RangeInclusive<T>) -> Result<Option<T>, Problem>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(text) = self.text(name, 100)? else {
            return Ok(None);
        };
        let number = text.parse().ok().filter(|number| range.contains(number));
        let wrong =
            || format!("{name} is {}; expected a number from {} to {}", quoted(&text), range.start(), range.end());
        number.ok_or_else(|| Problem::bad(wrong())).map(Some)
    }

    /// A parameter that is one of a few words; the first of them unless given (an empty word cannot be).
    ///
    /// # Errors
    /// Any other word.
    pub fn choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Result<T, Problem> {
        let Some(text) = self.text(name, 100)? else {
            return Ok(choices[0].1);
        };
        let found = choices.iter().find(|(word, _)| *word == text);
        let named = || choices.iter().map(|(word, _)| *word).filter(|word| !word.is_empty());
        let words = || named().collect::<Vec<_>>().join(", ");
        found
            .map(|(_, choice)| *choice)
            .ok_or_else(|| Problem::bad(format!("{name} is {}; expected one of {}", quoted(&text), words())))
    }

    /// A parameter that is `true` or `false`; false unless given.
    ///
    /// # Errors
    /// Anything else.
    pub fn flag(&mut self, name: &'static str) -> Result<bool, Problem> {
        self.choice(name, &[("false", false), ("true", true)])
    }

    /// A parameter that is `L:F`: a layer and a feature of its dictionary.
    ///
    /// # Errors
    /// Anything else.
    pub fn feature(&mut self, name: &'static str) -> Result<Option<(usize, u32)>, Problem> {
        let Some(text) = self.text(name, 100)? else {
            return Ok(None);
        };
        let parsed = text.split_once(':').and_then(|(layer, id)| Some((layer.parse().ok()?, id.parse().ok()?)));
        let wrong = || format!("{name} is {}; expected a layer and a feature, such as `12:104`", quoted(&text));
        parsed.ok_or_else(|| Problem::bad(wrong())).map(Some)
    }

    /// The page: how many items to leave out (by `cursor`, or by `offset` for a list that one may jump in), and how many
    /// to give.
    ///
    /// # Errors
    /// A cursor that is not ours, both at once, a number out of range.
    pub fn page(&mut self, default: usize, most: usize) -> Result<Page, Problem> {
        let offset = self.within("offset", 0..=u32::MAX as usize)?;
        let skip = match (self.text("cursor", 200)?, offset) {
            (None, offset) => offset.unwrap_or(0),
            (Some(_), Some(_)) => return Err(Problem::bad("cursor and offset exclude one another; give one of them")),
            (Some(cursor), None) => parse_cursor(&cursor).ok_or_else(|| {
                Problem::bad(format!("cursor {} is not a `next_cursor`; begin without one", quoted(&cursor)))
            })?,
        };
        Ok(Page { skip, limit: self.within("limit", 1..=most)?.unwrap_or(default) })
    }

    /// To be called when all parameters were taken.
    ///
    /// # Errors
    /// Parameters that are left over.
    pub fn done(&self) -> Result<(), Problem> {
        match self.query.first() {
            None => Ok(()),
            Some((name, _)) if self.known.is_empty() => {
                Err(Problem::bad(format!("there is no parameter {}; this takes none", quoted(name))))
            }
            Some((name, _)) => {
                let known = self.known.join(", ");
                Err(Problem::bad(format!("there is no parameter {}; there are {known}", quoted(name))))
            }
        }
    }
}

/// A part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Items in front of it.
    pub skip: usize,
    /// Most items in it.
    pub limit: usize,
}

impl Page {
    /// The range of a list of `total` items.
    pub fn range(self, total: usize) -> std::ops::Range<usize> {
        let start = self.skip.min(total);
        start..start.saturating_add(self.limit).min(total)
    }

    /// The cursor of the page behind this one, where the list goes on.
    pub fn next(self, total: usize) -> Option<String> {
        let end = self.range(total).end;
        (end < total).then(|| format!("{CURSOR}{end:x}"))
    }
}

/// In front of the offset in a cursor, so that nobody takes it for a number to count with.
const CURSOR: &str = "o";

fn parse_cursor(text: &str) -> Option<usize> {
    let digits = text.strip_prefix(CURSOR)?;
    u32::from_str_radix(digits, 16).ok().map(|offset| offset as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(query: &str) -> Ask {
        Ask { query: parse_query(query).unwrap(), ..Ask::default() }
    }

    #[test]
    fn escapes_are_undone_and_repeats_refused() {
        let pairs = parse_query("q=%E6%9D%B1+a%2Bb&x&&y=%zz%4").unwrap();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("q", "東 a+b"), ("x", ""), ("y", "%zz%4")]);
        for (query, why) in [("q=%FF%FE", "UTF-8"), ("q=1&q=2", "twice"), (&"a".repeat(9_000), "at most 8000")] {
            let detail = parse_query(query).unwrap_err().detail;
            assert!(detail.contains(why), "{detail}");
        }
        let many: String = (0..40).map(|i| format!("p{i}=1&")).collect();
        assert!(parse_query(&many).unwrap_err().detail.contains("more than 32"));
    }

    #[test]
    fn every_kind_has_its_limits() {
        assert_eq!(ask("limit=7").within("limit", 1..=9usize), Ok(Some(7)));
        for bad in ["limit=0", "limit=10", "limit=-1", "limit=1e2", "limit=99999999999999999999999"] {
            let detail = ask(bad).within("limit", 1..=9usize).unwrap_err().detail;
            assert!(detail.contains("from 1 to 9"), "{detail}");
        }
        for bad in ["min=NaN", "min=inf", "min=-0.1"] {
            assert!(ask(bad).within("min", 0.0..=1e30f64).is_err(), "{bad}");
        }
        assert_eq!(ask("feature=12:104").feature("feature"), Ok(Some((12, 104))));
        for bad in ["feature=12", "feature=a:1", "feature=1:99999999999", "feature=1:2:3"] {
            assert!(ask(bad).feature("feature").is_err(), "{bad}");
        }
        assert!(
            ask("mode=up").choice("mode", &[("top", 1), ("random", 2)]).unwrap_err().detail.contains("top, random")
        );
        assert!(ask("q=abcd").text("q", 3).is_err());
    }

    #[test]
    fn an_unknown_parameter_is_told_the_known_ones() {
        let mut ask = ask("limt=5");
        ask.page(10, 20).unwrap();
        let detail = ask.done().unwrap_err().detail;
        assert_eq!(detail, "there is no parameter `limt`; there are offset, cursor, limit");
    }

    #[test]
    fn pages_follow_one_another_to_the_end() {
        let (mut seen, mut query) = (Vec::new(), "limit=3".to_owned());
        loop {
            let page = ask(&query).page(10, 20).unwrap();
            seen.extend(page.range(8));
            match page.next(8) {
                Some(cursor) => query = format!("limit=3&cursor={cursor}"),
                None => break,
            }
        }
        assert!(seen.into_iter().eq(0..8));
        assert_eq!(ask("offset=6").page(10, 20).unwrap().range(8), 6..8);
        assert!(ask("offset=6&cursor=o3").page(10, 20).unwrap_err().detail.contains("exclude"));
        assert_eq!(ask("cursor=offf").page(10, 20).unwrap().range(8), 8..8);
        for bad in ["cursor=3", "cursor=o", "cursor=o-1", "cursor=offffffffff"] {
            assert!(ask(bad).page(10, 20).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_message_repeats_is_short_and_plain() {
        assert_eq!(quoted("a\u{1b}[31m\n"), "`a\u{fffd}[31m\u{fffd}`");
        assert_eq!(quoted(&"x".repeat(1000)).chars().count(), MAX_QUOTED + 3);
    }
}
