//! Config and tokenizer from GGUF metadata, and metadata that is not right.

mod fixture;

use fixture::{BOS, Folder, GgufFile, Meta, VOCAB, byte_level};
use llamascope_model::{Checkpoint, RopeLayout, RopeScaling, Tokenizer};
use llamascope_record::Tokens;
use tempfile::TempDir;

fn open(file: &GgufFile) -> Checkpoint {
    let folder = TempDir::new().unwrap();
    Checkpoint::open(&file.write(folder.path())).unwrap()
}

fn refusal(file: &GgufFile) -> String {
    let folder = TempDir::new().unwrap();
    let message = Checkpoint::open(&file.write(folder.path())).err().expect("should be refused").to_string();
    assert!(message.contains("model.gguf"), "names no file: {message}");
    message
}

fn encode(file: &GgufFile, text: &str) -> Tokens {
    open(file).tokenizer.encode(text).unwrap()
}

#[test]
fn config_is_read_and_tensors_have_their_names() {
    let checkpoint = open(&GgufFile::with_model());
    let config = &checkpoint.config;
    assert_eq!((config.n_layers, config.d_model, config.n_heads, config.n_kv_heads, config.head_dim), (2, 8, 4, 2, 6));
    assert_eq!((config.d_ff, config.vocab, config.context, config.rms_eps), (10, VOCAB, 64, 1e-5));
    assert_eq!((config.rope.theta, &config.rope.scaling), (500000.0, &RopeScaling::None));
    assert_eq!(config.rope.layout, RopeLayout::Interleaved);
    assert!(config.tied_head);
    let layer = checkpoint.layer(1).unwrap();
    assert_eq!((layer.o.name(), layer.attn_norm), ("blk.1.attn_output.weight", vec![1.0; 8]));
    assert_eq!(checkpoint.head().unwrap().name(), "token_embd.weight");
    assert_eq!(checkpoint.final_norm().unwrap(), [1.0; 8]);
    assert_eq!(checkpoint.architecture, "llama");
}

#[test]
fn sizes_left_out_have_their_defaults() {
    let mut file = GgufFile::with_model()
        .unset("llama.attention.key_length")
        .unset("llama.rope.dimension_count")
        .unset("llama.rope.freq_base")
        .unset("llama.attention.head_count_kv");
    file.tensors.insert("output.weight".into(), vec![VOCAB, 8]);
    let config = open(&file).config;
    assert_eq!((config.head_dim, config.n_kv_heads, config.rope.theta, config.tied_head), (2, 4, 10000.0, false));
}

#[test]
fn rope_scaling_is_a_factor_or_a_tensor_of_divisors() {
    let linear = GgufFile::with_model()
        .set("llama.rope.scaling.type", Meta::Str("linear"))
        .set("llama.rope.scaling.factor", Meta::F32(4.0));
    assert_eq!(open(&linear).config.rope.scaling, RopeScaling::Linear { factor: 4.0 });

    let mut divisors = GgufFile::with_model();
    divisors.tensors.insert("rope_freqs.weight".into(), vec![3]);
    assert_eq!(open(&divisors).config.rope.scaling, RopeScaling::Divisors(vec![1.0; 3]));
    divisors.tensors.insert("rope_freqs.weight".into(), vec![4]);
    assert!(refusal(&divisors).contains("rope_freqs.weight"));

    let yarn = GgufFile::with_model().set("llama.rope.scaling.type", Meta::Str("yarn"));
    assert!(refusal(&yarn).contains("`yarn`"));
}

#[test]
fn other_models_are_refused_by_name() {
    let file = GgufFile::with_model;
    let message = refusal(&file().set("general.architecture", Meta::Str("qwen2")));
    assert!(message.contains("`qwen2`") && message.contains("`llama`"), "{message}");
    assert!(refusal(&file().set("llama.expert_count", Meta::U32(8))).contains("8 experts"));
    assert!(refusal(&file().set("split.count", Meta::U32(3))).contains("--merge"));
    assert!(refusal(&file().set("llama.rope.dimension_count", Meta::U32(4))).contains("rotated whole"));
    assert!(refusal(&file().set("llama.block_count", Meta::U32(0))).contains("number of layers is 0"));
    assert!(refusal(&file().set("llama.attention.head_count_kv", Meta::U32(3))).contains("3 key-value heads"));
    let mut biased = file();
    biased.tensors.insert("blk.0.attn_q.bias".into(), vec![24]);
    assert!(refusal(&biased).contains("`blk.0.attn_q.bias`"));
}

