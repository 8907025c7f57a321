//! Rules 2a, 3 and 4, and the selection of auth events.

use super::*;

#[test]
fn rule_2a_event_made_for_another_hub_is_rejected() {
    let made_for = |hub: &str| {
        let mut event = event(BOB, "m.room.message", None, object! {});
        event.insert("hub_server", hub);
        with(
            event,
            "hashes",
            object! { "sha256" => "", "lpdu" => object! { "sha256" => "" } },
        )
    };
    assert_eq!(
        Room::new().ask(&made_for("guest")),
        Err(AuthRejection::NotForCurrentHub)
    );
    assert_eq!(Room::new().ask(&made_for("hub")), Ok(()));
    assert_eq!(Room::new().ask(&message(BOB)), Ok(()), "the hub's own events name none");
}

#[test]
fn rule_3_1_create_with_previous_events_is_rejected() {
    let create = with(create_event(), "prev_events", vec![EventId::from_hash([7; 32])]);
    assert_eq!(Room::empty().ask(&create), Err(AuthRejection::CreateWithPrevEvents));
}

#[test]
fn rule_3_2_create_in_another_servers_domain_is_rejected() {
    let create = with(create_event(), "room_id", "!room:guest");
    assert_eq!(Room::empty().ask(&create), Err(AuthRejection::CreateInForeignDomain));
}

#[test]
fn rule_3_3_create_for_another_version_is_rejected() {
    let unstable = "org.matrix.i-d.ralston-mimi-linearized-matrix.02";
    for version in [Json::from(unstable), Json::from("i.1"), Json::from(1), Json::Null] {
        let create = with(create_event(), "content", object! { "room_version" => version });
        assert_eq!(Room::empty().ask(&create), Err(AuthRejection::CreateForAnotherVersion));
    }
    let missing = with(create_event(), "content", object! {});
    assert_eq!(Room::empty().ask(&missing), Err(AuthRejection::CreateForAnotherVersion));

    let room = Room {
        rules: &RoomVersionRules::UNSTABLE_02,
        ..Room::empty()
    };
    assert_eq!(
        room.ask(&with(create_event(), "content", object! { "room_version" => unstable })),
        Ok(())
    );
    assert_eq!(room.ask(&create()), Err(AuthRejection::CreateForAnotherVersion));
}

#[test]
fn rule_3_4_proper_create_is_allowed() {
    assert_eq!(Room::empty().ask(&create()), Ok(()));
}

#[test]
fn rule_3a_create_with_auth_events_is_rejected() {
    let create = with(create_event(), "auth_events", vec![EventId::from_hash([7; 32])]);
    assert_eq!(Room::empty().ask(&create), Err(AuthRejection::CreateWithAuthEvents));
}

#[test]
fn rule_3b_create_with_a_state_key_or_none_is_rejected() {
    assert_eq!(
        Room::empty().ask(&with(create_event(), "state_key", "x")),
        Err(AuthRejection::CreateWithStateKey)
    );
    let mut not_state = create_event();
    not_state.remove("state_key");
    assert_eq!(
        Room::empty().ask(&pdu(&not_state)),
        Err(AuthRejection::CreateWithStateKey)
    );
}

#[test]
fn rule_3c_room_is_created_once() {
    assert_eq!(Room::created().ask(&create()), Err(AuthRejection::SecondCreate));
}

#[test]
fn rule_4_1_duplicate_auth_events_are_rejected() {
    let room = Room::new();
    let (create, bob) = (room.current("m.room.create", ""), room.current("m.room.member", BOB));
    let twice = Rule4Input::Resolved(vec![Some(create), Some(bob), Some(bob)]);
    assert_eq!(
        room.ask_with(&message(BOB), &twice),
        Err(AuthRejection::DuplicateAuthEvent)
    );
    // Two different events for one type and state key count as well.
    let older = member(BOB, BOB, "invite");
    let both = Rule4Input::Resolved(vec![Some(create), Some(bob), Some(&older)]);
    assert_eq!(
        room.ask_with(&message(BOB), &both),
        Err(AuthRejection::DuplicateAuthEvent)
    );
}

#[test]
fn rule_4_2_auth_event_outside_the_selection_is_rejected() {
    let room = Room::new();
    let create = room.current("m.room.create", "");
    let reject = |extra: Option<&Pdu>| room.ask_with(&message(BOB), &Rule4Input::Resolved(vec![Some(create), extra]));
    let unexpected = Err(AuthRejection::UnexpectedAuthEvent);
    assert_eq!(reject(Some(room.current("m.room.join_rules", ""))), unexpected);
    assert_eq!(reject(Some(room.current("m.room.member", ALICE))), unexpected);
    assert_eq!(reject(Some(&message(BOB))), unexpected, "not state");
    assert_eq!(reject(None), unexpected, "unknown");
    let elsewhere = with(
        event(BOB, "m.room.member", Some(BOB), object! {}),
        "room_id",
        "!other:hub",
    );
    assert_eq!(reject(Some(&elsewhere)), unexpected, "of another room");
    assert_eq!(reject(Some(room.current("m.room.member", BOB))), Ok(()));
}

