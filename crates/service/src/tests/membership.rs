//! `make_` and `send_`: cases 66 to 70, 79, 80.

use nabe_signing::json::{Json, Object};
use nabe_store::{InboxKind, Store};
use nabe_types::{ErrorCode, RoomVersionId};

use super::{Hub, json, list, text};
use crate::client::NewRoom;
use crate::client::testing::{eventually, let_run, server, user};
use crate::{MembershipKind, ServiceError};

fn versions() -> Vec<RoomVersionId> {
    vec![RoomVersionId::parse("I.1").unwrap()]
}

fn knock_room() -> NewRoom {
    NewRoom {
        join_rule: Some("knock".to_owned()),
        ..NewRoom::default()
    }
}

#[tokio::test]
async fn template_has_its_fields_bare_and_wrapped() {
    let hub = Hub::public().await;
    let bob = user("bob", "p");
    let template = hub
        .service
        .make_membership(&server("p"), MembershipKind::Join, &hub.room, &bob, &versions())
        .await
        .unwrap();
    assert_eq!(text(&template, "type"), "m.room.member");
    assert_eq!(text(&template, "state_key"), bob.as_str());
    assert_eq!(text(&template, "room_version"), "I.1");
    let event = template.get("event").unwrap().as_object().unwrap();
    assert_eq!(text(event, "sender"), bob.as_str());
}

#[tokio::test]
async fn template_is_refused_with_the_right_code() {
    let hub = Hub::with(NewRoom::default()).await;
    let bob = user("bob", "p");
    let make = |from: &'static str, kind, room: nabe_types::RoomId, ver: Vec<RoomVersionId>| {
        let (service, bob) = (hub.service.clone(), bob.clone());
        async move {
            service
                .make_membership(&server(from), kind, &room, &bob, &ver)
                .await
                .unwrap_err()
                .code()
        }
    };
    let other = nabe_types::RoomId::parse("!nowhere:h.example").unwrap();
    let join = MembershipKind::Join;
    assert_eq!(
        make("p", join, hub.room.clone(), Vec::new()).await,
        ErrorCode::IncompatibleRoomVersion
    );
    assert_eq!(
        make("p", join, hub.room.clone(), versions()).await,
        ErrorCode::Forbidden
    );
    assert_eq!(
        make("t", join, hub.room.clone(), versions()).await,
        ErrorCode::Forbidden
    );
    assert_eq!(make("p", join, other, versions()).await, ErrorCode::NotFound);
    assert_eq!(
        make("p", MembershipKind::Leave, hub.room.clone(), Vec::new()).await,
        ErrorCode::Forbidden
    );
}

#[tokio::test]
async fn participant_sends_joiners_to_the_hub() {
    let hub = Hub::public().await;
    hub.world
        .service("p")
        .join(&user("bob", "p"), &hub.room, &[server("h")])
        .await
        .unwrap();
    let carol = user("carol", "t");
    let refused = hub
        .world
        .service("p")
        .make_membership(&server("t"), MembershipKind::Join, &hub.room, &carol, &versions())
        .await;
    assert!(matches!(refused, Err(ServiceError::WrongServer { hub: Some(name) }) if name == server("h")));
    let event = json(&hub.member(&carol, &carol, "join"));
    let at_participant = Hub {
        service: hub.world.service("p"),
        ..hub
    };
    let refused = at_participant
        .send_member("t", MembershipKind::Join, event)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), ErrorCode::WrongServer);
}

#[tokio::test]
async fn join_returns_the_state_before_it_and_the_event_that_is_sent_around() {
    let hub = Hub::public().await;
    let bob = user("bob", "p");
    let joined = hub.joins(&bob).await;
    let event = joined.get("event").unwrap().as_object().unwrap();
    assert_eq!(*event, hub.last().await);
    let is_bobs =
        |event: &Json| event.as_object().unwrap().get("state_key").and_then(Json::as_str) == Some(bob.as_str());
    assert!(!list(&joined, "state").iter().any(is_bobs));
    let types: Vec<_> = list(&joined, "state")
        .iter()
        .map(|event| text(event.as_object().unwrap(), "type"))
        .collect();
    assert!(
        types.contains(&"m.room.create") && types.contains(&"m.room.join_rules"),
        "{types:?}"
    );
    assert!(
        list(&joined, "auth_chain")
            .iter()
            .any(|event| text(event.as_object().unwrap(), "type") == "m.room.create")
    );
    // The same request again is answered the same.
    let again = hub
        .send_member("p", MembershipKind::Join, json(&hub.member(&bob, &bob, "join")))
        .await;
    assert!(again.is_ok());
}

