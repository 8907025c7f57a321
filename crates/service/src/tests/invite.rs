//! `/invite`: cases 64, 65, and a room that goes on while the invited user's server is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering as Atomic};

use nabe_event::{Completion, EventBuilder, Pdu, RoomVersionRules, VerifiedLpdu};
use nabe_signing::json::{Json, Object};
use nabe_signing::{object, sha256};
use nabe_store::{InboxKind, PendingMembership, PendingRoom, Store};
use nabe_types::{ErrorCode, EventId, RoomId, RoomVersionId};

use super::{Hub, failure, json, nothing_failed, text, txn_id};
use crate::ServiceError;
use crate::client::testing::{answer, eventually, let_run, message, server, signer, user};

impl Hub {
    /// `/invite` with an LPDU.
    async fn invites(&self, from: &str, lpdu: &VerifiedLpdu, version: &str) -> Result<Object, ServiceError> {
        let body = object! { "event" => json(lpdu), "room_version" => version };
        let hash = sha256(&body.to_canonical());
        let txn = txn_id(&nabe_signing::base64u::encode_url(&hash));
        let reply = self.service.invite(server(from), txn, body, hash).await?;
        Ok(Object::parse(&reply.body).unwrap())
    }

    /// Lets everybody invite.
    async fn with_bob() -> Self {
        let hub = Self::public().await;
        hub.joins(&user("bob", "p")).await;
        hub
    }
}

fn signers(event: &Object) -> Vec<&str> {
    event.get("signatures").unwrap().as_object().unwrap().keys().collect()
}

#[tokio::test]
async fn participants_invite_is_completed_countersigned_and_sent_around() {
    let hub = Hub::with_bob().await;
    let (bob, carol) = (user("bob", "p"), user("carol", "t"));
    let reply = hub
        .invites("p", &hub.member(&bob, &carol, "invite"), "I.1")
        .await
        .unwrap();
    let event = reply.get("pdu").unwrap().as_object().unwrap();
    assert_eq!(reply.get("event"), reply.get("pdu"));
    assert_eq!(signers(event), ["h.example", "p.example", "t.example"]);
    assert_eq!(*event, hub.last().await);
    let asked = hub.world.made("/invite/");
    let body = Object::parse(&asked[0].request.body.clone().unwrap()).unwrap();
    assert_eq!(
        signers(body.get("event").unwrap().as_object().unwrap()),
        ["h.example", "p.example"]
    );
    let pending = hub
        .world
        .store("t")
        .pending_room(&carol, &hub.room)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(pending.hub, server("h"));
    let inbox = hub.world.store("t").inbox(&carol, None, 0, 10).await.unwrap();
    assert_eq!(inbox[0].kind, InboxKind::Invite);
    eventually("the invite is sent to the inviter's server", || async {
        hub.world.made("/send/").iter().any(|made| {
            let body = String::from_utf8(made.request.body.clone().unwrap().to_vec()).unwrap();
            made.to == server("p") && body.contains("t.example\":{\"ed25519")
        })
    })
    .await;
}

#[tokio::test]
async fn unsupported_or_wrong_version_is_incompatible() {
    let hub = Hub::with_bob().await;
    let lpdu = hub.member(&user("bob", "p"), &user("carol", "t"), "invite");
    for version in [
        "org.matrix.msc3995",
        "i.1",
        "org.matrix.i-d.ralston-mimi-linearized-matrix.02",
    ] {
        let refused = hub.invites("p", &lpdu, version).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::IncompatibleRoomVersion, "{version}");
    }
}

#[tokio::test]
async fn refusal_of_the_invited_users_server_is_passed_on() {
    let hub = Hub::with_bob().await;
    hub.world.intercept(|_, _, request| {
        let body = object! { "errcode" => "M_FORBIDDEN", "error" => "no thanks", "secret" => "x" };
        request.stable.contains("/invite/").then(|| answer(403, body))
    });
    let before = hub.len().await;
    let lpdu = hub.member(&user("bob", "p"), &user("carol", "t"), "invite");
    let refused = hub.invites("p", &lpdu, "I.1").await.unwrap_err();
    let ServiceError::Proxied { status, body } = refused else {
        panic!("{refused}")
    };
    assert_eq!(
        (status, &body[..]),
        (403, &br#"{"errcode":"M_FORBIDDEN","error":"no thanks"}"#[..])
    );
    assert_eq!(hub.len().await, before);
    // Through /send the inviter's server hears of it in `failed_pdus`.
    let lpdu = hub.member(&user("bob", "p"), &user("carol", "t"), "invite");
    failure(&hub.send("p", "1", vec![json(&lpdu)]).await.unwrap(), lpdu.lpdu_id());
}

#[tokio::test]
async fn invite_the_rules_forbid_is_refused_before_anybody_is_asked() {
    let hub = Hub::with_bob().await;
    let alice = user("alice", "h");
    hub.service
        .ban(&alice, &hub.room, &user("carol", "t"), None)
        .await
        .unwrap();
    let lpdu = hub.member(&user("bob", "p"), &user("carol", "t"), "invite");
    let refused = hub.invites("p", &lpdu, "I.1").await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Forbidden);
    assert!(hub.world.made("/invite/").is_empty());
}

