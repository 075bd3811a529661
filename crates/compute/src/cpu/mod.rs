//! The CPU: kernels of our own, chosen at run time.
//!
//! Everything is built on one operation, a tile of dot products, each a chain of fused multiply-adds in a fixed order. A
//! fused multiply-add rounds the same everywhere, so all kernels, from the portable one to AVX-512, give the same bits,
//! for any number of rows and threads. The one exception are products on AMX, whose instruction has an order of its own
//! (`amx.rs`).

#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
mod bounds;
mod ceiling;
mod elementwise;
mod encode;
mod gemm;
mod kernel;
mod learn;
mod likelihood;
mod packed;
mod pairs;
mod scattered;
mod screen;
mod softmax;
mod tiles;
mod transpose;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::Range;
use std::sync::OnceLock;

use rayon::prelude::*;

pub use ceiling::ReadBuffer;
pub use kernel::Kernel;
pub use learn::AdamStep;
pub use likelihood::Powers;

use bounds::WeightNorms;
use packed::Packed;
use pairs::{Bf16Tiles, NarrowTiles, SplitTiles};
use tiles::F32Tiles;

use crate::Tensor;
use crate::device::{Device, DeviceInfo, EncoderSpec, Heads, Mlp, Norm, RopeTable, Rows, Sparse};

/// What the operands of matrix products are rounded to. Sums, the residual stream and everything else stay f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Not rounded.
    F32,
    /// Weights rounded to f16.
    F16,
    /// Weights and rows rounded to bf16.
    Bf16,
}

impl Precision {
    /// Its name in a config.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "float32",
            Precision::F16 => "float16",
            Precision::Bf16 => "bfloat16",
        }
    }
}

/// A CPU with a thread pool, a kernel and a precision.
pub struct Cpu {
    pool: rayon::ThreadPool,
    kernel: Kernel,
    precision: Precision,
}

impl Cpu {
    /// `threads` of 0 means all cores. The kernel is the best that this machine has.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn new(threads: usize, precision: Precision) -> Result<Self, rayon::ThreadPoolBuildError> {
        Cpu::with_kernel(threads, precision, Kernel::detect())
    }

    /// The same with a given kernel.
    ///
    /// # Errors
    /// When the system gives no threads.
    ///
    /// # Panics
    /// When this machine cannot run the kernel: see [`Kernel::available`].
    pub fn with_kernel(
        threads: usize,
        precision: Precision,
        kernel: Kernel,
    ) -> Result<Self, rayon::ThreadPoolBuildError> {
        assert!(kernel.is_available(), "this machine cannot run the {} kernel", kernel.name());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        Ok(Cpu { pool, kernel, precision })
    }

    /// Applies `f` to every row of `x` in parallel.
    fn for_rows(&self, x: &mut Rows, f: impl Fn(usize, &mut [f32]) + Sync) {
        let d = x.d().max(1);
        self.pool.install(|| {
            x.data_mut().par_chunks_mut(d).enumerate().with_min_len(16).for_each(|(row, x)| f(row, x));
        });
    }
}

/// Runs something generic in the pool, with the tiles that the device's precision, its kernel and the weights call for.
macro_rules! with_tiles {
    ($cpu:expr, $weights:expr, |$tiles:ident| $body:expr) => {
        $cpu.pool.install(|| match $cpu.operands(&$weights) {
            Operands::F32($tiles) => $body,
            Operands::Bf16($tiles) => $body,
            Operands::Narrow($tiles) => $body,
            Operands::Split($tiles) => $body,
        })
    };
}

/// What is multiplied.
enum Operands {
    F32(F32Tiles),
    Bf16(Bf16Tiles),
    Narrow(NarrowTiles),
    Split(SplitTiles),
}

impl Cpu {
    /// How to multiply rows by all of these weights, in the pool.
    fn operands(&self, weights: &[&Tensor]) -> Operands {
        let Cpu { kernel, precision, .. } = *self;
        let pairs = if precision == Precision::Bf16 {
            Bf16Tiles::new(kernel).map(Operands::Bf16)
        } else {
            let split = SplitTiles::new(kernel, precision);
            let narrow = NarrowTiles::new(kernel, precision).filter(|_| weights.iter().all(|w| w.holds_bf16()));
            narrow.map(Operands::Narrow).or(split.map(Operands::Split))
        };
        pairs.unwrap_or(Operands::F32(F32Tiles { kernel, precision }))
    }
}

