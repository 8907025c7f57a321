//! The federation endpoints through the router.

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::http::header::{AUTHORIZATION, RETRY_AFTER};
use nabe_event::{EventBuilder, RoomVersionRules};
use nabe_service::{Compat, RateLimit};
use nabe_signing::json::{Json, Object};
use nabe_signing::{ServerKeys, SigningKey, object, sha256, verify_object};
use nabe_types::{KeyId, RoomId, ServerPattern};
use serde_json::json;

use super::UNSTABLE;
use crate::testing::{
    NOW, World, authorization, escape, lpdu, member_lpdu, server, signed, signer, signer_with_key, user,
};

mod rooms;
mod transport;

const UNKNOWN_EVENT: &str = "$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn empty_transaction() -> Object {
    object! { "pdus" => Vec::<Json>::new() }
}

// ── LM #int-unknown-endpoints ────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test]
async fn unknown_paths_and_methods_are_unrecognized() {
    let world = World::new();
    for target in [
        "/",
        "/_matrix",
        "/_matrix/federation/v2/send/x/",
        "//_matrix/federation/v2/send/x",
        "/_matrix/federation/v2/send/",
        "/_matrix/federation/v2/send/x/y",
        "/_matrix/federation/v1/send/x",
        "/_matrix/federation/v1/version",
        "/_matrix/key/v2/server/",
        "/_matrix/federation/v1/user/@a:h.example/devices",
    ] {
        world
            .unsigned("PUT", target, "{}")
            .await
            .expect_errcode(404, "M_UNRECOGNIZED");
    }
    for (method, target) in [
        ("GET", "/_matrix/federation/v2/send/x"),
        ("PUT", "/_matrix/federation/v1/user/@a:h.example/device/D"),
        ("GET", "/_matrix/federation/v1/user/keys/claim"),
        ("POST", "/_matrix/federation/v2/send/x"),
        ("PUT", "/_matrix/federation/v3/invite/x"),
        ("DELETE", "/_matrix/key/v2/server"),
        ("POST", "/.well-known/matrix/server"),
        ("POST", "/_matrix/federation/v1/make_join/!r:h.example/@a:p.example"),
    ] {
        world
            .unsigned(method, target, "{}")
            .await
            .expect_errcode(405, "M_UNRECOGNIZED");
    }
}

#[tokio::test]
async fn every_endpoint_is_there_under_its_stable_and_unstable_path_and_wants_a_signature() {
    let world = World::new();
    let stable = [
        ("GET", "/_matrix/federation/v1/state/!r:h.example?event_id=x"),
        ("GET", "/_matrix/federation/v1/state_ids/!r:h.example?event_id=x"),
        ("GET", "/_matrix/federation/v1/make_leave/!r:h.example/@b:p.example"),
        ("GET", "/_matrix/federation/v1/make_join/!r:h.example/@b:p.example"),
        ("GET", "/_matrix/federation/v1/make_knock/!r:h.example/@b:p.example"),
        ("GET", "/_matrix/federation/v1/user/@a:h.example/device/D"),
        ("GET", "/_matrix/federation/v1/user/devices/@a:h.example"),
        ("POST", "/_matrix/federation/v1/user/keys/claim"),
    ];
    let aliased = [
        ("PUT", "v2", "/send/t"),
        ("GET", "v2", "/event/$e"),
        ("GET", "v2", "/backfill/!r:h.example"),
        ("POST", "v3", "/invite/t"),
        ("POST", "v3", "/send_leave/t"),
        ("POST", "v3", "/send_join/t"),
        ("POST", "v3", "/send_knock/t"),
    ];
    let mut all: Vec<(&str, String)> = stable.map(|(method, path)| (method, path.to_owned())).into();
    for (method, version, path) in aliased {
        all.push((method, format!("/_matrix/federation/{version}{path}")));
        all.push((method, format!("{UNSTABLE}{path}")));
    }
    all.push(("GET", format!("{UNSTABLE}/user/@a:h.example/device/D")));
    for (method, target) in all {
        world
            .unsigned(method, &target, "{}")
            .await
            .expect_errcode(401, "M_FORBIDDEN");
        let body = object! { "nothing" => "useful" };
        let answer = world
            .ask(signed(
                &signer("p"),
                method,
                &target,
                (method != "GET").then_some(&body),
            ))
            .await;
        assert!(![401, 404, 405].contains(&answer.status.as_u16()) || answer.json()["errcode"] == "M_NOT_FOUND");
    }
}

#[tokio::test]
async fn slash_in_a_user_id_is_handled_only_when_escaped() {
    let world = World::new();
    let room = world.room("public").await;
    let prefix = format!("/_matrix/federation/v1/make_join/{}", escape(&room));
    let template = world
        .get(&format!("{prefix}/@a%2Fb:p.example?ver=I.1"))
        .await
        .expect(200);
    assert_eq!(template["state_key"], "@a/b:p.example");
    world
        .get(&format!("{prefix}/@a/b:p.example?ver=I.1"))
        .await
        .expect_errcode(404, "M_UNRECOGNIZED");
}

