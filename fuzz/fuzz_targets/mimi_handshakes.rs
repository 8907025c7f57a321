//! Any bytes as changes to honest proposals and commits that reach the hub of a MIMI room.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_mls::fuzzing::mimi_handshakes(data));
