//! What surrounds the routes.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use axum::http::header::{CONNECTION, EXPECT};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::time::Instant;
use tower::ServiceExt as _;

use crate::listener::{ListenerLimits, serve_one};
use crate::testing::{Answer, PROVIDER_TOKEN, World, client_request, escape, member_lpdu, user};
use crate::{AnswerBudget, client_router, federation_router, operations_router};

async fn status(router: axum::Router, target: &str) -> u16 {
    router
        .oneshot(Request::builder().uri(target).body(Body::empty()).unwrap())
        .await
        .unwrap()
        .status()
        .as_u16()
}

#[tokio::test]
async fn each_router_has_its_own_routes_only() {
    let state = World::new().state;
    let (keys, health, metrics) = ("/_matrix/key/v2/server", "/_nabe/health/live", "/metrics");
    for (router, expected) in [
        (crate::app(state.clone()), [200, 200, 404]),
        (federation_router(state.clone()), [200, 404, 404]),
        (client_router(state.clone()), [404, 200, 404]),
        (operations_router(state), [404, 200, 200]),
    ] {
        let found = [
            status(router.clone(), keys).await,
            status(router.clone(), health).await,
            status(router, metrics).await,
        ];
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn metrics_are_text() {
    let router = operations_router(World::new().state);
    let response = router
        .oneshot(Request::builder().uri("/metrics").body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(
        response.headers()["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "nabe_up 1\n");
}

#[tokio::test]
async fn fuzzing_entry_takes_anything() {
    for target in [
        "",
        "/a?ver=1&ver=2&v=%ff",
        "/a?ver=1&ver=2&limit=3&event_id=",
        "\u{7f}",
        "*",
    ] {
        crate::fuzzing::path(target.as_bytes());
    }
    crate::fuzzing::path(&[0xff, 0xfe]);
    crate::fuzzing::path(b"/_mimi/v1/update/mimi%3A%2F%2Fa.example%2Fr%2Fx");
    for header in [
        &b""[..],
        b"PROXY UNKNOWN\r\nmore",
        b"PROXY TCP4 ",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
    ] {
        crate::fuzzing::proxy_header(header);
    }
}

#[tokio::test]
async fn an_answer_for_which_there_is_no_room_is_refused() {
    let mut world = World::new();
    let room = world.room("public").await;
    let member = escape("m.room.member");
    let large = format!("/_nabe/v1/rooms/{}/state", escape(&room));
    let small = format!("{large}/{member}/{}", escape("@alice:h.example"));
    let document = "/_nabe/openapi.json";
    world.state.limits.answer_budget = AnswerBudget::new(0, 0);
    world
        .client("alice", "GET", document, "")
        .await
        .expect_code(503, "unavailable");
    world
        .client("alice", "GET", &large, "")
        .await
        .expect_code(503, "unavailable");
    world.client("alice", "GET", &small, "").await.expect(200);
    let join = member_lpdu(&room, &user("bob", "p"), "join");
    let refused = world.peer("POST", "/_matrix/federation/v3/send_join/txn", &join).await;
    refused.expect_errcode(503, "M_UNKNOWN");
    world.state.limits.answer_budget = AnswerBudget::new(1024 * 1024, 1024 * 1024);
    world.client("alice", "GET", document, "").await.expect(200);
    world.client("alice", "GET", &large, "").await.expect(200);
    // What was refused is done all the same; the repetition is told.
    let repeated = world.peer("POST", "/_matrix/federation/v3/send_join/txn", &join).await;
    assert!(repeated.expect(200)["state"].is_array());
}

#[tokio::test]
async fn the_operator_is_told_also_when_there_is_no_room_for_answers() {
    let mut world = World::new();
    world.state.limits.answer_budget = AnswerBudget::new(0, 0);
    world.state.metrics = Arc::new(|| "x".repeat(100_000));
    assert_eq!(status(operations_router(world.state), "/metrics").await, 200);
}

const WHOAMI: &str = "/_nabe/v1/whoami";

/// The answer of a handler that does not care for the body.
async fn answer_to_ignored(body: Body) -> Answer {
    let mut request = client_request("alice", "GET", WHOAMI, "", &[]);
    *request.body_mut() = body;
    World::new().ask(request).await
}

#[tokio::test(start_paused = true)]
async fn a_body_nobody_cares_for_costs_the_connection_only_if_it_is_long_or_slow() {
    let pieces = |pieces: usize| {
        let piece = || Ok::<_, std::io::Error>(vec![b'x'; 1024]);
        Body::from_stream(futures_util::stream::iter((0..pieces).map(move |_| piece())))
    };
    let never = Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let broken = futures_util::stream::iter([Err::<Vec<u8>, _>(std::io::Error::other("broken"))]);
    for (what, body, closes) in [
        ("absent", Body::empty(), false),
        ("small", Body::from("{}"), false),
        ("just small enough", Body::from(vec![b'x'; 64 * 1024]), false),
        ("announced as too long", Body::from(vec![b'x'; 64 * 1024 + 1]), true),
        ("unannounced", pieces(64), false),
        ("unannounced and too long", pieces(65), true),
        ("never there", never, true),
        ("broken", Body::from_stream(broken), true),
    ] {
        let began = Instant::now();
        let answer = answer_to_ignored(body).await;
        answer.expect(200);
        assert_eq!(answer.headers.contains_key(CONNECTION), closes, "{what}");
        assert!(began.elapsed().as_secs() <= 2, "{what}");
    }
}

/// A body of 64 KiB and one byte that never comes.
struct Announced;

impl axum::body::HttpBody for Announced {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, Self::Error>>> {
        std::task::Poll::Pending
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(64 * 1024 + 1)
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_announced_as_too_long_is_not_waited_for() {
    let began = Instant::now();
    let answer = answer_to_ignored(Body::new(Announced)).await;
    assert_eq!(answer.headers[CONNECTION], "close");
    assert_eq!(began.elapsed(), std::time::Duration::ZERO);
}

#[tokio::test]
async fn a_body_that_waits_to_be_asked_for_is_not_asked_for_if_nobody_cares() {
    let body = Body::from_stream(futures_util::stream::poll_fn(
        |_| -> std::task::Poll<Option<Result<Vec<u8>, std::io::Error>>> { panic!("the body was read") },
    ));
    let mut request = client_request("alice", "GET", WHOAMI, "", &[(EXPECT.as_str(), "100-continue")]);
    *request.body_mut() = body;
    let answer = World::new().ask(request).await;
    answer.expect(200);
    assert_eq!(answer.headers[CONNECTION], "close");
}

#[tokio::test(start_paused = true)]
async fn the_next_request_follows_a_body_nobody_cared_for() {
    let (ours, mut theirs) = duplex(64 * 1024);
    let app = crate::app(World::new().state);
    tokio::spawn(serve_one(ours, None, app, ListenerLimits::default()));
    for body in ["{}", "{\"a\":1}"] {
        let request = format!(
            "GET {WHOAMI} HTTP/1.1\r\nHost: h.example\r\nAuthorization: Bearer {PROVIDER_TOKEN}\r\n\
             Nabe-User: @alice:h.example\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        theirs.write_all(request.as_bytes()).await.unwrap();
        theirs.write_all(body.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\"h.example\"}") {
            let read = theirs.read_buf(&mut answer).await.unwrap();
            assert!(read > 0, "closed after {}", String::from_utf8_lossy(&answer));
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
}
