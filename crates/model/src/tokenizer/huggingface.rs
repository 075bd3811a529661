//! `tokenizer.json` of a Hugging Face folder, and which of its tokens is BOS.

use std::io::Read;
use std::path::Path;

use llamascope_record::open_file;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Tokenizer;
use crate::Error;

/// Largest JSON file read; Llama 3's tokenizer.json has 17 MB.
const MAX_JSON_BYTES: u64 = 256 << 20;

#[derive(Deserialize)]
struct TokenizerConfig {
    bos_token: Option<TokenName>,
}

/// A token as transformers writes it: its text, or an `AddedToken` that has it.
#[derive(Deserialize)]
#[serde(untagged)]
enum TokenName {
    Text(String),
    Added { content: String },
}

#[derive(Deserialize)]
struct ModelConfig {
    bos_token_id: Option<serde_json::Value>,
}

impl Tokenizer {
    /// `tokenizer.json` in `folder`, for a model with `vocab` rows in its embedding.
    ///
    /// BOS is what `tokenizer_config.json` names; where it names none, the `bos_token_id` of `config.json`, if that is
    /// a special token (transformers writes a 1 there for models that have no BOS at all).
    pub fn from_folder(folder: &Path, vocab: usize) -> Result<Self, Error> {
        let path = folder.join("tokenizer.json");
        if !path.exists() {
            return Err(Error::unsupported(folder, missing(folder)));
        }
        let mut tokenizer = Tokenizer::from_json(&path, &read_text(&path)?, vocab)?;
        tokenizer.bos = bos(folder, &tokenizer)?;
        Ok(tokenizer)
    }
}

fn missing(folder: &Path) -> String {
    if folder.join("tokenizer.model").exists() {
        "there is a tokenizer.model but no tokenizer.json; write one with Python's transformers: \
         AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
            .into()
    } else {
        "there is no tokenizer.json; copy it from where the model came from".into()
    }
}

fn bos(folder: &Path, tokenizer: &Tokenizer) -> Result<Option<u32>, Error> {
    let path = folder.join("tokenizer_config.json");
    if path.exists()
        && let Some(token) = read_json::<TokenizerConfig>(&path)?.bos_token
    {
        let (TokenName::Text(text) | TokenName::Added { content: text }) = token;
        return match tokenizer.inner.token_to_id(&text) {
            Some(id) => Ok(Some(id)),
            None => {
                let what = format!("`bos_token` is `{text}`, which tokenizer.json does not have");
                Err(Error::unsupported(&path, format!("{what}; the two files belong to different models")))
            }
        };
    }
    let path = folder.join("config.json");
    let id = match path.exists() {
        true => read_json::<ModelConfig>(&path)?.bos_token_id.and_then(|id| id.as_u64()),
        false => None,
    };
    let special = |id: &u32| tokenizer.vocabulary.get(*id as usize).is_some_and(|entry| entry.special);
    Ok(id.and_then(|id| u32::try_from(id).ok()).filter(special))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    serde_json::from_str(&read_text(path)?)
        .map_err(|error| Error::unsupported(path, format!("not what transformers writes there: {error}")))
}

/// A text file of at most [`MAX_JSON_BYTES`].
pub(crate) fn read_text(path: &Path) -> Result<String, Error> {
    let io = |source| Error::Io { path: path.into(), source };
    let file = open_file(path).map_err(io)?;
    let mut text = String::new();
    file.take(MAX_JSON_BYTES + 1).read_to_string(&mut text).map_err(io)?;
    if text.len() as u64 > MAX_JSON_BYTES {
        return Err(Error::unsupported(path, format!("larger than {MAX_JSON_BYTES} bytes, which no such file is")));
    }
    Ok(text)
}
