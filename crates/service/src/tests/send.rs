//! `/send`: cases 14 to 18, 22 to 26, 45 to 48, 52; what a crash, a second writer or an impatient caller changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering as Atomic};

use nabe_event::event_id_of;
use nabe_signing::json::{Json, Object};
use nabe_signing::object;
use nabe_store::{InboxKind, Store};
use nabe_types::{DeviceId, ErrorCode};
use tokio::sync::oneshot;

use super::{Hub, failure, json, nothing_failed, push, topic_at, txn_id};
use crate::ServiceError;
use crate::client::testing::{answer, eventually, let_run, public_room, server, user};

#[tokio::test]
async fn lpdu_is_appended_and_echoed_to_every_participant() {
    let hub = Hub::public().await;
    let (bob, carol) = (user("bob", "p"), user("carol", "t"));
    hub.joins(&bob).await;
    hub.joins(&carol).await;
    let reply = hub
        .send("p", "1", vec![json(&hub.message(&bob, "hello"))])
        .await
        .unwrap();
    assert_eq!(reply, nothing_failed());
    let log = hub.log().await;
    let event = log.last().unwrap().pdu().unwrap();
    assert_eq!(event.hub_server(), Some(&server("h")));
    assert_eq!(event.prev_events(), [log[log.len() - 2].event_id().clone()]);
    for name in ["p", "t"] {
        eventually("the event is sent", || async {
            hub.world.made("/send/").iter().any(|made| {
                let body = String::from_utf8(made.request.body.clone().unwrap().to_vec()).unwrap();
                made.to == server(name) && body.contains("hello")
            })
        })
        .await;
    }
}

#[tokio::test]
async fn lpdu_with_auth_events_is_not_appended() {
    let hub = Hub::public().await;
    let bob = user("bob", "p");
    hub.joins(&bob).await;
    let before = hub.len().await;
    let mut event = json(&hub.message(&bob, "x")).into_object().unwrap();
    event.insert("auth_events", Json::Array(Vec::new()));
    assert_eq!(hub.send("p", "1", vec![event.into()]).await.unwrap(), nothing_failed());
    assert_eq!(hub.len().await, before);
}

#[tokio::test]
async fn lpdu_for_another_hub_is_rejected_under_its_own_id() {
    let hub = Hub::public().await;
    let bob = user("bob", "p");
    hub.joins(&bob).await;
    let lpdu = nabe_event::EventBuilder::new(
        hub.room.clone(),
        "m.room.message",
        bob,
        nabe_types::UnixMillis(5),
        Object::new(),
    )
    .build_lpdu(
        &crate::client::testing::signer("p"),
        &server("t"),
        &nabe_event::RoomVersionRules::I1,
    )
    .unwrap();
    let reply = hub.send("p", "1", vec![json(&lpdu)]).await.unwrap();
    failure(&reply, lpdu.lpdu_id());
}

#[tokio::test]
async fn badly_signed_lpdu_is_dropped_in_silence() {
    let hub = Hub::public().await;
    let bob = user("bob", "p");
    hub.joins(&bob).await;
    let before = hub.len().await;
    let mut event = json(&hub.message(&bob, "x")).into_object().unwrap();
    event.insert("origin_server_ts", 7);
    assert_eq!(hub.send("p", "1", vec![event.into()]).await.unwrap(), nothing_failed());
    assert_eq!(hub.len().await, before);
}

#[tokio::test]
async fn lpdu_with_wrong_content_hash_is_kept_redacted() {
    let hub = Hub::public().await;
    let bob = user("bob", "p");
    hub.joins(&bob).await;
    let mut event = json(&hub.message(&bob, "x")).into_object().unwrap();
    event.insert("content", object! { "body" => "altered" });
    assert_eq!(hub.send("p", "1", vec![event.into()]).await.unwrap(), nothing_failed());
    assert_eq!(hub.last().await.get("content").unwrap(), &Json::Object(Object::new()));
}