#[tokio::test]
async fn room_that_went_on_meanwhile_makes_the_hub_ask_again() {
    let hub = Hub::with_bob().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let (counter, service, room) = (Arc::clone(&asked), hub.service.clone(), hub.room.clone());
    let (moved, gate) = tokio::sync::watch::channel(false);
    let moved = Arc::new(moved);
    hub.world.intercept(move |_, _, request| {
        if request.stable.contains("/invite/") && counter.fetch_add(1, Atomic::SeqCst) == 0 {
            let (service, room, moved) = (service.clone(), room.clone(), Arc::clone(&moved));
            tokio::spawn(async move {
                service
                    .send_event(&user("alice", "h"), &room, message("meanwhile"), None)
                    .await
                    .unwrap();
                moved.send_replace(true);
            });
        }
        None
    });
    let lpdu = hub.member(&user("bob", "p"), &user("carol", "t"), "invite");
    let reply = hub.invites("p", &lpdu, "I.1").await.unwrap();
    let mut gate = gate;
    gate.wait_for(|moved| *moved).await.unwrap();
    let log = hub.log().await;
    let invites = log
        .iter()
        .filter(|entry| entry.lpdu_id.as_ref() == Some(lpdu.lpdu_id()))
        .count();
    assert_eq!(invites, 1);
    let event = reply.get("pdu").unwrap().as_object().unwrap();
    assert!(
        log.iter()
            .any(|entry| entry.pdu().is_some_and(|pdu| pdu.object() == event))
    );
    // Whichever came first, each event follows the one before it.
    for pair in log.windows(2) {
        assert_eq!(pair[1].pdu().unwrap().prev_events(), [pair[0].event_id().clone()]);
    }
}

#[tokio::test]
async fn altered_answer_is_not_appended() {
    let hub = Hub::with_bob().await;
    hub.world.intercept(|_, _, request| {
        if !request.stable.contains("/invite/") {
            return None;
        }
        let mut body = Object::parse(request.body.as_ref().unwrap()).unwrap();
        let mut event = body.remove("event").unwrap().into_object().unwrap();
        event.insert("origin_server_ts", 1);
        Some(answer(200, object! { "pdu" => event }))
    });
    let before = hub.len().await;
    let lpdu = hub.member(&user("bob", "p"), &user("carol", "t"), "invite");
    let refused = hub.invites("p", &lpdu, "I.1").await.unwrap_err();
    assert!(matches!(refused, ServiceError::Refused(_)), "{refused}");
    assert_eq!(hub.len().await, before);
}

#[tokio::test]
async fn invite_is_taken_from_the_hub_only() {
    let hub = Hub::with_bob().await;
    let (bob, carol) = (user("bob", "p"), user("carol", "t"));
    hub.invites("p", &hub.member(&bob, &carol, "invite"), "I.1")
        .await
        .unwrap();
    let event = hub.last().await;
    assert_eq!(text(&event, "hub_server"), "h.example");
    let body = object! { "event" => Json::from(event), "room_version" => "I.1" };
    let refused = hub
        .world
        .service("t")
        .invite(server("p"), txn_id("x"), body, [0; 32])
        .await
        .unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Forbidden);
}

#[tokio::test]
async fn genuine_invite_that_another_server_hands_on_is_not_taken_either() {
    let hub = Hub::with_bob().await;
    let (bob, carol) = (user("bob", "p"), user("carol", "t"));
    hub.invites("p", &hub.member(&bob, &carol, "invite"), "I.1")
        .await
        .unwrap();
    // Nothing that carol's server knows speaks against it.
    let forget = nabe_store::Write::RemovePending {
        user: carol,
        room: hub.room.clone(),
    };
    hub.world.service("t").commit(forget.into()).await.unwrap();
    let body = object! { "event" => Json::from(hub.last().await), "room_version" => "I.1" };
    let t = hub.world.service("t");
    let refused = t.invite(server("p"), txn_id("handed-on"), body, [0; 32]).await;
    assert!(matches!(refused, Err(ServiceError::ForeignUser { .. })), "{refused:?}");
    assert_eq!(hub.pending_of_carol(&hub.room).await, None);
}

