//! Use cases of local users, on one server and on several.

use std::collections::BTreeMap;

use nabe_auth::lm::Membership;
use nabe_signing::json::Object;
use nabe_signing::object;
use nabe_store::{InboxKind, Store};
use nabe_types::{DeviceId, LogPosition, RoomId, UserId};
use proptest::prelude::*;

use super::testing::{World, answer, eventually, let_run, message, public_room, server, user};
use super::*;
use crate::ports::PeerError;

/// A room of `@alice:a.example` that `@bob:b.example` has joined.
async fn shared_room(world: &World) -> RoomId {
    let alice = user("alice", "a");
    let room = world
        .service("a")
        .create_room(&alice, public_room(), None)
        .await
        .unwrap()
        .room_id;
    world
        .service("b")
        .join(&user("bob", "b"), &room, &[server("a")])
        .await
        .unwrap();
    room
}

fn state_event(event_type: &str, content: Object) -> NewEvent {
    NewEvent {
        event_type: event_type.to_owned(),
        state_key: Some(String::new()),
        content,
    }
}

/// What a stream shows, up to its `Ready` and as long as there is something.
async fn drain(stream: &mut EventStream) -> Vec<StreamItem> {
    let mut items = Vec::new();
    loop {
        let next = tokio::select! {
            biased;
            next = stream.next() => next,
            () = let_run() => return items,
        };
        match next {
            Some(item) => items.push(item.unwrap()),
            None => return items,
        }
    }
}

#[tokio::test]
async fn a_token_opens_its_account_until_it_is_revoked() {
    let world = World::new(&["a"]);
    let (a, alice) = (world.service("a"), user("alice", "a"));
    let token = a.add_token(&alice, None).await.unwrap();
    assert_eq!(a.authenticate_user(token.secret()).await.unwrap().user, alice);
    assert!(!format!("{token:?}").contains(token.secret()));
    a.revoke_token(token.secret()).await.unwrap();
    assert!(matches!(
        a.authenticate_user(token.secret()).await,
        Err(ServiceError::UnknownToken)
    ));
}

#[tokio::test]
async fn the_provider_acts_for_users_of_its_own_server_only() {
    let world = World::new(&["a"]);
    let a = world.service("a");
    a.act_as(&user("carol", "a")).await.unwrap();
    assert!(world.store("a").account(&user("carol", "a")).await.unwrap().is_some());
    assert!(matches!(
        a.act_as(&user("bob", "b")).await,
        Err(ServiceError::NotFound(_))
    ));
    let device = a.register_device(&user("carol", "a"), None).await.unwrap();
    assert_eq!(a.devices(&user("carol", "a")).await.unwrap(), [device]);
}

#[tokio::test]
async fn a_room_is_created_with_every_option_asked_for() {
    let world = World::new(&["a"]);
    let (a, alice) = (world.service("a"), user("alice", "a"));
    let new = NewRoom {
        name: Some("Tea".to_owned()),
        topic: Some("Leaves".to_owned()),
        join_rule: Some("knock".to_owned()),
        history_visibility: Some("joined".to_owned()),
        encryption: Some("m.mls.v1.dhkemx25519-aes128gcm-sha256-ed25519".to_owned()),
        initial_state: vec![("org.example.x".to_owned(), "k".to_owned(), object! { "v" => 1 })],
        invite: vec![user("carol", "a")],
        ..NewRoom::default()
    };
    let created = a.create_room(&alice, new, None).await.unwrap();
    assert!(created.failed_invites.is_empty());
    let overview = a.room(&alice, &created.room_id).await.unwrap();
    assert_eq!(
        (overview.name.as_deref(), overview.topic.as_deref()),
        (Some("Tea"), Some("Leaves"))
    );
    assert_eq!(
        overview.encryption.as_deref(),
        Some("m.mls.v1.dhkemx25519-aes128gcm-sha256-ed25519")
    );
    let rule = a
        .room_state_event(&alice, &created.room_id, "m.room.join_rules", "")
        .await
        .unwrap();
    assert_eq!(rule.pdu.content(), &object! { "join_rule" => "knock" });
    let extra = a
        .room_state_event(&alice, &created.room_id, "org.example.x", "k")
        .await
        .unwrap();
    assert_eq!(extra.pdu.content(), &object! { "v" => 1 });
    let invitations = a.invitations(&user("carol", "a")).await.unwrap();
    assert_eq!(
        invitations.iter().map(|invite| &invite.room_id).collect::<Vec<_>>(),
        [&created.room_id]
    );
}

