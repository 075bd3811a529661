//! See `llamascope_fuzz::targets::arguments`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| llamascope_fuzz::targets::arguments::TARGET.check(data));
