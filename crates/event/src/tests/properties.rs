//! What holds for any event.

use nabe_signing::json::{Json, Number};
use proptest::prelude::*;

use super::*;
use crate::{BuildError, event_id_of, fuzzing, redact};

/// Any JSON of a few levels, with safe numbers.
fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i32>().prop_map(|number| Json::from(i64::from(number))),
        ".{0,8}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            prop::collection::vec((key(), inner), 0..4).prop_map(|entries| Json::Object(entries.into_iter().collect())),
        ]
    })
}

/// Keys that redaction knows, and others.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "membership",
            "join_rule",
            "users",
            "ban",
            "sha256",
            "lpdu",
            "room_version",
            "history_visibility",
        ])
        .prop_map(str::to_owned),
        ".{0,6}",
    ]
}

fn object() -> impl Strategy<Value = Object> {
    prop::collection::vec((key(), json()), 0..6).prop_map(|entries| entries.into_iter().collect())
}

fn event_type() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "m.room.create",
        "m.room.member",
        "m.room.join_rules",
        "m.room.power_levels",
        "m.room.history_visibility",
        "m.room.message",
        "org.example.\u{1f600}",
    ])
}

/// Objects that resemble events, well-formed or not.
fn event_like() -> impl Strategy<Value = Object> {
    let fields = prop::sample::select(vec![
        "type",
        "room_id",
        "sender",
        "state_key",
        "content",
        "origin_server_ts",
        "hashes",
        "signatures",
        "prev_events",
        "auth_events",
        "hub_server",
        "unsigned",
        "event_id",
        "\u{e000}",
        "\u{1f600}",
    ]);
    let fields = prop::collection::vec((fields.prop_map(str::to_owned), json()), 0..12);
    (fields, event_type(), object()).prop_map(|(fields, event_type, content)| {
        let mut object: Object = fields.into_iter().collect();
        object.insert("type", event_type);
        if !object.contains_key("content") {
            object.insert("content", content);
        }
        object
    })
}

proptest! {
    #[test]
    fn redaction_is_idempotent_and_keeps_the_event_id(event in event_like()) {
        let redacted = redact(&event, RULES);
        prop_assert_eq!(redact(&redacted, RULES), redacted.clone());
        prop_assert_eq!(event_id_of(&redacted), event_id_of(&event));
    }

    #[test]
    fn event_id_is_independent_of_signatures(event in event_like(), signatures in json()) {
        prop_assert_eq!(event_id_of(&with(&event, "signatures", signatures)), event_id_of(&event));
    }

    #[test]
    fn event_id_is_the_hash_of_the_redacted_event(event in event_like()) {
        let redacted = without(&redact(&event, RULES), "signatures");
        prop_assert_eq!(event_id_of(&event), EventId::from_hash(nabe_signing::sha256(&redacted.to_canonical())));
    }

    #[test]
    fn completing_an_lpdu_and_recovering_it_gives_the_same_id(event_type in event_type(), content in object()) {
        let lpdu = builder(event_type, "@bob:second.example.org", content);
        let lpdu = lpdu.build_lpdu(&participant(), hub().server(), RULES).unwrap();
        let lpdu_id = lpdu.lpdu_id().clone();
        let pdu = complete(lpdu);
        prop_assert_eq!(pdu.lpdu_id(), Some(lpdu_id));
        prop_assert_eq!(&pdu.bytes()[..], pdu.object().to_canonical());
        prop_assert_eq!(pdu.event_id(), &event_id_of(pdu.object()));
    }

    #[test]
    fn what_we_author_verifies(event_type in event_type(), content in object(), state_key in proptest::option::of(".{0,20}")) {
        let builder = builder(event_type, "@bob:second.example.org", content);
        let builder = match state_key { Some(key) => builder.state_key(key), None => builder };
        let lpdu = builder.build_lpdu(&participant(), hub().server(), RULES).unwrap();
        let received = RawEvent::parse(lpdu.bytes(), RULES).unwrap().verify_lpdu(&keys()).unwrap();
        prop_assert!(!received.was_redacted());
        let pdu = complete(received);
        let received = RawEvent::parse(pdu.bytes(), RULES).unwrap().verify_pdu(&keys()).unwrap();
        prop_assert!(!received.was_redacted());
        prop_assert_eq!(received.into_pdu(), pdu);
    }

    #[test]
    fn no_float_leaves_the_builder(number in any::<f64>().prop_filter("JSON is finite", |number| number.is_finite())) {
        let number = Number::from_f64(number).unwrap();
        let safe = number.as_i64().is_some();
        let built = builder("t", "@bob:second.example.org", nabe_signing::object! { "n" => number })
            .build_lpdu(&participant(), hub().server(), RULES);
        prop_assert_eq!(built.is_ok(), safe);
        prop_assert!(safe || matches!(built, Err(BuildError::UnsafeNumber)));
    }

    #[test]
    fn fuzzing_invariants_hold_for_anything_like_an_event(event in event_like(), bytes in any::<Vec<u8>>()) {
        fuzzing::raw_event(&event.to_canonical());
        fuzzing::raw_event(&bytes);
    }

    #[test]
    fn fuzzing_invariants_hold_for_events_with_any_field_replaced(
        field in prop::sample::select(vec!["type", "content", "hashes", "signatures", "prev_events", "hub_server", "x"]),
        value in json(),
    ) {
        for event in [lpdu().object(), lpdu_pdu().object(), hub_pdu().object()] {
            fuzzing::raw_event(&with(event, field, value.clone()).to_canonical());
        }
    }
}