#[tokio::test]
async fn path_parameters_that_are_malformed_are_named() {
    let world = World::new();
    world
        .get("/_matrix/federation/v2/event/%ff")
        .await
        .expect_errcode(400, "M_INVALID_PARAM");
    let make = "/_matrix/federation/v1/make_leave/!r:h.example/@Bob:p.example";
    world.get(make).await.expect_errcode(400, "M_INVALID_PARAM");
    world
        .get("/_matrix/federation/v2/event/$no-such")
        .await
        .expect_errcode(404, "M_NOT_FOUND");
    world
        .get("/_matrix/federation/v2/event/x?a=%ff")
        .await
        .expect_errcode(400, "M_INVALID_PARAM");
}

// ── LM #int-transport-auth ───────────────────────────────────────────────────────────────────────────────────────────────

const SEND: &str = "/_matrix/federation/v2/send/t";

// ── E1 to E4 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test]
async fn well_known_delegates_when_configured() {
    let mut world = World::new();
    world
        .unsigned("GET", "/.well-known/matrix/server", "")
        .await
        .expect_errcode(404, "M_NOT_FOUND");
    world.state.well_known = Some(nabe_types::ServerName::parse("matrix.h.example:443").unwrap());
    let answer = world.unsigned("GET", "/.well-known/matrix/server", "").await;
    assert_eq!(answer.expect(200), json!({ "m.server": "matrix.h.example:443" }));
}

#[tokio::test]
async fn own_keys_are_signed_and_valid_for_half_a_day() {
    let world = World::new();
    // An `Authorization` header means nothing here, not even a broken one.
    let request = Request::builder()
        .uri("/_matrix/key/v2/server")
        .header(AUTHORIZATION, "X-Matrix nonsense");
    let answer = world.ask(request.body(Body::empty()).unwrap()).await;
    let body = answer.expect(200);
    assert_eq!(body["m.linearized"], true);
    let ahead = body["valid_until_ts"].as_u64().unwrap() - NOW.as_u64();
    assert!((3_600_000..=13 * 3_600_000).contains(&ahead), "{ahead}");
    let keys = ServerKeys::parse(Object::parse(&answer.bytes).unwrap(), &server("h")).unwrap();
    assert_eq!(keys.verify_keys, signer("h").public_keys());
}

#[tokio::test]
async fn notary_vouches_for_one_server() {
    let world = World::new();
    let query = |server: &str, rest: &str| format!("/_matrix/key/v2/query/{server}{rest}");
    let dead = world.unsigned("GET", &query("dead.example", ""), "").await;
    assert_eq!(dead.expect(200), json!({ "server_keys": [] }));
    let answer = world.unsigned("GET", &query("p.example", ""), "").await;
    answer.expect(200);
    let body = Object::parse(&answer.bytes).unwrap();
    let response = body.get("server_keys").and_then(Json::as_array).unwrap()[0]
        .as_object()
        .unwrap();
    verify_object(response, "p.example", &signer("p").public_keys()).unwrap();
    verify_object(response, "h.example", &signer("h").public_keys()).unwrap();

    let too_long = format!("?minimum_valid_until_ts={}", NOW.as_u64() + 8 * 24 * 3_600_000);
    let answer = world.unsigned("GET", &query("p.example", &too_long), "").await;
    assert_eq!(answer.expect(200), json!({ "server_keys": [] }));
    for (server, rest) in [
        ("p.example", "?minimum_valid_until_ts=soon"),
        ("p.example", "?minimum_valid_until_ts=-1"),
        ("1.2.3.4", ""),
    ] {
        world
            .unsigned("GET", &query(server, rest), "")
            .await
            .expect_errcode(400, "M_INVALID_PARAM");
    }
}

#[tokio::test]
async fn notary_tells_callers_apart_by_their_addresses() {
    let world = World::with(|settings| {
        settings.limits.notary_queries = RateLimit {
            per_second: 0.001,
            burst: 1.0,
        };
    });
    let ask = async |address: &str, method: &str, target: &str, body: &'static str| {
        let mut request = Request::builder().method(method).uri(target);
        request.extensions_mut().unwrap().insert(ConnectInfo(
            format!("{address}:1234").parse::<std::net::SocketAddr>().unwrap(),
        ));
        world.ask(request.body(Body::from(body)).unwrap()).await
    };
    let (one, many) = ("/_matrix/key/v2/query/dead.example", "/_matrix/key/v2/query");
    let body = r#"{"server_keys":{}}"#;
    ask("192.0.2.1", "GET", one, "").await.expect(200);
    let refused = ask("192.0.2.1", "POST", many, body).await;
    refused.expect_errcode(429, "M_LIMIT_EXCEEDED");
    ask("192.0.2.2", "POST", many, body).await.expect(200);
    // Whoever has an IPv6 address has a network of them.
    ask("[2001:db8::1]", "GET", one, "").await.expect(200);
    ask("[2001:db8::2]", "GET", one, "")
        .await
        .expect_errcode(429, "M_LIMIT_EXCEEDED");
    ask("[2001:db8:0:1::1]", "GET", one, "").await.expect(200);
}

