//! See `llamascope_fuzz::targets::index`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| llamascope_fuzz::targets::index::TARGET.check(data));
