//! Any bytes as another server's answer with a file.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_service::fuzzing::multipart(data));
