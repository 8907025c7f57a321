//! LM #int-redactions and the hashes.

use nabe_signing::json::Json;
use nabe_signing::object;

use super::*;
use crate::{event_id_of, hashes, redact};

/// `content` of an event of this type after redaction.
fn kept(event_type: &str, content: Object) -> Object {
    let event = object! { "type" => event_type, "content" => content };
    redact(&event, RULES)
        .get("content")
        .and_then(Json::as_object)
        .unwrap()
        .clone()
}

#[test]
fn redacted_member_event_keeps_its_membership_and_its_id() {
    let content = object! { "membership" => "join", "displayname" => "Bob", "reason" => "because" };
    let member = builder("m.room.member", "@alice:hub.example.org", content)
        .state_key("@alice:hub.example.org")
        .build_pdu(&hub(), vec![some_id(1)], vec![some_id(2)], RULES)
        .unwrap();
    let redacted = member.redacted();
    assert_eq!(
        redacted.get("content"),
        Some(&Json::from(object! { "membership" => "join" }))
    );
    assert_eq!(&event_id_of(&redacted), member.event_id());
}

#[test]
fn each_type_keeps_what_the_algorithms_read() {
    let everything = object! {
        "allow" => 1, "ban" => 1, "events" => 1, "events_default" => 1, "history_visibility" => 1, "invite" => 1,
        "join_authorised_via_users_server" => 1, "join_rule" => 1, "kick" => 1, "membership" => 1, "notifications" => 1,
        "redact" => 1, "redacts" => 1, "room_version" => 1, "state_default" => 1, "users" => 1, "users_default" => 1,
    };
    assert_eq!(kept("m.room.create", everything.clone()), everything);
    for (event_type, fields) in [
        ("m.room.member", vec!["membership"]),
        ("m.room.join_rules", vec!["join_rule"]),
        ("m.room.history_visibility", vec!["history_visibility"]),
        (
            "m.room.power_levels",
            vec![
                "ban",
                "events",
                "events_default",
                "invite",
                "kick",
                "redact",
                "state_default",
                "users",
                "users_default",
            ],
        ),
        ("m.room.message", vec![]),
        ("m.room.redaction", vec![]),
    ] {
        assert_eq!(
            kept(event_type, everything.clone()).keys().collect::<Vec<_>>(),
            fields,
            "{event_type}"
        );
    }
}

#[test]
fn top_level_keeps_the_known_fields_only() {
    let member = complete(
        builder(
            "m.room.member",
            "@bob:second.example.org",
            object! { "membership" => "leave" },
        )
        .state_key("@bob:second.example.org")
        .build_lpdu(&participant(), hub().server(), RULES)
        .unwrap(),
    );
    let extended = with(&with(member.object(), "extra", 1), "unsigned", object! {});
    assert_eq!(
        &redact(&extended, RULES),
        member.object(),
        "every field of the schema stays, everything else goes"
    );
}

#[test]
fn content_that_is_no_object_becomes_one() {
    for content in [Json::Null, Json::from(5), Json::from("x"), Json::Array(Vec::new())] {
        for event_type in ["m.room.create", "m.room.message"] {
            let event = object! { "type" => event_type, "content" => content.clone() };
            let redacted = redact(&event, RULES);
            assert_eq!(redacted.get("content"), Some(&Json::from(object! {})));
            assert_eq!(event_id_of(&event), event_id_of(&redacted));
        }
    }
}

#[test]
fn event_without_lpdu_hash_is_hashed_without_hashes() {
    let event = without(hub_pdu().object(), "signatures");
    let without_hashes = nabe_signing::sha256(&without(&event, "hashes").to_canonical());
    assert_eq!(hashes::content_hash(&event), without_hashes);
    let with_empty_hashes = nabe_signing::sha256(&with(&event, "hashes", object! {}).to_canonical());
    assert_ne!(hashes::content_hash(&event), with_empty_hashes);
}

#[test]
fn hashes_follow_the_steps_of_the_draft() {
    let event = lpdu_pdu().object().clone();
    let unsigned = without(&event, "signatures");
    let lpdu_only = lpdu().object().get("hashes").unwrap().clone();
    assert_eq!(
        hashes::content_hash(&event),
        nabe_signing::sha256(&with(&unsigned, "hashes", lpdu_only).to_canonical())
    );
    let partial = ["hashes", "auth_events", "prev_events"]
        .iter()
        .fold(unsigned, |event, field| without(&event, field));
    assert_eq!(hashes::lpdu_hash(&event), nabe_signing::sha256(&partial.to_canonical()));
    let redacted = without(&redact(&event, RULES), "signatures");
    assert_eq!(
        hashes::reference_hash(&event),
        nabe_signing::sha256(&redacted.to_canonical())
    );
}

#[test]
fn keys_that_need_escapes_are_hashed_in_canonical_form() {
    let event = object! { "\u{1f600}" => 1, "\u{e000}" => 2, "a\"b\n" => object! { "z" => 1, "" => Json::Null } };
    assert_eq!(
        hashes::content_hash(&event),
        nabe_signing::sha256(&event.to_canonical())
    );
}

#[test]
fn stripped_state_has_four_fields() {
    let topic = builder("m.room.topic", "@alice:hub.example.org", object! { "topic" => "tea" })
        .state_key("")
        .build_pdu(&hub(), vec![some_id(1)], vec![some_id(2)], RULES)
        .unwrap();
    let expected = object! {
        "sender" => "@alice:hub.example.org",
        "type" => "m.room.topic",
        "state_key" => "",
        "content" => object! { "topic" => "tea" },
    };
    assert_eq!(topic.stripped(), expected);
}
