//! A follower that is away for ten thousand messages (MIMI #fanout-messages-and-room-events): once it is back it is given all of them in the
//! hub's order, and to give them the hub takes no more memory than a few requests do, however many messages there are.
//!
//! Hub and follower are processes of their own; the follower is killed, and started again when everything is said. That pauses grow, and what
//! an hour of them is, is for a virtual clock: `nabe-service`, `mimi::tests::notify`.
//!
//! `NABE_TEST_MESSAGES` says how many (10,000).

#![expect(clippy::unwrap_used, reason = "this is test code")]

mod common;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use common::{Client, Serving, provider::Provider, random::variable, wait_for};
use nabe_client::mimi::templates;
use nabe_mls::testing::mimi::{MimiDevice, MimiMember, RoomDraft, group_info_query, open_group_info};
use nabe_signing::base64u;
use nabe_wire::{
    Encode as _, IdentifierUri, Kept, Message as _,
    directory::escape,
    group_info::{GroupInfoRequest, GroupInfoResponse},
    mls::{ExternalSender, MlsMessage, MlsMessageBody, PrivateMessage},
    participant_list::{ParticipantListData, UserRolePair},
    submit_message::{Submission, SubmitMessageRequest, SubmitMessageResponse, SubmitVerdict},
    update::{UpdateRoomResponse, UpdateVerdict},
};
use serde_json::{Value, json};

const ROOM: &str = "mimi://a.localhost/r/club";
const ALICE: (&str, &str) = ("@alice:a.localhost", "mimi://a.localhost/u/alice");
const BOB: (&str, &str) = ("@bob:b.localhost", "mimi://b.localhost/u/bob");
/// Requests at once.
const SENDING: usize = 16;
/// All messages together are more than what catching up may add.
const MESSAGE_BYTES: usize = 4096;
/// What catching up may add to the hub's memory. A request is at most 1 MiB; it is read, put together and on its way.
const MOST_ADDED: u64 = 24 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_was_down_for_ten_thousand_messages_costs_the_hub_no_memory_when_it_is_back() {
    let count: usize = variable("NABE_TEST_MESSAGES").unwrap_or(10_000);
    let parent = tempfile::tempdir().unwrap();
    let a = Provider::init(parent.path(), "a.localhost", None);
    let b = Provider::init(parent.path(), "b.localhost", Some(&a));
    let patient = [
        ("NABE_DELIVERY__RETRY_BASE_MS", "20"),
        ("NABE_DELIVERY__RETRY_MAX_MS", "100"),
        // All is said as fast as it can be.
        ("NABE_LIMITS__USER_BURST", "1000000"),
    ];
    let hub = a.serve_with(&[&b], false, &patient);
    let mut follower = b.serve(&[&a], false);
    for provider in [&a, &b] {
        provider.directory().await;
    }
    let (at_hub, at_follower) = (a.backend(), b.backend());
    let mut alice = room_of_two(&at_hub, &at_follower).await;
    let before = head(&at_follower, BOB.0).await;

    follower.kill();
    // The hub cannot read them, so it is all the same to it what is in them.
    let sealed = alice.encrypt(b"hello", None);
    send(&at_hub, sealed, count).await;
    fs::write(format!("/proc/{}/clear_refs", hub.id()), "5").unwrap();
    let idle = peak(&hub);
    let mut follower = b.serve(&[&a], false);
    let expected = before + i64::try_from(count).unwrap();
    wait_for("the follower to have everything", async || {
        let rooms = at_follower.get(Some(BOB.0), "/_nabe/v1/mimi/rooms").await.ok()?;
        (rooms.body["rooms"][0]["head"] == expected).then_some(())
    })
    .await;
    let busy = peak(&hub);
    println!(
        "the hub had {} KiB, and {} KiB at most meanwhile",
        idle >> 10,
        busy >> 10
    );

    let said = said(&at_hub, ALICE.0, count).await;
    assert_eq!(said.len(), count);
    assert_eq!(
        said_at(&said),
        said_at(&crate::said(&at_follower, BOB.0, count).await),
        "in the hub's order"
    );
    assert!(
        busy.saturating_sub(idle) <= MOST_ADDED,
        "catching up took {} bytes",
        busy.saturating_sub(idle)
    );
    assert!(follower.terminate().success());
}

