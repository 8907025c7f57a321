//! The hub: LPDUs in, PDUs out (LM #int-receiving-events, LM #int-transport-room-membership).

use nabe_auth::lm::{AuthRejection, Membership};
use nabe_signing::json::Json;
use nabe_types::RoomVersionId;

use super::*;
use crate::{EntryBody, EventDraft, Input, Reply};

/// Case 14.
#[test]
fn a_message_is_completed_and_owed_to_every_participant() {
    let mut world = World::new();
    world.joins(BOB);
    world.joins(CAROL);
    let head = world.hub.head().cloned();
    let event = lpdu(0, BOB, "m.room.encrypted", None, object! { "ciphertext" => "x" });
    let outcome = done(world.decides(event.clone(), PEERS[0].0, Via::Send).unwrap());
    let [entry] = outcome.append.as_slice() else {
        panic!("{outcome:?}")
    };
    let pdu = entry.pdu().unwrap();
    assert_eq!(pdu.prev_events(), head.as_slice());
    assert_eq!(pdu.hub_server(), Some(&name(HUB)));
    assert_eq!(entry.lpdu_id.as_ref(), Some(event.lpdu_id()));
    assert_eq!(pdu.lpdu_id().as_ref(), Some(event.lpdu_id()));
    assert_eq!(
        outcome.reply,
        Reply::Appended {
            event_id: pdu.event_id().clone(),
            position: entry.position
        }
    );
    assert!(!received(pdu.object()).was_redacted());
    assert_eq!(
        world.hub.followers().cloned().collect::<Vec<_>>(),
        [name(PEERS[0].0), name(PEERS[1].0)]
    );

    world.says(BOB, "y").unwrap();
    let echo = world.newest().clone();
    assert!(world.participants.iter().all(|peer| peer.inbox.last() == Some(&echo)));
}

/// Case 16.
#[test]
fn an_event_made_for_another_hub_is_rejected() {
    let mut world = World::new();
    world.joins(BOB);
    let event = lpdu_for(PEERS[1].0, 0, &user(BOB), "m.room.encrypted", None, object! {});
    let refusal = world.decides(event, PEERS[0].0, Via::Send).unwrap_err();
    assert_eq!(
        refusal,
        Refusal::WrongHub {
            named: name(PEERS[1].0),
            hub: name(HUB)
        }
    );
    assert_eq!(refusal.rule(), Some("2a"));
    assert!(!refusal.is_silent(), "it is reported in failed_pdus");
}

/// Case 18.
#[test]
fn a_wrong_content_hash_is_appended_redacted() {
    let mut world = World::new();
    world.joins(BOB);
    let honest = lpdu(0, BOB, "m.room.encrypted", None, object! { "ciphertext" => "x" });
    let mut object = honest.event().object().clone();
    object.insert("content", object! { "ciphertext" => "forged" });
    let raw = RawEvent::from_json(object, world.hub.rules()).unwrap();
    let event = raw.verify_lpdu(&all_keys()).unwrap();
    assert!(event.was_redacted());
    let outcome = done(world.decides(event, PEERS[0].0, Via::Send).unwrap());
    let pdu = outcome.append[0].pdu().unwrap();
    assert_eq!(*pdu.content(), Object::new());
    assert_eq!(outcome.append[0].lpdu_id.as_ref(), Some(honest.lpdu_id()));
}

/// Case 22.
#[test]
fn a_signature_by_an_unrelated_server_is_ignored() {
    let mut world = World::new();
    world.joins(BOB);
    let mut object = lpdu(0, BOB, "m.room.encrypted", None, object! {})
        .event()
        .object()
        .clone();
    let signatures = object.get_mut("signatures").and_then(Json::as_object_mut).unwrap();
    signatures.insert("unrelated.example", object! { "ed25519:1" => "bm90IGEgc2lnbmF0dXJl" });
    let event = RawEvent::from_json(object, world.hub.rules())
        .unwrap()
        .verify_lpdu(&all_keys())
        .unwrap();
    assert!(matches!(
        world.decides(event, PEERS[0].0, Via::Send),
        Ok(Decision::Done(_))
    ));
}

