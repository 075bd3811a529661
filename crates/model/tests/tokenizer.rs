//! Tokenizers from tokenizer.json: ids, spans, texts, marks, and files that are not right.

mod fixture;

use fixture::{BOS, Folder, VOCAB, added_token, byte_level, template};
use llamascope_model::{Error, Tokenizer};
use llamascope_record::Tokens;
use proptest::prelude::*;
use serde_json::{Value, json};

fn load(tokenizer: &Value) -> Tokenizer {
    Tokenizer::from_folder(Folder::with_tokenizer(tokenizer).path(), VOCAB).unwrap()
}

fn load_with_bos(tokenizer: &Value) -> Tokenizer {
    let folder = Folder::with_tokenizer(tokenizer);
    folder.write("tokenizer_config.json", &json!({"bos_token": "<bos>"}));
    Tokenizer::from_folder(folder.path(), VOCAB).unwrap()
}

fn spans(tokens: &Tokens) -> Vec<(u32, u32)> {
    tokens.spans.iter().map(|span| (span.start, span.end)).collect()
}

fn refusal(tokenizer: &Value, vocab: usize) -> String {
    Tokenizer::from_folder(Folder::with_tokenizer(tokenizer).path(), vocab)
        .err()
        .expect("should be refused")
        .to_string()
}

#[test]
fn bos_is_added_marked_and_covers_no_text() {
    let tokens = load_with_bos(&byte_level()).encode("hell hell").unwrap();
    assert_eq!(tokens.ids, [BOS, 258, 259]);
    assert_eq!(tokens.strs, ["<bos>", "hell", " hell"]);
    assert_eq!(spans(&tokens), [(0, 0), (0, 4), (4, 9)]);
    assert_eq!(tokens.special, [true, false, false]);
    assert_eq!(tokens.bos, [true, false, false]);
}

#[test]
fn an_empty_sentence_is_bos_or_nothing() {
    assert_eq!(load_with_bos(&byte_level()).encode("").unwrap().ids, [BOS]);
    let mut plain = byte_level();
    plain["post_processor"] = Value::Null;
    assert!(load_with_bos(&plain).encode("").unwrap().is_empty());
}

#[test]
fn a_tokenizer_without_bos_adds_none() {
    let mut plain = byte_level();
    plain["post_processor"] = Value::Null;
    let tokens = load(&plain).encode("hell").unwrap();
    assert_eq!((tokens.ids, tokens.bos), (vec![258], vec![false]));
}

#[test]
fn special_tokens_spelt_out_in_the_text_are_themselves() {
    let tokens = load_with_bos(&byte_level()).encode("a<bos>b<eot>").unwrap();
    assert_eq!(tokens.ids, [BOS, 97, BOS, 98, 261]);
    assert_eq!(tokens.bos, [true, false, true, false, false]);
    assert_eq!(tokens.special, [true, false, true, false, true]);
    assert_eq!(spans(&tokens), [(0, 0), (0, 1), (1, 6), (6, 7), (7, 12)]);
}

#[test]
fn tokens_that_split_a_character_cover_all_of_it() {
    let tokens = load(&byte_level()).encode("日😀").unwrap();
    assert_eq!(tokens.ids, [BOS, 0xE6, 0x97, 0xA5, 0xF0, 0x9F, 0x98, 0x80]);
    assert!(tokens.strs[1..].iter().all(|text| text == "\u{FFFD}"));
    assert_eq!(spans(&tokens), [(0, 0), (0, 3), (0, 3), (0, 3), (3, 7), (3, 7), (3, 7), (3, 7)]);
}

#[test]
fn an_added_end_token_stands_behind_the_text() {
    let mut tokenizer = byte_level();
    tokenizer["post_processor"] = template(&["<bos>"], &["<eot>"]);
    let tokens = load(&tokenizer).encode("hell").unwrap();
    assert_eq!(tokens.ids, [BOS, 258, 261]);
    assert_eq!(spans(&tokens), [(0, 0), (0, 4), (4, 4)]);
}

#[test]
fn truncation_and_padding_are_switched_off() {
    let mut tokenizer = byte_level();
    tokenizer["truncation"] = json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
    tokenizer["padding"] = json!({
        "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "!",
    });
    assert_eq!(load(&tokenizer).encode("abc").unwrap().ids, [BOS, 97, 98, 99]);
}

