//! Alice's phone at the provider `h.example`, over the client API. The provider is the hub.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use axum::http::header::AUTHORIZATION;
use http_body_util::BodyExt as _;
use nabe_auth::mimi::templates;
use nabe_mls::testing::mimi::{
    MimiDevice, MimiMember, RoomDraft, TestHub, group_info_query, key_material_request, metadata,
};
use nabe_mls::testing::wall_clock;
use nabe_service::MediaFolder;
use nabe_wire::IdentifierUri;
use nabe_wire::consent::ConsentScope;
use nabe_wire::group_info::{GroupInfoCode, GroupInfoResponse};
use nabe_wire::key_material::{KeyMaterialResponse, KeyMaterialUserCode};
use nabe_wire::mls::{ComponentId, MlsMessage, MlsMessageBody, RequiredCapabilities};
use nabe_wire::notify::FanoutMessage;
use nabe_wire::participant_list::{ParticipantListData, UserRolePair};
use nabe_wire::submit_message::{Submission, SubmitMessageResponse, SubmitVerdict};
use nabe_wire::update::{UpdateRoomResponse, UpdateVerdict};
use serde_json::{Value, json};

use super::*;
use crate::testing::{World, client_request, escape};

const ALICE: &str = "mimi://h.example/u/alice";
const PHONE: &str = "mimi://h.example/d/alice/phone";
const CLUB: &str = "mimi://h.example/r/club";

struct Provider {
    world: World,
    hub: Arc<TestHub>,
}

impl Provider {
    fn new() -> Self {
        let hub = Arc::new(TestHub::new("mimi://h.example"));
        let world = World::provider_with(Arc::clone(&hub));
        world.clock.set(wall_clock());
        Self { world, hub }
    }

    /// Alice asks.
    async fn get(&self, path: &str) -> Value {
        let request = client_request("alice", "GET", &format!("/_nabe/v1/mimi/{path}"), "", &[]);
        self.world.ask(request).await.expect(200)
    }

    async fn post(&self, path: &str, body: &Value) -> crate::testing::Answer {
        let path = format!("/_nabe/v1/mimi/{path}");
        let request = client_request("alice", "POST", &path, &body.to_string(), &[]);
        self.world.ask(request).await
    }

