//! See `llamascope_fuzz::targets::sentences`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| llamascope_fuzz::targets::sentences::TARGET.check(data));
