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

#[tokio::test]
async fn to_device_messages_reach_the_inbox() {
    let world = World::new();
    world
        .client("bob", "PUT", "/_nabe/v1/devices/PHONE", "")
        .await
        .expect(200);
    let body = r#"{"messages":[
        {"target":"@bob:h.example","target_device":"PHONE","type":"m.key","content":{"k":1}},
        {"target":"@bob:p.example","target_device":"OTHER","type":"m.key","content":{"k":2}}]}"#;
    let key = [("Idempotency-Key", "k")];
    for _ in 0..2 {
        let queued = world
            .client_with("alice", "POST", "/_nabe/v1/to_device", body, &key)
            .await;
        assert_eq!(queued.expect(200), json!({ "queued": 2 }));
    }
    let mut stream = Reader::open(&world, "bob", "?device=PHONE&since=start", &[]).await;
    assert_eq!(stream.next().await.event, "ready");
    let message = stream.next().await;
    assert_eq!(message.event, "to_device");
    assert_eq!(message.data["sender"], "@alice:h.example");
    // Another device is not shown it: what comes first there is a later event.
    let mut elsewhere = Reader::open(&world, "bob", "?device=DESK&since=start", &[]).await;
    assert_eq!(elsewhere.next().await.event, "ready");
    world.client("bob", "POST", "/_nabe/v1/rooms", "{}").await.expect(200);
    assert_eq!(elsewhere.next().await.event, "room");
}

// ── The stream ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Reads server-sent events.
struct Reader {
    body: axum::body::BodyDataStream,
    buffer: String,
}

#[derive(Debug)]
struct Received {
    id: String,
    event: String,
    data: Value,
}

impl Reader {
    async fn open(world: &World, user: &str, query: &str, headers: &[(&str, &str)]) -> Self {
        Self::of(
            world,
            client_request(user, "GET", &format!("/_nabe/v1/stream{query}"), "", headers),
        )
        .await
    }

    async fn of(world: &World, request: Request<Body>) -> Self {
        let response = world.raw(request).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-cache");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        Self {
            body: response.into_body().into_data_stream(),
            buffer: String::new(),
        }
    }

    /// The next block, or `None` at the end.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let block = block.to_owned();
                self.buffer = rest.to_owned();
                return Some(block);
            }
            self.buffer
                .push_str(std::str::from_utf8(&self.body.next().await?.unwrap()).unwrap());
        }
    }

    async fn next(&mut self) -> Received {
        let block = self.block().await.expect("the stream goes on");
        let field = |name: &str| {
            let line = block
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("{name} in {block}")).trim().to_owned()
        };
        Received {
            id: field("id"),
            event: field("event"),
            data: serde_json::from_str(&field("data")).unwrap(),
        }
    }
}

