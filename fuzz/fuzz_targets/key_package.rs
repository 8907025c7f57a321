//! Any bytes as a key package, and as changes to an honest one.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_mls::fuzzing::key_package(data));
