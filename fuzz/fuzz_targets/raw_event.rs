//! Any bytes as an event: schema, redaction, hashes, IDs.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_event::fuzzing::raw_event(data));