#[test]
fn trimmed_spans_stay_on_whole_characters() {
    // The trimming takes one byte for U+3000, which has three.
    let mut tokenizer = byte_level();
    tokenizer["added_tokens"].as_array_mut().unwrap().push(added_token(262, "\u{3000}x", false));
    tokenizer["post_processor"] = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true});
    let folder = Folder::with_tokenizer(&tokenizer);
    let tokens = Tokenizer::from_folder(folder.path(), VOCAB + 1).unwrap().encode("a\u{3000}x").unwrap();
    assert_eq!(tokens.ids, [97, 262]);
    assert_eq!(spans(&tokens), [(0, 1), (1, 5)]);
}

#[test]
fn a_sentencepiece_token_keeps_its_leading_space() {
    let (tokens, _) = fixture::sentencepiece_tokens();
    let vocab: serde_json::Map<String, Value> = tokens.iter().cloned().zip((0..).map(Value::from)).collect();
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [added_token(0, "<unk>", true), added_token(1, "<s>", true), added_token(2, "</s>", true)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {
            "type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, "vocab": vocab,
            "merges": ["▁ h", "e l", "▁h el", "l o", "▁hel lo"],
        },
    });
    let folder = Folder::with_tokenizer(&tokenizer);
    let tokens = Tokenizer::from_folder(folder.path(), tokens.len()).unwrap().encode("hello hel é").unwrap();
    assert_eq!(tokens.strs, [" hello", " hel", " ", "\u{FFFD}", "\u{FFFD}"]);
    assert_eq!(spans(&tokens), [(0, 5), (5, 9), (9, 10), (10, 12), (10, 12)]);
}

#[test]
fn a_metaspace_token_keeps_its_leading_space() {
    let metaspace = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    let tokenizer = json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "post_processor": null,
        "pre_tokenizer": metaspace, "decoder": metaspace,
        "model": {"type": "BPE", "vocab": {"▁": 0, "a": 1, "▁a": 2}, "merges": ["▁ a"]},
    });
    let tokens = load(&tokenizer).encode("a a").unwrap();
    assert_eq!((tokens.ids, tokens.strs), (vec![2, 2], vec![" a".to_string(), " a".to_string()]));
}

#[test]
fn a_vocabulary_may_be_padded_but_not_short() {
    assert!(Tokenizer::from_folder(Folder::with_tokenizer(&byte_level()).path(), VOCAB + 50).is_ok());
    let message = refusal(&byte_level(), 200);
    assert!(message.contains("ids up to 261") && message.contains("200 rows"), "{message}");
}

#[test]
fn an_id_of_the_post_processor_must_be_in_the_vocabulary() {
    let mut tokenizer = byte_level();
    tokenizer["post_processor"]["special_tokens"]["<bos>"]["ids"] = json!([999_999]);
    let message = refusal(&tokenizer, VOCAB);
    assert!(message.contains("999999"), "{message}");
}

