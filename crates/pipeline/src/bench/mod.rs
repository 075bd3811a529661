//! How fast this machine is and how much of it is used: its own ceilings, each stage as a share of its ceiling, and whole
//! runs.
//!
//! Every time is the best of several short tries: on a machine that does other things too, the least disturbed one is
//! the one that can be repeated.

mod ceilings;
mod noise;
mod render;
mod stages;
mod whole;

use std::path::Path;
use std::time::{Duration, Instant};

use llamascope_compute::{Cpu, Device, Kernel, Precision};
use serde::Serialize;

pub use ceilings::{Ceiling, Ceilings};
pub use stages::{Encoding, Stage, Writing};
pub use whole::WholeRun;

use crate::config::RunConfig;
use crate::{Error, Observer, Surroundings};

/// How much is measured, and for how long.
#[derive(Clone, Debug)]
pub struct Scale {
    /// Time for the tries of one measurement; there are two at least.
    pub time: Duration,
    /// Bytes that are read for the memory's ceiling: more than the caches hold.
    pub memory: usize,
    /// Numbers of rows in matrix products; a table shows the first four.
    pub tokens: Vec<usize>,
    /// `K x N` of matrix products.
    pub shapes: Vec<(usize, usize)>,
    /// Models whose other stages are measured.
    pub models: Vec<ModelShape>,
    /// Sentences that are written, of 25 tokens.
    pub sentences: usize,
}

/// The shape of a model, as far as it is measured.
#[derive(Clone, Copy, Debug)]
pub struct ModelShape {
    /// Width of the residual stream; the query heads together are as wide.
    pub d_model: usize,
    /// Width of the MLP.
    pub d_mlp: usize,
    /// Key-value heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Features of its SAEs.
    pub d_sae: usize,
}

const SMOLLM2_135M: ModelShape = ModelShape { d_model: 576, d_mlp: 1536, n_kv_heads: 3, head_dim: 64, d_sae: 4608 };
const LLAMA_3_1_8B: ModelShape = ModelShape { d_model: 4096, d_mlp: 14336, n_kv_heads: 8, head_dim: 128, d_sae: 32768 };

impl Scale {
    /// Everything; less than a minute on two cores.
    pub fn standard() -> Self {
        Scale {
            time: Duration::from_millis(120),
            memory: 1 << 30,
            tokens: vec![16, 128, 512, 2048],
            shapes: vec![(576, 576), (576, 1536), (1536, 576), (4096, 4096), (4096, 14336), (14336, 4096)],
            models: vec![SMOLLM2_135M, LLAMA_3_1_8B],
            sentences: 400,
        }
    }

    /// The small shapes, in a few seconds.
    pub fn quick() -> Self {
        Scale {
            time: Duration::from_millis(40),
            memory: 512 << 20,
            tokens: vec![16, 512],
            shapes: vec![(576, 576), (576, 1536), (1536, 576), (4096, 4096)],
            models: vec![SMOLLM2_135M],
            sentences: 100,
        }
    }
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Bench {
    /// The program's name and version.
    pub program: String,
    /// The kernels in use.
    pub kernel: String,
    /// Threads, wherever it is not said otherwise.
    pub threads: usize,
    /// What the machine can do at the most.
    pub ceilings: Ceilings,
    /// Stages of a forward pass.
    pub stages: Vec<Stage>,
    /// SAEs.
    pub encoding: Vec<Encoding>,
    /// Rows to files.
    pub writing: Writing,
    /// Whole runs.
    pub runs: Vec<WholeRun>,
}

/// A CPU in both precisions.
struct Devices {
    f32: Cpu,
    bf16: Cpu,
}

impl Devices {
    fn new(threads: usize, kernel: Kernel) -> Result<Self, Error> {
        let cpu = |precision| {
            Cpu::with_kernel(threads, precision, kernel)
                .map_err(|error| Error::Unavailable(format!("cannot start {threads} threads: {error}")))
        };
        Ok(Devices { f32: cpu(Precision::F32)?, bf16: cpu(Precision::Bf16)? })
    }

