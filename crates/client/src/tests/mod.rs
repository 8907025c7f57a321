//! Clients against the hub in memory.

mod crashes;
mod devices;
mod groups;
mod messages;
mod races;

use std::time::Duration;

use nabe_mls::Suite;
use nabe_types::{DeviceId, RoomId, UserId};

use crate::testing::{FakeHub, now, text, wall_clock};
use crate::transport::NewRoom;
use crate::{Client, ClientStore, ItemBody, Notice, Settings, Undecryptable};

pub(super) fn hub() -> FakeHub {
    FakeHub::new(wall_clock())
}

/// Does what it is told and nothing else.
pub(super) fn obedient() -> Settings {
    Settings {
        tend: false,
        tend_spread: Duration::ZERO,
        update_after_join: false,
        key_package_stock: 12,
        round: Duration::ZERO,
        rounds: 8,
        ..Settings::default()
    }
}

pub(super) fn client_with(hub: &FakeHub, user: &str, device: &str, store: ClientStore, settings: Settings) -> Client {
    let suite = Suite::default();
    now(Client::log_in(
        hub.transport(user, device),
        store,
        self::device(device),
        &[suite],
        settings,
        hub.clock(),
    ))
    .unwrap()
}

pub(super) fn client(hub: &FakeHub, user: &str, device: &str) -> Client {
    client_with(hub, user, device, ClientStore::in_memory().unwrap(), obedient())
}

/// A room that its creator shares with the users of the others, whose devices are all in the group.
pub(super) fn room(creator: &mut Client, others: &mut [&mut Client]) -> RoomId {
    let room = now(creator.create_room(NewRoom::default(), Suite::default())).unwrap();
    for other in others.iter_mut() {
        let members = now(creator.members(&room)).unwrap();
        if !members.iter().any(|member| member.user_id == *other.user()) {
            now(creator.invite(&room, &other.user().clone())).unwrap();
        }
        now(other.join(&room, &[])).unwrap();
    }
    let users: Vec<UserId> = others.iter().map(|other| other.user().clone()).collect();
    if !users.is_empty() {
        now(creator.add_users(&room, &users)).unwrap();
    }
    for other in others {
        sync(other);
        assert!(other.group(&room).unwrap().is_some(), "{} is in", other.user());
    }
    room
}

pub(super) fn sync(client: &mut Client) {
    now(client.catch_up()).unwrap();
}

pub(super) fn say(client: &mut Client, room: &RoomId, body: &str) {
    now(client.send_payload(room, &text(body))).unwrap();
}

/// What a client's user reads: the texts, or why there is none.
pub(super) fn read(client: &Client, room: &RoomId) -> Vec<String> {
    let items = client.timeline(room, 10_000).unwrap();
    items
        .iter()
        .map(|item| match &item.body {
            ItemBody::Message(payload) => nabe_content::show_payload(payload).text,
            ItemBody::Undecryptable(reason) => format!("! {reason}"),
            ItemBody::Plain(_) => "plain".to_owned(),
        })
        .collect()
}

pub(super) fn reasons(client: &Client, room: &RoomId) -> Vec<Undecryptable> {
    let items = client.timeline(room, 10_000).unwrap();
    items
        .into_iter()
        .filter_map(|item| match item.body {
            ItemBody::Undecryptable(reason) => Some(reason),
            _ => None,
        })
        .collect()
}

pub(super) fn notices(client: &mut Client) -> Vec<Notice> {
    let notices = client.notices(10_000).unwrap();
    if let Some((last, _)) = notices.last() {
        client.acknowledge(*last).unwrap();
    }
    notices.into_iter().map(|(_, notice)| notice).collect()
}

/// Everybody is in the same epoch of the same group, which is the hub's.
pub(super) fn agree(hub: &FakeHub, room: &RoomId, clients: &[&Client]) {
    let hubs = hub.group(room).expect("the room has a group");
    let first = clients[0].group(room).unwrap().expect("is in the group");
    for client in clients {
        let group = client.group(room).unwrap().expect("is in the group");
        assert_eq!(group.epoch, hubs.epoch(), "{} {}", client.user(), client.device());
        assert_eq!(group.tree_hash, hubs.tree_hash());
        assert_eq!(group.epoch_authenticator, first.epoch_authenticator);
    }
}

pub(super) fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

pub(super) fn device(id: &str) -> DeviceId {
    DeviceId::parse(id).unwrap()
}

pub(super) const ALICE: &str = "@alice:a.test";
pub(super) const BOB: &str = "@bob:b.test";
pub(super) const CAROL: &str = "@carol:c.test";
