//! What a participant does about missing events, and how much of anybody's it keeps: parked events, repeated LPDUs, backfill
//! and state that were tampered with.

use nabe_core::EntryBody;
use nabe_event::{Completion, EventBuilder, RoomVersionRules};
use nabe_signing::json::{Json, Object};
use nabe_signing::{Signer, SigningKey, object, sha256};
use nabe_store::{Between, Order, Store};
use nabe_types::{EventId, KeyId, UnixMillis, UserId};

use super::{Hub, failure, json, nothing_failed, txn_id};
use crate::client::testing::{answer, server, signer, user};
use crate::ports::PeerError;
use crate::{Service, ServiceError};

/// `/send` of these events by `h` to another server.
async fn push(to: &Service, from: &str, txn: &str, pdus: Vec<Json>) -> Result<Object, ServiceError> {
    let body = Json::from(object! { "pdus" => pdus });
    let hash = sha256(&body.to_canonical());
    let reply = to.send_txn(server(from), txn_id(txn), body, hash).await?;
    Ok(Object::parse(&reply.body).unwrap())
}

impl Hub {
    /// A participant whose log is the hub's, and which then cannot be reached.
    async fn participant_left_behind(&self) -> (Service, UserId) {
        let (participant, bob) = (self.world.service("p"), user("bob", "p"));
        participant.join(&bob, &self.room, &[server("h")]).await.unwrap();
        self.world.settle(&self.room, &["h", "p"]).await;
        self.world.set_down("p", true);
        (participant, bob)
    }

    async fn bodies_at_p(&self) -> Vec<Option<String>> {
        let entries = self
            .world
            .store("p")
            .entries(&self.room, Between::ALL, usize::MAX, Order::Ascending)
            .await
            .unwrap();
        let body = |pdu: &nabe_event::Pdu| pdu.content().get("body")?.as_str().map(str::to_owned);
        entries.iter().map(|entry| entry.pdu().and_then(body)).collect()
    }

    /// The last events of the hub's log.
    async fn newest(&self, count: usize) -> Vec<Json> {
        let log = self.log().await;
        let newest = log[log.len() - count..].iter();
        newest
            .map(|entry| entry.pdu().unwrap().object().clone().into())
            .collect()
    }
}

#[tokio::test]
async fn hub_keeps_nothing_for_servers_that_did_not_send_it() {
    let hub = Hub::public().await;
    hub.joins(&user("bob", "p")).await;
    // Neither server is there, so a key of theirs could not be had.
    let foreign = hub.message(&user("dave", "d"), "of a third server");
    let elsewhere = EventBuilder::new(
        hub.room.clone(),
        "m.room.message",
        user("bob", "p"),
        UnixMillis(5),
        Object::new(),
    );
    let strange = SigningKey::from_seed(KeyId::ed25519("unpublished").unwrap(), [9; 32]);
    let strange = Signer::new(server("p"), vec![strange]).unwrap();
    let rules = &RoomVersionRules::I1;
    let misdirected = elsewhere.clone().build_lpdu(&strange, &server("t"), rules).unwrap();
    let unknown_key = elsewhere.build_lpdu(&strange, &server("h"), rules).unwrap();
    let before = hub.len().await;
    let events = vec![json(&foreign), json(&misdirected)];
    let reply = hub.send("p", "1", events).await.unwrap();
    failure(&reply, foreign.lpdu_id());
    failure(&reply, misdirected.lpdu_id());
    // A key that its owner does not publish makes a bad signature.
    let reply = hub.send("p", "2", vec![json(&unknown_key)]).await.unwrap();
    assert_eq!(reply, nothing_failed());
    assert_eq!(hub.world.store("h").parked(&hub.room).await.unwrap(), []);
    assert_eq!(hub.len().await, before);
}

#[tokio::test]
async fn during_a_join_only_events_of_the_server_asked_are_kept() {
    let hub = Hub::public().await;
    let participant = hub.world.service("p");
    let joining = participant.begin_join(&hub.room);
    joining.ask(&server("h"));
    let event = |body: &str| object! { "room_id" => hub.room.as_str(), "type" => "x", "body" => body };
    let (small, large) = (event("x"), event(&"x".repeat(65_536)));
    let reply = push(&participant, "t", "1", vec![small.clone().into()]).await.unwrap();
    failure(&reply, &nabe_event::event_id_of(&small));
    let reply = push(&participant, "h", "1", vec![large.into()]).await.unwrap();
    assert_eq!(reply, nothing_failed());
    assert_eq!(hub.world.store("p").parked(&hub.room).await.unwrap(), []);
    push(&participant, "h", "2", vec![small.into()]).await.unwrap();
    assert_eq!(hub.world.store("p").parked(&hub.room).await.unwrap().len(), 1);
}

