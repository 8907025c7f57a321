//! The client API through the router.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use futures_util::StreamExt as _;
use nabe_service::RateLimit;
use nabe_signing::object;
use nabe_types::RoomId;
use serde_json::{Value, json};

use crate::testing::{PROVIDER_TOKEN, World, client_request, escape, lpdu, member_lpdu, user};

mod document;
mod stream;

fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

fn in_room(room: &RoomId, rest: &str) -> String {
    format!("/_nabe/v1/rooms/{}{rest}", escape(room))
}

// ── Who asks ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test]
async fn user_token_speaks_for_its_user_and_device() {
    let world = World::new();
    let token = world.token("alice", Some("DEV")).await;
    let answer = world
        .ask(request(
            "GET",
            "/_nabe/v1/whoami",
            &[("Authorization", &format!("Bearer {token}"))],
        ))
        .await;
    assert_eq!(
        answer.expect(200),
        json!({ "user_id": "@alice:h.example", "device_id": "DEV", "server_name": "h.example" })
    );
    // A user's token never speaks for somebody else.
    let headers = [
        ("Authorization", format!("bearer {token}")),
        ("Nabe-User", "@bob:h.example".to_owned()),
    ];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let answer = world.ask(request("GET", "/_nabe/v1/whoami", &headers)).await;
    assert_eq!(answer.expect(200)["user_id"], "@alice:h.example");
}

#[tokio::test]
async fn requests_without_a_known_token_are_unauthorized() {
    let world = World::new();
    let cases: [&[(&str, &str)]; 7] = [
        &[],
        &[("Authorization", "Bearer ")],
        &[("Authorization", "Bearer nabe_unknown")],
        &[("Authorization", "Basic eDp5")],
        &[("Authorization", "provider-credential")],
        &[
            ("Authorization", "Bearer provider-credentia"),
            ("Nabe-User", "@alice:h.example"),
        ],
        &[("Authorization", "Bearer a"), ("Authorization", "Bearer b")],
    ];
    for headers in cases {
        let answer = world.ask(request("GET", "/_nabe/v1/whoami", headers)).await;
        answer.expect_code(401, "unauthorized");
        assert_eq!(answer.headers[WWW_AUTHENTICATE], "Bearer");
    }
}

#[tokio::test]
async fn provider_acts_for_its_users_who_appear_on_first_use() {
    let mut world = World::new();
    let headers = [("Nabe-Device", "PHONE")];
    let who = world
        .client_with("newcomer", "GET", "/_nabe/v1/whoami", "", &headers)
        .await
        .expect(200);
    assert_eq!(who["user_id"], "@newcomer:h.example");
    assert_eq!(who["device_id"], "PHONE");
    let bearer = format!("Bearer {PROVIDER_TOKEN}");
    for user in [None, Some("@alice:p.example"), Some("alice"), Some("@Alice:h.example")] {
        let mut headers = vec![("Authorization", bearer.as_str())];
        headers.extend(user.map(|user| ("Nabe-User", user)));
        let answer = world.ask(request("GET", "/_nabe/v1/whoami", &headers)).await;
        assert!(answer.expect_code(400, "bad_request").contains("Nabe-User"));
    }
    world.state.provider_token_hash = None;
    world
        .client("newcomer", "GET", "/_nabe/v1/whoami", "")
        .await
        .expect_code(401, "unauthorized");
}

