//! Clients against the real hub.

mod crashes;
mod expiry;
mod faults;
mod files;
mod hub;
mod hubs;
mod joining;
mod kinds;
mod messages;
mod moderation;
mod operational;
mod patience;
mod races;
mod receipts;
mod rules;
mod story;

use std::time::Duration;

use nabe_content::mimi::NestedPart;
use nabe_content::mimi::timeline::{State, authors_only};
use nabe_mls::Suite;
use nabe_wire::mls::ComponentId;
use nabe_wire::uri::MimiUri;

use super::*;
use crate::ClientStore;
use crate::testing::now;
use hub::MimiHub;

const ALICE: &str = "mimi://a.example/u/alice";
const BOB: &str = "mimi://b.example/u/bob";
const CATHY: &str = "mimi://c.example/u/cathy";
const DAVE: &str = "mimi://d.example/u/dave";
const A: &str = "mimi://a.example/d/alice/A";
const B: &str = "mimi://b.example/d/bob/B";
const B2: &str = "mimi://b.example/d/bob/B2";
const C: &str = "mimi://c.example/d/cathy/C";
const C2: &str = "mimi://c.example/d/cathy/C2";
const D: &str = "mimi://d.example/d/dave/D";
const ROOM: &str = "mimi://a.example/r/clubhouse";

const MEMBER: u32 = templates::ORDINARY_USER;

fn uri(uri: &str) -> MimiUri {
    MimiUri::parse(uri).unwrap()
}

fn room() -> MimiUri {
    uri(ROOM)
}

/// Does what it is told and nothing else.
fn obedient() -> MimiSettings {
    MimiSettings {
        tend: false,
        key_package_stock: 8,
        round: Duration::ZERO,
        rounds: 6,
        report_after: Duration::ZERO,
        ..MimiSettings::default()
    }
}

fn client_with(hub: &MimiHub, client: &str, store: ClientStore, settings: MimiSettings) -> MimiClient {
    let transport = hub.transport(client);
    let suites = [Suite::default()];
    now(MimiClient::log_in(
        transport,
        store,
        &uri(client),
        &suites,
        settings,
        hub.clock(),
    ))
    .unwrap()
}

fn client(hub: &MimiHub, client: &str) -> MimiClient {
    client_with(hub, client, ClientStore::in_memory().unwrap(), obedient())
}

fn new_room() -> NewRoom {
    NewRoom::new(&room(), "Clubhouse", templates::cooperative("a.example")).unwrap()
}

fn sync(client: &mut MimiClient) {
    now(client.catch_up()).unwrap();
}

fn say(client: &mut MimiClient, text: &str) -> nabe_content::mimi::MessageId {
    now(client.say(&room(), NestedPart::text(text))).unwrap()
}

/// What a client's user reads, in the order of the timeline.
fn read(client: &MimiClient) -> Vec<String> {
    let timeline = client.timeline(&room()).unwrap();
    let posts = timeline.posts(authors_only).into_iter();
    posts
        .map(|post| match post.state {
            State::Shown { body, .. } => body_text(body),
            State::Deleted { .. } => "(deleted)".to_owned(),
            State::Expired => "(expired)".to_owned(),
        })
        .collect()
}

fn body_text(body: &NestedPart) -> String {
    match &body.part {
        nabe_content::mimi::Part::Single(single) => String::from_utf8(single.content.clone()).unwrap(),
        other => panic!("a text is expected, not {other:?}"),
    }
}

fn notices(client: &mut MimiClient) -> Vec<MimiNotice> {
    let notices = client.notices(10_000).unwrap();
    if let Some((last, _)) = notices.last() {
        client.acknowledge(*last).unwrap();
    }
    notices.into_iter().map(|(_, notice)| notice).collect()
}

/// Everybody is in the same epoch of the same group, which is the hub's.
fn agree(hub: &MimiHub, clients: &[&MimiClient]) {
    let (epoch, tree_hash) = hub.epoch(&room());
    let first = clients[0].group(&room()).unwrap().expect("is in the group");
    assert_eq!(first.members.len(), hub.members(&room()));
    for client in clients {
        let group = client.group(&room()).unwrap().expect("is in the group");
        assert_eq!(group.epoch, epoch, "{}", client.client());
        assert_eq!(group.tree_hash, tree_hash, "{}", client.client());
        assert_eq!(group.epoch_authenticator, first.epoch_authenticator);
        assert_eq!(group.components, first.components);
    }
}

/// Users and roles of the participant list, as a client has it.
fn participants(client: &MimiClient) -> Vec<(String, u32)> {
    let list = client.group(&room()).unwrap().unwrap().participants.participants;
    list.into_iter()
        .map(|pair| (pair.user.to_string(), pair.role_index))
        .collect()
}

/// Alice's room with Bob and Cathy in it, one client each.
fn of_three(hub: &MimiHub) -> [MimiClient; 3] {
    let mut alice = client(hub, A);
    let mut bob = client(hub, B);
    let mut cathy = client(hub, C);
    now(alice.create_room(&new_room())).unwrap();
    now(alice.add(&room(), &[(uri(BOB), MEMBER), (uri(CATHY), MEMBER)])).unwrap();
    sync(&mut bob);
    sync(&mut cathy);
    agree(hub, &[&alice, &bob, &cathy]);
    for client in [&mut alice, &mut bob, &mut cathy] {
        notices(client);
    }
    [alice, bob, cathy]
}
