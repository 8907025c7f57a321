//! Token buckets, one per caller and kind of endpoint (LM #int-transport, rate limiting). `/send` has none: the draft
//! does not mark it, and it is bounded by allowing one transaction at a time. Those who ask us as a notary prove no name
//! (LM #int-api-notary-query), so they are told apart by their addresses, in a limiter of their own: nobody
//! without a name shall make us forget those who have one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nabe_types::{DeviceId, RoomId, ServerName, UnixMillis, UserId};
use nabe_wire::uri::MimiUri;

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
    /// As it was when a token was last taken.
    limit: RateLimit,
}

impl Bucket {
    /// When it is full again, in milliseconds.
    fn full_at(&self) -> f64 {
        let missing = self.limit.burst.max(1.0) - self.tokens;
        self.at.as_u64() as f64 + missing / self.limit.per_second.max(LEAST_RATE) * 1_000.0
    }
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
        self.take_many(caller, endpoint, limit, 1, now)
    }

    /// Takes so many tokens, or none and says when there will be enough. Nothing costs more than the whole burst.
    pub(crate) fn take_many(
        &self,
        caller: &str,
        endpoint: &'static str,
        limit: RateLimit,
        tokens: u32,
        now: UnixMillis,
    ) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (caller.to_owned(), endpoint);
        if !buckets.contains_key(&key) && buckets.len() >= self.capacity {
            make_room(&mut buckets);
        }
        let burst = limit.burst.max(1.0);
        let bucket = buckets.entry(key).or_insert(Bucket {
            tokens: burst,
            at: now,
            limit,
        });
        let passed = now.saturating_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * limit.per_second).min(burst);
        bucket.at = bucket.at.max(now);
        bucket.limit = limit;
        let cost = f64::from(tokens).min(burst);
        if bucket.tokens >= cost {
            bucket.tokens -= cost;
            return Ok(());
        }
        let missing = (cost - bucket.tokens) / limit.per_second.max(LEAST_RATE);
        Err(Duration::from_secs_f64(missing))
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.buckets.lock().unwrap().len()
    }
}

