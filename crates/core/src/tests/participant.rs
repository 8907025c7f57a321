//! The participant: PDUs from the hub (LM #int-receiving-events).

use nabe_auth::lm::{AuthRejection, RoomState, select_auth_events};
use nabe_types::EventId;

use super::*;
use crate::{EntryBody, HoleReason, Input, Question, Reply};

/// A room in which Bob and Carol are joined and everything has arrived.
fn joined() -> World {
    let mut world = World::new();
    world.joins(BOB);
    world.joins(CAROL);
    world.deliver_everything();
    world
}

fn decides(view: &RoomView, place: usize, input: &Input) -> Result<Decision, Refusal> {
    let signer = peer_signer(place);
    view.decide(
        input,
        &Ctx {
            now: NOW,
            server: signer.server(),
            signer: &signer,
        },
    )
}

fn pdu(object: &Object, from: &str) -> Input {
    Input::Pdu {
        event: received(object),
        from: name(from),
        held: None,
    }
}

/// An event the hub makes after `prev` without asking its own rules.
fn forced(
    world: &World,
    prev: &EventId,
    sender: u8,
    state_key: Option<&str>,
    event_type: &str,
    content: Object,
) -> Pdu {
    let mut builder = EventBuilder::new(room_id(), event_type, user(sender), NOW, content);
    if let Some(state_key) = state_key {
        builder = builder.state_key(state_key);
    }
    let event = builder.clone().unsigned(world.hub.rules()).unwrap();
    let auth_events = select_auth_events(&event, world.hub.state());
    builder
        .build_pdu(&hub_signer(), auth_events, vec![prev.clone()], world.hub.rules())
        .unwrap()
}

/// A message by Alice at the participant's head that the hub proves by these events.
fn proved_by(world: &World, auth_events: &[&EventId]) -> Pdu {
    let head = view_of(world, 0).head().unwrap().clone();
    let auth_events = auth_events.iter().copied().cloned().collect();
    EventBuilder::new(room_id(), "m.room.encrypted", user(ALICE), NOW, object! {})
        .build_pdu(&hub_signer(), auth_events, vec![head], world.hub.rules())
        .unwrap()
}

/// The same input once the participant's store has been asked, which holds these.
fn with_held(event: &Pdu, events: &[&Pdu]) -> Input {
    Input::Pdu {
        event: received(event.object()),
        from: name(HUB),
        held: Some(events.iter().copied().cloned().collect()),
    }
}

/// The rule for which a hole takes the event's place; `None` if it is accepted.
fn rule_of(decision: Result<Decision, Refusal>) -> Option<String> {
    match &done(decision.unwrap()).append[0].body {
        EntryBody::Event(_) => None,
        EntryBody::Hole {
            reason: HoleReason::Rejected { rule },
            ..
        } => Some(rule.to_string()),
        EntryBody::Hole { reason, .. } => panic!("{reason}"),
    }
}

fn asked_for(decision: Result<Decision, Refusal>) -> Vec<EventId> {
    match decision {
        Ok(Decision::Ask(Question::AuthEvents { ids })) => ids,
        other => panic!("{other:?}"),
    }
}

#[test]
fn rule_4_1_an_auth_event_named_twice_leaves_a_hole() {
    let world = joined();
    let view = view_of(&world, 0);
    let get = |kind: &str, key: &str| view.state().get(kind, key).unwrap().event_id().clone();
    let (create, alice) = (get("m.room.create", ""), get("m.room.member", user(ALICE).as_str()));
    let twice = proved_by(&world, &[&create, &alice, &alice]);
    assert_eq!(
        rule_of(decides(view, 0, &pdu(twice.object(), HUB))).as_deref(),
        Some("4.1")
    );
    let unknown = EventId::from_hash([9; 32]);
    let twice = proved_by(&world, &[&create, &unknown, &unknown]);
    assert_eq!(
        rule_of(decides(view, 0, &with_held(&twice, &[]))).as_deref(),
        Some("4.1")
    );
}

