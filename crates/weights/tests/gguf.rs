//! GGUF files that are cut, lie or are of another kind.

use std::fs;
use std::path::PathBuf;

use llamascope_weights::{Error, Gguf};
use proptest::prelude::*;
use tempfile::TempDir;

const F32: u32 = 0;
const Q4_1: u32 = 3;
const IQ2_XXS: u32 = 16;

/// Writes GGUF as the format's page says, lies included.
struct Builder {
    version: u32,
    pairs: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    counts: Option<(u64, u64)>,
    data: Vec<u8>,
}

impl Builder {
    fn new() -> Self {
        Builder { version: 3, pairs: vec![], tensors: vec![], counts: None, data: vec![] }
    }

    fn pair(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.pairs.push([string(key), kind.to_le_bytes().into(), value.into()].concat());
        self
    }

    /// `axes` as GGUF has them: the contiguous one first.
    fn tensor(mut self, name: &str, axes: &[u64], kind: u32, offset: u64) -> Self {
        let axes_bytes: Vec<u8> = axes.iter().flat_map(|n| n.to_le_bytes()).collect();
        let n_axes = (axes.len() as u32).to_le_bytes();
        let tail = [&kind.to_le_bytes()[..], &offset.to_le_bytes()].concat();
        self.tensors.push([string(name), n_axes.into(), axes_bytes, tail].concat());
        self
    }

    fn data(mut self, data: Vec<u8>) -> Self {
        self.data = data;
        self
    }

    fn build(self) -> Vec<u8> {
        let (n_tensors, n_pairs) = self.counts.unwrap_or((self.tensors.len() as u64, self.pairs.len() as u64));
        let mut file = b"GGUF".to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend(n_tensors.to_le_bytes());
        file.extend(n_pairs.to_le_bytes());
        file.extend(self.pairs.concat());
        file.extend(self.tensors.concat());
        if !self.data.is_empty() {
            file.resize(file.len().next_multiple_of(32), 0);
            file.extend(self.data);
        }
        file
    }
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn floats(values: impl IntoIterator<Item = u16>) -> Vec<u8> {
    values.into_iter().flat_map(|v| f32::from(v).to_le_bytes()).collect()
}

/// Two tensors, a string, an array of strings.
fn valid() -> Builder {
    let words = [8u32.to_le_bytes().to_vec(), 2u64.to_le_bytes().to_vec(), string("a"), string("b")].concat();
    Builder::new()
        .pair("general.name", 8, &string("tiny"))
        .pair("words", 9, &words)
        .tensor("matrix", &[3, 2], F32, 0)
        .tensor("blocks", &[32], Q4_1, 32)
        .data([floats(0..6), vec![0; 8], vec![7; 20]].concat())
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Folder(TempDir::new().unwrap())
    }

    fn open(&self, bytes: &[u8]) -> Result<Gguf, Error> {
        let path: PathBuf = self.0.path().join("x.gguf");
        fs::write(&path, bytes).unwrap();
        Gguf::open(&path)
    }
}

/// What is said of a file, without its path.
fn refusal(bytes: &[u8]) -> String {
    let message = Folder::new().open(bytes).err().expect("a refusal").to_string();
    message.split_once("x.gguf: ").expect("the file's name").1.to_string()
}