#[test]
fn a_server_speaks_only_for_its_own_users() {
    let mut world = World::new();
    world.joins(BOB);
    world.joins(CAROL);
    let event = lpdu(0, BOB, "m.room.encrypted", None, object! {});
    assert_eq!(
        world.decides(event, PEERS[1].0, Via::Send),
        Err(Refusal::OriginIsNotSender {
            origin: name(PEERS[1].0),
            sender: user(BOB)
        })
    );
}

#[test]
fn an_event_of_another_room_is_refused() {
    let mut world = World::new();
    world.joins(BOB);
    let room = nabe_types::RoomId::parse("!other:hub.example").unwrap();
    let event = EventBuilder::new(room.clone(), "m.room.encrypted", user(BOB), NOW, object! {})
        .build_lpdu(&peer_signer(0), &name(HUB), world.hub.rules())
        .unwrap();
    assert_eq!(
        world.decides(event, PEERS[0].0, Via::Send),
        Err(Refusal::WrongRoom { found: room })
    );
}

#[test]
fn a_sender_who_is_not_joined_is_rejected() {
    let mut world = World::new();
    world.joins(BOB);
    let refusal = world.says(BEN, "x").unwrap_err();
    assert_eq!(refusal, Refusal::Rejected(AuthRejection::SenderNotJoined));
    assert_eq!(refusal.rule(), Some("6"));
}

/// Case 28.
#[test]
fn the_creators_join_follows_the_create_event_and_nobody_elses() {
    let world = World::new();
    assert_eq!(world.hub.membership(&user(ALICE)), Membership::Join);
    let signer = hub_signer();
    let ctx = Ctx {
        now: NOW,
        server: signer.server(),
        signer: &signer,
    };
    let mut view = RoomView::new_hub(world.hub.meta().clone()).unwrap();
    view.replay(&world.log[0]);
    let join = |sender, target: UserId| Input::Draft {
        draft: EventDraft {
            event_type: "m.room.member".to_owned(),
            state_key: Some(target.to_string()),
            sender,
            content: member("join"),
            origin_server_ts: NOW,
        },
    };
    assert!(matches!(
        view.decide(&join(user(ALICE), user(ALICE)), &ctx),
        Ok(Decision::Done(_))
    ));
    assert_eq!(
        view.decide(&join(user(ANNE), user(ALICE)), &ctx),
        Err(Refusal::Rejected(AuthRejection::JoinForSomeoneElse))
    );
    assert_eq!(
        view.decide(&join(user(ANNE), user(ANNE)), &ctx),
        Err(Refusal::Rejected(AuthRejection::JoinNotAllowed))
    );
}

/// Case 36.
#[test]
fn knocking_needs_the_rule_and_only_for_oneself() {
    let mut world = World::new();
    let knock = |world: &mut World, sender, target| world.changes(sender, target, "knock").map(drop);
    let rejected = |rejection| Err(Refusal::Rejected(rejection));
    assert_eq!(
        knock(&mut world, CAROL, CAROL),
        rejected(AuthRejection::KnockNotAllowed)
    );
    world
        .send(
            &user(ALICE),
            "m.room.join_rules",
            Some(""),
            object! { "join_rule" => "knock" },
        )
        .unwrap();
    assert_eq!(
        knock(&mut world, ALICE, CAROL),
        rejected(AuthRejection::KnockForSomeoneElse)
    );
    assert_eq!(knock(&mut world, CAROL, CAROL), Ok(()));
    world.changes(ALICE, CAROL, "invite").unwrap();
    assert_eq!(knock(&mut world, CAROL, CAROL), Ok(()), "an invited user may knock");
}

