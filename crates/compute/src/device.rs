//! What a device must be able to do, and the plain data that goes in and out of it.

use std::ops::Range;

use crate::Tensor;

/// Rows of f32 in host memory, `[n, d]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    n: usize,
    d: usize,
    data: Vec<f32>,
}

impl Rows {
    /// `n` rows of zeros.
    pub fn zeros(n: usize, d: usize) -> Self {
        Rows { n, d, data: vec![0.0; n * d] }
    }

    /// Rows from their numbers.
    ///
    /// # Panics
    /// When there are not `n * d` of them.
    pub fn from_vec(n: usize, d: usize, data: Vec<f32>) -> Self {
        assert_eq!(data.len(), n * d);
        Rows { n, d, data }
    }

    /// Number of rows.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Width of a row.
    pub fn d(&self) -> usize {
        self.d
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.d..][..self.d]
    }

    /// All numbers.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// All numbers, to be changed.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }
}

/// How the columns of q, k and v divide into heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub n_heads: usize,
    /// Key-value heads; each serves `n_heads / n_kv_heads` query heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

/// Cosines and sines of the rotary embedding by position, `[positions, head_dim / 2]`.
#[derive(Clone, Debug)]
pub struct RopeTable {
    /// Half the width of a head.
    pub half: usize,
    /// Whether the numbers of a pair are neighbours (`2i`, `2i + 1`) or half a head apart (`i`, `i + half`).
    pub interleaved: bool,
    /// Cosines.
    pub cos: Vec<f32>,
    /// Sines.
    pub sin: Vec<f32>,
}

/// An RMSNorm.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// Factor by column, `[d]`; none means 1.
    pub gain: Option<&'a [f32]>,
    /// Added to the mean square.
    pub eps: f32,
}

/// The matrices of a gated MLP.
#[derive(Debug)]
pub struct Mlp<'a, M> {
    /// `[d_mlp, d]`.
    pub gate: &'a M,
    /// `[d_mlp, d]`.
    pub up: &'a M,
    /// `[d, d_mlp]`.
    pub down: &'a M,
}

/// Which values of an encoded row are active. Only positive values ever are.
#[derive(Clone, Copy, Debug)]
pub enum Select<'a> {
    /// Those above their feature's threshold, `[d_sae]`.
    Above(&'a [f32]),
    /// Those above zero.
    Positive,
    /// The `k` largest (ties by ascending feature).
    TopK(usize),
}

/// An encoder beside its matrix: `h = scale * (w . x) + bias`, `value = gain * h`.
#[derive(Clone, Copy, Debug)]
pub struct EncoderSpec<'a> {
    /// Factor on the product.
    pub scale: f32,
    /// `[d_sae]`.
    pub bias: &'a [f32],
    /// `[d_sae]`; none means 1.
    pub gain: Option<&'a [f32]>,
    /// Which values are active.
    pub select: Select<'a>,
}

/// Sparse rows: row `r` is `ptr[r]..ptr[r + 1]` of ids and values, by value descending, ties by ascending id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sparse {
    /// Offsets, one more than rows.
    pub ptr: Vec<usize>,
    /// Feature ids.
    pub ids: Vec<u32>,
    /// Values.
    pub vals: Vec<f32>,
    /// How many values were computed in full precision to find them.
    pub candidates: usize,
}

/// What a device says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// `cpu`, ...
    pub name: String,
    /// The kernels in use.
    pub kernel: String,
    /// Threads, where it has any.
    pub threads: usize,
    /// The precision of matrix products.
    pub dtype: String,
}

/// The operations of a forward pass and of an encoder. Rows stay on the device between them.
///
/// Every number of every row is computed in an order that depends only on the row itself (and, in attention, on its
/// own sentence): never on what else is in the batch or on the number of threads.
pub trait Device: Send + Sync {
    /// Rows of f32 on the device, `[n, d]`.
    type Rows: Send;
    /// A weight matrix `[out, in]` in its stored type, ready for the device.
    type Matrix: Send + Sync;
    /// The matrix of an encoder, with whatever the device needs to encode quickly.
    type Encoder: Send + Sync;

    /// What it is.
    fn info(&self) -> DeviceInfo;

    /// Does other work with the threads that the device may use on the host; it may call rayon.
    fn on_host<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R;

    /// Takes a stored matrix: in place where the device can read the file's memory.
    fn matrix(&self, tensor: &Tensor) -> Self::Matrix;

    /// Rows from the host.
    fn upload(&self, rows: Rows) -> Self::Rows;

    /// Rows to the host.
    fn download(&self, rows: &Self::Rows) -> Rows;

    /// The rows `ids` of a matrix, `[ids, in]`.
    fn embed(&self, table: &Self::Matrix, ids: &[u32]) -> Self::Rows;

    /// The rows `which`, in that order.
    fn gather(&self, x: &Self::Rows, which: &[usize]) -> Self::Rows;

    /// `gain * x / sqrt(mean(x^2) + eps)` by row (Zhang & Sennrich 2019, arXiv 1910.07467); no gain means 1.
    fn rms_norm(&self, x: &Self::Rows, norm: Norm<'_>) -> Self::Rows;

    /// `x . w^T`, `[n, out]`.
    fn linear(&self, x: &Self::Rows, w: &Self::Matrix) -> Self::Rows;

    /// `into += x . w^T`.
    fn linear_add(&self, x: &Self::Rows, w: &Self::Matrix, into: &mut Self::Rows);

    /// `rms_norm(x) . w^T` for several matrices.
    fn norm_linear<const N: usize>(&self, x: &Self::Rows, norm: Norm<'_>, w: [&Self::Matrix; N]) -> [Self::Rows; N];

    /// `down(silu(y . gate^T) * (y . up^T))` where `y = rms_norm(x)` (Shazeer 2020, arXiv 2002.05202).
    fn norm_mlp(&self, x: &Self::Rows, norm: Norm<'_>, mlp: Mlp<'_, Self::Matrix>) -> Self::Rows;

    /// `x += norm_mlp(x)`.
    fn norm_mlp_add(&self, x: &mut Self::Rows, norm: Norm<'_>, mlp: Mlp<'_, Self::Matrix>);

    /// `x += y`.
    fn add(&self, x: &mut Self::Rows, y: &Self::Rows);

    /// Turns each head of each row by the angles of its position; `positions` has an entry a row.
    fn rope(&self, x: &mut Self::Rows, table: &RopeTable, positions: &[u32]);

    /// Causal softmax attention inside each span of rows; spans cover all rows in order.
    fn attention(
        &self,
        q: &Self::Rows,
        k: &Self::Rows,
        v: &Self::Rows,
        heads: Heads,
        spans: &[Range<usize>],
    ) -> Self::Rows;

    /// The first row that holds a number that is not finite.
    fn non_finite_row(&self, x: &Self::Rows) -> Option<usize>;

    /// Takes the stored matrix of an encoder, `[d_sae, d]`.
    fn encoder(&self, tensor: &Tensor) -> Self::Encoder;

    /// The active features of every row: the same to the bit as if all values were computed in f32, however the device
    /// finds them.
    fn encode(&self, x: &Self::Rows, w: &Self::Encoder, spec: &EncoderSpec<'_>) -> Sparse;
}
