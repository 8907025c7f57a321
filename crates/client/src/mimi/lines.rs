//! Lines to hubs: each room has its own, so that one hub that is down, or answers nonsense, stops nothing in other rooms. What fails is
//! tried again ever more seldom, and at once when there is a sign that whoever failed is back.
//!
//! What is kept here is lost with the process, and each process tries at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nabe_types::UnixMillis;
use nabe_wire::uri::MimiUri;

use super::error::MimiError;
use super::receive::hash_of;
use super::store::{Outgoing, Request, RequestKind, RequestState};
use crate::error::StoreError;
use crate::transport::TransportError;

/// What is known of the lines to hubs.
#[derive(Debug, Default)]
pub(super) struct Lines {
    failing: BTreeMap<MimiUri, Failing>,
    /// Intentions that had no answer when they were to be made into requests, and how often in a row.
    unanswered: BTreeMap<i64, u32>,
    /// The user's own provider does not answer.
    is_cut_off: bool,
    /// Hashes of what may have reached a hub: it may have been taken, whatever is answered the next time.
    sent: BTreeSet<[u8; 32]>,
    /// Rooms whose hub says that it is in this epoch or a later one, and when it said so first.
    ahead: BTreeMap<MimiUri, (u64, UnixMillis)>,
    /// Rooms whose hub refused a commit and since when it is not known what else it has pending.
    asking: BTreeMap<MimiUri, UnixMillis>,
}

#[derive(Debug)]
struct Failing {
    failures: u32,
    since: UnixMillis,
    /// When it failed last.
    last: UnixMillis,
    due: UnixMillis,
    /// Somebody asked not to be asked before it is due.
    was_told: bool,
}

impl Lines {
    /// At the start of a process: of what is kept it is not known whether it was sent.
    pub(super) fn new(requests: &[Request], messages: &[Outgoing], now: UnixMillis) -> Self {
        let bodies = requests.iter().map(|request| &request.body);
        let messages = messages.iter().filter_map(|outgoing| outgoing.message.as_ref());
        let is_behind =
            |request: &&Request| request.state == RequestState::Stale && request.kind != RequestKind::External;
        let behind = requests.iter().filter(is_behind);
        Self {
            sent: bodies.chain(messages).map(|body| hash_of(body)).collect(),
            ahead: behind
                .map(|request| (request.room.clone(), (request.epoch.saturating_add(1), now)))
                .collect(),
            ..Self::default()
        }
    }

    /// Whether something may be sent into a room.
    pub(super) fn is_open(&self, room: &MimiUri, now: UnixMillis) -> bool {
        self.failing.get(room).is_none_or(|failing| failing.due <= now)
    }

    /// Forgets what failed: somebody asks for something now.
    pub(super) fn reopen(&mut self, room: &MimiUri) {
        if let Some(failing) = self.failing.get_mut(room) {
            failing.due = UnixMillis(0);
        }
    }

    /// How something went that was sent into a room. What failed is tried again, ever more seldom; `None` then.
    ///
    /// # Errors
    /// The client's own store does not work.
    pub(super) fn heard<T>(
        &mut self,
        room: &MimiUri,
        outcome: Result<T, MimiError>,
        now: UnixMillis,
    ) -> Result<Option<T>, StoreError> {
        match outcome {
            Ok(done) => {
                self.failing.remove(room);
                Ok(Some(done))
            }
            Err(MimiError::Store(error)) => Err(error),
            Err(error) => {
                let wanted = match &error {
                    MimiError::Transport(TransportError::RateLimited { retry_after }) => *retry_after,
                    _ => Duration::ZERO,
                };
                let failing = self.failing.entry(room.clone()).or_insert(Failing {
                    failures: 0,
                    since: now,
                    last: now,
                    due: now,
                    was_told: false,
                });
                failing.last = now;
                failing.due = now.plus(wanted.max(delay(failing.failures)));
                failing.was_told = wanted > Duration::ZERO;
                failing.failures += 1;
                Ok(None)
            }
        }
    }

    /// When an intention is tried again that had no answer.
    pub(super) fn put_off(&mut self, intent: i64, error: &TransportError, now: UnixMillis) -> UnixMillis {
        let failures = self.unanswered.entry(intent).or_default();
        let wanted = match error {
            TransportError::RateLimited { retry_after } => *retry_after,
            _ => Duration::ZERO,
        };
        let due = now.plus(wanted.max(delay(*failures + 1)));
        *failures += 1;
        due
    }

    /// Whether an intention is put off for want of an answer.
    pub(super) fn is_put_off(&self, intent: i64) -> bool {
        self.unanswered.contains_key(&intent)
    }

    /// An intention had its answer, or is no more.
    pub(super) fn answered(&mut self, intent: i64) {
        self.unanswered.remove(&intent);
    }

