//! See `llamascope_fuzz::targets::shards`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| llamascope_fuzz::targets::shards::TARGET.check(data));
