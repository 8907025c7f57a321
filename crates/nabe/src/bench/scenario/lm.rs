//! A client in a room of Linearized Matrix, as `nabe client` has it.

use std::{sync::Arc, time::Duration};

use nabe_client::{Client, ClientError, ClientStore, ItemBody, Settings, transport::NewRoom};
use nabe_content::{Body, Message as Content, Post, Text};
use nabe_mls::Suite;
use nabe_service::ports::{Clock as _, SystemClock};
use nabe_types::{DeviceId, RoomId, ServerName, UserId};

use super::{
    room::{Member, State, Unplayable},
    servers::Servers,
};
use crate::client::http::HttpTransport;

impl Member for Client {
    type Room = RoomId;
    type User = UserId;

    async fn log_in(servers: &Servers, at: usize, name: &str) -> anyhow::Result<Self> {
        let transport = Arc::new(HttpTransport::new(&servers.account(at, name, DEVICE)?)?);
        // Nothing by itself: what is measured is what is asked for.
        let settings = Settings {
            tend: false,
            update_after_join: false,
            key_package_stock: 1,
            ..Settings::default()
        };
        let clock = Box::new(|| SystemClock.now());
        let store = ClientStore::in_memory()?;
        let device = DeviceId::parse(DEVICE)?;
        Ok(Self::log_in(transport, store, device, &[Suite::default()], settings, clock).await?)
    }

    async fn create(&mut self, _: &Servers, _: &[String]) -> anyhow::Result<RoomId> {
        let new = NewRoom {
            join_rule: Some("public".to_owned()),
            ..NewRoom::default()
        };
        Ok(self.create_room(new, Suite::default()).await?)
    }

    fn user(&self) -> UserId {
        self.user().clone()
    }

    fn state(&self, room: &RoomId) -> anyhow::Result<Option<State>> {
        Ok(self.group(room)?.map(|group| State {
            epoch: group.epoch,
            authenticator: group.epoch_authenticator,
            tree_hash: group.tree_hash,
            members: group.members.len(),
        }))
    }

    async fn sync(&mut self, wait: Duration) -> anyhow::Result<()> {
        self.sync(wait).await?;
        Ok(())
    }

    async fn consent(&mut self, _: &UserId) -> anyhow::Result<()> {
        Ok(())
    }

    /// Who is in the room belongs into the group, and every commit of a member would add them.
    async fn enter(&mut self, room: &RoomId) -> anyhow::Result<()> {
        // Rooms are named after their hub.
        let hub = room.as_str().split_once(':').map(|(_, hub)| hub).unwrap_or_default();
        Ok(self.join(room, &[ServerName::parse(hub)?]).await?)
    }

    async fn add(&mut self, room: &RoomId, users: &[UserId]) -> anyhow::Result<()> {
        playable(self.add_users(room, users).await)
    }

    async fn join(&mut self, room: &RoomId) -> anyhow::Result<()> {
        self.enter(room).await?;
        playable(self.join_externally(room).await)
    }

    async fn remove(&mut self, room: &RoomId, user: &UserId) -> anyhow::Result<()> {
        self.kick(room, user).await?;
        // It has to know that they left.
        self.sync(Duration::from_secs(1)).await?;
        playable(self.remove_device(room, user, &DeviceId::parse(DEVICE)?).await)
    }

    async fn update(&mut self, room: &RoomId) -> anyhow::Result<()> {
        playable(self.update(room).await)
    }

    async fn say(&mut self, room: &RoomId, words: &str) -> anyhow::Result<()> {
        self.send(room, &content(words)?).await?;
        Ok(())
    }

    fn has_read(&self, room: &RoomId, words: &str) -> anyhow::Result<bool> {
        let newest = self.timeline(room, 1)?.pop().map(|item| item.body);
        let wanted = content(words)?.to_payload();
        Ok(newest.is_some_and(|body| matches!(body, ItemBody::Message(bytes) if bytes == wanted)))
    }
}

fn content(words: &str) -> anyhow::Result<Content> {
    Ok(Content::Post(Post::new(Body::Text(Text::plain(words)?))))
}

/// A commit that no event has room for is no fault: the draft has no room for such a group (LM #int-ev-mls-commit).
fn playable(done: Result<(), ClientError>) -> anyhow::Result<()> {
    match done {
        Err(error @ ClientError::CommitTooLarge { .. }) => Err(Unplayable(error.to_string()).into()),
        other => Ok(other?),
    }
}

const DEVICE: &str = "D";