#[test]
fn hostile_ids_and_models_are_refused_without_panic() {
    let mut huge = byte_level();
    huge["model"]["vocab"]["hell"] = json!(u32::MAX);
    assert!(refusal(&huge, VOCAB).contains("4294967295"));

    let mut random = byte_level();
    random["model"]["dropout"] = json!(0.5);
    assert!(refusal(&random, VOCAB).contains("dropout"));

    let mut prefixed = byte_level();
    prefixed["model"]["continuing_subword_prefix"] = json!("a prefix longer than the merge");
    assert!(refusal(&prefixed, VOCAB).contains("continuing_subword_prefix"));

    let token = json!({"SpecialToken": {"id": "<none>", "type_id": 0}});
    let second = json!({"Sequence": {"id": "B", "type_id": 0}});
    for piece in [token, second, json!({"SpecialToken": ["<none>", 0]})] {
        let template = json!({"type": "TemplateProcessing", "single": [piece], "pair": [], "special_tokens": {}});
        let mut templated = byte_level();
        templated["post_processor"] = template.clone();
        assert!(refusal(&templated, VOCAB).contains("post_processor"));
        templated["post_processor"] = json!({"type": "Sequence", "processors": [template]});
        assert!(refusal(&templated, VOCAB).contains("post_processor"));
    }

    let mut torn = byte_level();
    torn["decoder"] = json!("ESCAPE");
    let torn = torn.to_string().replace("\"ESCAPE\"", r#"{"type":"ByteLevel","\ud83d":1}"#);
    let folder = Folder::with_tokenizer(&byte_level());
    std::fs::write(folder.path().join("tokenizer.json"), torn).unwrap();
    let error = Tokenizer::from_folder(folder.path(), VOCAB).err().expect("should be refused").to_string();
    assert!(error.contains("unexpected end of hex escape"), "{error}");

    let mut unmergeable = byte_level();
    unmergeable["model"]["merges"] = json!(["h e", "no such"]);
    assert!(refusal(&unmergeable, VOCAB).contains("tokenizer.json"));

    assert!(refusal(&json!([1, 2]), VOCAB).contains("tokenizer.json"));
}

#[test]
fn a_folder_without_tokenizer_json_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let message = Tokenizer::from_folder(folder.path(), VOCAB).err().unwrap().to_string();
    assert!(message.contains("no tokenizer.json"), "{message}");
    std::fs::write(folder.path().join("tokenizer.model"), "x").unwrap();
    let message = Tokenizer::from_folder(folder.path(), VOCAB).err().unwrap().to_string();
    assert!(message.contains("save_pretrained"), "{message}");
}

#[test]
fn bos_comes_from_whichever_file_names_it() {
    let bos = |tokenizer_config: Value, config: Value| {
        let folder = Folder::with_tokenizer(&byte_level());
        folder.write("tokenizer_config.json", &tokenizer_config);
        folder.write("config.json", &config);
        Tokenizer::from_folder(folder.path(), VOCAB).map(|tokenizer| tokenizer.bos())
    };
    assert_eq!(bos(json!({"bos_token": "<bos>"}), json!({})).unwrap(), Some(BOS));
    assert_eq!(bos(json!({"bos_token": {"content": "<eot>", "lstrip": false}}), json!({})).unwrap(), Some(261));
    assert_eq!(bos(json!({"bos_token": null}), json!({"bos_token_id": BOS})).unwrap(), Some(BOS));
    assert_eq!(bos(json!({}), json!({"bos_token_id": null})).unwrap(), None);
    // transformers' default of 1, where token 1 is an ordinary one.
    assert_eq!(bos(json!({}), json!({"bos_token_id": 1})).unwrap(), None);
    let message = bos(json!({"bos_token": "<s>"}), json!({})).unwrap_err().to_string();
    assert!(message.contains("`<s>`") && message.contains("tokenizer_config.json"), "{message}");
}

#[test]
fn a_batch_keeps_its_order_and_names_the_first_sentence_that_fails() {
    let tokenizer = load(&byte_level());
    let texts: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let one_by_one: Vec<Tokens> = texts.iter().map(|text| tokenizer.encode(text).unwrap()).collect();
    assert_eq!(tokenizer.encode_batch(&texts).unwrap(), one_by_one);

    let long = "a".repeat((16 << 20) + 1);
    match tokenizer.encode_batch(&["fine", &long, &long]) {
        Err(Error::Sentence { index: 1, source }) => assert!(source.to_string().contains("16777217 bytes")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn json_reads_back_to_the_same_tokenizer() {
    let tokenizer = load(&byte_level());
    let json = tokenizer.to_json().unwrap();
    let again = load(&serde_json::from_str(&json).unwrap());
    assert_eq!(again.to_json().unwrap(), json);
    assert_eq!(again.encode("hello 日本").unwrap(), tokenizer.encode("hello 日本").unwrap());
}

proptest! {
    #[test]
    fn spans_cover_the_text_in_order(text in "\\PC{0,20}|[a-l ]{0,20}|.{0,20}") {
        let tokens = load(&byte_level()).encode(&text).unwrap();
        let mut covered = 0;
        for (start, end) in spans(&tokens) {
            prop_assert!(text.get(start as usize..end as usize).is_some(), "{start}..{end} splits a character");
            prop_assert!(start <= covered && covered <= end);
            covered = end;
        }
        prop_assert_eq!(covered as usize, text.len());
    }
}