    fn each(&self) -> [(Precision, &Cpu); 2] {
        [(Precision::F32, &self.f32), (Precision::Bf16, &self.bf16)]
    }
}

/// Measures the machine, the stages and the given runs. What is written goes to folders of their own in `scratch`, and
/// is removed.
///
/// # Errors
/// No threads, a folder that cannot be written, an interruption, and whatever ends a run.
pub fn bench(
    scale: &Scale,
    threads: usize,
    runs: &[RunConfig],
    scratch: &Path,
    surroundings: &Surroundings,
    observer: &dyn Observer,
) -> Result<Bench, Error> {
    let kernel = surroundings.kernel.unwrap_or_else(Kernel::detect);
    let devices = Devices::new(threads, kernel)?;
    let info = devices.f32.info();
    let watch = Stopwatch { time: scale.time, observer };
    observer.stage("measuring this machine");
    let ceilings = ceilings::measure(&devices, kernel, scale.memory, &watch)?;
    observer.stage("measuring the stages of a forward pass");
    let stages = stages::forward(&devices, &ceilings, scale, &watch)?;
    observer.stage("measuring SAEs");
    let encoding = stages::encoding(kernel, info.threads, &ceilings, scale, &watch)?;
    observer.stage("measuring how fast rows are written");
    let writing = stages::writing(scratch, scale.sentences, &watch)?;
    let runs = runs.iter().map(|config| whole::measure(config, &ceilings, scratch, surroundings, observer));
    Ok(Bench {
        program: surroundings.program.clone(),
        kernel: info.kernel,
        threads: info.threads,
        stages,
        encoding,
        writing,
        runs: runs.collect::<Result<_, Error>>()?,
        ceilings,
    })
}

/// Takes times.
struct Stopwatch<'a> {
    time: Duration,
    observer: &'a dyn Observer,
}

impl Stopwatch<'_> {
    /// Seconds of the best of several tries.
    fn best(&self, mut work: impl FnMut()) -> Result<f64, Error> {
        let begin = Instant::now();
        let mut best = f64::INFINITY;
        let mut tries = 0;
        while tries < 2 || begin.elapsed() < self.time {
            if self.observer.cancelled() {
                return Err(Error::Interrupted { run: None });
            }
            let started = Instant::now();
            work();
            best = best.min(started.elapsed().as_secs_f64());
            tries += 1;
        }
        // A clock that stood still: no rate is infinite.
        Ok(best.max(1e-9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Scale {
        Scale {
            time: Duration::ZERO,
            memory: 1 << 16,
            tokens: vec![1, 40],
            shapes: vec![(32, 64), (64, 32)],
            models: vec![ModelShape { d_model: 64, d_mlp: 96, n_kv_heads: 1, head_dim: 32, d_sae: 2048 }],
            sentences: 2,
        }
    }

    fn surroundings() -> Surroundings {
        Surroundings {
            hub: crate::fetch::HubOptions::default(),
            memory: 1 << 30,
            kernel: None,
            program: "llamascope".into(),
            stamp: "20260102_030405".into(),
            started: "2026-01-02T03:04:05Z".into(),
            peak_memory: || None,
            disk: Default::default(),
        }
    }

    #[test]
    fn everything_is_measured_and_nothing_is_left_behind() {
        let scratch = tempfile::tempdir().unwrap();
        let bench = bench(&tiny(), 2, &[], scratch.path(), &surroundings(), &()).unwrap();
        assert_eq!(scratch.path().read_dir().unwrap().count(), 0);
        let json = serde_json::to_value(&bench).unwrap();
        let keys = |json: &serde_json::Value| json.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(keys(&json), "program kernel threads ceilings stages encoding writing runs");
        assert_eq!(keys(&json["ceilings"]), "f32_gflop_per_s bf16_gflop_per_s memory_read_gb_per_s");
        assert_eq!(keys(&json["stages"][0]), "stage case stored dtype tokens seconds rate unit share");
        assert_eq!(
            keys(&json["encoding"][0]),
            "case tokens l0 dense_seconds dense_share screened_seconds screened_share candidates_share"
        );
        assert_eq!(keys(&json["writing"]), "rows bytes seconds rows_per_s mb_per_s");
        for ceiling in [bench.ceilings.f32_gflop_per_s, bench.ceilings.memory_read_gb_per_s] {
            assert!(ceiling.one_thread > 0.0 && ceiling.all_threads > 0.0);
        }
        assert!(bench.stages.iter().all(|stage| stage.seconds > 0.0 && stage.rate > 0.0 && stage.share > 0.0));
        let count = |name: &str| bench.stages.iter().filter(|stage| stage.stage == name).count();
        // Two shapes in one type and one in two more, two numbers of tokens, two precisions.
        assert_eq!(count("gemm"), (2 + 2) * 2 * 2);
        assert_eq!([count("attention"), count("rms_norm"), count("mlp")], [2, 1, 2]);
        assert_eq!(bench.writing.rows, 50);
        let l0 = bench.encoding[0].l0;
        assert!((25.0..100.0).contains(&l0), "thresholds are made for 50: {l0}");
        let text = bench.to_tables();
        for part in ["32x64", "Q4_1", "attention", "64->2048", "rows/s"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn it_stops_when_told() {
        struct Stop;
        impl Observer for Stop {
            fn cancelled(&self) -> bool {
                true
            }
        }
        let scratch = tempfile::tempdir().unwrap();
        let error = bench(&tiny(), 1, &[], scratch.path(), &surroundings(), &Stop).unwrap_err();
        assert!(error.is_interruption(), "{error}");
    }
}
