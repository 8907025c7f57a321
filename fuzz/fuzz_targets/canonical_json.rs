//! Any bytes as JSON, and its canonical form.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_signing::fuzzing::canonical_json(data));