    /// Whether the user's own provider was silent when it was last asked.
    pub(super) const fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }

    /// The user's own provider did not answer.
    pub(super) const fn cut_off(&mut self) {
        self.is_cut_off = true;
    }

    /// It has answered; whether it had not before. Then nothing waits any longer for a hub that was not to be reached through it.
    pub(super) fn connected(&mut self) -> bool {
        let was_cut_off = std::mem::take(&mut self.is_cut_off);
        if was_cut_off {
            for failing in self.failing.values_mut().filter(|failing| !failing.was_told) {
                failing.due = UnixMillis(0);
            }
        }
        was_cut_off
    }

    /// Something came from a room's hub, so it is there: whether what waits for it is tried now. That is done once in a while only, since
    /// a hub may speak and not listen.
    pub(super) fn spoke(&mut self, room: &MimiUri, now: UnixMillis) -> bool {
        let failing = self.failing.get_mut(room);
        let is_worth_it =
            |failing: &&mut Failing| !failing.was_told && failing.due > now && failing.last.plus(SIGNS_APART) <= now;
        match failing.filter(is_worth_it) {
            Some(failing) => {
                failing.due = now;
                true
            }
            None => false,
        }
    }

    /// Notes that something is about to be sent; whether it may have been sent before.
    pub(super) fn sending(&mut self, body: &[u8]) -> bool {
        !self.sent.insert(hash_of(body))
    }

    /// It is done with.
    pub(super) fn done(&mut self, body: &[u8]) {
        self.sent.remove(&hash_of(body));
    }

    /// Whether something is kept that an answer without a verdict came for. What may have been taken before is: only the hub can say
    /// that it was not; and so is what somebody else than the hub can be to blame for. Nothing is kept for ever.
    pub(super) fn keeps(&self, room: &MimiUri, error: &TransportError, again: bool, now: UnixMillis) -> bool {
        if is_temporary(error) {
            return true;
        }
        let long_ago = |failing: &Failing| failing.since.plus(UNDECIDED) <= now;
        let by_others =
            matches!(error, TransportError::Refused(refusal) if matches!(refusal.status, 401 | 408 | 421 | 425));
        (again || by_others) && !self.failing.get(room).is_some_and(long_ago)
    }

    /// A room's hub says that it is in this epoch.
    pub(super) fn is_ahead(&mut self, room: &MimiUri, epoch: u64, now: UnixMillis) {
        let ahead = self.ahead.entry(room.clone()).or_insert((epoch, now));
        ahead.0 = ahead.0.max(epoch);
    }

    /// The rooms whose hub is in a later epoch than this client has reached, and since when that is known.
    pub(super) fn ahead(&mut self, reached: impl Fn(&MimiUri) -> Option<u64>) -> Vec<(MimiUri, UnixMillis)> {
        self.ahead
            .retain(|room, (epoch, _)| reached(room).is_some_and(|reached| reached < *epoch));
        let ahead = self.ahead.iter();
        ahead.map(|(room, (_, since))| (room.clone(), *since)).collect()
    }

    /// Since when a room's hub has been asked for what it has pending.
    pub(super) fn asked_since(&self, room: &MimiUri) -> Option<UnixMillis> {
        self.asking.get(room).copied()
    }

    /// A room's hub is asked for what it has pending.
    pub(super) fn asking(&mut self, room: &MimiUri, now: UnixMillis) {
        self.asking.entry(room.clone()).or_insert(now);
    }

    /// It has answered, or nobody wants to know any more.
    pub(super) fn asked(&mut self, room: &MimiUri) {
        self.asking.remove(room);
    }

    /// When something is to be tried again.
    pub(super) fn next_due(&self) -> impl Iterator<Item = UnixMillis> + '_ {
        self.failing.values().map(|failing| failing.due)
    }

    /// Since when hubs are known to be ahead.
    pub(super) fn ahead_since(&self) -> impl Iterator<Item = UnixMillis> + '_ {
        self.ahead.values().map(|(_, since)| *since)
    }

    /// Since when hubs have been asked for what they have pending.
    pub(super) fn all_asked_since(&self) -> impl Iterator<Item = UnixMillis> + '_ {
        self.asking.values().copied()
    }
}

/// Whether a request can be sent again as it is.
pub(super) fn is_temporary(error: &TransportError) -> bool {
    match error {
        TransportError::Unreachable(_) | TransportError::RateLimited { .. } => true,
        TransportError::Refused(refusal) => refusal.status >= 500,
        TransportError::NotUnderstood(_) => true,
    }
}

/// How long to wait after so many failures.
pub(super) fn delay(failures: u32) -> Duration {
    FIRST.saturating_mul(1 << failures.min(16)).min(LONGEST)
}

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(5);
/// How long after a failure a sign of life counts.
const SIGNS_APART: Duration = Duration::from_secs(10);
/// How long something is kept that no verdict comes for.
const UNDECIDED: Duration = Duration::from_hours(1);
