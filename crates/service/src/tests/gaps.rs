//! What a participant does about missing events, and how much of anybody's it keeps: parked events, repeated LPDUs, backfill
//! and state that were tampered with.

use nabe_core::EntryBody;
use nabe_event::{Completion, EventBuilder, RoomVersionRules};
use nabe_signing::json::{Json, Object};
use nabe_signing::{Signer, SigningKey, object};
use nabe_store::{Between, Order, ParkReason, Store, Write};
use nabe_types::{EventId, KeyId, UnixMillis, UserId};

use super::{Hub, failure, json, nothing_failed, push};
use crate::client::testing::{answer, eventually, let_run, server, signer, user};
use crate::incoming::parked_event;
use crate::{Service, ServiceError};

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
async fn full_room_keeps_its_oldest_events_and_the_newest_and_stops_no_other_room() {
    let mut hub = Hub::public().await;
    let participant = hub.world.start_with("p", |settings| settings.limits.parked_events = 5);
    let other = nabe_types::RoomId::parse("!other:h.example").unwrap();
    let joining = [participant.begin_join(&hub.room), participant.begin_join(&other)];
    joining.iter().for_each(|joining| joining.ask(&server("h")));
    let event = |room: &nabe_types::RoomId, n: i64| object! { "room_id" => room.as_str(), "type" => "x", "origin_server_ts" => n };
    let id = |n: i64| nabe_event::event_id_of(&event(&hub.room, n));
    let events = |numbers: std::ops::Range<i64>| -> Vec<Json> { numbers.map(|n| event(&hub.room, n).into()).collect() };
    push(&participant, "h", "1", events(0..4)).await.unwrap();
    let mut both = events(4..9);
    both.push(event(&other, 0).into());
    assert_eq!(push(&participant, "h", "2", both).await.unwrap(), nothing_failed());
    let store = hub.world.store("p");
    let kept = [id(0), id(1), id(2), id(3), id(8)];
    assert_eq!(store.parked_ids(&hub.room).await.unwrap(), kept);
    assert_eq!(store.parked_ids(&other).await.unwrap().len(), 1);
    push(&participant, "h", "3", events(9..10)).await.unwrap();
    // What waits already may be sent again.
    push(&participant, "h", "again", events(0..2)).await.unwrap();
    let kept = [id(0), id(1), id(2), id(3), id(9)];
    assert_eq!(store.parked_ids(&hub.room).await.unwrap(), kept);
}

impl Hub {
    /// A participant that keeps no more than this many events, and a room in which Dave of the unreachable server `d` has
    /// joined and Bob has said these things since. The hub no longer sends them by itself.
    async fn full_room(&mut self, keeps: usize, bodies: &[&str]) -> Service {
        self.world.start("d");
        self.world
            .start_with("p", |settings| settings.limits.parked_events = keeps);
        let (participant, bob) = self.participant_left_behind().await;
        self.joins(&user("dave", "d")).await;
        for body in bodies {
            self.send("p", body, vec![json(&self.message(&bob, body))])
                .await
                .unwrap();
        }
        self.world.set_down("d", true);
        self.world.intercept(|_, to, request| {
            let is_pushed = *to == server("p") && request.stable.contains("/send/");
            is_pushed.then(|| answer(503, object! { "errcode" => "M_UNKNOWN" }))
        });
        self.world.set_down("p", false);
        participant
    }

    /// Everybody is there again and time passes: the participant's log becomes the hub's.
    async fn mends(&self) {
        self.world.set_down("d", false);
        for _ in 0..20 {
            self.world.clock.advance(std::time::Duration::from_secs(60));
            let_run().await;
        }
        eventually("the participant has everything", || async {
            self.world
                .log("h", &self.room)
                .await
                .ends_with(&self.world.log("p", &self.room).await)
                && self.world.log("h", &self.room).await.last() == self.world.log("p", &self.room).await.last()
                && self.world.store("p").parked_ids(&self.room).await.unwrap().is_empty()
        })
        .await;
    }
}

#[tokio::test]
async fn what_a_full_room_skipped_is_fetched_when_its_turn_comes() {
    let bodies = ["one", "two", "three", "four", "five", "six"];
    let mut hub = Hub::public().await;
    let participant = hub.full_room(3, &bodies).await;
    let reply = push(&participant, "h", "pushed", hub.newest(7).await).await.unwrap();
    assert_eq!(reply, nothing_failed());
    assert_eq!(hub.world.store("p").parked_ids(&hub.room).await.unwrap().len(), 3);
    assert!(hub.world.made("/backfill/").is_empty());
    hub.mends().await;
    assert!(
        hub.bodies_at_p()
            .await
            .ends_with(&bodies.map(|body| Some(body.to_owned())))
    );
    assert!(!hub.world.made("/backfill/").is_empty());
}

