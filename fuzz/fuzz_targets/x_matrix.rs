//! Any text as an `Authorization: X-Matrix` header.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_signing::fuzzing::x_matrix(data));
