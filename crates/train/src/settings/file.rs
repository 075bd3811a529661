//! Reading the file, and what can be wrong with it.

use std::io::Read;
use std::path::{Path, PathBuf};

use llamascope_pipeline::config::yaml::{self, Node};
use llamascope_pipeline::config::{LayerSelection, MAX_CONFIG_BYTES, ValueError, hint, shown};

use super::{KEYS, Kind, Layout, Settings};

/// What is wrong with a training's file. Whatever was typed is shown escaped and cut.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum SettingsError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: larger than {MAX_CONFIG_BYTES} bytes; is this a config file?", path.display())]
    TooLarge { path: PathBuf },
    #[error("{}:{line}: {what}", path.display())]
    Syntax { path: PathBuf, line: u64, what: String },
    #[error("{}:{line}: unknown key `{key}`{hint}; the keys are {}", path.display(), names())]
    UnknownKey { path: PathBuf, line: u64, key: String, hint: String },
    #[error("{}:{line}: {key}: {source}", path.display())]
    Value { path: PathBuf, line: u64, key: &'static str, source: ValueError },
    /// Settings that do not go together: a full sentence with the way out.
    #[error("{}: {what}", path.display())]
    Together { path: PathBuf, what: String },
}

fn names() -> String {
    KEYS.iter().map(|key| key.name).collect::<Vec<_>>().join(", ")
}

impl Settings {
    /// Reads a file. Relative paths in it are relative to the current folder.
    ///
    /// # Errors
    /// Whatever is wrong with it, by line.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let failed = |source| SettingsError::Read { path: path.into(), source };
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(MAX_CONFIG_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        Settings::parse(path, &bytes)
    }

