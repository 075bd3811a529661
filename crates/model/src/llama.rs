//! The forward pass of a Llama (Touvron et al. 2023, arXiv 2302.13971; Grattafiori et al. 2024, arXiv 2407.21783),
//! for prefill only: many sentences at once, packed row after row.

use std::ops::Range;

use llamascope_compute::{Device, Heads, Mlp, Norm, RopeTable, Rows};
use llamascope_record::{Site, Tokens};

use crate::{Checkpoint, Config, Error, LayerWeights, RopeLayout, RopeScaling};

/// Sentences packed into rows without padding.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    ids: Vec<u32>,
    positions: Vec<u32>,
    spans: Vec<Range<usize>>,
}

impl Batch {
    /// Sentences in this order.
    pub fn new<'a>(sentences: impl IntoIterator<Item = &'a Tokens>) -> Self {
        let mut batch = Batch::default();
        for tokens in sentences {
            let start = batch.ids.len();
            batch.ids.extend(&tokens.ids);
            batch.positions.extend(0..tokens.len() as u32);
            batch.spans.push(start..batch.ids.len());
        }
        batch
    }

    /// Number of rows.
    pub fn n(&self) -> usize {
        self.ids.len()
    }

    /// The rows of each sentence.
    pub fn spans(&self) -> &[Range<usize>] {
        &self.spans
    }
}

/// One decoder layer on a device.
struct Block<D: Device> {
    attn_norm: Vec<f32>,
    mlp_norm: Vec<f32>,
    q: D::Matrix,
    k: D::Matrix,
    v: D::Matrix,
    o: D::Matrix,
    gate: D::Matrix,
    up: D::Matrix,
    down: D::Matrix,
}

/// A model on a device. Layers are taken from the checkpoint one at a time, when they are asked for.
pub struct Llama<'a, D: Device> {
    device: &'a D,
    checkpoint: &'a Checkpoint,
    rope: RopeTable,
}

/// A layer that is ready to run.
pub struct Layer<'a, D: Device> {
    llama: &'a Llama<'a, D>,
    block: Block<D>,
}

impl<'a, D: Device> Llama<'a, D> {
    /// A model for sentences of at most `positions` tokens.
    pub fn new(device: &'a D, checkpoint: &'a Checkpoint, positions: usize) -> Self {
        Llama { device, checkpoint, rope: rope_table(&checkpoint.config, positions) }
    }

    /// The rows that enter layer 0, `[batch.n(), d_model]`.
    ///
    /// # Errors
    /// When the checkpoint lacks the embedding.
    pub fn embed(&self, batch: &Batch) -> Result<D::Rows, Error> {
        Ok(self.device.embed(&self.device.matrix(&self.checkpoint.embedding()?), &batch.ids))
    }

