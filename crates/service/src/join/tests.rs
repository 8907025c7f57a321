//! Joining through other servers: hints, templates of both shapes, the race with the hub's fan-out, coming back.

use nabe_auth::lm::Membership;
use nabe_store::Store;

use super::*;
use crate::client::NewRoom;
use crate::client::testing::{World, answer, eventually, message, public_room, server, user};
use crate::ports::PeerError;

async fn room_at_a(world: &World) -> RoomId {
    world
        .service("a")
        .create_room(&user("alice", "a"), public_room(), None)
        .await
        .unwrap()
        .room_id
}

#[tokio::test]
async fn a_server_that_is_not_the_hub_points_to_the_hub() {
    let world = World::new(&["a", "b", "c"]);
    let room = room_at_a(&world).await;
    world
        .service("b")
        .join(&user("bob", "b"), &room, &[server("a")])
        .await
        .unwrap();
    world.intercept(|_, to, request| {
        // The room's ID gives the hub away, so the first to be asked must be the one that does not know better.
        (to == &server("x") && request.stable.contains("make_join")).then(|| {
            answer(
                400,
                object! { "errcode" => "M_WRONG_SERVER", "hub_server" => "a.example" },
            )
        })
    });
    let sent = world
        .service("c")
        .join(&user("carol", "c"), &room, &[server("x"), server("b")])
        .await
        .unwrap();
    assert_eq!(sent.status, SentStatus::Appended);
    let asked: Vec<_> = world
        .made("make_join")
        .into_iter()
        .filter(|made| made.from == server("c"))
        .collect();
    let asked: Vec<_> = asked.iter().map(|made| made.to.as_str()).collect();
    assert_eq!(asked, ["x.example", "a.example"]);
}

#[tokio::test]
async fn the_answer_to_a_join_may_be_larger_than_any_request() {
    let world = World::new(&["a", "b"]);
    let room = room_at_a(&world).await;
    world.rewrite(|request, body| {
        if !request.stable.contains("send_join") {
            return body;
        }
        let mut answer = Object::parse(&body).unwrap();
        answer.insert("padding", "x".repeat(nabe_types::limits::MAX_BODY_BYTES));
        answer.to_canonical().into()
    });
    let bob = user("bob", "b");
    world.service("b").join(&bob, &room, &[server("a")]).await.unwrap();
    world.settle(&room, &["a", "b"]).await;
}

#[tokio::test]
async fn a_bare_template_is_enough() {
    let world = World::new(&["a", "b"]);
    let room = room_at_a(&world).await;
    let bob = user("bob", "b");
    world.intercept(|_, _, request| {
        request.stable.contains("make_join").then(|| {
            let content = object! { "membership" => "join" };
            let (kind, bob) = ("m.room.member", "@bob:b.example");
            answer(
                200,
                object! { "type" => kind, "state_key" => bob, "sender" => bob, "content" => content },
            )
        })
    });
    world.service("b").join(&bob, &room, &[server("a")]).await.unwrap();
    world.settle(&room, &["a", "b"]).await;
}

#[tokio::test]
async fn an_unknown_room_version_ends_the_attempt() {
    let world = World::new(&["a", "b"]);
    let room = room_at_a(&world).await;
    world.intercept(|_, _, request| {
        request
            .stable
            .contains("make_join")
            .then(|| answer(200, object! { "room_version" => "11" }))
    });
    let error = world
        .service("b")
        .join(&user("bob", "b"), &room, &[server("a")])
        .await
        .unwrap_err();
    assert!(
        matches!(error, ServiceError::IncompatibleRoomVersion { .. }),
        "{error:?}"
    );
    assert!(world.made("send_join").is_empty());
}

