//! `[notary]`: what anybody may ask us about other servers' keys (LM #int-api-notary-query), and what of those keys we keep.

use std::num::NonZeroU32;

use nabe_service::{LimitSettings, RateLimit};
use serde::{Deserialize, Deserializer, de::Error as _};

/// Nobody proves a name to ask a notary, so callers are told apart by address (IPv6: by /64 network).
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Notary {
    /// Servers that one address may ask about each second.
    #[serde(deserialize_with = "rate")]
    servers_per_second: f64,
    /// The same at once, before the rate applies.
    burst: NonZeroU32,
    /// The same over all addresses.
    #[serde(deserialize_with = "rate")]
    total_servers_per_second: f64,
    total_burst: NonZeroU32,
    /// Servers that we ask for their keys because one address asks us.
    #[serde(deserialize_with = "rate")]
    fetches_per_second: f64,
    fetch_burst: NonZeroU32,
    /// The same over all addresses.
    #[serde(deserialize_with = "rate")]
    total_fetches_per_second: f64,
    total_fetch_burst: NonZeroU32,
    /// Servers that one query may name.
    servers: usize,
    /// Key IDs that one query may name.
    keys: usize,
    /// Bytes of one answer.
    answer_bytes: usize,
    /// By how much the stored keys of other servers may grow in a day.
    stored_bytes_per_day: NonZeroU32,
}

impl Notary {
    /// `others` with these limits.
    pub(crate) fn limits(&self, others: LimitSettings) -> LimitSettings {
        let limit = |per_second, burst: NonZeroU32| RateLimit {
            per_second,
            burst: f64::from(burst.get()),
        };
        LimitSettings {
            notary_queries: limit(self.servers_per_second, self.burst),
            notary_queries_total: limit(self.total_servers_per_second, self.total_burst),
            notary_fetches: limit(self.fetches_per_second, self.fetch_burst),
            notary_fetches_total: limit(self.total_fetches_per_second, self.total_fetch_burst),
            notary_servers: self.servers,
            notary_keys: self.keys,
            notary_answer_bytes: self.answer_bytes,
            key_storage: limit(
                f64::from(self.stored_bytes_per_day.get()) / SECONDS_PER_DAY,
                self.stored_bytes_per_day,
            ),
            ..others
        }
    }
}

impl Default for Notary {
    fn default() -> Self {
        const fn above_zero(number: u32) -> NonZeroU32 {
            NonZeroU32::new(number).expect("the numbers below are above zero")
        }
        Self {
            servers_per_second: 10.0,
            burst: const { above_zero(100) },
            total_servers_per_second: 100.0,
            total_burst: const { above_zero(1_000) },
            fetches_per_second: 1.0,
            fetch_burst: const { above_zero(50) },
            total_fetches_per_second: 5.0,
            total_fetch_burst: const { above_zero(200) },
            servers: 100,
            keys: 1_000,
            answer_bytes: 768 * 1024,
            stored_bytes_per_day: const { above_zero(16 * 1024 * 1024) },
        }
    }
}

/// A number above zero.
fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let rate = f64::deserialize(deserializer)?;
    if rate.is_finite() && rate > 0.0 {
        Ok(rate)
    } else {
        Err(D::Error::custom("a rate must be above zero"))
    }
}

const SECONDS_PER_DAY: f64 = 86_400.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notary_defaults_are_those_of_the_service() {
        let limits = Notary::default().limits(LimitSettings::default());
        assert_eq!(format!("{limits:?}"), format!("{:?}", LimitSettings::default()));
    }

    #[test]
    fn notary_limits_are_read_and_rates_above_zero() {
        let notary: Notary = toml::from_str("servers_per_second = 2\nburst = 3\nstored_bytes_per_day = 86400").unwrap();
        let limits = notary.limits(LimitSettings::default());
        let expected = RateLimit {
            per_second: 2.0,
            burst: 3.0,
        };
        assert_eq!(limits.notary_queries, expected);
        assert!((limits.key_storage.per_second - 1.0).abs() < 1e-9);
        for wrong in [
            "servers_per_second = 0.0",
            "fetches_per_second = nan",
            "burst = 0",
            "rate = 1",
        ] {
            toml::from_str::<Notary>(wrong).unwrap_err();
        }
    }
}
