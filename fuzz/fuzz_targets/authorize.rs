//! Any bytes as a room's history under the authorization rules.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_auth::fuzzing::authorize(data));
