//! Bytes from elsewhere: vectors by an independent implementation, and a room captured from another server. Both live outside the
//! repository, in the folder `NABE_SHARED` names; without it these tests say so and pass, unless `NABE_REQUIRE_ALL=1`.

use std::path::PathBuf;

use nabe_signing::json::Json;
use nabe_signing::{PublicKey, base64u};

use super::*;
use crate::{Completion, EventKind, event_id_of, hashes};

/// Reads a file of the shared folder; `None`, after saying why, when it is not there.
fn shared(path: &str) -> Option<Json> {
    let folder = std::env::var_os("NABE_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        // A relative path is relative to the workspace, wherever the test runs.
        |folder| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder),
    );
    let file = folder.join(path);
    match std::fs::read(&file) {
        Ok(bytes) => Some(Json::parse(&bytes).unwrap()),
        Err(error) => {
            assert!(
                std::env::var_os("NABE_REQUIRE_ALL").is_none_or(|all| all != "1"),
                "{}: {error}",
                file.display()
            );
            eprintln!("SKIPPED: {}: {error}", file.display());
            None
        }
    }
}

fn object_at<'a>(object: &'a Object, key: &str) -> &'a Object {
    object
        .get(key)
        .and_then(Json::as_object)
        .unwrap_or_else(|| panic!("{key} is an object"))
}

fn str_at<'a>(object: &'a Object, key: &str) -> &'a str {
    object
        .get(key)
        .and_then(Json::as_str)
        .unwrap_or_else(|| panic!("{key} is a string"))
}

fn ids_at(object: &Object, key: &str) -> Vec<EventId> {
    let ids = object.get(key).and_then(Json::as_array).unwrap();
    ids.iter()
        .map(|id| EventId::parse(id.as_str().unwrap()).unwrap())
        .collect()
}

/// Builds the event of a vector anew from what its author chose.
fn rebuild(event: &Object) -> EventBuilder {
    let ts = event.get("origin_server_ts").and_then(Json::as_i64).unwrap();
    let builder = EventBuilder::new(
        RoomId::parse(str_at(event, "room_id")).unwrap(),
        str_at(event, "type"),
        UserId::parse(str_at(event, "sender")).unwrap(),
        UnixMillis::from_i64(ts).unwrap(),
        object_at(event, "content").clone(),
    );
    match event.get("state_key") {
        Some(state_key) => builder.state_key(state_key.as_str().unwrap()),
        None => builder,
    }
}

#[test]
fn vectors_are_reproduced_byte_for_byte() {
    let Some(file) = shared("specs/lm-vectors.json") else {
        return;
    };
    let file = file.as_object().unwrap();
    for signer in [hub(), participant()] {
        let stated = object_at(object_at(file, "keys"), signer.server().as_str());
        assert_eq!(base64u::decode(str_at(stated, "seed_b64")).unwrap().len(), 32);
        assert_eq!(
            signer.keys()[0].public(),
            PublicKey::from_base64(str_at(stated, "public")).unwrap()
        );
        assert_eq!(signer.keys()[0].key_id(), &str_at(stated, "key_id"));
    }
    let events = file.get("events").and_then(Json::as_array).unwrap();
    assert_eq!(events.len(), 5);
    let mut lpdus = 0;
    for vector in events.iter().filter_map(Json::as_object) {
        let name = str_at(vector, "name");
        let stated = object_at(vector, "pdu");
        let (auth_events, prev_events) = (ids_at(stated, "auth_events"), ids_at(stated, "prev_events"));
        let pdu = match vector.get("lpdu").and_then(Json::as_object) {
            None => rebuild(stated)
                .build_pdu(&hub(), auth_events, prev_events, RULES)
                .unwrap(),
            Some(stated) => {
                lpdus += 1;
                let lpdu = rebuild(stated)
                    .build_lpdu(&participant(), hub().server(), RULES)
                    .unwrap();
                assert_eq!(lpdu.bytes(), stated.to_canonical(), "{name}: LPDU");
                assert_eq!(lpdu.lpdu_id(), &str_at(vector, "lpdu_event_id"), "{name}");
                let received = RawEvent::parse(&stated.to_canonical(), RULES).unwrap();
                assert_eq!(received.kind(), EventKind::Lpdu);
                let received = received.verify_lpdu(&keys()).unwrap();
                assert!(!received.was_redacted(), "{name}");
                received
                    .complete(
                        Completion {
                            auth_events,
                            prev_events,
                        },
                        &hub(),
                    )
                    .unwrap()
            }
        };
        assert_eq!(pdu.bytes()[..], stated.to_canonical(), "{name}: PDU");
        assert_eq!(pdu.event_id(), &str_at(vector, "event_id"), "{name}");
        if let Some(lpdu_id) = vector.get("lpdu_event_id") {
            assert_eq!(pdu.lpdu_id().unwrap(), lpdu_id.as_str().unwrap(), "{name}");
        }
        if let Some(canonical) = vector.get("canonical_for_content_hash") {
            let hash = nabe_signing::sha256(canonical.as_str().unwrap().as_bytes());
            assert_eq!(hashes::content_hash(stated), hash, "{name}");
        }
        let verified = RawEvent::parse(&stated.to_canonical(), RULES)
            .unwrap()
            .verify_pdu(&keys())
            .unwrap();
        assert!(!verified.was_redacted(), "{name}");
        assert_eq!(verified.event_id(), pdu.event_id());
    }
    assert_eq!(lpdus, 2);
}

#[test]
fn room_captured_from_eigen_server_has_our_ids_and_hashes() {
    let Some(file) = shared("vectors/eigen/hub-dump.json") else {
        return;
    };
    let events = file.as_array().unwrap();
    assert_eq!(events.len(), 11);
    let mut through_hub = 0;
    for event in events.iter().filter_map(Json::as_object) {
        let id = str_at(event, "event_id");
        let event = without(event, "event_id");
        let stated = object_at(&event, "hashes");
        assert_eq!(event_id_of(&event), id);
        assert_eq!(
            base64u::encode(&hashes::content_hash(&event)),
            str_at(stated, "sha256"),
            "{id}"
        );
        if let Some(lpdu) = stated.get("lpdu").and_then(Json::as_object) {
            through_hub += 1;
            assert_eq!(
                base64u::encode(&hashes::lpdu_hash(&event)),
                str_at(lpdu, "sha256"),
                "{id}"
            );
        }
        assert_eq!(
            RawEvent::from_json(event, &RoomVersionRules::UNSTABLE_02)
                .unwrap()
                .event_id(),
            id
        );
    }
    assert_eq!(through_hub, 2);
}