    /// A struct for a struct; the status for a refusal.
    async fn exchange(&self, path: &str, body: Vec<u8>) -> Result<Bytes, u16> {
        let path = format!("/_nabe/v1/mimi/{path}");
        let mut request = client_request("alice", "POST", &path, "", &[]);
        *request.body_mut() = Body::from(body);
        let (head, body) = self.world.raw(request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        match head.status.as_u16() {
            200 => {
                assert_eq!(head.headers[CONTENT_TYPE], "application/octet-stream");
                Ok(body)
            }
            status => Err(status),
        }
    }

    /// Alice's phone makes a group.
    fn group(&self, device: &MimiDevice) -> (MimiMember, Value) {
        let mut draft = RoomDraft::new(device, &self.hub);
        let list = ParticipantListData {
            participants: vec![UserRolePair {
                user: IdentifierUri::new(ALICE).unwrap(),
                role_index: templates::SUPER_ADMIN,
            }],
        };
        for entry in templates::cooperative("h.example").dictionary(&list).entries() {
            draft.set(entry.component_id, entry.data.to_vec());
        }
        draft.set(ComponentId::ROOM_METADATA, metadata(CLUB, "Club"));
        let member = device.create_room_with(&draft);
        let (info, tree) = member.hand_over();
        let body = json!({
            "room": CLUB,
            "group_info": base64u::encode(info.as_bytes()),
            "ratchet_tree": base64u::encode(&tree.to_bytes()),
        });
        (member, body)
    }

    async fn club(&self) -> MimiMember {
        let (member, body) = self.group(&MimiDevice::new(PHONE));
        self.post("rooms", &body).await.expect(200);
        member
    }

    async fn said(&self, query: &str) -> Vec<FanoutMessage> {
        let body = self.get(&in_club(&format!("messages{query}"))).await;
        let messages = body["messages"].as_array().unwrap().iter();
        let message = |message: &Value| {
            let bytes = base64u::decode(message["message"].as_str().unwrap()).unwrap();
            FanoutMessage::from_bytes(&bytes).unwrap()
        };
        messages.map(message).collect()
    }
}

fn in_club(rest: &str) -> String {
    format!("rooms/{}/{rest}", escape(CLUB))
}

fn said_by(member: &mut MimiMember, text: &str) -> Vec<u8> {
    let request = SubmitMessageRequest::from(Submission {
        app_message: Kept::new(MlsMessage {
            body: MlsMessageBody::Private(member.encrypt(text.as_bytes(), None)),
        }),
        sending_uri: IdentifierUri::new(ALICE).unwrap(),
    });
    request.to_bytes()
}

#[tokio::test]
async fn a_room_is_created_changed_talked_in_and_read() {
    let provider = Provider::new();
    let hub = provider.get("hub").await;
    let sender = base64u::encode(&provider.hub.sender().to_bytes());
    assert_eq!(
        hub,
        json!({ "domain": "h.example", "user": ALICE, "external_sender": sender })
    );
    let (mut alice, body) = provider.group(&MimiDevice::new(PHONE));
    provider.post("rooms", &body).await.expect(200);
    provider.post("rooms", &body).await.expect(200);
    let (_, other) = provider.group(&MimiDevice::new(PHONE));
    provider.post("rooms", &other).await.expect_code(409, "conflict");

    let commit = alice.update().to_request();
    let answer = provider.exchange(&in_club("update"), commit.clone()).await.unwrap();
    let verdict = UpdateRoomResponse::from_bytes(&answer).unwrap().verdict;
    assert!(matches!(verdict, UpdateVerdict::Success { .. }), "{verdict:?}");
    assert_eq!(provider.exchange(&in_club("update"), commit).await.unwrap(), answer);
    alice.merge();
    let message = said_by(&mut alice, "hello");
    let answer = provider.exchange(&in_club("submit_message"), message).await.unwrap();
    let answer = SubmitMessageResponse::from_bytes(&answer).unwrap();
    assert!(matches!(answer.body.mls10(), Some(SubmitVerdict::Accepted(_))));

    let said = provider.said("").await;
    let kinds: Vec<_> = said.iter().map(|message| &message.message.body).collect();
    assert!(
        matches!(kinds[..], [MlsMessageBody::Public(_), MlsMessageBody::Private(_)]),
        "{kinds:?}"
    );
    assert_eq!(provider.said("?after=1").await, said[1..]);
    assert_eq!(provider.said("?limit=1").await, said[..1]);
    let rooms = provider.get("rooms").await;
    let club = json!([{ "room": CLUB, "hub": "h.example", "from": 1, "head": 2 }]);
    assert_eq!(rooms["rooms"], club);
}

#[tokio::test]
async fn whoever_waits_hears_of_news_when_it_comes() {
    let provider = Provider::new();
    let mut alice = provider.club().await;
    let state = provider.get("rooms").await["state"].as_str().unwrap().to_owned();
    let rooms = format!("rooms?seen={state}&wait_ms=60000");
    let message = said_by(&mut alice, "hello");
    let submit = in_club("submit_message");
    let (said, rooms, _) = tokio::join!(
        provider.said("?wait_ms=60000"),
        provider.get(&rooms),
        provider.exchange(&submit, message),
    );
    assert_eq!(said.len(), 1);
    assert_eq!(rooms["rooms"][0]["head"], 1);
    assert_ne!(rooms["state"], state.as_str());
    assert_eq!(provider.said("?after=1&wait_ms=1").await, []);
}

#[tokio::test]
async fn key_packages_go_in_and_come_out_once() {
    let provider = Provider::new();
    provider.club().await;
    // The account comes with the first request.
    provider.get("hub").await;
    let phone = MimiDevice::new(PHONE);
    let package = base64u::encode(&phone.key_package());
    let body = json!({ "client": PHONE, "key_packages": [package, package, base64u::encode(b"no package")] });
    let results = provider.post("key_packages", &body).await.expect(200);
    assert!(results["results"][0]["reference"].is_string(), "{results}");
    for refused in [1, 2] {
        assert!(results["results"][refused]["error"].is_string(), "{results}");
    }
    let left = provider.get("key_packages").await;
    assert_eq!(
        left["key_packages"],
        json!([{ "client": PHONE, "suite": 1, "left": 1, "last_resort": false }])
    );
    let required = || RequiredCapabilities {
        extension_types: Vec::new(),
        proposal_types: Vec::new(),
        credential_types: Vec::new(),
    };
    let tablet = MimiDevice::new("mimi://h.example/d/alice/tablet");
    for status in [
        KeyMaterialUserCode::SUCCESS,
        KeyMaterialUserCode::NO_COMPATIBLE_MATERIAL,
    ] {
        let request = key_material_request(&tablet, ALICE, Some(CLUB), required());
        let answer = provider.exchange("key_material", request.to_bytes()).await.unwrap();
        assert_eq!(KeyMaterialResponse::from_bytes(&answer).unwrap().user_status, status);
    }
    let bob = MimiDevice::new("mimi://h.example/d/bob/B");
    let request = key_material_request(&bob, ALICE, Some(CLUB), required());
    assert_eq!(provider.exchange("key_material", request.to_bytes()).await, Err(403));
}

#[tokio::test]
async fn a_token_of_one_device_speaks_for_that_client_alone() {
    let provider = Provider::new();
    let token = provider.world.token("alice", Some("phone")).await;
    for (client, status) in [(PHONE, 200), ("mimi://h.example/d/alice/tablet", 403)] {
        let request = Request::post("/_nabe/v1/mimi/key_packages")
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .body(Body::from(json!({ "client": client, "key_packages": [] }).to_string()))
            .unwrap();
        provider.world.ask(request).await.expect(status);
    }
}

#[tokio::test]
async fn a_new_device_is_given_what_it_takes_to_join() {
    let provider = Provider::new();
    provider.club().await;
    let ask = async |device: &str| {
        let (query, _) = group_info_query(&MimiDevice::new(device));
        let request = GroupInfoRequest::from(query);
        provider.exchange(&in_club("group_info"), request.to_bytes()).await
    };
    let answer = ask("mimi://h.example/d/alice/tablet").await.unwrap();
    let answer = GroupInfoResponse::from_bytes(&answer).unwrap();
    assert_eq!(answer.outcome.code(), GroupInfoCode::SUCCESS);
    assert_eq!(ask("mimi://h.example/d/bob/B").await, Err(400));
}

#[tokio::test]
async fn what_does_not_read_is_refused_with_the_field() {
    let provider = Provider::new();
    provider.club().await;
    for (path, name) in [
        (in_club("update"), "UpdateRequest"),
        (in_club("submit_message"), "SubmitMessageRequest"),
        (in_club("group_info"), "GroupInfoRequest"),
        ("key_material".to_owned(), "KeyMaterialRequest"),
    ] {
        let mut request = client_request("alice", "POST", &format!("/_nabe/v1/mimi/{path}"), "", &[]);
        *request.body_mut() = Body::from(vec![1, 2]);
        let text = provider.world.ask(request).await.expect_code(400, "bad_request");
        assert!(text.contains(name), "{text}");
    }
    let body = json!({ "room": CLUB, "group_info": "!", "ratchet_tree": "" });
    let text = provider.post("rooms", &body).await.expect_code(400, "bad_request");
    assert!(text.contains("`group_info`"), "{text}");
    let elsewhere = json!({ "room": "mimi://h.example/u/alice", "group_info": "", "ratchet_tree": "" });
    provider.post("rooms", &elsewhere).await.expect_code(404, "not_found");
}

#[tokio::test]
async fn nobody_reads_a_room_that_they_are_not_in() {
    let provider = Provider::new();
    provider.club().await;
    let path = format!("/_nabe/v1/mimi/{}", in_club("messages"));
    let answer = provider.world.ask(client_request("bob", "GET", &path, "", &[])).await;
    answer.expect_code(404, "not_found");
}

#[tokio::test]
async fn a_server_that_is_no_provider_has_none_of_this() {
    let request = client_request("alice", "GET", "/_nabe/v1/mimi/hub", "", &[]);
    World::new().ask(request).await.expect_code(404, "unknown_endpoint");
}

#[tokio::test]
async fn users_ask_each_other_for_consent_and_decide_for_themselves_alone() {
    const BOB: &str = "mimi://h.example/u/bob";
    const PATH: &str = "/_nabe/v1/mimi/consent";
    let world = Provider::new().world;
    let uri = |uri: &str| IdentifierUri::new(uri).unwrap();
    let put = async |user: &str, operation: ConsentAction| {
        let entry = ConsentEntry {
            operation,
            scope: ConsentScope {
                requester_uri: uri(ALICE),
                target_uri: uri(BOB),
                room_id: Some(uri(CLUB)),
            },
            consent_extensions: Default::default(),
        };
        let mut request = client_request(user, "POST", PATH, "", &[]);
        *request.body_mut() = Body::from(entry.to_bytes());
        world.ask(request).await.status
    };
    let known = async |user: &str, query: &str| {
        let request = client_request(user, "GET", &format!("{PATH}{query}"), "", &[]);
        let answer = world.ask(request).await.expect(200);
        answer["consents"].as_array().unwrap().clone()
    };
    let grant = || ConsentAction::Grant {
        client_key_packages: Vec::new(),
    };
    assert_eq!(known("bob", "").await, Vec::<Value>::new());
    assert_eq!(put("bob", ConsentAction::Request).await, 403, "in the name of alice");
    assert_eq!(put("alice", ConsentAction::Request).await, 200);
    let asked = known("bob", "").await;
    assert_eq!(asked.len(), 1);
    assert_eq!(
        (&asked[0]["requester"], &asked[0]["target"], &asked[0]["room"]),
        (&json!(ALICE), &json!(BOB), &json!(CLUB))
    );
    assert!(asked[0]["requested_at"].is_u64() && asked[0]["decision"].is_null());

    assert_eq!(put("alice", grant()).await, 403, "in the name of bob");
    for (operation, decision) in [(grant(), "granted"), (ConsentAction::Revoke, "revoked")] {
        assert_eq!(put("bob", operation).await, 200);
        let decided = &known("alice", "").await[0];
        assert_eq!(decided["decision"], decision);
        assert!(decided["decided_at"].is_u64() && decided["requested_at"].is_null());
    }
    let number = asked[0]["number"].as_i64().unwrap();
    assert_eq!(known("alice", &format!("?after={number}")).await, Vec::<Value>::new());
}

#[tokio::test]
async fn key_packages_go_with_a_grant_if_the_user_wants_it() {
    const BOB: &str = "mimi://h.example/u/bob";
    let provider = Provider::new();
    provider.get("hub").await;
    let package = base64u::encode(&MimiDevice::new(PHONE).key_package());
    let body = json!({ "client": PHONE, "key_packages": [package] });
    provider.post("key_packages", &body).await.expect(200);
    let uri = |uri: &str| IdentifierUri::new(uri).unwrap();
    let put = async |operation: ConsentAction, query: &str| {
        let entry = ConsentEntry {
            operation,
            scope: ConsentScope {
                requester_uri: uri(BOB),
                target_uri: uri(ALICE),
                room_id: None,
            },
            consent_extensions: Default::default(),
        };
        let mut request = client_request("alice", "POST", &format!("/_nabe/v1/mimi/consent{query}"), "", &[]);
        *request.body_mut() = Body::from(entry.to_bytes());
        provider.world.ask(request).await.status
    };
    let grant = || ConsentAction::Grant {
        client_key_packages: Vec::new(),
    };
    let left = async || {
        provider.get("key_packages").await["key_packages"]
            .as_array()
            .unwrap()
            .len()
    };
    for (operation, query, status) in [
        (grant(), "?key_packages=some", 400),
        (ConsentAction::Revoke, "?key_packages=true", 400),
        (grant(), "?key_packages=false", 200),
        (grant(), "", 200),
    ] {
        assert_eq!(put(operation, query).await, status, "{query}");
    }
    assert_eq!(left().await, 1);
    assert_eq!(put(grant(), "?key_packages=true").await, 200);
    assert_eq!(left().await, 0);
}

#[tokio::test]
async fn a_file_is_had_by_its_url_and_by_who_reads_the_room() {
    let folder = tempfile::tempdir().unwrap();
    let files = MediaFolder::open(folder.path()).unwrap();
    let hub = Arc::new(TestHub::new("mimi://h.example"));
    let world = World::provider_that(Arc::clone(&hub), |settings| settings.media.folder = Some(files));
    world.clock.set(wall_clock());
    let provider = Provider { world, hub };
    provider.club().await;
    let request = client_request("alice", "POST", "/_nabe/v1/mimi/assets", "", &[]).map(|_| Body::from("sealed"));
    let asset = provider.world.ask(request).await.expect(200);
    assert_eq!(asset["size"], 6);
    let url = asset["url"].as_str().unwrap();
    let download = async |user: &str, url: &str| {
        let path = format!("/_nabe/v1/mimi/{}", in_club(&format!("download?url={}", escape(url))));
        let (head, body) = provider
            .world
            .raw(client_request(user, "GET", &path, "", &[]))
            .await
            .into_parts();
        (head.status.as_u16(), body.collect().await.unwrap().to_bytes())
    };
    assert_eq!(download("alice", url).await, (200, Bytes::from_static(b"sealed")));
    // Not by who has nothing to do with the room, nor from elsewhere, nor by the name of the file alone.
    assert_eq!(download("bob", url).await.0, 404);
    assert_eq!(download("alice", "https://files.q.example/x").await.0, 403);
    assert_eq!(download("alice", "http://h.example/x").await.0, 400);
    let (guess, _) = url.rsplit_once('/').unwrap();
    assert_eq!(
        download("alice", &format!("{guess}/AAAAAAAAAAAAAAAAAAAAAA")).await.0,
        404
    );
    assert_eq!(download("alice", &format!("{guess}/")).await.0, 404);

    // Whoever stores it is not to learn who reads it.
    let settings = crate::mimi::MimiSettings {
        domain: crate::testing::server("h"),
        authority: crate::testing::server("h"),
        forwarded: None,
    };
    let router = crate::mimi::endpoints()
        .router(settings, provider.world.state.clone())
        .unwrap();
    for (path, status) in [
        (url.strip_prefix("https://h.example").unwrap(), 200),
        ("/_nabe/mimi/assets/x/y", 404),
    ] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = tower::ServiceExt::oneshot(router.clone(), request).await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
    }
}

