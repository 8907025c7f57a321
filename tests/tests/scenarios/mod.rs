//! Single stories, each told to its end.

mod delivery;
mod joining;
mod keys;
mod lies;
mod policy;
mod restarts;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use nabe_service::ServiceError;
use nabe_service::client::{NewRoom, Sent, SentStatus};
use nabe_signing::object;
use nabe_tests::activity::Activity;
use nabe_tests::{Cluster, Options, event, server, user};
use nabe_types::{RoomId, UserId};
use tokio::task::JoinHandle;

/// Three servers and a public room of `@ann:h.example`.
struct Story {
    cluster: Cluster,
    room: RoomId,
}

/// What an operation of a user comes to.
type Act = JoinHandle<Result<Sent, ServiceError>>;

impl Story {
    async fn begin(activity: Activity) -> anyhow::Result<Self> {
        Self::begin_over(activity, Options::default()).await
    }

    async fn begin_over(activity: Activity, options: Options) -> anyhow::Result<Self> {
        let cluster = Cluster::start(&["h", "p", "q"], options, activity).await?;
        let public = NewRoom {
            join_rule: Some("public".to_owned()),
            ..NewRoom::default()
        };
        let room = cluster
            .service("h")
            .create_room(&user("ann", "h"), public, None)
            .await?
            .room_id;
        Ok(Self { cluster, room })
    }

    /// Begins to join; the user's name is `ann`, that of the server.
    fn start_join(&self, name: &str) -> Act {
        self.start_join_of(&user("ann", name), name)
    }

    fn start_join_of(&self, who: &UserId, name: &str) -> Act {
        let (service, room, who) = (self.cluster.service(name), self.room.clone(), who.clone());
        self.cluster
            .spawn(async move { service.join(&who, &room, &[server("h")]).await })
    }

    async fn join(&self, name: &str) -> anyhow::Result<Sent> {
        let joined = self.cluster.finish(self.start_join(name)).await?.context("join")?;
        self.cluster.let_run().await;
        Ok(joined)
    }

    /// Begins to say something; the text is the idempotency key, too.
    fn start_say(&self, name: &str, text: &str) -> Act {
        let (service, room, text) = (self.cluster.service(name), self.room.clone(), text.to_owned());
        let who = user("ann", name);
        self.cluster.spawn(async move {
            let message = event("m.room.message", None, object! { "body" => text.as_str() });
            service.send_event(&who, &room, message, Some(&text)).await
        })
    }

    /// Says something and expects to be told that it is in the room.
    async fn say(&self, name: &str, text: &str) -> anyhow::Result<Sent> {
        let sent = self.cluster.finish(self.start_say(name, text)).await?.context("say")?;
        self.cluster.let_run().await;
        ensure!(sent.status == SentStatus::Appended, "{text} is only queued");
        Ok(sent)
    }

    /// The participant's log equals the hub's, as far as it reaches, and reaches to its end.
    async fn ensure_follows(&self, participant: &str) -> anyhow::Result<()> {
        let hub = self.cluster.log("h", &self.room).await?;
        let log = self.cluster.log(participant, &self.room).await?;
        ensure!(!log.is_empty(), "{participant} has no log");
        let tail = &hub[hub.len().saturating_sub(log.len())..];
        for (ours, theirs) in log.iter().zip(tail) {
            let bytes = |entry: &nabe_core::Entry| entry.pdu().map(|pdu| pdu.bytes().clone());
            ensure!(
                ours.event_id() == theirs.event_id() && bytes(ours) == bytes(theirs),
                "logs differ at {ours:?}"
            );
        }
        Ok(())
    }

    async fn ensure_messages(&self, name: &str, expected: &[&str]) -> anyhow::Result<()> {
        let messages = self.cluster.messages(name, &self.room).await?;
        ensure!(messages == expected, "{name} has {messages:?} instead of {expected:?}");
        Ok(())
    }
}

const SECOND: Duration = Duration::from_secs(1);