#[tokio::test]
async fn join_of_somebody_banned_meanwhile_is_forbidden() {
    let hub = Hub::public().await;
    let bob = user("bob", "p");
    hub.service
        .make_membership(&server("p"), MembershipKind::Join, &hub.room, &bob, &versions())
        .await
        .unwrap();
    hub.service
        .ban(&user("alice", "h"), &hub.room, &bob, None)
        .await
        .unwrap();
    let refused = hub
        .send_member("p", MembershipKind::Join, json(&hub.member(&bob, &bob, "join")))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Forbidden);
}

#[tokio::test]
async fn event_must_fit_the_endpoint_and_the_origin() {
    let hub = Hub::public().await;
    let bob = user("bob", "p");
    let join = json(&hub.member(&bob, &bob, "join"));
    let message = json(&hub.message(&bob, "x"));
    let send = |from: &'static str, kind, event: &Json| {
        let (hub, event) = (&hub, event.clone());
        async move { hub.send_member(from, kind, event).await.unwrap_err().code() }
    };
    assert_eq!(send("p", MembershipKind::Leave, &join).await, ErrorCode::BadJson);
    assert_eq!(send("p", MembershipKind::Join, &message).await, ErrorCode::BadJson);
    assert_eq!(send("t", MembershipKind::Join, &join).await, ErrorCode::Forbidden);
    let mut forged = join.into_object().unwrap();
    forged.insert("origin_server_ts", 1);
    assert_eq!(
        send("p", MembershipKind::Join, &forged.into()).await,
        ErrorCode::Forbidden
    );
}

#[tokio::test]
async fn knock_shows_four_fields_and_can_be_retracted() {
    let hub = Hub::with(knock_room()).await;
    let bob = user("bob", "p");
    let knocked = hub
        .send_member("p", MembershipKind::Knock, json(&hub.member(&bob, &bob, "knock")))
        .await
        .unwrap();
    let stripped = list(&knocked, "stripped_state");
    assert!(!stripped.is_empty());
    for event in stripped {
        let keys: Vec<_> = event.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["content", "sender", "state_key", "type"]);
    }
    let left = hub
        .send_member("p", MembershipKind::Leave, json(&hub.member(&bob, &bob, "leave")))
        .await
        .unwrap();
    assert_eq!(left, Object::new());
    assert_eq!(
        hub.last()
            .await
            .get("content")
            .unwrap()
            .as_object()
            .unwrap()
            .get("membership")
            .unwrap()
            .as_str(),
        Some("leave")
    );
    let again = hub
        .send_member("p", MembershipKind::Leave, json(&hub.member(&bob, &bob, "leave")))
        .await
        .unwrap_err();
    assert_eq!(again.code(), ErrorCode::Forbidden);
}

#[tokio::test]
async fn server_of_a_kicked_user_gets_the_kick_and_nothing_after() {
    let hub = Hub::public().await;
    let (alice, bob) = (user("alice", "h"), user("bob", "p"));
    hub.joins(&bob).await;
    hub.service.kick(&alice, &hub.room, &bob, None).await.unwrap();
    hub.service
        .send_event(
            &alice,
            &hub.room,
            crate::client::testing::message("behind closed doors"),
            None,
        )
        .await
        .unwrap();
    let sent = |part: &'static str| {
        let made = hub.world.made("/send/");
        made.iter().filter(|made| made.to == server("p")).any(|made| {
            String::from_utf8(made.request.body.clone().unwrap().to_vec())
                .unwrap()
                .contains(part)
        })
    };
    eventually("the kick is sent", || async { sent("\"membership\":\"leave\"") }).await;
    let_run().await;
    assert!(!sent("behind closed doors"));
}