#[tokio::test]
async fn an_algorithm_that_is_not_the_drafts_has_a_name_in_reverse_dns_style() {
    let world = World::new(&["a"]);
    let (a, alice) = (world.service("a"), user("alice", "a"));
    let create = async |algorithm: &str| {
        let new = NewRoom {
            encryption: Some(algorithm.to_owned()),
            ..NewRoom::default()
        };
        a.create_room(&alice, new, None).await
    };
    for algorithm in ["m.mls.v1.a-suite-of-tomorrow", "org.example.double-ratchet"] {
        let room = create(algorithm).await.unwrap().room_id;
        let overview = a.room(&alice, &room).await.unwrap();
        assert_eq!(overview.encryption.as_deref(), Some(algorithm));
    }
    for algorithm in [
        "",
        "rot13",
        "m.megolm.v1",
        "m.rot13",
        ".rot13",
        "org..rot13",
        "org.rot13.",
    ] {
        let error = create(algorithm).await.unwrap_err();
        assert!(
            matches!(error, ServiceError::InvalidParam("encryption")),
            "{algorithm}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_room_option_that_is_not_valid_is_named() {
    let world = World::new(&["a"]);
    let (a, alice) = (world.service("a"), user("alice", "a"));
    let cases = [
        (
            NewRoom {
                join_rule: Some("restricted".to_owned()),
                ..NewRoom::default()
            },
            "join_rule",
        ),
        (
            NewRoom {
                history_visibility: Some("x".to_owned()),
                ..NewRoom::default()
            },
            "history_visibility",
        ),
        (
            NewRoom {
                name: Some(String::new()),
                ..NewRoom::default()
            },
            "name",
        ),
        (
            NewRoom {
                topic: Some("t".repeat(8193)),
                ..NewRoom::default()
            },
            "topic",
        ),
        (
            NewRoom {
                initial_state: vec![("m.room.member".to_owned(), "@x:a.example".to_owned(), object! {})],
                ..NewRoom::default()
            },
            "initial_state",
        ),
    ];
    for (new, name) in cases {
        let error = a.create_room(&alice, new, None).await.unwrap_err();
        assert!(
            matches!(error, ServiceError::InvalidParam(found) if found == name),
            "{name}: {error:?}"
        );
    }
    let version = nabe_types::RoomVersionId::parse("10").unwrap();
    let error = a
        .create_room(
            &alice,
            NewRoom {
                version: Some(version),
                ..NewRoom::default()
            },
            None,
        )
        .await;
    assert!(matches!(error, Err(ServiceError::IncompatibleRoomVersion { .. })));
    assert_eq!(a.rooms(&alice).await.unwrap(), []);
}

#[tokio::test]
async fn a_repeated_request_with_its_key_has_one_effect_and_one_answer() {
    let world = World::new(&["a"]);
    let (a, alice) = (world.service("a"), user("alice", "a"));
    let room = a.create_room(&alice, public_room(), Some("r1")).await.unwrap().room_id;
    assert_eq!(
        a.create_room(&alice, public_room(), Some("r1")).await.unwrap().room_id,
        room
    );
    assert!(matches!(
        a.create_room(&alice, NewRoom::default(), Some("r1")).await,
        Err(ServiceError::KeyReused)
    ));

    let (first, second) = tokio::join!(
        a.send_event(&alice, &room, message("hi"), Some("k")),
        a.send_event(&alice, &room, message("hi"), Some("k")),
    );
    let first = first.unwrap();
    assert_eq!(second.unwrap(), first);
    assert_eq!(
        a.send_event(&alice, &room, message("hi"), Some("k")).await.unwrap(),
        first
    );
    assert!(matches!(
        a.send_event(&alice, &room, message("ho"), Some("k")).await,
        Err(ServiceError::KeyReused)
    ));
    let head = a.room(&alice, &room).await.unwrap().head;
    assert_eq!(Some(head), first.position);
}

#[tokio::test]
async fn the_answer_to_a_key_survives_a_crash_together_with_the_event() {
    let mut world = World::new(&["a"]);
    let (a, alice) = (world.service("a"), user("alice", "a"));
    let room = a.create_room(&alice, public_room(), None).await.unwrap().room_id;
    let sent = a.send_event(&alice, &room, message("hi"), Some("k")).await.unwrap();
    let a = world.crash("a");
    assert_eq!(
        a.send_event(&alice, &room, message("hi"), Some("k")).await.unwrap(),
        sent
    );
    assert_eq!(world.log("a", &room).await.last(), sent.event_id.as_ref());
}

#[tokio::test]
async fn events_travel_between_hub_and_participant_and_get_one_id() {
    let world = World::new(&["a", "b"]);
    let room = shared_room(&world).await;
    let (alice, bob) = (user("alice", "a"), user("bob", "b"));
    let from_bob = world
        .service("b")
        .send_event(&bob, &room, message("from b"), None)
        .await
        .unwrap();
    assert_eq!(
        from_bob.status,
        SentStatus::Appended,
        "the echo came while the request waited"
    );
    let from_alice = world
        .service("a")
        .send_event(&alice, &room, message("from a"), None)
        .await
        .unwrap();
    world.settle(&room, &["a", "b"]).await;
    let (at_hub, at_participant) = (world.log("a", &room).await, world.log("b", &room).await);
    assert!(
        at_hub.ends_with(&at_participant),
        "the participant's log begins with its join"
    );
    assert_eq!(at_participant.len(), 3);
    assert!(at_participant.contains(from_bob.event_id.as_ref().unwrap()));
    assert!(at_participant.contains(from_alice.event_id.as_ref().unwrap()));
}

#[tokio::test]
async fn the_same_words_twice_are_two_events() {
    let world = World::new(&["a", "b"]);
    let room = shared_room(&world).await;
    let bob = user("bob", "b");
    let first = world
        .service("b")
        .send_event(&bob, &room, message("again"), None)
        .await
        .unwrap();
    let second = world
        .service("b")
        .send_event(&bob, &room, message("again"), None)
        .await
        .unwrap();
    assert_ne!(first.event_id, second.event_id);
}

#[tokio::test]
async fn an_event_for_a_hub_that_is_down_is_queued_and_arrives_later() {
    let world = World::new(&["a", "b"]);
    let room = shared_room(&world).await;
    world.settle(&room, &["a", "b"]).await;
    world.set_down("a", true);
    let (b, bob) = (world.service("b"), user("bob", "b"));
    let sending = tokio::spawn({
        let (b, bob, room) = (b.clone(), bob.clone(), room.clone());
        async move { b.send_event(&bob, &room, message("later"), Some("k")).await }
    });
    eventually("the first attempt has failed", || async {
        let status = world.store("b").destination(&server("a")).await.unwrap();
        status.is_some_and(|status| status.failures > 0)
    })
    .await;
    // Ends the wait for the echo, and the first pause.
    world.clock.advance(b.settings().echo_wait);
    let queued = sending.await.unwrap().unwrap();
    assert_eq!((queued.status, &queued.event_id), (SentStatus::Queued, &None));
    world.set_down("a", false);
    world.clock.advance(b.settings().delivery.backoff_max);
    eventually("the event has come back", || async {
        world.log("b", &room).await.len() == 2
    })
    .await;
    let again = b.send_event(&bob, &room, message("later"), Some("k")).await.unwrap();
    assert_eq!((again.status, &again.lpdu_id), (SentStatus::Appended, &queued.lpdu_id));
    assert_eq!(again.event_id.as_ref(), world.log("b", &room).await.last());
}

#[tokio::test]
async fn an_event_the_hub_refuses_is_reported_to_its_sender() {
    let world = World::new(&["a", "b"]);
    let room = shared_room(&world).await;
    let (b, bob) = (world.service("b"), user("bob", "b"));
    let name = state_event("m.room.name", object! { "name" => "mine" });
    let error = b.send_event(&bob, &room, name, None).await.unwrap_err();
    assert!(
        matches!(&error, ServiceError::RejectedByHub { message, current_epoch: None } if !message.is_empty()),
        "{error:?}"
    );
    let inbox = b.inbox(&bob, None, 0).await.unwrap();
    let rejected: Vec<_> = inbox
        .iter()
        .filter(|item| item.kind == InboxKind::EventRejected)
        .collect();
    assert_eq!(rejected.len(), 1);
    let body = Object::parse(&rejected[0].body).unwrap();
    assert_eq!(
        body.get("room_id").and_then(nabe_signing::Json::as_str),
        Some(room.as_str())
    );
    assert_eq!(world.store("b").outbox_len(&server("a")).await.unwrap(), 0);
}

#[tokio::test]
async fn someone_outside_a_room_can_neither_send_nor_look() {
    let world = World::new(&["a", "b"]);
    let room = shared_room(&world).await;
    let (b, eve) = (world.service("b"), user("eve", "b"));
    assert!(matches!(
        b.send_event(&eve, &room, message("x"), None).await,
        Err(ServiceError::NotInRoom)
    ));
    assert!(matches!(
        b.room_state(&eve, &room).await,
        Err(ServiceError::NotFound(_))
    ));
    assert!(matches!(b.members(&eve, &room).await, Err(ServiceError::NotFound(_))));
    assert!(matches!(
        b.history(&eve, &room, None, Direction::Backward, 10).await,
        Err(ServiceError::NotFound(_))
    ));
    assert!(matches!(b.room(&eve, &room).await, Err(ServiceError::NotFound(_))));
    assert!(matches!(
        world.service("a").delivery(&user("mallory", "a"), &room).await,
        Err(ServiceError::NotFound(_))
    ));
}

#[tokio::test]
async fn invite_kick_ban_and_unban_work_from_hub_and_participant() {
    let world = World::new(&["a", "b", "c"]);
    let (alice, bob, carol) = (user("alice", "a"), user("bob", "b"), user("carol", "c"));
    let (a, b, c) = (world.service("a"), world.service("b"), world.service("c"));
    let levels = object! { "users" => object! { alice.as_str() => 100, bob.as_str() => 50 } };
    let new = NewRoom {
        power_levels: Some(levels),
        ..NewRoom::default()
    };
    let room = a.create_room(&alice, new, None).await.unwrap().room_id;
    a.invite_user(&alice, &room, &bob, None).await.unwrap();
    assert_eq!(b.invitations(&bob).await.unwrap().len(), 1);
    b.join(&bob, &room, &[]).await.unwrap();
    assert_eq!(b.invitations(&bob).await.unwrap(), []);

    b.invite_user(&bob, &room, &carol, Some("come")).await.unwrap();
    c.join(&carol, &room, &[]).await.unwrap();
    world.settle(&room, &["a", "b", "c"]).await;

    b.kick(&bob, &room, &carol, None).await.unwrap();
    eventually("c knows of the kick", || async {
        c.store().rooms_of(&carol).await.unwrap()[0].membership == Membership::Leave
    })
    .await;
    a.ban(&alice, &room, &carol, None).await.unwrap();
    let error = c.join(&carol, &room, &[]).await.unwrap_err();
    assert!(matches!(error, ServiceError::RejectedByHub { .. }), "{error:?}");
    assert!(matches!(
        a.kick(&alice, &room, &carol, None).await,
        Err(ServiceError::NotFound(_))
    ));
    a.unban(&alice, &room, &carol, None).await.unwrap();
    a.invite_user(&alice, &room, &carol, None).await.unwrap();
    c.join(&carol, &room, &[]).await.unwrap();
    world.settle(&room, &["a", "b", "c"]).await;
    let members = c.members(&carol, &room).await.unwrap();
    assert!(members.iter().all(|member| member.membership == Membership::Join));
}

#[tokio::test]
async fn a_rejected_invite_is_off_the_list_and_known_to_the_hub() {
    let world = World::new(&["a", "b"]);
    let (alice, bob) = (user("alice", "a"), user("bob", "b"));
    let room = world
        .service("a")
        .create_room(&alice, NewRoom::default(), None)
        .await
        .unwrap()
        .room_id;
    world.service("a").invite_user(&alice, &room, &bob, None).await.unwrap();
    let left = world.service("b").leave(&bob, &room, None).await.unwrap();
    assert_eq!(
        left,
        Left {
            sent: None,
            hub_told: true
        }
    );
    assert_eq!(world.service("b").invitations(&bob).await.unwrap(), []);
    let members = world.service("a").members(&alice, &room).await.unwrap();
    assert!(members.contains(&Member {
        user: bob,
        membership: Membership::Leave
    }));
}

#[tokio::test]
async fn a_dead_hubs_invite_can_be_thrown_away() {
    let world = World::new(&["a", "b"]);
    let (alice, bob) = (user("alice", "a"), user("bob", "b"));
    let room = world
        .service("a")
        .create_room(&alice, NewRoom::default(), None)
        .await
        .unwrap()
        .room_id;
    world.service("a").invite_user(&alice, &room, &bob, None).await.unwrap();
    world.set_down("a", true);
    let left = world.service("b").leave(&bob, &room, None).await.unwrap();
    assert_eq!(
        left,
        Left {
            sent: None,
            hub_told: false
        }
    );
    assert_eq!(world.service("b").invitations(&bob).await.unwrap(), []);
}

#[tokio::test]
async fn whatever_its_hub_answers_an_invite_can_be_thrown_away() {
    for (status, body) in [
        (429, object! { "errcode" => "M_LIMIT_EXCEEDED" }),
        (500, object! { "errcode" => "M_UNKNOWN" }),
        (401, Object::new()),
    ] {
        let world = World::new(&["a", "b"]);
        let (alice, bob) = (user("alice", "a"), user("bob", "b"));
        let private = NewRoom::default();
        let created = world.service("a").create_room(&alice, private, None).await.unwrap();
        let room = created.room_id;
        world.service("a").invite_user(&alice, &room, &bob, None).await.unwrap();
        world.intercept(move |_, _, request| {
            let is_leaving = request.stable.contains("_leave/");
            is_leaving.then(|| answer(status, body.clone()))
        });
        let left = world.service("b").leave(&bob, &room, None).await.unwrap();
        assert!(!left.hub_told, "{status}");
        assert_eq!(world.service("b").invitations(&bob).await.unwrap(), [], "{status}");
    }
}

#[tokio::test]
async fn a_knock_is_listed_and_can_be_answered_with_an_invite() {
    let world = World::new(&["a", "b"]);
    let (alice, bob) = (user("alice", "a"), user("bob", "b"));
    let new = NewRoom {
        join_rule: Some("knock".to_owned()),
        name: Some("Den".to_owned()),
        ..NewRoom::default()
    };
    let room = world.service("a").create_room(&alice, new, None).await.unwrap().room_id;
    let b = world.service("b");
    assert_eq!(b.knock(&bob, &room, &[server("a")], None).await.unwrap(), None);
    let knocks = b.invitations(&bob).await.unwrap();
    assert_eq!((knocks.len(), knocks[0].is_invite), (1, false));
    assert!(
        String::from_utf8(knocks[0].stripped_state.to_canonical())
            .unwrap()
            .contains("Den")
    );
    world.service("a").invite_user(&alice, &room, &bob, None).await.unwrap();
    assert!(b.invitations(&bob).await.unwrap()[0].is_invite);
    b.join(&bob, &room, &[]).await.unwrap();
    world.settle(&room, &["a", "b"]).await;
}

#[tokio::test]
async fn history_goes_back_beyond_the_join_where_the_room_allows_it() {
    let world = World::new(&["a", "b"]);
    let (alice, bob) = (user("alice", "a"), user("bob", "b"));
    for (visibility, expected) in [("shared", 2), ("joined", 0)] {
        let new = NewRoom {
            history_visibility: Some(visibility.to_owned()),
            ..public_room()
        };
        let room = world.service("a").create_room(&alice, new, None).await.unwrap().room_id;
        for n in 0..2 {
            world
                .service("a")
                .send_event(&alice, &room, message(&format!("{n}")), None)
                .await
                .unwrap();
        }
        let b = world.service("b");
        b.join(&bob, &room, &[server("a")]).await.unwrap();
        let (mut from, mut seen) = (None, Vec::new());
        loop {
            let page = b.history(&bob, &room, from, Direction::Backward, 3).await.unwrap();
            seen.extend(page.events);
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        let messages = seen
            .iter()
            .filter(|event| event.pdu.event_type() == "m.room.message")
            .count();
        assert_eq!(messages, expected, "{visibility}");
        assert!(
            seen.iter()
                .any(|event| event.pdu.is_state_of("m.room.member", bob.as_str()))
        );
        let positions: Vec<_> = seen.iter().map(|event| event.position.unwrap()).collect();
        assert!(
            positions.windows(2).all(|pair| pair[0] > pair[1]),
            "newest first, nothing twice"
        );
    }
}

#[tokio::test]
async fn who_left_sees_the_state_and_history_of_that_time() {
    let world = World::new(&["a"]);
    let (a, alice, carol) = (world.service("a"), user("alice", "a"), user("carol", "a"));
    let room = a.create_room(&alice, public_room(), None).await.unwrap().room_id;
    a.join(&carol, &room, &[]).await.unwrap();
    let before = a.send_event(&alice, &room, message("before"), None).await.unwrap();
    let left = a.leave(&carol, &room, None).await.unwrap().sent.unwrap();
    let after = a
        .send_event(
            &alice,
            &room,
            state_event("m.room.name", object! { "name" => "new" }),
            None,
        )
        .await
        .unwrap();
    let page = a.history(&carol, &room, None, Direction::Backward, 100).await.unwrap();
    let seen: Vec<_> = page.events.iter().map(|event| event.event_id().clone()).collect();
    assert!(seen.contains(&before.event_id.unwrap()) && seen.contains(&left.event_id.unwrap()));
    assert!(!seen.contains(after.event_id.as_ref().unwrap()));
    assert!(matches!(
        a.room_event(&carol, &room, &after.event_id.unwrap()).await,
        Err(ServiceError::NotFound(_))
    ));
    assert!(a.room_state_event(&carol, &room, "m.room.name", "").await.is_err());
    assert!(a.room_state_event(&carol, &room, "m.room.join_rules", "").await.is_ok());
    assert_eq!(a.rooms(&carol).await.unwrap(), []);
}

#[tokio::test]
async fn messages_reach_devices_here_and_elsewhere_once() {
    let world = World::new(&["a", "b"]);
    let (a, b, alice, bob) = (
        world.service("a"),
        world.service("b"),
        user("alice", "a"),
        user("bob", "b"),
    );
    let carol = user("carol", "a");
    let (phone, desk) = (
        b.register_device(&bob, None).await.unwrap(),
        a.register_device(&carol, None).await.unwrap(),
    );
    let to = |target: &UserId, device: &DeviceId| ToDeviceMessage {
        target: target.clone(),
        target_device: device.clone(),
        message_type: "org.example.ping".to_owned(),
        message: object! { "n" => 1 },
    };
    let unknown = DeviceId::parse("NOSUCH").unwrap();
    let messages = vec![to(&bob, &phone), to(&carol, &desk), to(&carol, &unknown)];
    a.to_device(&alice, None, messages.clone(), Some("k")).await.unwrap();
    a.to_device(&alice, None, messages, Some("k")).await.unwrap();
    assert!(matches!(
        a.to_device(&alice, None, vec![], Some("k")).await,
        Err(ServiceError::KeyReused)
    ));
    eventually("the message has arrived", || async {
        !b.inbox(&bob, Some(&phone), 0).await.unwrap().is_empty()
    })
    .await;
    let_run().await;
    let (remote, local) = (
        b.inbox(&bob, Some(&phone), 0).await.unwrap(),
        a.inbox(&carol, Some(&desk), 0).await.unwrap(),
    );
    assert_eq!((remote.len(), local.len()), (1, 1));
    assert_eq!(remote[0].body, local[0].body, "the same form, whichever way it came");
}

#[tokio::test]
async fn delivery_status_tells_how_far_behind_a_follower_is() {
    let world = World::new(&["a", "b"]);
    let room = shared_room(&world).await;
    world.settle(&room, &["a", "b"]).await;
    let (a, alice) = (world.service("a"), user("alice", "a"));
    eventually("b has confirmed", || async {
        a.delivery(&alice, &room).await.unwrap()[0].lag == 0
    })
    .await;
    world.set_down("b", true);
    for n in 0..3 {
        a.send_event(&alice, &room, message(&format!("{n}")), None)
            .await
            .unwrap();
    }
    eventually("an attempt has failed", || async {
        a.delivery(&alice, &room).await.unwrap()[0].failures > 0
    })
    .await;
    let status = a.delivery(&alice, &room).await.unwrap().remove(0);
    assert_eq!(
        (status.server.clone(), status.lag, status.failures),
        (server("b"), 3, 1)
    );
    assert_eq!(
        status.last_error.as_deref(),
        Some(PeerError::Unreachable.to_string().as_str())
    );
    assert!(status.next_attempt.unwrap() > world.clock_now());
}

#[tokio::test]
async fn a_stream_wakes_for_what_is_new_and_ends_at_the_shutdown() {
    let world = World::new(&["a"]);
    let (a, alice) = (world.service("a"), user("alice", "a"));
    let room = a.create_room(&alice, public_room(), None).await.unwrap().room_id;
    let mut stream = a.stream(&alice, None, None).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().body, StreamBody::Ready);
    let reading = tokio::spawn(async move {
        let item = stream.next().await.unwrap().unwrap();
        (item, stream)
    });
    let_run().await;
    assert!(!reading.is_finished());
    let sent = a.send_event(&alice, &room, message("hi"), None).await.unwrap();
    let (item, mut stream) = reading.await.unwrap();
    assert!(matches!(item.body, StreamBody::Event(event) if Some(event.event_id()) == sent.event_id.as_ref()));
    a.shutdown().await;
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_room_joined_after_the_token_was_made_is_in_the_stream_from_the_join_on() {
    let world = World::new(&["a"]);
    let (a, alice, carol) = (world.service("a"), user("alice", "a"), user("carol", "a"));
    let room = a.create_room(&alice, public_room(), None).await.unwrap().room_id;
    let mut stream = a.stream(&carol, None, None).await.unwrap();
    assert_eq!(drain(&mut stream).await.len(), 1);
    a.send_event(&alice, &room, message("unseen"), None).await.unwrap();
    let join = a.join(&carol, &room, &[]).await.unwrap();
    let hello = a.send_event(&alice, &room, message("hello"), None).await.unwrap();
    a.kick(&alice, &room, &carol, None).await.unwrap();
    a.send_event(&alice, &room, message("unseen, too"), None).await.unwrap();
    let seen: Vec<_> = drain(&mut stream)
        .await
        .into_iter()
        .filter_map(|item| match item.body {
            StreamBody::Event(event) => Some(event.position.unwrap()),
            _ => None,
        })
        .collect();
    let (join, hello) = (join.position.unwrap(), hello.position.unwrap());
    assert_eq!(seen, [join, hello, hello.next()]);
}

/// The bodies a stream shows, and its last token.
async fn bodies(stream: &mut EventStream) -> (Vec<String>, String) {
    let items = drain(stream).await;
    let token = items.last().unwrap().token.clone();
    let bodies = items.into_iter().filter_map(|item| match item.body {
        StreamBody::Event(event) => Some(event.pdu.content().get("body")?.as_str()?.to_owned()),
        _ => None,
    });
    (bodies.collect(), token)
}

#[tokio::test]
async fn room_left_long_ago_is_not_in_the_token_and_is_not_told_again() {
    let month = std::time::Duration::from_secs(31 * 24 * 60 * 60);
    let world = World::new(&["a"]);
    let (a, alice, carol) = (world.service("a"), user("alice", "a"), user("carol", "a"));
    let room = a.create_room(&alice, public_room(), None).await.unwrap().room_id;
    let other = a.create_room(&alice, public_room(), None).await.unwrap().room_id;
    for room in [&room, &other] {
        a.join(&carol, room, &[]).await.unwrap();
    }
    let mut stream = a.stream(&carol, None, Some(STREAM_START)).await.unwrap();
    a.send_event(&alice, &room, message("first time"), None).await.unwrap();
    a.leave(&carol, &room, None).await.unwrap();
    let (seen, _) = bodies(&mut stream).await;
    assert_eq!(seen, ["first time"]);
    a.send_event(&alice, &room, message("without carol"), None)
        .await
        .unwrap();
    a.send_event(&alice, &other, message("soon after"), None).await.unwrap();
    let (seen, soon) = bodies(&mut stream).await;
    assert_eq!(seen, ["soon after"]);
    world.clock.advance(month);
    a.send_event(&alice, &other, message("later"), None).await.unwrap();
    drain(&mut stream).await;
    a.send_event(&alice, &other, message("and later"), None).await.unwrap();
    let (_, one) = bodies(&mut stream).await;
    assert!(one.len() + 8 < soon.len(), "{one} {soon}");
    // Neither a token of then nor one of before tells anything twice, nor keeps back what is new.
    let fresh = {
        let mut stream = a.stream(&carol, None, None).await.unwrap();
        bodies(&mut stream).await.1
    };
    assert_eq!(fresh.len(), one.len());
    a.join(&carol, &room, &[]).await.unwrap();
    a.send_event(&alice, &room, message("second time"), None).await.unwrap();
    for (token, expected) in [
        (&one, &["second time"][..]),
        (&fresh, &["second time"]),
        (&soon, &["later", "and later", "second time"]),
        (
            &STREAM_START.to_owned(),
            &["first time", "soon after", "later", "and later", "second time"],
        ),
    ] {
        let mut stream = a.stream(&carol, None, Some(token)).await.unwrap();
        let mut seen = bodies(&mut stream).await.0;
        // Rooms are read one after the other.
        seen.sort();
        let mut expected: Vec<_> = expected.iter().map(|body| (*body).to_owned()).collect();
        expected.sort();
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn inbox_keeps_what_some_device_has_not_handled() {
    let world = World::new(&["a"]);
    let (a, alice, carol) = (world.service("a"), user("alice", "a"), user("carol", "a"));
    let [desk, phone] = ["DESK", "PHONE"].map(|name| DeviceId::parse(name).unwrap());
    for device in [&desk, &phone] {
        a.register_device(&carol, Some(device.clone())).await.unwrap();
    }
    for _ in 0..3 {
        let room = a.create_room(&alice, NewRoom::default(), None).await.unwrap().room_id;
        a.invite_user(&alice, &room, &carol, None).await.unwrap();
    }
    let kept = || async { a.inbox(&carol, None, 0).await.unwrap().len() };
    let mut stream = a.stream(&carol, Some(desk.clone()), None).await.unwrap();
    let items = drain(&mut stream).await;
    let tokens: Vec<_> = items.iter().map(|item| item.token.as_str()).collect();
    let [_, first, _, third] = tokens[..] else {
        panic!("{items:?}")
    };
    // Readers that were there before this server started get an hour to come back.
    a.acknowledge_inbox(&carol, Some(&phone), third).await.unwrap();
    a.acknowledge_inbox(&carol, Some(&desk), first).await.unwrap();
    assert_eq!(kept().await, 3);
    world.clock.advance(std::time::Duration::from_secs(3600));
    drop(a.stream(&carol, Some(phone), Some(third)).await.unwrap());
    assert_eq!(kept().await, 2);
    // Somebody else's device does not count, and what is not there cannot be handled.
    let stranger = DeviceId::parse("TABLET").unwrap();
    a.acknowledge_inbox(&carol, Some(&stranger), third).await.unwrap();
    assert_eq!(kept().await, 2);
    drop(a.stream(&carol, Some(desk), Some(third)).await.unwrap());
    assert_eq!(kept().await, 0);
    let refused = a.acknowledge_inbox(&carol, None, "nonsense!").await;
    assert!(matches!(refused, Err(ServiceError::InvalidParam("token"))));
}

#[tokio::test]
async fn a_token_we_did_not_make_is_refused() {
    let world = World::new(&["a"]);
    let refused = world
        .service("a")
        .stream(&user("alice", "a"), None, Some("nonsense!"))
        .await;
    assert!(matches!(refused.err(), Some(ServiceError::InvalidParam("token"))));
}

/// One thing that happens in [`cut_anywhere`].
#[derive(Clone, Copy, Debug)]
enum Happening {
    Message(usize),
    JoinOrLeave(usize),
    ToDevice,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (0..3_usize).prop_map(Happening::Message),
        2 => (0..3_usize).prop_map(Happening::JoinOrLeave),
        1 => Just(Happening::ToDevice),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_cut_anywhere_and_resumed_shows_the_same(
        happenings in proptest::collection::vec(happening(), 1..25),
        cuts in proptest::collection::vec(0..12_usize, 0..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(cut_anywhere(happenings, cuts));
    }
}

/// Per room and inbox, what a reader saw.
type Seen = BTreeMap<String, Vec<i64>>;

fn note(seen: &mut Seen, item: &StreamItem) {
    match &item.body {
        StreamBody::Ready => {}
        StreamBody::Event(event) => {
            let key = event.pdu.room_id().to_string();
            seen.entry(key).or_default().push(event.position.unwrap().as_i64());
        }
        StreamBody::Inbox(item) => seen.entry("inbox".to_owned()).or_default().push(item.seq),
    }
}

async fn cut_anywhere(happenings: Vec<Happening>, cuts: Vec<usize>) {
    let world = World::new(&["a"]);
    let (a, alice, carol) = (world.service("a"), user("alice", "a"), user("carol", "a"));
    let device = a.register_device(&carol, None).await.unwrap();
    let mut rooms = Vec::new();
    for _ in 0..3 {
        rooms.push(a.create_room(&alice, public_room(), None).await.unwrap().room_id);
    }
    let mut whole = a.stream(&carol, Some(device.clone()), None).await.unwrap();
    let mut resumed = a.stream(&carol, Some(device.clone()), None).await.unwrap();
    let mut token = resumed.next().await.unwrap().unwrap().token;
    let (mut seen_whole, mut seen_resumed) = (Seen::new(), Seen::new());
    let mut cuts = cuts.into_iter();
    for happening in happenings {
        match happening {
            Happening::Message(room) => {
                a.send_event(&alice, &rooms[room], message("x"), None).await.unwrap();
            }
            Happening::JoinOrLeave(room) => {
                let members = a.members(&alice, &rooms[room]).await.unwrap();
                let joined = Member {
                    user: carol.clone(),
                    membership: Membership::Join,
                };
                if members.contains(&joined) {
                    a.leave(&carol, &rooms[room], None).await.unwrap();
                } else {
                    a.join(&carol, &rooms[room], &[]).await.unwrap();
                }
            }
            Happening::ToDevice => {
                let message = ToDeviceMessage {
                    target: carol.clone(),
                    target_device: device.clone(),
                    message_type: "x".to_owned(),
                    message: object! {},
                };
                a.to_device(&alice, None, vec![message], None).await.unwrap();
            }
        }
        // Reads some, handles a few of them, hangs up, and comes back with the token of the last one handled.
        if let Some(count) = cuts.next() {
            for item in drain(&mut resumed).await.into_iter().take(count) {
                note(&mut seen_resumed, &item);
                token = item.token;
            }
            resumed = a.stream(&carol, Some(device.clone()), Some(&token)).await.unwrap();
        }
    }
    for item in drain(&mut whole).await {
        note(&mut seen_whole, &item);
    }
    for item in drain(&mut resumed).await {
        note(&mut seen_resumed, &item);
    }
    assert_eq!(seen_resumed, seen_whole);
}

#[tokio::test]
async fn a_request_the_hub_never_answers_rightly_is_an_error_not_a_join() {
    let world = World::new(&["a", "b"]);
    let (alice, bob) = (user("alice", "a"), user("bob", "b"));
    let room = world
        .service("a")
        .create_room(&alice, public_room(), None)
        .await
        .unwrap()
        .room_id;
    world.intercept(|_, _, request| {
        request
            .stable
            .contains("send_join")
            .then(|| answer(200, object! { "state" => Vec::<nabe_signing::Json>::new() }))
    });
    let error = world.service("b").join(&bob, &room, &[server("a")]).await.unwrap_err();
    assert!(matches!(error, ServiceError::BadAnswer { .. }), "{error:?}");
    assert_eq!(world.store("b").head(&room).await.unwrap(), None::<LogPosition>);
}
