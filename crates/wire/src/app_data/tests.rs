//! Order and uniqueness of entries; media types and framing.

use super::*;
use crate::codec::Message;
use crate::testing::{assert_wire, refused};

#[test]
fn a_dictionary() {
    let mut dictionary = AppDataDictionary::new();
    dictionary.set(ComponentId::ROOM_METADATA, vec![9]);
    dictionary.set(ComponentId::PARTICIPANT_LIST, vec![]);
    dictionary.set(ComponentId::ROOM_METADATA, vec![1, 2]);
    assert_wire(
        &dictionary,
        concat!(
            "08",          // component_data: length
            "0022 00",     // participant_list
            "0023 020102", // room_metadata
        ),
    );
    assert_eq!(dictionary.data(ComponentId::ROOM_METADATA), Some([1, 2].as_slice()));
    assert_eq!(dictionary.remove(ComponentId::PARTICIPANT_LIST), Some(Bytes::default()));
    assert_eq!(dictionary.data(ComponentId::PARTICIPANT_LIST), None);
    assert_eq!(dictionary.entries().len(), 1);
}

#[test]
fn entries_of_a_dictionary_are_in_order_and_unique() {
    assert_eq!(
        refused::<AppDataDictionary>("06 0023 00 0022 00"),
        (
            4,
            "component_data[1]".to_owned(),
            Rule::Unsorted {
                previous: 0x23,
                value: 0x22
            }
        )
    );
    assert_eq!(
        refused::<AppDataDictionary>("06 0022 00 0022 00"),
        (4, "component_data[1]".to_owned(), Rule::Duplicate { value: 0x22 })
    );
}

#[test]
fn items_of_a_safe_aad_rise() {
    let item = |component_id, byte| SafeAadItem {
        component_id,
        aad_item_data: vec![byte].into(),
    };
    let aad = SafeAad::new(vec![item(ComponentId(0x8001), 2), item(ComponentId::FRANK_AAD, 1)]).unwrap();
    assert_wire(&aad, "08 0020 0101 8001 0102");
    assert_eq!(aad.item(ComponentId::FRANK_AAD), Some([1].as_slice()));
    assert_eq!(aad.item(ComponentId::APP_ACK), None);
    assert_wire(&SafeAad::default(), "00");
    assert_eq!(SafeAad::new(vec![item(ComponentId::FRANK_AAD, 1); 2]), None);
    assert_eq!(refused::<SafeAad>("08 8001 0102 0020 0101").0, 5);
    assert_eq!(
        refused::<SafeAad>("08 0020 0101 0020 0102").2,
        Rule::Duplicate { value: 0x20 }
    );
}

#[test]
fn a_safe_aad_is_the_whole_of_the_authenticated_data() {
    assert_eq!(
        refused::<SafeAad>("00 00"),
        (1, String::new(), Rule::TrailingBytes { left: 1 })
    );
    assert_eq!(refused::<SafeAad>("").2, Rule::Truncated { needed: 1, left: 0 });
}

#[test]
fn components_that_are_not_known_stay() {
    let list = ComponentsList {
        component_ids: vec![ComponentId(0x0a0a), ComponentId::SAFE_AAD, ComponentId(0xfffe)],
    };
    assert_wire(&list, "06 0a0a 0002 fffe");
    assert!(list.component_ids[0].is_grease());
    for other in [0x0002, 0x0a1a, 0x8a8a, 0x0b0b] {
        assert!(!ComponentId(other).is_grease(), "{other:04x}");
    }
}

#[test]
fn wire_formats() {
    let formats = WireFormats {
        wire_formats: vec![WireFormat::PUBLIC_MESSAGE, WireFormat(0x7777)],
    };
    assert_wire(&formats, "04 0001 7777");
}

#[test]
fn an_acknowledgement() {
    let ack = AppAck {
        received_ranges: vec![MessageRange {
            sender: 1,
            first_generation: 2,
            last_generation: 3,
        }],
    };
    assert_wire(&ack, "0c 00000001 00000002 00000003");
}

fn plain_text() -> MediaType {
    MediaType {
        parameters: vec![Parameter {
            parameter_name: "charset".into(),
            parameter_value: "UTF-8".into(),
        }],
        ..MediaType::new("text/plain")
    }
}

#[test]
fn a_list_of_media_types() {
    let list = MediaTypeList::new(vec![MediaType::new("image/png"), plain_text()]).unwrap();
    assert_wire(
        &list,
        concat!(
            "25",                              // media_type_list: length
            "09 696d6167652f706e67 00",        // image/png
            "0a 746578742f706c61696e",         // text/plain
            "0e",                              // parameters: length
            "07 63686172736574 05 5554462d38", // charset=UTF-8
        ),
    );
    assert_eq!(list.default_type(), &MediaType::new("image/png"));
    assert_eq!(list.media_types().len(), 2);
}

#[test]
fn a_list_of_media_types_is_not_empty() {
    assert_eq!(
        refused::<MediaTypeList>("00"),
        (0, "media_type_list".to_owned(), Rule::Empty)
    );
    assert_eq!(MediaTypeList::new(Vec::new()), None);
}

#[test]
fn framing() {
    let framing = ApplicationFraming {
        media_type: MediaType::new("application/mimi-content"),
        inner_application_content: vec![0x87].into(),
    };
    assert_wire(&framing, "18 6170706c69636174696f6e2f6d696d692d636f6e74656e74 00 01 87");
}

#[test]
fn content_without_a_type_is_of_the_groups_first() {
    let list = MediaTypeList::new(vec![plain_text(), MediaType::new("image/png")]).unwrap();
    let framing = ApplicationFraming::from_bytes(&[0, 0, 1, b'x']).unwrap();
    assert_eq!(framing.effective_type(&list), &plain_text());
    let other = ApplicationFraming {
        media_type: MediaType::new("image/png"),
        ..framing
    };
    assert_eq!(other.effective_type(&list), &MediaType::new("image/png"));
}
