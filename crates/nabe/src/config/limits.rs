//! `[limits]`: what peers may use up.

use nabe_http::listener::ListenerLimits;
use nabe_service::LimitSettings;
use nabe_types::limits::MAX_BODY_BYTES;
use serde::Deserialize;

use super::{
    millis,
    rule::{Broken, hold},
};

/// `[limits]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// Rooms kept in memory, bytes.
    pub(crate) room_cache_bytes: usize,
    /// Requests per second and origin on the endpoints the draft marks as rate-limited.
    pub(crate) requests_per_second: f64,
    /// Requests an origin may make at once before the rate applies.
    pub(crate) burst: u32,
    /// Requests per second and user on the client API.
    pub(crate) user_requests_per_second: f64,
    /// Requests a user may make at once before that rate applies.
    pub(crate) user_burst: u32,
    pub(crate) connections: usize,
    pub(crate) connections_per_address: usize,
    /// Bytes of a request body; at least a full transaction.
    pub(crate) body_bytes: usize,
    /// How long a peer may take nothing of its answer before it is cut off, milliseconds.
    pub(crate) stall_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let (limits, listener) = (LimitSettings::default(), ListenerLimits::default());
        Self {
            room_cache_bytes: limits.room_memory_bytes,
            requests_per_second: limits.federation.per_second,
            burst: whole(limits.federation.burst),
            user_requests_per_second: limits.client.per_second,
            user_burst: whole(limits.client.burst),
            connections: listener.connections,
            connections_per_address: listener.connections_per_address,
            body_bytes: MAX_BODY_BYTES,
            stall_ms: millis(listener.stall),
        }
    }
}

impl Limits {
    pub(super) fn check(&self) -> Result<(), Broken> {
        let is_rate = |rate: f64| rate.is_finite() && rate > 0.0;
        hold(
            is_rate(self.requests_per_second),
            &["limits.requests_per_second"],
            "must be above zero",
        )?;
        hold(
            is_rate(self.user_requests_per_second),
            &["limits.user_requests_per_second"],
            "must be above zero",
        )?;
        hold(self.burst > 0, &["limits.burst"], "must be above zero")?;
        hold(self.user_burst > 0, &["limits.user_burst"], "must be above zero")?;
        hold(
            (1..=MAX_CONNECTIONS).contains(&self.connections),
            &["limits.connections"],
            "must be 1 to 1000000",
        )?;
        hold(
            self.connections_per_address > 0,
            &["limits.connections_per_address"],
            "must be at least 1",
        )?;
        hold(
            (MAX_BODY_BYTES..=MAX_BODY_OPTION).contains(&self.body_bytes),
            &["limits.body_bytes"],
            "must be 9895936, the largest transaction, to 134217728",
        )?;
        hold(
            (1_000..=3_600_000).contains(&self.stall_ms),
            &["limits.stall_ms"],
            "must be 1000 to 3600000",
        )
    }
}

/// More than any system has file descriptors for one process.
const MAX_CONNECTIONS: usize = 1_000_000;
/// Half of what all request bodies together may take.
const MAX_BODY_OPTION: usize = 128 * 1024 * 1024;

/// A default that counts something: our own, and a small whole number.
const fn whole(count: f64) -> u32 {
    count as u32
}
