//! How good an SAE is on a text: what `llamascope eval` finds, as JSON and as tables.
//!
//! Names and definitions are those of SAELens' evaluations where it has them; `docs/evaluation.md` says all of them.

mod render;

use serde::Serialize;

/// Density above which a feature counts as dense.
pub const DENSE: f64 = 0.1;
/// Bins of a density histogram: half decades from `1e-6` up to 1.
pub const DENSITY_BINS: usize = 12;
/// Decimal exponent at which the first bin begins; rarer features are in it.
pub const DENSITY_FROM: f64 = -6.0;

/// SAEs of one model on one text.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// The model as the user named it.
    pub model: String,
    /// Precision of the model's matrix products.
    pub dtype: String,
    /// The text's files.
    pub input: Vec<String>,
    /// BLAKE3 over the bytes of those files.
    pub input_blake3: String,
    /// Most tokens of a context.
    pub context: usize,
    /// Contexts that were run.
    pub contexts: u64,
    /// Their tokens, BOS included.
    pub tokens: u64,
    /// Tokens that the model predicted: all but the first of each context.
    pub predictions: u64,
    /// Mean negative log-likelihood of those by the plain model, in nats.
    pub loss: f64,
    /// `exp(loss)`.
    pub perplexity: f64,
    /// One SAE in one convention each, by layer.
    pub layers: Vec<LayerEvaluation>,
}

/// One SAE in one convention.
#[derive(Clone, Debug, Serialize)]
pub struct LayerEvaluation {
    /// Decoder layer.
    pub layer: usize,
    /// Where it reads, as TransformerLens names it.
    pub hook: String,
    /// Its folder.
    pub sae: String,
    /// Which reading of the file; `native` where the format has only one.
    pub convention: String,
    /// Number of features.
    pub d_sae: usize,
    /// Median length of the rows at its site, BOS left out.
    pub median_norm: f64,
    /// Length above which a row is a massive activation.
    pub massive_norm: f64,
    /// The figures without BOS and without massive rows: the ones to quote.
    #[serde(flatten)]
    pub typical: Figures,
    /// All sets of rows, the one above among them.
    pub sets: Vec<SetFigures>,
}

/// The figures over one set of rows.
#[derive(Clone, Debug, Serialize)]
pub struct SetFigures {
    /// `all`, `no_bos` or `typical`.
    pub rows_of: &'static str,
    /// What was found there.
    #[serde(flatten)]
    pub figures: Figures,
}

/// Figures over a set of rows. Losses and divergences are in nats a prediction.
#[derive(Clone, Debug, Default, Serialize, PartialEq)]
pub struct Figures {
    /// Rows in the set.
    pub rows: u64,
    /// Mean number of active features.
    pub l0_mean: f64,
    /// Median of that number.
    pub l0_median: f64,
    /// Its largest.
    pub l0_max: u64,
    /// `1 - E|x - x'|^2 / (E|x|^2 - |E x|^2)`.
    pub explained_variance: f64,
    /// `E|x - x'|^2`.
    pub mse: f64,
    /// `E|x - x'|^2 / E|x|^2`.
    pub normalized_mse: f64,
    /// Mean cosine of `x` and `x'`.
    pub cossim: f64,
    /// Mean of `|x'| / |x|`.
    pub l2_ratio: f64,
    /// `E|x'|^2 / E(x . x')`.
    pub relative_reconstruction_bias: f64,
    /// Share of features that are active nowhere in the set.
    pub dead_fraction: f64,
    /// How many those are.
    pub dead: u64,
    /// Share of features with a density above [`DENSE`].
    pub dense_fraction: f64,
    /// How many those are.
    pub dense: u64,
    /// Features by the decimal logarithm of their density, half a decade a bin from 1e-6; dead ones in none.
    pub density_histogram: Vec<u64>,
    /// Predictions made from rows of the set: what the losses below are means over.
    pub predictions: u64,
    /// Loss of the plain model.
    pub ce_loss_without_sae: f64,
    /// Loss with the reconstruction in place of the rows of the set.
    pub ce_loss_with_sae: f64,
    /// Loss with zeros in their place.
    pub ce_loss_with_ablation: f64,
    /// Loss with the mean row in their place.
    pub ce_loss_with_mean_ablation: f64,
    /// `ce_loss_with_sae - ce_loss_without_sae`.
    pub delta_loss: f64,
    /// `(zero - sae) / (zero - clean)`: SAELens' `ce_loss_score`.
    pub loss_recovered: f64,
    /// The same against the mean row.
    pub loss_recovered_mean: f64,
    /// Divergence of the predictions with the reconstruction from the plain model's.
    pub kl_div_with_sae: f64,
    /// The same with zeros.
    pub kl_div_with_ablation: f64,
    /// `(zero - sae) / zero` of the two.
    pub kl_div_score: f64,
}

/// The bin of a density above zero.
pub fn density_bin(density: f64) -> usize {
    let bin = (2.0 * (density.log10() - DENSITY_FROM)).floor();
    bin.clamp(0.0, (DENSITY_BINS - 1) as f64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn densities_fall_into_half_decades() {
        let bins = [1e-9, 1e-6, 2e-6, 4e-6, 0.9, 1.0].map(density_bin);
        assert_eq!(bins, [0, 0, 0, 1, 11, 11]);
        assert_eq!([2e-5, 5e-5].map(density_bin), [2, 3]);
    }
}
