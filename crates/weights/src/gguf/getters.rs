//! Metadata by key and kind.

use super::{Gguf, Value};
use crate::Error;
use crate::error::shown;

impl Value {
    /// What kind of value it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Bool(_) => "a bool",
            Value::Int(_) => "a signed integer",
            Value::Uint(_) => "an unsigned integer",
            Value::Float(_) => "a float",
            Value::Str(_) => "a string",
            Value::Bools(_) => "an array of bools",
            Value::Ints(_) => "an array of signed integers",
            Value::Uints(_) => "an array of unsigned integers",
            Value::Floats(_) => "an array of floats",
            Value::Strs(_) => "an array of strings",
        }
    }
}

/// A getter for a value that must be there and one for a value that may be absent, of one kind.
macro_rules! getters {
    ($($get:ident, $opt:ident -> $type:ty, $expected:literal: $pick:expr;)*) => {
        impl Gguf {
            $(
                #[doc = concat!("The value of `key`, which must be ", $expected, ".")]
                pub fn $get(&self, key: &str) -> Result<$type, Error> {
                    self.$opt(key)?.ok_or_else(|| self.wrong(key, $expected, "nothing"))
                }

                #[doc = concat!("The value of `key`, which must be ", $expected, " if it is there.")]
                pub fn $opt(&self, key: &str) -> Result<Option<$type>, Error> {
                    let Some(value) = self.metadata.get(key) else { return Ok(None) };
                    let pick: fn(&Value) -> Option<$type> = $pick;
                    pick(value).map(Some).ok_or_else(|| self.wrong(key, $expected, value.kind()))
                }
            )*
        }
    };
}

getters! {
    bool, opt_bool -> bool, "a bool": |value| match value {
        Value::Bool(v) => Some(*v),
        _ => None,
    };
    u64, opt_u64 -> u64, "an integer from 0": |value| match value {
        Value::Uint(v) => Some(*v),
        Value::Int(v) => u64::try_from(*v).ok(),
        _ => None,
    };
    f64, opt_f64 -> f64, "a float": |value| match value {
        Value::Float(v) => Some(*v),
        _ => None,
    };
    str, opt_str -> &str, "a string": |value| match value {
        Value::Str(v) => Some(v),
        _ => None,
    };
    strs, opt_strs -> &[String], "an array of strings": |value| match value {
        Value::Strs(v) => Some(v),
        _ => None,
    };
    ints, opt_ints -> &[i64], "an array of signed integers": |value| match value {
        Value::Ints(v) => Some(v),
        _ => None,
    };
    floats, opt_floats -> &[f64], "an array of floats": |value| match value {
        Value::Floats(v) => Some(v),
        _ => None,
    };
}

impl Gguf {
    fn wrong(&self, key: &str, expected: &'static str, found: &'static str) -> Error {
        Error::Key { path: self.tensors.path().into(), key: shown(key), expected, found }
    }
}