#[test]
fn rule_4_1_two_auth_events_of_one_key_leave_a_hole() {
    let mut world = joined();
    let get = |world: &World, kind: &str| world.hub.state().get(kind, "").unwrap().clone();
    let (create, older) = (get(&world, "m.room.create"), get(&world, "m.room.power_levels"));
    let users = object! { "users" => object! { user(ALICE).as_str() => 100 } };
    world
        .send(&user(ALICE), "m.room.power_levels", Some(""), users)
        .unwrap();
    world.deliver_everything();
    let newer = get(&world, "m.room.power_levels");
    let view = view_of(&world, 0);
    let both = proved_by(&world, &[create.event_id(), newer.event_id(), older.event_id()]);
    let ids = asked_for(decides(view, 0, &pdu(both.object(), HUB)));
    assert_eq!(ids, [older.event_id().clone()]);
    assert_eq!(
        rule_of(decides(view, 0, &with_held(&both, &[&older]))).as_deref(),
        Some("4.1")
    );
    // An older one alone breaks no rule: only type and state key count.
    let alone = proved_by(&world, &[create.event_id(), older.event_id()]);
    assert_eq!(rule_of(decides(view, 0, &with_held(&alone, &[&older]))), None);
}

#[test]
fn rule_4_2_an_auth_event_outside_the_selection_leaves_a_hole() {
    let world = joined();
    let view = view_of(&world, 0);
    let create = view.state().get("m.room.create", "").unwrap();
    let rules = view.state().get("m.room.join_rules", "").unwrap();
    let foreign = proved_by(&world, &[create.event_id(), rules.event_id()]);
    let ids = asked_for(decides(view, 0, &pdu(foreign.object(), HUB)));
    assert_eq!(ids, [rules.event_id().clone()]);
    assert_eq!(
        rule_of(decides(view, 0, &with_held(&foreign, &[rules]))).as_deref(),
        Some("4.2")
    );
    // More than can be selected are too many, and nobody has to look for them.
    let unknown: Vec<_> = (0..3).map(|n| EventId::from_hash([n; 32])).collect();
    let [a, b, c] = &unknown[..] else { unreachable!() };
    let many = proved_by(&world, &[create.event_id(), a, b, c]);
    assert_eq!(
        rule_of(decides(view, 0, &pdu(many.object(), HUB))).as_deref(),
        Some("4.2")
    );
}

#[test]
fn rule_4_3_auth_events_without_the_create_event_leave_a_hole() {
    let world = joined();
    let view = view_of(&world, 0);
    let alice = view.state().get("m.room.member", user(ALICE).as_str()).unwrap();
    for auth_events in [&[][..], &[alice.event_id()]] {
        let without = proved_by(&world, auth_events);
        assert_eq!(
            rule_of(decides(view, 0, &pdu(without.object(), HUB))).as_deref(),
            Some("4.3")
        );
    }
}

#[test]
fn an_auth_event_that_a_participant_does_not_hold_breaks_no_rule() {
    let world = joined();
    let view = view_of(&world, 0);
    let create = view.state().get("m.room.create", "").unwrap();
    let unknown = EventId::from_hash([9; 32]);
    let event = proved_by(&world, &[create.event_id(), &unknown]);
    let ids = asked_for(decides(view, 0, &pdu(event.object(), HUB)));
    assert_eq!(ids, [unknown]);
    assert_eq!(rule_of(decides(view, 0, &with_held(&event, &[]))), None);
}

/// Case 19.
#[test]
fn altered_content_is_stored_redacted() {
    let mut world = joined();
    world.says(ALICE, "genuine").unwrap();
    let mut object = world.newest().object().clone();
    object.insert("content", object! { "ciphertext" => "altered" });
    let input = pdu(&object, HUB);
    let outcome = done(decides(view_of(&world, 0), 0, &input).unwrap());
    let stored = outcome.append[0].pdu().unwrap();
    assert_eq!(*stored.content(), Object::new());
    assert_eq!(stored.event_id(), world.newest().event_id());
}