#[tokio::test]
async fn a_user_whom_the_provider_deletes_is_nobody_and_stays_so() {
    let world = World::new();
    world.client("alice", "GET", "/_nabe/v1/whoami", "").await.expect(200);
    let bearer = format!("Bearer {PROVIDER_TOKEN}");
    let delete = |user: &str, bearer: &str| {
        let target = format!("/_nabe/v1/users/{user}");
        world.ask(request("DELETE", &target, &[("Authorization", bearer)]))
    };
    let token = world.state.service.add_token(&user("bob", "h"), None).await.unwrap();
    let of_bob = format!("Bearer {}", token.secret());
    let refused = delete("@alice:h.example", &of_bob).await;
    refused.expect_code(403, "forbidden");
    for unknown in ["@nobody:h.example", "@alice:p.example"] {
        delete(unknown, &bearer).await.expect_code(404, "not_found");
    }
    for user in ["alice", "bob"] {
        for _ in 0..2 {
            let deleted = delete(&format!("@{user}:h.example"), &bearer).await;
            assert_eq!(deleted.expect(200), json!({}));
        }
        let answer = world.client(user, "GET", "/_nabe/v1/whoami", "").await;
        answer.expect_code(403, "user_deleted");
    }
    let headers = [("Authorization", of_bob.as_str())];
    let answer = world.ask(request("GET", "/_nabe/v1/whoami", &headers)).await;
    answer.expect_code(401, "unauthorized");
    world.client("cathy", "GET", "/_nabe/v1/whoami", "").await.expect(200);
}

#[tokio::test]
async fn users_have_a_rate() {
    let world = World::with(|settings| {
        settings.limits.client = RateLimit {
            per_second: 0.1,
            burst: 1.0,
        }
    });
    world.client("alice", "GET", "/_nabe/v1/rooms", "").await.expect(200);
    let answer = world.client("alice", "GET", "/_nabe/v1/rooms", "").await;
    answer.expect_code(429, "limit_exceeded");
    assert_eq!(answer.headers[RETRY_AFTER], "10");
    world.client("bob", "GET", "/_nabe/v1/rooms", "").await.expect(200);
}

// ── Bodies and addresses ─────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test]
async fn unknown_endpoints_and_wrong_methods_are_told_apart() {
    let world = World::new();
    for target in [
        "/_nabe/v1/nothing",
        "/_nabe/v1/rooms/",
        "/_nabe/v2/rooms",
        "/_nabe/v1/rooms/!a:h.example/state/",
    ] {
        world
            .client("alice", "GET", target, "")
            .await
            .expect_code(404, "unknown_endpoint");
    }
    world
        .client("alice", "DELETE", "/_nabe/v1/rooms", "")
        .await
        .expect_code(405, "method_not_allowed");
}

