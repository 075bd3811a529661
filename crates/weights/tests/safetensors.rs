//! Safetensors files and folders: round trips with the reference crate, and files that are cut or lie.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use llamascope_compute::Dtype;
use llamascope_weights::{Error, TensorMap};
use proptest::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype as StDtype, TensorView, serialize};
use tempfile::TempDir;

/// A file as the reference crate writes it: one tensor of each type that is read, a scalar, an empty one, an integer.
fn valid() -> Vec<u8> {
    let floats: Vec<u8> = (0..6u16).flat_map(|v| f32::from(v).to_le_bytes()).collect();
    let view = |dtype, shape: &[usize], len| TensorView::new(dtype, shape.into(), &floats[..len]).unwrap();
    let tensors = [
        ("f32", view(StDtype::F32, &[2, 3], 24)),
        ("f16", view(StDtype::F16, &[3], 6)),
        ("bf16", view(StDtype::BF16, &[1, 5], 10)),
        ("scalar", view(StDtype::F32, &[], 4)),
        ("empty", view(StDtype::F32, &[3, 0], 0)),
        ("ids", view(StDtype::I64, &[2], 16)),
    ];
    serialize(tensors, Some(HashMap::from([("format".into(), "pt".into())]))).unwrap()
}

/// A file of a header as given and `data_len` zeros.
fn file(header: &str, data_len: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data_len]].concat()
}

fn info(dtype: &str, shape: &str, begin: u64, end: u64) -> String {
    format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
}

fn open(bytes: &[u8]) -> Result<TensorMap, Error> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x.safetensors");
    fs::write(&path, bytes).unwrap();
    TensorMap::open_file(&path)
}

fn refusal(bytes: &[u8]) -> String {
    let message = open(bytes).err().expect("a refusal").to_string();
    message.split_once("x.safetensors: ").expect("the file's name").1.to_string()
}

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// What is said of a folder, without its path.
fn folder_refusal(files: &[(&str, &[u8])]) -> String {
    let folder = folder(files);
    let message = TensorMap::open_folder(folder.path()).err().expect("a refusal").to_string();
    message.strip_prefix(folder.path().to_str().unwrap()).expect("the folder's path").to_string()
}

