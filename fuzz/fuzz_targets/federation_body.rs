//! Any JSON as bodies of requests to a hub.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_service::fuzzing::federation_body(data));