#[tokio::test]
async fn hub_passes_on_no_invite_to_an_excluded_server() {
    let mut hub = Hub::with_bob().await;
    hub.service = hub.world.start_with("h", |settings| {
        settings.policy.deny = vec!["t.example".parse().unwrap()];
    });
    let lpdu = hub.member(&user("bob", "p"), &user("carol", "t"), "invite");
    let refused = hub.invites("p", &lpdu, "I.1").await.unwrap_err();
    assert!(matches!(refused, ServiceError::PolicyRefused { .. }), "{refused}");
    assert!(hub.world.made("/invite/").is_empty());
}

impl Hub {
    /// An invite of `@carol:t.example` to this room, made up by `name`, which says that it is the hub.
    async fn invite_made_up_by(&self, name: &str, room: &RoomId, stripped: Vec<Json>) -> Result<Object, ServiceError> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let carol = user("carol", "t");
        let content = object! { "membership" => "invite" };
        let (at, before) = (self.world.clock_now(), EventId::from_hash([1; 32]));
        let pdu = EventBuilder::new(room.clone(), "m.room.member", user("mallory", name), at, content)
            .state_key(carol.as_str())
            .build_pdu(&signer(name), vec![before.clone()], vec![before], &RoomVersionRules::I1)
            .unwrap();
        let body = object! {
            "event" => pdu.object().clone(),
            "room_version" => "I.1",
            "invite_room_state" => stripped,
        };
        let txn = txn_id(&format!("made-up-{}", COUNT.fetch_add(1, Atomic::SeqCst)));
        let hash = sha256(&body.to_canonical());
        let reply = self.world.service("t").invite(server(name), txn, body, hash).await?;
        Ok(Object::parse(&reply.body).unwrap())
    }

    async fn pending_of_carol(&self, room: &RoomId) -> Option<PendingRoom> {
        let store = self.world.store("t");
        store.pending_room(&user("carol", "t"), room).await.unwrap()
    }

    async fn invites_in_carols_inbox(&self) -> usize {
        let store = self.world.store("t");
        let inbox = store.inbox(&user("carol", "t"), None, 0, 100).await.unwrap();
        inbox.iter().filter(|item| item.kind == InboxKind::Invite).count()
    }
}

#[tokio::test]
async fn another_server_cannot_take_over_a_pending_invite() {
    let hub = Hub::with_bob().await;
    let lpdu = hub.member(&user("bob", "p"), &user("carol", "t"), "invite");
    hub.invites("p", &lpdu, "I.1").await.unwrap();
    let before = hub.pending_of_carol(&hub.room).await;
    let refused = hub.invite_made_up_by("p", &hub.room, Vec::new()).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Forbidden);
    assert_eq!(hub.pending_of_carol(&hub.room).await, before);
    assert_eq!(hub.invites_in_carols_inbox().await, 1);
}

#[tokio::test]
async fn another_server_cannot_invite_to_a_room_we_take_part_in() {
    let hub = Hub::with_bob().await;
    let t = hub.world.service("t");
    t.join(&user("dave", "t"), &hub.room, &[server("h")]).await.unwrap();
    let refused = hub.invite_made_up_by("p", &hub.room, Vec::new()).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Forbidden);
    assert_eq!(hub.pending_of_carol(&hub.room).await, None);
    assert_eq!(hub.invites_in_carols_inbox().await, 0);
}

#[tokio::test]
async fn server_in_the_rooms_id_can_invite_whoever_was_first() {
    let hub = Hub::with_bob().await;
    hub.invite_made_up_by("p", &hub.room, Vec::new()).await.unwrap();
    let lpdu = hub.member(&user("bob", "p"), &user("carol", "t"), "invite");
    hub.invites("p", &lpdu, "I.1").await.unwrap();
    assert_eq!(hub.pending_of_carol(&hub.room).await.unwrap().hub, server("h"));
}

