//! The canonical form of RFC 8785: no white space, ECMAScript numbers, only the escapes that must be.

use std::io::Write;

use super::Json;
use super::number::{Number, Repr};

pub(super) fn write(json: &Json, out: &mut Vec<u8>) {
    match json {
        Json::Null => out.extend_from_slice(b"null"),
        Json::Bool(true) => out.extend_from_slice(b"true"),
        Json::Bool(false) => out.extend_from_slice(b"false"),
        Json::Number(number) => write_number(*number, out),
        Json::String(text) => write_string(text, out),
        Json::Array(elements) => write_array(elements, out),
        Json::Object(object) => write_entries(object.iter(), out),
    }
}

/// `entries` must be in canonical order.
pub(super) fn write_entries<'a>(entries: impl Iterator<Item = (&'a str, &'a Json)>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (index, (key, value)) in entries.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_string(key, out);
        out.push(b':');
        write(value, out);
    }
    out.push(b'}');
}

pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let at = plain_run(rest);
        if at == rest.len() {
            break;
        }
        out.extend_from_slice(&rest[..at]);
        write_escaped(rest[at], out);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// How many bytes stand in a string as they are, before the first one that does not or the end. Strings can be as long as an event, so whole
/// blocks are looked at first: without a branch for each byte that is one comparison of many at once.
pub(super) fn plain_run(bytes: &[u8]) -> usize {
    let is_special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    let is_plain = |block: &&[u8]| !block.iter().fold(false, |found, &byte| found | is_special(byte));
    let blocks = bytes.chunks_exact(BLOCK).take_while(is_plain).count() * BLOCK;
    let rest = &bytes[blocks..];
    blocks + rest.iter().position(|&byte| is_special(byte)).unwrap_or(rest.len())
}

fn write_array(elements: &[Json], out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(element, out);
    }
    out.push(b']');
}

fn write_number(number: Number, out: &mut Vec<u8>) {
    match number.0 {
        Repr::Integer(value) => write!(out, "{value}").expect("writing to a vector cannot fail"),
        Repr::Float(value) => out.extend_from_slice(ryu_js::Buffer::new().format_finite(value).as_bytes()),
    }
}

fn write_escaped(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        0x08 => out.extend_from_slice(b"\\b"),
        b'\t' => out.extend_from_slice(b"\\t"),
        b'\n' => out.extend_from_slice(b"\\n"),
        0x0c => out.extend_from_slice(b"\\f"),
        b'\r' => out.extend_from_slice(b"\\r"),
        _ => write!(out, "\\u{byte:04x}").expect("writing to a vector cannot fail"),
    }
}

/// Bytes of a string that are looked at together.
const BLOCK: usize = 64;
