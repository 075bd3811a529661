//! Text to tokens, exactly as the model's own tokenizer.json (or GGUF metadata) says.
//!
//! The work is that of Hugging Face's `tokenizers` crate. A GGUF file's vocabulary is first written as the
//! tokenizer.json that it stands for, so that there is one way in.

mod gguf;
mod huggingface;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use llamascope_record::{Span, Tokens};
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::Value;
use tokenizers::decoders::sequence::Sequence;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::{Decoder, DecoderWrapper};

pub(crate) use huggingface::read_text;

use crate::Error;

/// Longest text accepted. Far beyond every context; the tokenizer holds some 50 bytes for each of its bytes.
const MAX_TEXT_BYTES: usize = 16 << 20;

/// A loaded tokenizer.
pub struct Tokenizer {
    path: PathBuf,
    inner: tokenizers::Tokenizer,
    /// How a token reads that stands alone: the tokenizer's decoder, less what it does to the start of a text.
    decoder: Option<DecoderWrapper>,
    /// By id; as long as the highest id asks for.
    vocabulary: Vec<Entry>,
    bos: Option<u32>,
}

#[derive(Default)]
struct Entry {
    special: bool,
    /// Decoded when first asked for.
    text: OnceLock<String>,
}

impl Tokenizer {
    /// A `tokenizer.json` for a model with `vocab` rows in its embedding; `path` is its file, for messages.
    fn from_json(path: &Path, json: &str, vocab: usize) -> Result<Self, Error> {
        let err = |what: String| Error::unsupported(path, what);
        check_outline(path, json)?;
        let mut inner: tokenizers::Tokenizer =
            json.parse().map_err(|error| err(format!("not a tokenizer that the tokenizers library reads: {error}")))?;
        // Settings left over from training; a text is never cut or filled up unasked.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| err(error.to_string()))?;

        let ids = inner.get_vocab(true);
        let len = ids.values().max().map_or(0, |&max| max as usize + 1);
        if len > vocab {
            let what = format!("it has token ids up to {}, but the model's embedding has {vocab} rows", len - 1);
            return Err(err(format!("{what}; take the tokenizer that belongs to the model")));
        }
        let mut vocabulary: Vec<Entry> = Vec::new();
        vocabulary.resize_with(len, Entry::default);
        for (id, token) in inner.get_added_tokens_decoder() {
            vocabulary[id as usize].special = token.special;
        }
        let decoder = inner.get_decoder().cloned().and_then(standing_alone);
        let tokenizer = Tokenizer { path: path.into(), inner, decoder, vocabulary, bos: None };
        // Shows a post-processor that adds ids outside the vocabulary.
        tokenizer.encode("")?;
        Ok(tokenizer)
    }

    /// Tokens of a sentence, with whatever the tokenizer's own post-processor adds (BOS or not).
    pub fn encode(&self, text: &str) -> Result<Tokens, Error> {
        let err = |what: String| Error::Encode { path: self.path.clone(), what };
        if text.len() > MAX_TEXT_BYTES {
            return Err(err(format!("the text has {} bytes, at most {MAX_TEXT_BYTES} are accepted", text.len())));
        }
        let encoding = self.inner.encode(text, true).map_err(|error| err(error.to_string()))?;
        let mut tokens = Tokens::default();
        let mut covered = 0;
        for (&id, &offsets) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
            let Some(entry) = self.vocabulary.get(id as usize) else {
                let what = format!("token id {id} came out, but the ids end at {}", self.vocabulary.len());
                return Err(err(what));
            };
            let span = span(text, offsets, covered);
            covered = covered.max(span.end);
            tokens.ids.push(id);
            tokens.spans.push(span);
            tokens.strs.push(self.text(id, entry).to_string());
            tokens.special.push(entry.special);
            tokens.bos.push(Some(id) == self.bos);
        }
        Ok(tokens)
    }

    /// Tokens of many sentences, in their order, on all threads of the current rayon pool. The error is that of the
    /// first sentence that has one.
    pub fn encode_batch<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Vec<Tokens>, Error> {
        let results: Vec<Result<Tokens, Error>> = texts.par_iter().map(|text| self.encode(text.as_ref())).collect();
        let located = |(index, result): (usize, Result<Tokens, Error>)| {
            result.map_err(|source| Error::Sentence { index, source: Box::new(source) })
        };
        results.into_iter().enumerate().map(located).collect()
    }

    /// Id of the token that begins a text, where the model names one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token decoded by itself, with U+FFFD for bytes that are not a character alone. None: no such id.
    pub fn token(&self, id: u32) -> Option<&str> {
        self.vocabulary.get(id as usize).map(|entry| self.text(id, entry))
    }

    /// The whole tokenizer as a tokenizer.json, always the same for the same tokenizer: what to hash.
    pub fn to_json(&self) -> Result<String, Error> {
        self.inner.to_string(false).map_err(|error| Error::unsupported(&self.path, error.to_string()))
    }

    fn text<'a>(&'a self, id: u32, entry: &'a Entry) -> &'a str {
        entry.text.get_or_init(|| {
            // An id that no token has decodes to nothing, as it does in the library.
            let Some(token) = self.inner.id_to_token(id) else { return String::new() };
            let decoded = self.decoder.as_ref().and_then(|decoder| decoder.decode(vec![token.clone()]).ok());
            decoded.unwrap_or(token)
        })
    }
}

