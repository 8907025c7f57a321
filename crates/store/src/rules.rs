//! What every backend must compute alike: which entries fit, what they say about memberships, what a state is.
//! For backends only.

use nabe_auth::lm::Membership;
use nabe_core::mimi::MimiUri;
use nabe_core::{Entry, State};
use nabe_event::Pdu;
use nabe_signing::json::{Json, Object};
use nabe_types::{LogPosition, UserId};
use sha2::{Digest, Sha256};

/// Items a user's inbox holds; the oldest beyond are dropped.
pub const MAX_INBOX_ITEMS: i64 = 10_000;

/// Invites and knocks a user has at once; the oldest beyond are dropped.
pub const MAX_PENDING_ROOMS: usize = 1000;

/// Key packages a device has at once, of all suites and without last-resort ones.
pub const MAX_KEY_PACKAGES: usize = 200;

/// Key packages of a device that are remembered as handed out, until they expire. Those handed out longest ago are forgotten
/// beyond it; only the device itself could make use of that, by offering them again.
pub const MAX_SPENT_KEY_PACKAGES: usize = 5000;

/// Devices kept of one user of another server.
pub const MAX_REMOTE_DEVICES: usize = 1000;

/// Bytes that the device objects of one other server's users take in all.
pub const MAX_REMOTE_DEVICE_BYTES: usize = 32 * 1024 * 1024;

/// Scopes of consent that are kept of one other provider's word alone.
pub const MAX_HEARD_CONSENTS: usize = 5_000;

/// Granted key packages that are kept of one target for one requester.
pub const MAX_GRANTED_KEY_PACKAGES: usize = 100;

/// Messages of a room's local log that are known when they come again, whatever their age.
pub const MIN_REMEMBERED_MESSAGES: usize = 1000;

/// How long the others are known at least: hubs repeat what they were not answered.
pub const MESSAGES_REMEMBERED: std::time::Duration = std::time::Duration::from_hours(48);

/// What counts as a day where a user's uploads of one are bounded.
pub const UPLOAD_DAY: std::time::Duration = std::time::Duration::from_hours(24);

/// Whether the entries' positions are `first` and its successors, one by one.
#[must_use]
pub fn are_consecutive(first: LogPosition, entries: &[Entry]) -> bool {
    let mut next = first;
    entries.iter().all(|entry| {
        let fits = entry.position == next;
        next = next.next();
        fits
    })
}

/// The position of the `index`th message added behind `head`, counted from 0.
#[must_use]
pub fn nth_after(head: LogPosition, index: usize) -> LogPosition {
    LogPosition(
        head.0
            .saturating_add(i64::try_from(index).unwrap_or(i64::MAX))
            .saturating_add(1),
    )
}

/// A local user begins or ends to read a room, with the index of the first or last message that they may read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReaderChange<'a> {
    /// The first.
    Begins(&'a MimiUri, usize),
    /// The last.
    Ends(&'a MimiUri, usize),
}

/// What becomes of readers by a delivery, in order.
#[must_use]
pub fn reader_changes<'a>(readers: &'a [(MimiUri, usize)], leavers: &'a [(MimiUri, usize)]) -> Vec<ReaderChange<'a>> {
    let begin = readers.iter().map(|(user, index)| ReaderChange::Begins(user, *index));
    let end = leavers.iter().map(|(user, index)| ReaderChange::Ends(user, *index));
    let mut changes: Vec<_> = begin.chain(end).collect();
    // Stable: of one message, who begins with it comes before who ends with it.
    changes.sort_by_key(|change| match change {
        ReaderChange::Begins(_, index) | ReaderChange::Ends(_, index) => *index,
    });
    changes
}

/// The membership an event sets and for whom; `None` if it is no usable `m.room.member` event.
#[must_use]
pub fn membership_set_by(event: &Pdu) -> Option<(UserId, Membership)> {
    if event.event_type() != "m.room.member" {
        return None;
    }
    let user = UserId::parse(event.state_key()?).ok()?;
    let membership = event
        .membership()
        .and_then(Membership::parse)
        .unwrap_or(Membership::Leave);
    Some((user, membership))
}

/// The state events after folding entries into a state, ordered by type and state key.
#[must_use]
pub fn fold(base: Vec<Pdu>, entries: impl IntoIterator<Item = Entry>) -> Vec<Pdu> {
    let mut state = State::from_events(base);
    for entry in entries {
        if let Some(event) = entry.state_event() {
            state.insert(event.clone());
        }
    }
    state.iter().cloned().collect()
}

/// Whether a log that starts with this entry has all of the room's history.
#[must_use]
pub fn is_beginning(entry: &Entry) -> bool {
    entry.pdu().is_some_and(|event| event.is_state_of("m.room.create", ""))
}

/// Most responses with distinct keys that are kept of one server: those fetched last.
pub const KEY_SETS_KEPT: usize = 8;

/// Identifies the keys in a server's key response: equal for responses that differ in validity and signatures only.
#[must_use]
pub fn key_set(response: &[u8]) -> [u8; 32] {
    let keys = Json::parse(response).ok().and_then(|json| {
        let response = json.as_object()?;
        let keep = |name: &str| response.get(name).map(|keys| (name.to_owned(), keys.clone()));
        let keys: Object = ["verify_keys", "old_verify_keys"]
            .into_iter()
            .filter_map(keep)
            .collect();
        Some(keys.to_canonical())
    });
    Sha256::digest(keys.as_deref().unwrap_or(response)).into()
}
