//! Any bytes, and changes to honest messages, as MLS, read by us and by OpenMLS.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_wire::fuzzing::against_openmls(data));
