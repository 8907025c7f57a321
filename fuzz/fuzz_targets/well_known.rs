//! Any bytes as the body of `/.well-known/matrix/server`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_federation::fuzzing::well_known_body(data));
