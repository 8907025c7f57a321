//! E6 to E16: what is said of rooms, and who comes and goes.

use super::*;

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
