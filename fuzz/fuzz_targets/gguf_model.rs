//! See `llamascope_fuzz::targets::gguf_model`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| llamascope_fuzz::targets::gguf_model::TARGET.check(data));
