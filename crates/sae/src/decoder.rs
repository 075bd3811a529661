//! The way back: from sparse features to the rows they stand for.
//!
//! `row = norm^-1(sum of value_j * scale_j * D_j + bias)`, with `D_j` the decoder vector as it lies in the file. For Llama
//! Scope (f_in, f_out and n_j as in [`llama_scope`]):
//!
//! | convention | scale_j | bias |
//! |---|---|---|
//! | `saelens` | 1 / f_in | b_dec / f_in |
//! | `openmoss` | 1 / n_j | b_dec / f_out |
//! | `neuronpedia` | 1 / n_j | b_dec / f_in |

use llamascope_compute::Tensor;
use llamascope_record::SparseRows;

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::norms::{self, Features};
use crate::{Convention, Error, Format, InputNorm, Sae, llama_scope, r1_distill, saelens};

/// The decoder half of an SAE.
pub struct Decoder {
    weights: Tensor,
    features: Features,
    scale: Scale,
    bias: Vec<f32>,
    /// What is undone after decoding; SAELens undoes it with what it measured on the input row.
    norm: InputNorm,
}

enum Scale {
    All(f64),
    Each(Vec<f64>),
}

impl Decoder {
    /// Opens the decoder of an SAE, in the convention in which that was opened.
    pub fn open(sae: &Sae) -> Result<Decoder, Error> {
        let (d_sae, d_in) = (sae.d_sae(), sae.d_in());
        let (file, matrix, bias, features) = match sae.format {
            Format::LlamaScope => (llama_scope::WEIGHTS, "decoder.weight", "decoder.bias", Features::Columns),
            Format::R1Distill => (r1_distill::WEIGHTS, "decoder.weight", "decoder.bias", Features::Columns),
            Format::Saelens => (saelens::WEIGHTS, "W_dec", "b_dec", Features::Rows),
        };
        let checkpoint = Checkpoint::open(&sae.path, file)?;
        let weights = checkpoint.matrix(matrix, features.shape(d_sae, d_in))?;
        let mut bias = checkpoint.finite_vector(bias, d_in)?;
        let f_in = sae.norm_scaling_factor.unwrap_or(1.0);
        let f_out = match sae.convention {
            Some(Convention::Openmoss) => {
                llama_scope::norm_factors(&Config::read(sae.path.join(llama_scope::CONFIG))?, d_in)?.1
            }
            _ => f_in,
        };
        for b in &mut bias {
            *b = (f64::from(*b) / f_out) as f32;
        }
        let scale = match (&sae.convention, &sae.gain) {
            (None | Some(Convention::Saelens), None) => Scale::All(1.0 / f_in),
            // With a gain the values are those of decoder vectors of length 1.
            _ => Scale::Each(norms::all(&weights, features).iter().map(|n| 1.0 / n).collect()),
        };
        Ok(Decoder { weights, features, scale, bias, norm: sae.input_norm })
    }

    /// Number of features.
    pub fn d_sae(&self) -> usize {
        match self.features {
            Features::Rows => self.weights.n_rows(),
            Features::Columns => self.weights.n_cols(),
        }
    }

    /// The decoder vector of a feature as it lies in the file, `[d_in]`.
    ///
    /// # Panics
    /// When there is no such feature.
    pub fn direction(&self, feature: usize) -> Vec<f32> {
        let dtype = self.weights.dtype();
        match self.features {
            Features::Rows => {
                let mut row = vec![0.0; self.weights.n_cols()];
                dtype.dequantize(self.weights.row(feature), &mut row);
                row
            }
            // Only the block that holds the number is read of each row of the file.
            Features::Columns => {
                let (block, bytes) = (feature / dtype.block_len(), dtype.block_bytes());
                let mut numbers = vec![0.0; dtype.block_len()];
                let number = |row: usize| {
                    dtype.dequantize(&self.weights.row(row)[block * bytes..][..bytes], &mut numbers);
                    numbers[feature % dtype.block_len()]
                };
                (0..self.weights.n_rows()).map(number).collect()
            }
        }
    }