impl Device for Cpu {
    type Rows = Rows;
    type Matrix = Tensor;
    type Encoder = CpuEncoder;

    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            name: "cpu".into(),
            kernel: self.kernel.name().into(),
            threads: self.pool.current_num_threads(),
            dtype: self.precision.name().into(),
        }
    }

    fn on_host<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.pool.install(work)
    }

    fn matrix(&self, tensor: &Tensor) -> Tensor {
        tensor.clone()
    }

    fn upload(&self, rows: Rows) -> Rows {
        rows
    }

    fn download(&self, rows: &Rows) -> Rows {
        rows.clone()
    }

    fn embed(&self, table: &Tensor, ids: &[u32]) -> Rows {
        let mut x = Rows::zeros(ids.len(), table.n_cols());
        let precision = match self.precision {
            // The residual stream starts from the stored numbers; only f16 rounds every weight.
            Precision::Bf16 => Precision::F32,
            other => other,
        };
        self.for_rows(&mut x, |row, x| {
            tiles::unpack_f32(self.kernel, table.dtype(), table.row(ids[row] as usize), precision, x);
        });
        x
    }

    fn gather(&self, x: &Rows, which: &[usize]) -> Rows {
        let mut picked = Rows::zeros(which.len(), x.d());
        self.for_rows(&mut picked, |row, out| out.copy_from_slice(x.row(which[row])));
        picked
    }

    fn rms_norm(&self, x: &Rows, norm: Norm<'_>) -> Rows {
        let mut out = Rows::zeros(x.n(), x.d());
        self.for_rows(&mut out, |row, out| elementwise::rms_norm(self.kernel, x.row(row), norm.gain, norm.eps, out));
        out
    }

    fn linear(&self, x: &Rows, w: &Tensor) -> Rows {
        let [out] = with_tiles!(self, [w], |tiles| gemm::linear(&Packed::new(tiles, x, None), [w]));
        out
    }

    fn linear_add(&self, x: &Rows, w: &Tensor, into: &mut Rows) {
        with_tiles!(self, [w], |tiles| gemm::linear_add(&Packed::new(tiles, x, None), w, into));
    }

    fn norm_linear<const N: usize>(&self, x: &Rows, norm: Norm<'_>, w: [&Tensor; N]) -> [Rows; N] {
        with_tiles!(self, w, |tiles| gemm::linear(&Packed::new(tiles, x, Some(norm)), w))
    }

    fn norm_mlp(&self, x: &Rows, norm: Norm<'_>, mlp: Mlp<'_, Tensor>) -> Rows {
        let [out] = with_tiles!(self, [mlp.gate, mlp.up, mlp.down], |tiles| {
            let hidden = gemm::swiglu(&Packed::new(tiles, x, Some(norm)), mlp.gate, mlp.up);
            gemm::linear(&hidden, [mlp.down])
        });
        out
    }

    fn norm_mlp_add(&self, x: &mut Rows, norm: Norm<'_>, mlp: Mlp<'_, Tensor>) {
        with_tiles!(self, [mlp.gate, mlp.up, mlp.down], |tiles| {
            let hidden = gemm::swiglu(&Packed::new(tiles, x, Some(norm)), mlp.gate, mlp.up);
            gemm::linear_add(&hidden, mlp.down, x);
        });
    }

    fn add(&self, x: &mut Rows, y: &Rows) {
        assert_eq!((x.n(), x.d()), (y.n(), y.d()));
        self.for_rows(x, |row, x| elementwise::add(self.kernel, x, y.row(row)));
    }

    fn rope(&self, x: &mut Rows, table: &RopeTable, positions: &[u32]) {
        let half = table.half;
        self.for_rows(x, |row, x| {
            let at = positions[row] as usize * half;
            let (cos, sin) = (&table.cos[at..][..half], &table.sin[at..][..half]);
            elementwise::rotate(self.kernel, x, cos, sin, table.interleaved);
        });
    }

    fn attention(&self, q: &Rows, k: &Rows, v: &Rows, heads: Heads, spans: &[Range<usize>]) -> Rows {
        self.pool.install(|| attention::causal(self.kernel, q, k, v, heads, spans))
    }

    fn non_finite_row(&self, x: &Rows) -> Option<usize> {
        let rows = x.data().par_chunks(x.d().max(1)).with_min_len(64);
        self.pool.install(|| rows.position_first(|row| !elementwise::all_finite(row)))
    }

    fn encoder(&self, tensor: &Tensor) -> CpuEncoder {
        CpuEncoder { matrix: tensor.clone(), norms: OnceLock::new() }
    }

    fn encode(&self, x: &Rows, w: &CpuEncoder, spec: &EncoderSpec<'_>) -> Sparse {
        assert_eq!(x.d(), w.matrix.n_cols(), "{:?} does not fit rows of {}", w.matrix, x.d());
        assert_eq!(spec.bias.len(), w.matrix.n_rows());
        self.pool.install(|| match Bf16Tiles::new(self.kernel) {
            Some(tiles) if x.n() >= SCREENED_ROWS => {
                let norms = w.norms.get_or_init(|| WeightNorms::new(self.kernel, &w.matrix));
                screen::encode(tiles, x, &w.matrix, norms, spec)
            }
            _ => encode::dense(self.kernel, x, &w.matrix, spec),
        })
    }
}

/// Rows from which a pass over the matrix for its norms pays.
const SCREENED_ROWS: usize = 64;

/// An encoder's matrix, and the lengths of its rows once they were needed.
pub struct CpuEncoder {
    matrix: Tensor,
    norms: OnceLock<WeightNorms>,
}
