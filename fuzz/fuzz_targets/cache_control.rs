//! Any bytes as `Cache-Control`, `Expires` and `Age`, a line each.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_federation::fuzzing::cache_headers(data));
