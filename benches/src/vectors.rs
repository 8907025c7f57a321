//! Structs of MIMI, from its test vectors.

use nabe_signing::json::Limits;
use nabe_signing::{Json, Object};
use nabe_wire::codec::Message;

/// The bytes of the longest struct of this type among the vectors.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn longest<T: Message>() -> Vec<u8> {
    let mut longest = Vec::new();
    for file in ["endpoints", "components", "mls"] {
        let path = format!(
            "{}/../drafts/mimi-protocol/vectors/{file}.json",
            env!("CARGO_MANIFEST_DIR")
        );
        let text = std::fs::read(&path).expect("the vectors are there");
        let limits = Limits {
            max_bytes: 64 << 20,
            ..Limits::default()
        };
        let file = Json::parse_with(&text, limits).expect("vectors are JSON");
        let structs = file.as_object().and_then(|file| file.get("structs"));
        for entry in structs.and_then(Json::as_array).into_iter().flatten() {
            let Some(entry) = entry.as_object() else { continue };
            if text_of(entry, "type") == T::NAME && text_of(entry, "hex").len() / 2 > longest.len() {
                longest = unhex(text_of(entry, "hex"));
            }
        }
    }
    assert!(!longest.is_empty(), "there is a vector of every struct");
    longest
}

fn text_of<'a>(entry: &'a Object, member: &str) -> &'a str {
    entry.get(member).and_then(Json::as_str).unwrap_or_default()
}

fn unhex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    let digit = |digit: u8| char::from(digit).to_digit(16).expect("vectors are hexadecimal") as u8;
    pairs.map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
