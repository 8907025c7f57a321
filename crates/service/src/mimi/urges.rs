//! How often a hub that is heard of cuts short the pauses between what it is sent again (D-no-echo). Pure bookkeeping: no task, no store, no
//! clock. Once it does so at once; while it goes on giving no verdict, only after pauses that grow as all others do. A time that it named
//! itself is not cut short.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nabe_core::mimi::MimiUri;
use nabe_types::UnixMillis;

/// By room: whose requests are to be sent again at once, and whose not yet.
#[derive(Debug, Default)]
pub(super) struct Urges {
    due: BTreeSet<MimiUri>,
    past: BTreeMap<MimiUri, Urged>,
}

#[derive(Clone, Copy, Debug)]
struct Urged {
    count: u32,
    not_before: UnixMillis,
}

impl Urges {
    /// The room's hub was heard: whether its requests are sent again now. `pause` is how long it takes until the next time at least, after
    /// so many.
    pub(super) fn urge(&mut self, room: &MimiUri, now: UnixMillis, pause: impl Fn(u32) -> Duration) -> bool {
        let count = match self.past.get(room) {
            Some(urged) if now < urged.not_before => return false,
            Some(urged) => urged.count.saturating_add(1),
            None => 1,
        };
        let not_before = now.plus(pause(count));
        self.past.insert(room.clone(), Urged { count, not_before });
        self.due.insert(room.clone())
    }

    /// The hub named the time itself.
    pub(super) fn put_off(&mut self, room: &MimiUri, until: UnixMillis) {
        let urged = self.past.entry(room.clone()).or_insert(Urged {
            count: 0,
            not_before: until,
        });
        urged.not_before = urged.not_before.max(until);
    }

    /// There was a verdict.
    pub(super) fn end(&mut self, room: &MimiUri) {
        self.past.remove(room);
    }

    /// Rooms whose requests are to be sent again.
    pub(super) fn take(&mut self) -> BTreeSet<MimiUri> {
        std::mem::take(&mut self.due)
    }

    /// Forgets rooms whose hubs were not heard for a while.
    pub(super) fn forget(&mut self, now: UnixMillis) {
        self.past.retain(|_, urged| now < urged.not_before.plus(REMEMBERED));
    }
}

/// How long after the last pause a room's next one is longer still. Longer than the longest.
const REMEMBERED: Duration = Duration::from_mins(10);
