//! A sparse autoencoder, whatever file it came from.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use llamascope_compute::Tensor;
use llamascope_record::Tap;

use crate::{Error, NormStats, find, llama_scope, r1_distill, saelens};

/// Which reading of a Llama Scope checkpoint is meant (formulas in [`llama_scope`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Convention {
    /// As SAELens loads it.
    #[default]
    Saelens,
    /// As the authors' release code loads it.
    Openmoss,
    /// SAELens' features with values for decoder vectors of length 1, as Neuronpedia shows them.
    Neuronpedia,
}

impl Convention {
    /// All of them.
    pub const ALL: [Convention; 3] = [Convention::Saelens, Convention::Openmoss, Convention::Neuronpedia];

    /// The name in configuration files.
    pub fn name(self) -> &'static str {
        match self {
            Convention::Saelens => "saelens",
            Convention::Openmoss => "openmoss",
            Convention::Neuronpedia => "neuronpedia",
        }
    }
}

impl fmt::Display for Convention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A convention that does not exist.
#[derive(Debug, thiserror::Error)]
#[error("no SAE convention is called `{0}`; there are saelens, openmoss and neuronpedia")]
pub struct UnknownConvention(String);

impl FromStr for Convention {
    type Err = UnknownConvention;

    fn from_str(text: &str) -> Result<Self, UnknownConvention> {
        let found = Convention::ALL.into_iter().find(|convention| convention.name() == text);
        found.ok_or_else(|| UnknownConvention(text.into()))
    }
}

/// The file format an SAE came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// See [`llama_scope`].
    LlamaScope,
    /// See [`r1_distill`].
    R1Distill,
    /// See [`saelens`].
    Saelens,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::LlamaScope => "Llama Scope",
            Format::R1Distill => "Llama Scope R1-Distill",
            Format::Saelens => "SAELens",
        })
    }
}

/// What makes a value active.
#[derive(Clone, Debug, PartialEq)]
pub enum Activation {
    /// Active iff above zero.
    Relu,
    /// Active iff strictly above the feature's threshold and above zero, `[d_sae]`.
    JumpRelu(Vec<f32>),
    /// Active iff among the `k` largest of the row (ties by ascending id) and above zero.
    TopK(usize),
}

/// How a row is changed before the encoder sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum InputNorm {
    /// Not at all.
    None,
    /// Scaled to length `sqrt(d_in)`; a row of zeros stays one (`constant_norm_rescale` of SAELens).
    ConstantNorm,
    /// Mean removed, divided by the sample standard deviation (`n - 1` in the denominator) plus `eps` (`layer_norm` of
    /// SAELens).
    LayerNorm {
        /// Added to the standard deviation, not to the variance.
        eps: f32,
    },
}

/// The encoder half of an SAE, brought to one form:
/// `h = scale * (W . (norm(x) - input_bias)) + bias`, `value = gain * h`, active iff the activation says so of `value`.
#[derive(Clone, Debug)]
pub struct Sae {
    /// Where it reads.
    pub tap: Tap,
    /// `[d_sae, d_in]`, in the file's type and in place where the file has this layout.
    pub w_enc: Tensor,
    /// `[d_sae]`.
    pub bias: Vec<f32>,
    /// Subtracted from the normalised row, `[d_in]`.
    pub input_bias: Option<Vec<f32>>,
    /// Row normalisation; comes before the input bias.
    pub input_norm: InputNorm,
    /// Factor on the product.
    pub scale: f32,
    /// Factor on the pre-activation, `[d_sae]`; none means 1.
    pub gain: Option<Vec<f32>>,
    /// Which values are active.
    pub activation: Activation,
    /// The folder it came from.
    pub path: PathBuf,
    /// The format of that folder.
    pub format: Format,
    /// The reading of the checkpoint; none where the format has only one.
    pub convention: Option<Convention>,
    /// How many features a token should have: the `k` of training or of the activation.
    pub l0_target: Option<f64>,
    /// Lengths of the decoder vectors as they lie in the file.
    pub decoder_norm: Option<NormStats>,
    /// `sqrt(d_in)` over the average length of the training inputs, where the format has such a number.
    pub norm_scaling_factor: Option<f64>,
    /// The files it was read from: configuration, then weights.
    pub files: Vec<PathBuf>,
    /// What the user should be told at load: full sentences.
    pub warnings: Vec<String>,
}

