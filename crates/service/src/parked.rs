//! Events that cannot be judged yet: the key of a signer cannot be had, or we are still joining their room. They are kept
//! durably and tried again; in the end a hole takes the place of one whose key never comes, so that a participant never
//! stalls. Only what a hub sends us as a participant waits here: of an LPDU the sender authenticated its request with the keys that
//! must verify it, so a hub never has to wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use nabe_core::{HoleReason, Input, Via};
use nabe_event::RawEvent;
use nabe_store::{ParkedEvent, Write};
use nabe_types::{EventId, RoomId, ServerName};

use crate::error::ServiceError;
use crate::incoming::{CheckedVerdict, first_pause};
use crate::ports::PeerError;
use crate::room::Verdict;
use crate::{Service, metric};

/// Rooms being joined at this moment.
#[derive(Default)]
pub(crate) struct Joins {
    rooms: Mutex<BTreeMap<RoomId, Joining>>,
}

/// The joins of one room.
#[derive(Default)]
struct Joining {
    guards: usize,
    /// Whom we asked to let us in.
    asked: BTreeSet<ServerName>,
}

/// While this lives, events of the room that come from the servers asked are parked instead of being rejected for an unknown
/// room.
pub(crate) struct JoinGuard {
    service: Service,
    room: RoomId,
}

impl JoinGuard {
    /// From now on events from `hub` are parked: it is about to be asked.
    pub(crate) fn ask(&self, hub: &ServerName) {
        let joins = &self.service.inner.joins;
        let mut rooms = joins.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(joining) = rooms.get_mut(&self.room) {
            joining.asked.insert(hub.clone());
        }
    }
}

impl Drop for JoinGuard {
    fn drop(&mut self) {
        let mut rooms = self
            .service
            .inner
            .joins
            .rooms
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(joining) = rooms.get_mut(&self.room) {
            joining.guards -= 1;
            if joining.guards == 0 {
                rooms.remove(&self.room);
            }
        }
    }
}

/// What became of one attempt.
enum Tried {
    /// It is in the log, or never will be: forget it.
    Settled,
    /// Try again later.
    Waiting,
}

impl Service {
    /// Announces that a local user joins a room: what the hub sends of it before our join is complete is kept. Hold the
    /// guard until the room is in the store, then call [`drain_parked`](Self::drain_parked).
    pub(crate) fn begin_join(&self, room: &RoomId) -> JoinGuard {
        let mut rooms = self.inner.joins.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.entry(room.clone()).or_default().guards += 1;
        JoinGuard {
            service: self.clone(),
            room: room.clone(),
        }
    }

    /// Whether a join of this room through this server is under way.
    pub(crate) fn is_joining(&self, room: &RoomId, hub: &ServerName) -> bool {
        self.inner
            .joins
            .rooms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(room)
            .is_some_and(|joining| joining.asked.contains(hub))
    }

    /// The writes that park these events. A room that is full keeps the oldest, which it has to begin with, and the newest, which
    /// leads back to all between: when its turn comes, what it skips is fetched from the hub. So no event is lost, and no other
    /// room has to wait for this one.
    pub(crate) async fn park(&self, events: Vec<ParkedEvent>) -> Result<Vec<Write>, ServiceError> {
        metrics::counter!(metric::EVENTS_PARKED).increment(events.len() as u64);
        let mut waiting: BTreeMap<RoomId, Vec<EventId>> = BTreeMap::new();
        let mut parking: Vec<ParkedEvent> = Vec::new();
        let mut writes = Vec::new();
        for parked in events {
            if !waiting.contains_key(&parked.room) {
                let ids = self.store().parked_ids(&parked.room).await?;
                waiting.insert(parked.room.clone(), ids);
            }
            let ids = waiting.entry(parked.room.clone()).or_default();
            if !ids.contains(&parked.event_id) {
                if ids.len() >= self.settings().limits.parked_events
                    && let Some(skipped) = self.skip_newest(&parked.room, ids)
                {
                    tracing::warn!(room = %parked.room, event_id = %skipped, "too many events of a room are parked: one is left to be fetched later");
                    parking.retain(|other| other.room != parked.room || other.event_id != skipped);
                    writes.push(Write::Unpark {
                        room: parked.room.clone(),
                        event_id: skipped,
                    });
                }
                ids.push(parked.event_id.clone());
            }
            parking.push(parked);
        }
        writes.extend(parking.into_iter().map(|parked| Write::Park { parked }));
        Ok(writes)
    }