#[tokio::test]
async fn stripped_state_of_an_invite_is_kept_up_to_a_limit() {
    let hub = Hub::public().await;
    let room = RoomId::parse("!big:p.example").unwrap();
    let event = |n: usize, size: usize| {
        Json::from(object! {
            "sender" => "@mallory:p.example",
            "type" => format!("x{n}"),
            "state_key" => "",
            "content" => object! { "body" => "x".repeat(size) },
        })
    };
    let stripped = (0..9).map(|n| event(n, 10_000)).chain([event(9, 10)]).collect();
    hub.invite_made_up_by("p", &room, stripped).await.unwrap();
    let kept = hub.pending_of_carol(&room).await.unwrap().stripped_state;
    assert!(kept.len() <= 64 * 1024, "{}", kept.len());
    let kept = Json::parse(&kept).unwrap();
    assert_eq!(
        kept.as_array().unwrap().len(),
        7,
        "six large ones and the small one fit"
    );
    let store = hub.world.store("t");
    let inbox = store.inbox(&user("carol", "t"), None, 0, 10).await.unwrap();
    assert!(inbox[0].body.len() < 65 * 1024);
}

#[tokio::test]
async fn list_of_invites_that_is_full_takes_no_more() {
    let hub = Hub::public().await;
    let room = |n: usize| RoomId::parse(&format!("!r{n}:p.example")).unwrap();
    let writes = (0..1_000).map(|n| nabe_store::Write::PutPending {
        pending: PendingRoom {
            user: user("carol", "t"),
            room: room(n),
            membership: PendingMembership::Invite,
            hub: server("p"),
            version: RoomVersionId::parse("I.1").unwrap(),
            stripped_state: "[]".into(),
            event: None,
            at: hub.world.clock_now(),
        },
    });
    hub.world.service("t").commit(writes.collect()).await.unwrap();
    let refused = hub.invite_made_up_by("p", &room(1_000), Vec::new()).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Forbidden);
    assert_eq!(hub.pending_of_carol(&room(1_000)).await, None);
    hub.invite_made_up_by("p", &room(7), Vec::new()).await.unwrap();
}

/// Has something said in the room during each round trip to the invited user's server, if the room can be had before the answer
/// comes; from question number `silent` on, no answer comes. Returns how often that server was asked.
fn restless(hub: &Hub, silent: usize) -> Arc<AtomicUsize> {
    let asked = Arc::new(AtomicUsize::new(0));
    let (counter, service, room) = (Arc::clone(&asked), hub.service.clone(), hub.room.clone());
    hub.world.delay(move |request| {
        if !request.stable.contains("/invite/") {
            return Box::pin(async {});
        }
        let (service, room) = (service.clone(), room.clone());
        let question = counter.fetch_add(1, Atomic::SeqCst) + 1;
        Box::pin(async move {
            if question >= silent {
                return std::future::pending().await;
            }
            let alice = user("alice", "h");
            tokio::select! {
                biased;
                said = service.send_event(&alice, &room, message("again"), None) => assert!(said.is_ok()),
                () = let_run() => {}
            }
        })
    });
    asked
}

#[tokio::test]
async fn invite_in_a_room_that_never_rests_succeeds_at_the_second_question() {
    let hub = Hub::with_bob().await;
    let asked = restless(&hub, usize::MAX);
    let lpdu = hub.member(&user("bob", "p"), &user("carol", "t"), "invite");
    hub.invites("p", &lpdu, "I.1").await.unwrap();
    assert_eq!(asked.load(Atomic::SeqCst), 2);
    assert_eq!(hub.invites_in_carols_inbox().await, 1, "told once, though asked twice");
    let event = hub.pending_of_carol(&hub.room).await.unwrap().event.unwrap();
    assert_eq!(Object::parse(&event).unwrap(), hub.last().await, "the one in the log");
    // A local user's invite goes the same way.
    let alice = user("alice", "h");
    hub.service
        .invite_user(&alice, &hub.room, &user("dave", "t"), None)
        .await
        .unwrap();
    assert_eq!(asked.load(Atomic::SeqCst), 4);
}

#[tokio::test]
async fn room_waits_for_an_invited_server_for_a_bounded_time() {
    let hub = Hub::with_bob().await;
    let asked = restless(&hub, 2);
    let lpdu = hub.member(&user("bob", "p"), &user("carol", "t"), "invite");
    let advance = async {
        eventually("the second question", || async { asked.load(Atomic::SeqCst) == 2 }).await;
        let_run().await;
        hub.world
            .clock
            .advance(hub.service.settings().delivery.question_timeout);
    };
    let (refused, ()) = tokio::join!(hub.invites("p", &lpdu, "I.1"), advance);
    assert!(matches!(refused, Err(ServiceError::PeerFailed { .. })), "{refused:?}");
    let before = hub.len().await;
    hub.service
        .send_event(&user("alice", "h"), &hub.room, message("x"), None)
        .await
        .unwrap();
    assert_eq!(hub.len().await, before + 1, "the room goes on");
}