/// Case 23.
#[test]
fn an_lpdu_at_a_participant_is_dropped() {
    let world = joined();
    let event = lpdu_for(PEERS[0].0, 1, &user(CAROL), "m.room.encrypted", None, object! {});
    let input = Input::Lpdu {
        event,
        from: name(PEERS[1].0),
        via: Via::Send,
    };
    let refusal = decides(view_of(&world, 0), 0, &input).unwrap_err();
    assert_eq!(refusal, Refusal::NotHub { hub: name(HUB) });
    assert!(refusal.is_silent());
}

/// Case 24.
#[test]
fn a_pdu_pushed_by_anyone_but_the_hub_is_dropped() {
    let mut world = joined();
    world.says(ALICE, "x").unwrap();
    let refusal = decides(view_of(&world, 0), 0, &pdu(world.newest().object(), PEERS[1].0)).unwrap_err();
    assert_eq!(
        refusal,
        Refusal::NotFromHub {
            hub: name(HUB),
            from: name(PEERS[1].0)
        }
    );
    assert!(refusal.is_silent());
}

#[test]
fn a_pdu_pushed_to_the_hub_is_dropped() {
    let world = joined();
    let signer = hub_signer();
    let ctx = Ctx {
        now: NOW,
        server: signer.server(),
        signer: &signer,
    };
    let refusal = world
        .hub
        .decide(&pdu(world.newest().object(), PEERS[0].0), &ctx)
        .unwrap_err();
    assert_eq!(
        refusal,
        Refusal::NotFromHub {
            hub: name(HUB),
            from: name(PEERS[0].0)
        }
    );
}

#[test]
fn a_gap_is_asked_about_and_the_head_is_known() {
    let mut world = joined();
    world.says(ALICE, "one").unwrap();
    let missing = world.newest().event_id().clone();
    world.says(ALICE, "two").unwrap();
    let view = view_of(&world, 0);
    assert_eq!(
        decides(view, 0, &pdu(world.newest().object(), HUB)),
        Ok(Decision::Ask(Question::Backfill { missing }))
    );
    world.deliver_everything();
    let view = view_of(&world, 0);
    let outcome = done(decides(view, 0, &pdu(world.newest().object(), HUB)).unwrap());
    let event_id = world.newest().event_id().clone();
    assert_eq!(
        outcome.reply,
        Reply::AlreadyKnown {
            event_id,
            position: view.position()
        }
    );
    assert_eq!(outcome.append, []);
}

#[test]
fn an_event_the_rules_forbid_leaves_a_hole_and_the_chain_goes_on() {
    let world = joined();
    let mut view = view_of(&world, 0).clone();
    let head = view.head().unwrap().clone();
    let forbidden = forced(&world, &head, ANNE, None, "m.room.encrypted", object! {});
    let outcome = done(decides(&view, 0, &pdu(forbidden.object(), HUB)).unwrap());
    let event_id = forbidden.event_id().clone();
    assert_eq!(
        outcome.append[0].body,
        EntryBody::Hole {
            event_id: event_id.clone(),
            reason: HoleReason::Rejected { rule: "6".into() }
        }
    );
    assert_eq!(
        outcome.reply,
        Reply::Recorded {
            event_id,
            position: view.position().next()
        }
    );
    view.apply(&outcome);
    let next = forced(
        &world,
        forbidden.event_id(),
        ALICE,
        None,
        "m.room.encrypted",
        object! {},
    );
    assert!(matches!(
        done(decides(&view, 0, &pdu(next.object(), HUB)).unwrap()).reply,
        Reply::Appended { .. }
    ));
}

