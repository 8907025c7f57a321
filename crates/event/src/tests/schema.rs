//! Step 1: the schema. LM #int-pdu, LM #int-lpdu.

use nabe_signing::object;
use nabe_types::limits::MAX_SAFE_INTEGER;
use nabe_types::{IdKind, RoomVersionId, UnixMillis};

use super::*;
use crate::{Dropped, EventKind, PowerLevelUserRule};

fn dropped(object: Object) -> Dropped {
    RawEvent::from_json(object, RULES).unwrap_err()
}

#[test]
fn form_is_told_by_auth_and_prev_events() {
    assert_eq!(raw(lpdu().object()).kind(), EventKind::Lpdu);
    assert_eq!(raw(lpdu_pdu().object()).kind(), EventKind::Pdu);
    assert_eq!(raw(hub_pdu().object()).kind(), EventKind::Pdu);
}

#[test]
fn fields_are_read_once_and_offered_at_every_stage() {
    let invite = builder(
        "m.room.member",
        "@bob:second.example.org",
        object! { "membership" => "invite" },
    )
    .state_key("@carol:third.example.org")
    .build_lpdu(&participant(), hub().server(), RULES)
    .unwrap();
    let event = raw(complete(invite).object());
    assert_eq!(event.room_id(), &"!room:hub.example.org");
    assert_eq!(event.event_type(), "m.room.member");
    assert_eq!(event.state_key(), Some("@carol:third.example.org"));
    assert!(event.is_state() && event.is_state_of("m.room.member", "@carol:third.example.org"));
    assert_eq!(event.sender(), &"@bob:second.example.org");
    assert_eq!(event.sender_server(), participant().server());
    assert_eq!(event.origin_server_ts(), UnixMillis(1_700_000_000_000));
    assert_eq!(event.hub_server(), Some(hub().server()));
    assert_eq!(event.membership(), Some("invite"));
    assert_eq!(event.auth_events(), [some_id(1), some_id(2)]);
    assert_eq!(event.prev_events(), [some_id(3)]);
    assert_eq!(event.rules(), RULES);
}

#[test]
fn event_of_65536_bytes_is_accepted_and_one_more_is_dropped() {
    let event = hub_pdu();
    let sized = |size: usize| {
        let padding = size - event.bytes().len() - ",\"padding\":\"\"".len();
        with(event.object(), "padding", "x".repeat(padding))
    };
    let largest = sized(65_536);
    assert_eq!(largest.to_canonical().len(), 65_536);
    assert!(RawEvent::from_json(largest.clone(), RULES).is_ok());
    assert!(RawEvent::parse(&largest.to_canonical(), RULES).is_ok());
    assert_eq!(dropped(sized(65_537)), Dropped::TooLarge { len: 65_537 });
}

#[test]
fn commit_over_the_limit_is_dropped_with_the_reason() {
    let commit = with(hub_pdu().object(), "type", "m.mls.commit");
    let large = with(&commit, "padding", "x".repeat(65_536));
    let refusal = dropped(large);
    assert!(matches!(refusal, Dropped::CommitTooLarge { len } if len > 65_536));
    let sentence = refusal.to_string();
    assert!(
        sentence.contains("MLS group") && sentence.contains("140 to 180 devices"),
        "{sentence}"
    );
}

#[test]
fn white_space_and_escapes_do_not_count_against_the_size() {
    let padding = 65_536 - hub_pdu().bytes().len() - ",\"padding\":\"\"".len();
    let largest = with(hub_pdu().object(), "padding", "x".repeat(padding));
    let text = String::from_utf8(largest.to_canonical()).unwrap();
    let escaped = format!("  {}  ", text.replace('x', "\\u0078"));
    assert_eq!(
        RawEvent::parse(escaped.as_bytes(), RULES)
            .unwrap()
            .object()
            .to_canonical(),
        text.as_bytes()
    );
}

#[test]
fn type_and_state_key_of_255_characters_are_accepted_and_256_dropped() {
    for field in ["type", "state_key"] {
        // Characters, not bytes.
        let longest = with(hub_pdu().object(), field, "ü".repeat(255));
        assert!(RawEvent::from_json(longest, RULES).is_ok());
        let too_long = with(hub_pdu().object(), field, "ü".repeat(256));
        assert_eq!(dropped(too_long), Dropped::TooLong { field, chars: 256 });
    }
}

