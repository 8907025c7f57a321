//! Gaps in a participant's log that its hub could not explain when asked (LM #int-receiving-events): how long it is left in peace,
//! and which event on the way holds up the rest. In memory only: after a restart the hub is simply asked once more.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nabe_types::{EventId, RoomId, UnixMillis};

use crate::error::ServiceError;

/// The rooms with such a gap.
#[derive(Default)]
pub(crate) struct Gaps {
    rooms: Mutex<BTreeMap<RoomId, Gap>>,
}

/// What is known of one room's.
#[derive(Default)]
struct Gap {
    failures: u32,
    /// The last failure, and when to ask again; the same failure is the answer until then.
    failed: Option<(ServiceError, UnixMillis)>,
    held_up_by: Option<EventId>,
}

impl Gaps {
    /// Whether the hub may be asked about this room now.
    ///
    /// # Errors
    ///
    /// With what asking failed the last time, if that was too short a while ago.
    pub(crate) fn may_ask(&self, room: &RoomId, now: UnixMillis) -> Result<(), ServiceError> {
        match self.open().get(room).and_then(|gap| gap.failed.as_ref()) {
            Some((error, next_try)) if now < *next_try => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// The hub gave no answer: each time in a row it is left in peace for twice as long.
    pub(crate) fn failed(&self, room: &RoomId, error: ServiceError, now: UnixMillis) {
        let mut rooms = self.open();
        let gap = rooms.entry(room.clone()).or_default();
        let pause = FIRST_PAUSE.saturating_mul(1 << gap.failures.min(16)).min(LONGEST_PAUSE);
        gap.failures = gap.failures.saturating_add(1);
        gap.failed = Some((error, now.plus(pause)));
    }

    /// The hub answered, and this event of the answer has to wait for a key.
    pub(crate) fn held_up(&self, room: &RoomId, event: EventId) {
        let mut rooms = self.open();
        let gap = rooms.entry(room.clone()).or_default();
        *gap = Gap {
            held_up_by: Some(event),
            ..Gap::default()
        };
    }

    /// The event that everything parked in the room waits for, if it came out of a gap.
    pub(crate) fn held_up_by(&self, room: &RoomId) -> Option<EventId> {
        self.open().get(room)?.held_up_by.clone()
    }

    /// The log is whole again.
    pub(crate) fn closed(&self, room: &RoomId) {
        self.open().remove(room);
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<RoomId, Gap>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Short enough for a hub that is back to be believed soon.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_that_fails_is_left_in_peace_ever_longer_and_asked_at_once_after_a_success() {
        let (gaps, room) = (Gaps::default(), RoomId::parse("!r:h.example").unwrap());
        let mut now = UnixMillis(1_000);
        for pause in [2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            assert!(gaps.may_ask(&room, now).is_ok());
            gaps.failed(&room, ServiceError::GapOpen, now);
            now = now.plus(Duration::from_secs(pause));
            assert!(gaps.may_ask(&room, UnixMillis(now.as_u64() - 1)).is_err());
        }
        gaps.failed(&room, ServiceError::GapOpen, now);
        gaps.closed(&room);
        assert!(gaps.may_ask(&room, now).is_ok());
        gaps.failed(&room, ServiceError::GapOpen, now);
        assert!(gaps.may_ask(&room, now.plus(Duration::from_secs(2))).is_ok());
    }
}
