//! Folders in Hugging Face layout: names, shapes, and folders that are not right.

mod fixture;

use fixture::{BOS, Folder, VOCAB, config, model_shapes};
use llamascope_compute::Dtype;
use llamascope_model::{Checkpoint, DtypeShare};
use serde_json::json;

fn refusal(folder: &Folder) -> String {
    Checkpoint::open(folder.path()).err().expect("should be refused").to_string()
}

#[test]
fn tensors_have_their_names() {
    let folder = Folder::with_model();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.architecture, "LlamaForCausalLM");
    assert_eq!(checkpoint.tokenizer.encode("").unwrap().ids, [BOS]);
    assert_eq!(checkpoint.embedding().unwrap().name(), "model.embed_tokens.weight");
    assert_eq!(checkpoint.head().unwrap().name(), "lm_head.weight");

    // Every tensor holds its place among the names.
    let place = |name: &str| model_shapes().keys().position(|key| key == name).unwrap() as f32;
    assert_eq!(checkpoint.final_norm().unwrap(), vec![place("model.norm.weight"); 8]);
    let layer = checkpoint.layer(1).unwrap();
    for (tensor, name) in [
        (&layer.q, "self_attn.q_proj"),
        (&layer.k, "self_attn.k_proj"),
        (&layer.v, "self_attn.v_proj"),
        (&layer.o, "self_attn.o_proj"),
        (&layer.gate, "mlp.gate_proj"),
        (&layer.up, "mlp.up_proj"),
        (&layer.down, "mlp.down_proj"),
    ] {
        assert_eq!(tensor.name(), format!("model.layers.1.{name}.weight"));
        assert_eq!(tensor.to_f32()[0], place(tensor.name()));
    }
    assert_eq!(layer.attn_norm[0], place("model.layers.1.input_layernorm.weight"));
    assert_eq!(layer.mlp_norm[0], place("model.layers.1.post_attention_layernorm.weight"));
}

#[test]
fn the_summary_counts_tensors_and_bytes() {
    let folder = Folder::with_model();
    let numbers: usize = model_shapes().values().map(|shape| shape.iter().product::<usize>()).sum();
    let share = DtypeShare { dtype: Dtype::F32, tensors: model_shapes().len(), bytes: 4 * numbers as u64 };
    assert_eq!(Checkpoint::open(folder.path()).unwrap().dtypes().unwrap(), [share]);
}

#[test]
fn a_tied_head_is_the_embedding() {
    let folder = Folder::with_model();
    let mut tied = config();
    tied["tie_word_embeddings"] = json!(true);
    folder.write("config.json", &tied);
    let mut shapes = model_shapes();
    shapes.remove("lm_head.weight");
    folder.write_tensors(&shapes);
    assert_eq!(Checkpoint::open(folder.path()).unwrap().head().unwrap().name(), "model.embed_tokens.weight");
}

#[test]
fn a_missing_or_wrong_tensor_is_named_with_its_file() {
    let folder = Folder::with_model();
    let mut shapes = model_shapes();
    shapes.remove("model.layers.0.mlp.up_proj.weight");
    shapes.insert("model.layers.1.self_attn.k_proj.weight".into(), vec![24, 8]);
    shapes.insert("model.embed_tokens.weight".into(), vec![VOCAB - 1, 8]);
    folder.write_tensors(&shapes);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let messages = [
        (checkpoint.layer(0).err().unwrap().to_string(), "model.layers.0.mlp.up_proj.weight"),
        (checkpoint.layer(1).err().unwrap().to_string(), "model.layers.1.self_attn.k_proj.weight"),
        (checkpoint.embedding().err().unwrap().to_string(), "model.embed_tokens.weight"),
    ];
    for (message, tensor) in messages {
        assert!(message.contains(tensor) && message.contains(folder.path().to_str().unwrap()), "{message}");
    }
}

#[test]
fn biases_are_refused_by_name() {
    let folder = Folder::with_model();
    let mut shapes = model_shapes();
    shapes.insert("model.layers.0.self_attn.q_proj.bias".into(), vec![24]);
    folder.write_tensors(&shapes);
    assert!(refusal(&folder).contains("`model.layers.0.self_attn.q_proj.bias`"));
}

#[test]
fn a_vocabulary_smaller_than_the_tokenizer_is_refused() {
    let folder = Folder::with_model();
    let mut small = config();
    small["vocab_size"] = json!(100);
    folder.write("config.json", &small);
    let message = refusal(&folder);
    assert!(message.contains("ids up to 261") && message.contains("100 rows"), "{message}");
}

#[test]
fn a_path_that_is_no_model_gets_a_hint() {
    let folder = Folder::with_model();
    let message = Checkpoint::open(&folder.path().join("config.json")).err().unwrap().to_string();
    assert!(message.contains("give its folder instead"), "{message}");
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    assert!(refusal(&folder).contains("no config.json"));
    let message = Checkpoint::open(&folder.path().join("nowhere")).err().unwrap().to_string();
    assert!(message.contains("nowhere"), "{message}");
}