impl Sae {
    /// Opens the folder of one SAE, in whichever format its files are. Only the encoder half is read, and of the
    /// decoder what the convention needs. `convention` concerns Llama Scope only.
    pub fn open(folder: &Path, convention: Convention) -> Result<Sae, Error> {
        match find::format_of(folder)? {
            Format::LlamaScope => llama_scope::load(folder, convention),
            Format::R1Distill => r1_distill::load(folder),
            Format::Saelens => saelens::load(folder),
        }
    }

    /// Width of the rows it reads.
    pub fn d_in(&self) -> usize {
        self.w_enc.n_cols()
    }

    /// Number of features.
    pub fn d_sae(&self) -> usize {
        self.w_enc.n_rows()
    }

    /// Whether [`Sae::prepare_rows`] changes anything.
    pub fn changes_rows(&self) -> bool {
        self.input_norm != InputNorm::None || self.input_bias.is_some()
    }

    /// Normalises rows and subtracts the input bias, in place: what remains is `scale * (W . row) + bias`. A row's
    /// result depends on that row alone.
    ///
    /// # Panics
    /// When `rows: [n, d_in]` is not a whole number of rows.
    pub fn prepare_rows(&self, rows: &mut [f32]) {
        assert_eq!(rows.len() % self.d_in(), 0, "rows of {} numbers", self.d_in());
        if !self.changes_rows() {
            return;
        }
        for row in rows.chunks_exact_mut(self.d_in()) {
            let (shift, divisor) = self.input_norm.shift_and_divisor(row);
            for value in &mut *row {
                *value = ((f64::from(*value) - shift) / divisor) as f32;
            }
            for (value, bias) in row.iter_mut().zip(self.input_bias.iter().flatten()) {
                *value -= bias;
            }
        }
    }
}

impl InputNorm {
    /// What SAELens measures of a row before it normalises it, and undoes after decoding by `x * spread + shift`.
    pub(crate) fn shift_and_spread(self, row: &[f32]) -> (f64, f64) {
        let values = || row.iter().map(|&v| f64::from(v));
        let n = row.len() as f64;
        match self {
            InputNorm::None => (0.0, 1.0),
            InputNorm::ConstantNorm => (0.0, (values().map(|v| v * v).sum::<f64>() / n).sqrt()),
            InputNorm::LayerNorm { .. } => {
                let mean = values().sum::<f64>() / n;
                let variance = values().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
                (mean, variance.sqrt())
            }
        }
    }

    /// The normalised row is `(x - shift) / divisor`.
    pub(crate) fn shift_and_divisor(self, row: &[f32]) -> (f64, f64) {
        match (self, self.shift_and_spread(row)) {
            (InputNorm::LayerNorm { eps }, (shift, spread)) => (shift, spread + f64::from(eps)),
            // A row of zeros has no length to bring to another: it stays as it is.
            (_, (shift, 0.0)) => (shift, 1.0),
            (_, measured) => measured,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_norm_gives_length_sqrt_d() {
        // Length 5 becomes sqrt(4).
        assert_eq!(InputNorm::ConstantNorm.shift_and_divisor(&[3.0, 0.0, 4.0, 0.0]), (0.0, 2.5));
        assert_eq!(InputNorm::ConstantNorm.shift_and_divisor(&[0.0; 4]), (0.0, 1.0));
    }

    #[test]
    fn layer_norm_divides_by_the_sample_deviation_plus_eps() {
        // Mean 2, squares of the differences 4 + 0 + 4, over n - 1 = 2: deviation 2.
        let norm = InputNorm::LayerNorm { eps: 0.5 };
        assert_eq!(norm.shift_and_divisor(&[0.0, 2.0, 4.0]), (2.0, 2.5));
        assert_eq!(norm.shift_and_spread(&[0.0, 2.0, 4.0]), (2.0, 2.0));
    }

    #[test]
    fn conventions_read_back() {
        for convention in Convention::ALL {
            assert_eq!(convention.to_string().parse::<Convention>().unwrap(), convention);
        }
        assert!("SAELens".parse::<Convention>().unwrap_err().to_string().contains("neuronpedia"));
    }
}