/// Alice asks the gateway of her own provider, which keeps her file.
#[tokio::test]
async fn a_provider_is_relay_and_gateway_in_one_for_rooms_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let files = MediaFolder::open(folder.path()).unwrap();
    let hub = Arc::new(TestHub::new("mimi://h.example"));
    let world = World::provider_that(Arc::clone(&hub), |settings| settings.media.folder = Some(files));
    world.clock.set(wall_clock());
    let mut provider = Provider { world, hub };
    provider.club().await;
    let keys = |user| client_request(user, "GET", "/_nabe/v1/mimi/ohttp/h.example", "", &[]);
    provider.world.ask(keys("alice")).await.expect_code(404, "not_found");
    provider.world.state.ohttp = Some(crate::mimi::OhttpGateway::new(&[(1, [1; 32])]).unwrap());
    let asset = client_request("alice", "POST", "/_nabe/v1/mimi/assets", "", &[]).map(|_| Body::from("a file"));
    let asset = provider.world.ask(asset).await.expect(200);
    let url = asset["url"]
        .as_str()
        .unwrap()
        .strip_prefix("https://h.example")
        .unwrap();

    let raw = async |request| {
        let (head, body) = provider.world.raw(request).await.into_parts();
        let media_type = head.headers[CONTENT_TYPE].to_str().unwrap().to_owned();
        (
            head.status.as_u16(),
            media_type,
            body.collect().await.unwrap().to_bytes(),
        )
    };
    let (status, media_type, published) = raw(keys("alice")).await;
    assert_eq!((status, media_type.as_str()), (200, "application/ohttp-keys"));
    let relay = |user, body: Vec<u8>| {
        client_request(user, "POST", "/_nabe/v1/mimi/ohttp/h.example", "", &[]).map(|_| Body::from(body))
    };
    let sealed = |path: &str| {
        let parts = ["GET", "https", "h.example", path].map(|part| part.as_bytes().to_vec());
        let [method, scheme, authority, path] = parts;
        let mut bytes = Vec::new();
        let message = bhttp::Message::request(method, scheme, authority, path);
        message.write_bhttp(bhttp::Mode::KnownLength, &mut bytes).unwrap();
        let client = ohttp::ClientRequest::from_encoded_config_list(&published).unwrap();
        client.encapsulate(&bytes).unwrap()
    };
    for (path, expected) in [(url, (200, &b"a file"[..])), ("/x", (404, b"unknown file"))] {
        let (request, opener) = sealed(path);
        let (status, media_type, answer) = raw(relay("alice", request)).await;
        assert_eq!((status, media_type.as_str()), (200, "message/ohttp-res"));
        let answer = opener.decapsulate(&answer).unwrap();
        let answer = bhttp::Message::read_bhttp(&mut std::io::Cursor::new(&answer)).unwrap();
        let status = answer.control().status().unwrap().code();
        assert_eq!((status, answer.content()), expected, "{path}");
    }
    // Bob has nothing to do with it, and what is not sealed to its key is not read.
    let (request, _) = sealed(url);
    let refused = async |request, status, code| provider.world.ask(request).await.expect_code(status, code);
    refused(relay("bob", request.clone()), 404, "not_found").await;
    refused(keys("bob"), 404, "not_found").await;
    let (mut other_key, mut broken) = (request.clone(), request);
    other_key[0] = 9;
    refused(relay("alice", other_key), 409, "conflict").await;
    *broken.last_mut().unwrap() ^= 1;
    refused(relay("alice", broken), 400, "bad_request").await;
    refused(relay("alice", vec![1; 33 * 1024]), 413, "too_large").await;
}
