//! See `llamascope_fuzz::targets::safetensors`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| llamascope_fuzz::targets::safetensors::TARGET.check(data));
