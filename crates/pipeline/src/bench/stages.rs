//! The stages of a run, one at a time, as shares of the machine's ceilings.

use std::path::Path;

use llamascope_compute::{Cpu, Device, Dtype, EncoderSpec, Heads, Kernel, Mlp, Norm, Precision, Select};
use llamascope_record::run::RunWriter;
use llamascope_record::{Span, SparseRows, Tokens};
use serde::Serialize;

use super::ceilings::Ceilings;
use super::noise::Noise;
use super::{Devices, ModelShape, Scale, Stopwatch};
use crate::Error;

/// One stage of a forward pass on one shape.
#[derive(Clone, Debug, Serialize)]
pub struct Stage {
    /// `gemm`, `attention`, `rms_norm`, `mlp`.
    pub stage: &'static str,
    /// The shape.
    pub case: String,
    /// How its weights are stored; empty without weights.
    pub stored: &'static str,
    /// Precision of the products.
    pub dtype: &'static str,
    /// Rows.
    pub tokens: usize,
    /// Time.
    pub seconds: f64,
    /// Work in that time: `2 T K N` operations for a product, bytes read and written for a norm.
    pub rate: f64,
    /// Of the rate.
    pub unit: &'static str,
    /// Of the ceiling: in registers for products, of memory for a norm (more than 1 from a cache). For products in f32 it is
    /// that of fused multiply-adds; made of products in bf16 they may reach more than 1.
    pub share: f64,
}

/// An SAE with thresholds for about 50 active features, and weights in bf16.
#[derive(Clone, Debug, Serialize)]
pub struct Encoding {
    /// `d->d_sae`.
    pub case: String,
    /// Rows.
    pub tokens: usize,
    /// Active features a row.
    pub l0: f64,
    /// Time when all values are computed in f32.
    pub dense_seconds: f64,
    /// `2 T d d_sae` operations in that time, as a share of the ceiling in f32.
    pub dense_share: f64,
    /// Time when candidates are found in bf16 first; none where the kernel has no instructions for it.
    pub screened_seconds: Option<f64>,
    /// As a share of the ceiling in bf16.
    pub screened_share: Option<f64>,
    /// Candidates among all values.
    pub candidates_share: Option<f64>,
}

/// Rows of 50 features to files, 25 rows a file.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct Writing {
    pub rows: usize,
    pub bytes: u64,
    pub seconds: f64,
    pub rows_per_s: f64,
    pub mb_per_s: f64,
}

/// The shape whose weights are also measured quantised.
const QUANTISED: usize = 1;
/// Rows outside of matrix products.
const TOKENS: usize = 512;
/// Tokens of a short sentence.
const SENTENCE: usize = 25;
/// Active features a row.
const L0: usize = 50;

pub(super) fn forward(
    devices: &Devices,
    ceilings: &Ceilings,
    scale: &Scale,
    watch: &Stopwatch<'_>,
) -> Result<Vec<Stage>, Error> {
    let mut stages = Vec::new();
    for (index, &(k, n)) in scale.shapes.iter().enumerate() {
        let stored = [Dtype::Bf16, Dtype::Q8_0, Dtype::Q4_1];
        for dtype in &stored[..if index == QUANTISED { 3 } else { 1 }] {
            let mut noise = Noise::new();
            let weights = noise.matrix(*dtype, n, k, (3.0 / k as f32).sqrt());
            for (precision, cpu) in devices.each() {
                let w = cpu.matrix(&weights);
                for &tokens in &scale.tokens {
                    let x = cpu.upload(noise.rows(tokens, k));
                    let seconds = watch.best(|| drop(cpu.linear(&x, &w)))?;
                    let flops = 2.0 * (tokens * k * n) as f64;
                    let case = format!("{k}x{n}");
                    stages.push(product("gemm", case, dtype.name(), precision, tokens, (flops, seconds), ceilings));
                }
            }
        }
    }
    for shape in &scale.models {
        stages.extend(attention(&devices.f32, shape, ceilings, watch)?);
        stages.push(rms_norm(&devices.f32, shape.d_model, ceilings, watch)?);
        for (precision, cpu) in devices.each() {
            stages.push(mlp(precision, cpu, shape, ceilings, watch)?);
        }
    }
    Ok(stages)
}