#[tokio::test]
async fn stream_tells_what_happens_and_resumes_without_loss() {
    let world = World::new();
    let room = world.room("public").await;
    let say = async |number: i64| {
        let body = format!(r#"{{"type":"org.example.x","content":{{"n":{number}}}}}"#);
        world
            .client("alice", "POST", &in_room(&room, "/events"), &body)
            .await
            .expect(200);
    };
    let mut stream = Reader::open(&world, "alice", "", &[]).await;
    let ready = stream.next().await;
    assert_eq!((ready.event.as_str(), ready.data), ("ready", json!({})));
    say(1).await;
    let first = stream.next().await;
    assert_eq!(first.event, "room");
    assert_eq!(first.data["room_id"], room.as_str());
    assert_eq!(first.data["event"]["content"], json!({ "n": 1 }));
    assert!(first.data["event"]["position"].is_i64());
    drop(stream);
    say(2).await;
    world.bob_joins(&room).await;
    world
        .send_pdu(lpdu(&room, &user("bob", "p"), "m.x", None, object! { "n" => 3 }))
        .await
        .expect(200);

    let mut stream = Reader::open(
        &world,
        "alice",
        &format!("?since={}", ready.id),
        &[("Last-Event-ID", &first.id)],
    )
    .await;
    assert_eq!(stream.next().await.event, "ready");
    let (second, join, third) = (stream.next().await, stream.next().await, stream.next().await);
    assert_eq!(second.data["event"]["content"], json!({ "n": 2 }));
    assert_eq!(join.data["event"]["state_key"], "@bob:p.example");
    assert_eq!(third.data["event"]["content"], json!({ "n": 3 }));

    let mut all = Reader::open(&world, "alice", "?since=start", &[]).await;
    assert_eq!(all.next().await.event, "ready");
    assert_eq!(all.next().await.data["event"]["sender"], "@alice:h.example");
    let bad = world
        .client("alice", "GET", "/_nabe/v1/stream?since=nonsense", "")
        .await;
    bad.expect_code(400, "bad_request");
}

#[tokio::test]
async fn what_a_reader_says_it_has_handled_is_not_told_again() {
    let world = World::new();
    world
        .client("bob", "PUT", "/_nabe/v1/devices/PHONE", "")
        .await
        .expect(200);
    let message = r#"{"messages":[{"target":"@bob:h.example","target_device":"PHONE","type":"m.key","content":{}}]}"#;
    world
        .client("alice", "POST", "/_nabe/v1/to_device", message)
        .await
        .expect(200);
    let mut stream = Reader::open(&world, "bob", "?device=PHONE&since=start", &[]).await;
    stream.next().await;
    let id = stream.next().await.id;
    // A reader without a device may come back during the first hour.
    world.clock.advance(Duration::from_secs(3600));
    let handled = "/_nabe/v1/stream/handled?device=PHONE";
    let body = json!({ "id": id }).to_string();
    let noted = world.client("bob", "POST", handled, &body).await;
    assert_eq!(noted.expect(200), json!({}));
    world
        .client(
            "alice",
            "POST",
            "/_nabe/v1/to_device",
            &message.replace("m.key", "m.next"),
        )
        .await
        .expect(200);
    let mut again = Reader::open(&world, "bob", "?device=PHONE&since=start", &[]).await;
    again.next().await;
    assert_eq!(again.next().await.data["message_type"], "m.next");
    let bad = world.client("bob", "POST", handled, r#"{"id":"nonsense!"}"#).await;
    bad.expect_code(400, "bad_request");
}

#[tokio::test]
async fn token_of_one_device_does_not_speak_for_another() {
    let world = World::new();
    let token = world.token("alice", Some("PHONE")).await;
    let bearer = format!("Bearer {token}");
    let request = Request::builder()
        .method("POST")
        .uri("/_nabe/v1/stream/handled?device=DESK")
        .header("Authorization", &bearer)
        .body(r#"{"id":"AA"}"#.into())
        .unwrap();
    world.ask(request).await.expect_code(403, "forbidden");
}

#[tokio::test]
async fn token_of_one_device_does_not_read_anothers_stream() {
    let world = World::new();
    let token = world.token("alice", Some("PHONE")).await;
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str())];
    let answer = world
        .ask(request("GET", "/_nabe/v1/stream?device=DESK", &headers))
        .await;
    answer.expect_code(403, "forbidden");
    let mut own = Reader::of(&world, request("GET", "/_nabe/v1/stream?device=PHONE", &headers)).await;
    assert_eq!(own.next().await.event, "ready");
}

#[tokio::test]
async fn stream_ends_when_the_server_stops() {
    let world = World::new();
    let mut stream = Reader::open(&world, "alice", "", &[]).await;
    assert_eq!(stream.next().await.event, "ready");
    world.state.service.shutdown().await;
    assert_eq!(stream.block().await, None);
}

#[tokio::test(start_paused = true)]
async fn silent_stream_has_a_heartbeat() {
    let world = World::new();
    let mut stream = Reader::open(&world, "alice", "", &[]).await;
    assert_eq!(stream.next().await.event, "ready");
    let before = tokio::time::Instant::now();
    let comment = stream.block().await.unwrap();
    assert!(comment.starts_with(':'), "{comment}");
    assert_eq!(before.elapsed().as_secs(), 15);
}

#[tokio::test]
async fn peer_leaving_is_seen_in_the_member_list() {
    let world = World::new();
    let room = world.room("public").await;
    world.bob_joins(&room).await;
    world
        .send_pdu(member_lpdu(&room, &user("bob", "p"), "leave"))
        .await
        .expect(200);
    let members = world
        .client("alice", "GET", &in_room(&room, "/members"), "")
        .await
        .expect(200);
    let bob = members["members"]
        .as_array()
        .unwrap()
        .iter()
        .find(|member| member["user_id"] == "@bob:p.example")
        .unwrap();
    assert_eq!(bob["membership"], "leave");
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

/// Every route of the client API, as the contract with its users has it.
const ROUTES: &[&str] = &[
    "get /_nabe/health/live",
    "get /_nabe/health/ready",
    "get /_nabe/v1/devices",
    "delete /_nabe/v1/devices/{device_id}",
    "put /_nabe/v1/devices/{device_id}",
    "get /_nabe/v1/devices/{device_id}/key_packages",
    "post /_nabe/v1/devices/{device_id}/key_packages",
    "post /_nabe/v1/keys/claim",
    "post /_nabe/v1/media",
    "get /_nabe/v1/media/{server}/{media_id}",
    "delete /_nabe/v1/media/{server}/{media_id}",
    "post /_nabe/v1/mimi/assets",
    "get /_nabe/v1/mimi/consent",
    "post /_nabe/v1/mimi/consent",
    "get /_nabe/v1/mimi/hub",
    "post /_nabe/v1/mimi/key_material",
    "get /_nabe/v1/mimi/key_packages",
    "post /_nabe/v1/mimi/key_packages",
    "get /_nabe/v1/mimi/reports",
    "get /_nabe/v1/mimi/reports/{number}",
    "put /_nabe/v1/mimi/reports/{number}",
    "get /_nabe/v1/mimi/rooms",
    "post /_nabe/v1/mimi/rooms",
    "get /_nabe/v1/mimi/rooms/{room}/download",
    "post /_nabe/v1/mimi/rooms/{room}/group_info",
    "get /_nabe/v1/mimi/rooms/{room}/messages",
    "post /_nabe/v1/mimi/rooms/{room}/report_abuse",
    "post /_nabe/v1/mimi/rooms/{room}/submit_message",
    "post /_nabe/v1/mimi/rooms/{room}/update",
    "get /_nabe/v1/rooms",
    "post /_nabe/v1/rooms",
    "get /_nabe/v1/rooms/{room}",
    "post /_nabe/v1/rooms/{room}/ban",
    "get /_nabe/v1/rooms/{room}/delivery",
    "get /_nabe/v1/rooms/{room}/events",
    "post /_nabe/v1/rooms/{room}/events",
    "get /_nabe/v1/rooms/{room}/events/{event}",
    "get /_nabe/v1/rooms/{room}/group",
    "post /_nabe/v1/rooms/{room}/invite",
    "post /_nabe/v1/rooms/{room}/join",
    "post /_nabe/v1/rooms/{room}/kick",
    "post /_nabe/v1/rooms/{room}/knock",
    "post /_nabe/v1/rooms/{room}/leave",
    "get /_nabe/v1/rooms/{room}/members",
    "get /_nabe/v1/rooms/{room}/state",
    "get /_nabe/v1/rooms/{room}/state/{type}",
    "get /_nabe/v1/rooms/{room}/state/{type}/{state_key}",
    "post /_nabe/v1/rooms/{room}/unban",
    "get /_nabe/v1/stream",
    "post /_nabe/v1/stream/handled",
    "post /_nabe/v1/to_device",
    "get /_nabe/v1/users/{user_id}/devices",
    "get /_nabe/v1/whoami",
];

async fn document(world: &World) -> Value {
    world.unsigned("GET", "/_nabe/openapi.json", "").await.expect(200)
}

fn operations(document: &Value) -> impl Iterator<Item = (String, &String, &Value)> {
    document["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
        item.as_object()
            .unwrap()
            .iter()
            .map(move |(method, operation)| (format!("{method} {path}"), path, operation))
    })
}

#[tokio::test]
async fn document_has_every_route_and_no_other() {
    let world = World::new();
    let document = document(&world).await;
    let documented: BTreeSet<String> = operations(&document).map(|(name, ..)| name).collect();
    assert_eq!(documented, ROUTES.iter().map(|route| (*route).to_owned()).collect());
    for route in ROUTES {
        let (method, path) = route.split_once(' ').unwrap();
        let target = path.replace(['{', '}'], "");
        let answer = world.unsigned(&method.to_uppercase(), &target, "").await;
        let expected = if path.contains("/health/") { 200 } else { 401 };
        assert_eq!(answer.status, expected, "{route}");
    }
    // Were there a method more on a path than the document has, it would be no 405.
    for path in document["paths"].as_object().unwrap().keys() {
        let target = path.replace(['{', '}'], "");
        for method in ["get", "put", "post", "delete", "patch", "options"] {
            let answer = world.unsigned(&method.to_uppercase(), &target, "").await;
            assert_eq!(
                answer.status != 405,
                documented.contains(&format!("{method} {path}")),
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn document_is_well_formed() {
    let world = World::new();
    let document = document(&world).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    let mut ids = BTreeSet::new();
    for (name, path, operation) in operations(&document) {
        let id = operation["operationId"]
            .as_str()
            .unwrap_or_else(|| panic!("{name} has an ID"));
        assert!(ids.insert(id), "{id} is used twice");
        assert!(operation["summary"].is_string(), "{name} has a summary");
        assert!(
            operation["responses"]["default"].is_object(),
            "{name} says how it fails"
        );
        assert!(
            operation["responses"]
                .as_object()
                .unwrap()
                .keys()
                .any(|status| status.starts_with('2')),
            "{name}"
        );
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let declared: BTreeSet<&str> = parameters
            .iter()
            .filter(|parameter| parameter["in"] == "path")
            .inspect(|parameter| assert_eq!(parameter["required"], true, "{name}"))
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        let used: BTreeSet<&str> = path
            .split('/')
            .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
            .collect();
        assert_eq!(declared, used, "{name}");
        assert!(
            parameters.iter().all(|parameter| parameter["schema"].is_object()),
            "{name}"
        );
        // What may be left out is left out in `members_come_and_go` and elsewhere.
        let may_be_left_out = ["/join", "/leave", "/knock"].iter().any(|end| path.ends_with(end))
            || ["post /_nabe/v1/rooms", "put /_nabe/v1/devices/{device_id}"].contains(&name.as_str());
        if operation["requestBody"].is_object() {
            assert_eq!(operation["requestBody"]["required"] != true, may_be_left_out, "{name}");
        }
        let has_header = |wanted: &str| {
            let found = parameters.iter().find(|parameter| parameter["name"] == wanted);
            found.is_some_and(|parameter| parameter["in"] == "header" && parameter["required"] == false)
        };
        for header in ["Nabe-User", "Nabe-Device"] {
            assert_eq!(has_header(header), !path.contains("/health/"), "{name}: {header}");
        }
        assert_eq!(
            operation["security"] == json!([{}]),
            path.contains("/health/"),
            "{name}"
        );
    }
    assert_eq!(document["security"], json!([{ "bearer": [] }]));
    assert_eq!(
        document["components"]["securitySchemes"]["bearer"],
        json!({ "type": "http", "scheme": "bearer" })
    );
    check_references(&document, &document);
}

/// Every `$ref` leads somewhere.
fn check_references(value: &Value, document: &Value) {
    match value {
        Value::Object(object) => {
            if let Some(reference) = object.get("$ref") {
                let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
            object.values().for_each(|value| check_references(value, document));
        }
        Value::Array(values) => values.iter().for_each(|value| check_references(value, document)),
        _ => {}
    }
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
