//! What stands before the data: magic, version, counts, key-value pairs, and of each tensor its name, axes, type and
//! offset. Both counts and every length are checked against the bytes that are left.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::OnceLock;

use super::Value;
use super::reader::{Reader, about};
use super::types;
use crate::tensors::{Place, Places};

const MAGIC: &[u8; 4] = b"GGUF";
/// Most axes of a tensor (`GGML_MAX_DIMS`).
const MAX_AXES: u32 = 4;
const ALIGNMENT_KEY: &str = "general.alignment";
const DEFAULT_ALIGNMENT: u64 = 32;
/// Bytes of the smallest key-value pair: an empty key, a type, one byte.
const LEAST_PAIR: usize = 8 + 4 + 1;
/// Bytes of the smallest tensor entry: an empty name, no axes, a type, an offset.
const LEAST_TENSOR: usize = 8 + 4 + 4 + 8;

pub struct Header {
    pub metadata: BTreeMap<String, Value>,
    pub places: Places,
}

type Result<T> = std::result::Result<T, String>;

/// Reads and checks the header of a file; errors are for the message of [`crate::Error::Malformed`].
pub fn read(file: &[u8]) -> Result<Header> {
    let mut reader = Reader::new(file);
    let magic: [u8; 4] = reader.array()?;
    if &magic != MAGIC {
        return Err(format!("expected a GGUF file, which begins with `GGUF`, found `{}`", magic.escape_ascii()));
    }
    check_version(reader.u32()?)?;
    let n_tensors = reader.count("tensors", LEAST_TENSOR)?;
    let n_pairs = reader.count("key-value pairs", LEAST_PAIR)?;

    let mut metadata = BTreeMap::new();
    for _ in 0..n_pairs {
        let key = reader.name()?;
        let kind = reader.u32().map_err(about("key", key))?;
        let value = reader.value(kind).map_err(about("key", key))?;
        if metadata.insert(key.to_string(), value).is_some() {
            return Err(about("key", key)("it stands there twice".into()));
        }
    }

    let mut entries = Vec::new();
    for _ in 0..n_tensors {
        let name = reader.name()?;
        entries.push((name, TensorEntry::read(&mut reader).map_err(about("tensor", name))?));
    }

    let alignment = alignment(&metadata)?;
    // The last tensor may be empty, and then the padding before it may be absent.
    let data_start = (reader.position() as u64).next_multiple_of(alignment).min(file.len() as u64);
    let mut places = Places::new();
    for (name, entry) in entries {
        let place = entry.place(data_start, file.len() as u64, alignment).map_err(about("tensor", name))?;
        if places.insert(name.to_string(), place).is_some() {
            return Err(about("tensor", name)("it stands there twice".into()));
        }
    }
    refuse_overlaps(&places)?;
    Ok(Header { metadata, places })
}

fn check_version(version: u32) -> Result<()> {
    match version {
        2 | 3 => Ok(()),
        _ if matches!(version.swap_bytes(), 1..=3) => Err(format!(
            "a big-endian GGUF file (version {}); only little-endian ones are read: convert it with gguf-py's \
             gguf_convert_endian",
            version.swap_bytes()
        )),
        _ => Err(format!("GGUF version {version}; versions 2 and 3 are read: convert the model again with llama.cpp")),
    }
}

fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64> {
    match metadata.get(ALIGNMENT_KEY) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(Value::Uint(n)) if n.is_power_of_two() && *n <= 1 << 20 => Ok(*n),
        Some(other) => {
            let found = match other {
                Value::Uint(n) => n.to_string(),
                other => other.kind().into(),
            };
            Err(about("key", ALIGNMENT_KEY)(format!("expected a power of two up to 2^20, found {found}")))
        }
    }
}

/// A tensor as the header has it.
struct TensorEntry {
    /// Outermost first.
    shape: Vec<u64>,
    kind: u32,
    /// From the start of the data.
    offset: u64,
}

impl TensorEntry {
    fn read(reader: &mut Reader) -> Result<Self> {
        let n_axes = reader.u32()?;
        if n_axes > MAX_AXES {
            return Err(format!("it claims {n_axes} axes, at most {MAX_AXES} are possible"));
        }
        let mut shape = (0..n_axes).map(|_| reader.u64()).collect::<Result<Vec<_>>>()?;
        shape.reverse();
        Ok(TensorEntry { shape, kind: reader.u32()?, offset: reader.u64()? })
    }

    /// Where that is in a file of `file_len` bytes.
    fn place(self, data_start: u64, file_len: u64, alignment: u64) -> Result<Place> {
        let TensorEntry { shape, kind, offset } = self;
        if !offset.is_multiple_of(alignment) {
            return Err(format!("its offset {offset} is not a multiple of the alignment {alignment}"));
        }
        // Zeros are left out of the products: `Tensor` multiplies some of the axes, and must not overflow either.
        let not_zero = shape.iter().map(|n| (*n).max(1)).try_fold(1u64, u64::checked_mul);
        let too_large = || format!("its shape {shape:?} is too large to count");
        let n = not_zero.filter(|n| usize::try_from(*n).is_ok()).ok_or_else(too_large)?;

        let dtype = types::dtype(kind);
        let n_bytes = match &dtype {
            // How long it is need not be known: it is never read.
            Err(_) => 0,
            Ok(dtype) => {
                let n_cols = shape.last().copied().unwrap_or(1);
                if !n_cols.is_multiple_of(dtype.block_len() as u64) {
                    return Err(format!("rows of {n_cols} are not whole {dtype} blocks of {}", dtype.block_len()));
                }
                let n_bytes = n.div_ceil(dtype.block_len() as u64).checked_mul(dtype.block_bytes() as u64);
                let n_bytes = n_bytes.filter(|n| usize::try_from(*n).is_ok()).ok_or_else(too_large)?;
                if shape.contains(&0) { 0 } else { n_bytes }
            }
        };
        let begin = data_start.checked_add(offset);
        let end = begin.and_then(|begin| begin.checked_add(n_bytes));
        match (begin, end) {
            (Some(begin), Some(end)) if end <= file_len => Ok(Place {
                dtype,
                shape: shape.into_iter().map(|n| n as usize).collect(),
                range: begin as usize..end as usize,
                tensor: OnceLock::new(),
            }),
            _ => Err(format!(
                "its {n_bytes} bytes at offset {offset} are not inside the file, whose data begins at {data_start} \
                 and ends at {file_len}: download it again"
            )),
        }
    }
}

fn refuse_overlaps(places: &Places) -> Result<()> {
    let mut ranges: Vec<(&Range<usize>, &str)> =
        places.iter().map(|(name, place)| (&place.range, name.as_str())).collect();
    ranges.retain(|(range, _)| !range.is_empty());
    ranges.sort_by_key(|(range, _)| range.start);
    for pair in ranges.windows(2) {
        let [(before, other), (range, name)] = pair else { continue };
        if range.start < before.end {
            return Err(about("tensor", name)(format!("it overlaps tensor `{}`", crate::error::shown(other))));
        }
    }
    Ok(())
}