#[test]
fn rule_4_3_create_must_be_among_the_auth_events_and_in_the_state() {
    let room = Room::new();
    let only_member = Rule4Input::Resolved(vec![Some(room.current("m.room.member", BOB))]);
    assert_eq!(
        room.ask_with(&message(BOB), &only_member),
        Err(AuthRejection::NoCreateEvent)
    );
    assert_eq!(
        room.ask_with(&message(BOB), &Rule4Input::Resolved(vec![])),
        Err(AuthRejection::NoCreateEvent)
    );
    assert_eq!(Room::empty().ask(&message(BOB)), Err(AuthRejection::NoCreateEvent));
}

#[test]
fn rule_4_is_checked_for_those_auth_events_that_are_held() {
    let room = Room::new();
    let (create, bob) = (room.current("m.room.create", ""), room.current("m.room.member", BOB));
    let rules = room.current("m.room.join_rules", "");
    let unknown = EventId::from_hash([9; 32]);
    let ask = |ids: &[&EventId]| {
        let ids: Vec<EventId> = ids.iter().copied().cloned().collect();
        let event = with(event(BOB, "m.room.message", None, object! {}), "auth_events", ids);
        let held = [create, bob, rules];
        let input = Rule4Input::held(&event, |id| held.into_iter().find(|held| held.event_id() == id));
        room.ask_with(&event, &input)
    };
    let (create, bob, rules) = (create.event_id(), bob.event_id(), rules.event_id());
    assert_eq!(ask(&[create, bob]), Ok(()));
    assert_eq!(ask(&[create, bob, &unknown]), Ok(()));
    assert_eq!(
        ask(&[create, &unknown, &unknown]),
        Err(AuthRejection::DuplicateAuthEvent)
    );
    assert_eq!(ask(&[create, bob, rules]), Err(AuthRejection::UnexpectedAuthEvent));
    let others = [[1; 32], [2; 32]].map(EventId::from_hash);
    assert_eq!(
        ask(&[create, &unknown, &others[0], &others[1]]),
        Err(AuthRejection::UnexpectedAuthEvent)
    );
    assert_eq!(ask(&[bob, &unknown]), Err(AuthRejection::NoCreateEvent));
}

#[test]
fn auth_events_are_looked_up_in_their_order() {
    let room = Room::new();
    let (create, bob) = (room.current("m.room.create", ""), room.current("m.room.member", BOB));
    let unknown = EventId::from_hash([9; 32]);
    let ids = vec![create.event_id().clone(), unknown, bob.event_id().clone()];
    let event = with(event(BOB, "m.room.message", None, object! {}), "auth_events", ids);
    let known = [create, bob];
    let input = Rule4Input::resolve(&event, |id| known.into_iter().find(|known| known.event_id() == id));
    let Rule4Input::Resolved(found) = &input else {
        panic!("it resolves")
    };
    assert_eq!(found, &[Some(create), None, Some(bob)]);
}

#[test]
fn every_event_names_create_power_levels_and_its_sender() {
    let expected = [
        ("m.room.create", ""),
        ("m.room.power_levels", ""),
        ("m.room.member", BOB),
    ];
    assert_eq!(auth_types(&message(BOB)), expected);
    assert_eq!(auth_types(&state(BOB, "m.room.name", "", object! {})), expected);
}

#[test]
fn create_names_nothing() {
    assert_eq!(auth_types(&create()), []);
    assert!(select_auth_events(&create(), &Room::new().state).is_empty());
}

#[test]
fn member_event_names_its_target_and_join_or_invite_the_join_rules() {
    let types = |sender: &'static str, membership: &str| -> Vec<(&'static str, String)> {
        let event = member(sender, BOB, membership);
        auth_types(&event)
            .into_iter()
            .skip(2)
            .map(|(event_type, key)| (event_type, key.to_owned()))
            .collect()
    };
    let (bob, anne, rules) = (
        ("m.room.member", BOB.to_owned()),
        ("m.room.member", ANNE.to_owned()),
        ("m.room.join_rules", String::new()),
    );
    assert_eq!(
        types(BOB, "join"),
        [bob.clone(), rules.clone()],
        "the sender is the target: once"
    );
    assert_eq!(types(ANNE, "invite"), [anne.clone(), bob.clone(), rules]);
    for membership in ["leave", "ban", "foo"] {
        assert_eq!(types(ANNE, membership), [anne.clone(), bob.clone()], "{membership}");
    }
    assert_eq!(types(BOB, "knock"), [bob], "a knock omits the join rules");
}

#[test]
fn only_current_events_are_selected() {
    let room = Room::created();
    let join = member(DAVE, DAVE, "join");
    assert_eq!(select_auth_events(&join, &room.state), [create().event_id().clone()]);
    let room = Room::new();
    let expected = [
        ("m.room.create", ""),
        ("m.room.power_levels", ""),
        ("m.room.join_rules", ""),
    ];
    let expected = expected.map(|(event_type, key)| room.current(event_type, key).event_id().clone());
    assert_eq!(select_auth_events(&join, &room.state), expected);
}
