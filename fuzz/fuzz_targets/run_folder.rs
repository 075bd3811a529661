//! See `llamascope_fuzz::targets::run_folder`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| llamascope_fuzz::targets::run_folder::TARGET.check(data));