/// Alice makes a room with Bob on its list, who joins by himself through his provider.
async fn room_of_two(at_hub: &Client, at_follower: &Client) -> MimiMember {
    let hub = at_hub.must_get(ALICE.0, "/_nabe/v1/mimi/hub").await;
    let sender = base64u::decode(hub["external_sender"].as_str().unwrap()).unwrap();
    let sender = ExternalSender::from_bytes(&sender).unwrap();
    let phone = MimiDevice::new("mimi://a.localhost/d/alice/phone");
    let mut draft = RoomDraft::of(&phone, &sender, ROOM, "mimi://a.localhost/g/club");
    let on_list = |user: &str, role_index| UserRolePair {
        user: IdentifierUri::new(user).unwrap(),
        role_index,
    };
    let list = ParticipantListData {
        participants: vec![
            on_list(ALICE.1, templates::SUPER_ADMIN),
            on_list(BOB.1, templates::ORDINARY_USER),
        ],
    };
    for entry in templates::cooperative("a.localhost").dictionary(&list).entries() {
        draft.set(entry.component_id, entry.data.to_vec());
    }
    let mut alice = phone.create_room_with(&draft);
    let (info, tree) = alice.hand_over();
    let room = json!({
        "room": ROOM,
        "group_info": base64u::encode(info.as_bytes()),
        "ratchet_tree": base64u::encode(&tree.to_bytes()),
    });
    at_hub.must_post(ALICE.0, "/_nabe/v1/mimi/rooms", &room).await;

    at_follower.must_get(BOB.0, "/_nabe/v1/mimi/hub").await;
    let bob = MimiDevice::new("mimi://b.localhost/d/bob/phone");
    let (query, private_key) = group_info_query(&bob);
    let answer = ask(
        at_follower,
        BOB.0,
        "group_info",
        GroupInfoRequest::from(query).to_bytes(),
    )
    .await;
    let opened = open_group_info(GroupInfoResponse::from_bytes(&answer).unwrap(), &private_key);
    let (_, bundle) = bob.join_externally_with(opened.group_info.as_bytes(), &opened.ratchet_tree_option, &[], &[]);
    let answer = ask(at_follower, BOB.0, "update", bundle.to_request()).await;
    let answer = UpdateRoomResponse::from_bytes(&answer).unwrap();
    assert!(matches!(answer.verdict, UpdateVerdict::Success { .. }), "{answer:?}");
    alice.process(&bundle.commit);
    alice
}

/// A struct for a struct, about the room.
async fn ask(client: &Client, user: &str, what: &str, body: Vec<u8>) -> Vec<u8> {
    let path = format!("/_nabe/v1/mimi/rooms/{}/{what}", escape(ROOM));
    let answer = client.post_bytes(user, &path, body).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    answer.into_body().to_vec()
}

/// Alice says so many things, each of which the hub accepts.
async fn send(at_hub: &Client, sealed: PrivateMessage, count: usize) {
    let next = Arc::new(AtomicUsize::new(0));
    let sending = (0..SENDING).map(|_| {
        let (client, next, sealed) = (at_hub.clone(), Arc::clone(&next), sealed.clone());
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::SeqCst);
                if number >= count {
                    return;
                }
                let answer = ask(&client, ALICE.0, "submit_message", submission(&sealed, number)).await;
                let answer = SubmitMessageResponse::from_bytes(&answer).unwrap();
                let is_accepted = matches!(answer.body.mls10(), Some(SubmitVerdict::Accepted(_)));
                assert!(is_accepted, "{answer:?}");
            }
        })
    });
    for sending in sending.collect::<Vec<_>>() {
        sending.await.unwrap();
    }
}

fn submission(sealed: &PrivateMessage, number: usize) -> Vec<u8> {
    let message = PrivateMessage {
        ciphertext: number.to_be_bytes().repeat(MESSAGE_BYTES / 8).as_slice().into(),
        ..sealed.clone()
    };
    let request = SubmitMessageRequest::from(Submission {
        app_message: Kept::new(MlsMessage {
            body: MlsMessageBody::Private(message),
        }),
        sending_uri: IdentifierUri::new(ALICE.1).unwrap(),
    });
    request.to_bytes()
}

/// Where a user's log of the room ends, once there is one.
async fn head(client: &Client, user: &str) -> i64 {
    wait_for("the room", async || {
        let rooms = client.must_get(user, "/_nabe/v1/mimi/rooms").await;
        rooms["rooms"][0]["head"].as_i64()
    })
    .await
}

/// The last `count` entries of a user's log of the room.
async fn said(client: &Client, user: &str, count: usize) -> Vec<Value> {
    let mut after = head(client, user).await - i64::try_from(count).unwrap();
    let mut said = Vec::new();
    loop {
        let path = format!(
            "/_nabe/v1/mimi/rooms/{}/messages?after={after}&limit=1000",
            escape(ROOM)
        );
        let page = client.must_get(user, &path).await;
        let page = page["messages"].as_array().unwrap();
        let Some(last) = page.last() else { return said };
        after = last["position"].as_i64().unwrap();
        said.extend(page.iter().cloned());
    }
}

/// What the hub fanned out, byte for byte.
fn said_at(log: &[Value]) -> Vec<&str> {
    log.iter().map(|entry| entry["message"].as_str().unwrap()).collect()
}

/// The most memory that a process has had since that was reset, in bytes.
fn peak(process: &Serving) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kilobytes << 10
}