/// Forgets the tenth that would be full again first: a full bucket is as good as none, and of those that are not, whoever is forgotten
/// gains least. So a flood of callers, each with a little of a bucket that fills in seconds, gives nobody back what they used up for a day.
fn make_room(buckets: &mut BTreeMap<(String, &'static str), Bucket>) {
    let mut times: Vec<_> = buckets.values().map(Bucket::full_at).collect();
    times.sort_unstable_by(f64::total_cmp);
    let cut = times[times.len() / 10];
    let mut to_forget = times.len() / 10 + 1;
    buckets.retain(|_, bucket| {
        let forget = bucket.full_at() <= cut && to_forget > 0;
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

    /// Counts a claim of a device's key package, and says whether the claimant has had enough of them for now, or all have.
    pub(crate) fn is_claiming_too_much(&self, claimant: &str, user: &UserId, device: &DeviceId) -> bool {
        let (claims, limits, now) = (&self.inner.devices.rates, &self.settings().limits, self.now());
        let of_claimant = format!("{claimant} {user} {device}");
        let counted = claims
            .take(&of_claimant, "claim_by_claimant", limits.claims, now)
            .and_then(|()| claims.take(&format!("{user} {device}"), "claim_of_device", limits.claims_total, now));
        if counted.is_err() {
            metrics::counter!(metric::RATE_LIMITED, "endpoint" => "claim_of_device").increment(1);
        }
        counted.is_err()
    }

    /// Counts a request about many devices or key packages: once, and once more for each ten of them.
    pub(crate) fn limit_many(
        &self,
        caller: &str,
        endpoint: &'static str,
        limit: RateLimit,
        things: usize,
    ) -> Result<(), ServiceError> {
        let cost = u32::try_from(1 + things / 10).unwrap_or(u32::MAX);
        self.inner
            .limiter
            .take_many(caller, endpoint, limit, cost, self.now())
            .map_err(|retry_after| exceeded(endpoint, retry_after))
    }

    /// Counts a report of abuse by a local user: so many at once, and in a day.
    pub(crate) fn limit_reports(&self, user: &MimiUri, a_day: u32) -> Result<(), ServiceError> {
        let burst = f64::from(a_day);
        let limit = RateLimit {
            per_second: burst / 86_400.0,
            burst,
        };
        self.limit(&user.to_string(), "report_of_user", limit)
    }

    /// Counts a file of ours that another server fetches.
    pub(crate) fn limit_media_bytes(&self, origin: &ServerName, bytes: u64) -> Result<(), ServiceError> {
        self.limit_kib(origin, "media_bytes", bytes, self.settings().limits.media_kib)
    }

    /// Counts bytes of another server, by a limit in KiB.
    pub(crate) fn limit_kib(
        &self,
        origin: &ServerName,
        what: &'static str,
        bytes: u64,
        limit: RateLimit,
    ) -> Result<(), ServiceError> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        self.inner
            .limiter
            .take_many(origin.as_str(), what, limit, kib, self.now())
            .map_err(|retry_after| exceeded(what, retry_after))
    }

    /// Counts the state of a room that another server wants, before it is read.
    pub(crate) async fn limit_state(&self, origin: &ServerName, room: &RoomId) -> Result<(), ServiceError> {
        let events = self.read_room(room, |view| view.state().iter().count()).await?;
        let cost = u32::try_from(events).unwrap_or(u32::MAX);
        let (limit, now) = (self.settings().limits.state_events, self.now());
        self.inner
            .limiter
            .take_many(origin.as_str(), "state_events", limit, cost, now)
            .map_err(|retry_after| exceeded("state_events", retry_after))
    }

    /// Counts a message of another server to a device of ours, and says whether that was one too many.
    pub(crate) fn is_sending_too_much(&self, origin: &ServerName, target: &UserId) -> bool {
        let (limit, now) = (self.settings().limits.to_device, self.now());
        let counted = self
            .inner
            .devices
            .rates
            .take(&format!("{origin} {target}"), "to_device", limit, now);
        if counted.is_err() {
            metrics::counter!(metric::RATE_LIMITED, "endpoint" => "to_device").increment(1);
        }
        counted.is_err()
    }

    /// Counts what a device update of another server costs.
    pub(crate) fn limit_device_updates(&self, origin: &ServerName, cost: usize) -> Result<(), ServiceError> {
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        let (limit, now) = (self.settings().limits.device_updates, self.now());
        self.inner
            .limiter
            .take_many(origin.as_str(), "device_update", limit, cost, now)
            .map_err(|retry_after| exceeded("device_update", retry_after))
    }

    /// Counts a question to the notary about so many servers, against the caller's rate and the one that all share.
    pub(crate) fn limit_notary_query(&self, caller: Option<IpAddr>, servers: usize) -> Result<(), ServiceError> {
        let limits = &self.settings().limits;
        let servers = u32::try_from(servers).unwrap_or(u32::MAX).max(1);
        let (each, total) = (limits.notary_queries, limits.notary_queries_total);
        self.limit_notary(caller, "notary", each, total, servers)
    }

    /// Counts a fetch of keys that a question to the notary wants. Whoever is over the limit is answered from what we know.
    pub(crate) fn limit_notary_fetch(&self, caller: Option<IpAddr>) -> Result<(), ServiceError> {
        let limits = &self.settings().limits;
        let (each, total) = (limits.notary_fetches, limits.notary_fetches_total);
        self.limit_notary(caller, "notary_fetch", each, total, 1)
    }

    /// Where we cannot tell where a question comes from, only the rate that all share counts.
    fn limit_notary(
        &self,
        caller: Option<IpAddr>,
        endpoint: &'static str,
        each: RateLimit,
        total: RateLimit,
        tokens: u32,
    ) -> Result<(), ServiceError> {
        let (limiters, now) = (&self.inner.keys.limiters, self.now());
        let by_caller = caller.map_or(Ok(()), |caller| {
            let caller = caller.to_string();
            limiters.callers.take_many(&caller, endpoint, each, tokens, now)
        });
        by_caller
            .and_then(|()| limiters.shared.take_many("", endpoint, total, tokens, now))
            .map_err(|retry_after| exceeded(endpoint, retry_after))
    }

    /// Counts a call to an endpoint that has a rate of its own.
    pub(crate) fn limit(&self, caller: &str, endpoint: &'static str, limit: RateLimit) -> Result<(), ServiceError> {
        self.inner
            .limiter
            .take(caller, endpoint, limit, self.now())
            .map_err(|retry_after| exceeded(endpoint, retry_after))
    }
}

fn exceeded(endpoint: &'static str, retry_after: Duration) -> ServiceError {
    metrics::counter!(metric::RATE_LIMITED, "endpoint" => endpoint).increment(1);
    ServiceError::LimitExceeded { retry_after }
}

/// The limiters of everything about keys.
pub(crate) struct KeyLimiters {
    /// Who asks us as a notary, by address.
    callers: RateLimiter,
    /// What all callers share. The names in it are ours and few, so that none is ever forgotten.
    pub(crate) shared: RateLimiter,
}

impl KeyLimiters {
    /// Remembers at most so many addresses.
    pub(crate) fn new(callers: usize) -> Self {
        Self {
            callers: RateLimiter::new(callers),
            shared: RateLimiter::new(SHARED_LIMITS),
        }
    }
}

/// More than there are.
const SHARED_LIMITS: usize = 64;

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
    fn several_tokens_are_taken_together_or_not_at_all() {
        let limiter = RateLimiter::new(10);
        let now = UnixMillis(1_000);
        limiter.take_many("a", "x", LIMIT, 2, now).unwrap();
        assert_eq!(
            limiter.take_many("a", "x", LIMIT, 2, now),
            Err(Duration::from_millis(500))
        );
        limiter.take("a", "x", LIMIT, now).unwrap();
        // More than the burst costs the burst: it would never be had otherwise.
        assert_eq!(limiter.take_many("a", "x", LIMIT, 100, UnixMillis(2_500)), Ok(()));
        assert!(limiter.take("a", "x", LIMIT, UnixMillis(2_500)).is_err());
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
    fn a_flood_of_callers_gives_nobody_their_day_back() {
        let a_day = RateLimit {
            per_second: 20.0 / 86_400.0,
            burst: 20.0,
        };
        let limiter = RateLimiter::new(100);
        let start = UnixMillis(1_000);
        limiter.take_many("a", "reports", a_day, 20, start).unwrap();
        for caller in 0..10_000_u64 {
            let now = UnixMillis(start.as_u64() + caller);
            limiter.take(&format!("s{caller}"), "x", LIMIT, now).unwrap();
            limiter.take(&format!("s{caller}"), "reports", a_day, now).unwrap();
        }
        assert!(limiter.len() <= 100);
        let later = UnixMillis(start.as_u64() + 10_000);
        assert!(limiter.take("a", "reports", a_day, later).is_err());
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
