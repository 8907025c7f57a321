//! `nabe room show`: a room as the database has it.

use anyhow::Context as _;
use nabe_core::{EntryBody, Role};
use nabe_store::{Order, Store};
use nabe_types::RoomId;

use crate::{config::Config, output::say, server};

/// Lists all rooms, one a line.
pub(crate) async fn list(config: &Config) -> anyhow::Result<()> {
    let store = server::open_store(config).await?;
    for room in store.rooms().await? {
        say!(
            "{}  {}  entries {}..={}",
            room.meta.room_id,
            role(&room.meta.role),
            room.first,
            room.head
        );
    }
    Ok(())
}

/// Prints a room's state, members by membership, followers, and its newest `events` entries.
pub(crate) async fn show(config: &Config, room: &RoomId, events: u32) -> anyhow::Result<()> {
    let store = server::open_store(config).await?;
    let stored = store
        .load(room)
        .await?
        .with_context(|| format!("no room {room} here"))?;
    let mut view = nabe_core::RoomView::restore(stored.meta, stored.checkpoint)?;
    for entry in &stored.tail {
        view.replay(entry);
    }
    say!("room      {room}");
    say!("version   {}", view.meta().version);
    say!("role      {}", role(&view.meta().role));
    say!(
        "head      {} at {}",
        view.head().map_or("none", |head| head.as_str()),
        view.position()
    );
    for pdu in view.checkpoint().state {
        say!(
            "state     {} {:?} {}",
            pdu.event_type(),
            pdu.state_key().unwrap_or_default(),
            pdu.content()
        );
    }
    for follower in store.followers(room).await? {
        let until = follower
            .until
            .map_or_else(|| "open".to_owned(), |until| until.to_string());
        say!(
            "follower  {} owed {}..{until}, delivered up to {}",
            follower.server,
            follower.from,
            follower.delivered
        );
    }
    print_newest(&*store, room, events).await
}

async fn print_newest(store: &dyn Store, room: &RoomId, events: u32) -> anyhow::Result<()> {
    let limit = usize::try_from(events).unwrap_or(usize::MAX);
    let mut newest = store
        .entries(room, nabe_store::Between::ALL, limit, Order::Descending)
        .await?;
    newest.reverse();
    for entry in newest {
        match &entry.body {
            EntryBody::Event(pdu) => say!(
                "event     {} {} {} {}",
                entry.position,
                pdu.event_id(),
                pdu.sender(),
                String::from_utf8_lossy(pdu.bytes())
            ),
            EntryBody::Hole { event_id, reason } => say!("hole      {} {event_id} {reason}", entry.position),
        }
    }
    Ok(())
}

fn role(role: &Role) -> String {
    match role {
        Role::Hub => "hub".into(),
        Role::Participant { hub } => format!("participant of {hub}"),
    }
}
