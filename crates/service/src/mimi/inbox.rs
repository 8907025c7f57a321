//! What hubs notify us of (MIMI #fanout-messages-and-room-events), and the log from which clients of our users read it. Of the rooms
//! whose hub we are, what is for our own users goes into the same log. How what our users send gets into it is in `forward` and `order`.
//!
//! A hub is believed about its own rooms alone. A room that none of our users is in yet begins with a Welcome for a key package that
//! we handed out to that hub for that room; whoever it is for may read the room from there on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use nabe_core::mimi::MimiUri;
use nabe_signing::sha256;
use nabe_store::{LocalMessage, MimiUserWrite, MimiWrite, NewLocalMessage, ReadableRoom, Write};
use nabe_types::{LogPosition, ServerName, UnixMillis};
use nabe_wire::directory::Endpoint;
use nabe_wire::mls::MlsMessageBody;
use nabe_wire::notify::{FanoutBatch, FanoutMessage};

use super::order::{Held, MAX_WAIT, Sequence, marks_of_all};
use super::users::{MimiNews, is_of};
use super::{Mimi, MimiError};

impl Mimi {
    /// A hub's messages about a room of its own; `body` is what they came in. What came before is taken again without effect.
    ///
    /// # Errors
    ///
    /// [`MimiError::NotTheirs`] of another hub's room, [`MimiError::Unknown`] of one that none of our users has to do with.
    /// [`MimiError::LimitExceeded`] of a hub that asks too often or has had us keep more than it may, [`MimiError::NotYet`] while we do
    /// not know what became of an update of ours that may belong before it: the same later.
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
        // What came before is taken again however often it comes: one look-up, and nothing more.
        self.limit(from, Endpoint::Notify)?;
        let notified = Notified {
            hub: from,
            room,
            messages: batch.messages(),
            welcomed: self.welcomed(from, room, batch.messages()).await?,
            marks: OnceLock::new(),
            once,
            bytes: body.len(),
        };
        let clock = self.service.clock();
        let (begun, patience) = (self.service.now(), clock.sleep(PATIENCE));
        tokio::pin!(patience);
        loop {
            let settled = self.state.turns.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            let is_patient = !self.state.held.is_over(room, self.service.now());
            match self.take_notified(&notified, is_patient).await? {
                Ok(()) => {
                    self.state.held.end(room);
                    return self.tell_of_room(room).await;
                }
                Err(Held) => {
                    self.state.held.begin(room, begun);
                    // The hub is there, so it can say what became of what we sent.
                    self.urge_forwards(room);
                }
            }
            tokio::select! {
                () = settled => {}
                () = &mut patience => return Err(MimiError::NotYet { retry_after: HELD }),
            }
        }
    }

    /// Puts what was notified into the log, if nothing has to come before it. Nothing is looked up of a room that is not followed.
    async fn take_notified(&self, notified: &Notified<'_>, is_patient: bool) -> Result<Result<(), Held>, MimiError> {
        let Notified { hub, room, .. } = *notified;
        let _turn = self.state.turns.of(room).await;
        let store = self.service.store();
        let order = store.local_order(room).await?;
        let has_joiners = order.open.iter().any(|open| open.joins_from.is_some());
        if !order.has_log && !has_joiners && notified.welcomed.is_empty() {
            return Err(MimiError::Unknown("room"));
        }
        let known = store.delivered_messages(room, notified.marks()).await?;
        let mut sequence = Sequence::new(order, known);
        for (index, message) in notified.messages.iter().enumerate() {
            let readers = notified.welcomed.iter().filter(|(_, of)| *of == index);
            let readers = readers.map(|(reader, _)| reader.clone());
            if sequence.notified(message, readers, is_patient).is_err() {
                return Ok(Err(Held));
            }
        }
        self.limit_notified(hub, notified.bytes)?;
        let writes = sequence.writes(room, hub, Some(notified.once), self.service.now());
        self.service.commit(writes.into_iter().collect()).await?;
        Ok(Ok(()))
    }

    /// What puts messages of a room whose hub we are into the log that our users read. Each of `readers` may read the room from the message
    /// with this index on, each of `leavers` up to it. To be followed by [`Mimi::tell_of_room`].
    pub(crate) fn delivery(
        &self,
        room: &MimiUri,
        messages: Vec<NewLocalMessage>,
        readers: Vec<(MimiUri, usize)>,
        leavers: Vec<(MimiUri, usize)>,
    ) -> Write {
        Write::Mimi(MimiWrite::User(MimiUserWrite::Deliver {
            room: room.clone(),
            hub: self.domain().clone(),
            messages,
            readers,
            leavers,
            once: None,
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

    /// The rooms that a local user may read, or could until they left.
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
        let messages = store
            .messages_readable_by(user, room, after, limit.min(MAX_READ), max_bytes)
            .await;
        Ok(messages?)
    }

    /// Our users whom Welcomes among these messages are for, each with the index of the first one; without those to whom the hub has opened
    /// as many rooms as it may.
    async fn welcomed(
        &self,
        hub: &ServerName,
        room: &MimiUri,
        messages: &[FanoutMessage],
    ) -> Result<Vec<(MimiUri, usize)>, MimiError> {
        let (mut users, mut seen) = (Vec::new(), BTreeSet::new());
        let mut left = MAX_WELCOMED;
        for (index, message) in messages.iter().enumerate() {
            let MlsMessageBody::Welcome(welcome) = &message.message.body else {
                continue;
            };
            let references = welcome.secrets.iter().map(|secrets| &*secrets.new_member);
            let references = references.filter(|reference| HASH_LENGTHS.contains(&reference.len()));
            let references: Vec<Bytes> = references.take(left).map(Bytes::copy_from_slice).collect();
            left -= references.len();
            let issued = self.service.store().issued_key_packages(&references, hub, room).await;
            for package in issued? {
                if seen.insert(package.user.clone()) && self.may_open(hub, room, &package.user).await? {
                    users.push((package.user, index));
                }
            }
        }
        Ok(users)
    }

    async fn may_open(&self, hub: &ServerName, room: &MimiUri, user: &MimiUri) -> Result<bool, MimiError> {
        let readable = self.service.store().rooms_readable_by(user).await?;
        let others = readable.iter().map(|readable| &readable.room);
        let others = others.filter(|of| of.hub == *hub && of.room != *room).count();
        if others >= MAX_ROOMS_OF_HUB {
            tracing::warn!(%hub, %room, %user, "a hub opens more rooms to a user than it may");
        }
        Ok(others < MAX_ROOMS_OF_HUB)
    }
}

/// Messages that a hub sends in one request.
struct Notified<'a> {
    hub: &'a ServerName,
    room: &'a MimiUri,
    messages: &'a [FanoutMessage],
    /// [`Mimi::welcomed`].
    welcomed: Vec<(MimiUri, usize)>,
    marks: OnceLock<Vec<[u8; 32]>>,
    /// The hash of the request.
    once: [u8; 32],
    /// Bytes of the request.
    bytes: usize,
}

impl Notified<'_> {
    fn marks(&self) -> &[[u8; 32]] {
        self.marks.get_or_init(|| marks_of_all(self.messages))
    }
}

