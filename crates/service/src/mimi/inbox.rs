//! What hubs notify us of (MIMI #fanout-messages-and-room-events), and the log from which clients of our users read it. Of the rooms
//! whose hub we are, what is for our own users goes into the same log.
//!
//! A hub is believed about its own rooms alone. A room that none of our users is in yet begins with a Welcome for a key package that
//! we handed out; whoever it is for may read the room from there on.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use nabe_core::mimi::MimiUri;
use nabe_signing::sha256;
use nabe_store::{LocalMessage, MimiUserWrite, MimiWrite, NewLocalMessage, ReadableRoom, Write};
use nabe_types::{LogPosition, ServerName, UnixMillis};
use nabe_wire::Encode as _;
use nabe_wire::mls::MlsMessageBody;
use nabe_wire::notify::{FanoutBatch, FanoutMessage};

use super::users::{MimiNews, is_of};
use super::{Mimi, MimiError};

impl Mimi {
    /// A hub's messages about a room of its own; `body` is what they came in. What came before is taken again without effect.
    ///
    /// # Errors
    ///
    /// [`MimiError::NotTheirs`] of another hub's room, [`MimiError::Unknown`] of one that none of our users has to do with.
    pub async fn notify(
        &self,
        from: &ServerName,
        room: &MimiUri,
        batch: &FanoutBatch,
        body: &[u8],
    ) -> Result<(), MimiError> {
        if !is_of(room, from) {
            return Err(MimiError::NotTheirs {
                provider: from.clone(),
                what: "the room",
            });
        }
        let once = sha256(body);
        let store = self.service.store();
        let was_delivered = store.was_delivered(from, room, &once).await;
        if was_delivered? {
            return Ok(());
        }
        let readers = self.welcomed(batch.messages()).await?;
        let known = store.local_room(room).await?;
        if known.is_none() && readers.is_empty() {
            return Err(MimiError::Unknown("room"));
        }
        let messages = batch.messages().iter().map(|message| NewLocalMessage {
            accepted: UnixMillis::new(message.timestamp),
            body: message.to_bytes().into(),
        });
        let write = self.delivery(room, from, messages.collect(), readers, Some(once));
        self.service.commit(write.into()).await?;
        self.tell_of_room(room).await
    }

    /// What puts messages into the log that our users read: those of a room whose hub we are, too, and those of our users that another
    /// hub has just accepted, which it does not send back. Each of `readers` may read the room from the message with this index on;
    /// `once` is the hash of what may come again. To be followed by [`Mimi::tell_of_room`].
    pub(crate) fn delivery(
        &self,
        room: &MimiUri,
        hub: &ServerName,
        messages: Vec<NewLocalMessage>,
        readers: Vec<(MimiUri, usize)>,
        once: Option<[u8; 32]>,
    ) -> Write {
        Write::Mimi(MimiWrite::User(MimiUserWrite::Deliver {
            room: room.clone(),
            hub: hub.clone(),
            messages,
            readers,
            once,
            now: self.service.now(),
        }))
    }

    /// Wakes whoever reads the room.
    pub(crate) async fn tell_of_room(&self, room: &MimiUri) -> Result<(), MimiError> {
        let known = self.service.store().local_room(room).await?;
        if let Some(known) = known {
            let (room, head) = (known.room, known.head);
            self.tell(MimiNews::Room { room, head });
        }
        Ok(())
    }

    /// The rooms that a local user may read.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn rooms_readable_by(&self, user: &MimiUri) -> Result<Vec<ReadableRoom>, MimiError> {
        let rooms = self.service.store().rooms_readable_by(user).await;
        Ok(rooms?)
    }

    /// Messages of a room after a position, ascending: those that a local user may read, at most `limit` and no more than fit into
    /// `max_bytes`, but at least one if there is one.
    ///
    /// # Errors
    ///
    /// [`MimiError::Unknown`] for a room that the user may not read.
    pub async fn messages(
        &self,
        user: &MimiUri,
        room: &MimiUri,
        after: LogPosition,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<LocalMessage>, MimiError> {
        let store = self.service.store();
        let readable = store.readable_room(user, room).await?;
        let Some(readable) = readable else {
            return Err(MimiError::Unknown("room"));
        };
        let after = after.max(readable.from.previous());
        let messages = store.local_messages(room, after, limit.min(MAX_READ), max_bytes).await;
        Ok(messages?)
    }

    /// Our users whom Welcomes among these messages are for, each with the index of the first one.
    async fn welcomed(&self, messages: &[FanoutMessage]) -> Result<Vec<(MimiUri, usize)>, MimiError> {
        let (mut users, mut seen) = (Vec::new(), BTreeSet::new());
        for (index, message) in messages.iter().enumerate() {
            let MlsMessageBody::Welcome(welcome) = &message.message.body else {
                continue;
            };
            let references = welcome.secrets.iter().map(|secrets| &*secrets.new_member);
            let references: Vec<Bytes> = references.take(MAX_WELCOMED).map(Bytes::copy_from_slice).collect();
            let issued = self.service.store().issued_key_packages(&references).await;
            for package in issued? {
                if seen.insert(package.user.clone()) {
                    users.push((package.user, index));
                }
            }
        }
        Ok(users)
    }
}

/// How long it is remembered which notifications came: longer than any hub has reason to repeat one.
pub(super) const REMEMBERED: Duration = Duration::from_hours(48);

/// The most clients of one Welcome that are looked for among ours.
pub(super) const MAX_WELCOMED: usize = 10_000;

/// The most messages that are read at once.
const MAX_READ: usize = 1000;

#[cfg(test)]
mod tests;
