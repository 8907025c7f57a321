//! Any text as a request's target.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_http::fuzzing::path(data));