/// Refuses a model for which the library panics or rolls dice.
fn check_outline(path: &Path, json: &str) -> Result<(), Error> {
    #[derive(Deserialize)]
    struct Outline {
        model: Model,
        post_processor: Option<Value>,
        /// Read only to be known as JSON in all its parts: the library panics where it is not.
        #[serde(rename = "decoder")]
        _decoder: Option<Value>,
    }
    #[derive(Deserialize)]
    struct Model {
        dropout: Option<f32>,
        continuing_subword_prefix: Option<String>,
    }
    let err = |what: &str| Err(Error::unsupported(path, what));
    let outline: Outline = serde_json::from_str(json).map_err(|error| {
        Error::unsupported(path, format!("not a tokenizer.json of the tokenizers library: {error}"))
    })?;
    if outline.model.dropout.is_some_and(|dropout| dropout != 0.0) {
        return err("its merges are dropped at random (`model.dropout`); set it to null");
    }
    if outline.model.continuing_subword_prefix.is_some_and(|prefix| !prefix.is_empty()) {
        return err("`model.continuing_subword_prefix` is set, which no tokenizer of the Llama family does");
    }
    if !outline.post_processor.iter().all(has_its_tokens) {
        return err(
            "the template of `post_processor` names a token that its `special_tokens` do not have, or a second text",
        );
    }
    Ok(())
}

/// Whether the template for a single text is made of that text and of special tokens that it describes; so each of a
/// sequence of processors.
fn has_its_tokens(processor: &Value) -> bool {
    let of_list = |key: &str| processor[key].as_array().into_iter().flatten();
    let is_known = |piece: &Value| match piece["SpecialToken"]["id"].as_str() {
        Some(id) => !processor["special_tokens"][id].is_null(),
        None => piece["Sequence"]["id"] == "A",
    };
    of_list("single").all(is_known) && of_list("processors").all(has_its_tokens)
}

/// The decoder for a token that is not the first of its text: without the steps that drop a leading space, which is
/// part of the token wherever it stands.
fn standing_alone(decoder: DecoderWrapper) -> Option<DecoderWrapper> {
    match decoder {
        DecoderWrapper::Strip(_) => None,
        DecoderWrapper::Sequence(steps) => {
            let steps = steps.get_decoders().iter().cloned().filter_map(standing_alone).collect();
            Some(DecoderWrapper::Sequence(Sequence::new(steps)))
        }
        DecoderWrapper::Metaspace(mut metaspace) => {
            metaspace.set_prepend_scheme(PrependScheme::Never);
            Some(DecoderWrapper::Metaspace(metaspace))
        }
        other => Some(other),
    }
}

/// The library's byte offsets as a span of whole characters inside `text`. An empty one (a token that stands for no
/// text) goes to the end of what is `covered` so far, so that spans never run backwards.
fn span(text: &str, (start, end): (usize, usize), covered: u32) -> Span {
    if start >= end {
        return Span { start: covered, end: covered };
    }
    // MAX_TEXT_BYTES fits u32.
    Span { start: text.floor_char_boundary(start) as u32, end: text.ceil_char_boundary(end) as u32 }
}
