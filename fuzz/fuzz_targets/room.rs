//! Any bytes as what happens between a hub and two participants.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_core::fuzzing::room(data));