#[test]
fn axes_are_turned_to_outermost_first() {
    let folder = Folder::new();
    let gguf = folder.open(&valid().build()).unwrap();
    let matrix = gguf.tensors.get("matrix").unwrap();
    assert_eq!(matrix.shape(), [2, 3]);
    assert_eq!(matrix.to_f32(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(gguf.str("general.name").unwrap(), "tiny");
    assert_eq!(gguf.strs("words").unwrap(), ["a", "b"]);
    assert_eq!(gguf.tensors.names().collect::<Vec<_>>(), ["blocks", "matrix"]);
    let [(path, bytes)] = &gguf.tensors.files()[..] else { panic!("one file") };
    assert_eq!(*bytes, fs::metadata(path).unwrap().len());
}

#[test]
fn version_2_reads_alike_and_others_are_named() {
    let of = |version| Builder { version, ..valid() }.build();
    assert!(Folder::new().open(&of(2)).is_ok());
    assert!(refusal(&of(1)).starts_with("GGUF version 1; versions 2 and 3 are read"));
    assert!(refusal(&of(4)).starts_with("GGUF version 4; "));
    assert!(refusal(&of(3u32.swap_bytes())).starts_with("a big-endian GGUF file (version 3)"));
    assert!(refusal(b"GGML____").starts_with("expected a GGUF file, which begins with `GGUF`, found `GGML`"));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = valid().build();
    let folder = Folder::new();
    for len in 0..whole.len() {
        assert!(matches!(folder.open(&whole[..len]), Err(Error::Malformed { .. })), "cut at {len}");
    }
}

#[test]
fn types_that_are_not_read_matter_only_when_asked_for() {
    let file = Builder::new().tensor("odd", &[256], IQ2_XXS, 0).tensor("new", &[7], 999, 0);
    let gguf = Folder::new().open(&file.data(floats(0..1)).build()).unwrap();
    assert!(gguf.tensors.contains("odd"));
    let message = |name| gguf.tensors.get(name).unwrap_err().to_string();
    assert!(
        message("odd").contains("tensor `odd` is stored as IQ2_XXS, which is not read; convert it to one of F32, ")
    );
    assert!(message("new").contains("stored as ggml type 999"));
}

#[test]
fn counts_and_lengths_are_checked_before_anything_is_allocated() {
    let counts = |n_tensors, n_pairs| Builder { counts: Some((n_tensors, n_pairs)), ..valid() }.build();
    assert!(refusal(&counts(u64::MAX, 2)).starts_with("it claims 18446744073709551615 tensors, but has room for at"));
    assert!(refusal(&counts(2, u64::MAX)).starts_with("it claims 18446744073709551615 key-value pairs, "));
    let array = |kind: u32, len: u64| {
        let head = [&kind.to_le_bytes()[..], &len.to_le_bytes()].concat();
        refusal(&Builder::new().pair("k", 9, &head).build())
    };
    assert!(array(0, u64::MAX).starts_with("key `k`: it claims 18446744073709551615 elements in an array"));
    assert_eq!(array(8, 1), "key `k`: it claims 1 elements in an array, but has room for at most 0");
    let bytes = [&0u32.to_le_bytes()[..], &(1u64 << 22).to_le_bytes(), &[0; 1 << 22]].concat();
    let many = refusal(&Builder::new().pair("k", 9, &bytes).pair("l", 9, &bytes).pair("m", 9, &bytes).build());
    assert_eq!(many, "key `m`: its arrays have more than 8388608 elements together");
    let long = refusal(&Builder::new().pair("k", 8, &(u64::MAX - 7).to_le_bytes()).build());
    assert!(long.starts_with("key `k`: at byte 45 the header needs 18446744073709551608 bytes more, but 0"), "{long}");
}

#[test]
fn values_that_the_format_does_not_have_are_refused() {
    let pair = |kind, value: &[u8]| refusal(&Builder::new().pair("k", kind, value).build());
    assert_eq!(pair(13, &[0]), "key `k`: value type 13, which the format does not have");
    assert_eq!(pair(7, &[2]), "key `k`: at byte 37 expected a bool, 0 or 1, found 2");
    assert!(pair(8, &[1, 0, 0, 0, 0, 0, 0, 0, 0xff]).starts_with("key `k`: the string at byte 45 is not UTF-8"));
    let nested = [&9u32.to_le_bytes()[..], &1u64.to_le_bytes(), &[0; 12]].concat();
    assert_eq!(pair(9, &nested), "key `k`: an array of arrays, which is not read");
    let twice = Builder::new().pair("k", 0, &[1]).pair("k", 0, &[1]).build();
    assert_eq!(refusal(&twice), "key `k`: it stands there twice");
    let long_key = Builder::new().pair(&"k".repeat(65_536), 0, &[1]).build();
    assert_eq!(refusal(&long_key), "the name at byte 24 has 65536 bytes, more than 65535");
}

#[test]
fn tensors_that_do_not_fit_the_file_are_refused() {
    let tensor =
        |axes: &[u64], kind, offset| refusal(&Builder::new().tensor("t", axes, kind, offset).data(vec![0; 64]).build());
    assert_eq!(tensor(&[1; 5], F32, 0), "tensor `t`: it claims 5 axes, at most 4 are possible");
    assert!(tensor(&[1 << 32, 1 << 32], F32, 0).starts_with("tensor `t`: its shape [4294967296, 4294967296] is too"));
    assert!(tensor(&[0, 1 << 32, 1 << 32], F32, 0).ends_with("is too large to count"));
    assert!(tensor(&[u64::MAX], F32, 0).ends_with("is too large to count"));
    assert!(tensor(&[1 << 62, 0], F32, 0).ends_with("is too large to count"));
    assert_eq!(tensor(&[33], Q4_1, 0), "tensor `t`: rows of 33 are not whole Q4_1 blocks of 32");
    assert_eq!(tensor(&[1], F32, 4), "tensor `t`: its offset 4 is not a multiple of the alignment 32");
    let outside =
        "tensor `t`: its 4 bytes at offset 64 are not inside the file, whose data begins at 64 and ends at 128";
    assert!(tensor(&[1], F32, 64).starts_with(outside), "{}", tensor(&[1], F32, 64));
    assert!(tensor(&[1], F32, u64::MAX - 31).contains("not inside the file"));
    assert!(tensor(&[1], 999, 96).contains("not inside the file"));

    let two = |a: &str, b: &str, offset| {
        let file = Builder::new().tensor(a, &[9], F32, 0).tensor(b, &[1], F32, offset);
        refusal(&file.data(vec![0; 128]).build())
    };
    assert_eq!(two("a", "b", 32), "tensor `b`: it overlaps tensor `a`");
    assert_eq!(two("a", "a", 64), "tensor `a`: it stands there twice");
}

#[test]
fn the_alignment_key_is_obeyed_and_checked() {
    let with = |value: u32| Builder::new().pair("general.alignment", 4, &value.to_le_bytes());
    let gguf = Folder::new().open(&with(8).tensor("t", &[1], F32, 8).data(floats([1, 0, 5])).build()).unwrap();
    assert_eq!(gguf.tensors.get("t").unwrap().to_f32(), [5.0]);
    for wrong in [0, 24] {
        let expected = format!("key `general.alignment`: expected a power of two up to 2^20, found {wrong}");
        assert_eq!(refusal(&with(wrong).build()), expected);
    }
}

#[test]
fn hostile_names_are_shown_without_control_characters() {
    let file = Builder::new().pair("\u{1b}[2J", 13, &[0]).build();
    assert_eq!(refusal(&file), "key `\\u{1b}[2J`: value type 13, which the format does not have");
}

proptest! {
    #[test]
    fn changed_bytes_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = valid().build();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(gguf) = Folder::new().open(&bytes) {
            for name in gguf.tensors.names() {
                if let Ok(tensor) = gguf.tensors.get(name) {
                    tensor.to_f32();
                }
            }
        }
    }
}
