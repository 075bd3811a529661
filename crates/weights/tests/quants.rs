//! Every storage type against the numbers that ggml's own Python reader makes of the same blocks
//! (`fixtures/make_quants.py`).

use std::path::PathBuf;

use llamascope_compute::Dtype;
use llamascope_weights::gguf::Value;
use llamascope_weights::{Gguf, TensorMap};

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

#[test]
fn every_type_gives_the_reference_numbers_to_the_bit() {
    let gguf = Gguf::open(&data("quants.gguf")).unwrap();
    let expected = TensorMap::open_file(&data("quants_expected.safetensors")).unwrap();
    for dtype in Dtype::ALL {
        let name = dtype.name().to_lowercase();
        let stored = gguf.tensors.get(&name).unwrap();
        assert_eq!((stored.dtype(), stored.shape()), (dtype, &[3, 512][..]));
        let expected = expected.get(&name).unwrap().expect_shape(&[3, 512]).unwrap();
        for (i, (found, expected)) in stored.to_f32().into_iter().zip(expected.to_f32()).enumerate() {
            assert_eq!(found.to_bits(), expected.to_bits(), "{name}[{i}]: {found} instead of {expected}");
        }
    }
    assert_eq!(gguf.tensors.names().count(), Dtype::ALL.len());
    assert_eq!(expected.names().count(), Dtype::ALL.len());
}

#[test]
fn a_row_is_read_by_itself() {
    let gguf = Gguf::open(&data("quants.gguf")).unwrap();
    let tensor = gguf.tensors.get("q6_k").unwrap();
    let mut row = vec![0.0; tensor.n_cols()];
    tensor.dtype().dequantize(tensor.row(1), &mut row);
    assert_eq!(row, tensor.to_f32()[512..1024]);
}

#[test]
fn metadata_of_every_kind_is_read() {
    let gguf = Gguf::open(&data("quants.gguf")).unwrap();
    let value = |kind: &str| gguf.metadata[&format!("test.{kind}")].clone();
    assert_eq!(value("u8"), Value::Uint(u8::MAX.into()));
    assert_eq!(value("i8"), Value::Int(i8::MIN.into()));
    assert_eq!(value("u16"), Value::Uint(u16::MAX.into()));
    assert_eq!(value("i16"), Value::Int(i16::MIN.into()));
    assert_eq!(value("u32"), Value::Uint(u32::MAX.into()));
    assert_eq!(value("i32"), Value::Int(i32::MIN.into()));
    assert_eq!(value("u64"), Value::Uint(u64::MAX));
    assert_eq!(value("i64"), Value::Int(i64::MIN));
    assert_eq!(value("f32"), Value::Float(1e-5f32.into()));
    assert_eq!(value("f64"), Value::Float(1e-5));
    assert_eq!(value("bool"), Value::Bool(true));
    assert_eq!(value("text"), Value::Str("naïve 日本".into()));
    assert_eq!(value("texts"), Value::Strs(vec!["a".into(), "".into(), "Ġb".into()]));
    assert_eq!(value("ints"), Value::Ints(vec![-1, 0, 1]));
    assert_eq!(value("floats"), Value::Floats(vec![0.5, -2.0]));
    assert_eq!(value("bools"), Value::Bools(vec![true, false]));
}

#[test]
fn getters_give_the_value_or_name_file_key_and_kinds() {
    let gguf = Gguf::open(&data("quants.gguf")).unwrap();
    assert_eq!(gguf.str("general.architecture").unwrap(), "test");
    assert_eq!(gguf.u64("test.u16").unwrap(), 65_535);
    assert_eq!(gguf.f64("test.f64").unwrap(), 1e-5);
    assert!(gguf.bool("test.bool").unwrap());
    assert_eq!(gguf.strs("test.texts").unwrap().len(), 3);
    assert_eq!(gguf.ints("test.ints").unwrap(), [-1, 0, 1]);
    assert_eq!(gguf.floats("test.floats").unwrap(), [0.5, -2.0]);
    assert_eq!(gguf.opt_str("no.such").unwrap(), None);

    let message = |e: llamascope_weights::Error| e.to_string();
    let missing = message(gguf.u64("no.such").unwrap_err());
    assert!(missing.ends_with("quants.gguf: metadata key `no.such`: expected an integer from 0, found nothing"));
    let negative = message(gguf.u64("test.i8").unwrap_err());
    assert!(negative.ends_with("`test.i8`: expected an integer from 0, found a signed integer"), "{negative}");
    let kind = message(gguf.opt_str("test.bools").unwrap_err());
    assert!(kind.ends_with("`test.bools`: expected a string, found an array of bools"), "{kind}");
}
