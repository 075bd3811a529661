//! See `llamascope_fuzz::targets::explored`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| llamascope_fuzz::targets::explored::TARGET.check(data));