#[tokio::test]
async fn notary_refuses_a_query_for_too_much() {
    let world = World::new();
    let servers: Vec<String> = (0..101).map(|number| format!("\"s{number}.example\":{{}}")).collect();
    let body = format!("{{\"server_keys\":{{{}}}}}", servers.join(","));
    let answer = world.unsigned("POST", "/_matrix/key/v2/query", &body).await;
    answer.expect_errcode(413, "M_TOO_LARGE");
}

#[tokio::test]
async fn notary_vouches_for_many_servers() {
    let world = World::new();
    let ask = async |body: &str| world.unsigned("POST", "/_matrix/key/v2/query", body).await;
    assert_eq!(
        ask(r#"{"server_keys":{}}"#).await.expect(200),
        json!({ "server_keys": [] })
    );
    let both = ask(r#"{"server_keys":{"p.example":{"ed25519:1":{}},"dead.example":{}}}"#)
        .await
        .expect(200);
    assert_eq!(both["server_keys"].as_array().unwrap().len(), 1);
    assert_eq!(both["server_keys"][0]["server_name"], "p.example");
    assert!(both["server_keys"][0]["signatures"]["h.example"].is_object());
    ask("{}").await.expect_errcode(400, "M_BAD_JSON");
    ask("nope").await.expect_errcode(400, "M_NOT_JSON");
}

// ── E5 ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test]
async fn oversized_transactions_are_refused_whole() {
    let world = World::new();
    let room = world.room("public").await;
    world.bob_joins(&room).await;
    let events = |count: usize| -> Vec<Json> {
        let event = lpdu(
            &room,
            &user("bob", "p"),
            "m.room.message",
            None,
            object! { "body" => "hi" },
        );
        vec![event.into(); count]
    };
    let edus = vec![Json::from(object! { "type" => "x", "sender" => "@bob:p.example", "content" => object! {} }); 101];
    for body in [
        object! { "pdus" => events(51) },
        object! { "pdus" => events(1), "edus" => edus },
    ] {
        world.peer("PUT", SEND, &body).await.expect_errcode(400, "M_BAD_JSON");
    }
    let history = world
        .client("alice", "GET", &format!("/_nabe/v1/rooms/{room}/events?limit=1"), "")
        .await
        .expect(200);
    assert_eq!(history["events"][0]["type"], "m.room.member");
}

#[tokio::test]
async fn repeated_transaction_gets_the_same_bytes_and_is_done_once() {
    let world = World::new();
    let room = world.room("public").await;
    world.bob_joins(&room).await;
    let good = lpdu(
        &room,
        &user("bob", "p"),
        "m.room.message",
        None,
        object! { "body" => "hi" },
    );
    let refused = lpdu(
        &room,
        &user("eve", "p"),
        "m.room.message",
        None,
        object! { "body" => "let me in" },
    );
    let body = object! { "pdus" => vec![good, refused] };
    let first = world.peer("PUT", SEND, &body).await;
    let failed = first.expect(200);
    let (_, failure) = failed["failed_pdus"].as_object().unwrap().iter().next().unwrap();
    assert!(failure["error"].is_string());
    let again = world.peer("PUT", SEND, &body).await;
    assert_eq!(first.bytes, again.bytes);
    let alias = world.peer("PUT", &format!("{UNSTABLE}/send/t"), &body).await;
    assert_eq!(first.bytes, alias.bytes);
    let history = world
        .client("alice", "GET", &format!("/_nabe/v1/rooms/{room}/events"), "")
        .await
        .expect(200);
    let messages = history["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["type"] == "m.room.message");
    assert_eq!(messages.count(), 1);
}

#[tokio::test]
async fn malformed_transaction_id_is_refused() {
    let world = World::new();
    let target = format!("/_matrix/federation/v2/send/{}", "x".repeat(256));
    world
        .peer("PUT", &target, &empty_transaction())
        .await
        .expect_errcode(400, "M_INVALID_PARAM");
}

// ── E11 to E16 ───────────────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test]
async fn excluded_server_is_forbidden_everything() {
    let world = World::with(|settings| settings.policy.deny = vec![ServerPattern::parse("p.example").unwrap()]);
    world
        .peer("PUT", SEND, &empty_transaction())
        .await
        .expect_errcode(403, "M_FORBIDDEN");
}