#[test]
fn each_required_field_is_required() {
    for field in [
        "room_id",
        "type",
        "sender",
        "origin_server_ts",
        "content",
        "hashes",
        "signatures",
    ] {
        assert_eq!(
            dropped(without(hub_pdu().object(), field)),
            Dropped::MissingField { field }
        );
        assert_eq!(
            dropped(with(hub_pdu().object(), field, true)),
            Dropped::WrongType { field }
        );
    }
    for field in ["auth_events", "prev_events"] {
        assert_eq!(
            dropped(without(hub_pdu().object(), field)),
            Dropped::MixedForm { field }
        );
        assert_eq!(
            dropped(with(hub_pdu().object(), field, "$x")),
            Dropped::WrongType { field }
        );
    }
    for field in ["state_key", "hub_server"] {
        assert_eq!(
            dropped(with(lpdu_pdu().object(), field, Json::Null)),
            Dropped::WrongType { field }
        );
    }
}

#[test]
fn identifiers_must_parse() {
    for (field, value, kind) in [
        ("sender", "@Alice:p", IdKind::UserId),
        ("sender", "@:p", IdKind::UserId),
        ("room_id", "!:h", IdKind::RoomId),
        ("hub_server", "1.2.3.4", IdKind::ServerName),
        ("hub_server", "[::1]", IdKind::ServerName),
    ] {
        let reason = dropped(with(lpdu_pdu().object(), field, value));
        assert!(
            matches!(reason, Dropped::InvalidId { field: f, reason } if f == field && reason.kind == kind),
            "{reason}"
        );
    }
    for field in ["auth_events", "prev_events"] {
        let reason = dropped(with(hub_pdu().object(), field, vec!["$short"]));
        assert!(
            matches!(reason, Dropped::InvalidId { field: f, .. } if f == field),
            "{reason}"
        );
        assert_eq!(
            dropped(with(hub_pdu().object(), field, vec![1_i64])),
            Dropped::WrongType { field }
        );
    }
}

#[test]
fn timestamp_is_a_safe_integer() {
    let at = |ts: Json| with(hub_pdu().object(), "origin_server_ts", ts);
    for (text, millis) in [
        ("5.0", 5),
        ("-1", 0),
        ("9007199254740991", MAX_SAFE_INTEGER.unsigned_abs()),
    ] {
        assert_eq!(
            raw(&at(Json::parse(text.as_bytes()).unwrap())).origin_server_ts(),
            UnixMillis(millis)
        );
    }
    for text in ["5.5", "9007199254740992", "\"5\"", "1e300"] {
        let field = "origin_server_ts";
        assert_eq!(
            dropped(at(Json::parse(text.as_bytes()).unwrap())),
            Dropped::WrongType { field }
        );
    }
}

#[test]
fn lpdu_with_auth_events_is_dropped() {
    let mixed = with(lpdu().object(), "auth_events", Json::Array(Vec::new()));
    assert_eq!(dropped(mixed), Dropped::MixedForm { field: "prev_events" });
    let mixed = with(lpdu().object(), "prev_events", Json::Array(Vec::new()));
    assert_eq!(dropped(mixed), Dropped::MixedForm { field: "auth_events" });
}

#[test]
fn lpdu_with_a_hash_of_its_own_is_dropped() {
    let mut hashes = lpdu().object().get("hashes").and_then(Json::as_object).unwrap().clone();
    hashes.insert("sha256", "AAAA");
    assert_eq!(
        dropped(with(lpdu().object(), "hashes", hashes)),
        Dropped::MixedForm { field: "hashes" }
    );
}

#[test]
fn pdu_without_a_content_hash_is_dropped() {
    let lpdu_only = lpdu().object().get("hashes").unwrap().clone();
    assert_eq!(
        dropped(with(lpdu_pdu().object(), "hashes", lpdu_only)),
        Dropped::MixedForm { field: "hashes" }
    );
    let wrong = object! { "sha256" => 5 };
    assert_eq!(
        dropped(with(hub_pdu().object(), "hashes", wrong)),
        Dropped::WrongType { field: "hashes.sha256" }
    );
}

