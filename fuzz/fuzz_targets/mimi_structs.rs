//! Any bytes as any struct of MIMI.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_wire::fuzzing::structs(data));
