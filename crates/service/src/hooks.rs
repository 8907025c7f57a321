//! How the parts of the service wake each other: delivery after an append, streams and whoever waits for an echo, and
//! everybody at shutdown. Nothing here is durable; each listener finds its work in the store when it is woken or started.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use nabe_types::{EventId, LogPosition, RoomId, ServerName, UserId};
use tokio::sync::{Notify, broadcast, oneshot, watch};

use crate::Service;
use crate::failed_pdu::FailedPdu;

/// Something local users may want to see has changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Appended {
    /// A room's log has grown.
    Room {
        /// The room.
        room: RoomId,
        /// Its newest position.
        position: LogPosition,
    },
    /// Something arrived in the inbox of a local user.
    Inbox {
        /// The user.
        user: UserId,
    },
}

/// What became of an LPDU a local user sent to another server's hub.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum LpduFate {
    /// The hub's echo arrived and is in the log.
    Appended {
        /// The ID of the PDU the hub made.
        event_id: EventId,
        /// Its place in our log.
        position: LogPosition,
    },
    /// The hub refused it.
    Rejected(FailedPdu),
}

/// Why delivery was woken.
#[derive(Debug, Default)]
pub(crate) struct Woken {
    /// There is, or may be, something for these.
    pub(crate) owed: BTreeSet<ServerName>,
    /// These sent us something, so they are up.
    pub(crate) heard: BTreeSet<ServerName>,
}

/// Wake-up channels.
pub(crate) struct Hooks {
    appended: broadcast::Sender<Appended>,
    waiting: Mutex<BTreeMap<EventId, Vec<oneshot::Sender<LpduFate>>>>,
    woken: Mutex<Woken>,
    wake: Notify,
    stop: watch::Sender<bool>,
}

impl Hooks {
    pub(crate) fn new() -> Self {
        Self {
            appended: broadcast::Sender::new(LAGGING),
            waiting: Mutex::default(),
            woken: Mutex::default(),
            wake: Notify::new(),
            stop: watch::Sender::new(false),
        }
    }

    /// Tells every worker and every stream to end.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    fn wake_with(&self, add: impl FnOnce(&mut Woken)) {
        add(&mut self.woken.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
    }
}

impl Service {
    /// Every change from now on. A receiver that lags reads the store from where it was: it loses wake-ups, not data.
    #[must_use]
    pub fn appended(&self) -> broadcast::Receiver<Appended> {
        self.inner.hooks.appended.subscribe()
    }

    /// Wakes the streams: the room's log now ends at `position`.
    pub(crate) fn notify_appended(&self, room: &RoomId, position: LogPosition) {
        // Fails only when nobody listens.
        let _ = self.inner.hooks.appended.send(Appended::Room {
            room: room.clone(),
            position,
        });
    }

    /// Wakes the streams of a local user: the inbox has grown.
    pub(crate) fn notify_inbox(&self, user: &UserId) {
        let _ = self.inner.hooks.appended.send(Appended::Inbox { user: user.clone() });
    }

    /// Waits for the fate of an LPDU of ours. Register before it can be sent; drop the receiver to stop waiting.
    pub(crate) fn wait_for_lpdu(&self, lpdu_id: EventId) -> oneshot::Receiver<LpduFate> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.inner.hooks.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Those who gave up are swept out here, so the map is never larger than the number of open requests.
        waiting.retain(|_, senders| {
            senders.retain(|sender| !sender.is_closed());
            !senders.is_empty()
        });
        waiting.entry(lpdu_id).or_default().push(sender);
        receiver
    }

    /// Tells those who wait for this LPDU what became of it.
    pub(crate) fn settle_lpdu(&self, lpdu_id: &EventId, fate: &LpduFate) {
        let mut waiting = self.inner.hooks.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for sender in waiting.remove(lpdu_id).into_iter().flatten() {
            let _ = sender.send(fate.clone());
        }
    }

    /// Tells delivery that there is, or may be, something for these destinations. Call it after the commit.
    pub(crate) fn wake_delivery(&self, destinations: impl IntoIterator<Item = ServerName>) {
        let mut destinations = destinations.into_iter().peekable();
        if destinations.peek().is_some() {
            self.inner.hooks.wake_with(|woken| woken.owed.extend(destinations));
        }
    }

    /// Tells delivery that a server is up: it has just sent an authenticated request.
    pub(crate) fn heard_from(&self, origin: &ServerName) {
        self.inner.hooks.wake_with(|woken| {
            woken.heard.insert(origin.clone());
        });
    }

    /// Why delivery was woken since the last call. For one caller, the delivery worker.
    pub(crate) async fn woken_destinations(&self) -> Woken {
        loop {
            let woken = std::mem::take(&mut *self.inner.hooks.woken.lock().unwrap_or_else(PoisonError::into_inner));
            if !woken.owed.is_empty() || !woken.heard.is_empty() {
                return woken;
            }
            self.inner.hooks.wake.notified().await;
        }
    }

    /// Completes when [`Service::shutdown`] was called: workers and streams `select!` on it.
    pub(crate) async fn stopping(&self) {
        let mut stop = self.inner.hooks.stop.subscribe();
        // Fails only when the sender is gone, and it lives as long as `self`.
        let _ = stop.wait_for(|&stop| stop).await;
    }

    /// Whether [`Service::shutdown`] was called.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.inner.hooks.stop.borrow()
    }
}

/// How many wake-ups a slow stream can fall behind before it has to look at everything.
const LAGGING: usize = 4096;
