//! See `llamascope_fuzz::targets::resume`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| llamascope_fuzz::targets::resume::TARGET.check(data));