#[test]
fn the_tokenizer_is_that_of_the_tokenizer_json() {
    let folder = Folder::with_tokenizer(&byte_level());
    folder.write("tokenizer_config.json", &serde_json::json!({"bos_token": "<bos>"}));
    let reference = Tokenizer::from_folder(folder.path(), VOCAB).unwrap();
    let tokenizer = open(
        &GgufFile::with_model()
            .set("tokenizer.ggml.pre", Meta::Str("gpt-2"))
            .set("tokenizer.ggml.add_bos_token", Meta::Bool(true)),
    )
    .tokenizer;
    for text in ["", "hell hello", "a<bos>b<eot>", "日本😀 \n\t it's 1234", "  two  spaces "] {
        assert_eq!(tokenizer.encode(text).unwrap(), reference.encode(text).unwrap(), "{text:?}");
    }
}

#[test]
fn bos_is_added_as_the_pre_tokenizer_or_the_key_says() {
    let bos_first = |file: &GgufFile| encode(file, "a").ids[0] == BOS;
    assert!(bos_first(&GgufFile::with_model()));
    assert!(!bos_first(&GgufFile::with_model().set("tokenizer.ggml.add_bos_token", Meta::Bool(false))));
    let smollm = GgufFile::with_model().set("tokenizer.ggml.pre", Meta::Str("smollm"));
    assert!(!bos_first(&smollm));
    assert!(bos_first(&smollm.set("tokenizer.ggml.add_bos_token", Meta::Bool(true))));
    let with_eos = GgufFile::with_model()
        .set("tokenizer.ggml.add_eos_token", Meta::Bool(true))
        .set("tokenizer.ggml.eos_token_id", Meta::U32(261));
    assert_eq!(encode(&with_eos, "a").ids, [BOS, 97, 261]);
    assert!(refusal(&GgufFile::with_model().unset("tokenizer.ggml.bos_token_id")).contains("bos_token_id"));
}

#[test]
fn words_are_cut_as_the_pre_tokenizer_says() {
    // Tokens that only come out where a word has both of their parts; `345` only where whole words need no merges.
    let mut tokens = fixture::byte_level_tokens();
    tokens.splice(256..259, ["12", "345", "Ġ="].map(String::from));
    let merges = ["1 2", "Ġ ="].map(String::from);
    let cut = |pre, text| {
        let file = GgufFile::with_model()
            .set("tokenizer.ggml.tokens", Meta::Strs(tokens.clone()))
            .set("tokenizer.ggml.merges", Meta::Strs(merges.clone().into()))
            .set("tokenizer.ggml.add_bos_token", Meta::Bool(false))
            .set("tokenizer.ggml.pre", Meta::Str(pre));
        encode(&file, text).strs
    };
    assert_eq!(cut("gpt-2", "12345 ="), ["12", "3", "4", "5", " ="]);
    assert_eq!(cut("smollm", "12345 ="), ["1", "2", "3", "4", "5", " ="]);
    assert_eq!(cut("default", "12345 ="), ["12", "3", "4", "5", " ", "="]);
    for pre in ["llama-bpe", "llama-v3", "llama3"] {
        assert_eq!(cut(pre, "12345 ="), ["12", "3", "4", "5", " ="]);
        assert_eq!(cut(pre, "a345"), ["a", "345"]);
    }
    assert_eq!(cut("gpt-2", "345"), ["3", "4", "5"]);
}

