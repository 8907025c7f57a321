//! The table is whole and consistent.

use std::collections::BTreeSet;

use super::*;
use crate::testing::unhex;

#[test]
fn names_are_unique() {
    let names: BTreeSet<_> = KINDS.iter().map(|kind| kind.name).collect();
    assert_eq!(names.len(), KINDS.len());
    assert!(
        KINDS
            .iter()
            .all(|kind| Kind::named(kind.name).unwrap().max_len == kind.max_len)
    );
    assert!(Kind::named("Nothing").is_none());
}

#[test]
fn every_component_with_a_name_has_a_format() {
    for number in 0..=u16::MAX {
        let component = ComponentId(number);
        // A package of last resort is marked by an entry without data.
        let has_format = component.name().is_some() && component != ComponentId::LAST_RESORT_KEY_PACKAGE;
        assert_eq!(
            Kind::of_component_data(component).is_some(),
            has_format,
            "{component:?}"
        );
        assert_eq!(
            Kind::of_component_update(component).is_some(),
            has_format,
            "{component:?}"
        );
    }
    let update = Kind::of_component_update(ComponentId::PARTICIPANT_LIST).unwrap();
    assert_eq!(update.name, "ParticipantListUpdate");
    assert_eq!(
        Kind::of_component_update(ComponentId::JOIN_LINKS).unwrap().name,
        "JoinLinksUpdate"
    );
}

#[test]
fn nothing_reads_beyond_its_limit() {
    for kind in KINDS {
        let error = kind.read(&vec![0; kind.max_len + 1]).encoded.unwrap_err();
        assert_eq!((error.offset(), error.rule().name()), (0, "too-long"), "{kind:?}");
    }
}

#[test]
fn a_reading_tells_up_to_where_it_breaks() {
    let kind = Kind::named("ParticipantListUpdate").unwrap();
    let reading = kind.read(&unhex("08 00000001 00000001 04 0000"));
    let error = reading.encoded.unwrap_err();
    assert_eq!((error.offset(), error.field().as_str()), (9, "removed_indices"));
    let fields: Vec<_> = reading.trace.leaves().into_iter().map(|leaf| leaf.field).collect();
    assert_eq!(
        fields,
        [
            "changed_role_participants[0].user_index",
            "changed_role_participants[0].role_index"
        ]
    );
}

#[test]
fn so_many_fields_are_not_all_kept() {
    use crate::codec::Trace;
    let blank = |nodes: usize| {
        let mut bytes = (0x8000_0000 | u32::try_from(nodes).unwrap()).to_be_bytes().to_vec();
        bytes.resize(4 + nodes, 0);
        let reading = Kind::named("RatchetTree").unwrap().read(&bytes);
        assert_eq!(reading.encoded, Ok(bytes));
        reading.trace
    };
    let trace = blank(Trace::MAX_ENTRIES);
    assert_eq!((trace.entries().len(), trace.left_out()), (Trace::MAX_ENTRIES, 0));
    assert_eq!(trace.leaves().len(), Trace::MAX_ENTRIES);
    let trace = blank(Trace::MAX_ENTRIES + 7);
    assert_eq!((trace.entries().len(), trace.left_out()), (Trace::MAX_ENTRIES, 7));
    let last = trace.entries().last().unwrap();
    assert_eq!((last.offset, last.length), (4 + Trace::MAX_ENTRIES - 1, 1));
}

#[test]
fn checking_says_what_reading_says() {
    for kind in KINDS {
        for bytes in [&[][..], &[0], &[1, 0], &[0, 1, 0, 2], &[0x40; 70]] {
            assert_eq!(
                kind.check(bytes).err(),
                kind.read(bytes).encoded.err(),
                "{kind:?}: {bytes:?}"
            );
        }
    }
}

#[test]
fn extensions_have_the_formats_of_their_types() {
    let of = |extension| Kind::of_extension(extension).map(|kind| kind.name);
    assert_eq!(of(ExtensionType::APP_DATA_DICTIONARY), Some("AppDataDictionary"));
    assert_eq!(of(ExtensionType::REQUIRED_WIRE_FORMATS), Some("WireFormats"));
    assert_eq!(of(ExtensionType::EXTERNAL_PUB), None);
    assert_eq!(of(ExtensionType(0x1234)), None);
    let senders = Kind::of_extension(ExtensionType::EXTERNAL_SENDERS).unwrap();
    let leaves = senders.read(&unhex("08 01aa 0001 03 6d6d6d")).trace.leaves();
    let fields: Vec<_> = leaves.into_iter().map(|leaf| leaf.field).collect();
    assert_eq!(
        fields,
        [
            "[0].signature_key",
            "[0].credential.credential_type",
            "[0].credential.identity"
        ]
    );
}

#[test]
fn what_goes_along_with_messages_has_the_formats_of_its_component() {
    let name = |kind: Option<&Kind>| kind.map(|kind| kind.name);
    assert_eq!(name(Kind::of_component_aad(ComponentId::FRANK_AAD)), Some("FrankAAD"));
    assert_eq!(name(Kind::of_component_aad(ComponentId::PARTICIPANT_LIST)), None);
    assert_eq!(name(Kind::of_component_ephemeral(ComponentId::APP_ACK)), Some("AppAck"));
    assert_eq!(name(Kind::of_component_ephemeral(ComponentId::FRANK_AAD)), None);
}
