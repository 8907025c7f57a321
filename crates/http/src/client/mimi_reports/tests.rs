//! Alice reports at the provider `h.example`, which is the room's hub; its operator decides.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::AUTHORIZATION;
use axum::http::{Request, StatusCode};
use nabe_auth::mimi::templates;
use nabe_mls::testing::mimi::{MimiDevice, RoomDraft, TestHub};
use nabe_mls::testing::wall_clock;
use nabe_wire::app_data::AppDataDictionary;
use nabe_wire::franking::Frank;
use nabe_wire::mls::CipherSuite;
use nabe_wire::participant_list::{ParticipantListData, UserRolePair};
use nabe_wire::report_abuse::{AbuseReport, AbuseType, AbusiveMessage};
use nabe_wire::{Encode as _, IdentifierUri};
use serde_json::{Value, json};

use super::*;
use crate::testing::{Answer, PROVIDER_TOKEN, World, client_request, escape};

const ALICE: &str = "mimi://h.example/u/alice";
const MALLORY: &str = "mimi://h.example/u/mallory";
const CLUB: &str = "mimi://h.example/r/club";

/// A provider where Alice has a room.
async fn provider() -> World {
    let hub = Arc::new(TestHub::new("mimi://h.example"));
    let world = World::provider_with(Arc::clone(&hub));
    world.clock.set(wall_clock());
    let device = MimiDevice::new("mimi://h.example/d/alice/phone");
    let mut draft = RoomDraft::new(&device, &hub);
    let list = ParticipantListData {
        participants: vec![UserRolePair {
            user: IdentifierUri::new(ALICE).unwrap(),
            role_index: templates::SUPER_ADMIN,
        }],
    };
    for entry in templates::cooperative("h.example").dictionary(&list).entries() {
        draft.set(entry.component_id, entry.data.to_vec());
    }
    draft.set(
        nabe_wire::mls::ComponentId::ROOM_METADATA,
        nabe_mls::testing::mimi::metadata(CLUB, "Club"),
    );
    let (info, tree) = device.create_room_with(&draft).hand_over();
    let body = json!({
        "room": CLUB,
        "group_info": base64u::encode(info.as_bytes()),
        "ratchet_tree": base64u::encode(&tree.to_bytes()),
    });
    let request = client_request("alice", "POST", "/_nabe/v1/mimi/rooms", &body.to_string(), &[]);
    world.ask(request).await.expect(200);
    world
}

async fn report(world: &World, by: &str, reporter: &str) -> u16 {
    let report = AbuseReport {
        reporting_user: IdentifierUri::new(reporter).unwrap(),
        alleged_abuser_uri: IdentifierUri::new(MALLORY).unwrap(),
        reason_code: AbuseType::RESERVED,
        note: "rude".into(),
        messages: vec![AbusiveMessage {
            message_content: b"You fish!"[..].into(),
            frank: Frank {
                server_frank: [7; 32],
                franking_signature_ciphersuite: CipherSuite(1),
                franking_integrity_signature: b"signature"[..].into(),
            },
            accepted_timestamp: 1_000,
        }],
        abuse_extensions: AppDataDictionary::new(),
    };
    let path = format!("/_nabe/v1/mimi/rooms/{}/report_abuse", escape(CLUB));
    let mut request = client_request(by, "POST", &path, "", &[]);
    *request.body_mut() = Body::from(report.to_bytes());
    world.ask(request).await.status.as_u16()
}

/// The operator asks, for no user in particular.
async fn operator(world: &World, method: &str, path: &str, body: &Value) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(format!("/_nabe/v1/mimi/reports{path}"))
        .header(AUTHORIZATION, format!("Bearer {PROVIDER_TOKEN}"))
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap();
    world.ask(request).await
}

#[tokio::test]
async fn users_report_and_the_operator_decides() {
    let world = provider().await;
    assert_eq!(report(&world, "alice", MALLORY).await, 400, "in the name of another");
    assert_eq!(report(&world, "bob", "").await, 404, "from outside");
    assert_eq!(report(&world, "alice", ALICE).await, 200);
    assert_eq!(report(&world, "alice", "").await, 200, "anonymously");
    let list = operator(&world, "GET", "", &Value::Null).await.expect(200);
    let reports = list["reports"].as_array().unwrap();
    assert_eq!(reports.len(), 2);
    let first = &reports[0];
    for (field, value) in [
        ("room", json!(CLUB)),
        ("provider", json!("h.example")),
        ("reporter", json!(ALICE)),
        ("alleged_abuser", json!(MALLORY)),
        ("note", json!("rude")),
        ("state", json!("open")),
        ("verified", json!(false)),
        ("messages", json!([{ "accepted": 1000, "evidence": "no_keys" }])),
    ] {
        assert_eq!(first[field], value, "{field}");
    }
    assert!(reports[1]["reporter"].is_null());
    let number = first["number"].as_i64().unwrap();
    let one = format!("/{number}");
    let shown = operator(&world, "GET", &one, &Value::Null).await.expect(200);
    let content = base64u::decode(shown["messages"][0]["content"].as_str().unwrap()).unwrap();
    assert_eq!(content, b"You fish!");

    let decision = json!({ "state": "dismissed", "remark": "he means well" });
    let decided = operator(&world, "PUT", &one, &decision).await.expect(200);
    assert_eq!(
        (&decided["state"], &decided["remark"]),
        (&json!("dismissed"), &decision["remark"])
    );
    assert!(decided["decided"].is_u64());
    let open = operator(&world, "GET", "?state=open", &Value::Null).await.expect(200);
    assert_eq!(open["reports"].as_array().unwrap().len(), 1);
    let after = operator(&world, "GET", &format!("?after={number}"), &Value::Null)
        .await
        .expect(200);
    assert_eq!(after["reports"][0]["number"], open["reports"][0]["number"]);
    for (path, body, status) in [
        (one.as_str(), json!({ "state": "forgotten" }), 400),
        ("/999", decision, 404),
        ("/first", json!({ "state": "open" }), 400),
    ] {
        assert_eq!(operator(&world, "PUT", path, &body).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn no_user_sees_reports() {
    let world = provider().await;
    let token = world.token("alice", None).await;
    let bearer = format!("Bearer {token}");
    for (method, path) in [("GET", ""), ("GET", "/1"), ("PUT", "/1")] {
        let request = Request::builder()
            .method(method)
            .uri(format!("/_nabe/v1/mimi/reports{path}"))
            .header(AUTHORIZATION, bearer.as_str())
            .body(Body::empty())
            .unwrap();
        let answer = world.ask(request).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path}");
    }
}
