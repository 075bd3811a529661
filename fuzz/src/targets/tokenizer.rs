//! `tokenizer.json`, and the two files that name BOS.

use std::cell::LazyCell;

use llamascope_model::Tokenizer;

use crate::place::Place;
use crate::{Target, fixture, join, parts};

/// See the module.
pub const TARGET: Target = Target { name: "tokenizer", run, seeds, base_bytes: 16 << 20, bytes_per_byte: 4 << 10 };

/// Rows of the embedding that the tokenizer is said to belong to.
const VOCAB: usize = 1 << 17;

/// What every tokenizer is asked to take apart.
const TEXTS: [&str; 5] =
    ["", " The capital of  France is Paris.\n", "東京は🦙", "<s></s>\u{0}\u{feff}a\u{301}", "<0x41>▁x"];

fn run(data: &[u8]) {
    thread_local!(static PLACE: LazyCell<Place> = const { LazyCell::new(Place::new) });
    PLACE.with(|place| {
        let [tokenizer, tokenizer_config, config] = parts(data);
        place.write("tokenizer.json", tokenizer);
        place.write_or_remove("tokenizer_config.json", tokenizer_config);
        place.write_or_remove("config.json", config);
        match Tokenizer::from_folder(place.path(), VOCAB) {
            Err(error) => drop(error.to_string()),
            Ok(tokenizer) => speak(&tokenizer),
        }
    });
}

/// Takes some texts apart and holds the tokens against what the type promises.
pub fn speak(tokenizer: &Tokenizer) {
    for text in TEXTS {
        let tokens = match tokenizer.encode(text) {
            Ok(tokens) => tokens,
            Err(error) => {
                error.to_string();
                continue;
            }
        };
        let lengths = [tokens.spans.len(), tokens.strs.len(), tokens.special.len(), tokens.bos.len()];
        assert_eq!(lengths, [tokens.ids.len(); 4]);
        for (span, (&id, text_of)) in tokens.spans.iter().zip(tokens.ids.iter().zip(&tokens.strs)) {
            assert!(text.get(span.start as usize..span.end as usize).is_some(), "{span:?} of {text:?}");
            assert_eq!(tokenizer.token(id), Some(text_of.as_str()));
        }
        assert_eq!(tokenizer.encode(text).expect("it was taken apart before"), tokens);
    }
    let _ = tokenizer.to_json();
}

fn seeds() -> Vec<Vec<u8>> {
    let small = br#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[{"id":0,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"_"},{"type":"Replace","pattern":{"String":" "},"content":"_"}]},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"\\p{L}+|\\s+(?!\\S)"},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]},"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],"special_tokens":{"<s>":{"id":"<s>","ids":[0],"tokens":["<s>"]}}},"decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},"model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":true,"vocab":{"<s>":0,"a":1,"b":2,"ab":3},"merges":[["a","b"]]}}"#;
    vec![
        join(&[small, br#"{"bos_token": "<s>"}"#]),
        join(&[small, br#"{"bos_token": {"content": "<s>", "special": true}}"#]),
        join(&[small, b"", br#"{"bos_token_id": 0}"#]),
        fixture("tied/model/tokenizer.json"),
        fixture("llama3/model/tokenizer.json"),
    ]
}
