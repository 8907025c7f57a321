//! Length prefixes, order, text and presence, each broken in every way; what a trace tells.

use proptest::prelude::*;

use super::*;
use crate::testing::{fault, unhex};

fn read<T: Decode>(hex_text: &str) -> Result<T, (usize, String, Rule)> {
    let bytes = unhex(hex_text);
    let mut reader = Reader::new(&bytes);
    reader.read("x").map_err(|error| fault(&error))
}

fn error(offset: usize, field: &str, rule: Rule) -> (usize, String, Rule) {
    (offset, field.to_owned(), rule)
}

#[test]
fn a_length_is_written_in_its_shortest_form() {
    for (length, prefix) in [
        (0, "00"),
        (0x3f, "3f"),
        (0x40, "4040"),
        (0x3fff, "7fff"),
        (0x4000, "80004000"),
        (MAX_VECTOR_LEN, "bfffffff"),
    ] {
        let mut out = Vec::new();
        encode_length(length, &mut out);
        assert_eq!(out, unhex(prefix));
    }
}

#[test]
fn a_length_in_a_longer_form_is_refused() {
    let rule = |length, width| Rule::NotMinimal { length, width };
    assert_eq!(read::<Bytes>("4005 0102030405"), Err(error(0, "x", rule(5, 2))));
    assert_eq!(read::<Bytes>("403f"), Err(error(0, "x", rule(63, 2))));
    assert_eq!(read::<Bytes>("80000001 01"), Err(error(0, "x", rule(1, 4))));
    assert_eq!(read::<Bytes>("80003fff"), Err(error(0, "x", rule(0x3fff, 4))));
}

#[test]
fn a_length_of_eight_bytes_is_refused() {
    assert_eq!(
        read::<Bytes>("c000000000000001 01"),
        Err(error(0, "x", Rule::ReservedLength))
    );
    assert_eq!(read::<Bytes>("ff"), Err(error(0, "x", Rule::ReservedLength)));
}

#[test]
fn a_length_that_lies_is_refused_before_anything_is_allocated() {
    let (needed, left) = (MAX_VECTOR_LEN, 1);
    assert_eq!(
        read::<Bytes>("bfffffff 00"),
        Err(error(0, "x", Rule::Truncated { needed, left }))
    );
    assert_eq!(
        read::<Vec<u64>>("bfffffff 00"),
        Err(error(0, "x", Rule::Truncated { needed, left }))
    );
}

#[test]
fn a_prefix_that_is_cut_off_is_refused_at_its_beginning() {
    assert_eq!(
        read::<Bytes>(""),
        Err(error(0, "x", Rule::Truncated { needed: 1, left: 0 }))
    );
    assert_eq!(
        read::<Bytes>("40"),
        Err(error(0, "x", Rule::Truncated { needed: 2, left: 1 }))
    );
    assert_eq!(
        read::<Bytes>("800040"),
        Err(error(0, "x", Rule::Truncated { needed: 4, left: 3 }))
    );
}

#[test]
fn an_item_cannot_reach_beyond_its_vector() {
    // The vector has three bytes, so its second number has one; more bytes follow it.
    assert_eq!(
        read::<Vec<u16>>("03 000100 020003"),
        Err(error(3, "x[1]", Rule::Truncated { needed: 2, left: 1 }))
    );
    // The inner vector states more than the outer has left.
    assert_eq!(
        read::<Vec<Bytes>>("02 0201 0000"),
        Err(error(1, "x[0]", Rule::Truncated { needed: 2, left: 1 }))
    );
}

#[test]
fn an_inner_vector_ends_where_it_says() {
    assert_eq!(read::<Vec<Vec<u8>>>("05 020102 0103"), Ok(vec![vec![1, 2], vec![3]]));
}

#[test]
fn a_boolean_is_nothing_but_0_or_1() {
    assert_eq!(read::<bool>("00"), Ok(false));
    assert_eq!(read::<bool>("01"), Ok(true));
    assert_eq!(read::<bool>("02"), Err(error(0, "x", Rule::NotBoolean { value: 2 })));
}

#[test]
fn a_presence_octet_is_nothing_but_0_or_1() {
    assert_eq!(read::<Option<u16>>("00"), Ok(None));
    assert_eq!(read::<Option<u16>>("010007"), Ok(Some(7)));
    assert_eq!(
        read::<Option<u16>>("020007"),
        Err(error(0, "x", Rule::NotPresence { value: 2 }))
    );
}