#[tokio::test]
async fn ban_of_an_invited_user_ends_the_invite_at_their_server() {
    let hub = Hub::with(NewRoom::default()).await;
    let (alice, bob) = (user("alice", "h"), user("bob", "p"));
    hub.service.invite_user(&alice, &hub.room, &bob, None).await.unwrap();
    let store = hub.world.store("p");
    assert!(store.pending_room(&bob, &hub.room).await.unwrap().is_some());
    hub.service.ban(&alice, &hub.room, &bob, None).await.unwrap();
    eventually("the invite is gone", || async {
        store.pending_room(&bob, &hub.room).await.unwrap().is_none()
    })
    .await;
    let inbox = store.inbox(&bob, None, 0, 10).await.unwrap();
    let kinds: Vec<_> = inbox.iter().map(|item| item.kind).collect();
    assert_eq!(kinds, [InboxKind::Invite, InboxKind::PendingEnded]);
}

#[tokio::test]
async fn marked_endpoints_are_rate_limited_and_send_is_not() {
    let mut hub = Hub::public().await;
    hub.service = hub.world.start_with("h", |settings| {
        settings.limits.federation = crate::RateLimit {
            per_second: 1.0,
            burst: 2.0,
        };
    });
    let bob = user("bob", "p");
    let make = || {
        hub.service
            .make_membership(&BOBS, MembershipKind::Join, &hub.room, &bob, &VERSIONS)
    };
    make().await.unwrap();
    make().await.unwrap();
    let refused = make().await.unwrap_err();
    assert!(
        matches!(refused, ServiceError::LimitExceeded { retry_after } if !retry_after.is_zero()),
        "{refused}"
    );
    hub.world.clock.advance(std::time::Duration::from_secs(1));
    make().await.unwrap();
    for n in 0..20 {
        hub.send("p", &n.to_string(), Vec::new()).await.unwrap();
    }
}

#[tokio::test]
async fn state_is_limited_by_how_much_of_it_there_is() {
    let mut hub = Hub::public().await;
    let bob = user("bob", "p");
    hub.joins(&bob).await;
    let newest = hub.log().await.last().unwrap().event_id().clone();
    let events = hub
        .service
        .read_room(&hub.room, |view| view.state().iter().count())
        .await
        .unwrap();
    hub.service = hub.world.start_with("h", |settings| {
        settings.limits.state_events = crate::RateLimit {
            per_second: 1.0,
            burst: 2.0 * events as f64,
        };
    });
    let ask = || hub.service.state_ids(&BOBS, &hub.room, &newest);
    ask().await.unwrap();
    ask().await.unwrap();
    let refused = ask().await.unwrap_err();
    let wait = std::time::Duration::from_secs(events as u64);
    assert!(
        matches!(refused, ServiceError::LimitExceeded { retry_after } if retry_after == wait),
        "{refused}"
    );
    hub.world.clock.advance(wait);
    ask().await.unwrap();
}

static BOBS: std::sync::LazyLock<nabe_types::ServerName> = std::sync::LazyLock::new(|| server("p"));
static VERSIONS: std::sync::LazyLock<Vec<RoomVersionId>> = std::sync::LazyLock::new(versions);

#[tokio::test]
async fn large_reply_of_send_join_is_not_kept_but_made_again() {
    let hub = Hub::public().await;
    for n in 0..5 {
        let state = crate::client::NewEvent {
            event_type: "org.example.large".to_owned(),
            state_key: Some(n.to_string()),
            content: nabe_signing::object! { "x" => "x".repeat(60_000) },
        };
        hub.service
            .send_event(&user("alice", "h"), &hub.room, state, None)
            .await
            .unwrap();
    }
    let bob = user("bob", "p");
    let join = json(&hub.member(&bob, &bob, "join"));
    let first = hub.send_member("p", MembershipKind::Join, join.clone()).await.unwrap();
    assert!(first.to_canonical().len() > 300_000);
    let key = nabe_store::IdempotencyKey {
        scope: "p.example".to_owned(),
        endpoint: "send_join".to_owned(),
        txn_id: nabe_signing::base64u::encode_url(&nabe_signing::sha256(&join.to_canonical())),
    };
    assert_eq!(hub.world.store("h").reply(&key).await.unwrap(), None);
    let length = hub.log().await.len();
    let again = hub.send_member("p", MembershipKind::Join, join).await.unwrap();
    assert_eq!(again, first);
    assert_eq!(hub.log().await.len(), length);
}
