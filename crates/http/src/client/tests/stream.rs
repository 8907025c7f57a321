//! The event stream.

use super::*;

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
    assert_eq!(before.elapsed().as_secs(), 30);
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
