//! The header of a safetensors file as the safetensors crate documents it: eight bytes of length, that much JSON
//! with type, shape and offsets of each tensor, then the data, without holes.
//!
//! Stricter than the `safetensors` crate, whose types are used, and with the tensor named in every message.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::OnceLock;

use llamascope_compute::Dtype;
use safetensors::tensor::TensorInfo;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use crate::Error;
use crate::error::shown;
use crate::mapped::Mapped;
use crate::tensors::{Place, Places};

/// Longest header; the format's own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Bytes of the header's length.
const LENGTH_BYTES: usize = 8;

/// The types that are read.
pub(crate) const READABLE: &str = "F32, F16, BF16";

/// Said wherever somebody brings a PyTorch file.
pub(crate) const NO_PICKLES: &str = "PyTorch pickles (*.bin, *.pt, *.pth) are not read, because loading one runs code; \
    convert it with safetensors.torch.save_file, or download the model's *.safetensors files";

/// All tensors of a file.
pub(crate) fn places(file: &Mapped) -> Result<Places, Error> {
    let (path, bytes) = (file.path(), file.bytes());
    let malformed = |what: String| Error::malformed(path, what);
    refuse_other_formats(path, bytes)?;
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(malformed(format!(
            "expected a safetensors file, found {} bytes; it was cut off: download it again",
            bytes.len()
        )));
    };
    let length = u64::from_le_bytes(*length);
    if length > rest.len() as u64 {
        return Err(malformed(format!(
            "the header should have {length} bytes, but {} follow; it was cut off or is no safetensors file: \
             download it again",
            rest.len()
        )));
    }
    if length > MAX_HEADER_BYTES {
        return Err(malformed(format!("the header has {length} bytes, the format allows {MAX_HEADER_BYTES}")));
    }
    let (header, data) = rest.split_at(length as usize);
    let header: Unique<HeaderValue> =
        serde_json::from_slice(header).map_err(|e| malformed(format!("the header is not as expected: {e}")))?;

    let mut infos: Vec<(String, TensorInfo)> = header
        .entries
        .into_iter()
        .filter_map(|(name, value)| match value {
            HeaderValue::Tensor(info) => Some((name, info)),
            HeaderValue::Metadata => None,
        })
        .collect();
    infos.sort_by_key(|(_, info)| info.data_offsets);

    let mut end = 0;
    for (name, info) in &infos {
        check(info, end, data.len()).map_err(|what| malformed(format!("tensor `{}`: {what}", shown(name))))?;
        end = info.data_offsets.1;
    }
    if end != data.len() {
        return Err(malformed(format!(
            "the tensors take {end} bytes after the header, the file has {}: download it again",
            data.len()
        )));
    }
    let data_start = bytes.len() - data.len();
    Ok(infos.into_iter().map(|(name, info)| (name, place(info, data_start))).collect())
}

/// Checks one tensor, whose bytes must begin at `start` and end inside the `limit` bytes of data.
fn check(info: &TensorInfo, start: usize, limit: usize) -> Result<(), String> {
    let (begin, end) = info.data_offsets;
    if end < begin || end > limit {
        return Err(format!("its bytes {begin}..{end} are not inside the {limit} bytes after the header"));
    }
    if begin != start {
        let what = if begin < start {
            "overlap those of another tensor"
        } else {
            "leave a hole after those of the tensor before"
        };
        return Err(format!("its bytes {begin}..{end} {what}, which end at {start}"));
    }
    // Zeros are left out of this product: `Tensor` multiplies some of the axes, and must not overflow either.
    let not_zero = info.shape.iter().map(|n| (*n).max(1)).try_fold(1usize, usize::checked_mul);
    let bits = not_zero
        .and_then(|n| n.checked_mul(info.dtype.bitsize()))
        .ok_or_else(|| format!("its shape {} is too large to count", Shape(&info.shape)))?;
    let bits = if info.shape.contains(&0) { 0 } else { bits };
    if !bits.is_multiple_of(8) || bits / 8 != end - begin {
        return Err(format!(
            "{} of shape {} takes {} bytes, but its offsets span {}",
            info.dtype,
            Shape(&info.shape),
            bits.div_ceil(8),
            end - begin
        ));
    }
    Ok(())
}

fn place(info: TensorInfo, data_start: usize) -> Place {
    let dtype = match info.dtype {
        safetensors::Dtype::F32 => Ok(Dtype::F32),
        safetensors::Dtype::F16 => Ok(Dtype::F16),
        safetensors::Dtype::BF16 => Ok(Dtype::Bf16),
        other => Err(other.to_string()),
    };
    let (begin, end) = info.data_offsets;
    Place { dtype, shape: info.shape, range: data_start + begin..data_start + end, tensor: OnceLock::new() }
}

/// A plain word to those who bring a file of another kind.
fn refuse_other_formats(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    // A zip archive is what torch.save has written since 1.6, a bare pickle (protocol 2) what it wrote before.
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02") && bytes.get(2) == Some(&0x8a) {
        return Err(Error::malformed(path, format!("expected a safetensors file; {NO_PICKLES}")));
    }
    if bytes.starts_with(b"GGUF") {
        return Err(Error::malformed(path, "expected a safetensors file, found a GGUF file; give it as a GGUF file"));
    }
    Ok(())
}

/// What stands behind a name in the header.
enum HeaderValue {
    Metadata,
    Tensor(TensorInfo),
}

/// A JSON object whose names are unique; `serde_json` would keep the last of several.
pub(crate) struct Unique<T> {
    pub entries: BTreeMap<String, T>,
}

/// How the value behind a name is read.
pub(crate) trait Named: Sized {
    /// The next value of `map`, which stands behind `name`.
    fn next<'de, A: MapAccess<'de>>(name: &str, map: &mut A) -> Result<Self, A::Error>;
}

impl Named for HeaderValue {
    fn next<'de, A: MapAccess<'de>>(name: &str, map: &mut A) -> Result<Self, A::Error> {
        if name == "__metadata__" {
            return map.next_value::<HashMap<String, String>>().map(|_| HeaderValue::Metadata);
        }
        map.next_value().map(HeaderValue::Tensor).map_err(|e| A::Error::custom(format!("`{}`: {e}", shown(name))))
    }
}

impl Named for String {
    fn next<'de, A: MapAccess<'de>>(_: &str, map: &mut A) -> Result<Self, A::Error> {
        map.next_value()
    }
}

impl<'de, T: Named> Deserialize<'de> for Unique<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Named> Visitor<'de> for Entries<T> {
            type Value = Unique<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with one entry a tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    let value = T::next(&name, &mut map)?;
                    if entries.contains_key(&name) {
                        return Err(A::Error::custom(format!("`{}` stands there twice", shown(&name))));
                    }
                    entries.insert(name, value);
                }
                Ok(Unique { entries })
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// A shape in a message: hostile ones may have a million axes.
struct Shape<'a>(&'a [usize]);

impl fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            short if short.len() <= 8 => write!(f, "{short:?}"),
            long => write!(f, "of {} axes", long.len()),
        }
    }
}
