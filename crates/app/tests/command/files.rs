//! Models and SAEs that are damaged, lie, or do not fit: exit code 1, with file and tensor, before anything is written.

use serde_json::{Value, json};

use crate::shell::Shell;

const WEIGHTS: &str = "model/model.safetensors";
const UP: &str = "model.layers.1.mlp.up_proj.weight";
const SAE: &str = "saes/Llama3_1-8B-Base-L1R-8x";
const RUN: [&str; 7] = ["run", "--model", "model", "--sae", "saes", "--input", "sentences.csv"];

/// Copies of the fixture's model and SAEs, and a sentence.
fn copies() -> Shell {
    let shell = Shell::new();
    shell.copy("llama3/model", "model");
    shell.copy("llama3/saes", "saes");
    shell.write("sentences.csv", "The lamp went out.\n");
    shell
}

/// What the copies are refused with after a change.
#[track_caller]
fn refuses(change: impl FnOnce(&Shell), words: &[&str]) {
    let shell = copies();
    change(&shell);
    shell.refuses(1, &RUN, words);
}

#[test]
fn the_copies_run_as_long_as_nobody_damages_them() {
    copies().run(&RUN).succeeded();
}

fn rename(header: &mut Value, tensor: &str) {
    let found = header.as_object_mut().unwrap().shift_remove(tensor).unwrap();
    header["another"] = found;
}

#[test]
fn a_missing_tensor() {
    refuses(|shell| shell.edit_header(WEIGHTS, |header| rename(header, UP)), &["model", UP, "near names"]);
    let file = format!("{SAE}/checkpoints/final.safetensors");
    refuses(|shell| shell.edit_header(&file, |header| rename(header, "encoder.weight")), &[SAE, "encoder.weight"]);
}

#[test]
fn a_tensor_of_another_shape() {
    let transpose = |header: &mut Value| header[UP]["shape"] = json!([48, 112]);
    refuses(|shell| shell.edit_header(WEIGHTS, transpose), &["model", UP, "[48, 112]", "[112, 48]"]);
    let file = format!("{SAE}/checkpoints/final.safetensors");
    let transpose = |header: &mut Value| header["encoder.weight"]["shape"] = json!([48, 384]);
    refuses(|shell| shell.edit_header(&file, transpose), &[SAE, "encoder.weight", "[48, 384]", "[384, 48]"]);
}

#[test]
fn safetensors_that_are_cut_or_lie() {
    refuses(|shell| shell.edit(WEIGHTS, |bytes| bytes.truncate(bytes.len() - 1)), &[WEIGHTS]);
    refuses(|shell| shell.edit(WEIGHTS, |bytes| bytes.truncate(100)), &[WEIGHTS, "header"]);
    refuses(|shell| shell.edit(WEIGHTS, |bytes| bytes.truncate(3)), &[WEIGHTS]);
    refuses(|shell| shell.edit(WEIGHTS, Vec::clear), &[WEIGHTS]);
    for length in [1 << 20, 1 << 40, u64::MAX] {
        let lie = |bytes: &mut Vec<u8>| bytes[..8].copy_from_slice(&length.to_le_bytes());
        refuses(|shell| shell.edit(WEIGHTS, lie), &[WEIGHTS, "header"]);
    }
    const FAR: u64 = 1 << 40;
    // Bytes that are claimed elsewhere leave a hole where they should be.
    for (begin, end, word) in [(0, 10_752, "overlap"), (FAR, FAR + 10_752, "hole"), (u64::MAX, 0, "hole")] {
        let lie = |header: &mut Value| header[UP]["data_offsets"] = json!([begin, end]);
        refuses(|shell| shell.edit_header(WEIGHTS, lie), &[WEIGHTS, word]);
    }
    let huge = |header: &mut Value| header[UP]["shape"] = json!([u64::MAX, u64::MAX]);
    refuses(|shell| shell.edit_header(WEIGHTS, huge), &[WEIGHTS, UP]);
    let unknown = |header: &mut Value| header[UP]["dtype"] = json!("F3");
    refuses(|shell| shell.edit_header(WEIGHTS, unknown), &[WEIGHTS, "F3"]);
    refuses(|shell| shell.edit_header(WEIGHTS, |header| *header = json!([1])), &[WEIGHTS]);
}

/// Bytes behind the name of a GGUF tensor: dimensions (u32), each (u64), type (u32), offset (u64).
fn behind(bytes: &[u8], tensor: &str) -> usize {
    bytes.windows(tensor.len()).position(|window| window == tensor.as_bytes()).unwrap() + tensor.len()
}

