//! `/event`, `/state`, `/state_ids`, `/backfill`: cases 59 to 63.

use bytes::Bytes;
use nabe_signing::json::{Json, Object};
use nabe_signing::object;
use nabe_types::{ErrorCode, EventId};

use super::{Hub, json, list, text};
use crate::ServiceError;
use crate::client::testing::{message, public_room, server, user};
use crate::client::{NewEvent, NewRoom};

fn parse(body: Result<Bytes, ServiceError>) -> Object {
    Object::parse(&body.unwrap()).unwrap()
}

fn state_event(event_type: &str, content: Object) -> NewEvent {
    NewEvent {
        event_type: event_type.to_owned(),
        state_key: Some(String::new()),
        content,
    }
}

impl Hub {
    async fn says(&self, body: &str) -> EventId {
        let sent = self
            .service
            .send_event(&user("alice", "h"), &self.room, message(body), None)
            .await
            .unwrap();
        sent.event_id.unwrap()
    }
}

#[tokio::test]
async fn event_is_served_to_those_who_may_know_of_it() {
    let hub = Hub::public().await;
    let id = hub.says("hello").await;
    let hidden = hub.service.event(&server("p"), &id).await.unwrap_err();
    assert_eq!(hidden.code(), ErrorCode::NotFound);
    let bob = user("bob", "p");
    hub.joins(&bob).await;
    assert_eq!(
        parse(hub.service.event(&server("p"), &id).await),
        *hub.log().await.iter().rev().nth(1).unwrap().pdu().unwrap().object()
    );
    let lpdu = hub.message(&bob, "x");
    hub.send("p", "1", vec![json(&lpdu)]).await.unwrap();
    let refused = hub.service.event(&server("p"), lpdu.lpdu_id()).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NotFound);
}

#[tokio::test]
async fn state_is_that_before_the_event_with_a_closed_auth_chain() {
    let hub = Hub::public().await;
    hub.joins(&user("bob", "p")).await;
    let alice = user("alice", "h");
    let old = object! { "users" => object! { "@alice:h.example" => 100 }, "events_default" => 7 };
    hub.service
        .send_event(&alice, &hub.room, state_event("m.room.power_levels", old), None)
        .await
        .unwrap();
    let new = object! { "users" => object! { "@alice:h.example" => 100 }, "events_default" => 8 };
    let sent = hub
        .service
        .send_event(&alice, &hub.room, state_event("m.room.power_levels", new), None)
        .await
        .unwrap();
    let id = sent.event_id.unwrap();
    let answer = parse(hub.service.state(&server("p"), &hub.room, &id).await);
    let levels: Vec<_> = list(&answer, "pdus")
        .iter()
        .map(|event| event.as_object().unwrap())
        .filter(|event| text(event, "type") == "m.room.power_levels")
        .map(|event| {
            event
                .get("content")
                .unwrap()
                .as_object()
                .unwrap()
                .get("events_default")
                .unwrap()
                .as_i64()
        })
        .collect();
    assert_eq!(levels, [Some(7)]);
    let ids_of = |name: &str| -> Vec<String> {
        list(&answer, name)
            .iter()
            .map(|event| nabe_event::event_id_of(event.as_object().unwrap()).to_string())
            .collect()
    };
    let (mut chain, mut state) = (ids_of("auth_chain"), ids_of("pdus"));
    for event in list(&answer, "auth_chain").iter().chain(list(&answer, "pdus")) {
        for auth in list(event.as_object().unwrap(), "auth_events") {
            assert!(chain.contains(&auth.as_str().unwrap().to_owned()));
        }
    }
    let ids = hub.service.state_ids(&server("p"), &hub.room, &id).await.unwrap();
    let listed = |name: &str| -> Vec<String> {
        let mut ids: Vec<_> = list(&ids, name)
            .iter()
            .map(|id| id.as_str().unwrap().to_owned())
            .collect();
        ids.sort();
        ids
    };
    chain.sort();
    state.sort();
    assert_eq!((listed("auth_chain_ids"), listed("pdu_ids")), (chain, state));
}

#[tokio::test]
async fn state_of_another_room_or_at_a_participant_is_refused() {
    let hub = Hub::public().await;
    let bob = user("bob", "p");
    hub.world
        .service("p")
        .join(&bob, &hub.room, &[server("h")])
        .await
        .unwrap();
    let id = hub.says("x").await;
    let other = hub
        .service
        .create_room(&user("alice", "h"), public_room(), None)
        .await
        .unwrap()
        .room_id;
    let refused = hub.service.state(&server("p"), &other, &id).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NotFound);
    let refused = hub.service.state(&server("t"), &hub.room, &id).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NotFound);
    let refused = hub
        .world
        .service("p")
        .state_ids(&server("t"), &hub.room, &id)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), ErrorCode::WrongServer);
}