#[tokio::test]
async fn signature_of_an_unrelated_server_is_ignored() {
    let hub = Hub::public().await;
    let bob = user("bob", "p");
    hub.joins(&bob).await;
    let mut event = json(&hub.message(&bob, "x")).into_object().unwrap();
    let signatures = event.get_mut("signatures").unwrap().as_object_mut().unwrap();
    signatures.insert("evil.example", object! { "ed25519:1" => "AAAA" });
    assert_eq!(hub.send("p", "1", vec![event.into()]).await.unwrap(), nothing_failed());
    assert_eq!(
        hub.last().await.get("content").unwrap(),
        &object! { "body" => "x" }.into()
    );
}

#[tokio::test]
async fn sender_who_is_not_joined_is_reported() {
    let hub = Hub::public().await;
    let lpdu = hub.message(&user("bob", "p"), "x");
    let reply = hub.send("p", "1", vec![json(&lpdu)]).await.unwrap();
    failure(&reply, lpdu.lpdu_id());
}

#[tokio::test]
async fn user_without_power_cannot_name_the_room() {
    let hub = Hub::public().await;
    let bob = user("bob", "p");
    hub.joins(&bob).await;
    let lpdu = hub.lpdu(&bob, "m.room.name", Some(""), object! { "name" => "mine" });
    let reply = hub.send("p", "1", vec![json(&lpdu)]).await.unwrap();
    failure(&reply, lpdu.lpdu_id());
}

#[tokio::test]
async fn server_cannot_send_for_users_of_another() {
    let hub = Hub::public().await;
    let carol = user("carol", "t");
    hub.joins(&carol).await;
    let before = hub.len().await;
    let lpdu = hub.message(&carol, "forged");
    let reply = hub.send("p", "1", vec![json(&lpdu)]).await.unwrap();
    failure(&reply, lpdu.lpdu_id());
    assert_eq!(hub.len().await, before);
}

#[tokio::test]
async fn events_are_judged_in_sequence_each_after_the_one_before() {
    let hub = Hub::public().await;
    hub.joins(&user("bob", "p")).await;
    let ben = user("ben", "p");
    let events = vec![json(&hub.member(&ben, &ben, "join")), json(&hub.message(&ben, "hi"))];
    assert_eq!(hub.send("p", "1", events).await.unwrap(), nothing_failed());
    assert_eq!(hub.last().await.get("type").unwrap().as_str(), Some("m.room.message"));
}

#[tokio::test]
async fn unknown_and_invalid_rooms_are_reported() {
    let hub = Hub::public().await;
    let event = |room: &str| object! { "room_id" => room, "type" => "x" };
    let events = [event("!nowhere:h.example"), event("nonsense")];
    let reply = hub
        .send("p", "1", events.iter().cloned().map(Json::Object).collect())
        .await
        .unwrap();
    for event in &events {
        failure(&reply, &event_id_of(event));
    }
}

#[tokio::test]
async fn transaction_over_the_limits_does_nothing() {
    let hub = Hub::public().await;
    let bob = user("bob", "p");
    hub.joins(&bob).await;
    let before = hub.len().await;
    let pdus: Vec<_> = (0..51).map(|n| json(&hub.message(&bob, &n.to_string()))).collect();
    assert_eq!(hub.send("p", "1", pdus).await.unwrap_err().code(), ErrorCode::BadJson);
    let edus = vec![Json::Object(Object::new()); 101];
    let body = object! { "pdus" => vec![json(&hub.message(&bob, "x"))], "edus" => edus };
    assert_eq!(
        hub.send_body("p", "2", body.into()).await.unwrap_err().code(),
        ErrorCode::BadJson
    );
    assert_eq!(hub.len().await, before);
}

#[tokio::test]
async fn bodies_of_the_wrong_shape_are_refused() {
    let hub = Hub::public().await;
    for body in ["[]", "{}", r#"{"pdus":{}}"#, r#"{"pdus":[],"edus":7}"#] {
        let refused = hub
            .send_body("p", "1", Json::parse(body.as_bytes()).unwrap())
            .await
            .unwrap_err();
        assert_eq!(refused.code(), ErrorCode::BadJson, "{body}");
    }
}