fn shard(name: &str) -> Vec<u8> {
    file(&format!(r#"{{"{name}":{}}}"#, info("F32", "[1]", 0, 4)), 4)
}

fn index(pairs: &str) -> Vec<u8> {
    format!(r#"{{"metadata":{{"total_size":8}},"weight_map":{{{pairs}}}}}"#).into_bytes()
}

#[test]
fn what_the_reference_crate_writes_is_read() {
    let map = open(&valid()).unwrap();
    assert_eq!(map.names().collect::<Vec<_>>(), ["bf16", "empty", "f16", "f32", "ids", "scalar"]);
    let f32 = map.get("f32").unwrap();
    assert_eq!((f32.name(), f32.dtype(), f32.shape()), ("f32", Dtype::F32, &[2, 3][..]));
    assert_eq!(f32.to_f32(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(map.get("f16").unwrap().dtype(), Dtype::F16);
    assert_eq!(map.get("bf16").unwrap().shape(), [1, 5]);
    assert_eq!(map.get("scalar").unwrap().to_f32(), [0.0]);
    assert!(map.get("empty").unwrap().to_f32().is_empty());
    assert!(map.contains("ids") && !map.contains("IDS"));
}

#[test]
fn tensors_outlive_the_map_and_advice_leaves_them_as_they_are() {
    let map = open(&valid()).unwrap();
    let (tensor, other) = (map.get("f32").unwrap(), open(&valid()).unwrap().get("f32").unwrap());
    for tensor in [&tensor, &other] {
        tensor.will_need();
        tensor.dont_need();
    }
    drop(map);
    assert_eq!(tensor.to_f32(), other.to_f32());
}

#[test]
fn other_types_matter_only_when_asked_for() {
    let message = open(&valid()).unwrap().get("ids").unwrap_err().to_string();
    assert!(message.ends_with(
        "x.safetensors: tensor `ids` is stored as I64, which is not read; convert it to one of F32, F16, BF16"
    ));
}

#[test]
fn a_missing_tensor_is_told_with_near_names() {
    let names = ["model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight", "lm_head.weight"];
    let header: Vec<String> = names.iter().map(|name| format!(r#""{name}":{}"#, info("F32", "[0]", 0, 0))).collect();
    let map = open(&file(&format!("{{{}}}", header.join(",")), 0)).unwrap();
    let message = |name| map.get(name).unwrap_err().to_string().split_once("x.safetensors: ").unwrap().1.to_string();
    assert_eq!(
        message("model.layers.0.mlp.gate_proj.weight"),
        "no tensor `model.layers.0.mlp.gate_proj.weight`; near names: `model.layers.0.mlp.down_proj.weight`, \
         `model.layers.0.mlp.up_proj.weight`"
    );
    assert_eq!(
        message("xyz"),
        "no tensor `xyz`; it has: `lm_head.weight`, `model.layers.0.mlp.down_proj.weight`, \
         `model.layers.0.mlp.up_proj.weight`"
    );
    assert!(open(&file("{}", 0)).unwrap().get("x").unwrap_err().to_string().ends_with("no tensor `x`; it has none"));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = valid();
    for len in 0..whole.len() {
        assert!(matches!(open(&whole[..len]), Err(Error::Malformed { .. })), "cut at {len}");
    }
    assert!(
        refusal(&[whole, vec![0]].concat()).starts_with("the tensors take 60 bytes after the header, the file has")
    );
}

#[test]
fn headers_that_lie_are_refused() {
    assert!(refusal(b"short").starts_with("expected a safetensors file, found 5 bytes"));
    let too_long = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    assert!(refusal(&too_long).starts_with("the header should have 18446744073709551615 bytes, but 2 follow"));
    let json = "the header is not as expected: ";
    assert!(refusal(&file("{", 0)).starts_with(json));
    assert!(refusal(&file("[]", 0)).contains("expected an object with one entry a tensor"));
    assert!(refusal(&file(&"[".repeat(100_000), 0)).starts_with(json));
    assert!(
        refusal(&file(r#"{"a":{"dtype":"F99","shape":[],"data_offsets":[0,4]}}"#, 4)).contains("`a`: unknown variant")
    );
    assert!(refusal(&file(r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 4)).starts_with(json));
    let twice = format!(r#"{{"a":{0},"a":{0}}}"#, info("F32", "[1]", 0, 4));
    assert!(refusal(&file(&twice, 4)).contains("`a` stands there twice"));
}

#[test]
fn tensors_that_do_not_fit_the_file_are_refused() {
    let one = |shape: &str, begin, end| refusal(&file(&format!(r#"{{"a":{}}}"#, info("F32", shape, begin, end)), 8));
    let outside = "tensor `a`: its bytes 0..12 are not inside the 8 bytes after the header";
    assert_eq!(one("[3]", 0, 12), outside);
    assert_eq!(one("[3]", 4, 0), outside.replace("0..12", "4..0"));
    assert!(one("[1]", u64::MAX - 3, u64::MAX).contains("are not inside"));
    assert_eq!(
        one("[1]", 4, 8),
        "tensor `a`: its bytes 4..8 leave a hole after those of the tensor before, which end at 0"
    );
    assert_eq!(one("[1]", 0, 8), "tensor `a`: F32 of shape [1] takes 4 bytes, but its offsets span 8");
    assert!(one("[1]", 0, 4).starts_with("the tensors take 4 bytes after the header, the file has 8"));
    let huge = "[4294967296,4294967296]";
    assert_eq!(one(huge, 0, 8), "tensor `a`: its shape [4294967296, 4294967296] is too large to count");
    assert!(one("[4294967296,4294967296,0]", 0, 0).ends_with("is too large to count"));
    assert!(one(&format!("[{}1]", "2,".repeat(99)), 0, 8).contains("its shape of 100 axes is too large"));

    let overlap = format!(r#"{{"a":{},"b":{}}}"#, info("F32", "[2]", 0, 8), info("F32", "[1]", 4, 8));
    assert_eq!(
        refusal(&file(&overlap, 8)),
        "tensor `b`: its bytes 4..8 overlap those of another tensor, which end at 8"
    );
}

#[test]
fn files_of_other_kinds_are_named() {
    assert!(refusal(b"PK\x03\x04.........").starts_with("expected a safetensors file; PyTorch pickles"));
    assert!(refusal(b"\x80\x02\x8a\x0a......").starts_with("expected a safetensors file; PyTorch pickles"));
    assert!(refusal(b"GGUF\x03\0\0\0\0\0\0\0").starts_with("expected a safetensors file, found a GGUF file"));
    let folder = folder(&[]);
    assert!(
        TensorMap::open_file(folder.path()).err().unwrap().to_string().ends_with("expected a file, found a folder")
    );
    assert!(matches!(TensorMap::open_file(Path::new("no/such")), Err(Error::Io { .. })));
}

#[test]
fn a_folder_with_one_file_or_with_shards_is_read() {
    let single = folder(&[("model.safetensors", &shard("a")), ("other.safetensors", &shard("b"))]);
    let map = TensorMap::open_folder(single.path()).unwrap();
    assert_eq!(map.path(), single.path());
    assert_eq!(map.names().collect::<Vec<_>>(), ["a"]);

    let sharded = folder(&[
        ("model.safetensors.index.json", &index(r#""a":"1.safetensors","b":"2.safetensors""#)),
        ("1.safetensors", &shard("a")),
        ("2.safetensors", &shard("b")),
    ]);
    let map = TensorMap::open_folder(sharded.path()).unwrap();
    assert_eq!(map.get("b").unwrap().shape(), [1]);
    assert_eq!(map.files().len(), 2);
}

#[test]
fn an_absent_shard_matters_only_when_asked_for() {
    let folder = folder(&[
        ("model.safetensors.index.json", &index(r#""a":"1.safetensors","b":"2.safetensors""#)),
        ("1.safetensors", &shard("a")),
    ]);
    let map = TensorMap::open_folder(folder.path()).unwrap();
    assert!(map.get("a").is_ok() && map.contains("b"));
    assert_eq!(map.files().len(), 1);
    assert!(map.get("b").unwrap_err().to_string().ends_with(
        "no tensor `b` here: the index puts it into 2.safetensors, which is not in the folder; download that file into it"
    ));
}

#[test]
fn an_index_that_lies_is_refused() {
    let of = |pairs: &str| {
        folder_refusal(&[("model.safetensors.index.json", &index(pairs)), ("1.safetensors", &shard("a"))])
    };
    assert_eq!(
        of(r#""a":"1.safetensors","c":"1.safetensors""#),
        "/model.safetensors.index.json: it puts tensor `c` into 1.safetensors, which has none of that name; download \
         both again"
    );
    for outside in ["../1.safetensors", "..", ".", "", "x/1.safetensors", "/etc/passwd", r"x\\y", "c:x", r"x\u0000y"] {
        let message = of(&format!(r#""a":"{outside}""#));
        assert!(message.contains("tensor `a`: expected the name of a file beside the index, found `"), "{message}");
    }
    assert!(of(r#""a":"1.safetensors","a":"1.safetensors""#).contains("`a` stands there twice"));
    assert!(of(r#""a":1"#).contains("expected a `weight_map` of tensor to file: invalid type"));
    assert!(folder_refusal(&[("model.safetensors.index.json", b"")]).contains("EOF while parsing"));
}

#[test]
fn a_folder_without_either_is_told_what_it_holds() {
    let expected = ": expected model.safetensors or model.safetensors.index.json, found ";
    let of = |names: &[&str]| {
        let files: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, &b"x"[..])).collect();
        folder_refusal(&files).strip_prefix(expected).expect("what was expected").to_string()
    };
    assert_eq!(of(&[]), "an empty folder");
    assert_eq!(of(&["config.json"]), "config.json");
    assert_eq!(
        of(&["adapter.safetensors", "config.json", "pytorch_model.bin"]),
        "adapter.safetensors: give the file itself, rename it, or download the index"
    );
    assert_eq!(of(&["x.Q4_1.gguf", "y.gguf"]), "x.Q4_1.gguf, y.gguf: give the GGUF file itself");
    for pickle in ["pytorch_model.bin", "ae.pt"] {
        let message = of(&["config.json", pickle]);
        assert!(message.starts_with(&format!("{pickle}: PyTorch pickles (*.bin, *.pt, *.pth) are not read")));
        assert!(message.contains("safetensors.torch.save_file"));
    }
}

proptest! {
    /// Whatever bytes are changed: no panic, and nothing is accepted that the reference crate refuses.
    #[test]
    fn changed_bytes_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = valid();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(map) = open(&bytes) {
            let reference = SafeTensors::deserialize(&bytes).unwrap();
            prop_assert_eq!(map.names().count(), reference.len());
            for name in map.names() {
                if let Ok(tensor) = map.get(name) {
                    prop_assert_eq!(tensor.bytes(), reference.tensor(name).unwrap().data());
                    tensor.to_f32();
                }
            }
        }
    }
}