/// Since when what was notified waits for verdicts, by room.
#[derive(Default)]
pub(crate) struct HeldRooms(Mutex<BTreeMap<MimiUri, UnixMillis>>);

impl HeldRooms {
    fn begin(&self, room: &MimiUri, now: UnixMillis) {
        self.lock().entry(room.clone()).or_insert(now);
    }

    fn end(&self, room: &MimiUri) {
        self.lock().remove(room);
    }

    /// Whether it has waited long enough.
    fn is_over(&self, room: &MimiUri, now: UnixMillis) -> bool {
        self.lock().get(room).is_some_and(|since| now >= since.plus(MAX_WAIT))
    }

    /// Forgets rooms of which nobody has asked again.
    pub(super) fn forget(&self, now: UnixMillis) {
        self.lock().retain(|_, since| now < since.plus(MAX_WAIT * 10));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<MimiUri, UnixMillis>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a hub waits for our answer while a verdict is missing. It says most of them within less.
const PATIENCE: Duration = Duration::from_secs(5);

/// When it may come again after that.
const HELD: Duration = Duration::from_secs(1);

/// How long it is remembered which bodies came. What is in them is known longer.
pub(super) const REMEMBERED: Duration = Duration::from_hours(48);

/// The most clients of the Welcomes in one request that are looked for among ours.
pub(super) const MAX_WELCOMED: usize = 10_000;

/// As long is a reference of a key package, in bytes: a hash of one of MLS's suites.
pub(super) const HASH_LENGTHS: [usize; 3] = [32, 48, 64];

/// The most rooms of one hub that one user reads or could read: a hub opens them by itself, as soon as it has a key package.
const MAX_ROOMS_OF_HUB: usize = 1000;

/// The most messages that are read at once.
const MAX_READ: usize = 1000;

#[cfg(test)]
mod tests;