#[test]
fn a_rejected_state_event_does_not_change_the_state() {
    let world = joined();
    let mut view = view_of(&world, 0).clone();
    let before = view.state().clone();
    let head = view.head().unwrap().clone();
    let forbidden = forced(
        &world,
        &head,
        ANNE,
        Some(""),
        "m.room.topic",
        object! { "topic" => "mine" },
    );
    view.apply(&done(decides(&view, 0, &pdu(forbidden.object(), HUB)).unwrap()));
    assert_eq!(*view.state(), before);
    assert_eq!(view.head(), Some(forbidden.event_id()));
}

#[test]
fn an_event_nobody_vouches_for_leaves_a_hole() {
    let world = joined();
    let view = view_of(&world, 0);
    let head = view.head().unwrap().clone();
    // Signed by Carol's server alone, as if the room had no hub.
    let event = EventBuilder::new(room_id(), "m.room.encrypted", user(CAROL), NOW, object! {})
        .build_pdu(&peer_signer(1), vec![], vec![head], world.hub.rules())
        .unwrap();
    let outcome = done(decides(view, 0, &pdu(event.object(), HUB)).unwrap());
    let rule = AuthRejection::NotForCurrentHub.rule().into();
    assert_eq!(
        outcome.append[0].body,
        EntryBody::Hole {
            event_id: event.event_id().clone(),
            reason: HoleReason::Rejected { rule }
        }
    );
}

#[test]
fn an_invalid_event_becomes_a_hole_when_it_is_its_turn() {
    let mut world = joined();
    let head = view_of(&world, 0).head().unwrap().clone();
    world.says(ALICE, "one").unwrap();
    let first = world.newest().event_id().clone();
    world.says(ALICE, "two").unwrap();
    let second = world.newest().event_id().clone();
    let invalid = |event_id: &EventId, prev: &EventId, from: &str| Input::InvalidPdu {
        event_id: event_id.clone(),
        prev: prev.clone(),
        reason: HoleReason::BadSignature,
        from: name(from),
    };
    let mut view = view_of(&world, 0).clone();
    assert_eq!(
        decides(&view, 0, &invalid(&second, &first, HUB)),
        Ok(Decision::Ask(Question::Backfill { missing: first.clone() }))
    );
    assert!(decides(&view, 0, &invalid(&first, &head, PEERS[1].0)).is_err());
    view.apply(&done(decides(&view, 0, &invalid(&first, &head, HUB)).unwrap()));
    view.apply(&done(decides(&view, 0, &invalid(&second, &first, HUB)).unwrap()));
    assert_eq!(view.head(), Some(&second));
    let known = done(decides(&view, 0, &invalid(&second, &first, HUB)).unwrap());
    assert_eq!(known.append, []);
}

#[test]
fn a_server_without_users_in_the_room_takes_nothing_in() {
    let mut world = joined();
    world.changes(BOB, BOB, "leave").unwrap();
    world.deliver_everything();
    world.says(ALICE, "after").unwrap();
    let refusal = decides(view_of(&world, 0), 0, &pdu(world.newest().object(), HUB)).unwrap_err();
    assert_eq!(refusal, Refusal::NotParticipating);
    assert!(refusal.is_silent());
}

#[test]
fn a_participant_makes_no_templates() {
    let world = joined();
    let answer = view_of(&world, 0).template(&user(BOB), nabe_auth::lm::Membership::Leave);
    assert_eq!(answer, Err(Refusal::NotHub { hub: name(HUB) }));
}

#[test]
fn a_soft_failed_event_moves_the_head_and_not_the_state() {
    let mut world = joined();
    world
        .send(&user(ALICE), "m.room.topic", Some(""), object! { "topic" => "x" })
        .unwrap();
    let mut view = view_of(&world, 0).clone();
    let before = view.state().clone();
    let mut outcome = done(decides(&view, 0, &pdu(world.newest().object(), HUB)).unwrap());
    outcome.append[0].soft_failed = true;
    view.apply(&outcome);
    assert_eq!(*view.state(), before);
    assert_eq!(view.head(), Some(world.newest().event_id()));
}
