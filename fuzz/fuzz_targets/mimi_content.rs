//! Any bytes as MIMI content.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_content::fuzzing::mimi_content(data));