#[tokio::test]
async fn event_out_of_a_gap_that_holds_up_a_full_room_stays() {
    let bodies = ["one", "two", "three", "four"];
    let mut hub = Hub::public().await;
    let participant = hub.full_room(2, &bodies).await;
    let newest = hub.newest(5).await;
    let ids: Vec<EventId> = newest
        .iter()
        .map(|event| nabe_event::event_id_of(event.as_object().unwrap()))
        .collect();
    let [by_dave, one, two, three, four] = &ids[..] else {
        panic!("{ids:?}")
    };
    let parked = || async { hub.world.store("p").parked_ids(&hub.room).await.unwrap() };
    let backfill_fails = |fails: bool| {
        hub.world.intercept(move |_, to, request| {
            let is_pushed = *to == server("p") && request.stable.contains("/send/");
            let is_asked = fails && request.stable.contains("/backfill/");
            (is_pushed || is_asked).then(|| answer(503, object! { "errcode" => "M_UNKNOWN" }))
        });
    };
    backfill_fails(true);
    for event in &newest[1..3] {
        let txn = if event == &newest[1] { "one" } else { "two" };
        push(&participant, "h", txn, vec![event.clone()]).await.unwrap();
    }
    assert_eq!(parked().await, [one.clone(), two.clone()]);
    // What comes before them turns out to be an event that lacks a key.
    backfill_fails(false);
    hub.world.clock.advance(std::time::Duration::from_secs(12));
    participant.retry_due().await.unwrap();
    assert_eq!(parked().await, [one.clone(), two.clone(), by_dave.clone()]);
    for (txn, event, id) in [("three", &newest[3], three), ("four", &newest[4], four)] {
        push(&participant, "h", txn, vec![event.clone()]).await.unwrap();
        assert_eq!(parked().await, [one.clone(), by_dave.clone(), id.clone()]);
    }
    hub.mends().await;
    assert!(
        hub.bodies_at_p()
            .await
            .ends_with(&bodies.map(|body| Some(body.to_owned())))
    );
}

#[tokio::test]
async fn hub_without_a_history_is_asked_for_the_state_instead() {
    for (status, code) in [
        (404, "M_UNRECOGNIZED"),
        (405, "M_UNRECOGNIZED"),
        (400, "M_UNKNOWN"),
        (403, "M_FORBIDDEN"),
    ] {
        let hub = Hub::public().await;
        let (participant, bob) = hub.participant_left_behind().await;
        for body in ["one", "two"] {
            hub.send("p", body, vec![json(&hub.message(&bob, body))]).await.unwrap();
        }
        hub.world.intercept(move |_, _, request| {
            let is_asked = request.stable.contains("/backfill/");
            is_asked.then(|| answer(status, object! { "errcode" => code }))
        });
        hub.world.set_down("p", false);
        let reply = push(&participant, "h", "pushed", hub.newest(1).await).await.unwrap();
        assert_eq!(reply, nothing_failed(), "{code}");
        assert_eq!(
            hub.bodies_at_p().await.last().unwrap().as_deref(),
            Some("two"),
            "{code}"
        );
        assert_eq!(hub.world.made("/backfill/").len(), 1, "{code}");
    }
}

#[tokio::test]
async fn event_of_another_room_is_a_hole_in_this_ones_history() {
    let hub = Hub::public().await;
    let (participant, bob) = hub.participant_left_behind().await;
    let log = hub.log().await;
    let create = log[0].event_id().clone();
    let complete = |room: &nabe_types::RoomId, body: &str, prev: &EventId| {
        let completion = Completion {
            auth_events: vec![create.clone()],
            prev_events: vec![prev.clone()],
        };
        let content = object! { "body" => body };
        EventBuilder::new(room.clone(), "m.room.message", bob.clone(), UnixMillis(5), content)
            .build_lpdu(&signer("p"), &server("h"), &RoomVersionRules::I1)
            .unwrap()
            .complete(completion, &signer("h"))
            .unwrap()
    };
    let other = nabe_types::RoomId::parse("!other:h.example").unwrap();
    let smuggled = complete(&other, "of another room", log.last().unwrap().event_id());
    let pushed = complete(&hub.room, "pushed", smuggled.event_id());
    let page = object! { "pdus" => vec![Json::from(smuggled.object().clone())] };
    hub.world
        .intercept(move |_, _, request| request.stable.contains("/backfill/").then(|| answer(200, page.clone())));
    hub.world.set_down("p", false);
    push(&participant, "h", "1", vec![pushed.object().clone().into()])
        .await
        .unwrap();
    let log = hub.world.log("p", &hub.room).await;
    assert!(
        log.contains(smuggled.event_id()),
        "it has the place that the hub gave it"
    );
    let bodies = hub.bodies_at_p().await;
    assert!(!bodies.contains(&Some("of another room".to_owned())), "{bodies:?}");
}