#[tokio::test]
async fn user_invited_again_after_an_answer_is_told_again() {
    let hub = Hub::with_bob().await;
    let (bob, carol) = (user("bob", "p"), user("carol", "t"));
    for told in 1..=2 {
        hub.invites("p", &hub.member(&bob, &carol, "invite"), "I.1")
            .await
            .unwrap();
        assert_eq!(hub.invites_in_carols_inbox().await, told);
        hub.world.service("t").leave(&carol, &hub.room, None).await.unwrap();
    }
}

#[tokio::test]
async fn another_inviter_is_told_of_though_the_first_invite_is_open() {
    let hub = Hub::with_bob().await;
    let (bob, carol) = (user("bob", "p"), user("carol", "t"));
    for _ in 0..2 {
        let lpdu = hub.member(&bob, &carol, "invite");
        hub.invites("p", &lpdu, "I.1").await.unwrap();
        assert_eq!(hub.invites_in_carols_inbox().await, 1);
    }
    let alice = user("alice", "h");
    hub.service.invite_user(&alice, &hub.room, &carol, None).await.unwrap();
    assert_eq!(hub.invites_in_carols_inbox().await, 2);
}

impl Hub {
    /// `@carol:t.example` is taken out of the room, by a user of `name`; still to be completed and signed.
    fn removal_of_carol(&self, name: &str) -> EventBuilder {
        let (at, content) = (self.world.clock_now(), object! { "membership" => "leave" });
        EventBuilder::new(self.room.clone(), "m.room.member", user("mallory", name), at, content)
            .state_key(user("carol", "t").as_str())
    }

    /// The same by the server `name`, which says that it is the hub.
    fn removal_made_up_by(&self, name: &str) -> Pdu {
        let before = vec![EventId::from_hash([1; 32])];
        self.removal_of_carol(name)
            .build_pdu(&signer(name), before.clone(), before, &RoomVersionRules::I1)
            .unwrap()
    }

    /// Whether carol's server takes this event from `origin`.
    async fn is_taken_at_t(&self, origin: &str, event: &Pdu) -> bool {
        let body = Json::from(object! { "pdus" => vec![Json::from(event.object().clone())] });
        let hash = sha256(&body.to_canonical());
        let txn = txn_id(&nabe_signing::base64u::encode_url(&hash));
        let t = self.world.service("t");
        let reply = t.send_txn(server(origin), txn, body, hash).await.unwrap();
        Object::parse(&reply.body).unwrap() == nothing_failed()
    }
}

#[tokio::test]
async fn another_server_cannot_end_a_pending_invite() {
    let hub = Hub::with_bob().await;
    let lpdu = hub.member(&user("bob", "p"), &user("carol", "t"), "invite");
    hub.invites("p", &lpdu, "I.1").await.unwrap();
    let before = hub.pending_of_carol(&hub.room).await;
    assert!(before.is_some());
    assert!(!hub.is_taken_at_t("p", &hub.removal_made_up_by("p")).await);
    assert_eq!(hub.pending_of_carol(&hub.room).await, before);
    assert!(hub.is_taken_at_t("h", &hub.removal_made_up_by("h")).await);
    assert_eq!(hub.pending_of_carol(&hub.room).await, None);
}

#[tokio::test]
async fn pending_invite_is_not_ended_by_what_its_hub_hands_on_of_another() {
    let hub = Hub::with_bob().await;
    let lpdu = hub.member(&user("bob", "p"), &user("carol", "t"), "invite");
    hub.invites("p", &lpdu, "I.1").await.unwrap();
    let before = hub.pending_of_carol(&hub.room).await;
    assert!(before.is_some());
    let completion = Completion {
        auth_events: vec![EventId::from_hash([1; 32])],
        prev_events: vec![EventId::from_hash([1; 32])],
    };
    let completed_by_p = hub
        .removal_of_carol("h")
        .build_lpdu(&signer("h"), &server("p"), &RoomVersionRules::I1)
        .unwrap()
        .complete(completion, &signer("p"))
        .unwrap();
    for event in [hub.removal_made_up_by("p"), completed_by_p] {
        assert!(!hub.is_taken_at_t("h", &event).await);
        assert_eq!(hub.pending_of_carol(&hub.room).await, before);
    }
}
