//! Tokens against those of the `tokenizers` and `sentencepiece` libraries.

use std::fs;

use llamascope_model::{Checkpoint, Tokenizer};
use llamascope_weights::Gguf;
use serde::Deserialize;

use crate::support::{fixture, sentences};

/// A sentence as the reference sees it.
#[derive(Deserialize)]
struct Expected {
    sentence: usize,
    ids: Vec<u32>,
    decoded_each: Option<Vec<String>>,
}

#[test]
fn every_sentence_has_the_same_tokens() {
    for (model, folder) in [
        ("llama3/model", "llama3"),
        ("gguf/mixed.gguf", "llama3"),
        ("gguf/k_quants.gguf", "llama3"),
        ("tied/model", "tied"),
        ("gguf/tied.gguf", "tied"),
    ] {
        let checkpoint = Checkpoint::open(&fixture(model)).unwrap();
        let compared = compare(&checkpoint.tokenizer, &format!("{folder}/expected/tokens.json"), folder);
        assert_eq!(compared, sentences(folder).len(), "{model}");
    }
}

#[test]
fn sentencepiece_with_byte_fallback_has_the_same_tokens() {
    let gguf = Gguf::open(&fixture("gguf/spm.gguf")).unwrap();
    let vocab = gguf.strs("tokenizer.ggml.tokens").unwrap().len();
    let tokenizer = Tokenizer::from_gguf(&gguf, vocab).unwrap();
    assert_eq!(compare(&tokenizer, "gguf/expected/spm_tokens.json", "llama3"), 11);
}

/// How many sentences were compared.
fn compare(tokenizer: &Tokenizer, expected: &str, texts: &str) -> usize {
    let texts = sentences(texts);
    let expected: Vec<Expected> = serde_json::from_str(&fs::read_to_string(fixture(expected)).unwrap()).unwrap();
    for sentence in &expected {
        let tokens = tokenizer.encode(&texts[sentence.sentence]).unwrap();
        assert_eq!(tokens.ids, sentence.ids, "sentence {}", sentence.sentence);
        if let Some(strs) = &sentence.decoded_each {
            assert_eq!(tokens.strs, *strs, "sentence {}", sentence.sentence);
        }
    }
    expected.len()
}
