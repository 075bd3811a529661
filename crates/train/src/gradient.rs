//! A batch forwards and backwards. Only active features are touched: the backward pass goes over the entries of the
//! sparse rows once by row and once by feature, and what a number is added to decides the order in which it is added,
//! never the number of threads.
//!
//! `loss = 1/n sum over rows (|x' - x|^2 + l1 sum of values) + aux/n sum over rows |e' - (x - x')|^2`, where `e'` is
//! what the `aux.k` strongest dead features of a row make of it (Gao et al. 2024, arXiv 2406.04093, section 2.2 and A.2);
//! the error that they are shown is held fixed, and their values may be negative.

use llamascope_compute::{Cpu, Device, EncoderSpec, Rows, Select, Sparse, Tensor};
use rayon::prelude::*;

use crate::parameters::{Arrays, Parameters};

/// Rows that a task takes.
const ROWS: usize = 32;
/// Features that a task takes.
const FEATURES: usize = 32;

/// The auxiliary loss of a batch.
#[derive(Clone, Copy)]
pub(crate) struct Aux<'a> {
    /// Ids of dead features, ascending, at least one.
    pub dead: &'a [u32],
    /// How many of them a row takes.
    pub k: usize,
    /// Weight of the loss.
    pub coefficient: f32,
}

/// What a batch came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Losses {
    /// Sum of `|x' - x|^2`.
    pub squared_error: f64,
    /// Sum of all values.
    pub values: f64,
    /// Sum of `|e' - e|^2`.
    pub aux: f64,
    /// Length of the gradient of everything, the part along the decoder's rows taken out.
    pub gradient_norm: f64,
}

/// The active features of some rows, each row's by descending value.
pub(crate) fn encode(cpu: &Cpu, parameters: &Parameters, x: &Rows, select: Select<'_>) -> Sparse {
    let spec = EncoderSpec { scale: 1.0, bias: &parameters.b_enc, gain: None, select };
    cpu.encode(x, &cpu.encoder(&parameters.encoder()), &spec)
}

/// What the rows' features make of them, minus the rows: `[n, d]`.
pub(crate) fn errors(cpu: &Cpu, parameters: &Parameters, x: &Rows, active: &Sparse) -> Rows {
    let d = parameters.d;
    let mut errors = Rows::zeros(x.n(), d);
    cpu.on_host(|| {
        errors.data_mut().par_chunks_mut(d).enumerate().with_min_len(ROWS).for_each(|(row, error)| {
            let entries = active.ptr[row]..active.ptr[row + 1];
            error.copy_from_slice(&parameters.b_dec);
            cpu.add_rows(&parameters.w_dec, &active.ids[entries.clone()], &active.vals[entries], error);
            error.iter_mut().zip(x.row(row)).for_each(|(error, x)| *error -= x);
        });
    });
    errors
}

/// Losses of a batch, and their gradients, which replace what `into` held.
pub(crate) fn gradients(
    cpu: &Cpu,
    parameters: &Parameters,
    x: &Rows,
    active: &Sparse,
    l1: f32,
    aux: Option<Aux<'_>>,
    into: &mut Arrays,
) -> Losses {
    let n = x.n() as f32;
    let mut errors = errors(cpu, parameters, x, active);
    let squared_error = sum_of_squares(cpu, &errors);
    let aux = aux.map(|aux| auxiliary(cpu, parameters, x, &errors, aux));
    scale(&mut errors, 2.0 / n);
    let main = Part { by_feature: by_feature(cpu, parameters, active, &errors, l1 / n), errors };
    let (aux, aux_loss) = aux.unzip();
    let parts: Vec<Part> = [Some(main), aux].into_iter().flatten().collect();

    let [g_we, g_be, g_wd, g_bd] = &mut into.0;
    let d = parameters.d;
    let squares: Vec<f64> = cpu.on_host(|| {
        let matrices = g_we.par_chunks_mut(d * FEATURES).zip(g_wd.par_chunks_mut(d * FEATURES));
        let blocks = matrices.zip(g_be.par_chunks_mut(FEATURES)).enumerate();
        blocks
            .map(|(block, ((g_we, g_wd), g_be))| {
                let rows = g_we.chunks_exact_mut(d).zip(g_wd.chunks_exact_mut(d)).zip(g_be);
                let features = rows.enumerate().map(|(at, ((g_we, g_wd), g_be))| {
                    let feature = block * FEATURES + at;
                    g_we.fill(0.0);
                    g_wd.fill(0.0);
                    *g_be = 0.0;
                    for Part { by_feature, errors } in &parts {
                        let (rows, values, slopes) = by_feature.of(feature);
                        cpu.add_rows(errors.data(), rows, values, g_wd);
                        cpu.add_rows(x.data(), rows, slopes, g_we);
                        *g_be += slopes.iter().sum::<f32>();
                    }
                    // What would only change the length of a decoder's row.
                    let row = &parameters.w_dec[feature * d..][..d];
                    let along = -dot(cpu, row, g_wd);
                    cpu.add_rows(row, &[0], &[along], g_wd);
                    f64::from(dot(cpu, g_we, g_we)) + f64::from(dot(cpu, g_wd, g_wd)) + f64::from(*g_be * *g_be)
                });
                features.sum()
            })
            .collect()
    });
    column_sums(cpu, &parts[0].errors, g_bd);
    let of_bias = g_bd.iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>();
    Losses {
        squared_error,
        values: active.vals.iter().map(|v| f64::from(*v)).sum(),
        aux: aux_loss.unwrap_or(0.0),
        gradient_norm: (squares.iter().sum::<f64>() + of_bias).sqrt(),
    }
}

