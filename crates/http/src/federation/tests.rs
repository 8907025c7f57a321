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

async fn send_with(world: &World, headers: &[String]) -> crate::testing::Answer {
    let mut request = Request::builder().method("PUT").uri(SEND);
    for header in headers {
        request = request.header(AUTHORIZATION, header);
    }
    world
        .ask(request.body(empty_transaction().to_canonical().into()).unwrap())
        .await
}

#[tokio::test]
async fn requests_that_do_not_prove_their_origin_are_forbidden() {
    let world = World::new();
    let body = empty_transaction();
    let good = authorization(&signer("p"), "PUT", SEND, Some(&body), "h");
    let elsewhere = authorization(&signer("p"), "PUT", SEND, Some(&body), "t");
    let unknown_key = authorization(&signer_with_key("p", "2"), "PUT", SEND, Some(&body), "h");
    let old_key = authorization(&signer_with_key("p", "0"), "PUT", SEND, Some(&body), "h");
    let other_path = authorization(&signer("p"), "PUT", "/_matrix/federation/v2/send/u", Some(&body), "h");
    let other_body = authorization(&signer("p"), "PUT", SEND, Some(&object! {}), "h");
    let dead = authorization(&signer("dead"), "PUT", SEND, Some(&body), "h");
    let ourselves = authorization(&signer("h"), "PUT", SEND, Some(&body), "h");
    let one_bad = [good.clone(), other_path.clone()].concat();
    for headers in [
        vec![],
        vec!["Bearer x".to_owned()],
        elsewhere,
        unknown_key,
        old_key,
        other_path,
        other_body,
        dead,
        ourselves,
        one_bad,
        vec![good[0].clone(); 9],
    ] {
        send_with(&world, &headers).await.expect_errcode(401, "M_FORBIDDEN");
    }
    send_with(&world, &good).await.expect(200);
}

#[tokio::test]
async fn header_is_read_as_auth_params() {
    let world = World::new();
    let header = authorization(&signer("p"), "PUT", SEND, Some(&empty_transaction()), "h").remove(0);
    for variant in [
        header.replace("sig=", "signature="),
        header.replace("origin=", "OriGin=").replace("X-Matrix", "x-mATRIX"),
        header.replace("origin=\"p.example\"", "origin=p.example"),
        format!("{header},color=\"blue\""),
        format!("{header}, signature={}", header.split("sig=").nth(1).unwrap()),
    ] {
        send_with(&world, &[variant]).await.expect(200);
    }
}

