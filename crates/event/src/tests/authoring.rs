//! What we refuse to author though we would accept it from others. LM #int-pdu.

use nabe_signing::json::Json;
use nabe_signing::object;
use nabe_types::limits::{COMPLETION_BYTES, ENVELOPE_BYTES, MAX_EVENT_BYTES};

use super::*;
use crate::BuildError;

fn by_hub(builder: EventBuilder) -> Result<Pdu, BuildError> {
    builder.build_pdu(&hub(), vec![some_id(1)], vec![some_id(2)], RULES)
}

fn hub_message(content: Object) -> EventBuilder {
    builder("m.room.message", "@alice:hub.example.org", content)
}

#[test]
fn hubs_own_event_has_neither_hub_server_nor_lpdu_hash() {
    let pdu = by_hub(hub_message(object! {})).unwrap();
    assert_eq!(pdu.hub_server(), None);
    assert_eq!(
        pdu.object()
            .get("hashes")
            .and_then(Json::as_object)
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        ["sha256"]
    );
    assert_eq!(
        pdu.object().get("signatures").and_then(Json::as_object).unwrap().len(),
        1
    );
    assert_eq!(pdu.bytes()[..], pdu.object().to_canonical());
}

#[test]
fn lpdu_has_hub_server_and_no_hash_but_its_own() {
    let lpdu = lpdu();
    assert_eq!(lpdu.hub_server(), Some(hub().server()));
    assert_eq!(
        lpdu.object()
            .get("hashes")
            .and_then(Json::as_object)
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        ["lpdu"]
    );
    assert!(!lpdu.object().contains_key("auth_events") && !lpdu.object().contains_key("prev_events"));
    assert_eq!(lpdu.bytes(), lpdu.object().to_canonical());
}

#[test]
fn type_and_state_key_over_255_bytes_are_refused() {
    let sender = "@alice:hub.example.org";
    let long = "ü".repeat(128);
    let too_long = |field| Some(BuildError::TooLong { field, len: 256 });
    assert_eq!(by_hub(builder(&long, sender, object! {})).err(), too_long("type"));
    assert_eq!(
        by_hub(builder("t", sender, object! {}).state_key(long)).err(),
        too_long("state_key")
    );
    assert!(by_hub(builder(&"t".repeat(255), sender, object! {}).state_key("k".repeat(255))).is_ok());
}

#[test]
fn numbers_some_servers_refuse_are_refused() {
    for text in ["1.5", "9007199254740992", "-9007199254740992", "1e300"] {
        let number = Json::parse(text.as_bytes()).unwrap();
        let nested = object! { "a" => Json::Array(vec![Json::from(object! { "b" => number })]) };
        assert_eq!(by_hub(hub_message(nested)), Err(BuildError::UnsafeNumber), "{text}");
    }
    let safe = object! { "a" => 9_007_199_254_740_991, "b" => Json::parse(b"50.0").unwrap() };
    assert!(by_hub(hub_message(safe)).is_ok());
}

#[test]
fn timestamp_beyond_json_is_refused() {
    let room = RoomId::parse("!room:hub.example.org").unwrap();
    let alice = UserId::parse("@alice:hub.example.org").unwrap();
    for millis in [1 << 53, u64::MAX] {
        let late = EventBuilder::new(room.clone(), "t", alice.clone(), UnixMillis(millis), object! {});
        assert_eq!(by_hub(late), Err(BuildError::UnsafeNumber));
    }
}

#[test]
fn event_over_the_limit_is_refused() {
    let overhead = by_hub(hub_message(object! { "body" => "" })).unwrap().bytes().len();
    let body = |len: usize| object! { "body" => "x".repeat(len) };
    assert_eq!(
        by_hub(hub_message(body(MAX_EVENT_BYTES - overhead)))
            .unwrap()
            .bytes()
            .len(),
        MAX_EVENT_BYTES
    );
    assert_eq!(
        by_hub(hub_message(body(MAX_EVENT_BYTES - overhead + 1))),
        Err(BuildError::TooLarge {
            len: MAX_EVENT_BYTES + 1,
            limit: MAX_EVENT_BYTES
        })
    );
}

#[test]
fn lpdu_leaves_room_for_what_the_hub_adds() {
    let lpdu = |len: usize| {
        builder(
            "m.room.message",
            "@bob:second.example.org",
            object! { "body" => "x".repeat(len) },
        )
        .build_lpdu(&participant(), hub().server(), RULES)
    };
    let limit = MAX_EVENT_BYTES - COMPLETION_BYTES;
    let overhead = lpdu(0).unwrap().bytes().len();
    let largest = lpdu(limit - overhead).unwrap();
    assert_eq!(largest.bytes().len(), limit);
    complete(largest);
    assert_eq!(
        lpdu(limit - overhead + 1).unwrap_err(),
        BuildError::TooLarge { len: limit + 1, limit }
    );
}

#[test]
fn whoever_knows_the_names_knows_how_much_content_fits() {
    let content = object! { "body" => "" };
    let names = [
        "m.room.message",
        "!room:hub.example.org",
        "@bob:second.example.org",
        "second.example.org",
        "hub.example.org",
    ];
    let names: usize = names.iter().map(|name| name.len()).sum();
    let lpdu = builder("m.room.message", "@bob:second.example.org", content.clone())
        .build_lpdu(&participant(), hub().server(), RULES)
        .unwrap();
    let around = lpdu.bytes().len() - content.to_canonical().len() - names;
    let second_key = r#","ed25519:a_version_of_20_byte":"""#.len() + 86;
    assert!(around + second_key <= ENVELOPE_BYTES, "{around} + {second_key}");
    let completed = complete(lpdu.clone()).bytes().len() - lpdu.bytes().len();
    assert!(completed < COMPLETION_BYTES, "{completed}");
}

#[test]
fn commit_over_the_limit_is_refused_with_the_reason_on_both_sides() {
    let content = || object! { "public_group_state" => "x".repeat(MAX_EVENT_BYTES) };
    let commit = builder("m.mls.commit", "@bob:second.example.org", content());
    let lpdu = commit.build_lpdu(&participant(), hub().server(), RULES).unwrap_err();
    let commit = builder("m.mls.commit", "@alice:hub.example.org", content());
    let pdu = by_hub(commit).unwrap_err();
    for refusal in [lpdu, pdu] {
        assert!(matches!(refusal, BuildError::CommitTooLarge { .. }), "{refusal}");
        assert!(refusal.to_string().contains("140 to 180 devices"), "{refusal}");
    }
}

#[test]
fn server_signs_for_its_own_users_only() {
    assert_eq!(by_hub(message()), Err(BuildError::NotOurUser));
    let reason = hub_message(object! {})
        .build_lpdu(&participant(), hub().server(), RULES)
        .unwrap_err();
    assert_eq!(reason, BuildError::NotOurUser);
}

#[test]
fn unsigned_event_can_be_asked_about() {
    let event = message().unsigned(RULES).unwrap();
    assert_eq!(event.sender(), &"@bob:second.example.org");
    assert!(event.auth_events().is_empty() && event.prev_events().is_empty());
    assert!(!event.object().contains_key("signatures"));
}
