//! See `llamascope_fuzz::targets::tokenizer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| llamascope_fuzz::targets::tokenizer::TARGET.check(data));
