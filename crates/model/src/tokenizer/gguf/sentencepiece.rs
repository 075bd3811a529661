//! SentencePiece BPE in GGUF metadata (`tokenizer.ggml.model` is `llama`): characters, merged in the order of the
//! tokens' scores; bytes for characters that are no tokens.
//!
//! Merges from scores: transformers' `convert_slow_tokenizer.py`.

use std::cmp::Reverse;

use llamascope_weights::Gguf;
use serde_json::{Value, json};

use super::{Parts, Vocabulary, check_len, kind};
use crate::Error;

/// Longest SentencePiece token accepted, so that trying all its splits stays cheap; Llama 2's longest has 48 bytes.
const MAX_PIECE_BYTES: usize = 256;
/// Most merges accepted from SentencePiece scores; Llama 2's 32000 tokens give 61249.
const MAX_MERGES: usize = 1 << 22;

/// SentencePiece's stand-in for a space.
const SPACE: &str = "\u{2581}";

/// The vocabulary as a BPE over the characters of a text.
pub(super) fn parts(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Parts, Error> {
    let merges: Vec<Value> =
        merges_by_score(gguf, vocabulary)?.iter().map(|(left, right)| json!([left, right])).collect();
    let unknown = vocabulary.id(gguf, "tokenizer.ggml.unknown_token_id")?.unwrap_or(0);
    let unknown = vocabulary.tokens.get(unknown as usize);
    let mut normalizers = vec![json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if gguf.opt_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true) {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": SPACE}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Ok(Parts {
        normalizer: json!({"type": "Sequence", "normalizers": normalizers}),
        pre_tokenizer: Value::Null,
        decoder: json!({"type": "Sequence", "decoders": decoders}),
        model: json!({
            "type": "BPE", "unk_token": unknown, "fuse_unk": true, "byte_fallback": true,
            "ignore_merges": false, "vocab": vocabulary.to_json(), "merges": merges,
        }),
        add_bos: true,
        bos: (vocabulary.tokens.len() > 1).then_some(1),
    })
}

/// Every way to put a token together from two others, best score first; of equal ones the longer left part first.
fn merges_by_score<'a>(gguf: &Gguf, vocabulary: &Vocabulary<'a>) -> Result<Vec<(&'a str, &'a str)>, Error> {
    let err = |what: String| Err(Error::unsupported(vocabulary.path, what));
    let scores = gguf.floats("tokenizer.ggml.scores")?;
    check_len(vocabulary.path, "scores", scores.len(), vocabulary.tokens.len())?;
    let mut merges = Vec::new();
    for ((token, kind), &score) in vocabulary.tokens.iter().zip(&vocabulary.kinds).zip(scores) {
        if *kind != kind::NORMAL {
            continue;
        }
        if token.len() > MAX_PIECE_BYTES {
            return err(format!(
                "a token has {} bytes, at most {MAX_PIECE_BYTES} are accepted: `{token:.40}`",
                token.len()
            ));
        }
        if !score.is_finite() {
            return err(format!("the score of `{token}` is {score}"));
        }
        let id = |part: &str| vocabulary.ids.get(part).copied();
        let splits = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
        let mut splits: Vec<_> =
            splits.filter_map(|(left, right)| Some((id(left)?, id(right)?, left, right))).collect();
        splits.sort_unstable();
        merges.extend(splits.into_iter().map(|(_, _, left, right)| (score, left, right)));
        if merges.len() > MAX_MERGES {
            return err(format!("the tokens can be merged in more than {MAX_MERGES} ways, which is what is accepted"));
        }
    }
    let n_chars = |part: &str| Reverse(part.chars().count());
    merges.sort_by(|a, b| {
        b.0.total_cmp(&a.0).then_with(|| (n_chars(a.1), n_chars(a.2)).cmp(&(n_chars(b.1), n_chars(b.2))))
    });
    Ok(merges.into_iter().map(|(_, left, right)| (left, right)).collect())
}
