//! A position in bytes, and the little-endian values from there on. Nothing is allocated before the bytes for it are
//! known to be there.

use super::Value;
use crate::error::shown;

/// Bytes up to the end of the header; a vocabulary of 256k words takes about 16 MB.
pub const MAX_HEADER_BYTES: usize = 256 << 20;
/// Most elements of all arrays together: each takes up to 24 bytes of memory, whatever it takes in the file. A vocabulary
/// of 256k words has about 1.3 million with its merges, scores and kinds.
pub const MAX_ELEMENTS: usize = 1 << 23;
/// Longest key; the format's own limit.
pub const MAX_KEY_BYTES: usize = 65_535;

pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Elements of arrays read so far.
    elements: usize,
}

type Result<T> = std::result::Result<T, String>;

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes: &bytes[..bytes.len().min(MAX_HEADER_BYTES)], at: 0, elements: 0 }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8]> {
        if len > self.left() as u64 {
            return Err(if self.bytes.len() == MAX_HEADER_BYTES {
                format!("the header is longer than the {MAX_HEADER_BYTES} bytes allowed")
            } else {
                format!(
                    "at byte {} the header needs {len} bytes more, but {} follow; it was cut off: download it again",
                    self.at,
                    self.left()
                )
            });
        }
        let taken = &self.bytes[self.at..][..len as usize];
        self.at += taken.len();
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(*self.take(N as u64)?.first_chunk().expect("as many were taken"))
    }

    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of things that take at least `least` bytes each.
    pub fn count(&mut self, things: &str, least: usize) -> Result<usize> {
        let count = self.u64()?;
        let room = self.left() / least;
        if count > room as u64 {
            return Err(format!("it claims {count} {things}, but has room for at most {room}"));
        }
        Ok(count as usize)
    }

    fn str(&mut self) -> Result<&'a str> {
        let len = self.u64()?;
        let at = self.at;
        std::str::from_utf8(self.take(len)?).map_err(|e| format!("the string at byte {at} is not UTF-8: {e}"))
    }

    /// The name of a key or tensor.
    pub fn name(&mut self) -> Result<&'a str> {
        let at = self.at;
        match self.str()? {
            name if name.len() > MAX_KEY_BYTES => {
                Err(format!("the name at byte {at} has {} bytes, more than {MAX_KEY_BYTES}", name.len()))
            }
            name => Ok(name),
        }
    }

    fn bool(&mut self) -> Result<bool> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(format!("at byte {} expected a bool, 0 or 1, found {other}", self.at - 1)),
        }
    }

    /// A metadata value of a type by the format's number for it (`gguf_metadata_value_type`).
    pub fn value(&mut self, kind: u32) -> Result<Value> {
        Ok(match kind {
            7 => Value::Bool(self.bool()?),
            8 => Value::Str(self.str()?.into()),
            9 => self.array_value()?,
            _ => match Number::of(kind)? {
                Number::Uint(width) => Value::Uint(self.uint(width)?),
                Number::Int(width) => Value::Int(self.int(width)?),
                Number::F32 => Value::Float(self.f32()?),
                Number::F64 => Value::Float(self.f64()?),
            },
        })
    }

    fn array_value(&mut self) -> Result<Value> {
        let kind = self.u32()?;
        let least = match kind {
            7 => 1,
            8 => 8,
            9 => return Err("an array of arrays, which is not read".into()),
            _ => Number::of(kind)?.width(),
        };
        let len = self.count("elements in an array", least)?;
        self.elements += len;
        if self.elements > MAX_ELEMENTS {
            return Err(format!("its arrays have more than {MAX_ELEMENTS} elements together"));
        }
        Ok(match kind {
            7 => Value::Bools((0..len).map(|_| self.bool()).collect::<Result<_>>()?),
            8 => Value::Strs((0..len).map(|_| self.str().map(String::from)).collect::<Result<_>>()?),
            _ => match Number::of(kind)? {
                Number::Uint(width) => Value::Uints((0..len).map(|_| self.uint(width)).collect::<Result<_>>()?),
                Number::Int(width) => Value::Ints((0..len).map(|_| self.int(width)).collect::<Result<_>>()?),
                Number::F32 => Value::Floats((0..len).map(|_| self.f32()).collect::<Result<_>>()?),
                Number::F64 => Value::Floats((0..len).map(|_| self.f64()).collect::<Result<_>>()?),
            },
        })
    }

    fn uint(&mut self, width: usize) -> Result<u64> {
        let mut wide = [0; 8];
        wide[..width].copy_from_slice(self.take(width as u64)?);
        Ok(u64::from_le_bytes(wide))
    }

    fn int(&mut self, width: usize) -> Result<i64> {
        let unused = 64 - 8 * width as u32;
        Ok((self.uint(width)? << unused) as i64 >> unused)
    }

    fn f32(&mut self) -> Result<f64> {
        self.array().map(|b| f64::from(f32::from_le_bytes(b)))
    }

    fn f64(&mut self) -> Result<f64> {
        self.array().map(f64::from_le_bytes)
    }
}

/// A numeric metadata type, with its bytes.
enum Number {
    Uint(usize),
    Int(usize),
    F32,
    F64,
}

impl Number {
    fn of(kind: u32) -> Result<Self> {
        Ok(match kind {
            0 => Number::Uint(1),
            1 => Number::Int(1),
            2 => Number::Uint(2),
            3 => Number::Int(2),
            4 => Number::Uint(4),
            5 => Number::Int(4),
            6 => Number::F32,
            10 => Number::Uint(8),
            11 => Number::Int(8),
            12 => Number::F64,
            _ => return Err(format!("value type {kind}, which the format does not have")),
        })
    }

    fn width(&self) -> usize {
        match self {
            Number::Uint(width) | Number::Int(width) => *width,
            Number::F32 => 4,
            Number::F64 => 8,
        }
    }
}

/// Puts the key or tensor in front of what is wrong with it.
pub fn about<'a>(thing: &'a str, name: &'a str) -> impl Fn(String) -> String + 'a {
    move |what| format!("{thing} `{}`: {what}", shown(name))
}
