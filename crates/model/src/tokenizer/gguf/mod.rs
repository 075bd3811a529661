//! The vocabulary in a GGUF file's metadata, written as the tokenizer.json that it stands for.
//!
//! Keys: ggml's docs/gguf.md. Kinds of tokens and defaults: llama.cpp's `src/llama-vocab.cpp`.

mod byte_level;
mod sentencepiece;

use std::collections::HashMap;
use std::path::Path;

use llamascope_weights::Gguf;
use serde_json::{Value, json};

use super::Tokenizer;
use crate::Error;

/// `tokenizer.ggml.token_type`.
mod kind {
    pub const NORMAL: i64 = 1;
    pub const UNKNOWN: i64 = 2;
    pub const CONTROL: i64 = 3;
    pub const USER_DEFINED: i64 = 4;
}

/// The parts of a tokenizer.json in which the two kinds of vocabulary differ, and their defaults.
struct Parts {
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    model: Value,
    add_bos: bool,
    bos: Option<u32>,
}

/// The tokens by id and by text.
struct Vocabulary<'a> {
    path: &'a Path,
    tokens: &'a [String],
    /// As many as tokens.
    kinds: Vec<i64>,
    ids: HashMap<&'a str, u32>,
}

impl Tokenizer {
    /// The tokenizer in the metadata of an open file, for a model with `vocab` rows in its embedding.
    pub fn from_gguf(gguf: &Gguf, vocab: usize) -> Result<Self, Error> {
        let path = gguf.tensors.path();
        let vocabulary = Vocabulary::read(path, gguf)?;
        let parts = match gguf.str("tokenizer.ggml.model")? {
            "gpt2" => byte_level::parts(gguf, &vocabulary)?,
            "llama" => sentencepiece::parts(gguf, &vocabulary)?,
            other => {
                let what = format!(
                    "its tokenizer is of model `{other}`; supported: `gpt2` (byte-level BPE), `llama` (SentencePiece)"
                );
                return Err(Error::unsupported(path, what));
            }
        };
        let bos = vocabulary.id(gguf, "tokenizer.ggml.bos_token_id")?.or(parts.bos);
        let eos = vocabulary.id(gguf, "tokenizer.ggml.eos_token_id")?;
        let add_bos = gguf.opt_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(parts.add_bos);
        let add_eos = gguf.opt_bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
        let added = |add: bool, id: Option<u32>, name: &str| match (add, id) {
            (false, _) => Ok(None),
            (true, Some(id)) => Ok(Some((id, vocabulary.tokens[id as usize].as_str()))),
            (true, None) => Err(Error::unsupported(
                path,
                format!("a text is to get {name}, but no `tokenizer.ggml.{name}_token_id` says which token"),
            )),
        };
        let json = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": vocabulary.added_tokens(),
            "normalizer": parts.normalizer,
            "pre_tokenizer": parts.pre_tokenizer,
            "post_processor": template(added(add_bos, bos, "bos")?, added(add_eos, eos, "eos")?),
            "decoder": parts.decoder,
            "model": parts.model,
        });
        let mut tokenizer = Tokenizer::from_json(path, &json.to_string(), vocab)?;
        tokenizer.bos = bos;
        Ok(tokenizer)
    }
}

impl<'a> Vocabulary<'a> {
    fn read(path: &'a Path, gguf: &'a Gguf) -> Result<Self, Error> {
        let tokens = gguf.strs("tokenizer.ggml.tokens")?;
        let mut ids = HashMap::with_capacity(tokens.len());
        for (id, token) in (0u32..).zip(tokens) {
            if let Some(first) = ids.insert(token.as_str(), id) {
                let what = format!("`tokenizer.ggml.tokens` has `{token:.40}` twice, as {first} and as {id}");
                return Err(Error::unsupported(path, what));
            }
        }
        let kinds = gguf.opt_ints("tokenizer.ggml.token_type")?;
        let kinds = kinds.map_or_else(|| vec![kind::NORMAL; tokens.len()], <[i64]>::to_vec);
        check_len(path, "token_type", kinds.len(), tokens.len())?;
        Ok(Vocabulary { path, tokens, kinds, ids })
    }

    /// The token id under `key`, if there is one.
    fn id(&self, gguf: &Gguf, key: &str) -> Result<Option<u32>, Error> {
        let Some(id) = gguf.opt_u64(key)? else { return Ok(None) };
        match u32::try_from(id).ok().filter(|id| (*id as usize) < self.tokens.len()) {
            Some(id) => Ok(Some(id)),
            None => {
                let what = format!("`{key}` is {id}, but there are {} tokens", self.tokens.len());
                Err(Error::unsupported(self.path, what))
            }
        }
    }

    /// The tokens that are found in a text before anything else is done to it.
    fn added_tokens(&self) -> Vec<Value> {
        let added = |(id, (token, kind)): (usize, (&String, &i64))| {
            let special = match *kind {
                kind::UNKNOWN | kind::CONTROL => true,
                kind::USER_DEFINED => false,
                _ => return None,
            };
            Some(json!({
                "id": id, "content": token, "special": special,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            }))
        };
        self.tokens.iter().zip(&self.kinds).enumerate().filter_map(added).collect()
    }

    /// The `vocab` of a BPE model.
    fn to_json(&self) -> Value {
        self.tokens.iter().cloned().zip((0u32..).map(Value::from)).collect()
    }
}

/// The post-processor that puts BOS before a text and EOS behind it.
fn template(bos: Option<(u32, &str)>, eos: Option<(u32, &str)>) -> Value {
    if bos.is_none() && eos.is_none() {
        return Value::Null;
    }
    let sequence = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let special = |(_, token): (u32, &str)| json!({"SpecialToken": {"id": token, "type_id": 0}});
    let single: Vec<Value> = bos.map(special).into_iter().chain([sequence("A")]).chain(eos.map(special)).collect();
    let tokens: serde_json::Map<String, Value> = [bos, eos]
        .into_iter()
        .flatten()
        .map(|(id, token)| (token.to_string(), json!({"id": token, "ids": [id], "tokens": [token]})))
        .collect();
    let pair = [sequence("A"), sequence("B")];
    json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens})
}

/// Whether a list that goes with the tokens is as long as theirs.
fn check_len(path: &Path, key: &str, found: usize, tokens: usize) -> Result<(), Error> {
    if found == tokens {
        return Ok(());
    }
    Err(Error::unsupported(path, format!("`tokenizer.ggml.{key}` has {found} entries for {tokens} tokens")))
}