#[test]
fn an_unknown_or_missing_pre_tokenizer_is_an_error_that_lists_the_known() {
    let message = refusal(&GgufFile::with_model().set("tokenizer.ggml.pre", Meta::Str("tekken")));
    assert!(
        message.contains("`tekken`") && message.contains("`smollm`") && message.contains("`llama-bpe`"),
        "{message}"
    );
    assert!(refusal(&GgufFile::with_model().unset("tokenizer.ggml.pre")).contains("`smollm`"));
    assert!(refusal(&GgufFile::with_model().set("tokenizer.ggml.model", Meta::Str("bert"))).contains("`bert`"));
}

#[test]
fn user_defined_tokens_are_found_but_not_special() {
    let kinds = (0..VOCAB as i32).map(|id| [1, 3, 4][(id >= 260) as usize + (id == 261) as usize]).collect();
    let tokens = encode(&GgufFile::with_model().set("tokenizer.ggml.token_type", Meta::I32s(kinds)), "a<eot>");
    assert_eq!((tokens.ids, tokens.special), (vec![BOS, 97, 261], vec![true, false, false]));
}

#[test]
fn hostile_vocabularies_are_refused_without_panic() {
    let file = GgufFile::with_model;
    let merges = |merge: &str| Meta::Strs(vec!["h e".into(), merge.into()]);
    assert!(refusal(&file().set("tokenizer.ggml.merges", merges("no such"))).contains("merge 1 (`no such`)"));
    assert!(refusal(&file().set("tokenizer.ggml.merges", merges("unsplit"))).contains("merge 1"));
    assert!(refusal(&file().unset("tokenizer.ggml.merges")).contains("tokenizer.ggml.merges"));
    assert!(refusal(&file().unset("tokenizer.ggml.tokens")).contains("tokenizer.ggml.tokens"));
    assert!(refusal(&file().set("tokenizer.ggml.token_type", Meta::I32s(vec![1; 7]))).contains("7 entries for 262"));
    assert!(refusal(&file().set("tokenizer.ggml.token_type", Meta::Bool(true))).contains("tokenizer.ggml.token_type"));
    assert!(refusal(&file().set("tokenizer.ggml.bos_token_id", Meta::U32(262))).contains("is 262"));
    let mut twice = fixture::byte_level_tokens();
    twice[5] = twice[4].clone();
    assert!(refusal(&file().set("tokenizer.ggml.tokens", Meta::Strs(twice))).contains("as 4 and as 5"));
    let mut narrow = file();
    narrow.tensors.insert("token_embd.weight".into(), vec![200, 8]);
    let message = refusal(&narrow);
    assert!(message.contains("ids up to 261") && message.contains("200 rows"), "{message}");
}

#[test]
fn sentencepiece_merges_by_score_and_falls_back_to_bytes() {
    let tokens = encode(&GgufFile::with_sentencepiece(), "hello hel é");
    assert_eq!(tokens.strs, ["<s>", " hello", " hel", " ", "\u{FFFD}", "\u{FFFD}"]);
    assert_eq!(tokens.ids, [1, 263, 261, 264, 3 + 0xC3, 3 + 0xA9]);
    assert_eq!(tokens.bos, [true, false, false, false, false, false]);
    let bare = GgufFile::with_sentencepiece().set("tokenizer.ggml.add_space_prefix", Meta::Bool(false));
    assert_eq!(encode(&bare, "hello").strs, ["<s>", "h", "el", "lo"]);
}

#[test]
fn hostile_scores_are_refused_without_panic() {
    let file = GgufFile::with_sentencepiece;
    assert!(refusal(&file().unset("tokenizer.ggml.scores")).contains("tokenizer.ggml.scores"));
    assert!(refusal(&file().set("tokenizer.ggml.scores", Meta::F32s(vec![0.0; 3]))).contains("3 entries"));
    assert!(refusal(&file().set("tokenizer.ggml.scores", Meta::F32s(vec![f32::NAN; 269]))).contains("NaN"));
    let (mut tokens, _) = fixture::sentencepiece_tokens();
    tokens[268] = "o".repeat(300);
    assert!(refusal(&file().set("tokenizer.ggml.tokens", Meta::Strs(tokens))).contains("300 bytes"));
}
