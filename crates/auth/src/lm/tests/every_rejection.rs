//! Walks the table of rejections: each one is produced, under its own rule number.

use std::collections::BTreeSet;

use super::*;

/// One event per rejection, with the room and the auth events it is judged by.
fn produced() -> Vec<Verdict> {
    let room = Room::new();
    let knock = room.clone().join_rule("knock");
    let current = |event_type: &str, key: &str| Some(room.current(event_type, key));
    let for_guest_hub = {
        let mut event = event(BOB, "m.room.message", None, object! {});
        event.insert("hub_server", "guest");
        with(
            event,
            "hashes",
            object! { "sha256" => "", "lpdu" => object! { "sha256" => "" } },
        )
    };
    let levels_of_mod = |field: &str, value: Json| room.ask(&power(MOD, levels_with(field, value)));
    let some_ids = || vec![EventId::from_hash([7; 32])];
    vec![
        room.ask(&for_guest_hub),
        Room::empty().ask(&with(create_event(), "prev_events", some_ids())),
        Room::empty().ask(&with(create_event(), "room_id", "!room:guest")),
        Room::empty().ask(&with(create_event(), "content", object! {})),
        Room::empty().ask(&with(create_event(), "auth_events", some_ids())),
        Room::empty().ask(&with(create_event(), "state_key", "x")),
        room.ask(&create()),
        room.ask_with(
            &message(BOB),
            &Rule4Input::Resolved(vec![current("m.room.create", ""), current("m.room.create", "")]),
        ),
        room.ask_with(
            &message(BOB),
            &Rule4Input::Resolved(vec![current("m.room.join_rules", "")]),
        ),
        room.ask_with(&message(BOB), &Rule4Input::Resolved(vec![])),
        room.ask(&pdu(&event(BOB, "m.room.member", None, object! {}))),
        room.ask(&state(BOB, "m.room.member", BOB, object! {})),
        room.ask(&member(BOB, "bob", "join")),
        room.ask(&member(BOB, DAVE, "join")),
        room.ask(&member(EVE, EVE, "join")),
        room.ask(&member(DAVE, DAVE, "join")),
        room.ask(&member(DAVE, KEN, "invite")),
        room.ask(&member(ALICE, BOB, "invite")),
        room.ask(&member(BOB, DAVE, "invite")),
        room.ask(&member(DAVE, DAVE, "leave")),
        room.ask(&member(DAVE, BOB, "leave")),
        room.ask(&member(BOB, EVE, "leave")),
        room.ask(&member(BOB, MOD, "leave")),
        room.ask(&member(DAVE, BOB, "ban")),
        room.ask(&member(BOB, MOD, "ban")),
        room.ask(&member(DAVE, DAVE, "knock")),
        knock.ask(&member(BOB, DAVE, "knock")),
        knock.ask(&member(EVE, EVE, "knock")),
        room.ask(&member(BOB, BOB, "foo")),
        room.ask(&message(DAVE)),
        room.ask(&state(BOB, "m.room.name", "", object! {})),
        room.ask(&state(ALICE, "org.example.custom", BOB, object! {})),
        levels_of_mod("ban", "50".into()),
        levels_of_mod("events", 5.into()),
        levels_of_mod("users", 5.into()),
        levels_of_mod("redact", 0.into()),
        levels_of_mod("ban", 60.into()),
        levels_of_mod("events", object! {}.into()),
        levels_of_mod(
            "events",
            object! { "m.room.name" => 60, "org.example.low" => 51 }.into(),
        ),
        levels_of_mod("users", object! {}.into()),
        levels_of_mod(
            "users",
            object! { ALICE => 100, ANNE => 100, MOD => 50, BOB => 51 }.into(),
        ),
    ]
}

#[test]
fn every_rejection_is_produced_in_the_order_of_the_rules() {
    let rejections: Vec<AuthRejection> = produced().into_iter().map(|verdict| verdict.unwrap_err()).collect();
    assert_eq!(rejections, AuthRejection::ALL);
}

#[test]
fn every_rejection_has_a_rule_and_a_sentence_of_its_own() {
    let sentences: BTreeSet<String> = AuthRejection::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(sentences.len(), AuthRejection::ALL.len());
    let rules: BTreeSet<&str> = AuthRejection::ALL.iter().map(|rejection| rejection.rule()).collect();
    // Rule 5.1 rejects for two reasons.
    assert_eq!(rules.len(), AuthRejection::ALL.len() - 1);
}
