//! Any text as HTML that is reduced to text.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nabe_content::fuzzing::html(data));
