//! Any JSON object as a device object, as it is and signed for the fuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_mls::fuzzing::device_object(data));
