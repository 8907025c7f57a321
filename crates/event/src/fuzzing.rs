//! Bodies of the fuzz targets: they take any bytes and panic when an invariant breaks.

use nabe_signing::json::Json;

use crate::{EventKind, Pdu, RawEvent, RoomVersionRules, event_id_of, hashes, redact};

/// Any bytes as an event. Holds for whatever parses: reading the canonical form again gives the same event and ID, redaction is
/// idempotent and keeps the ID, signatures do not touch the ID, and a PDU loads from storage as it was.
pub fn raw_event(data: &[u8]) {
    if let Ok(Json::Object(object)) = Json::parse(data) {
        let id = event_id_of(&object);
        let redacted = redact(&object, &RoomVersionRules::I1);
        assert_eq!(event_id_of(&redacted), id, "redaction keeps the ID of any object");
        assert_eq!(
            redact(&redacted, &RoomVersionRules::I1),
            redacted,
            "redaction is idempotent"
        );
        let mut unsigned = object.clone();
        unsigned.remove("signatures");
        assert_eq!(event_id_of(&unsigned), id, "signatures are not part of the ID");
        assert_eq!(
            hashes::content_hash(&unsigned),
            hashes::content_hash(&object),
            "nor of the content hash"
        );
    }
    let Ok(event) = RawEvent::parse(data, &RoomVersionRules::I1) else {
        return;
    };
    let bytes = event.object().to_canonical();
    let again = RawEvent::parse(&bytes, &RoomVersionRules::I1).expect("the canonical form of an event is an event");
    assert_eq!(again.object(), event.object(), "the canonical form says the same");
    assert_eq!(again.event_id(), event.event_id(), "and has the same ID");
    assert_eq!(
        event.event_id(),
        event_id_of(event.object()),
        "both ways to the ID agree"
    );
    assert!(!event.required_signers().is_empty(), "no event goes unsigned");
    if event.kind() == EventKind::Pdu {
        let stored = Pdu::from_stored(&bytes, &RoomVersionRules::I1).expect("an event we could parse loads");
        assert_eq!(stored.bytes()[..], bytes[..], "stored bytes are kept");
        assert_eq!(
            stored.lpdu_id().is_some(),
            stored.hub_server().is_some(),
            "an LPDU is behind every hub_server"
        );
    }
}
