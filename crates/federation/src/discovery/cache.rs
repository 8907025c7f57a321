//! Remembers what servers delegate to, and which have no usable `.well-known` (LM #int-wellknown): an answer as long
//! as its headers say, a failure for a minute at first and twice as long each time, up to an hour.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nabe_types::{ServerName, UnixMillis};

use super::well_known::MAX_LIFETIME;

/// A bounded cache by host. Hosts compare as DNS does, without case.
#[derive(Debug)]
pub(super) struct DelegationCache {
    capacity: usize,
    entries: Mutex<BTreeMap<String, Entry>>,
}

#[derive(Clone, Debug)]
struct Entry {
    delegated: Option<ServerName>,
    expires: UnixMillis,
    /// Failures in a row; kept beyond `expires` so that the next one waits longer.
    failures: u32,
}

impl Default for DelegationCache {
    fn default() -> Self {
        Self::with_capacity(MAX_ENTRIES)
    }
}

impl DelegationCache {
    pub(super) const fn with_capacity(capacity: usize) -> Self {
        Self {
            capacity,
            entries: Mutex::new(BTreeMap::new()),
        }
    }

    /// What is known about `host`: its delegation, or (inner `None`) that it has none. `None` when it must be asked.
    pub(super) fn fresh(&self, host: &str, now: UnixMillis) -> Option<Option<ServerName>> {
        let entries = self.lock();
        let entry = entries.get(&key(host))?;
        // The second condition catches a system clock that was set back.
        let fresh = now < entry.expires && entry.expires.saturating_since(now) <= MAX_LIFETIME;
        fresh.then(|| entry.delegated.clone())
    }

    pub(super) fn succeeded(&self, host: &str, server: ServerName, lifetime: Duration, now: UnixMillis) {
        let entry = Entry {
            delegated: Some(server),
            expires: now.plus(lifetime),
            failures: 0,
        };
        self.insert(host, entry, now);
    }

    pub(super) fn failed(&self, host: &str, now: UnixMillis) {
        let failures = self.lock().get(&key(host)).map_or(0, |entry| entry.failures);
        let wait = FIRST_FAILURE.saturating_mul(1 << failures.min(16)).min(MAX_FAILURE);
        let entry = Entry {
            delegated: None,
            expires: now.plus(wait),
            failures: failures.saturating_add(1),
        };
        self.insert(host, entry, now);
    }

    fn insert(&self, host: &str, entry: Entry, now: UnixMillis) {
        let mut entries = self.lock();
        let key = key(host);
        if entries.len() >= self.capacity && !entries.contains_key(&key) {
            make_room(&mut entries, self.capacity, now);
        }
        entries.insert(key, entry);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // No code that holds the lock can leave the map half changed.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops what has expired, and the entry next to expire if that is not enough.
fn make_room(entries: &mut BTreeMap<String, Entry>, capacity: usize, now: UnixMillis) {
    entries.retain(|_, entry| now < entry.expires);
    if entries.len() >= capacity {
        let next = entries
            .iter()
            .min_by_key(|(_, entry)| entry.expires)
            .map(|(host, _)| host.clone());
        next.and_then(|host| entries.remove(&host));
    }
}

fn key(host: &str) -> String {
    host.to_ascii_lowercase()
}

const FIRST_FAILURE: Duration = Duration::from_mins(1);
const MAX_FAILURE: Duration = Duration::from_hours(1);
const MAX_ENTRIES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ServerName {
        ServerName::parse(text).unwrap()
    }

    #[test]
    fn failures_in_a_row_wait_twice_as_long_up_to_an_hour_and_success_starts_over() {
        let cache = DelegationCache::default();
        let mut now = UnixMillis(0);
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            cache.failed("a.example", now);
            let wait = Duration::from_secs(minutes * 60);
            assert_eq!(
                cache.fresh("a.example", now.plus(wait).minus(Duration::from_millis(1))),
                Some(None)
            );
            now = now.plus(wait);
            assert_eq!(cache.fresh("a.example", now), None, "after {minutes} minutes");
        }
        cache.succeeded("a.example", name("b.example"), Duration::from_secs(5), now);
        cache.failed("a.example", now);
        assert_eq!(cache.fresh("a.example", now.plus(Duration::from_mins(1))), None);
    }

    #[test]
    fn hosts_that_differ_in_case_share_an_entry() {
        let cache = DelegationCache::default();
        cache.succeeded("A.example", name("b.example"), Duration::from_secs(5), UnixMillis(0));
        assert_eq!(cache.fresh("a.EXAMPLE", UnixMillis(1)), Some(Some(name("b.example"))));
    }

    #[test]
    fn a_full_cache_drops_expired_entries_first_and_then_the_next_to_expire() {
        let cache = DelegationCache::with_capacity(2);
        let seconds = Duration::from_secs;
        cache.succeeded("a", name("x.example"), seconds(10), UnixMillis(0));
        cache.succeeded("b", name("x.example"), seconds(20), UnixMillis(0));
        cache.succeeded("c", name("x.example"), seconds(30), UnixMillis(0));
        assert_eq!(cache.fresh("a", UnixMillis(1)), None);
        assert!(cache.fresh("b", UnixMillis(1)).is_some());
        cache.succeeded("d", name("x.example"), seconds(30), UnixMillis(25_000));
        assert!(cache.fresh("c", UnixMillis(25_001)).is_some());
        assert!(cache.fresh("d", UnixMillis(25_001)).is_some());
        assert_eq!(cache.lock().len(), 2);
    }
}
