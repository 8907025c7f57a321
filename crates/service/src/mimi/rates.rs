//! How often another provider may call each endpoint. Where a limit is reached the answer is 429 with `Retry-After` (D-http-refusals): the
//! request was not taken, and the same bytes may come again.

use nabe_types::ServerName;
use nabe_wire::directory::Endpoint;

use super::{Mimi, MimiError};
use crate::settings::RateLimit;

/// Rates of the endpoints that carry a room's traffic, for each provider. The others have that of `limits.federation`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateSettings {
    /// `notify`: requests, each with as many messages as have come together in one room.
    pub notify: RateLimit,
    /// `submitMessage`: messages.
    pub submit: RateLimit,
    /// `update`: proposals and commits, which cost most.
    pub update: RateLimit,
    /// `notify`: KiB that a hub has us keep for our users, in all of its rooms.
    pub notified_kib: RateLimit,
}

impl RateSettings {
    /// A rate that may be exceeded for a while: as many at once as come in ten seconds.
    #[must_use]
    pub fn rate(per_second: u32) -> RateLimit {
        let per_second = f64::from(per_second);
        RateLimit {
            per_second,
            burst: per_second * 10.0,
        }
    }

    /// So many MiB in a day, all at once if need be, in KiB.
    #[must_use]
    pub fn mib_a_day(mib: u32) -> RateLimit {
        let kib = f64::from(mib) * 1024.0;
        RateLimit {
            per_second: kib / 86_400.0,
            burst: kib,
        }
    }
}

impl Default for RateSettings {
    fn default() -> Self {
        Self {
            notify: Self::rate(1000),
            submit: Self::rate(1000),
            update: Self::rate(100),
            notified_kib: Self::mib_a_day(4096),
        }
    }
}

impl Mimi {
    /// Counts a call by another provider; local users have the rate of the client API.
    pub(crate) fn limit(&self, from: &ServerName, endpoint: Endpoint) -> Result<(), MimiError> {
        if from == self.domain() {
            return Ok(());
        }
        let rates = &self.settings().rates;
        let limit = match endpoint {
            Endpoint::Notify => rates.notify,
            Endpoint::SubmitMessage => rates.submit,
            Endpoint::Update => rates.update,
            _ => self.service.settings().limits.federation,
        };
        Ok(self.service.limit(from.as_str(), endpoint.name(), limit)?)
    }
    /// Counts what a hub has us keep: what our users read is on our disk for as long as they may read it.
    pub(super) fn limit_notified(&self, hub: &ServerName, bytes: usize) -> Result<(), MimiError> {
        let limit = self.settings().rates.notified_kib;
        Ok(self.service.limit_kib(hub, "notified_bytes", bytes as u64, limit)?)
    }
}
