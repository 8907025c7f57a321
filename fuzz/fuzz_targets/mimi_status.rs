//! Any bytes as a MIMI message status report.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_content::fuzzing::mimi_status(data));
