//! What is trained: the four arrays of an SAE in f32, their gradients, and the moments of Adam.

use std::sync::Arc;

use llamascope_compute::{AdamStep, Bytes, Cpu, Device, Dtype, Storage, Tensor};
use rayon::prelude::*;

use crate::random::Random;

/// Names of the four arrays, in files and messages.
pub(crate) const NAMES: [&str; 4] = ["w_enc", "b_enc", "w_dec", "b_dec"];

/// Features that a task takes.
const BLOCK: usize = 32;

// Tensors hold little-endian numbers; the weights lend their memory to one.
const _: () = assert!(cfg!(target_endian = "little"));

/// Numbers that a tensor can look at while they stand still.
#[derive(Clone, Debug)]
pub(crate) struct Numbers(Vec<f32>);

impl Storage for Numbers {
    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// The weights of an SAE of `f` features over rows of `d`: `h = W_enc x + b_enc`, `x' = W_dec^T v(h) + b_dec`. Nothing
/// is subtracted before the encoder, and the rows of `W_dec` have length 1.
pub(crate) struct Parameters {
    pub d: usize,
    pub f: usize,
    /// `[f, d]`
    w_enc: Arc<Numbers>,
    /// `[f]`
    pub b_enc: Vec<f32>,
    /// `[f, d]`: a row a feature.
    pub w_dec: Vec<f32>,
    /// `[d]`
    pub b_dec: Vec<f32>,
}

/// An array for each of [`NAMES`], in their order and of their lengths.
#[derive(Clone)]
pub(crate) struct Arrays(pub [Vec<f32>; 4]);

impl Arrays {
    /// All zeros.
    pub(crate) fn zeros(d: usize, f: usize) -> Self {
        Arrays([f * d, f, f * d, d].map(|n| vec![0.0; n]))
    }
}

impl Parameters {
    /// From the arrays, in the order of [`NAMES`].
    pub(crate) fn new(d: usize, [w_enc, b_enc, w_dec, b_dec]: [Vec<f32>; 4]) -> Self {
        let f = b_enc.len();
        assert!(w_enc.len() == f * d && w_dec.len() == f * d && b_dec.len() == d);
        Parameters { d, f, w_enc: Arc::new(Numbers(w_enc)), b_enc, w_dec, b_dec }
    }

    /// Random directions, which the encoder reads and the decoder writes; `mean: [d]` is where they start from.
    pub(crate) fn random(f: usize, mean: &[f32], random: &mut Random) -> Self {
        let d = mean.len();
        let mut w: Vec<f32> = (0..f * d).map(|_| random.normal()).collect();
        w.chunks_exact_mut(d).for_each(normalise);
        let mut parameters = Parameters::new(d, [w.clone(), vec![0.0; f], w, mean.to_vec()]);
        parameters.centre(mean);
        parameters
    }

    /// Sets the encoder's biases so that it reads what differs from `mean`.
    fn centre(&mut self, mean: &[f32]) {
        let dot = |w: &[f32]| w.iter().zip(mean).map(|(w, m)| f64::from(*w) * f64::from(*m)).sum::<f64>();
        self.b_enc = self.w_enc().chunks_exact(self.d).map(|w| -dot(w) as f32).collect();
    }

    /// Multiplies what the encoder says by a number.
    pub(crate) fn scale_encoder(&mut self, factor: f32) {
        self.w_enc_mut().iter_mut().for_each(|w| *w *= factor);
        self.b_enc.iter_mut().for_each(|b| *b *= factor);
    }

    /// The encoder's matrix, `[f, d]`.
    pub(crate) fn w_enc(&self) -> &[f32] {
        &self.w_enc.0
    }

    fn w_enc_mut(&mut self) -> &mut [f32] {
        &mut Arc::get_mut(&mut self.w_enc).expect("no tensor outlives the batch it was made for").0
    }

    /// The encoder's matrix without a copy. Must be gone before the parameters change.
    pub(crate) fn encoder(&self) -> Tensor {
        let bytes = self.w_enc.0.len() * size_of::<f32>();
        Tensor::new("w_enc", Dtype::F32, vec![self.f, self.d], Bytes::new(self.w_enc.clone(), 0..bytes))
    }

    /// The arrays, in the order of [`NAMES`].
    pub(crate) fn arrays(&self) -> [&[f32]; 4] {
        [self.w_enc(), &self.b_enc, &self.w_dec, &self.b_dec]
    }

    /// The arrays, to be changed.
    #[cfg(test)]
    pub(crate) fn arrays_mut(&mut self) -> [&mut [f32]; 4] {
        let w_enc = Arc::get_mut(&mut self.w_enc).expect("no tensor outlives the batch it was made for");
        [&mut w_enc.0, &mut self.b_enc, &mut self.w_dec, &mut self.b_dec]
    }

    /// Moves everything by a step of Adam, and brings the decoder's rows back to length 1.
    pub(crate) fn step(
        &mut self,
        cpu: &Cpu,
        step: &AdamStep,
        gradients: &Arrays,
        first: &mut Arrays,
        second: &mut Arrays,
    ) {
        let (d, width) = (self.d, self.d * BLOCK);
        let w_enc = Arc::get_mut(&mut self.w_enc).expect("no tensor outlives the batch it was made for");
        let [g_we, g_be, g_wd, g_bd] = &gradients.0;
        let [m_we, m_be, m_wd, m_bd] = &mut first.0;
        let [v_we, v_be, v_wd, v_bd] = &mut second.0;
        let matrix = |p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], unit: bool| {
            cpu.on_host(|| {
                let moments = m.par_chunks_mut(width).zip(v.par_chunks_mut(width));
                p.par_chunks_mut(width).zip(g.par_chunks(width)).zip(moments).for_each(|((p, g), (m, v))| {
                    cpu.adam(step, g, p, [m, v]);
                    if unit {
                        p.chunks_exact_mut(d).for_each(|row| {
                            let mut square = [0.0];
                            cpu.dot_rows(row, &[0], row, &mut square);
                            let inverse = 1.0 / square[0].sqrt().max(f32::MIN_POSITIVE);
                            row.iter_mut().for_each(|x| *x *= inverse);
                        });
                    }
                });
            });
        };
        matrix(&mut w_enc.0, g_we, m_we, v_we, false);
        matrix(&mut self.w_dec, g_wd, m_wd, v_wd, true);
        cpu.adam(step, g_be, &mut self.b_enc, [m_be, v_be]);
        cpu.adam(step, g_bd, &mut self.b_dec, [m_bd, v_bd]);
    }
}

/// Brings a row to length 1.
fn normalise(row: &mut [f32]) {
    let square: f64 = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    let inverse = (1.0 / square.sqrt().max(1e-30)) as f32;
    row.iter_mut().for_each(|x| *x *= inverse);
}
