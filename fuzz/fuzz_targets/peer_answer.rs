//! Any JSON as a hub's answers to a participant.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_service::fuzzing::peer_answer(data));
