//! Metadata byte by byte.

use super::*;
use crate::codec::Rule;
use crate::testing::{assert_wire, refused};

#[test]
fn metadata() {
    let text = |text| NulFreeText::new(text).unwrap();
    let metadata = RoomMetaData {
        room_uri: Uri::new("mimi://a/r/x").unwrap(),
        room_name: text("Klub ☕"),
        room_descriptions: vec![RichDescription {
            media_type: "".into(),
            language_tag: "de".into(),
            description_content: b"Hallo".as_slice().into(),
        }],
        room_avatar: Uri::new("").unwrap(),
        room_subject: text("s"),
        room_mood: text(""),
    };
    assert_wire(
        &metadata,
        concat!(
            "0c 6d696d693a2f2f612f722f78", // room_uri
            "08 4b6c756220e29895",         // room_name
            "0a",                          // room_descriptions: length
            "00",                          // media_type
            "02 6465",                     // language_tag
            "05 48616c6c6f",               // description_content
            "00",                          // room_avatar
            "01 73",                       // room_subject
            "00",                          // room_mood
        ),
    );
}

#[test]
fn names_are_utf8_without_null_characters() {
    assert_eq!(
        refused::<RoomMetaData>("00 02 6100 00 00 00 00"),
        (3, "room_name".to_owned(), Rule::Nul)
    );
    assert_eq!(
        refused::<RoomMetaData>("00 02 61ff 00 00 00 00"),
        (3, "room_name".to_owned(), Rule::NotUtf8)
    );
}

#[test]
fn a_room_is_named_by_a_uri() {
    assert_eq!(
        refused::<RoomMetaData>("02 6162 00 00 00 00 00"),
        (0, "room_uri".to_owned(), Rule::NotUri)
    );
}
