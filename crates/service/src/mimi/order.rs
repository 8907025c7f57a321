//! The order of a local log where another provider is the hub (D-no-echo). Two streams write it: what the hub notifies us of, which is in
//! the hub's order but lacks what came from us, and what our own users sent, which is there when its verdict is. The epoch that every
//! message within a group names puts them together.
//!
//! - What is notified waits while an update of ours has no verdict that may belong before it.
//! - What was accepted of ours waits while the log has not reached its epoch. Once something later is notified, nothing that is missing
//!   will come, and it goes in.
//!
//! Nothing waits for ever: [`MAX_WAIT`].

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use nabe_core::mimi::MimiUri;
use nabe_signing::sha256;
use nabe_store::{
    LocalOrder, MessageKind, MimiOrderWrite, MimiUserWrite, MimiWrite, NewLocalMessage, OpenForward, Write,
};
use nabe_types::{ServerName, UnixMillis};
use nabe_wire::mls::{ContentType, MlsMessage, MlsMessageBody};
use nabe_wire::notify::{FanoutMessage, FanoutParts};
use nabe_wire::{Encode as _, Kept};
use tokio::sync::{Mutex, MutexGuard, Notify};

use super::{Mimi, MimiError};

/// Where a message belongs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place {
    pub(super) epoch: u64,
    pub(super) kind: MessageKind,
}

impl Place {
    /// Of a message within a group; a Welcome has none.
    pub(super) fn of(message: &MlsMessage) -> Option<Self> {
        let epoch = match &message.body {
            MlsMessageBody::Public(message) => message.content.epoch,
            MlsMessageBody::Private(message) => message.epoch,
            MlsMessageBody::SemiPrivate(message) => message.epoch,
            _ => return None,
        };
        let kind = match message.content_type()? {
            ContentType::COMMIT => MessageKind::Commit,
            ContentType::PROPOSAL => MessageKind::Proposal,
            _ => MessageKind::Application,
        };
        Some(Self { epoch, kind })
    }

    /// The epoch that a log has reached with it.
    const fn reaches(self) -> u64 {
        match self.kind {
            MessageKind::Commit => self.epoch.saturating_add(1),
            MessageKind::Application | MessageKind::Proposal => self.epoch,
        }
    }
}

/// How the message is known when it comes again.
pub(super) fn mark_of(message: &Kept<MlsMessage>) -> [u8; 32] {
    sha256(message.as_bytes())
}

/// The message and what is stapled to it.
fn marks_of(message: &FanoutMessage) -> Vec<[u8; 32]> {
    let stapled = match &message.with {
        FanoutParts::Proposal { more_proposals } => more_proposals,
        FanoutParts::Commit { external_proposals } => external_proposals,
        FanoutParts::Application { .. } | FanoutParts::Welcome { .. } => return vec![mark_of(&message.message)],
    };
    std::iter::once(&message.message).chain(stapled).map(mark_of).collect()
}

/// All that a batch may bring into a log, by which it is asked what is there already.
pub(super) fn marks_of_all(messages: &[FanoutMessage]) -> Vec<[u8; 32]> {
    messages.iter().flat_map(marks_of).collect()
}

/// An update of ours has no verdict, and may belong before what was notified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Held;

/// What comes into a log next, in its order.
pub(super) struct Sequence {
    order: LocalOrder,
    known: BTreeSet<[u8; 32]>,
    epoch_before: Option<u64>,
    comes: Vec<NewLocalMessage>,
    readers: Vec<(MimiUri, usize)>,
    waits: Option<(NewLocalMessage, Place)>,
    ended: Vec<i64>,
}

impl Sequence {
    /// Behind what is in the log; `known` is what came already of what may come now.
    pub(super) fn new(order: LocalOrder, known: BTreeSet<[u8; 32]>) -> Self {
        Self {
            epoch_before: order.epoch,
            order,
            known,
            comes: Vec::new(),
            readers: Vec::new(),
            waits: None,
            ended: Vec::new(),
        }
    }

    /// What was notified next, with those of our users whom it lets read the room. `is_patient`: it waits for verdicts.
    pub(super) fn notified(
        &mut self,
        message: &FanoutMessage,
        readers: impl IntoIterator<Item = MimiUri>,
        is_patient: bool,
    ) -> Result<(), Held> {
        let Some(message) = self.news_in(message) else {
            return Ok(());
        };
        match Place::of(&message.message) {
            Some(place) => {
                if is_patient && self.is_held(place) {
                    return Err(Held);
                }
                // Whatever is missing before it will not come.
                self.release(|epoch| epoch < place.epoch);
                self.put(&message, Some(place));
            }
            None => {
                // Whoever is welcomed would read the commit that let them in, were it behind their Welcome.
                if is_patient && self.has_open_commit() {
                    return Err(Held);
                }
                if self.order.readers.is_empty() {
                    // Nobody has read the room for a while, and who comes back knows of no epoch that is missing.
                    self.release(|_| true);
                    self.order.epoch = None;
                }
                self.put(&message, None);
            }
        }
        let index = self.comes.len() - 1;
        for reader in readers {
            self.order.readers.insert(reader.clone());
            self.readers.push((reader, index));
        }
        self.release_reached();
        Ok(())
    }