#[tokio::test]
async fn wrong_body_names_the_field() {
    let world = World::new();
    let room = world.room("public").await;
    let events = in_room(&room, "/events");
    for (body, named) in [
        (r#"{"type":"org.example.x"}"#, "content"),
        (r#"{"type":7,"content":{}}"#, "type"),
        (r#"{"type":"org.example.x","content":[]}"#, "content"),
        (r#"{"type":"org.example.x","content":{},"contents":{}}"#, "contents"),
        (
            r#"{"type":"org.example.x","content":{},"type":"org.example.y"}"#,
            "duplicate",
        ),
        (r#"{"type":"m.x","content":{}}"#, "`type`: types that begin with `m.`"),
        ("nope", "JSON"),
        ("[]", "object"),
    ] {
        let message = world
            .client("alice", "POST", &events, body)
            .await
            .expect_code(400, "bad_request");
        assert!(message.contains(named), "{body}: {message}");
    }
    let body = r#"{"messages":[{"target":"@x:h.example","target_device":"D","type":"t","content":{}},{"target":"x"}]}"#;
    let message = world
        .client("alice", "POST", "/_nabe/v1/to_device", body)
        .await
        .expect_code(400, "bad_request");
    assert!(message.contains("messages[1].target"), "{message}");
    for room in [
        r#"{"join_rule":"maybe"}"#,
        r#"{"invite":["bob"]}"#,
        r#"{"initial_state":[{"type":"m.x","content":{}}]}"#,
    ] {
        world
            .client("alice", "POST", "/_nabe/v1/rooms", room)
            .await
            .expect_code(400, "bad_request");
    }
}

#[tokio::test]
async fn numbers_that_cannot_be_signed_are_refused_and_others_kept_exactly() {
    let world = World::new();
    let room = world.room("public").await;
    let events = in_room(&room, "/events");
    let body = r#"{"type":"org.example.x","content":{"n":9007199254740991,"whole":50.0}}"#;
    world.client("alice", "POST", &events, body).await.expect(200);
    let page = world
        .client("alice", "GET", &format!("{events}?limit=1"), "")
        .await
        .expect(200);
    assert_eq!(
        page["events"][0]["content"],
        json!({ "n": 9_007_199_254_740_991_i64, "whole": 50 })
    );
    let answer = world
        .client(
            "alice",
            "POST",
            &events,
            r#"{"type":"org.example.x","content":{"n":1.5}}"#,
        )
        .await;
    assert!([400, 403].contains(&answer.status.as_u16()), "{}", answer.json());
}

#[tokio::test]
async fn body_over_the_limit_is_too_large() {
    let mut world = World::new();
    world.state.limits.body_bytes = 10;
    let body = r#"{"name":"far too long"}"#;
    world
        .client("alice", "POST", "/_nabe/v1/rooms", body)
        .await
        .expect_code(413, "too_large");
}

// ── Rooms ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test]
async fn created_room_can_be_looked_at() {
    let world = World::new();
    let body = r#"{"name":"N","topic":"T","join_rule":"public","invite":["@bob:h.example","@x:dead.example"],
        "initial_state":[{"type":"org.example.color","state_key":"a/b","content":{"c":1}}]}"#;
    let key = [("Idempotency-Key", "k1")];
    let created = world
        .client_with("alice", "POST", "/_nabe/v1/rooms", body, &key)
        .await
        .expect(200);
    let failed: Vec<_> = created["failed_invites"].as_object().unwrap().keys().collect();
    assert_eq!(failed, ["@x:dead.example"]);
    let again = world
        .client_with("alice", "POST", "/_nabe/v1/rooms", body, &key)
        .await
        .expect(200);
    assert_eq!(created["room_id"], again["room_id"]);
    world
        .client_with("alice", "POST", "/_nabe/v1/rooms", "{}", &key)
        .await
        .expect_code(409, "conflict");

    let room: RoomId = created["room_id"].as_str().unwrap().parse().unwrap();
    let summary = world.client("alice", "GET", &in_room(&room, ""), "").await.expect(200);
    assert_eq!(summary["name"], "N");
    assert_eq!(summary["topic"], "T");
    assert_eq!(summary["membership"], "join");
    assert_eq!(summary["hub"], "h.example");
    assert_eq!(summary["room_version"], "I.1");
    assert_eq!(summary["members"], 1);
    let rooms = world.client("alice", "GET", "/_nabe/v1/rooms", "").await.expect(200);
    assert_eq!(rooms["rooms"], json!([summary]));
    assert_eq!((&rooms["invites"], &rooms["knocks"]), (&json!([]), &json!([])));

    let state = world
        .client("alice", "GET", &in_room(&room, "/state"), "")
        .await
        .expect(200);
    assert!(
        state["state"]
            .as_array()
            .unwrap()
            .iter()
            .any(|event| event["type"] == "m.room.create")
    );
    let color = in_room(&room, "/state/org.example.color/a%2Fb");
    assert_eq!(
        world.client("alice", "GET", &color, "").await.expect(200)["content"],
        json!({ "c": 1 })
    );
    let name = world
        .client("alice", "GET", &in_room(&room, "/state/m.room.name"), "")
        .await
        .expect(200);
    assert_eq!(name["content"], json!({ "name": "N" }));
    assert_eq!(name["sender"], "@alice:h.example");
    let none = in_room(&room, "/state/org.example.color");
    world
        .client("alice", "GET", &none, "")
        .await
        .expect_code(404, "not_found");
    let members = world
        .client("alice", "GET", &in_room(&room, "/members"), "")
        .await
        .expect(200);
    let members = members["members"].as_array().unwrap();
    assert_eq!(members[0]["user_id"], "@alice:h.example");
    assert_eq!(members[0]["membership"], "join");
    assert!(members[0]["event_id"].as_str().unwrap().starts_with('$'));

    for rest in ["", "/state", "/members", "/events", "/delivery"] {
        world
            .client("stranger", "GET", &in_room(&room, rest), "")
            .await
            .expect_code(404, "not_found");
        let unknown = format!("/_nabe/v1/rooms/nonsense{rest}");
        world
            .client("alice", "GET", &unknown, "")
            .await
            .expect_code(404, "not_found");
    }
}

#[tokio::test]
async fn delivery_says_how_far_the_followers_are() {
    let world = World::new();
    let room = world.room("public").await;
    world.bob_joins(&room).await;
    let delivery = world
        .client("alice", "GET", &in_room(&room, "/delivery"), "")
        .await
        .expect(200);
    let follower = &delivery["followers"][0];
    assert_eq!(follower["server"], "p.example");
    assert_eq!(
        follower["head"].as_i64().unwrap(),
        follower["delivered"].as_i64().unwrap() + follower["lag"].as_i64().unwrap()
    );
}

// ── Membership ───────────────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test]
async fn members_come_and_go() {
    let world = World::new();
    let room = world.room("invite").await;
    let target = |rest: &str| in_room(&room, rest);
    let bob = r#"{"user_id":"@bob:h.example","reason":"why not"}"#;
    let refused = world.client("bob", "POST", &target("/join"), "").await;
    refused.expect_code(403, "forbidden");
    assert!(refused.json()["error"]["rule"].is_string());

    let sent = world.client("alice", "POST", &target("/invite"), bob).await.expect(200);
    assert_eq!(sent["status"], "accepted");
    assert!(sent["position"].is_i64());
    let joined = world.client("bob", "POST", &target("/join"), "{}").await.expect(200);
    assert_eq!(joined["room_id"], room.as_str());
    assert!(joined["event_id"].is_string());
    world
        .client("bob", "POST", &target("/leave"), r#"{"reason":"bye"}"#)
        .await
        .expect(200);
    for (action, membership) in [
        ("/invite", "invite"),
        ("/kick", "leave"),
        ("/ban", "ban"),
        ("/unban", "leave"),
    ] {
        world.client("alice", "POST", &target(action), bob).await.expect(200);
        let state = world
            .client("alice", "GET", &target("/state/m.room.member/@bob%3Ah.example"), "")
            .await
            .expect(200);
        assert_eq!(
            state["content"],
            json!({ "membership": membership, "reason": "why not" })
        );
    }
    world
        .client("alice", "POST", &target("/kick"), bob)
        .await
        .expect_code(404, "not_found");
    let message = world
        .client("alice", "POST", &target("/ban"), "{}")
        .await
        .expect_code(400, "bad_request");
    assert!(message.contains("user_id"), "{message}");
    let nowhere = "/_nabe/v1/rooms/!x:dead.example/join";
    world
        .client("bob", "POST", nowhere, r#"{"via":["dead.example"]}"#)
        .await
        .expect_code(502, "peer_unreachable");
}

#[tokio::test]
async fn local_user_knocks() {
    let world = World::new();
    let room = world.room("knock").await;
    let sent = world
        .client("bob", "POST", &in_room(&room, "/knock"), r#"{"reason":"please"}"#)
        .await
        .expect(200);
    assert_eq!(sent["status"], "accepted");
    let state = in_room(&room, "/state/m.room.member/@bob%3Ah.example");
    assert_eq!(
        world.client("alice", "GET", &state, "").await.expect(200)["content"]["membership"],
        "knock"
    );
}

// ── Events ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test]
async fn idempotency_key_makes_repetitions_harmless() {
    let world = World::new();
    let room = world.room("public").await;
    let events = in_room(&room, "/events");
    let (hello, other) = (
        r#"{"type":"org.example.x","content":{"a":1}}"#,
        r#"{"type":"org.example.x","content":{"a":2}}"#,
    );
    let key = [("Idempotency-Key", "once")];
    let first = world
        .client_with("alice", "POST", &events, hello, &key)
        .await
        .expect(200);
    let again = world
        .client_with("alice", "POST", &events, hello, &key)
        .await
        .expect(200);
    assert_eq!(first["event_id"], again["event_id"]);
    world
        .client_with("alice", "POST", &events, other, &key)
        .await
        .expect_code(409, "conflict");
    let without = world.client("alice", "POST", &events, hello).await.expect(200);
    assert_ne!(first["event_id"], without["event_id"]);
    for bad in ["", "with space", &"x".repeat(129)] {
        let answer = world
            .client_with("alice", "POST", &events, hello, &[("Idempotency-Key", bad)])
            .await;
        assert!(answer.expect_code(400, "bad_request").contains("Idempotency-Key"));
    }
    world
        .client("stranger", "POST", &events, hello)
        .await
        .expect_code(403, "forbidden");
}

#[tokio::test]
async fn history_is_paged_both_ways() {
    let world = World::new();
    let room = world.room("public").await;
    let events = in_room(&room, "/events");
    for number in 0..5 {
        let body = format!(r#"{{"type":"org.example.x","content":{{"n":{number}}}}}"#);
        world.client("alice", "POST", &events, &body).await.expect(200);
    }
    let page = async |query: &str| {
        world
            .client("alice", "GET", &format!("{events}{query}"), "")
            .await
            .expect(200)
    };
    let numbers = |page: &Value| -> Vec<i64> {
        page["events"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|event| event["content"]["n"].as_i64())
            .collect()
    };
    let newest = page("?limit=2").await;
    assert_eq!(numbers(&newest), [4, 3]);
    let id = newest["events"][0]["event_id"].as_str().unwrap();
    let one = page(&format!("/{}", escape(id))).await;
    assert_eq!(one, newest["events"][0]);
    let absent = world
        .client("bob", "GET", &format!("{events}/{}", escape(id)), "")
        .await;
    absent.expect_code(404, "not_found");
    let older = page(&format!("?limit=2&dir=b&from={}", newest["next"])).await;
    assert_eq!(numbers(&older), [2, 1]);
    let from = older["events"][1]["position"].as_i64().unwrap();
    let newer = page(&format!("?dir=f&limit=100&from={from}")).await;
    assert_eq!(numbers(&newer), [2, 3, 4]);
    let all = page("?dir=f").await;
    assert_eq!(all["events"][0]["type"], "m.room.create");
    assert_eq!(all["events"][0]["position"], 1);
    for query in ["?limit=0", "?limit=101", "?limit=-1", "?dir=up", "?from=x"] {
        world
            .client("alice", "GET", &format!("{events}{query}"), "")
            .await
            .expect_code(400, "bad_request");
    }
}

// ── Devices ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test]
async fn devices_are_added_once_and_listed() {
    let world = World::new();
    for device in ["PHONE", "DESK", "PHONE"] {
        let answer = world
            .client("alice", "PUT", &format!("/_nabe/v1/devices/{device}"), "")
            .await;
        assert_eq!(answer.expect(200), json!({}));
    }
    let too_long = format!("/_nabe/v1/devices/{}", "X".repeat(256));
    let message = world
        .client("alice", "PUT", &too_long, "")
        .await
        .expect_code(400, "bad_request");
    assert!(message.contains("device_id"), "{message}");
    let devices = world.client("alice", "GET", "/_nabe/v1/devices", "").await.expect(200);
    assert_eq!(devices, json!({ "devices": ["DESK", "PHONE"] }));
    assert_eq!(
        world.client("bob", "GET", "/_nabe/v1/devices", "").await.expect(200),
        json!({ "devices": [] })
    );
}

// ── Health and the document ──────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test]
async fn health_needs_no_token() {
    let world = World::new();
    assert_eq!(
        world.unsigned("GET", "/_nabe/health/live", "").await.expect(200),
        json!({ "status": "live" })
    );
    let ready = world.unsigned("GET", "/_nabe/health/ready", "").await.expect(200);
    assert_eq!(ready, json!({ "status": "ready", "checks": { "database": "ok" } }));
}

#[tokio::test(start_paused = true)]
async fn answer_that_takes_too_long_is_given_up() {
    let mut world = World::new();
    world.state.limits.answer_time = Duration::from_secs(1);
    let never = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let request = Request::builder()
        .method("POST")
        .uri("/_nabe/v1/rooms")
        .header(AUTHORIZATION, format!("Bearer {PROVIDER_TOKEN}"))
        .header("Nabe-User", "@alice:h.example")
        .body(Body::from_stream(never))
        .unwrap();
    world.ask(request).await.expect_code(503, "unavailable");
}
