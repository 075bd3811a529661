//! See `llamascope_fuzz::targets::sae`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| llamascope_fuzz::targets::sae::TARGET.check(data));