#[tokio::test]
async fn same_transaction_gets_the_same_reply_and_is_done_once_even_after_a_crash() {
    let mut hub = Hub::public().await;
    let bob = user("bob", "p");
    hub.joins(&bob).await;
    let (good, bad) = (
        hub.message(&bob, "x"),
        hub.lpdu(&bob, "m.room.name", Some(""), Object::new()),
    );
    let pdus = vec![json(&good), json(&bad)];
    let first = hub.send("p", "1", pdus.clone()).await.unwrap();
    failure(&first, bad.lpdu_id());
    let len = hub.len().await;
    assert_eq!(hub.send("p", "1", pdus.clone()).await.unwrap(), first);
    hub.service = hub.world.crash("h");
    assert_eq!(hub.send("p", "1", pdus).await.unwrap(), first);
    assert_eq!(hub.len().await, len);
}

#[tokio::test]
async fn reply_is_forgotten_after_its_retention() {
    let hub = Hub::public().await;
    hub.send("p", "1", Vec::new()).await.unwrap();
    let key = nabe_store::IdempotencyKey {
        scope: "p.example".to_owned(),
        endpoint: "send".to_owned(),
        txn_id: "1".to_owned(),
    };
    let store = hub.world.store("h");
    hub.service.expire_replies().await;
    assert!(store.reply(&key).await.unwrap().is_some());
    hub.world
        .clock
        .advance(std::time::Duration::from_secs(24 * 60 * 60 + 1));
    hub.service.expire_replies().await;
    assert_eq!(store.reply(&key).await.unwrap(), None);
}

#[tokio::test]
async fn another_transaction_meanwhile_is_bad_state_and_other_origins_are_not_affected() {
    let hub = Hub::public().await;
    let (release, released) = oneshot::channel::<()>();
    let slow = hub.service.transaction(&server("p"), "send", &txn_id("slow"), [0; 32]);
    let service = hub.service.clone();
    let running = tokio::spawn(async move {
        let work = move |service: crate::Service, transaction: crate::idempotency::Transaction| async move {
            released.await.unwrap();
            Ok(transaction.reply(&Object::new(), &service).0)
        };
        service.once(slow, true, work).await
    });
    let_run().await;
    assert_eq!(
        hub.send("p", "other", Vec::new()).await.unwrap_err().code(),
        ErrorCode::BadState
    );
    hub.send("t", "other", Vec::new()).await.unwrap();
    release.send(()).unwrap();
    running.await.unwrap().unwrap();
    hub.send("p", "next", Vec::new()).await.unwrap();
}

