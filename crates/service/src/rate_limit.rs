//! Token buckets, one per caller and kind of endpoint (LM #int-transport, rate limiting). `/send` has none: the draft
//! does not mark it, and it is bounded by allowing one transaction at a time.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nabe_types::{ServerName, UnixMillis, UserId};

use crate::error::ServiceError;
use crate::settings::RateLimit;
use crate::{Service, metric};

/// The buckets of recent callers.
pub(crate) struct RateLimiter {
    buckets: Mutex<BTreeMap<(String, &'static str), Bucket>>,
    capacity: usize,
}

#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: UnixMillis,
}

impl RateLimiter {
    /// Remembers at most `capacity` callers, at least one.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            buckets: Mutex::default(),
            capacity: capacity.max(1),
        }
    }

    /// Takes a token, or says when there will be one.
    pub(crate) fn take(
        &self,
        caller: &str,
        endpoint: &'static str,
        limit: RateLimit,
        now: UnixMillis,
    ) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (caller.to_owned(), endpoint);
        if !buckets.contains_key(&key) && buckets.len() >= self.capacity {
            make_room(&mut buckets);
        }
        let burst = limit.burst.max(1.0);
        let bucket = buckets.entry(key).or_insert(Bucket { tokens: burst, at: now });
        let passed = now.saturating_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * limit.per_second).min(burst);
        bucket.at = bucket.at.max(now);
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        let missing = (1.0 - bucket.tokens) / limit.per_second.max(LEAST_RATE);
        Err(Duration::from_secs_f64(missing))
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.buckets.lock().unwrap().len()
    }
}

/// Forgets the tenth that called least recently. A bucket that is refilled by now loses nothing by it.
fn make_room(buckets: &mut BTreeMap<(String, &'static str), Bucket>) {
    let mut times: Vec<_> = buckets.values().map(|bucket| bucket.at).collect();
    times.sort_unstable();
    let cut = times[times.len() / 10];
    let mut to_forget = times.len() / 10 + 1;
    buckets.retain(|_, bucket| {
        let forget = bucket.at <= cut && to_forget > 0;
        to_forget -= usize::from(forget);
        !forget
    });
}

impl Service {
    /// Counts a call by another server to a rate-limited endpoint.
    pub(crate) fn limit_peer(&self, origin: &ServerName, endpoint: &'static str) -> Result<(), ServiceError> {
        self.limit(origin.as_str(), endpoint, self.settings().limits.federation)
    }

    /// Counts a call by a local user.
    pub fn limit_user(&self, user: &UserId) -> Result<(), ServiceError> {
        self.limit(user.as_str(), "client", self.settings().limits.client)
    }

    /// Counts against one of the notary's limits, which all callers share.
    pub(crate) fn limit_notary(&self, what: &'static str, limit: RateLimit) -> Result<(), ServiceError> {
        self.limit("", what, limit)
    }

    fn limit(&self, caller: &str, endpoint: &'static str, limit: RateLimit) -> Result<(), ServiceError> {
        self.inner
            .limiter
            .take(caller, endpoint, limit, self.now())
            .map_err(|retry_after| {
                metrics::counter!(metric::RATE_LIMITED, "endpoint" => endpoint).increment(1);
                ServiceError::LimitExceeded { retry_after }
            })
    }
}

/// Calls per second below which a limit counts as this, so that the time to wait stays finite: one per day.
const LEAST_RATE: f64 = 1.0 / 86_400.0;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: RateLimit = RateLimit {
        per_second: 2.0,
        burst: 3.0,
    };

    #[test]
    fn burst_then_sustained_rate() {
        let limiter = RateLimiter::new(10);
        let now = UnixMillis(1_000);
        for _ in 0..3 {
            limiter.take("a", "x", LIMIT, now).unwrap();
        }
        assert_eq!(limiter.take("a", "x", LIMIT, now), Err(Duration::from_millis(500)));
        limiter.take("a", "y", LIMIT, now).unwrap();
        limiter.take("b", "x", LIMIT, now).unwrap();
        assert_eq!(limiter.take("a", "x", LIMIT, UnixMillis(1_500)), Ok(()));
        assert!(limiter.take("a", "x", LIMIT, UnixMillis(1_500)).is_err());
    }

    #[test]
    fn flood_of_callers_leaves_the_map_bounded() {
        let limiter = RateLimiter::new(100);
        for caller in 0..10_000_u64 {
            limiter
                .take(&format!("s{caller}"), "x", LIMIT, UnixMillis(caller / 7))
                .unwrap();
        }
        assert!(limiter.len() <= 100);
    }

    #[test]
    fn flood_at_one_moment_leaves_the_map_bounded() {
        let limiter = RateLimiter::new(1);
        for caller in 0..1_000 {
            limiter.take(&format!("s{caller}"), "x", LIMIT, UnixMillis(1)).unwrap();
        }
        assert_eq!(limiter.len(), 1);
    }

    #[test]
    fn clock_stepping_back_grants_nothing() {
        let limiter = RateLimiter::new(10);
        for _ in 0..3 {
            limiter.take("a", "x", LIMIT, UnixMillis(9_000)).unwrap();
        }
        assert!(limiter.take("a", "x", LIMIT, UnixMillis(1_000)).is_err());
        assert!(limiter.take("a", "x", LIMIT, UnixMillis(9_000)).is_err());
    }
}