#[tokio::test]
async fn room_does_not_begin_anew_with_another_create_event() {
    let hub = Hub::public().await;
    let (participant, bob) = hub.participant_left_behind().await;
    hub.send("p", "x", vec![json(&hub.message(&bob, "missed"))])
        .await
        .unwrap();
    hub.send("p", "y", vec![json(&hub.message(&bob, "pushed"))])
        .await
        .unwrap();
    let rules = &RoomVersionRules::I1;
    let swapped = EventBuilder::new(
        hub.room.clone(),
        "m.room.create",
        user("alice", "h"),
        UnixMillis(9),
        object! { "room_version" => "I.1" },
    )
    .state_key("")
    .build_pdu(&signer("h"), Vec::new(), Vec::new(), rules)
    .unwrap();
    hub.world.intercept(|_, _, request| {
        let is_asked = request.stable.contains("/backfill/");
        is_asked.then(|| answer(404, object! { "errcode" => "M_UNRECOGNIZED" }))
    });
    let create = Json::from(swapped.object().clone());
    hub.world.rewrite(move |request, body| {
        if !request.stable.contains("/state/") {
            return body;
        }
        let mut answer = Object::parse(&body).unwrap();
        let is_create = |event: &Json| event.as_object().unwrap().get("type") == Some(&"m.room.create".into());
        let pdus = answer.get("pdus").and_then(Json::as_array).unwrap().to_vec();
        let pdus: Vec<Json> = pdus
            .into_iter()
            .map(|event| if is_create(&event) { create.clone() } else { event })
            .collect();
        answer.insert("pdus", Json::from(pdus));
        answer.to_canonical().into()
    });
    hub.world.set_down("p", false);
    push(&participant, "h", "1", hub.newest(1).await).await.unwrap();
    assert_eq!(hub.world.made("/state/").len(), 1);
    assert!(!hub.bodies_at_p().await.contains(&Some("pushed".to_owned())));
}

