//! Any bytes as what an encrypted event decrypts to.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_content::fuzzing::message(data));
