//! Any bytes as the `Location` of a redirected well-known request.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_federation::fuzzing::redirect(data));
