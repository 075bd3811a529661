//! See `llamascope_fuzz::targets::train`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| llamascope_fuzz::targets::train::TARGET.check(data));
