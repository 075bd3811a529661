//! See `llamascope_fuzz::targets::gguf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| llamascope_fuzz::targets::gguf::TARGET.check(data));