    /// What our own user sent and the hub accepted; `is_joining`: it is their first.
    pub(super) fn accepted(&mut self, message: &FanoutMessage, is_joining: bool) {
        let (Some(message), Some(place)) = (self.news_in(message), Place::of(&message.message)) else {
            return;
        };
        if is_joining && self.order.readers.is_empty() {
            self.release(|_| true);
            self.order.epoch = None;
        }
        let is_ahead = self.order.epoch.is_some_and(|reached| place.epoch > reached);
        let bytes: usize = self.order.waiting.iter().map(|waiting| waiting.body.len()).sum();
        if is_ahead && self.order.waiting.len() < MAX_WAITING && bytes < MAX_WAITING_BYTES {
            self.waits = Some((new_message(&message), place));
            return;
        }
        self.release(|epoch| epoch < place.epoch);
        self.put(&message, Some(place));
        self.release_reached();
    }

    /// Nothing waits any longer.
    pub(super) fn give_up_waiting(&mut self) {
        self.release(|_| true);
    }

    /// The message without what came before; `None` if that is all of it.
    fn news_in(&mut self, message: &FanoutMessage) -> Option<FanoutMessage> {
        let mut fresh = |message: &&Kept<MlsMessage>| self.known.insert(mark_of(message));
        let is_fresh = fresh(&&message.message);
        let (stapled, is_proposal) = match &message.with {
            FanoutParts::Proposal { more_proposals } => (more_proposals, true),
            FanoutParts::Commit { external_proposals } => (external_proposals, false),
            FanoutParts::Application { .. } | FanoutParts::Welcome { .. } => {
                return is_fresh.then(|| message.clone());
            }
        };
        let left: Vec<_> = stapled.iter().filter(fresh).cloned().collect();
        if is_fresh && left.len() == stapled.len() {
            return Some(message.clone());
        }
        if is_fresh {
            let with = match is_proposal {
                true => FanoutParts::Proposal { more_proposals: left },
                false => FanoutParts::Commit {
                    external_proposals: left,
                },
            };
            return Some(FanoutMessage {
                with,
                ..message.clone()
            });
        }
        let mut left = left.into_iter();
        Some(FanoutMessage {
            timestamp: message.timestamp,
            message: left.next()?,
            with: FanoutParts::Proposal {
                more_proposals: left.collect(),
            },
        })
    }

    /// Whether an update of ours that has no verdict may belong before this place.
    fn is_held(&self, place: Place) -> bool {
        self.open().any(|open| match open.kind {
            MessageKind::Application => false,
            MessageKind::Commit => place.epoch > open.epoch,
            MessageKind::Proposal => {
                place.epoch > open.epoch || (place.epoch == open.epoch && place.kind == MessageKind::Commit)
            }
        })
    }

    /// Whether a Welcome may be that of a commit of ours, which then belongs before it.
    fn has_open_commit(&self) -> bool {
        !self.order.readers.is_empty() && self.open().any(|open| open.kind == MessageKind::Commit)
    }

    /// Our updates without a verdict that are not of an epoch which is over.
    fn open(&self) -> impl Iterator<Item = &OpenForward> {
        let is_over = |open: &OpenForward| self.order.epoch.is_some_and(|reached| open.epoch < reached);
        self.order.open.iter().filter(move |open| !is_over(open))
    }

    fn put(&mut self, message: &FanoutMessage, place: Option<Place>) {
        self.comes.push(new_message(message));
        if let Some(place) = place {
            self.reach(place);
        }
    }

    fn reach(&mut self, place: Place) {
        let reached = place.reaches();
        self.order.epoch = Some(self.order.epoch.map_or(reached, |before| before.max(reached)));
    }

    fn release_reached(&mut self) {
        while let Some(reached) = self.order.epoch
            && self.order.waiting.iter().any(|waiting| waiting.epoch <= reached)
        {
            self.release(|epoch| epoch <= reached);
        }
    }