fn product(
    stage: &'static str,
    case: String,
    stored: &'static str,
    precision: Precision,
    tokens: usize,
    (flops, seconds): (f64, f64),
    ceilings: &Ceilings,
) -> Stage {
    let rate = flops / seconds / 1e9;
    let share = rate / ceilings.products(precision);
    Stage { stage, case, stored, dtype: precision.name(), tokens, seconds, rate, unit: "GFLOP/s", share }
}

/// One long sentence, and many short ones.
fn attention(cpu: &Cpu, shape: &ModelShape, ceilings: &Ceilings, watch: &Stopwatch<'_>) -> Result<[Stage; 2], Error> {
    let &ModelShape { d_model, n_kv_heads, head_dim, .. } = shape;
    let heads = Heads { n_heads: d_model / head_dim, n_kv_heads, head_dim };
    let measure = |spans: usize, len: usize| {
        let tokens = spans * len;
        let mut noise = Noise::new();
        let mut rows = |heads: usize| cpu.upload(noise.rows(tokens, heads * head_dim));
        let (q, k, v) = (rows(heads.n_heads), rows(n_kv_heads), rows(n_kv_heads));
        let at: Vec<_> = (0..spans).map(|span| span * len..(span + 1) * len).collect();
        let seconds = watch.best(|| drop(cpu.attention(&q, &k, &v, heads, &at)))?;
        // A query meets its key and those before it, in two products.
        let flops = (4 * spans * heads.n_heads * head_dim * len * (len + 1) / 2) as f64;
        let case = format!("{spans} x {len}, {} heads of {head_dim}", heads.n_heads);
        Ok::<_, Error>(product("attention", case, "", Precision::F32, tokens, (flops, seconds), ceilings))
    };
    Ok([measure(1, TOKENS)?, measure(20, SENTENCE)?])
}

fn rms_norm(cpu: &Cpu, d: usize, ceilings: &Ceilings, watch: &Stopwatch<'_>) -> Result<Stage, Error> {
    let x = cpu.upload(Noise::new().rows(TOKENS, d));
    let gain = vec![0.9; d];
    let seconds = watch.best(|| drop(cpu.rms_norm(&x, Norm { gain: Some(&gain), eps: 1e-5 })))?;
    let rate = (2 * size_of::<f32>() * TOKENS * d) as f64 / seconds / 1e9;
    Ok(Stage {
        stage: "rms_norm",
        case: format!("{d}"),
        stored: "",
        dtype: Precision::F32.name(),
        tokens: TOKENS,
        seconds,
        rate,
        unit: "GB/s",
        share: rate / ceilings.memory_read_gb_per_s.all_threads,
    })
}

/// Norm, three products, the activation and the residual addition, as one stage.
fn mlp(
    precision: Precision,
    cpu: &Cpu,
    shape: &ModelShape,
    ceilings: &Ceilings,
    watch: &Stopwatch<'_>,
) -> Result<Stage, Error> {
    let &ModelShape { d_model, d_mlp, .. } = shape;
    let mut noise = Noise::new();
    let mut x = cpu.upload(noise.rows(TOKENS, d_model));
    let mut matrix = |n: usize, k: usize| cpu.matrix(&noise.matrix(Dtype::Bf16, n, k, (3.0 / k as f32).sqrt()));
    let (gate, up, down) = (matrix(d_mlp, d_model), matrix(d_mlp, d_model), matrix(d_model, d_mlp));
    let norm = Norm { gain: None, eps: 1e-5 };
    let seconds = watch.best(|| cpu.norm_mlp_add(&mut x, norm, Mlp { gate: &gate, up: &up, down: &down }))?;
    let flops = 6.0 * (TOKENS * d_model * d_mlp) as f64;
    Ok(product("mlp", format!("{d_model}x{d_mlp}"), "BF16", precision, TOKENS, (flops, seconds), ceilings))
}

