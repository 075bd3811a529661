//! The JSON file beside the weights, read key by key so that every complaint can name file and key.

use std::io::Read;
use std::path::{Path, PathBuf};

use llamascope_record::open_file;
use serde_json::{Map, Value};

use crate::Error;

/// Configuration files are a few KiB; a larger one is something else.
const MAX_BYTES: u64 = 16 << 20;

pub(crate) struct Config {
    path: PathBuf,
    root: Map<String, Value>,
}

impl Config {
    pub(crate) fn read(path: PathBuf) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.clone(), source };
        let json = |what: String| Error::Json { path: path.clone(), what };
        let mut text = Vec::new();
        open_file(&path).map_err(io)?.take(MAX_BYTES + 1).read_to_end(&mut text).map_err(io)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(json(format!("is larger than {MAX_BYTES} bytes: not the configuration of an SAE")));
        }
        match serde_json::from_slice(&text) {
            Ok(Value::Object(root)) => Ok(Config { path, root }),
            Ok(other) => Err(json(format!("holds {}, expected a JSON object", brief(&other)))),
            Err(source) => Err(json(format!("is not JSON ({source}); download it again"))),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The value under a dotted key; null counts as absent, as in the Python code that wrote these files.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        let mut keys = key.split('.');
        let first = self.root.get(keys.next()?)?;
        keys.try_fold(first, |value, key| value.get(key)).filter(|value| !value.is_null())
    }

    pub(crate) fn error(&self, key: &str, what: impl Into<String>) -> Error {
        Error::Key { path: self.path.clone(), key: key.into(), what: what.into() }
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong = || self.error(key, format!("is {}, expected {expected}", brief(value)));
        read(value).map(Some).ok_or_else(wrong)
    }

    pub(crate) fn required<T>(&self, key: &str, value: Result<Option<T>, Error>) -> Result<T, Error> {
        value?.ok_or_else(|| self.error(key, "is missing: this is not the file that belongs to the weights"))
    }

    pub(crate) fn opt_text(&self, key: &str) -> Result<Option<&str>, Error> {
        self.typed(key, "a string", Value::as_str)
    }

    pub(crate) fn text(&self, key: &str) -> Result<&str, Error> {
        self.required(key, self.opt_text(key))
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, Error> {
        Ok(self.typed(key, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    /// A size: a positive whole number that could index a tensor.
    pub(crate) fn opt_size(&self, key: &str) -> Result<Option<usize>, Error> {
        let size = |v: &Value| v.as_u64().filter(|&n| n > 0 && n <= u64::from(u32::MAX)).map(|n| n as usize);
        self.typed(key, "a positive whole number", size)
    }

    pub(crate) fn size(&self, key: &str) -> Result<usize, Error> {
        self.required(key, self.opt_size(key))
    }

    pub(crate) fn opt_number(&self, key: &str) -> Result<Option<f64>, Error> {
        self.typed(key, "a finite number", |v| v.as_f64().filter(|n| n.is_finite()))
    }

    pub(crate) fn number(&self, key: &str) -> Result<f64, Error> {
        self.required(key, self.opt_number(key))
    }
}

/// A value as an error message shows it.
fn brief(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".into(),
        Value::Array(_) => "a list".into(),
        Value::String(text) if text.chars().count() > 80 => "a long string".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Config, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cfg.json");
        std::fs::write(&path, text).unwrap();
        Config::read(path)
    }

    #[test]
    fn keys_lead_into_objects_and_null_is_absent() {
        let config = config(r#"{"a": {"b": 3, "c": null}, "d": "x", "e": true}"#).unwrap();
        assert_eq!(config.size("a.b").unwrap(), 3);
        assert_eq!(config.opt_size("a.c").unwrap(), None);
        assert_eq!(config.text("d").unwrap(), "x");
        assert!(config.flag("e", false).unwrap() && config.flag("missing", true).unwrap());
    }

    #[test]
    fn wrong_values_are_named_with_their_key() {
        let config = config(r#"{"n": "8", "z": 0, "neg": -1.5, "frac": 1.5, "o": {"p": []}}"#).unwrap();
        for (key, error) in [
            ("n", config.size("n").unwrap_err()),
            ("z", config.size("z").unwrap_err()),
            ("neg", config.size("neg").unwrap_err()),
            ("frac", config.size("frac").unwrap_err()),
            ("o.p", config.text("o.p").unwrap_err()),
            ("o.q", config.text("o.q").unwrap_err()),
            ("n.deeper", config.number("n.deeper").unwrap_err()),
        ] {
            let text = error.to_string();
            assert!(text.contains(&format!("`{key}`")) && text.contains("cfg.json"), "{text}");
        }
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        for text in ["", "[]", "{", "null", r#"{"too_big": 1e400}"#, &"[".repeat(100_000)] {
            assert!(matches!(config(text), Err(Error::Json { .. })), "{}", &text[..text.len().min(9)]);
        }
    }
}