    /// Reads the bytes of a file; `path` is only named in errors.
    ///
    /// # Errors
    /// As [`Settings::read`].
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, SettingsError> {
        if bytes.len() as u64 > MAX_CONFIG_BYTES {
            return Err(SettingsError::TooLarge { path: path.into() });
        }
        let syntax = |line, what| SettingsError::Syntax { path: path.into(), line, what };
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let lines = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
            syntax(lines as u64 + 1, "not UTF-8; save the file as UTF-8".into())
        })?;
        let root = yaml::read(text).map_err(|(line, what)| syntax(line, what))?;
        let mut settings = Settings::default();
        match &root.value {
            Node::Null => {}
            Node::Map(entries) => {
                for (typed, value) in entries {
                    let (line, word) = (typed.referenced.line(), typed.value.word());
                    let key = KEYS.iter().find(|key| key.name == word).ok_or_else(|| SettingsError::UnknownKey {
                        path: path.into(),
                        line,
                        key: shown(&word),
                        hint: hint(&word, KEYS.iter().map(|key| (key.name, key.name))),
                    })?;
                    if matches!(value.value, Node::Null) {
                        continue;
                    }
                    (key.set)(&mut settings, &value.value).map_err(|source| SettingsError::Value {
                        path: path.into(),
                        line: value.referenced.line(),
                        key: key.name,
                        source,
                    })?;
                }
            }
            other => {
                let what = format!("expected keys with values such as `model_id: NAME`, found {other}");
                return Err(syntax(root.referenced.line(), what));
            }
        }
        match settings.contradiction() {
            Some(what) => Err(SettingsError::Together { path: path.into(), what }),
            None => Ok(settings),
        }
    }

    /// What does not go together.
    fn contradiction(&self) -> Option<String> {
        let Settings { batch, buffer, reuse, tokens, k, k_start, .. } = self;
        let rows = |n: usize| format!("{n} rows");
        let none = matches!(&self.layers, LayerSelection::Only(layers) if layers.is_empty());
        if none {
            return Some("no `layers`: say for which layers SAEs are wanted, such as `layers: [10]`".into());
        }
        match (&self.activations, self.model_id.is_empty(), self.text.is_empty()) {
            (None, true, _) => return Some("no `model_id`: name the model, or give rows in `activations`".into()),
            (None, false, true) => return Some("no `text`: name the files to read".into()),
            (Some(_), _, false) => return Some("`activations` and `text` exclude each other: leave one out".into()),
            _ => {}
        }
        if buffer % 2 != 0 || (buffer / 2 * reuse) % batch != 0 || buffer / 2 < *batch {
            let way_out = batch * 2 * (buffer / (2 * batch)).max(1);
            return Some(format!(
                "`buffer` is {} and `batch` {}: half of the buffer must hold whole batches; write `buffer: {way_out}`",
                rows(*buffer),
                rows(*batch)
            ));
        }
        if *tokens < 2 * *buffer as u64 {
            return Some(format!(
                "`tokens` is {tokens}, the buffer alone holds {}: train on at least twice as many, or make `buffer` \
                 smaller",
                rows(*buffer)
            ));
        }
        if self.kind != Kind::Relu && k_start.is_some_and(|start| start < *k) {
            return Some(format!("`k_start` is below `k`, which is {k}: k falls while an SAE is trained"));
        }
        if self.kind == Kind::BatchTopK && !self.jumprelu {
            let what = "`kind: batch_topk` needs `jumprelu: true`: without a threshold, which features of a token are \
                        active would depend on the other tokens of its batch";
            return Some(what.into());
        }
        if self.kind == Kind::TopK && !self.jumprelu && self.layouts.contains(&Layout::LlamaScope) {
            let what = "the layout `llama_scope` holds a threshold and no count of features: write `jumprelu: true`, \
                        or `layouts: [saelens]`, which can say TopK";
            return Some(what.into());
        }
        (self.warm_up + self.decay > 1.0)
            .then(|| "`warm_up` and `decay` are more than all steps: make them smaller".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Stored;

    fn parse(text: &str) -> Result<Settings, SettingsError> {
        Settings::parse(Path::new("train.yaml"), text.as_bytes())
    }

    const BASE: &str = "model_id: m.gguf\nlayers: [5, 10]\ntext: a.txt\n";

    #[test]
    fn a_file_is_read_and_written_back() {
        let text = format!(
            "{BASE}tokens: 4e6\nkind: topk\nk_start: 200\nweights: float32\nlayouts: [saelens, llama_scope]\nseed: 7\n"
        );
        let settings = parse(&text).unwrap();
        assert_eq!((settings.tokens, settings.kind, settings.k_start), (4_000_000, Kind::TopK, Some(200)));
        assert_eq!((settings.weights, settings.layouts.len()), (Stored::Float32, 2));
        assert_eq!(settings.layouts[0], Layout::Saelens);
        // JSON is YAML.
        assert_eq!(parse(&settings.to_json().to_string()).unwrap(), settings);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_the_way_out() {
        for (text, says) in [
            ("modle_id: x\n", "train.yaml:1: unknown key `modle_id`: did you mean `model_id`?"),
            ("layers: [10]\nkind: jump\n", "train.yaml:2: kind: `jump` is not one of topk, batch_topk, relu"),
            ("kind: l1\n", "did you mean `relu`?"),
            ("k: -3\n", "train.yaml:1: k: `-3` is not a whole number above 0"),
            ("learning_rate: fast\n", "`fast` is not a number"),
            ("site: mlp\n", "resid_post, attn_out or mlp_out"),
            ("layers: [-1]\n", "`-1`"),
            ("text: []\n", "is empty"),
            ("- a\n", "expected keys with values"),
            ("a: [\n", "train.yaml:"),
            ("model_id: m\ntext: a.txt\n", "no `layers`"),
            ("model_id: m\nlayers: [1]\n", "no `text`"),
            ("layers: [1]\n", "no `model_id`"),
            ("layers: [1]\nactivations: a\ntext: b\n", "exclude each other"),
            (&format!("{BASE}batch: 1000\n"), "write `buffer: 32000`"),
            (&format!("{BASE}tokens: 40000\n"), "at least twice as many"),
            (&format!("{BASE}k_start: 3\n"), "`k_start` is below `k`"),
            (&format!("{BASE}jumprelu: false\n"), "needs `jumprelu: true`"),
            (&format!("{BASE}kind: topk\njumprelu: false\n"), "write `jumprelu: true`, or `layouts: [saelens]`"),
            (&format!("{BASE}decay: 0.99\n"), "more than all steps"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(Settings::parse(Path::new("x"), b"\xff").unwrap_err().to_string().contains("UTF-8"));
    }
}
