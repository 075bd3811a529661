//! See `llamascope_fuzz::targets::http`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| llamascope_fuzz::targets::http::TARGET.check(data));
