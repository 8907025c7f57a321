//! `[delivery]`: how long what others must get is tried.

use nabe_service::{DeliverySettings, LimitSettings};
use serde::Deserialize;

use super::{
    millis,
    rule::{Broken, hold},
};

/// `[delivery]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Delivery {
    /// First wait after a failed request, milliseconds; doubles each time.
    pub(crate) retry_base_ms: u64,
    /// Longest wait, milliseconds.
    pub(crate) retry_max_ms: u64,
    /// Time for one request, milliseconds.
    pub(crate) request_timeout_ms: u64,
    /// Items a destination's outbox may hold before new ones are refused.
    pub(crate) outbox_limit: u64,
}

impl Default for Delivery {
    fn default() -> Self {
        let delivery = DeliverySettings::default();
        Self {
            retry_base_ms: millis(delivery.backoff_base),
            retry_max_ms: millis(delivery.backoff_max),
            request_timeout_ms: millis(delivery.request_timeout),
            outbox_limit: LimitSettings::default().outbox_items,
        }
    }
}

impl Delivery {
    pub(super) fn check(&self) -> Result<(), Broken> {
        hold(
            (1..=self.retry_max_ms).contains(&self.retry_base_ms),
            &["delivery.retry_base_ms", "delivery.retry_max_ms"],
            "retry_base_ms must be at least 1 and at most retry_max_ms",
        )?;
        hold(
            self.retry_max_ms <= WEEK_MS,
            &["delivery.retry_max_ms"],
            "must be at most 604800000, a week",
        )?;
        hold(
            (1..=3_600_000).contains(&self.request_timeout_ms),
            &["delivery.request_timeout_ms"],
            "must be 1 to 3600000",
        )?;
        hold(self.outbox_limit > 0, &["delivery.outbox_limit"], "must be at least 1")
    }
}

const WEEK_MS: u64 = 7 * 24 * 3_600_000;