#[test]
fn text_that_is_not_utf8_is_refused_at_the_first_wrong_byte() {
    assert_eq!(read::<Text>("0461c3a462").as_deref(), Ok("aäb"));
    assert_eq!(read::<Text>("0361ff62"), Err(error(2, "x", Rule::NotUtf8)));
    // A surrogate, and an overlong slash.
    assert_eq!(read::<Text>("03eda080"), Err(error(1, "x", Rule::NotUtf8)));
    assert_eq!(read::<Text>("02c0af"), Err(error(1, "x", Rule::NotUtf8)));
}

#[test]
fn a_null_character_is_refused_only_where_the_draft_says_so() {
    assert_eq!(read::<Text>("03610062").as_deref(), Ok("a\0b"));
    assert_eq!(read::<NulFreeText>("03610062"), Err(error(2, "x", Rule::Nul)));
    assert_eq!(NulFreeText::new("a\0b"), None);
}

#[test]
fn what_was_read_keeps_its_bytes() {
    let bytes = unhex("02 0304 ff");
    let mut reader = Reader::new(&bytes);
    let kept: Kept<Bytes> = reader.read("x").unwrap();
    assert_eq!(kept.as_bytes(), unhex("020304"));
    assert_eq!(kept, Kept::new(Bytes(vec![3, 4])));
    assert_eq!(kept.to_bytes(), kept.as_bytes());
    assert_eq!(reader.position(), 3);
}

#[test]
fn an_error_says_byte_field_and_rule() {
    let bytes = unhex("03 000100");
    let error = Reader::new(&bytes).read::<Vec<u16>>("roles").unwrap_err();
    assert_eq!(error.to_string(), "byte 3, field roles[1]: needs 2 bytes, 1 are left");
    let error = Reader::new(&[]).take(1).unwrap_err();
    assert_eq!(error.to_string(), "byte 0, the whole input: needs 1 bytes, 0 are left");
}

#[test]
fn a_message_beyond_its_limit_is_not_looked_at() {
    let (length, max) = (
        crate::franking::FrankAad::MAX_LEN + 1,
        crate::franking::FrankAad::MAX_LEN,
    );
    let error = crate::franking::FrankAad::from_bytes(&vec![0; length]).unwrap_err();
    assert_eq!(fault(&error), (0, String::new(), Rule::TooLong { length, max }));
}

#[test]
fn what_follows_the_end_is_refused() {
    let error = crate::franking::FrankAad::from_bytes(&[0; 34]).unwrap_err();
    assert_eq!(fault(&error), (32, String::new(), Rule::TrailingBytes { left: 2 }));
}

#[test]
fn a_trace_tells_of_each_field_up_to_where_it_breaks() {
    let bytes = unhex("02 0001 0102 03");
    let mut reader = Reader::traced(&bytes);
    let list: Vec<u16> = reader.read("list").unwrap();
    assert_eq!(list, [1]);
    let error = reader.read::<[u8; 4]>("tail").unwrap_err();
    assert_eq!(
        fault(&error),
        (3, "tail".to_owned(), Rule::Truncated { needed: 4, left: 3 })
    );

    let trace = reader.into_trace();
    let entries: Vec<_> = trace
        .entries()
        .iter()
        .map(|entry| (entry.depth, entry.step.to_string(), entry.offset, entry.length))
        .collect();
    assert_eq!(
        entries,
        [
            (0, "list".to_owned(), 0, 3),
            (1, "[0]".to_owned(), 1, 2),
            (0, "tail".to_owned(), 3, 0),
        ]
    );
    let leaves = trace.leaves();
    assert_eq!(leaves.len(), 1);
    assert_eq!(
        (leaves[0].field.as_str(), &leaves[0].value),
        ("list[0]", &Value::Number(1))
    );
}

proptest! {
    #[test]
    fn every_length_reads_back(length in 0..=MAX_VECTOR_LEN) {
        let mut out = Vec::new();
        encode_length(length, &mut out);
        prop_assert_eq!(out.len(), length_width(length));
        // The bytes behind the prefix are not there, and the error tells what it said.
        let rule = Reader::new(&out).length().map_err(|error| error.rule());
        let expected = if length == 0 { Ok(0) } else { Err(Rule::Truncated { needed: length, left: 0 }) };
        prop_assert_eq!(rule, expected);
    }

    #[test]
    fn whatever_reads_as_a_vector_of_byte_strings_writes_back(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let mut reader = Reader::new(&bytes);
        if let Ok(value) = Vec::<Bytes>::decode(&mut reader) {
            prop_assert_eq!(value.to_bytes(), &bytes[..reader.position()]);
        }
    }

    #[test]
    fn vectors_of_byte_strings_round_trip(value in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..20)) {
        let value: Vec<Bytes> = value.into_iter().map(Bytes).collect();
        let bytes = value.to_bytes();
        prop_assert_eq!(Vec::<Bytes>::decode(&mut Reader::new(&bytes)).unwrap(), value);
    }
}