#[tokio::test]
async fn more_events_than_may_wait_stay_with_their_sender() {
    let hub = Hub::public().await;
    let participant = hub.world.service("p");
    let joining = participant.begin_join(&hub.room);
    joining.ask(&server("h"));
    let fifty = |first: i64| -> Vec<Json> {
        let event = |n: i64| object! { "room_id" => hub.room.as_str(), "type" => "x", "origin_server_ts" => n };
        (first..first + 50).map(|n| event(n).into()).collect()
    };
    for n in 0..20 {
        push(&participant, "h", &n.to_string(), fifty(n * 50)).await.unwrap();
    }
    let refused = push(&participant, "h", "over", fifty(975)).await.unwrap_err();
    assert!(matches!(refused, ServiceError::GapOpen), "{refused}");
    assert_eq!(hub.world.store("p").parked_ids(&hub.room).await.unwrap().len(), 1000);
    // What waits already may be sent again.
    push(&participant, "h", "again", fifty(0)).await.unwrap();
}

#[tokio::test]
async fn behind_an_event_that_waits_the_hub_is_not_asked() {
    let mut hub = Hub::public().await;
    hub.world.start("d");
    let (participant, bob) = hub.participant_left_behind().await;
    hub.joins(&user("dave", "d")).await;
    for body in ["one", "two", "three"] {
        hub.send("p", body, vec![json(&hub.message(&bob, body))]).await.unwrap();
    }
    hub.world.set_down("d", true);
    let reply = push(&participant, "h", "pushed", hub.newest(4).await).await.unwrap();
    assert_eq!(reply, nothing_failed());
    assert_eq!(hub.world.store("p").parked_ids(&hub.room).await.unwrap().len(), 4);
    assert!(hub.world.made("/backfill/").is_empty());
}

#[tokio::test]
async fn second_event_made_of_one_lpdu_does_not_stop_a_participant() {
    let hub = Hub::public().await;
    let (participant, bob) = hub.participant_left_behind().await;
    let lpdu = hub.message(&bob, "once, twice");
    hub.send("p", "1", vec![json(&lpdu)]).await.unwrap();
    let log = hub.log().await;
    let first = log.last().unwrap().pdu().unwrap();
    let completion = Completion {
        auth_events: first.auth_events().to_vec(),
        prev_events: vec![first.event_id().clone()],
    };
    let second = lpdu.complete(completion, &signer("h")).unwrap();
    for (txn, event) in [("first", first), ("second", &second)] {
        let reply = push(&participant, "h", txn, vec![event.object().clone().into()]).await;
        assert_eq!(reply.unwrap(), nothing_failed());
    }
    let log = hub.world.log("p", &hub.room).await;
    let both: [EventId; 2] = [first.event_id().clone(), second.event_id().clone()];
    assert!(log.ends_with(&both));
}

#[tokio::test]
async fn busy_hub_is_asked_again_instead_of_giving_up_on_its_history() {
    let hub = Hub::public().await;
    let (participant, bob) = hub.participant_left_behind().await;
    let before = hub.world.log("p", &hub.room).await;
    for body in ["one", "two"] {
        hub.send("p", body, vec![json(&hub.message(&bob, body))]).await.unwrap();
    }
    hub.world.set_down("p", false);
    for (status, code) in [(429, "M_LIMIT_EXCEEDED"), (503, "M_UNKNOWN"), (403, "M_FORBIDDEN")] {
        hub.world.intercept(move |_, _, request| {
            let is_asked = request.stable.contains("/backfill/");
            is_asked.then(|| answer(status, object! { "errcode" => code }))
        });
        let refused = push(&participant, "h", code, hub.newest(1).await).await.unwrap_err();
        assert!(
            matches!(refused, ServiceError::PeerFailed { error: PeerError::Status { status: told }, .. } if told == status),
            "{refused}"
        );
        assert_eq!(hub.world.log("p", &hub.room).await, before);
    }
    hub.world.intercept(|_, _, _| None);
    push(&participant, "h", "again", hub.newest(1).await).await.unwrap();
    assert!(
        hub.world
            .log("h", &hub.room)
            .await
            .ends_with(&hub.world.log("p", &hub.room).await)
    );
}

