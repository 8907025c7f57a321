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

mod membership;
mod stream;

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
