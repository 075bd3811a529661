//! `.env` files: `KEY=value` lines, read without touching the process environment.
//!
//! The format is the common core of python-dotenv and Ruby's dotenv: blank lines and `#` comments, an optional `export `,
//! values bare, in 'single' (literal) or in "double" quotes (`\n`, `\r`, `\t`, `\\`, `\"`, `\$`). Nothing is expanded: a
//! `$` stands for itself, so that a secret that holds one survives.

use thiserror::Error;

/// A line of a `.env` file that cannot be understood. Never holds the line's text, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line} of the .env file: {problem}")]
pub struct DotenvError {
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong and what is expected instead.
    pub problem: &'static str,
}

/// The variables of a `.env` file in the order of its lines; of two with one name the later is meant.
///
/// A variable of the real environment wins over one from here; applying that rule is the caller's.
pub fn parse_dotenv(text: &str) -> Result<Vec<(String, String)>, DotenvError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut variables = Vec::new();
    for (index, line) in text.lines().enumerate() {
        match parse_line(line.trim()) {
            Ok(variable) => variables.extend(variable),
            Err(problem) => return Err(DotenvError { line: index + 1, problem }),
        }
    }
    Ok(variables)
}

fn parse_line(line: &str) -> Result<Option<(String, String)>, &'static str> {
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (key, value) = line.split_once('=').ok_or("expected KEY=value")?;
    let key = key.trim();
    let name = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
    if key.is_empty() || key.starts_with(|c: char| c.is_ascii_digit()) || !key.bytes().all(name) {
        return Err("a name is letters, digits and _, and does not begin with a digit");
    }
    let value = value.trim_start();
    let (value, rest) = match value.as_bytes().first() {
        Some(b'\'') => value[1..].split_once('\'').map(|(v, rest)| (v.to_owned(), rest)).ok_or(UNCLOSED)?,
        Some(b'"') => double_quoted(&value[1..])?,
        _ => (bare(value).to_owned(), ""),
    };
    let rest = rest.trim_start();
    if !(rest.is_empty() || rest.starts_with('#')) {
        return Err("after the closing quote only a # comment may follow");
    }
    if value.contains(|c: char| c.is_control() && !"\n\r\t".contains(c)) {
        return Err("the value holds a control character");
    }
    Ok(Some((key.to_owned(), value)))
}

const UNCLOSED: &str = "a quoted value must be closed on the same line";

/// A bare value ends at a `#` that begins it or follows white space; `a#b` is a value.
fn bare(value: &str) -> &str {
    let mut before = ' ';
    for (at, c) in value.char_indices() {
        if c == '#' && before.is_whitespace() {
            return value[..at].trim_end();
        }
        before = c;
    }
    value.trim_end()
}

/// The value after an opening `"`, and what follows its closing one.
fn double_quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => value.push(match chars.next().ok_or(UNCLOSED)?.1 {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                c @ ('\\' | '"' | '$' | '\'') => c,
                _ => return Err("unknown escape in a double-quoted value; use single quotes to take \\ literally"),
            }),
            c => value.push(c),
        }
    }
    Err(UNCLOSED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(line: &str) -> String {
        let mut all = parse_dotenv(line).unwrap();
        assert_eq!(all.len(), 1, "{line}");
        all.remove(0).1
    }

    #[test]
    fn the_forms_of_a_value() {
        assert_eq!(one("HF_TOKEN=hf_abc"), "hf_abc");
        assert_eq!(one("  export HF_TOKEN = hf_abc   # mine"), "hf_abc");
        assert_eq!(one("K=a#b"), "a#b");
        assert_eq!(one("K=#nothing"), "");
        assert_eq!(one("K="), "");
        assert_eq!(one("K=a=b $HOME"), "a=b $HOME");
        assert_eq!(one(r"K='a # \n b' # c"), r"a # \n b");
        assert_eq!(one(r#"K="a # \"b\" \\ \$x\n""#), "a # \"b\" \\ $x\n");
        assert_eq!(one("K=日本 語"), "日本 語");
    }

    #[test]
    fn lines_of_every_system_in_order() {
        let text = "\u{feff}# head\r\n\r\nA=1\r\nB=2\nA=3";
        let all = parse_dotenv(text).unwrap();
        let all: Vec<_> = all.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(all, [("A", "1"), ("B", "2"), ("A", "3")]);
    }

    #[test]
    fn a_bad_line_is_named_and_not_shown() {
        for bad in [
            "hf_secret",
            "K='hf_secret",
            "K=\"hf_secret",
            "2K=hf_secret",
            "K='a'hf_secret",
            "K=hf_secret\u{0}",
            r#"K="hf_secret\q""#,
        ] {
            let error = parse_dotenv(&format!("A=1\n{bad}\n")).unwrap_err();
            assert_eq!(error.line, 2, "{bad}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}(['\"\\\\#=\n\r ]|\\PC){0,40}") {
            let _ = parse_dotenv(&text);
        }

        #[test]
        fn a_quoted_value_reads_back(value in "[^\\p{C}]{0,40}") {
            let quoted = value.replace('\\', r"\\").replace('"', "\\\"");
            prop_assert_eq!(one(&format!("K=\"{quoted}\" # c")), value);
        }
    }
}