#[tokio::test]
async fn backfilled_events_are_verified_each() {
    let hub = Hub::public().await;
    let (participant, bob) = hub.participant_left_behind().await;
    for body in ["altered", "forged", "whole", "pushed"] {
        hub.send("p", body, vec![json(&hub.message(&bob, body))]).await.unwrap();
    }
    hub.world.set_down("p", false);
    hub.world.rewrite(|request, body| {
        if !request.stable.contains("/backfill/") {
            return body;
        }
        let mut answer = Object::parse(&body).unwrap();
        let mut pdus = answer.get("pdus").unwrap().as_array().unwrap().to_vec();
        for pdu in &mut pdus {
            let mut event = pdu.as_object().unwrap().clone();
            let content = event.get("content").unwrap().as_object().unwrap();
            match content.get("body").and_then(Json::as_str) {
                Some("altered") => event.insert("content", object! { "body" => "words put in the mouth" }),
                Some("forged") => {
                    let zeros = nabe_signing::base64u::encode(&[0; 64]);
                    let by_bob = object! { "ed25519:1" => zeros };
                    let signatures = event.get_mut("signatures").unwrap().as_object_mut().unwrap();
                    signatures.insert("p.example", by_bob)
                }
                _ => None,
            };
            *pdu = event.into();
        }
        answer.insert("pdus", Json::from(pdus));
        answer.to_canonical().into()
    });
    push(&participant, "h", "pushed", hub.newest(1).await).await.unwrap();
    // The places are the hub's; one is redacted, and one has a hole.
    let log = hub.world.log("p", &hub.room).await;
    assert!(hub.world.log("h", &hub.room).await.ends_with(&log));
    let bodies = hub.bodies_at_p().await;
    let expected = [None, None, Some("whole".to_owned()), Some("pushed".to_owned())];
    assert!(bodies.ends_with(&expected), "{bodies:?}");
    let entries = hub
        .world
        .store("p")
        .entries(&hub.room, Between::ALL, usize::MAX, Order::Ascending)
        .await
        .unwrap();
    let holes: Vec<_> = entries
        .iter()
        .filter(|entry| matches!(entry.body, EntryBody::Hole { .. }))
        .collect();
    assert_eq!(holes.len(), 1);
}

/// A hub that says its history is gone, and states the room with a forged name, with an altered and with a forged topic.
async fn starts_anew(topic_is_forged: bool, key_server_is_down: bool) -> (Hub, Service, Result<Object, ServiceError>) {
    let mut hub = Hub::public().await;
    hub.world.start("d");
    let (participant, bob) = hub.participant_left_behind().await;
    hub.joins(&user("dave", "d")).await;
    let topic = crate::client::NewEvent {
        event_type: "m.room.topic".to_owned(),
        state_key: Some(String::new()),
        content: object! { "topic" => "by alice" },
    };
    let alice = user("alice", "h");
    let sent = hub.service.send_event(&alice, &hub.room, topic, None).await.unwrap();
    let missing = sent.event_id.unwrap();
    hub.send("p", "seen", vec![json(&hub.message(&bob, "seen"))])
        .await
        .unwrap();
    let state = hub.service.state(&server("p"), &hub.room, &missing).await.unwrap();
    let mut state = Object::parse(&state).unwrap();
    let event = hub.service.event(&server("p"), &missing).await.unwrap();
    let mut event = Object::parse(&event).unwrap();
    let mut name = event.clone();
    name.insert("type", "m.room.name");
    let mut pdus = state.get("pdus").unwrap().as_array().unwrap().to_vec();
    pdus.push(name.into());
    state.insert("pdus", Json::from(pdus));
    if topic_is_forged {
        event.insert("origin_server_ts", 7);
    } else {
        event.insert("content", object! { "topic" => "not by alice" });
    }
    hub.world
        .intercept(move |from, _, request| match request.stable.split('/').nth(4) {
            _ if *from != server("p") => None,
            Some("backfill") => Some(answer(404, object! { "errcode" => "M_NOT_FOUND" })),
            Some("state") => Some(answer(200, state.clone())),
            Some("event") => Some(answer(200, event.clone())),
            _ => None,
        });
    hub.world.set_down("p", false);
    hub.world.set_down("d", key_server_is_down);
    let reply = push(&participant, "h", "pushed", hub.newest(1).await).await;
    (hub, participant, reply)
}

#[tokio::test]
async fn forged_state_does_not_count_after_a_gap() {
    for topic_is_forged in [true, false] {
        let (hub, participant, reply) = starts_anew(topic_is_forged, false).await;
        assert_eq!(reply.unwrap(), nothing_failed());
        assert_eq!(hub.bodies_at_p().await.last().unwrap().as_deref(), Some("seen"));
        let (name, topic) = participant
            .read_room(&hub.room, |view| {
                let get = |kind: &str| nabe_auth::lm::RoomState::get(view.state(), kind, "").cloned();
                let topic = get("m.room.topic").map(|event| event.content().clone());
                (get("m.room.name"), topic)
            })
            .await
            .unwrap();
        assert!(name.is_none());
        // What was altered is known to be there, without what it said.
        assert_eq!(topic, (!topic_is_forged).then(Object::new));
    }
}

#[tokio::test]
async fn state_that_cannot_be_verified_now_is_asked_for_again() {
    let (hub, _, reply) = starts_anew(false, true).await;
    let refused = reply.unwrap_err();
    assert!(
        matches!(&refused, ServiceError::PeerFailed { server: owner, .. } if *owner == server("d")),
        "{refused}"
    );
    assert_ne!(hub.bodies_at_p().await.last().unwrap().as_deref(), Some("seen"));
}
