//! How far the readers of each inbox have got, so that what all of them have handled can be dropped. In memory only: after a
//! restart readers say it again, by coming back with their tokens.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use nabe_types::{DeviceId, UnixMillis, UserId};

/// The readers of all inboxes.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    users: Mutex<BTreeMap<UserId, Handled>>,
    /// When the first reader came.
    since: OnceLock<UnixMillis>,
}

/// One user's readers.
#[derive(Debug, Default)]
struct Handled {
    /// The last item that each has handled. `None` is whoever reads without a device.
    readers: BTreeMap<Option<DeviceId>, i64>,
    dropped: i64,
}

impl Readers {
    /// A reader has handled everything up to `seq`. Returns up to where all of them have, if that is news: each of `devices`, and
    /// a reader without a device if there is one.
    pub(crate) fn note(
        &self,
        user: &UserId,
        device: Option<&DeviceId>,
        seq: i64,
        devices: &[DeviceId],
        now: UnixMillis,
    ) -> Option<i64> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let handled = users.entry(user.clone()).or_default();
        let of_reader = handled.readers.entry(device.cloned()).or_default();
        *of_reader = seq.max(*of_reader);
        if now < self.since.get_or_init(|| now).plus(WAIT_FOR_READERS) {
            return None;
        }
        let mut up_to = handled.readers.get(&None).copied();
        for device in devices {
            let of_device = *handled.readers.get(&Some(device.clone()))?;
            up_to = Some(up_to.map_or(of_device, |up_to| up_to.min(of_device)));
        }
        let up_to = up_to.filter(|up_to| *up_to > handled.dropped)?;
        handled.dropped = up_to;
        Some(up_to)
    }
}

/// Long enough for every reader that was there before a restart to come back.
const WAIT_FOR_READERS: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_readers_have_handled_is_dropped_once() {
        let readers = Readers::default();
        let alice = UserId::parse("@alice:a.example").unwrap();
        let [desk, phone] = ["DESK", "PHONE"].map(|name| DeviceId::parse(name).unwrap());
        let devices = [desk.clone(), phone.clone()];
        let start = UnixMillis(1_000);
        let note = |device: Option<&DeviceId>, seq, now| readers.note(&alice, device, seq, &devices, now);
        assert_eq!(note(Some(&desk), 5, start), None);
        assert_eq!(note(Some(&phone), 5, start), None, "others may still come back");
        let later = start.plus(WAIT_FOR_READERS);
        assert_eq!(note(Some(&desk), 7, later), Some(5));
        assert_eq!(note(Some(&desk), 8, later), None, "nothing new");
        assert_eq!(note(Some(&phone), 6, later), Some(6));
        assert_eq!(note(None, 2, later), None, "a further reader is behind");
        assert_eq!(note(Some(&phone), 8, later), None);
        assert_eq!(note(None, 9, later), Some(8));
        assert_eq!(note(Some(&phone), 3, later), None, "an old token takes nothing back");
    }

    #[test]
    fn a_device_that_never_came_is_waited_for() {
        let readers = Readers::default();
        let alice = UserId::parse("@alice:a.example").unwrap();
        let devices = [DeviceId::parse("DESK").unwrap()];
        readers.note(&alice, None, 5, &devices, UnixMillis(0));
        let later = UnixMillis(0).plus(WAIT_FOR_READERS);
        assert_eq!(readers.note(&alice, None, 6, &devices, later), None);
        assert_eq!(readers.note(&alice, None, 6, &[], later), Some(6));
    }
}