#[tokio::test]
async fn the_error_that_says_most_is_the_one_returned() {
    let world = World::new(&["a", "b"]);
    let alice = user("alice", "a");
    let room = world
        .service("a")
        .create_room(&alice, NewRoom::default(), None)
        .await
        .unwrap()
        .room_id;
    let via = [server("nowhere"), server("a"), server("neither")];
    let error = world
        .service("b")
        .join(&user("bob", "b"), &room, &via)
        .await
        .unwrap_err();
    assert!(matches!(error, ServiceError::RejectedByHub { .. }), "{error:?}");
    let error = world
        .service("b")
        .join(&user("bob", "b"), &RoomId::parse("!x:nowhere.example").unwrap(), &[])
        .await;
    assert!(
        matches!(
            error,
            Err(ServiceError::PeerFailed {
                error: PeerError::Unresolvable,
                ..
            })
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn events_that_arrive_before_the_answer_to_send_join_are_not_lost() {
    let world = World::new(&["a", "b"]);
    let room = room_at_a(&world).await;
    let (a, b) = (world.service("a"), world.service("b"));
    // The hub does its work and fans out, but its answer is lost the first time, and our join goes on meanwhile.
    let guard = b.begin_join(&room);
    world.lose_answers("a", Some("send_join"));
    let lost = b.join(&user("bob", "b"), &room, &[server("a")]).await;
    assert!(lost.is_err());
    a.send_event(&user("alice", "a"), &room, message("early"), None)
        .await
        .unwrap();
    eventually("the early events are parked", || async {
        world.store("b").parked(&room).await.unwrap().len() >= 2
    })
    .await;
    eventually("the hub thinks that all is delivered", || async {
        a.delivery_status(&room).await.unwrap()[0].lag == 0
    })
    .await;
    world.lose_answers("a", None);
    b.join(&user("bob", "b"), &room, &[server("a")]).await.unwrap();
    drop(guard);
    a.send_event(&user("alice", "a"), &room, message("late"), None)
        .await
        .unwrap();
    world.settle(&room, &["a", "b"]).await;
    assert!(world.log("a", &room).await.ends_with(&world.log("b", &room).await));
    eventually("nothing stays parked", || async {
        world.store("b").parked(&room).await.unwrap().is_empty()
    })
    .await;
}

#[tokio::test]
async fn who_comes_back_after_time_away_goes_on_behind_a_gap() {
    let world = World::new(&["a", "b"]);
    let room = room_at_a(&world).await;
    let (a, b, bob) = (world.service("a"), world.service("b"), user("bob", "b"));
    b.join(&bob, &room, &[server("a")]).await.unwrap();
    b.leave(&bob, &room, None).await.unwrap();
    world.settle(&room, &["a", "b"]).await;
    let before = world.log("b", &room).await;
    for n in 0..3 {
        a.send_event(&user("alice", "a"), &room, message(&format!("unseen {n}")), None)
            .await
            .unwrap();
    }
    b.join(&bob, &room, &[]).await.unwrap();
    a.send_event(&user("alice", "a"), &room, message("seen"), None)
        .await
        .unwrap();
    world.settle(&room, &["a", "b"]).await;
    let after = world.log("b", &room).await;
    assert!(after.starts_with(&before));
    assert_eq!(
        after.len(),
        before.len() + 2,
        "the join and what came after it, and nothing of the time away"
    );
    let membership = b.store().rooms_of(&bob).await.unwrap()[0].membership;
    assert_eq!(membership, Membership::Join);
}

#[tokio::test]
async fn a_second_user_of_a_server_joins_without_a_handshake() {
    let world = World::new(&["a", "b"]);
    let room = room_at_a(&world).await;
    let b = world.service("b");
    b.join(&user("bob", "b"), &room, &[server("a")]).await.unwrap();
    let sent = b.join(&user("beth", "b"), &room, &[]).await.unwrap();
    assert_eq!(sent.status, SentStatus::Appended);
    assert_eq!(world.made("make_join").len(), 1);
}

#[tokio::test]
async fn a_timeline_in_place_of_the_state_is_folded_along_its_chain() {
    let world = World::new(&["a", "b"]);
    let room = room_at_a(&world).await;
    let a = world.service("a");
    for name in ["first", "second"] {
        let event = NewEvent {
            event_type: "m.room.name".to_owned(),
            state_key: Some(String::new()),
            content: object! { "name" => name },
        };
        a.send_event(&user("alice", "a"), &room, event, None).await.unwrap();
    }
    // What eigen-server answers: every event there is, in no order, with `event_id` added.
    let between = nabe_store::Between::ALL;
    let log = world
        .store("a")
        .entries(&room, between, 100, nabe_store::Order::Descending)
        .await
        .unwrap();
    let timeline: Vec<Object> = log
        .iter()
        .map(|entry| {
            let mut object = entry.pdu().unwrap().object().clone();
            object.insert("event_id", entry.event_id().as_str());
            object
        })
        .collect();
    world.rewrite(move |request, body| {
        if !request.stable.contains("send_join") {
            return body;
        }
        let mut answer = Object::parse(&body).unwrap();
        answer.insert("state", Json::from(timeline.clone()));
        answer.to_canonical().into()
    });
    world
        .service("b")
        .join(&user("bob", "b"), &room, &[server("a")])
        .await
        .unwrap();
    let name = world
        .service("b")
        .room_state_event(&user("bob", "b"), &room, "m.room.name", "")
        .await
        .unwrap();
    assert_eq!(name.pdu.content(), &object! { "name" => "second" });
}
