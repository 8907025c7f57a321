//! Who asks, and with what body (LM #int-transport-auth, LM #int-transport-errors).

use super::*;

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