    /// Puts what waits of these epochs into the log: epoch by epoch, its commit last.
    fn release(&mut self, is_wanted: impl Fn(u64) -> bool) {
        let waiting = std::mem::take(&mut self.order.waiting);
        let (mut released, left): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|it| is_wanted(it.epoch));
        self.order.waiting = left;
        released.sort_by_key(|it| (it.epoch, it.kind == MessageKind::Commit, it.accepted, it.number));
        for waiting in released {
            self.ended.push(waiting.number);
            self.comes.push(NewLocalMessage {
                accepted: waiting.accepted,
                body: waiting.body,
                // They were remembered when it began to wait.
                marks: Vec::new(),
                withheld_from: Vec::new(),
            });
            self.reach(Place {
                epoch: waiting.epoch,
                kind: waiting.kind,
            });
        }
    }

    /// What makes it durable, in one batch; `once` is the hash of what it came in, if that may come again.
    pub(super) fn writes(
        self,
        room: &MimiUri,
        hub: &ServerName,
        once: Option<[u8; 32]>,
        now: UnixMillis,
    ) -> Vec<Write> {
        let mut writes = Vec::new();
        if !self.comes.is_empty() || once.is_some() {
            writes.push(MimiUserWrite::Deliver {
                room: room.clone(),
                hub: hub.clone(),
                messages: self.comes,
                readers: self.readers,
                leavers: Vec::new(),
                once,
                now,
            });
        }
        if !self.ended.is_empty() {
            let numbers = self.ended;
            writes.push(MimiUserWrite::Order(MimiOrderWrite::EndWaits { numbers }));
        }
        if let Some((message, place)) = self.waits {
            writes.push(MimiUserWrite::Order(MimiOrderWrite::Wait {
                room: room.clone(),
                hub: hub.clone(),
                message,
                kind: place.kind,
                epoch: place.epoch,
                now,
            }));
        }
        if self.order.epoch != self.epoch_before {
            let (room, epoch) = (room.clone(), self.order.epoch);
            writes.push(MimiUserWrite::Order(MimiOrderWrite::SetEpoch { room, epoch }));
        }
        writes
            .into_iter()
            .map(|write| Write::Mimi(MimiWrite::User(write)))
            .collect()
    }
}

fn new_message(message: &FanoutMessage) -> NewLocalMessage {
    NewLocalMessage {
        accepted: UnixMillis::new(message.timestamp),
        body: Bytes::from(message.to_bytes()),
        marks: marks_of(message),
        withheld_from: Vec::new(),
    }
}

/// Who writes a followed room's log writes it alone.
pub(crate) struct Turns {
    turns: Vec<Mutex<()>>,
    /// A request of ours has a verdict, or will have none.
    pub(super) settled: Notify,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            turns: (0..=u8::MAX).map(|_| Mutex::default()).collect(),
            settled: Notify::new(),
        }
    }
}

impl Turns {
    /// Waits for the turn to write a room's log. Some rooms share one.
    pub(super) async fn of(&self, room: &MimiUri) -> MutexGuard<'_, ()> {
        let [first, ..] = sha256(room.to_string().as_bytes());
        self.turns[usize::from(first)].lock().await
    }
}

impl Mimi {
    /// Puts into the logs what has waited too long for what is missing before it.
    pub(crate) async fn end_long_waits(&self) {
        let before = self.service.now().minus(MAX_WAIT);
        let rooms = match self.service.store().rooms_waiting_since(before).await {
            Ok(rooms) => rooms,
            Err(error) => return tracing::warn!(%error, "what waits for an epoch cannot be read"),
        };
        for room in rooms {
            tracing::info!(%room, "what should be in the log before messages of ours has not come");
            if let Err(error) = self.end_waits_of(&room).await {
                tracing::warn!(%room, %error, "what waits for an epoch cannot be put into the log");
            }
        }
    }

    async fn end_waits_of(&self, room: &MimiUri) -> Result<(), MimiError> {
        {
            let _turn = self.state.turns.of(room).await;
            let store = self.service.store();
            let Some(known) = store.local_room(room).await? else {
                return Ok(());
            };
            let mut sequence = Sequence::new(store.local_order(room).await?, BTreeSet::new());
            sequence.give_up_waiting();
            let writes = sequence.writes(room, &known.hub, None, self.service.now());
            self.service.commit(writes.into_iter().collect()).await?;
        }
        self.tell_of_room(room).await
    }
}

/// How long anything waits for what may belong before it. Longer than a hub takes for two attempts at a large commit.
pub(super) const MAX_WAIT: Duration = Duration::from_mins(2);
/// The most messages of our users that wait in one room.
const MAX_WAITING: usize = 1000;
/// Bytes of them, but for the last one.
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests;
