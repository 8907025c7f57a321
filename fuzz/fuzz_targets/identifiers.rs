//! Any text as each of the identifiers.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_types::fuzzing::identifiers(data));
