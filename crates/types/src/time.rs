//! Points in time and in a room's log, as plain numbers that cannot be mixed up. Nothing here reads a clock.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::MAX_SAFE_INTEGER;

/// Milliseconds since the Unix epoch, as in `origin_server_ts` (LM #int-pdu) and `valid_until_ts`
/// (LM #int-transport-keys-validity).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// The epoch itself.
    pub const ZERO: Self = Self(0);
    /// The last representable moment; for "never".
    pub const MAX: Self = Self(u64::MAX);

    /// The moment `millis` milliseconds after the epoch.
    #[must_use]
    pub const fn new(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Milliseconds since the epoch as JSON can carry them, at most 2^53 − 1.
    #[must_use]
    pub fn as_i64(self) -> i64 {
        i64::try_from(self.0).map_or(MAX_SAFE_INTEGER, |millis| millis.min(MAX_SAFE_INTEGER))
    }

    /// Reads a JSON integer; `None` before the epoch.
    #[must_use]
    pub fn from_i64(millis: i64) -> Option<Self> {
        u64::try_from(millis).ok().map(Self)
    }

    /// `self` moved later, stopping at [`UnixMillis::MAX`]. Parts of a millisecond are dropped.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(whole_millis(duration)))
    }

    /// `self` moved earlier, stopping at the epoch. Parts of a millisecond are dropped.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(whole_millis(duration)))
    }

    /// Time passed since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl From<u64> for UnixMillis {
    fn from(millis: u64) -> Self {
        Self(millis)
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Place of an event in a room's log. A hub counts from 1; zero and below are places before our log began
/// (a participant's snapshot or backfilled history).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogPosition(pub i64);

impl LogPosition {
    /// The place before the first entry.
    pub const ZERO: Self = Self(0);
    /// The place of a hub room's first entry.
    pub const FIRST: Self = Self(1);

    /// The place at `position`.
    #[must_use]
    pub const fn new(position: i64) -> Self {
        Self(position)
    }

    /// The number itself.
    #[must_use]
    pub const fn as_i64(self) -> i64 {
        self.0
    }

    /// The following place; the last one follows itself.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The preceding place; the first one precedes itself.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl From<i64> for LogPosition {
    fn from(position: i64) -> Self {
        Self(position)
    }
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_time_stops_at_the_end() {
        assert_eq!(UnixMillis(5).plus(Duration::from_micros(2_999)), UnixMillis(7));
        assert_eq!(UnixMillis::MAX.plus(Duration::from_millis(1)), UnixMillis::MAX);
        assert_eq!(UnixMillis(1).plus(Duration::MAX), UnixMillis::MAX);
    }

    #[test]
    fn subtracting_time_stops_at_the_epoch() {
        assert_eq!(UnixMillis(5).minus(Duration::from_millis(2)), UnixMillis(3));
        assert_eq!(UnixMillis(5).minus(Duration::from_secs(1)), UnixMillis::ZERO);
    }

    #[test]
    fn time_since_a_later_moment_is_zero() {
        assert_eq!(UnixMillis(9).saturating_since(UnixMillis(4)), Duration::from_millis(5));
        assert_eq!(UnixMillis(4).saturating_since(UnixMillis(9)), Duration::ZERO);
    }

    #[test]
    fn time_fits_json() {
        assert_eq!(UnixMillis::MAX.as_i64(), MAX_SAFE_INTEGER);
        assert_eq!(UnixMillis(1_700_000_000_000).as_i64(), 1_700_000_000_000);
        assert_eq!(UnixMillis::from_i64(-1), None);
        assert_eq!(serde_json::to_string(&UnixMillis(12)).unwrap(), "12");
    }

    #[test]
    fn log_positions_count_from_one() {
        assert_eq!(LogPosition::ZERO.next(), LogPosition::FIRST);
        assert_eq!(LogPosition::FIRST.previous(), LogPosition::ZERO);
        assert_eq!(LogPosition(i64::MAX).next(), LogPosition(i64::MAX));
    }
}
