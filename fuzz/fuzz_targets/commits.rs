//! Any bytes as changes to honest commits that reach a hub.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_mls::fuzzing::commits(data));