    /// Takes the newest event off the list, that which all the others wait for excepted.
    fn skip_newest(&self, room: &RoomId, ids: &mut Vec<EventId>) -> Option<EventId> {
        let needed = self.inner.gaps.held_up_by(room);
        let newest = ids.iter().rposition(|id| Some(id) != needed.as_ref())?;
        Some(ids.remove(newest))
    }

    /// Parks an event out of a gap that has to wait for a key, and with it everything behind it. It may be one too many: without it
    /// the room would never go on.
    pub(crate) async fn park_out_of_gap(&self, parked: ParkedEvent) -> Result<(), ServiceError> {
        let ids = self.store().parked_ids(&parked.room).await?;
        if ids.contains(&parked.event_id) || ids.len() < 2 * self.settings().limits.parked_events {
            self.inner.gaps.held_up(&parked.room, parked.event_id.clone());
            metrics::counter!(metric::EVENTS_PARKED).increment(1);
            self.commit(Write::Park { parked }.into()).await?;
        }
        Ok(())
    }

    /// Tries every parked event of a room now, in the order they came, until one has to wait on.
    pub(crate) async fn drain_parked(&self, room: &RoomId) -> Result<(), ServiceError> {
        for parked in self.store().parked(room).await? {
            match self.try_parked(&parked).await? {
                Tried::Settled => self.forget_parked(&parked).await?,
                Tried::Waiting => return Ok(()),
            }
        }
        Ok(())
    }

    /// The worker: until the shutdown, looks at what is due.
    pub(crate) async fn retry_parked(self) {
        loop {
            tokio::select! {
                () = self.stopping() => return,
                () = self.clock().sleep(LOOK_EVERY) => {}
            }
            if let Err(error) = self.retry_due().await {
                tracing::error!(%error, "could not look at parked events");
            }
        }
    }

    /// One look at everything that is due. Within a room the order of arrival counts; servers wait for no other's answers.
    pub(crate) async fn retry_due(&self) -> Result<(), ServiceError> {
        let mut by_origin: BTreeMap<ServerName, Vec<ParkedEvent>> = BTreeMap::new();
        for parked in self.store().parked_due(self.now(), DUE_AT_ONCE).await? {
            by_origin.entry(parked.origin.clone()).or_default().push(parked);
        }
        stream::iter(by_origin.into_values())
            .for_each_concurrent(ORIGINS_AT_ONCE, |due| self.retry_in_order(due))
            .await;
        Ok(())
    }

    async fn retry_in_order(&self, due: Vec<ParkedEvent>) {
        for parked in due {
            if self.is_stopping() {
                return;
            }
            let (room, event_id) = (parked.room.clone(), parked.event_id.clone());
            if let Err(error) = self.retry(parked).await {
                tracing::warn!(%room, %event_id, %error, "parked event waits on");
            }
        }
    }

    async fn retry(&self, parked: ParkedEvent) -> Result<(), ServiceError> {
        match self.try_parked(&parked).await {
            Ok(Tried::Settled) => {
                self.forget_parked(&parked).await?;
                // Those behind it had to wait for it.
                self.drain_parked(&parked.room).await
            }
            Ok(Tried::Waiting) => self.postpone(parked).await,
            Err(error) => {
                self.postpone(parked).await?;
                Err(error)
            }
        }
    }

