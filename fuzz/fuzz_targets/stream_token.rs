//! Any text as a stream's token.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_service::fuzzing::stream_token(data));