#[test]
fn gguf_files_that_are_cut_or_lie() {
    const FILE: &str = "tied.gguf";
    let args = ["run", "--model", FILE, "--sae", "saes", "--input", "sentences.csv"];
    let copies = || {
        let shell = Shell::new();
        shell.copy("gguf/tied.gguf", FILE);
        shell.copy("tied/saes_standard", "saes");
        shell.write("sentences.csv", "The lamp went out.\n");
        shell
    };
    copies().run(&args).succeeded();
    let refuses = |change: fn(&mut Vec<u8>), words: &[&str]| {
        let shell = copies();
        shell.edit(FILE, change);
        shell.refuses(1, &args, &[&[FILE], words].concat());
    };
    const QUERY: &str = "blk.0.attn_q.weight";
    fn set(bytes: &mut [u8], at: usize, value: &[u8]) {
        let from = behind(bytes, QUERY) + at;
        bytes[from..from + value.len()].copy_from_slice(value);
    }
    refuses(|bytes| bytes.truncate(bytes.len() - 40), &["tensor"]);
    refuses(|bytes| bytes.truncate(1000), &[]);
    refuses(|bytes| bytes.truncate(10), &[]);
    refuses(Vec::clear, &[]);
    refuses(|bytes| bytes[..4].copy_from_slice(b"GGML"), &["GGUF"]);
    refuses(|bytes| bytes[4] = 1, &["version 1"]);
    refuses(|bytes| bytes[8..16].fill(0xff), &["tensors"]);
    refuses(|bytes| bytes[16..24].fill(0xff), &["key-value pairs"]);
    refuses(|bytes| set(bytes, 0, &u32::MAX.to_le_bytes()), &[QUERY, "axes"]);
    refuses(|bytes| set(bytes, 4, &u64::MAX.to_le_bytes()), &[QUERY]);
    refuses(|bytes| set(bytes, 20, &99u32.to_le_bytes()), &[QUERY, "99"]);
    refuses(|bytes| set(bytes, 24, &(1u64 << 50).to_le_bytes()), &[QUERY, "not inside the file"]);
    refuses(|bytes| set(bytes, 24, &0u64.to_le_bytes()), &[QUERY, "overlaps"]);
}

#[test]
fn a_model_of_another_family() {
    let other = |config: &mut Value| {
        config["architectures"] = json!(["GPT2LMHeadModel"]);
        config["model_type"] = json!("gpt2");
    };
    refuses(
        |shell| shell.edit_json("model/config.json", other),
        &["config.json", "GPT2LMHeadModel", "LlamaForCausalLM"],
    );
    refuses(|shell| shell.write("model/config.json", "{"), &["config.json"]);
    refuses(|shell| std::fs::remove_file(shell.path("model/config.json")).unwrap(), &["config.json"]);
}

#[test]
fn a_tokenizer_that_does_not_fit_the_vocabulary() {
    let add = |tokenizer: &mut Value| {
        let mut token = tokenizer["added_tokens"][0].clone();
        token["id"] = json!(512);
        token["content"] = json!("lamp");
        tokenizer["added_tokens"].as_array_mut().unwrap().push(token);
    };
    refuses(|shell| shell.edit_json("model/tokenizer.json", add), &["tokenizer.json", "512"]);
    refuses(|shell| shell.write("model/tokenizer.json", "{}"), &["tokenizer.json"]);
}

#[test]
fn an_sae_of_another_width() {
    let shell = copies();
    shell.copy("tied/saes_topk", "narrow");
    shell.refuses(
        1,
        &["run", "--model", "model", "--sae", "narrow", "--layers", "0", "--input", "sentences.csv"],
        &["narrow", "rows of 32", "d_model 48"],
    );
}

#[test]
fn an_sae_of_another_layer() {
    // The folder is named after one layer, the file inside is of another.
    let hook = |config: &mut Value| config["hook_point_in"] = json!("blocks.2.hook_resid_post");
    let file = format!("{SAE}/hyperparams.json");
    refuses(|shell| shell.edit_json(&file, hook), &[SAE, "blocks.1.hook_resid_post", "blocks.2.hook_resid_post"]);

    let mut args = RUN.to_vec();
    args.extend(["--layers", "1,2"]);
    let shell = copies();
    std::fs::remove_dir_all(shell.path("saes/Llama3_1-8B-Base-L2R-8x")).unwrap();
    shell.refuses(1, &args, &["saes", "layer 2", "layers 0, 1"]);

    let shell = copies();
    shell.copy("tied/saes_topk/L0", "saes/L9");
    let deep = |config: &mut Value| config["metadata"]["hook_name"] = json!("blocks.9.hook_resid_post");
    shell.edit_json("saes/L9/cfg.json", deep);
    shell.edit_json("saes/L9/cfg.json", |config| config["d_in"] = json!(32));
    shell.refuses(1, &RUN, &["L9"]);
}

#[test]
fn a_release_of_another_model() {
    copies().refuses(
        1,
        &["run", "--model", "model", "--sae", "llama_scope_lxr_8x", "--input", "sentences.csv"],
        &["llama_scope_lxr_8x", "meta-llama/Llama-3.1-8B", "d_model 4096", "d_model 48"],
    );
}

#[test]
fn a_residual_that_is_not_finite_names_its_layer() {
    let shell = copies();
    shell.edit(WEIGHTS, |bytes| {
        let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..data]).unwrap();
        let at = data + header["model.layers.1.mlp.down_proj.weight"]["data_offsets"][0].as_u64().unwrap() as usize;
        // NaN in bfloat16.
        bytes[at..at + 2].copy_from_slice(&[0xc0, 0x7f]);
    });
    shell.run(&RUN).failed(1, &["not finite after layer 1", "sentence 0", "float32"]);
    let manifest = shell.manifest();
    assert_eq!((&manifest["status"], &manifest["complete"]), (&json!("failed"), &json!(false)));
    let run = &shell.runs()[0];
    assert!(run.join("layer_00/sentence_0000.jsonl").is_file(), "what came before is kept");
    assert!(!run.join("layer_01/sentence_0000.jsonl").exists());
}

#[test]
fn a_file_in_the_way_of_the_output() {
    let shell = copies();
    shell.write("outputs", "a file");
    let done = shell.run(&RUN);
    done.failed(1, &["outputs", "cannot be written"]);
    assert_eq!(std::fs::read_to_string(shell.path("outputs")).unwrap(), "a file");
}