#[test]
fn pdu_with_hub_server_but_no_lpdu_hash_is_dropped() {
    let hashes = object! { "sha256" => "AAAA" };
    assert_eq!(
        dropped(with(lpdu_pdu().object(), "hashes", hashes)),
        Dropped::LpduHashMismatch
    );
}

#[test]
fn pdu_with_an_lpdu_hash_but_no_hub_server_is_dropped() {
    assert_eq!(
        dropped(without(lpdu_pdu().object(), "hub_server")),
        Dropped::LpduHashMismatch
    );
}

#[test]
fn event_without_hub_server_auth_or_prev_events_is_neither_form() {
    let neither = without(&without(hub_pdu().object(), "auth_events"), "prev_events");
    assert_eq!(dropped(neither), Dropped::MixedForm { field: "hub_server" });
}

#[test]
fn lpdu_hash_must_have_a_shape() {
    for (lpdu_hash, reason) in [
        (Json::from("x"), Dropped::WrongType { field: "hashes.lpdu" }),
        (
            Json::from(object! {}),
            Dropped::MissingField {
                field: "hashes.lpdu.sha256",
            },
        ),
        (
            Json::from(object! { "sha256" => 1 }),
            Dropped::WrongType {
                field: "hashes.lpdu.sha256",
            },
        ),
    ] {
        let hashes = object! { "lpdu" => lpdu_hash };
        assert_eq!(dropped(with(lpdu().object(), "hashes", hashes)), reason);
    }
}

#[test]
fn completed_event_has_exactly_one_previous_event_and_others_at_least_one() {
    let prev = |event: &Pdu, count: u8| {
        let ids: Json = (0..count).map(some_id).collect();
        RawEvent::from_json(with(event.object(), "prev_events", ids), RULES).map(|_| ())
    };
    let wrong = |count| Err(Dropped::PrevEventsCount { count });
    assert_eq!(
        [0, 1, 2].map(|count| prev(&lpdu_pdu(), count)),
        [wrong(0), Ok(()), wrong(2)]
    );
    assert_eq!(
        [0, 1, 2].map(|count| prev(&hub_pdu(), count)),
        [wrong(0), Ok(()), Ok(())]
    );
    let create = builder(
        "m.room.create",
        "@alice:hub.example.org",
        object! { "room_version" => "I.1" },
    );
    let create = create.state_key("").build_pdu(&hub(), vec![], vec![], RULES).unwrap();
    assert_eq!([0, 1].map(|count| prev(&create, count)), [Ok(()), Ok(())]);
}

#[test]
fn unknown_top_level_fields_are_allowed() {
    assert!(RawEvent::from_json(with(hub_pdu().object(), "org.example.extra", 1), RULES).is_ok());
}

#[test]
fn what_is_not_one_json_object_is_dropped() {
    assert!(matches!(RawEvent::parse(b"nope", RULES), Err(Dropped::NotJson(_))));
    assert!(matches!(
        RawEvent::parse(b"{\"a\":1,\"a\":1}", RULES),
        Err(Dropped::NotJson(_))
    ));
    assert_eq!(RawEvent::parse(b"[]", RULES).unwrap_err(), Dropped::NotAnObject);
    let huge = vec![b' '; 8 * 65_536 + 1];
    assert!(matches!(RawEvent::parse(&huge, RULES), Err(Dropped::NotJson(_))));
}

#[test]
fn two_room_versions_are_supported_and_differ_in_rule_9_8_only() {
    let rules = |id: &str| RoomVersionRules::for_id(&RoomVersionId::parse(id).unwrap());
    let stable = rules("I.1").unwrap();
    let unstable = rules("org.matrix.i-d.ralston-mimi-linearized-matrix.02").unwrap();
    assert_eq!(stable.user_level_change, PowerLevelUserRule::GreaterThan);
    assert_eq!(unstable.user_level_change, PowerLevelUserRule::AtLeast);
    for other in [
        "i.1",
        "1",
        "11",
        "org.matrix.i-d.ralston-mimi-linearized-matrix.00",
        "org.matrix.msc3995",
    ] {
        assert_eq!(rules(other), None, "{other}");
    }
}
