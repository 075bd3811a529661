//! What this machine can do at the most.

use llamascope_compute::{Cpu, Kernel, Precision};
use serde::Serialize;

use super::{Devices, Stopwatch};
use crate::Error;

/// A rate on one thread and on all.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs)]
pub struct Ceiling {
    pub one_thread: f64,
    pub all_threads: f64,
}

/// The machine's ceilings.
#[derive(Clone, Debug, Serialize)]
pub struct Ceilings {
    /// Multiply-adds in f32 with all operands in registers.
    pub f32_gflop_per_s: Ceiling,
    /// The same for pairs of bf16; none where the kernel has no instructions for them, and computes in f32.
    pub bf16_gflop_per_s: Option<Ceiling>,
    /// Reading memory, in 10^9 bytes a second.
    pub memory_read_gb_per_s: Ceiling,
}

impl Ceilings {
    /// Operations a second that matrix products can reach, in 10^9.
    pub(super) fn products(&self, precision: Precision) -> f64 {
        match (precision, self.bf16_gflop_per_s) {
            (Precision::Bf16, Some(bf16)) => bf16.all_threads,
            _ => self.f32_gflop_per_s.all_threads,
        }
    }
}

/// Seconds that a loop in registers takes at the least to be timed.
const LOOP_SECONDS: f64 = 0.01;

pub(super) fn measure(
    devices: &Devices,
    kernel: Kernel,
    memory: usize,
    watch: &Stopwatch<'_>,
) -> Result<Ceilings, Error> {
    let alone = Devices::new(1, kernel)?;
    let both = |rate: &dyn Fn(&Cpu) -> Result<f64, Error>| {
        Ok::<_, Error>(Ceiling { one_thread: rate(&alone.f32)?, all_threads: rate(&devices.f32)? })
    };
    let has_bf16 = devices.f32.multiply_in_registers(Precision::Bf16, 1).is_some();
    Ok(Ceilings {
        f32_gflop_per_s: both(&|cpu| products(cpu, Precision::F32, watch))?,
        bf16_gflop_per_s: has_bf16.then(|| both(&|cpu| products(cpu, Precision::Bf16, watch))).transpose()?,
        memory_read_gb_per_s: both(&|cpu| {
            let buffer = cpu.read_buffer(memory);
            let mut bytes = 0;
            let seconds = watch.best(|| bytes = cpu.read_memory(&buffer))?;
            Ok(bytes as f64 / seconds / 1e9)
        })?,
    })
}

fn products(cpu: &Cpu, precision: Precision, watch: &Stopwatch<'_>) -> Result<f64, Error> {
    let mut rounds = 1000;
    loop {
        let mut flops = 0;
        let seconds = watch.best(|| flops = cpu.multiply_in_registers(precision, rounds).unwrap_or(0))?;
        if seconds >= LOOP_SECONDS {
            return Ok(flops as f64 / seconds / 1e9);
        }
        rounds *= 4;
    }
}