/// Features that rows have, and the rows' errors times what stands before them in the gradient.
struct Part {
    by_feature: ByFeature,
    errors: Rows,
}

/// Sparse rows by feature: of each the rows that have it, in ascending order.
struct ByFeature {
    ptr: Vec<usize>,
    rows: Vec<u32>,
    values: Vec<f32>,
    /// Of the loss, by the value.
    slopes: Vec<f32>,
}

impl ByFeature {
    fn of(&self, feature: usize) -> (&[u32], &[f32], &[f32]) {
        let range = self.ptr[feature]..self.ptr[feature + 1];
        (&self.rows[range.clone()], &self.values[range.clone()], &self.slopes[range])
    }
}

/// Slopes of the loss by each value, and everything by feature.
fn by_feature(cpu: &Cpu, parameters: &Parameters, active: &Sparse, errors: &Rows, l1: f32) -> ByFeature {
    let slopes = cpu.on_host(|| {
        let rows = (0..errors.n()).into_par_iter().with_min_len(ROWS);
        let of_row = |row| {
            let ids = &active.ids[active.ptr[row]..active.ptr[row + 1]];
            let mut slopes = vec![0f32; ids.len()];
            cpu.dot_rows(&parameters.w_dec, ids, errors.row(row), &mut slopes);
            slopes.iter_mut().for_each(|slope| *slope += l1);
            slopes
        };
        rows.map(of_row).collect::<Vec<_>>()
    });
    let mut ptr = vec![0usize; parameters.f + 1];
    for id in &active.ids {
        ptr[*id as usize + 1] += 1;
    }
    for feature in 0..parameters.f {
        ptr[feature + 1] += ptr[feature];
    }
    let mut next = ptr.clone();
    let n = active.ids.len();
    let mut turned = ByFeature { ptr, rows: vec![0; n], values: vec![0.0; n], slopes: vec![0.0; n] };
    for (row, slopes) in slopes.iter().enumerate() {
        let entries = active.ptr[row]..active.ptr[row + 1];
        for ((id, value), slope) in active.ids[entries.clone()].iter().zip(&active.vals[entries]).zip(slopes) {
            let at = next[*id as usize];
            next[*id as usize] += 1;
            (turned.rows[at], turned.values[at], turned.slopes[at]) = (row as u32, *value, *slope);
        }
    }
    turned
}

/// The auxiliary part, and its loss before the coefficient. `errors` are those of the main part: `x' - x`.
fn auxiliary(cpu: &Cpu, parameters: &Parameters, x: &Rows, errors: &Rows, aux: Aux<'_>) -> (Part, f64) {
    let d = parameters.d;
    let rows = aux.dead.iter().flat_map(|id| &parameters.w_enc()[*id as usize * d..][..d]);
    let rows: Vec<f32> = rows.copied().collect();
    let values = cpu.linear(x, &Tensor::from_f32("dead", vec![aux.dead.len(), d], &rows));
    let mut active = Sparse { ptr: vec![0], ..Sparse::default() };
    for row in 0..x.n() {
        let biased = aux.dead.iter().zip(values.row(row)).map(|(id, v)| (*id, v + parameters.b_enc[*id as usize]));
        let mut biased: Vec<(u32, f32)> = biased.collect();
        if biased.len() > aux.k {
            biased.select_nth_unstable_by(aux.k - 1, |a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            biased.truncate(aux.k);
            biased.sort_unstable_by_key(|(id, _)| *id);
        }
        active.ids.extend(biased.iter().map(|(id, _)| id));
        active.vals.extend(biased.iter().map(|(_, value)| value));
        active.ptr.push(active.ids.len());
    }
    // e' - (x - x') = e' + (x' - x).
    let mut left = errors.clone();
    cpu.on_host(|| {
        left.data_mut().par_chunks_mut(d).enumerate().with_min_len(ROWS).for_each(|(row, left)| {
            let entries = active.ptr[row]..active.ptr[row + 1];
            cpu.add_rows(&parameters.w_dec, &active.ids[entries.clone()], &active.vals[entries], left);
        });
    });
    let loss = sum_of_squares(cpu, &left);
    scale(&mut left, 2.0 * aux.coefficient / x.n() as f32);
    (Part { by_feature: by_feature(cpu, parameters, &active, &left, 0.0), errors: left }, loss)
}

fn dot(cpu: &Cpu, a: &[f32], b: &[f32]) -> f32 {
    let mut product = [0.0];
    cpu.dot_rows(a, &[0], b, &mut product);
    product[0]
}

fn scale(rows: &mut Rows, factor: f32) {
    rows.data_mut().iter_mut().for_each(|x| *x *= factor);
}

/// By row in f32, over the rows in f64.
pub(crate) fn sum_of_squares(cpu: &Cpu, rows: &Rows) -> f64 {
    (0..rows.n()).map(|row| f64::from(dot(cpu, rows.row(row), rows.row(row)))).sum()
}

/// Sums of the columns: of some rows at a time, then of those sums.
fn column_sums(cpu: &Cpu, rows: &Rows, into: &mut [f32]) {
    let d = into.len();
    let ones = [1f32; ROWS];
    let ids: Vec<u32> = (0..ROWS as u32).collect();
    let partial: Vec<Vec<f32>> = cpu.on_host(|| {
        let chunks = rows.data().par_chunks(d * ROWS);
        let sums = chunks.map(|chunk| {
            let (n, mut sum) = (chunk.len() / d, vec![0f32; d]);
            cpu.add_rows(chunk, &ids[..n], &ones[..n], &mut sum);
            sum
        });
        sums.collect()
    });
    into.fill(0.0);
    for sum in partial {
        into.iter_mut().zip(sum).for_each(|(into, x)| *into += x);
    }
}

#[cfg(test)]
mod tests;