    /// The cosine of `direction: [d_in]` with the decoder vector of every feature, `[d_sae]`; 0 where either has no
    /// length. The matrix is read once, in the order it lies in, and sums run in f64.
    ///
    /// # Panics
    /// When the direction has another width.
    pub fn cosines(&self, direction: &[f32]) -> Vec<f32> {
        assert_eq!(direction.len(), self.bias.len(), "a direction of another width");
        let mut sums = vec![(0.0f64, 0.0f64); self.d_sae()];
        let mut line = vec![0.0; self.weights.n_cols()];
        let add = |(dot, square): &mut (f64, f64), d: f32, v: f32| {
            *dot += f64::from(d) * f64::from(v);
            *square += f64::from(v) * f64::from(v);
        };
        for row in 0..self.weights.n_rows() {
            self.weights.dtype().dequantize(self.weights.row(row), &mut line);
            match self.features {
                Features::Rows => line.iter().zip(direction).for_each(|(&v, &d)| add(&mut sums[row], d, v)),
                Features::Columns => line.iter().zip(&mut sums).for_each(|(&v, sum)| add(sum, direction[row], v)),
            }
        }
        let length = direction.iter().map(|&d| f64::from(d) * f64::from(d)).sum::<f64>().sqrt();
        let cosine = |(dot, square): (f64, f64)| {
            let lengths = length * square.sqrt();
            if lengths > 0.0 { (dot / lengths).clamp(-1.0, 1.0) as f32 } else { 0.0 }
        };
        sums.into_iter().map(cosine).collect()
    }

    /// Reconstructs rows: `[n, d_in]` for the `n` rows of `features`. `inputs: [n, d_in]` are the rows that were encoded;
    /// they matter only where the SAE normalises each row by itself. Sums run in f64 in the order of the features.
    ///
    /// # Panics
    /// When `inputs` has another shape, or the features are of another dictionary.
    pub fn decode(&self, features: &SparseRows, inputs: &[f32]) -> Vec<f32> {
        let d_in = self.bias.len();
        assert_eq!(inputs.len(), features.len() * d_in, "inputs: [{}, {d_in}]", features.len());
        let mut rows: Vec<f64> = self.bias.iter().map(|&b| f64::from(b)).collect::<Vec<_>>().repeat(features.len());
        let scaled = |id: u32, value: f32| {
            let scale = match &self.scale {
                Scale::All(scale) => *scale,
                Scale::Each(scales) => scales[id as usize],
            };
            f64::from(value) * scale
        };
        let mut line = vec![0.0; self.weights.n_cols()];
        match self.features {
            Features::Rows => {
                for (row, (ids, values)) in rows.chunks_exact_mut(d_in).zip(features.iter()) {
                    for (&id, &value) in ids.iter().zip(values) {
                        self.weights.dtype().dequantize(self.weights.row(id as usize), &mut line);
                        let value = scaled(id, value);
                        row.iter_mut().zip(&line).for_each(|(sum, &d)| *sum += value * f64::from(d));
                    }
                }
            }
            // Features lie across the file's rows, so each of those is read once and serves all rows.
            Features::Columns => {
                for column in 0..d_in {
                    self.weights.dtype().dequantize(self.weights.row(column), &mut line);
                    for (row, (ids, values)) in rows.chunks_exact_mut(d_in).zip(features.iter()) {
                        for (&id, &value) in ids.iter().zip(values) {
                            row[column] += scaled(id, value) * f64::from(line[id as usize]);
                        }
                    }
                }
            }
        }
        for (row, input) in rows.chunks_exact_mut(d_in).zip(inputs.chunks_exact(d_in)) {
            let (shift, spread) = self.norm.shift_and_spread(input);
            row.iter_mut().for_each(|v| *v = *v * spread + shift);
        }
        rows.into_iter().map(|v| v as f32).collect()
    }
}