#[tokio::test]
async fn backfill_is_oldest_first_and_ends_with_the_event_asked_for() {
    let hub = Hub::public().await;
    hub.joins(&user("bob", "p")).await;
    for body in ["one", "two", "three"] {
        hub.says(body).await;
    }
    let last = hub.says("four").await;
    let answer = parse(hub.service.backfill(&server("p"), &hub.room, &last, 3).await);
    let bodies: Vec<_> = list(&answer, "pdus")
        .iter()
        .map(|event| {
            text(
                event.as_object().unwrap().get("content").unwrap().as_object().unwrap(),
                "body",
            )
        })
        .collect();
    assert_eq!(bodies, ["two", "three", "four"]);
    let refused = hub
        .service
        .backfill(&server("p"), &hub.room, &last, 0)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidParam);
    let create = hub.log().await[0].event_id().clone();
    let answer = parse(hub.service.backfill(&server("p"), &hub.room, &create, 10).await);
    assert_eq!(list(&answer, "pdus").len(), 1);
}

#[tokio::test]
async fn event_of_another_room_leads_into_no_history() {
    let hub = Hub::public().await;
    hub.joins(&user("bob", "p")).await;
    hub.says("here").await;
    let alice = user("alice", "h");
    let other = public_room();
    let other = hub.service.create_room(&alice, other, None).await.unwrap().room_id;
    let p = hub.world.service("p");
    p.join(&user("bob", "p"), &other, &[server("h")]).await.unwrap();
    let elsewhere = hub.world.log("h", &other).await.pop().unwrap();
    let refused = hub.service.backfill(&server("p"), &hub.room, &elsewhere, 10).await;
    assert_eq!(refused.unwrap_err().code(), ErrorCode::NotFound);
    assert!(hub.service.backfill(&server("p"), &other, &elsewhere, 10).await.is_ok());
}

#[tokio::test]
async fn history_before_the_join_is_redacted_under_joined_visibility() {
    let room = NewRoom {
        history_visibility: Some("joined".to_owned()),
        ..public_room()
    };
    let hub = Hub::with(room).await;
    hub.says("secret").await;
    let commit = NewEvent {
        event_type: "m.mls.commit".to_owned(),
        state_key: None,
        content: object! { "message" => "AAAA" },
    };
    hub.service
        .send_event(&user("alice", "h"), &hub.room, commit, None)
        .await
        .unwrap();
    hub.joins(&user("bob", "p")).await;
    let last = hub.says("public").await;
    let answer = parse(hub.service.backfill(&server("p"), &hub.room, &last, 4).await);
    let contents: Vec<_> = list(&answer, "pdus")
        .iter()
        .map(|event| event.as_object().unwrap().get("content").unwrap())
        .collect();
    assert_eq!(contents[0], &Json::Object(Object::new()));
    assert_eq!(contents[1], &object! { "message" => "AAAA" }.into());
    assert_eq!(contents[3], &object! { "body" => "public" }.into());
}

#[tokio::test]
async fn server_that_left_sees_nothing_newer_than_its_departure() {
    let hub = Hub::public().await;
    let bob = user("bob", "p");
    hub.joins(&bob).await;
    let before = hub.says("before").await;
    hub.send("p", "1", vec![json(&hub.member(&bob, &bob, "leave"))])
        .await
        .unwrap();
    let after = hub.says("after").await;
    hub.service.event(&server("p"), &before).await.unwrap();
    assert_eq!(
        hub.service.event(&server("p"), &after).await.unwrap_err().code(),
        ErrorCode::NotFound
    );
    let refused = hub
        .service
        .backfill(&server("p"), &hub.room, &after, 10)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NotFound);
}

#[tokio::test]
async fn banned_server_that_never_joined_sees_nothing() {
    let hub = Hub::public().await;
    let id = hub.says("not for you").await;
    hub.service
        .ban(&user("alice", "h"), &hub.room, &user("mallory", "t"), None)
        .await
        .unwrap();
    assert_eq!(
        hub.service.event(&server("t"), &id).await.unwrap_err().code(),
        ErrorCode::NotFound
    );
}

#[tokio::test]
async fn participants_log_grows_backwards_to_the_beginning() {
    let hub = Hub::public().await;
    for n in 0..5 {
        hub.says(&n.to_string()).await;
    }
    let participant = hub.world.service("p");
    participant
        .join(&user("bob", "p"), &hub.room, &[server("h")])
        .await
        .unwrap();
    let mut fetched = 0;
    loop {
        match participant.extend_history(&hub.room, 3).await.unwrap() {
            0 => break,
            count => fetched += count,
        }
    }
    assert!(fetched >= 5);
    assert_eq!(hub.world.log("p", &hub.room).await, hub.world.log("h", &hub.room).await);
}

#[tokio::test]
async fn evicted_room_is_loaded_again_and_goes_on() {
    let mut hub = Hub::public().await;
    hub.service = hub
        .world
        .start_with("h", |settings| settings.limits.room_memory_bytes = 1);
    hub.says("one").await;
    hub.service.evict_rooms().await;
    let two = hub.says("two").await;
    let log = hub.log().await;
    assert_eq!(log.last().unwrap().event_id(), &two);
    assert_eq!(
        log.last().unwrap().pdu().unwrap().prev_events(),
        [log[log.len() - 2].event_id().clone()]
    );
}

#[tokio::test]
async fn shutdown_ends_with_everything_durable() {
    let mut hub = Hub::public().await;
    hub.says("one").await;
    hub.service.shutdown().await;
    let refused = hub
        .service
        .send_event(&user("alice", "h"), &hub.room, message("late"), None)
        .await
        .unwrap_err();
    assert!(matches!(refused, ServiceError::ShuttingDown), "{refused}");
    hub.service = hub.world.start("h");
    hub.says("two").await;
}