#[tokio::test]
async fn work_goes_on_when_the_caller_hangs_up_and_is_shared_by_those_who_ask_again() {
    let hub = Hub::public().await;
    let (release, released) = oneshot::channel::<()>();
    let done = Arc::new(AtomicUsize::new(0));
    let transaction = || hub.service.transaction(&server("p"), "send", &txn_id("1"), [0; 32]);
    let (service, first, counter) = (hub.service.clone(), transaction(), Arc::clone(&done));
    let caller = tokio::spawn(async move {
        let work = move |service: crate::Service, transaction: crate::idempotency::Transaction| async move {
            released.await.unwrap();
            counter.fetch_add(1, Atomic::Relaxed);
            let (reply, write) = transaction.reply(&object! { "done" => true }, &service);
            service.commit(write.into()).await?;
            Ok(reply)
        };
        service.once(first, true, work).await
    });
    let_run().await;
    assert_eq!(
        hub.send("p", "other", Vec::new()).await.unwrap_err().code(),
        ErrorCode::BadState
    );
    caller.abort();
    let (service, second) = (hub.service.clone(), transaction());
    let again = tokio::spawn(async move {
        service
            .once(second, true, |_, _| async { panic!("the work is done only once") })
            .await
    });
    release.send(()).unwrap();
    assert_eq!(&again.await.unwrap().unwrap().body[..], br#"{"done":true}"#);
    assert_eq!(done.load(Atomic::Relaxed), 1);
}

#[tokio::test]
async fn same_lpdu_twice_is_one_event() {
    let hub = Hub::public().await;
    let bob = user("bob", "p");
    hub.joins(&bob).await;
    let event = json(&hub.message(&bob, "once"));
    assert_eq!(
        hub.send("p", "1", vec![event.clone(), event.clone()]).await.unwrap(),
        nothing_failed()
    );
    let len = hub.len().await;
    assert_eq!(hub.send("p", "2", vec![event]).await.unwrap(), nothing_failed());
    assert_eq!(hub.len().await, len);
}

#[tokio::test]
async fn crash_between_append_and_reply_doubles_nothing() {
    let mut hub = Hub::public().await;
    let bob = user("bob", "p");
    hub.joins(&bob).await;
    let lpdu = hub.message(&bob, "once");
    let input = nabe_core::Input::Lpdu {
        event: lpdu.clone(),
        from: server("p"),
        via: nabe_core::Via::Send,
    };
    hub.service.transact(&hub.room, input).await.unwrap();
    let len = hub.len().await;
    hub.service = hub.world.crash("h");
    assert_eq!(hub.send("p", "1", vec![json(&lpdu)]).await.unwrap(), nothing_failed());
    assert_eq!(hub.len().await, len);
}

#[tokio::test]
async fn append_by_somebody_else_makes_us_decide_again() {
    let mut hub = Hub::public().await;
    let bob = user("bob", "p");
    hub.joins(&bob).await;
    // A second service on the same store: the first one's view is now behind.
    let stale = hub.service.clone();
    hub.service = hub.world.start("h");
    hub.send("p", "1", vec![json(&hub.message(&bob, "one"))]).await.unwrap();
    hub.service = stale;
    assert_eq!(
        hub.send("p", "2", vec![json(&hub.message(&bob, "two"))]).await.unwrap(),
        nothing_failed()
    );
    let log = hub.log().await;
    let bodies: Vec<_> = log
        .iter()
        .filter_map(|entry| entry.pdu()?.content().get("body")?.as_str())
        .collect();
    assert_eq!(bodies, ["one", "two"]);
}

#[tokio::test]
async fn refusal_from_an_outdated_view_does_not_count() {
    let mut hub = Hub::public().await;
    let bob = user("bob", "p");
    let stale = hub.service.clone();
    hub.service = hub.world.start("h");
    hub.joins(&bob).await;
    hub.service = stale;
    assert_eq!(
        hub.send("p", "1", vec![json(&hub.message(&bob, "hi"))]).await.unwrap(),
        nothing_failed()
    );
}

#[tokio::test]
async fn transaction_over_several_rooms_is_appended_to_each() {
    let hub = Hub::public().await;
    let bob = user("bob", "p");
    hub.joins(&bob).await;
    let first = json(&hub.message(&bob, "first room"));
    let room = hub
        .service
        .create_room(&user("alice", "h"), public_room(), None)
        .await
        .unwrap()
        .room_id;
    let other = Hub { room, ..hub };
    other.joins(&bob).await;
    let second = json(&other.message(&bob, "second room"));
    assert_eq!(
        other.send("p", "1", vec![second, first]).await.unwrap(),
        nothing_failed()
    );
    assert_eq!(
        other.last().await.get("content").unwrap(),
        &object! { "body" => "second room" }.into()
    );
}

#[tokio::test]
async fn participant_drops_lpdus_and_pdus_from_others_than_the_hub() {
    let hub = Hub::public().await;
    let (bob, carol) = (user("bob", "p"), user("carol", "t"));
    let participant = hub.world.service("p");
    participant.join(&bob, &hub.room, &[server("h")]).await.unwrap();
    hub.joins(&carol).await;
    hub.world.settle(&hub.room, &["h", "p"]).await;
    let before = hub.world.log("p", &hub.room).await;
    let lpdu = json(&hub.message(&carol, "to the wrong server"));
    hub.world.set_down("h", true);
    hub.send("t", "1", vec![json(&hub.message(&carol, "by the hub"))])
        .await
        .unwrap();
    let pdu = hub.last().await;
    for (txn, event) in [("lpdu", lpdu), ("pdu", pdu.into())] {
        let reply = push(&participant, "t", txn, vec![event]).await.unwrap();
        assert_eq!(reply, nothing_failed());
    }
    assert_eq!(hub.world.log("p", &hub.room).await, before);
}

#[tokio::test]
async fn participant_that_missed_events_fetches_them() {
    let hub = Hub::public().await;
    let bob = user("bob", "p");
    let participant = hub.world.service("p");
    participant.join(&bob, &hub.room, &[server("h")]).await.unwrap();
    hub.world.settle(&hub.room, &["h", "p"]).await;
    hub.world.set_down("p", true);
    for body in ["one", "two", "three"] {
        hub.send("p", body, vec![json(&hub.message(&bob, body))]).await.unwrap();
    }
    hub.world.set_down("p", false);
    // Only the newest is pushed; the two before it have to be asked for.
    let newest = vec![hub.last().await.into()];
    let reply = push(&participant, "h", "pushed", newest).await.unwrap();
    assert_eq!(reply, nothing_failed());
    hub.world.settle(&hub.room, &["h", "p"]).await;
    assert!(!hub.world.made("/backfill/").is_empty());
    let log = hub.world.log("h", &hub.room).await;
    assert!(log.ends_with(&hub.world.log("p", &hub.room).await));
}

#[tokio::test]
async fn to_device_message_reaches_a_known_device_only() {
    let hub = Hub::public().await;
    let alice = user("alice", "h");
    let device = hub.service.register_device(&alice, None).await.unwrap();
    let edu = |device: &str, sender: &str| {
        let content = object! {
            "target" => "@alice:h.example",
            "target_device" => device,
            "message_type" => "m.test",
            "message" => object! { "n" => 1 },
        };
        Json::from(object! { "type" => "m.direct_to_device", "sender" => sender, "content" => content })
    };
    let edus = vec![
        edu(device.as_str(), "@bob:p.example"),
        edu("NOSUCH", "@bob:p.example"),
        edu(device.as_str(), "@carol:t.example"),
        object! { "type" => "m.typing", "sender" => "@bob:p.example", "content" => Object::new() }.into(),
        Json::Null,
    ];
    let body = Json::from(object! { "pdus" => Vec::<Json>::new(), "edus" => edus });
    hub.send_body("p", "1", body.clone()).await.unwrap();
    hub.send_body("p", "1", body).await.unwrap();
    let inbox = hub.world.store("h").inbox(&alice, Some(&device), 0, 10).await.unwrap();
    let bodies: Vec<_> = inbox.iter().map(|item| (item.kind, item.device.clone())).collect();
    assert_eq!(bodies, [(InboxKind::ToDevice, Some(device))]);
    let body = Object::parse(&inbox[0].body).unwrap();
    assert_eq!(body.get("sender").unwrap().as_str(), Some("@bob:p.example"));
    assert!(DeviceId::parse("NOSUCH").is_ok());
}

#[tokio::test]
async fn denied_server_is_refused_before_anything_is_read() {
    let mut hub = Hub::public().await;
    hub.service = hub.world.start_with("h", |settings| {
        settings
            .policy
            .deny
            .push(nabe_types::ServerPattern::parse("*.example").unwrap());
    });
    let refused = hub.send("p", "1", Vec::new()).await.unwrap_err();
    assert!(matches!(refused, ServiceError::PolicyRefused { .. }), "{refused}");
}

#[tokio::test]
async fn participant_whose_gap_cannot_be_filled_goes_on_behind_it() {
    let hub = Hub::public().await;
    let (alice, bob) = (user("alice", "h"), user("bob", "p"));
    let participant = hub.world.service("p");
    participant.join(&bob, &hub.room, &[server("h")]).await.unwrap();
    hub.world.settle(&hub.room, &["h", "p"]).await;
    let before = hub.world.log("p", &hub.room).await;
    hub.world.set_down("p", true);
    let topic = crate::client::NewEvent {
        event_type: "m.room.topic".to_owned(),
        state_key: Some(String::new()),
        content: object! { "topic" => "missed" },
    };
    hub.send("p", "1", vec![json(&hub.message(&bob, "missed"))])
        .await
        .unwrap();
    let missing = hub
        .service
        .send_event(&alice, &hub.room, topic, None)
        .await
        .unwrap()
        .event_id
        .unwrap();
    hub.send("p", "2", vec![json(&hub.message(&bob, "seen"))])
        .await
        .unwrap();
    let state = hub.service.state(&server("p"), &hub.room, &missing).await.unwrap();
    let event = hub.service.event(&server("p"), &missing).await.unwrap();
    hub.world.intercept(move |from, _, request| {
        let served = |body: &bytes::Bytes| answer(200, Object::parse(body).unwrap());
        match request.stable.split('/').nth(4) {
            _ if *from != server("p") => None,
            Some("backfill") => Some(answer(404, object! { "errcode" => "M_NOT_FOUND" })),
            Some("state") => Some(served(&state)),
            Some("event") => Some(served(&event)),
            _ => None,
        }
    });
    hub.world.set_down("p", false);
    let newest = vec![hub.last().await.into()];
    let reply = push(&participant, "h", "pushed", newest).await.unwrap();
    assert_eq!(reply, nothing_failed());
    let after = hub.world.log("p", &hub.room).await;
    assert_eq!(after[..before.len()], before[..]);
    assert_eq!(
        after[before.len()..],
        [hub.log().await.last().unwrap().event_id().clone()]
    );
    assert_eq!(topic_at(&participant, &hub.room).await, Some(Json::from("missed")));
}

#[tokio::test]
async fn an_old_event_that_comes_late_never_takes_a_participant_back_to_an_old_state() {
    let hub = Hub::public().await;
    let (alice, bob) = (user("alice", "h"), user("bob", "p"));
    let old = |topic: &str| crate::client::NewEvent {
        event_type: "m.room.topic".to_owned(),
        state_key: Some(String::new()),
        content: object! { "topic" => topic },
    };
    let send = async |topic: &str| {
        let sent = hub
            .service
            .send_event(&alice, &hub.room, old(topic), None)
            .await
            .unwrap();
        sent.event_id.unwrap()
    };
    let before_our_time = send("old").await;
    send("older than the join, too").await;
    let pushed = hub.last().await;
    send("new").await;
    let participant = hub.world.service("p");
    participant.join(&bob, &hub.room, &[server("h")]).await.unwrap();
    hub.world.settle(&hub.room, &["h", "p"]).await;
    let before = hub.world.log("p", &hub.room).await;

    // The hub claims that history cannot be had, and states the room as it was at the old event.
    let state = hub
        .service
        .state(&server("p"), &hub.room, &before_our_time)
        .await
        .unwrap();
    let event = hub.service.event(&server("p"), &before_our_time).await.unwrap();
    hub.world.intercept(move |from, _, request| {
        let served = |body: &bytes::Bytes| answer(200, Object::parse(body).unwrap());
        match request.stable.split('/').nth(4) {
            _ if *from != server("p") => None,
            Some("backfill") => Some(answer(404, object! { "errcode" => "M_NOT_FOUND" })),
            Some("state") => Some(served(&state)),
            Some("event") => Some(served(&event)),
            _ => None,
        }
    });
    push(&participant, "h", "late", vec![pushed.into()]).await.unwrap();
    assert_eq!(hub.world.log("p", &hub.room).await, before);
    assert_eq!(topic_at(&participant, &hub.room).await, Some(Json::from("new")));
}

#[tokio::test]
async fn view_that_was_committed_stays_in_memory() {
    let hub = Hub::public().await;
    let alice = user("alice", "h");
    let said = crate::client::NewEvent {
        event_type: "m.room.message".to_owned(),
        state_key: None,
        content: object! { "body" => "hello" },
    };
    hub.service.send_event(&alice, &hub.room, said, None).await.unwrap();
    assert!(hub.service.inner.rooms.bytes() > 0);
}
