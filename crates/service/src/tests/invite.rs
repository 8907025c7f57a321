//! `/invite`: cases 64, 65, and a room that goes on while the invited user's server is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering as Atomic};

use nabe_event::VerifiedLpdu;
use nabe_signing::json::{Json, Object};
use nabe_signing::{object, sha256};
use nabe_store::{InboxKind, Store};
use nabe_types::ErrorCode;

use super::{Hub, failure, json, text, txn_id};
use crate::ServiceError;
use crate::client::testing::{answer, eventually, message, server, user};

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
