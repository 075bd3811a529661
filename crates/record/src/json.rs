//! What messages say of JSON that was read.

use serde_json::Value;

/// What is wrong with one line of JSON: the column and the parser's word.
pub(crate) fn explain(error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "the line is cut off".to_owned();
    }
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((what, _)) => format!("{what} (column {})", error.column()),
        None => text,
    }
}

/// The kind of a value.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
