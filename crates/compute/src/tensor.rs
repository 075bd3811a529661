//! A stored tensor: bytes that something else owns (a mapped file), with a type and a shape.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

use crate::Dtype;

/// Whatever holds bytes: a vector, a mapped file.
pub trait Storage: Send + Sync {
    /// All of them.
    fn bytes(&self) -> &[u8];

    /// This range will be read soon. May wait until it is in memory: to be called where nobody waits for the answer.
    fn will_need(&self, _range: Range<usize>) {}

    /// This range will not be read for a while: its memory may be used otherwise, as long as the bytes come back when
    /// they are read.
    fn dont_need(&self, _range: Range<usize>) {}

    /// What has become of the bytes since they were taken, if they may be others now: somebody wrote to the file.
    fn altered(&self) -> Option<String> {
        None
    }
}

impl Storage for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// Shared bytes, cheap to clone: a range of what something else holds.
#[derive(Clone)]
pub struct Bytes {
    owner: Arc<dyn Storage>,
    range: Range<usize>,
}

impl Bytes {
    /// A range of what `owner` holds.
    ///
    /// # Panics
    /// When the range is not inside it.
    pub fn new(owner: Arc<dyn Storage>, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= owner.bytes().len());
        Bytes { owner, range }
    }

    /// Owned bytes.
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Bytes { owner: Arc::new(bytes), range }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.owner.bytes()[self.range.clone()]
    }
}

/// A stored tensor, row-major, the last axis contiguous.
#[derive(Clone)]
pub struct Tensor {
    name: Arc<str>,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Bytes,
    holds_bf16: Arc<OnceLock<bool>>,
}

/// A tensor of another shape than was called for.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("tensor `{tensor}` has shape {found:?}, expected {expected:?}")]
pub struct ShapeError {
    /// Name of the tensor.
    pub tensor: String,
    /// Shape called for.
    pub expected: Vec<usize>,
    /// Shape found.
    pub found: Vec<usize>,
}

impl Tensor {
    /// Bytes with a type and a shape.
    ///
    /// # Panics
    /// When the number of bytes is not that of the shape: readers of files check it first.
    pub fn new(name: &str, dtype: Dtype, shape: Vec<usize>, bytes: Bytes) -> Self {
        let tensor = Tensor { name: name.into(), dtype, shape, bytes, holds_bf16: Arc::default() };
        assert_eq!(
            tensor.n_cols() % dtype.block_len(),
            0,
            "`{name}`: rows of {} are not whole blocks",
            tensor.n_cols()
        );
        assert_eq!(tensor.bytes.as_slice().len(), tensor.n_rows() * tensor.row_bytes(), "`{name}`: bytes");
        tensor
    }

    /// A tensor that owns f32 numbers.
    pub fn from_f32(name: &str, shape: Vec<usize>, values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor::new(name, Dtype::F32, shape, Bytes::from_vec(bytes))
    }

    /// A tensor that owns numbers rounded to bf16.
    pub fn from_f32_rounded_to_bf16(name: &str, shape: Vec<usize>, values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect();
        Tensor::new(name, Dtype::Bf16, shape, Bytes::from_vec(bytes))
    }

    /// Its name in the file, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Storage type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Lengths of the axes, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Product of all axes but the last (1 for a vector).
    pub fn n_rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }

    /// The last axis.
    pub fn n_cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.n_cols() / self.dtype.block_len() * self.dtype.block_bytes()
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// Whether all its numbers are bf16, be they stored as bf16 or as f32 (as most converters write what was trained in
    /// bf16). Finding out reads all of it, once for all its clones.
    pub fn holds_bf16(&self) -> bool {
        /// Bytes that a thread looks at before it sees whether another one has found the answer.
        const PIECE: usize = 1 << 18;
        let has_lower_half = |piece: &[u8]| {
            piece.as_chunks().0.iter().fold(0, |lower, number| lower | u32::from_le_bytes(*number) & 0xffff) != 0
        };
        match self.dtype {
            Dtype::Bf16 => true,
            Dtype::F32 => self.holds_bf16.get().copied().unwrap_or_else(|| {
                // Not while the lock is held: a thread that waits for others may take up work that asks the same.
                let answer = !self.bytes().par_chunks(PIECE).any(has_lower_half);
                *self.holds_bf16.get_or_init(|| answer)
            }),
            _ => false,
        }
    }

    /// Says that it will be read soon; may wait for the disk.
    pub fn will_need(&self) {
        self.bytes.owner.will_need(self.bytes.range.clone());
    }

    /// Says that it will not be read for a while. It stays valid.
    pub fn dont_need(&self) {
        self.bytes.owner.dont_need(self.bytes.range.clone());
    }

    /// What has become of its bytes since the file was opened, if they may be others now.
    pub fn altered(&self) -> Option<String> {
        self.bytes.owner.altered()
    }

    /// The bytes of one row.
    pub fn row(&self, row: usize) -> &[u8] {
        &self.bytes()[row * self.row_bytes()..][..self.row_bytes()]
    }

    /// Itself, when it has the shape called for.
    pub fn expect_shape(self, expected: &[usize]) -> Result<Self, ShapeError> {
        if self.shape == expected {
            Ok(self)
        } else {
            Err(ShapeError { tensor: self.name.to_string(), expected: expected.into(), found: self.shape })
        }
    }

    /// All numbers as f32, row after row. For vectors and small matrices.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.n_rows() * self.n_cols()];
        self.dtype.dequantize(self.bytes(), &mut values);
        values
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {:?}", self.name, self.dtype, self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_with_a_lower_half_is_found_wherever_it_stands() {
        const N: usize = 200_000;
        let narrow = vec![1.25f32; N];
        assert!(Tensor::from_f32("w", vec![N], &narrow).holds_bf16());
        for at in [0, 1, N / 2, N - 1] {
            let mut wide = narrow.clone();
            wide[at] = f32::from_bits(0x3fa0_0001);
            let tensor = Tensor::from_f32("w", vec![N], &wide);
            assert_eq!([tensor.holds_bf16(), tensor.clone().holds_bf16()], [false; 2], "{at}");
        }
        assert!(Tensor::from_f32_rounded_to_bf16("w", vec![2], &[0.1, 0.2]).holds_bf16());
        assert!(!Tensor::new("w", Dtype::F16, vec![2], Bytes::from_vec(vec![0; 4])).holds_bf16());
    }
}
