//! See `llamascope_fuzz::targets::labels`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| llamascope_fuzz::targets::labels::TARGET.check(data));