pub(super) fn encoding(
    kernel: Kernel,
    threads: usize,
    ceilings: &Ceilings,
    scale: &Scale,
    watch: &Stopwatch<'_>,
) -> Result<Vec<Encoding>, Error> {
    // The same without bf16, where all values are computed.
    let dense_kernel = match kernel {
        Kernel::Amx | Kernel::Avx512Bf16 => Kernel::Avx512,
        other => other,
    };
    let (dense, screened) = (Devices::new(threads, dense_kernel)?.f32, Devices::new(threads, kernel)?.f32);
    let measure = |shape: &ModelShape| {
        let &ModelShape { d_model: d, d_sae, .. } = shape;
        let mut noise = Noise::new();
        let x = noise.rows(TOKENS, d);
        let weights = noise.matrix(Dtype::Bf16, d_sae, d, 1.0);
        let (bias, thresholds) = (vec![0.0; d_sae], vec![threshold(d, d_sae); d_sae]);
        let spec = EncoderSpec { scale: 1.0, bias: &bias, gain: None, select: Select::Above(&thresholds) };
        let time = |cpu: &Cpu| {
            let encoder = cpu.encoder(&weights);
            let mut sparse = cpu.encode(&x, &encoder, &spec);
            Ok::<_, Error>((watch.best(|| sparse = cpu.encode(&x, &encoder, &spec))?, sparse))
        };
        let gflop = 2.0 * (TOKENS * d * d_sae) as f64 / 1e9;
        let (dense_seconds, sparse) = time(&dense)?;
        let screening = (dense_kernel != kernel).then(|| time(&screened)).transpose()?;
        let screened_seconds = screening.as_ref().map(|(seconds, _)| *seconds);
        Ok(Encoding {
            case: format!("{d}->{d_sae}"),
            tokens: TOKENS,
            l0: sparse.ids.len() as f64 / TOKENS as f64,
            dense_seconds,
            dense_share: gflop / dense_seconds / ceilings.products(Precision::F32),
            screened_seconds,
            screened_share: screened_seconds.map(|seconds| gflop / seconds / ceilings.products(Precision::Bf16)),
            candidates_share: screening.map(|(_, sparse)| sparse.candidates as f64 / (TOKENS * d_sae) as f64),
        })
    };
    scale.models.iter().map(measure).collect()
}

/// What [`L0`] of `d_sae` sums of `d` products of numbers from -1 to 1 are above, on average: such a sum is nearly normal,
/// with variance `d / 9`.
fn threshold(d: usize, d_sae: usize) -> f32 {
    // Abramowitz & Stegun 1964, 26.2.23: the normal quantile to 4.5e-4.
    let t = (-2.0 * (L0 as f64 / d_sae as f64).ln()).sqrt();
    let z = t
        - (2.515517 + 0.802853 * t + 0.010328 * t * t) / (1.0 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t * t * t);
    (z * (d as f64).sqrt() / 3.0) as f32
}

pub(super) fn writing(scratch: &Path, sentences: usize, watch: &Stopwatch<'_>) -> Result<Writing, Error> {
    const D_SAE: usize = 32768;
    let folder = temporary(scratch)?;
    let mut noise = Noise::new();
    // One feature from each of as many parts of the dictionary, so that they differ; values in descending order.
    const PART: usize = D_SAE / L0;
    let ids = (0..SENTENCE * L0).map(|i| (i % L0 * PART + noise.index(PART)) as u32).collect();
    let mut vals: Vec<f32> = (0..SENTENCE * L0).map(|_| 1.5 + noise.number()).collect();
    vals.chunks_mut(L0).for_each(|vals| vals.sort_by(|a, b| b.total_cmp(a)));
    let ptr = (0..=SENTENCE).map(|row| row * L0).collect();
    let rows = SparseRows::new(D_SAE, ptr, ids, vals).map_err(|source| Error::Rows { layer: 0, source })?;
    let tokens = Tokens {
        ids: vec![0; SENTENCE],
        spans: vec![Span { start: 0, end: 0 }; SENTENCE],
        strs: vec![" token".into(); SENTENCE],
        special: vec![false; SENTENCE],
        bos: vec![false; SENTENCE],
    };
    let mut result = Ok(());
    let mut writer = None;
    let seconds = watch.best(|| {
        result = RunWriter::create(folder.path(), "bench").and_then(|run| {
            (0..sentences).try_for_each(|sentence| run.write_rows(0, sentence, &tokens, &rows).map(drop))?;
            writer = Some(run);
            Ok(())
        });
    })?;
    result?;
    let path = writer.as_ref().map_or(folder.path(), RunWriter::path);
    let bytes = super::whole::rows_files(path)?.iter().map(|file| file.len()).sum();
    Ok(Writing {
        rows: sentences * SENTENCE,
        bytes,
        seconds,
        rows_per_s: (sentences * SENTENCE) as f64 / seconds,
        mb_per_s: bytes as f64 / seconds / 1e6,
    })
}

/// A folder that is removed in the end.
pub(super) fn temporary(scratch: &Path) -> Result<tempfile::TempDir, Error> {
    tempfile::tempdir_in(scratch).map_err(|source| Error::Io { path: scratch.into(), source })
}