/// Case 44.
#[test]
fn auth_events_are_those_the_draft_lists_and_no_other() {
    let mut world = World::new();
    let types = |world: &World| {
        let ids = world.newest().auth_events();
        let find = |id: &nabe_types::EventId| world.log.iter().find(|entry| entry.event_id() == id).unwrap();
        ids.iter()
            .map(|id| {
                let event = find(id).pdu().unwrap();
                (event.event_type().to_owned(), event.state_key().unwrap().to_owned())
            })
            .collect::<Vec<_>>()
    };
    let entry = |event_type: &str, key: &str| (event_type.to_owned(), key.to_owned());
    let (create, levels) = (entry("m.room.create", ""), entry("m.room.power_levels", ""));
    let rules = entry("m.room.join_rules", "");

    world.joins(BOB);
    assert_eq!(types(&world), [create.clone(), levels.clone(), rules.clone()]);
    world.joins(BOB);
    let bob = entry("m.room.member", user(BOB).as_str());
    assert_eq!(
        types(&world),
        [create.clone(), levels.clone(), bob, rules],
        "target and sender are one"
    );

    world
        .send(
            &user(ALICE),
            "m.room.join_rules",
            Some(""),
            object! { "join_rule" => "knock" },
        )
        .unwrap();
    world.changes(CAROL, CAROL, "knock").unwrap();
    assert_eq!(types(&world), [create, levels], "a knock omits the join rules");
}

#[test]
fn each_endpoint_takes_its_own_membership_only() {
    let mut world = World::new();
    world.joins(BOB);
    let vias = [Via::Send, Via::Invite, Via::Join, Via::Leave, Via::Knock];
    let taken = |event: &VerifiedLpdu, from: usize| {
        let fits = |via: &Via| {
            world.decides(event.clone(), PEERS[from].0, *via) != Err(Refusal::UnfitForEndpoint { via: *via })
        };
        vias.into_iter().filter(fits).collect::<Vec<_>>()
    };
    assert_eq!(
        taken(&lpdu(0, BOB, "m.room.topic", Some(""), object! {}), 0),
        [Via::Send]
    );
    assert_eq!(taken(&membership_lpdu(0, BOB, BOB, "join"), 0), [Via::Send, Via::Join]);
    assert_eq!(
        taken(&membership_lpdu(0, BOB, BOB, "leave"), 0),
        [Via::Send, Via::Leave]
    );
    assert_eq!(
        taken(&membership_lpdu(0, BOB, BOB, "knock"), 0),
        [Via::Send, Via::Knock]
    );
    assert_eq!(
        taken(&membership_lpdu(0, BOB, CAROL, "invite"), 0),
        [Via::Send, Via::Invite]
    );
    assert_eq!(taken(&membership_lpdu(0, BOB, ALICE, "leave"), 0), [Via::Send]);
    assert_eq!(
        taken(&membership_lpdu(1, CAROL, CAROL, "join"), 1),
        [Via::Join],
        "a new server must be welcomed in"
    );
}

#[test]
fn a_draft_must_be_by_a_user_of_the_hub() {
    let mut world = World::new();
    world.joins(BOB);
    let draft = EventDraft {
        event_type: "m.room.encrypted".to_owned(),
        state_key: None,
        sender: user(BOB),
        content: Object::new(),
        origin_server_ts: NOW,
    };
    assert_eq!(
        world.submit(&Input::Draft { draft }),
        Err(Refusal::NotLocal { user: user(BOB) })
    );
}

/// Case 67.
#[test]
fn make_join_checks_the_version_the_origin_and_the_rules() {
    let mut world = World::new();
    let known = [crate::fuzzing::version()];
    let other = [RoomVersionId::parse("org.example.1").unwrap()];
    let make = |world: &World, versions: &[RoomVersionId], origin: &str| {
        world
            .hub
            .make_membership(&name(origin), &user(CAROL), Membership::Join, Some(versions))
    };
    let t = PEERS[1].0;
    assert_eq!(
        make(&world, &known, t),
        Ok(object! {
            "type" => "m.room.member",
            "state_key" => user(CAROL).as_str(),
            "sender" => user(CAROL).as_str(),
            "content" => member("join"),
        })
    );
    let incompatible = Refusal::IncompatibleRoomVersion {
        version: known[0].clone(),
    };
    assert_eq!(make(&world, &other, t), Err(incompatible.clone()));
    assert_eq!(make(&world, &[], t), Err(incompatible));
    assert_eq!(
        make(&world, &known, PEERS[0].0),
        Err(Refusal::OriginIsNotSender {
            origin: name(PEERS[0].0),
            sender: user(CAROL)
        })
    );
    world.changes(ALICE, CAROL, "ban").unwrap();
    assert_eq!(
        make(&world, &known, t),
        Err(Refusal::Rejected(AuthRejection::JoinerBanned))
    );
}

