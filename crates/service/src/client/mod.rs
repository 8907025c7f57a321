//! What the local users of this server can do: the use cases behind the client API, which no draft specifies.
//!
//! Every method takes the user who asks, already authenticated ([`Service::authenticate_user`], [`Service::act_as`]).
//! In a room whose hub we are, a user's event is decided and stored at once. In any other room it goes to the durable outbox
//! and the answer waits a moment for the hub's echo.

mod accounts;
mod create_room;
mod delivery_status;
mod devices;
mod group;
mod membership;
mod read;
mod readers;
mod send_event;
pub(crate) mod signals;
pub(crate) mod stream;
mod to_device;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use nabe_event::Pdu;
use nabe_store::{IdempotencyKey, StoreError};
use nabe_types::{EventId, LogPosition, UnixMillis, UserId};
use tokio::sync::OwnedMutexGuard;

pub use accounts::{AccessToken, Caller};
pub use create_room::{CreatedRoom, NewRoom};
pub use delivery_status::FollowerStatus;
pub use devices::ClaimedKeys;
pub use group::NewestCommit;
pub use membership::Left;
pub use read::{Direction, HistoryPage, Invitation, Member, RoomOverview};
pub use send_event::{NewEvent, Sent, SentStatus};
pub use stream::{EventStream, STREAM_START, StreamBody, StreamItem};
pub use to_device::ToDeviceMessage;

use crate::{Service, ServiceError};

/// An event as a local user sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientEvent {
    /// Its place in this server's log of the room; `None` for state from before our log began.
    pub position: Option<LogPosition>,
    /// The event.
    pub pdu: Pdu,
}

impl ClientEvent {
    /// The event's ID.
    #[must_use]
    pub fn event_id(&self) -> &EventId {
        self.pdu.event_id()
    }
}

/// What the client side keeps in memory.
#[derive(Default)]
pub(crate) struct ClientState {
    pub(crate) signals: signals::Signals,
    readers: readers::Readers,
    /// Requests with an idempotency key that are in progress.
    in_progress: Mutex<BTreeMap<IdempotencyKey, Arc<tokio::sync::Mutex<()>>>>,
    last_timestamp: Mutex<UnixMillis>,
}

impl Service {
    /// The time for an event of ours: now, but never twice the same. Two equal LPDUs of one millisecond would be one LPDU to the
    /// hub, and a user who says something twice means it twice.
    pub(crate) fn authoring_time(&self) -> UnixMillis {
        let mut last = self
            .inner
            .client
            .last_timestamp
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last = UnixMillis(self.now().as_u64().max(last.as_u64().saturating_add(1)));
        *last
    }

    /// Waits until no other request with this key is in progress.
    async fn lock_key(&self, key: &IdempotencyKey) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self
                .inner
                .client
                .in_progress
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(key.clone()).or_default())
        };
        lock.lock_owned().await
    }

    /// Feeds the streams' ears from the service's wake-ups, until the shutdown.
    pub(crate) async fn wake_streams(self) {
        let mut appended = self.appended();
        let signals = &self.inner.client.signals;
        loop {
            tokio::select! {
                () = self.stopping() => return signals.tell_all(),
                appended = appended.recv() => match appended {
                    Ok(crate::Appended::Room { room, .. }) => signals.tell(&signals::Changed::Room(room)),
                    Ok(crate::Appended::Inbox { user }) => signals.tell(&signals::Changed::User(user)),
                    // Some were lost: let everyone look everywhere.
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => signals.tell_all(),
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                },
            }
        }
    }
}

/// The key under which a client's request is remembered.
fn idempotency_key(user: &UserId, endpoint: &str, key: &str) -> IdempotencyKey {
    IdempotencyKey {
        scope: format!("client:{user}"),
        endpoint: endpoint.to_owned(),
        txn_id: key.to_owned(),
    }
}

/// A full outbox is the destination's fault, not the database's.
fn full_outbox(error: ServiceError) -> ServiceError {
    match error {
        ServiceError::Store(cause) => match &*cause {
            StoreError::Full { destination } => ServiceError::OutboxFull {
                destination: destination.clone(),
            },
            _ => ServiceError::Store(cause),
        },
        other => other,
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