#[tokio::test]
async fn participant_applies_rule_4_to_the_auth_events_it_holds() {
    let hub = Hub::public().await;
    let (participant, bob) = hub.participant_left_behind().await;
    let log = hub.log().await;
    let by_type = |kind: &str| {
        let events = log.iter().filter_map(|entry| entry.pdu());
        events
            .filter(|pdu| pdu.event_type() == kind)
            .map(|pdu| pdu.event_id().clone())
            .next()
            .unwrap()
    };
    let (create, rules) = (by_type("m.room.create"), by_type("m.room.join_rules"));
    let complete = |body: &str, auth: &EventId, prev: &EventId| {
        let completion = Completion {
            auth_events: vec![create.clone(), auth.clone()],
            prev_events: vec![prev.clone()],
        };
        hub.message(&bob, body).complete(completion, &signer("h")).unwrap()
    };
    let unknown = EventId::from_hash([9; 32]);
    let head = log.last().unwrap().event_id().clone();
    let foreign = complete("proved by the join rules", &rules, &head);
    let reply = push(&participant, "h", "1", vec![foreign.object().clone().into()])
        .await
        .unwrap();
    failure(&reply, foreign.event_id());
    let not_held = complete("proved by who knows what", &unknown, foreign.event_id());
    let reply = push(&participant, "h", "2", vec![not_held.object().clone().into()])
        .await
        .unwrap();
    assert_eq!(reply, nothing_failed());
    // The same out of a gap.
    let fetched = complete("fetched", &rules, not_held.event_id());
    let pushed = complete("pushed", &unknown, fetched.event_id());
    let page = object! { "pdus" => vec![Json::from(fetched.object().clone())] };
    hub.world
        .intercept(move |_, _, request| request.stable.contains("/backfill/").then(|| answer(200, page.clone())));
    hub.world.set_down("p", false);
    push(&participant, "h", "3", vec![pushed.object().clone().into()])
        .await
        .unwrap();
    let ids = [&foreign, &not_held, &fetched, &pushed].map(|event| event.event_id().clone());
    assert!(hub.world.log("p", &hub.room).await.ends_with(&ids));
    let bodies = hub.bodies_at_p().await;
    let shown = [
        None,
        Some("proved by who knows what".to_owned()),
        None,
        Some("pushed".to_owned()),
    ];
    assert!(bodies.ends_with(&shown), "{bodies:?}");
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
    for (asked, (status, code)) in [(429, "M_LIMIT_EXCEEDED"), (503, "M_UNKNOWN"), (401, "M_FORBIDDEN")]
        .into_iter()
        .enumerate()
    {
        hub.world.intercept(move |_, to, request| {
            let is_asked = request.stable.contains("/backfill/") || *to == server("p");
            is_asked.then(|| answer(status, object! { "errcode" => code }))
        });
        // The event waits alone: the hub can go on with its other rooms. It is left in peace for a while, however often it sends.
        for again in 0..3 {
            let reply = push(&participant, "h", &format!("{code}{again}"), hub.newest(1).await)
                .await
                .unwrap();
            assert_eq!(reply, nothing_failed());
        }
        assert_eq!(hub.world.made("/backfill/").len(), asked + 1);
        assert_eq!(hub.world.log("p", &hub.room).await, before);
        assert_eq!(hub.world.store("p").parked_ids(&hub.room).await.unwrap().len(), 1);
        // Less than until a parked event is tried anew by itself.
        hub.world.clock.advance(std::time::Duration::from_secs(2 << asked));
        let_run().await;
    }
    hub.world
        .intercept(|_, to, _| (*to == server("p")).then(|| answer(503, object! { "errcode" => "M_UNKNOWN" })));
    hub.mends().await;
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
    hub.world.intercept(move |from, to, request| {
        let asked = request.stable.split('/').nth(4);
        match asked {
            // What comes is what is pushed below.
            _ if *to == server("p") => Some(answer(503, object! { "errcode" => "M_UNKNOWN" })),
            _ if *from != server("p") => None,
            Some("backfill") => Some(answer(404, object! { "errcode" => "M_NOT_FOUND" })),
            Some("state") => Some(answer(200, state.clone())),
            Some("event") => Some(answer(200, event.clone())),
            _ => None,
        }
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
    let (hub, participant, reply) = starts_anew(false, true).await;
    assert_eq!(reply.unwrap(), nothing_failed());
    assert_ne!(hub.bodies_at_p().await.last().unwrap().as_deref(), Some("seen"));
    assert_eq!(hub.world.store("p").parked_ids(&hub.room).await.unwrap().len(), 1);
    hub.world.set_down("d", false);
    let goes_on = || async { hub.bodies_at_p().await.last().unwrap().as_deref() == Some("seen") };
    // Whoever looks first, the worker or this test, may have the other put the event off once more.
    for _ in 0..10 {
        hub.world.clock.advance(std::time::Duration::from_secs(600));
        participant.retry_due().await.unwrap();
        if goes_on().await {
            return;
        }
    }
    eventually("the participant goes on", goes_on).await;
}

#[tokio::test]
async fn hub_that_forked_the_room_is_not_followed() {
    let hub = Hub::public().await;
    let (participant, bob) = (hub.world.service("p"), user("bob", "p"));
    participant.join(&bob, &hub.room, &[server("h")]).await.unwrap();
    hub.send("p", "seen", vec![json(&hub.message(&bob, "seen"))])
        .await
        .unwrap();
    hub.world.settle(&hub.room, &["h", "p"]).await;
    let before = hub.world.log("p", &hub.room).await;
    let log = hub.log().await;
    let head = log.last().unwrap().pdu().unwrap();
    // It has the place of our head.
    let completion = Completion {
        auth_events: head.auth_events().to_vec(),
        prev_events: head.prev_events().to_vec(),
    };
    let other = hub
        .message(&bob, "not seen")
        .complete(completion, &signer("h"))
        .unwrap();
    let page = object! { "pdus" => vec![Json::from(other.object().clone())] };
    hub.world
        .intercept(move |_, _, request| request.stable.contains("/backfill/").then(|| answer(200, page.clone())));
    let refused = participant.close_gap(&hub.room, other.event_id().clone()).await;
    let what = "it has forked the room";
    let expected = ServiceError::BadAnswer {
        server: server("h"),
        what,
    };
    assert_eq!(refused.unwrap_err().to_string(), expected.to_string());
    // Neither more of that history is wanted, nor its state.
    assert_eq!(hub.world.made("/backfill/").len(), 1);
    assert!(hub.world.made("/state/").is_empty());
    assert_eq!(hub.world.log("p", &hub.room).await, before);
}

#[tokio::test]
async fn gap_is_closed_up_to_a_width_and_passed_over_beyond_it() {
    let mut hub = Hub::public().await;
    hub.world.start_with("p", |settings| {
        settings.limits.gap_events = 3;
        settings.limits.backfill_events = 2;
    });
    let (participant, bob) = hub.participant_left_behind().await;
    hub.world.intercept(|_, to, request| {
        let is_pushed = *to == server("p") && request.stable.contains("/send/");
        is_pushed.then(|| answer(503, object! { "errcode" => "M_UNKNOWN" }))
    });
    hub.world.set_down("p", false);
    let says = |numbers: std::ops::RangeInclusive<u8>| async {
        for n in numbers {
            let lpdu = hub.message(&bob, &n.to_string());
            hub.send("p", &n.to_string(), vec![json(&lpdu)]).await.unwrap();
        }
        let txn = format!("pushed-{}", hub.len().await);
        let reply = push(&participant, "h", &txn, hub.newest(1).await).await;
        assert_eq!(reply.unwrap(), nothing_failed());
        (hub.world.made("/backfill/").len(), hub.world.made("/state/").len())
    };
    let expected = |numbers: &[u8]| -> Vec<_> { numbers.iter().map(|n| Some(n.to_string())).collect() };
    assert_eq!(says(1..=4).await, (2, 0));
    assert!(hub.bodies_at_p().await.ends_with(&expected(&[1, 2, 3, 4])));
    assert_eq!(says(5..=12).await, (4, 1), "two pages, then it is too much");
    let bodies = hub.bodies_at_p().await;
    assert!(bodies.ends_with(&expected(&[4, 12])), "{bodies:?}");
}

#[tokio::test]
async fn events_out_of_gaps_park_up_to_twice_the_limit() {
    let mut hub = Hub::public().await;
    let participant = hub.world.start_with("p", |settings| settings.limits.parked_events = 2);
    let id = |n: u8| EventId::from_hash([n; 32]);
    let park = |n: u8| {
        let (bytes, reason) = ("{}".into(), ParkReason::KeysUnavailable);
        let parked = parked_event(
            hub.room.clone(),
            id(n),
            &server("h"),
            bytes,
            reason,
            hub.world.clock_now(),
        );
        participant.park_out_of_gap(parked)
    };
    for n in 0..6 {
        park(n).await.unwrap();
    }
    let kept = [id(0), id(1), id(2), id(3)];
    let store = hub.world.store("p");
    assert_eq!(store.parked_ids(&hub.room).await.unwrap(), kept);
    assert_eq!(participant.inner.gaps.held_up_by(&hub.room), Some(id(3)));
    // One that waits already takes no more room.
    park(1).await.unwrap();
    assert_eq!(store.parked_ids(&hub.room).await.unwrap().len(), 4);
    assert_eq!(participant.inner.gaps.held_up_by(&hub.room), Some(id(1)));
}

#[tokio::test]
async fn hub_forgets_what_is_parked_in_its_own_room() {
    let hub = Hub::public().await;
    let bob = user("bob", "p");
    hub.joins(&bob).await;
    let before = hub.len().await;
    // One that would verify, and one whose key cannot be had.
    let lpdus = [hub.message(&bob, "late"), hub.message(&user("dave", "d"), "unverified")];
    let writes = lpdus.iter().map(|lpdu| {
        let bytes = bytes::Bytes::copy_from_slice(lpdu.bytes());
        let (id, reason) = (lpdu.lpdu_id().clone(), ParkReason::JoinPending);
        let (from, now) = (server("p"), hub.world.clock_now());
        let parked = parked_event(hub.room.clone(), id, &from, bytes, reason, now);
        Write::Park { parked }
    });
    hub.service.commit(writes.collect()).await.unwrap();
    hub.service.drain_parked(&hub.room).await.unwrap();
    assert_eq!(hub.world.store("h").parked(&hub.room).await.unwrap(), []);
    assert_eq!(hub.len().await, before);
}