    /// Takes a layer's weights from the checkpoint.
    pub fn layer(&'a self, weights: &LayerWeights) -> Layer<'a, D> {
        let matrix = |tensor| self.device.matrix(tensor);
        let block = Block {
            attn_norm: weights.attn_norm.clone(),
            mlp_norm: weights.mlp_norm.clone(),
            q: matrix(&weights.q),
            k: matrix(&weights.k),
            v: matrix(&weights.v),
            o: matrix(&weights.o),
            gate: matrix(&weights.gate),
            up: matrix(&weights.up),
            down: matrix(&weights.down),
        };
        Layer { llama: self, block }
    }

    /// Size of the vocabulary: the width of [`Llama::logits`].
    pub fn vocab(&self) -> usize {
        self.checkpoint.config.vocab.max(1)
    }

    /// Next-token logits of rows that left the last layer, `[n, vocab]`.
    ///
    /// # Errors
    /// When the checkpoint lacks the final norm or the head.
    pub fn logits(&self, x: &D::Rows) -> Result<D::Rows, Error> {
        let gain = self.checkpoint.final_norm()?;
        let norm = Norm { gain: Some(&gain), eps: self.checkpoint.config.rms_eps };
        let [logits] = self.device.norm_linear(x, norm, [&self.device.matrix(&self.checkpoint.head()?)]);
        Ok(logits)
    }
}

impl<D: Device> Layer<'_, D> {
    /// Runs the rows of a batch through the layer, in place, and shows `tap` the rows at `site`, if one is given. What
    /// `tap` changes of them is what the model goes on with, except at [`Site::MlpIn`], whose rows are a copy.
    pub fn forward(&self, x: &mut D::Rows, batch: &Batch, site: Option<Site>, mut tap: impl FnMut(&mut D::Rows)) {
        let (dev, block, config) = (self.llama.device, &self.block, &self.llama.checkpoint.config);
        let heads = Heads { n_heads: config.n_heads, n_kv_heads: config.n_kv_heads, head_dim: config.head_dim };

        let norm = |gain| Norm { gain, eps: config.rms_eps };

        let [mut q, mut k, v] = dev.norm_linear(x, norm(Some(&block.attn_norm)), [&block.q, &block.k, &block.v]);
        dev.rope(&mut q, &self.llama.rope, &batch.positions);
        dev.rope(&mut k, &self.llama.rope, &batch.positions);
        let attended = dev.attention(&q, &k, &v, heads, &batch.spans);
        if site == Some(Site::AttnOut) {
            let mut out = dev.linear(&attended, &block.o);
            tap(&mut out);
            dev.add(x, &out);
        } else {
            dev.linear_add(&attended, &block.o, x);
        }

        let mlp = Mlp { gate: &block.gate, up: &block.up, down: &block.down };
        match site {
            // TransformerLens reads `hook_normalized` before the norm's gain is multiplied in.
            Some(Site::MlpIn) => tap(&mut dev.rms_norm(x, norm(None))),
            Some(Site::MlpOut) => {
                let mut out = dev.norm_mlp(x, norm(Some(&block.mlp_norm)), mlp);
                tap(&mut out);
                return dev.add(x, &out);
            }
            _ => {}
        }
        dev.norm_mlp_add(x, norm(Some(&block.mlp_norm)), mlp);
        if site == Some(Site::ResidPost) {
            tap(x);
        }
    }
}

/// Runs a whole batch up to and including layer `last`, handing the rows at `site` of every layer to `see`: the plain
/// loop, for small work.
///
/// # Errors
/// When the checkpoint lacks a tensor.
pub fn each_layer<D: Device>(
    device: &D,
    checkpoint: &Checkpoint,
    batch: &Batch,
    site: Site,
    last: usize,
    mut see: impl FnMut(usize, Rows),
) -> Result<(), Error> {
    let positions = batch.spans.iter().map(Range::len).max().unwrap_or(0);
    let llama = Llama::new(device, checkpoint, positions);
    let mut x = llama.embed(batch)?;
    for layer in 0..=last {
        llama
            .layer(&checkpoint.layer(layer)?)
            .forward(&mut x, batch, Some(site), |rows| see(layer, device.download(rows)));
    }
    Ok(())
}

/// Rotation frequencies by pair, `head_dim / 2` of them, rounded to f32 at the places where the reference
/// implementation (transformers' `modeling_rope_utils.py`) rounds.
fn frequencies(config: &Config) -> Vec<f32> {
    let half = config.head_dim / 2;
    let base = (0..half).map(|i| {
        let exponent = (2 * i) as f32 / config.head_dim as f32;
        1.0 / (config.rope.theta as f64).powf(exponent as f64) as f32
    });
    match &config.rope.scaling {
        RopeScaling::None => base.collect(),
        RopeScaling::Linear { factor } => base.map(|f| f / factor).collect(),
        RopeScaling::Divisors(divisors) => base.zip(divisors).map(|(f, divisor)| f / divisor).collect(),
        RopeScaling::Llama3 { factor, low, high, original_context } => base
            .map(|f| {
                let wavelength = 2.0 * std::f32::consts::PI / f;
                if wavelength > original_context / low {
                    f / factor
                } else if wavelength < original_context / high {
                    f
                } else {
                    let smooth = (original_context / wavelength - low) / (high - low);
                    (1.0 - smooth) * f / factor + smooth * f
                }
            })
            .collect(),
    }
}

fn rope_table(config: &Config, positions: usize) -> RopeTable {
    let frequencies = frequencies(config);
    let angles = (0..positions).flat_map(|p| frequencies.iter().map(move |f| (p as f32 * f) as f64));
    let (sin, cos) = angles.map(|angle| (angle.sin() as f32, angle.cos() as f32)).unzip();
    RopeTable { half: config.head_dim / 2, interleaved: config.rope.layout == RopeLayout::Interleaved, cos, sin }
}
