//! Open connections by destination, and how many requests may use them at once. Everything here is bounded:
//! connections in all and by destination, their age and idleness, requests in progress and waiting.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nabe_types::{ServerName, UnixMillis};
use tokio::sync::Semaphore;

use crate::connect::Connection;

/// The bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolLimits {
    /// Requests in progress to one destination.
    pub(crate) max_in_flight: usize,
    /// Requests that wait to be in progress to one destination.
    pub(crate) max_waiting: usize,
    /// Idle connections kept to one destination.
    pub(crate) max_idle_per_destination: usize,
    /// Connections kept in all.
    pub(crate) max_connections: usize,
    /// A connection unused for this long is closed.
    pub(crate) idle_timeout: Duration,
    /// A connection older than this takes no new request, so that a peer that moves is found again.
    pub(crate) max_age: Duration,
}

pub(crate) struct Pool {
    limits: PoolLimits,
    slots: Mutex<BTreeMap<ServerName, Slot>>,
}

struct Slot {
    gate: Arc<Gate>,
    /// HTTP/2: one, shared. HTTP/1.1: the idle ones, most recently used last.
    connections: Vec<Pooled>,
}

/// A connection and what the pool knows about it.
#[derive(Debug)]
pub(crate) struct Pooled {
    pub(crate) connection: Connection,
    opened: UnixMillis,
    used: UnixMillis,
}

impl Pooled {
    pub(crate) const fn new(connection: Connection, now: UnixMillis) -> Self {
        Self {
            connection,
            opened: now,
            used: now,
        }
    }
}

/// Who may send to a destination.
pub(crate) struct Gate {
    /// In progress or waiting; nobody waits for this one.
    pub(crate) admitted: Semaphore,
    pub(crate) in_flight: Semaphore,
    /// Held while discovering and connecting, so that a crowd of requests opens one HTTP/2 connection.
    pub(crate) connecting: tokio::sync::Mutex<()>,
}

impl Pool {
    pub(crate) const fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            slots: Mutex::new(BTreeMap::new()),
        }
    }

    /// The gate of a destination. Its slot lives as long as somebody holds this.
    pub(crate) fn gate(&self, destination: &ServerName, now: UnixMillis) -> Arc<Gate> {
        let mut slots = self.lock();
        if let Some(slot) = slots.get(destination) {
            return Arc::clone(&slot.gate);
        }
        if slots.len() >= self.limits.max_connections {
            self.drop_stale(&mut slots, now);
        }
        let gate = Arc::new(Gate {
            admitted: Semaphore::new(self.limits.max_in_flight + self.limits.max_waiting),
            in_flight: Semaphore::new(self.limits.max_in_flight),
            connecting: tokio::sync::Mutex::new(()),
        });
        slots.insert(
            destination.clone(),
            Slot {
                gate: Arc::clone(&gate),
                connections: Vec::new(),
            },
        );
        gate
    }

    /// A usable connection, the most recently used one. A shared one also stays in the pool.
    pub(crate) fn take(&self, destination: &ServerName, now: UnixMillis) -> Option<Pooled> {
        let mut slots = self.lock();
        let connections = &mut slots.get_mut(destination)?.connections;
        connections.retain(|pooled| self.is_usable(pooled, now));
        let last = connections.last_mut()?;
        match last.connection.share() {
            Some(connection) => {
                last.used = now;
                Some(Pooled {
                    connection,
                    opened: last.opened,
                    used: now,
                })
            }
            None => connections.pop(),
        }
    }

    /// Keeps a connection for later requests, unless it is closed or too many are kept.
    pub(crate) fn keep(&self, destination: &ServerName, mut pooled: Pooled, now: UnixMillis) {
        pooled.used = now;
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(destination) else {
            return;
        };
        if !self.is_usable(&pooled, now) || slot.connections.len() >= self.limits.max_idle_per_destination {
            return;
        }
        slot.connections.push(pooled);
        let total: usize = slots.values().map(|slot| slot.connections.len()).sum();
        if total > self.limits.max_connections {
            drop_least_recently_used(&mut slots);
        }
    }

    /// Forgets the connections to a destination. Requests in progress on them go on.
    pub(crate) fn discard(&self, destination: &ServerName) {
        if let Some(slot) = self.lock().get_mut(destination) {
            slot.connections.clear();
        }
    }

    /// Closes what is idle for too long and forgets destinations that nobody uses.
    pub(crate) fn sweep(&self, now: UnixMillis) {
        self.drop_stale(&mut self.lock(), now);
    }

    pub(crate) const fn idle_timeout(&self) -> Duration {
        self.limits.idle_timeout
    }

    fn drop_stale(&self, slots: &mut BTreeMap<ServerName, Slot>, now: UnixMillis) {
        slots.retain(|_, slot| {
            slot.connections.retain(|pooled| self.is_usable(pooled, now));
            !slot.connections.is_empty() || Arc::strong_count(&slot.gate) > 1
        });
    }

    fn is_usable(&self, pooled: &Pooled, now: UnixMillis) -> bool {
        pooled.connection.is_open()
            && now.saturating_since(pooled.used) < self.limits.idle_timeout
            && now.saturating_since(pooled.opened) < self.limits.max_age
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServerName, Slot>> {
        // No code that holds the lock can leave the map half changed.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn drop_least_recently_used(slots: &mut BTreeMap<ServerName, Slot>) {
    let oldest = slots
        .values_mut()
        .filter(|slot| !slot.connections.is_empty())
        .min_by_key(|slot| slot.connections.iter().map(|pooled| pooled.used).min());
    if let Some(slot) = oldest {
        let index = slot
            .connections
            .iter()
            .zip(0..)
            .min_by_key(|(pooled, _)| pooled.used)
            .map(|(_, index)| index);
        index.map(|index: usize| slot.connections.remove(index));
    }
}