    async fn try_parked(&self, parked: &ParkedEvent) -> Result<Tried, ServiceError> {
        let is_expired = self.now() >= parked.received_at.plus(self.settings().parked_retention);
        let Some(meta) = self.room_meta(&parked.room).await? else {
            return Ok(if self.is_joining(&parked.room, &parked.origin) && !is_expired {
                Tried::Waiting
            } else {
                Tried::Settled
            });
        };
        if meta.is_hub() {
            return Ok(Tried::Settled);
        }
        let event = match RawEvent::parse(&parked.bytes, meta.rules()?) {
            Ok(event) => event,
            // A join-pending event was not looked at when it came.
            Err(reason) => {
                tracing::info!(room = %parked.room, event_id = %parked.event_id, %reason, "dropped a parked event");
                return Ok(Tried::Settled);
            }
        };
        let hub = meta.hub(self.server_name()).clone();
        let prev = event.prev_events().first().cloned();
        let mut checked = self.verify_events(vec![event], Some(&hub), true).await?;
        let Some(checked) = checked.pop() else {
            return Ok(Tried::Settled);
        };
        let input = match &checked.verdict {
            CheckedVerdict::LacksKeys { .. } if !is_expired => return Ok(Tried::Waiting),
            CheckedVerdict::LacksKeys { .. } => prev.map(|prev| Input::InvalidPdu {
                event_id: parked.event_id.clone(),
                prev,
                reason: HoleReason::KeysUnavailable,
                from: parked.origin.clone(),
            }),
            _ => checked.into_input(&meta, &parked.origin, Via::Send),
        };
        match input {
            Some(input) => self.place_parked(parked, input, is_expired).await,
            None => Ok(Tried::Settled),
        }
    }

    async fn place_parked(&self, parked: &ParkedEvent, input: Input, is_expired: bool) -> Result<Tried, ServiceError> {
        let unpark = vec![Write::Unpark {
            room: parked.room.clone(),
            event_id: parked.event_id.clone(),
        }];
        match self.try_once(&parked.room, &input, unpark).await {
            Ok(Verdict::Done(_)) => return Ok(Tried::Settled),
            Ok(Verdict::Ask(_)) => {}
            Err(error) if error.is_conflict() => return Ok(Tried::Waiting),
            Err(ServiceError::Refused(_) | ServiceError::WrongServer { .. } | ServiceError::Dropped(_)) => {
                return Ok(Tried::Settled);
            }
            Err(error) => return Err(error),
        }
        match self.transact(&parked.room, input).await {
            Ok(_) => Ok(Tried::Settled),
            Err(ServiceError::GapOpen) => Ok(Tried::Waiting),
            Err(ServiceError::Refused(_) | ServiceError::WrongServer { .. } | ServiceError::Dropped(_)) => {
                Ok(Tried::Settled)
            }
            // What the hub cannot explain for a day it never will.
            Err(
                ServiceError::BadAnswer { .. }
                | ServiceError::Proxied { .. }
                | ServiceError::PeerFailed {
                    error: PeerError::Status { .. },
                    ..
                },
            ) if is_expired => Ok(Tried::Settled),
            Err(error) => Err(error),
        }
    }

    async fn forget_parked(&self, parked: &ParkedEvent) -> Result<(), ServiceError> {
        let write = Write::Unpark {
            room: parked.room.clone(),
            event_id: parked.event_id.clone(),
        };
        self.commit(write.into()).await
    }

    async fn postpone(&self, mut parked: ParkedEvent) -> Result<(), ServiceError> {
        parked.attempts = parked.attempts.saturating_add(1);
        let pause = first_pause(parked.reason)
            .saturating_mul(1 << parked.attempts.min(10))
            .min(LONGEST_PAUSE);
        parked.next_try = self.now().plus(pause);
        self.commit(Write::Park { parked }.into()).await
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);
const DUE_AT_ONCE: usize = 100;

/// Servers whose events are tried at a time.
const ORIGINS_AT_ONCE: usize = 8;
