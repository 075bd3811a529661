//! See `llamascope_fuzz::targets::model_folder`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| llamascope_fuzz::targets::model_folder::TARGET.check(data));