/// Case 68.
#[test]
fn a_ban_between_make_and_send_wins() {
    let mut world = World::new();
    world.hub.template(&user(CAROL), Membership::Join).unwrap();
    world.changes(ALICE, CAROL, "ban").unwrap();
    let join = membership_lpdu(1, CAROL, CAROL, "join");
    assert_eq!(
        world.decides(join, PEERS[1].0, Via::Join),
        Err(Refusal::Rejected(AuthRejection::JoinerBanned))
    );
}

#[test]
fn stripped_state_shows_four_fields_of_what_an_outsider_may_know() {
    let mut world = World::new();
    world
        .send(&user(ALICE), "m.room.name", Some(""), object! { "name" => "Tea" })
        .unwrap();
    world.joins(BOB);
    let shown = world.hub.stripped_state();
    let types: Vec<_> = shown
        .iter()
        .map(|event| event.get("type").and_then(Json::as_str).unwrap())
        .collect();
    assert_eq!(types, ["m.room.create", "m.room.name", "m.room.join_rules"]);
    for event in &shown {
        assert_eq!(
            event.keys().collect::<Vec<_>>(),
            ["content", "sender", "state_key", "type"]
        );
    }
}

#[test]
fn a_new_room_holds_what_was_asked_for() {
    let signer = hub_signer();
    let ctx = Ctx {
        now: NOW,
        server: signer.server(),
        signer: &signer,
    };
    let spec = crate::RoomSpec {
        name: Some("Tea".to_owned()),
        topic: Some("Leaves".to_owned()),
        history_visibility: Some(crate::visibility::HistoryVisibility::Joined),
        encryption: Some("m.mls.v1.dhkemx25519-aes128gcm-sha256-ed25519".to_owned()),
        initial_state: vec![(
            "org.example.color".to_owned(),
            String::new(),
            object! { "color" => "green" },
        )],
        ..crate::RoomSpec::new(room_id(), crate::fuzzing::version(), user(ALICE))
    };
    let (view, outcome) = crate::create_room(spec, &ctx).unwrap();
    let types: Vec<_> = outcome
        .append
        .iter()
        .map(|entry| entry.pdu().unwrap().event_type().to_owned())
        .collect();
    assert_eq!(
        types,
        [
            "m.room.create",
            "m.room.member",
            "m.room.power_levels",
            "m.room.join_rules",
            "m.room.history_visibility",
            "org.example.color",
            "m.room.name",
            "m.room.topic",
        ]
    );
    assert_eq!(view.position().as_i64(), 8);
    assert_eq!(view.hub(), Some(&name(HUB)));
    for (entry, next) in outcome.append.iter().zip(&outcome.append[1..]) {
        let EntryBody::Event(pdu) = &next.body else {
            panic!("a hole")
        };
        assert_eq!(pdu.prev_events(), [entry.event_id().clone()]);
        received(pdu.object());
    }
}

#[test]
fn a_room_is_created_by_its_own_servers_users_in_a_known_version() {
    let signer = hub_signer();
    let ctx = Ctx {
        now: NOW,
        server: signer.server(),
        signer: &signer,
    };
    let version = RoomVersionId::parse("org.example.1").unwrap();
    let create = |version: &RoomVersionId, creator| {
        crate::create_room(crate::RoomSpec::new(room_id(), version.clone(), creator), &ctx).map(drop)
    };
    assert_eq!(
        create(&version, user(ALICE)),
        Err(Refusal::IncompatibleRoomVersion {
            version: version.clone()
        })
    );
    assert_eq!(
        create(&crate::fuzzing::version(), user(BOB)),
        Err(Refusal::NotLocal { user: user(BOB) })
    );
}
