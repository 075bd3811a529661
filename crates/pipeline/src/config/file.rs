//! The config file as typed: YAML with the keys of [`KEYS`], every one optional here.

use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use llamascope_record::open_file;
use serde_saphyr::Spanned;

use super::choice::{Choice, hint, shown};
use super::error::{ConfigError, ValueError};
use super::layers::{A_LAYER, LayerSelection, layer};
use super::memory::parse_memory;
use super::yaml::{self, Node};
use super::{KEYS, Overrides, parse_threads};

/// Longest config file that is read.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// What a config file says.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigFile {
    /// The file, for messages.
    pub path: PathBuf,
    /// The keys it sets.
    pub settings: Overrides,
}

impl ConfigFile {
    /// Reads a file.
    ///
    /// # Errors
    /// All of [`ConfigError`] but missing keys and layers out of range, which only show when everything is known.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.into(), source };
        let mut bytes = Vec::new();
        let file = open_file(path).map_err(failed)?;
        file.take(MAX_CONFIG_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        ConfigFile::parse(path, &bytes)
    }

    /// Reads the bytes of a file; `path` is only named in errors. JSON is YAML, so what
    /// [`super::RunConfig::to_json`] writes is read as well.
    ///
    /// # Errors
    /// As [`ConfigFile::read`].
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, ConfigError> {
        if bytes.len() as u64 > MAX_CONFIG_BYTES {
            return Err(ConfigError::TooLarge { path: path.into() });
        }
        let syntax = |line, what| ConfigError::Syntax { path: path.into(), line, what };
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let lines = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
            syntax(lines as u64 + 1, "not UTF-8; save the file as UTF-8".into())
        })?;
        let root = yaml::read(text).map_err(|(line, what)| syntax(line, what))?;
        let mut settings = Overrides::default();
        match &root.value {
            Node::Null => {}
            Node::Map(entries) => {
                for (key, value) in entries {
                    let known = KEYS.into_iter().find(|(name, _)| key.value.word() == *name);
                    let (key, _) = known.ok_or_else(|| unknown_key(path, key))?;
                    set(&mut settings, key, value).map_err(|Wrong { line, source }| ConfigError::Value {
                        path: path.into(),
                        line,
                        key,
                        source,
                    })?;
                }
            }
            other => {
                let what = format!("expected keys with values such as `model_id: NAME`, found {other}");
                return Err(syntax(root.referenced.line(), what));
            }
        }
        Ok(ConfigFile { path: path.into(), settings })
    }
}

/// A key that is none, with the nearest one; the name of a flag leads to its key.
fn unknown_key(path: &Path, key: &Spanned<Node>) -> ConfigError {
    let flags = KEYS.iter().map(|(key, flag)| (flag.trim_start_matches('-'), *key));
    let typed = key.value.word();
    ConfigError::UnknownKey {
        path: path.into(),
        line: key.referenced.line(),
        key: shown(&typed),
        hint: hint(&typed, KEYS.iter().map(|(key, _)| (*key, *key)).chain(flags)),
    }
}

/// What is wrong with a value, and on which line.
struct Wrong {
    line: u64,
    source: ValueError,
}

/// Puts the value of one of [`KEYS`] where it belongs. A key without a value counts as not given.
fn set(settings: &mut Overrides, key: &str, value: &Spanned<Node>) -> Result<(), Wrong> {
    match key {
        "model_id" => settings.model_id = given(value, text)?,
        "sae_release" => settings.sae_release = given(value, text)?,
        "dtype" => settings.dtype = given(value, |node| Choice::parse(&node.word()))?,
        "device" => settings.device = given(value, |node| Choice::parse(&node.word()))?,
        "layers" => {
            settings.layers = match list(value) {
                Some(numbers) => Some(LayerSelection::Only(each(value, numbers, layer_number)?)),
                None => given(value, |node| node.word().parse())?,
            }
        }
        "input_csvs" => {
            settings.input_csvs = match list(value) {
                Some(files) => Some(each(value, files, |node| text(node).map(PathBuf::from))?),
                None => given(value, text)?.map(|file| vec![file.into()]),
            }
        }
        "output_dir" => settings.output_dir = given(value, text)?.map(PathBuf::from),
        "text_column" => settings.text_column = given(value, text)?,
        "sae_convention" => settings.sae_convention = given(value, |node| Choice::parse(&node.word()))?,
        "memory" => settings.memory = given(value, |node| parse_memory(&node.word()))?,
        "threads" => settings.threads = given(value, threads)?,
        "truncate" => settings.truncate = given(value, switch)?,
        "revision" => settings.revision = given(value, text)?,
        _ => unreachable!("`{key}` is on the list of keys but has no setting"),
    }
    Ok(())
}

/// What `read` makes of the value, or nothing if there is none.
fn given<T>(value: &Spanned<Node>, read: impl FnOnce(&Node) -> Result<T, ValueError>) -> Result<Option<T>, Wrong> {
    match &value.value {
        Node::Null => Ok(None),
        node => {
            let wrong = |source| Wrong { line: value.referenced.line(), source };
            read(node).map(Some).map_err(wrong)
        }
    }
}

/// What `read` makes of every element of a list that may not be empty.
fn each<T, C: FromIterator<T>>(
    list: &Spanned<Node>,
    elements: &[Spanned<Node>],
    read: impl Fn(&Node) -> Result<T, ValueError>,
) -> Result<C, Wrong> {
    let wrong = |at: &Spanned<Node>, source| Wrong { line: at.referenced.line(), source };
    if elements.is_empty() {
        return Err(wrong(list, ValueError::Empty));
    }
    elements.iter().map(|element| read(&element.value).map_err(|source| wrong(element, source))).collect()
}

fn list(value: &Spanned<Node>) -> Option<&[Spanned<Node>]> {
    match &value.value {
        Node::List(elements) => Some(elements),
        _ => None,
    }
}

fn text(node: &Node) -> Result<String, ValueError> {
    match node {
        Node::Text(text) if text.trim().is_empty() => Err(ValueError::Empty),
        Node::Text(text) => Ok(text.clone()),
        _ => Err(ValueError::Form { found: node.to_string(), expected: "text; put it in quotes if it is meant so" }),
    }
}

fn layer_number(node: &Node) -> Result<usize, ValueError> {
    let number = match node {
        Node::Int(number) => layer(&number.to_string()),
        _ => None,
    };
    number.ok_or_else(|| ValueError::Form { found: node.to_string(), expected: A_LAYER })
}

fn threads(node: &Node) -> Result<NonZeroUsize, ValueError> {
    parse_threads(&node.word())
}

fn switch(node: &Node) -> Result<bool, ValueError> {
    match node {
        Node::Bool(on) => Ok(*on),
        _ => Err(ValueError::Form { found: node.to_string(), expected: "true or false" }),
    }
}
