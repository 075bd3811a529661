//! Byte-level BPE in GGUF metadata (`tokenizer.ggml.model` is `gpt2`): GPT-2's alphabet of 256 letters for the bytes,
//! and a list of merges.
//!
//! Pre-tokenizers by name: llama.cpp's `src/llama-vocab.cpp`.

use llamascope_weights::Gguf;
use serde_json::{Value, json};

use super::{Parts, Vocabulary};
use crate::Error;

/// How a text is cut into words before the merges, and what comes with that.
struct PreTokenizer {
    names: &'static [&'static str],
    /// Every match of the first is a piece, and so is what lies between; the next cuts those pieces, and so on.
    patterns: &'static [&'static str],
    /// Whether a word that is a token is taken whole, whatever the merges say.
    ignore_merges: bool,
    add_bos: bool,
}

const GPT2_WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

const PRE_TOKENIZERS: [PreTokenizer; 4] = [
    PreTokenizer {
        names: &["llama-bpe", "llama-v3", "llama3"],
        patterns: &[concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )],
        ignore_merges: true,
        add_bos: true,
    },
    PreTokenizer { names: &["smollm"], patterns: &[r"\p{N}", GPT2_WORDS], ignore_merges: false, add_bos: false },
    PreTokenizer { names: &["gpt-2"], patterns: &[GPT2_WORDS], ignore_merges: false, add_bos: false },
    PreTokenizer {
        names: &["default"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2_WORDS, r"\p{N}+", r"[0-9][0-9][0-9]"],
        ignore_merges: false,
        add_bos: false,
    },
];

/// The vocabulary as a byte-level BPE, with the pre-tokenizer that the file names.
pub(super) fn parts(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Parts, Error> {
    let err = |what: String| Err(Error::unsupported(vocabulary.path, what));
    let Some(name) = gguf.opt_str("tokenizer.ggml.pre")? else {
        let what = "no `tokenizer.ggml.pre` says how a text is cut into words";
        return err(format!("{what}; convert the model anew with a current llama.cpp (known: {})", known_names()));
    };
    let Some(pre) = PRE_TOKENIZERS.iter().find(|pre| pre.names.contains(&name)) else {
        return err(format!("`tokenizer.ggml.pre` is `{name:.40}`; known: {}", known_names()));
    };
    let mut merges = Vec::new();
    for (rank, merge) in gguf.strs("tokenizer.ggml.merges")?.iter().enumerate() {
        let Some((left, right)) = merge.split_once(' ') else {
            return err(format!("merge {rank} is `{merge:.40}`, expected two tokens with a space between"));
        };
        for token in [left, right, &format!("{left}{right}")] {
            if !vocabulary.ids.contains_key(token) {
                return err(format!("merge {rank} (`{merge:.40}`) needs the token `{token:.40}`, which there is not"));
            }
        }
        merges.push(json!([left, right]));
    }
    let split = |pattern: &&str| {
        let pattern = json!({"Regex": pattern});
        json!({"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false})
    };
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
    let steps: Vec<Value> = pre.patterns.iter().map(split).chain([bytes.clone()]).collect();
    Ok(Parts {
        normalizer: Value::Null,
        pre_tokenizer: json!({"type": "Sequence", "pretokenizers": steps}),
        decoder: bytes,
        model: json!({
            "type": "BPE", "unk_token": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": pre.ignore_merges, "vocab": vocabulary.to_json(), "merges": merges,
        }),
        add_bos: pre.add_bos,
        bos: None,
    })
}

fn known_names() -> String {
    let names = PRE_TOKENIZERS.iter().flat_map(|pre| pre.names);
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