#[tokio::test]
async fn bodyless_request_is_signed_with_an_empty_object_or_for_some_peers_without() {
    let target = "/_matrix/federation/v2/event/$no-such";
    let strict = World::new();
    strict.get(target).await.expect_errcode(404, "M_NOT_FOUND");
    let without = || {
        let key = SigningKey::from_seed(KeyId::ed25519("1").unwrap(), sha256(b"p 1"));
        let object =
            object! { "method" => "GET", "uri" => target, "origin" => "p.example", "destination" => "h.example" };
        let sig = key.sign(&object.to_canonical()).to_base64();
        let header = format!(r#"X-Matrix origin="p.example",destination="h.example",key="ed25519:1",sig="{sig}""#);
        Request::builder()
            .uri(target)
            .header(AUTHORIZATION, header)
            .body(Body::empty())
            .unwrap()
    };
    strict.ask(without()).await.expect_errcode(401, "M_FORBIDDEN");
    let lenient = World::with(|settings| {
        let compat = Compat {
            accept_omitted_content: true,
            ..Compat::default()
        };
        settings.compat = vec![(ServerPattern::parse("p.example").unwrap(), compat)];
    });
    lenient.ask(without()).await.expect_errcode(404, "M_NOT_FOUND");
    lenient.get(target).await.expect_errcode(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn query_is_signed_byte_for_byte() {
    let world = World::new();
    let room = world.room("public").await;
    let target = format!("/_matrix/federation/v1/make_join/{room}/@b:p.example?ver=org.other&ver=I%2E1");
    world.get(&target).await.expect(200);
    let mut request = signed(&signer("p"), "GET", &target, None);
    *request.uri_mut() = target.replace("%2E", ".").parse().unwrap();
    world.ask(request).await.expect_errcode(401, "M_FORBIDDEN");
}

// ── LM #int-transport-errors ─────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test]
async fn bodies_that_are_not_json_objects_are_told_apart() {
    let world = World::new();
    let header = authorization(&signer("p"), "PUT", SEND, Some(&object! {}), "h").remove(0);
    let with_body = |body: Vec<u8>| {
        Request::builder()
            .method("PUT")
            .uri(SEND)
            .header(AUTHORIZATION, &header)
            .body(Body::from(body))
            .unwrap()
    };
    for (body, code) in [
        (b"nope".to_vec(), "M_NOT_JSON"),
        (Vec::new(), "M_NOT_JSON"),
        (b"{\"a\":\"\xff\"}".to_vec(), "M_NOT_JSON"),
        (b"{} {}".to_vec(), "M_NOT_JSON"),
        (b"[]".to_vec(), "M_BAD_JSON"),
        (b"{}".to_vec(), "M_BAD_JSON"),
        (br#"{"pdus":[],"pdus":[]}"#.to_vec(), "M_BAD_JSON"),
        (
            format!("{{\"pdus\":{}{}}}", "[".repeat(200), "]".repeat(200)).into_bytes(),
            "M_BAD_JSON",
        ),
    ] {
        world.ask(with_body(body)).await.expect_errcode(400, code);
    }
}

#[tokio::test]
async fn body_over_the_limit_is_too_large_whether_announced_or_not() {
    let mut world = World::new();
    world.state.limits.body_bytes = 100;
    let body = object! { "pdus" => Vec::<Json>::new(), "pad" => "x".repeat(100) };
    world
        .ask(signed(&signer("p"), "PUT", SEND, Some(&body)))
        .await
        .expect_errcode(413, "M_TOO_LARGE");
    let chunks = futures_util::stream::iter((0..10).map(|_| Ok::<_, std::io::Error>(vec![b' '; 20])));
    let header = authorization(&signer("p"), "PUT", SEND, Some(&body), "h").remove(0);
    let unannounced = Request::builder()
        .method("PUT")
        .uri(SEND)
        .header(AUTHORIZATION, header)
        .body(Body::from_stream(chunks))
        .unwrap();
    world.ask(unannounced).await.expect_errcode(413, "M_TOO_LARGE");
}

#[tokio::test(start_paused = true)]
async fn body_that_does_not_arrive_is_given_up() {
    let world = World::new();
    let never = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let header = authorization(&signer("p"), "PUT", SEND, Some(&empty_transaction()), "h").remove(0);
    let request = Request::builder()
        .method("PUT")
        .uri(SEND)
        .header(AUTHORIZATION, header)
        .body(Body::from_stream(never))
        .unwrap();
    assert_eq!(world.ask(request).await.status.as_u16(), 408);
}

/// A body that fails the test when it is read.
fn not_to_be_read() -> Body {
    Body::from_stream(futures_util::stream::poll_fn(
        |_| -> std::task::Poll<Option<Result<Vec<u8>, std::io::Error>>> { panic!("the body was read") },
    ))
}

#[tokio::test]
async fn body_is_not_read_when_the_headers_alone_are_refused() {
    let world = World::with(|settings| settings.policy.deny = vec![ServerPattern::parse("t.example").unwrap()]);
    let claim = |name: &str, destination: &str| {
        authorization(&signer(name), "PUT", SEND, Some(&empty_transaction()), destination).remove(0)
    };
    for (header, status) in [
        (None, 401),
        (Some("Bearer x".to_owned()), 401),
        (Some("X-Matrix nonsense".to_owned()), 401),
        (Some(claim("p", "other")), 401),
        (Some(claim("h", "h")), 401),
        (Some(claim("t", "h")), 403),
    ] {
        let mut request = Request::builder().method("PUT").uri(SEND);
        if let Some(header) = header {
            request = request.header(AUTHORIZATION, header);
        }
        let answer = world.ask(request.body(not_to_be_read()).unwrap()).await;
        answer.expect_errcode(status, "M_FORBIDDEN");
        assert_eq!(answer.headers["connection"], "close");
    }
}

#[tokio::test]
async fn connection_ends_with_an_answer_given_before_the_body_was_read() {
    let mut world = World::new();
    world.state.limits.body_bytes = 100;
    let body = object! { "pdus" => Vec::<Json>::new(), "pad" => "x".repeat(100) };
    let too_large = || signed(&signer("p"), "PUT", SEND, Some(&body));
    assert_eq!(world.ask(too_large()).await.headers["connection"], "close");
    // HTTP/2 has no such header, and other streams on the connection.
    let mut over_http2 = too_large();
    *over_http2.version_mut() = axum::http::Version::HTTP_2;
    assert!(!world.ask(over_http2).await.headers.contains_key("connection"));
    let read = world.peer("PUT", SEND, &empty_transaction()).await;
    read.expect(200);
    assert!(!read.headers.contains_key("connection"));
    let bodyless = world.get("/_matrix/federation/v2/event/$no-such").await;
    bodyless.expect_errcode(404, "M_NOT_FOUND");
    assert!(!bodyless.headers.contains_key("connection"));
}

#[tokio::test]
async fn bodies_share_a_budget_and_give_it_back() {
    let mut world = World::new();
    world.state.limits.body_budget = crate::BodyBudget::new(4096);
    let body = |padding: usize| object! { "pdus" => Vec::<Json>::new(), "pad" => "x".repeat(padding) };
    for n in 0..3 {
        let target = format!("/_matrix/federation/v2/send/fits{n}");
        world.peer("PUT", &target, &body(3000)).await.expect(200);
    }
    let refused = world.peer("PUT", SEND, &body(5000)).await;
    refused.expect_errcode(503, "M_UNKNOWN");
    let arriving = world.state.clone();
    let (sender, chunks) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let chunks = futures_util::stream::unfold(chunks, |mut chunks| async { Some((chunks.recv().await?, chunks)) });
    let reading =
        tokio::spawn(async move { crate::body::read(Body::from_stream(chunks), 10_000, &arriving.limits).await });
    sender.send(Ok(vec![b' '; 3000])).await.unwrap();
    // The channel holds one: once there is room again, the first was read.
    drop(sender.reserve().await.unwrap());
    tokio::task::yield_now().await;
    world
        .peer("PUT", SEND, &body(2000))
        .await
        .expect_errcode(503, "M_UNKNOWN");
    drop(sender);
    drop(reading.await.unwrap().unwrap());
    world.peer("PUT", SEND, &body(2000)).await.expect(200);
}

#[tokio::test]
async fn only_transactions_may_be_large() {
    let mut world = World::new();
    world.state.limits.small_body_bytes = 1000;
    let body = object! { "pdus" => Vec::<Json>::new(), "pad" => "x".repeat(1000) };
    world.peer("PUT", SEND, &body).await.expect(200);
    for target in [
        "/_matrix/federation/v3/invite/t",
        "/_matrix/federation/v3/send_join/t",
        "/_matrix/federation/v3/send_leave/t",
        "/_matrix/federation/v3/send_knock/t",
        "/_matrix/key/v2/query",
    ] {
        world
            .peer("POST", target, &body)
            .await
            .expect_errcode(413, "M_TOO_LARGE");
    }
}

#[tokio::test]
async fn exceeded_rate_is_told_with_the_time_to_wait_and_send_has_none() {
    let world = World::with(|settings| {
        settings.limits.federation = RateLimit {
            per_second: 0.4,
            burst: 1.0,
        }
    });
    let target = "/_matrix/federation/v1/make_join/!r:h.example/@b:p.example?ver=I.1";
    world.get(target).await.expect_errcode(404, "M_NOT_FOUND");
    let answer = world.get(target).await;
    answer.expect_errcode(429, "M_LIMIT_EXCEEDED");
    assert_eq!(answer.json()["retry_after_ms"], 2500);
    assert_eq!(answer.headers[RETRY_AFTER], "3");
    for _ in 0..5 {
        let target = format!("/_matrix/federation/v2/send/{}", world.new_txn());
        world.peer("PUT", &target, &empty_transaction()).await.expect(200);
    }
}

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

// ── E6 to E9 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A room with `@bob:p.example` in it, and the ID of his join.
async fn joined_room(world: &World) -> (RoomId, String) {
    let room = world.room("public").await;
    world.bob_joins(&room).await;
    let history = world
        .client("alice", "GET", &format!("/_nabe/v1/rooms/{room}/events?limit=1"), "")
        .await
        .expect(200);
    (room, history["events"][0]["event_id"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn event_is_served_as_a_pdu_to_those_who_may_know_of_it() {
    let world = World::new();
    let (room, join) = joined_room(&world).await;
    let event = world
        .get(&format!("/_matrix/federation/v2/event/{join}"))
        .await
        .expect(200);
    assert_eq!(event["room_id"], room.as_str());
    assert_eq!(event["hub_server"], "h.example");
    assert!(event["auth_events"].is_array());
    world
        .get(&format!("/_matrix/federation/v2/event/{UNKNOWN_EVENT}"))
        .await
        .expect_errcode(404, "M_NOT_FOUND");
    let other = world.room("invite").await;
    let hidden = world
        .client("alice", "GET", &format!("/_nabe/v1/rooms/{other}/events?limit=1"), "")
        .await
        .expect(200);
    let hidden = hidden["events"][0]["event_id"].as_str().unwrap().to_owned();
    world
        .get(&format!("/_matrix/federation/v2/event/{hidden}"))
        .await
        .expect_errcode(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn state_and_its_ids_agree() {
    let world = World::new();
    let (room, join) = joined_room(&world).await;
    let state = world
        .get(&format!("/_matrix/federation/v1/state/{room}?event_id={join}"))
        .await
        .expect(200);
    let ids = world
        .get(&format!("/_matrix/federation/v1/state_ids/{room}?event_id={join}"))
        .await
        .expect(200);
    let length = |value: &serde_json::Value| value.as_array().unwrap().len();
    assert_eq!(length(&state["pdus"]), length(&ids["pdu_ids"]));
    assert_eq!(length(&state["auth_chain"]), length(&ids["auth_chain_ids"]));
    let is_bob = |event: &&serde_json::Value| event["state_key"] == "@bob:p.example";
    assert_eq!(state["pdus"].as_array().unwrap().iter().find(is_bob), None);

    for endpoint in ["state", "state_ids"] {
        let path = format!("/_matrix/federation/v1/{endpoint}/{room}");
        world.get(&path).await.expect_errcode(400, "M_MISSING_PARAM");
        world
            .get(&format!("{path}?event_id={UNKNOWN_EVENT}"))
            .await
            .expect_errcode(404, "M_NOT_FOUND");
        let elsewhere = format!("/_matrix/federation/v1/{endpoint}/!other:h.example?event_id={join}");
        world.get(&elsewhere).await.expect_errcode(404, "M_NOT_FOUND");
    }
}

#[tokio::test]
async fn backfill_is_oldest_first_and_ends_with_what_was_asked_for() {
    let world = World::new();
    let (room, join) = joined_room(&world).await;
    let path = format!("/_matrix/federation/v2/backfill/{room}");
    let answer = world.get(&format!("{path}?v={join}&limit=3")).await.expect(200);
    let pdus = answer["pdus"].as_array().unwrap();
    assert_eq!(pdus.len(), 3);
    assert_eq!(pdus[2]["state_key"], "@bob:p.example");
    assert!(pdus[2]["prev_events"][0].is_string());
    let create = {
        let all = world.get(&format!("{path}?v={join}&limit=100")).await.expect(200);
        assert_eq!(all["pdus"][0]["type"], "m.room.create");
        let state = world
            .client(
                "alice",
                "GET",
                &format!("/_nabe/v1/rooms/{room}/state/m.room.create"),
                "",
            )
            .await;
        state.expect(200)["event_id"].as_str().unwrap().to_owned()
    };
    let only = world.get(&format!("{path}?v={create}&limit=10")).await.expect(200);
    assert_eq!(only["pdus"].as_array().unwrap().len(), 1);
    let huge = world
        .get(&format!("{path}?v={join}&limit=99999999999"))
        .await
        .expect(200);
    assert!(huge["pdus"].as_array().unwrap().len() > 3);

    for (query, code) in [
        (format!("?v={join}&limit=0"), "M_INVALID_PARAM"),
        (format!("?v={join}&limit=-1"), "M_INVALID_PARAM"),
        (format!("?v={join}&limit=x"), "M_INVALID_PARAM"),
        (format!("?v={join}&v={join}&limit=1"), "M_INVALID_PARAM"),
        (format!("?v={join}"), "M_MISSING_PARAM"),
        ("?limit=3".to_owned(), "M_MISSING_PARAM"),
    ] {
        world.get(&format!("{path}{query}")).await.expect_errcode(400, code);
    }
    world
        .get(&format!("{path}?v={UNKNOWN_EVENT}&limit=3"))
        .await
        .expect_errcode(404, "M_NOT_FOUND");
}

// ── E10 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

fn invite_by_peer(version: &str) -> Object {
    let room = RoomId::parse("!theirs:p.example").unwrap();
    let content = object! { "membership" => "invite" };
    let invite = EventBuilder::new(room, "m.room.member", user("bob", "p"), NOW, content)
        .state_key("@alice:h.example")
        .build_pdu(
            &signer("p"),
            vec![UNKNOWN_EVENT.parse().unwrap()],
            vec![UNKNOWN_EVENT.parse().unwrap()],
            &RoomVersionRules::I1,
        )
        .unwrap();
    let stripped = object! {
        "type" => "m.room.name", "state_key" => "", "sender" => "@bob:p.example", "content" => object! { "name" => "N" },
    };
    object! {
        "event" => Object::parse(invite.bytes()).unwrap(), "room_version" => version, "invite_room_state" => vec![stripped],
    }
}

#[tokio::test]
async fn invite_comes_back_signed_under_both_names() {
    let world = World::new();
    let answer = world
        .peer("POST", "/_matrix/federation/v3/invite/t", &invite_by_peer("I.1"))
        .await;
    let body = answer.expect(200);
    assert_eq!(body["pdu"], body["event"]);
    assert!(body["pdu"]["signatures"]["h.example"].is_object());
    let again = world
        .peer("POST", &format!("{UNSTABLE}/invite/t"), &invite_by_peer("I.1"))
        .await;
    assert_eq!(answer.bytes, again.bytes);
    let rooms = world.client("alice", "GET", "/_nabe/v1/rooms", "").await.expect(200);
    assert_eq!(rooms["invites"][0]["hub"], "p.example");
    assert_eq!(rooms["invites"][0]["stripped_state"][0]["content"]["name"], "N");
}

#[tokio::test]
async fn invite_to_an_unsupported_version_is_refused() {
    let world = World::new();
    let answer = world
        .peer("POST", "/_matrix/federation/v3/invite/t", &invite_by_peer("i.1"))
        .await;
    answer.expect_errcode(400, "M_INCOMPATIBLE_ROOM_VERSION");
    let answer = world.peer("POST", "/_matrix/federation/v3/invite/u", &object! {}).await;
    answer.expect_errcode(400, "M_BAD_JSON");
}

#[tokio::test]
async fn failing_target_server_of_an_invite_is_a_bad_gateway() {
    let world = World::new();
    let (room, _) = joined_room(&world).await;
    let mut content = object! { "membership" => "invite" };
    content.insert("reason", "come");
    let event = lpdu(
        &room,
        &user("bob", "p"),
        "m.room.member",
        Some("@t:dead.example"),
        content,
    );
    let body = object! { "event" => event, "room_version" => "I.1" };
    let answer = world.peer("POST", "/_matrix/federation/v3/invite/t", &body).await;
    answer.expect_errcode(502, "M_UNKNOWN");
}

// ── E11 to E16 ───────────────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test]
async fn join_template_is_bare_and_wrapped() {
    let world = World::new();
    let room = world.room("public").await;
    let make = format!("/_matrix/federation/v1/make_join/{room}/@bob:p.example");
    let template = world.get(&format!("{make}?ver=org.other&ver=I.1")).await.expect(200);
    for template in [&template, &template["event"]] {
        assert_eq!(template["type"], "m.room.member");
        assert_eq!(template["state_key"], "@bob:p.example");
        assert_eq!(template["sender"], "@bob:p.example");
        assert_eq!(template["content"]["membership"], "join");
    }
    assert_eq!(template["room_version"], "I.1");
    for query in ["", "?ver=org.other", "?ver=%00"] {
        let answer = world.get(&format!("{make}{query}")).await;
        answer.expect_errcode(400, "M_INCOMPATIBLE_ROOM_VERSION");
    }
    let foreign = format!("/_matrix/federation/v1/make_join/{room}/@eve:t.example?ver=I.1");
    world.get(&foreign).await.expect_errcode(403, "M_FORBIDDEN");
    let unknown = "/_matrix/federation/v1/make_join/!no:h.example/@bob:p.example?ver=I.1";
    world.get(unknown).await.expect_errcode(404, "M_NOT_FOUND");
    let malformed = "/_matrix/federation/v1/make_join/nonsense/@bob:p.example?ver=I.1";
    world.get(malformed).await.expect_errcode(404, "M_NOT_FOUND");
    let closed = world.room("invite").await;
    let closed = format!("/_matrix/federation/v1/make_join/{closed}/@bob:p.example?ver=I.1");
    world.get(&closed).await.expect_errcode(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn join_is_answered_with_the_state_before_it() {
    let world = World::new();
    let room = world.room("public").await;
    let join = member_lpdu(&room, &user("bob", "p"), "join");
    let first = world.peer("POST", "/_matrix/federation/v3/send_join/t", &join).await;
    let body = first.expect(200);
    assert_eq!(body["event"]["state_key"], "@bob:p.example");
    let has_bob = |event: &serde_json::Value| event["state_key"] == "@bob:p.example";
    assert!(!body["state"].as_array().unwrap().iter().any(has_bob));
    assert!(body["auth_chain"].is_array());
    let again = world.peer("POST", "/_matrix/federation/v3/send_join/t", &join).await;
    assert_eq!(first.bytes, again.bytes);
    let answer = world.peer("POST", "/_matrix/federation/v3/send_leave/t", &join).await;
    answer.expect_errcode(400, "M_BAD_JSON");
}

#[tokio::test]
async fn leave_has_a_wrapped_template_and_an_empty_answer() {
    let world = World::new();
    let (room, _) = joined_room(&world).await;
    let template = world
        .get(&format!("/_matrix/federation/v1/make_leave/{room}/@bob:p.example"))
        .await
        .expect(200);
    assert_eq!(template["event"]["content"]["membership"], "leave");
    assert_eq!(template["room_version"], "I.1");
    let leave = member_lpdu(&room, &user("bob", "p"), "leave");
    let answer = world.peer("POST", "/_matrix/federation/v3/send_leave/t", &leave).await;
    assert_eq!(answer.expect(200), json!({}));
    let again = world
        .get(&format!("/_matrix/federation/v1/make_leave/{room}/@bob:p.example"))
        .await;
    again.expect_errcode(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn knock_is_answered_with_stripped_state() {
    let world = World::new();
    let room = world.room("knock").await;
    let template = world
        .get(&format!(
            "/_matrix/federation/v1/make_knock/{room}/@bob:p.example?ver=I.1"
        ))
        .await;
    assert_eq!(template.expect(200)["content"]["membership"], "knock");
    let knock = member_lpdu(&room, &user("bob", "p"), "knock");
    let answer = world
        .peer("POST", &format!("{UNSTABLE}/send_knock/t"), &knock)
        .await
        .expect(200);
    for event in answer["stripped_state"].as_array().unwrap() {
        let fields: Vec<_> = event.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["content", "sender", "state_key", "type"]);
    }
    let public = world.room("public").await;
    let refused = world
        .get(&format!(
            "/_matrix/federation/v1/make_knock/{public}/@bob:p.example?ver=I.1"
        ))
        .await;
    refused.expect_errcode(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn event_with_a_broken_signature_is_forbidden() {
    let world = World::new();
    let room = world.room("public").await;
    let mut join = member_lpdu(&room, &user("bob", "p"), "join");
    join.insert("origin_server_ts", 5);
    let answer = world.peer("POST", "/_matrix/federation/v3/send_join/t", &join).await;
    answer.expect_errcode(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn excluded_server_is_forbidden_everything() {
    let world = World::with(|settings| settings.policy.deny = vec![ServerPattern::parse("p.example").unwrap()]);
    world
        .peer("PUT", SEND, &empty_transaction())
        .await
        .expect_errcode(403, "M_FORBIDDEN");
}
