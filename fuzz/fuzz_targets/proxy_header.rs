//! Any bytes as what a proxy sends before the first byte of TLS.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_http::fuzzing::proxy_header(data));
