//! The names of all metrics of this crate, so that a dashboard can be checked against one file.

/// Histogram: batches written in one database transaction.
pub(crate) const COMMIT_BATCHES: &str = "nabe_commit_batches";
/// Counter: database transactions that failed as a whole.
pub(crate) const COMMIT_FAILURES: &str = "nabe_commit_failures_total";
/// Counter: appends repeated because the room had moved.
pub(crate) const CONFLICTS: &str = "nabe_append_conflicts_total";
/// Counter: events appended, label `role` = `hub` or `participant`.
pub(crate) const EVENTS_APPENDED: &str = "nabe_events_appended_total";
/// Counter: events dropped before any room saw them.
pub(crate) const EVENTS_DROPPED: &str = "nabe_events_dropped_total";
/// Counter: events refused by the rules, label `rule`.
pub(crate) const EVENTS_REFUSED: &str = "nabe_events_refused_total";
/// Counter: events whose content hash was wrong and that were kept redacted.
pub(crate) const EVENTS_REDACTED: &str = "nabe_events_redacted_total";
/// Counter: events put aside because a key or a join is outstanding.
pub(crate) const EVENTS_PARKED: &str = "nabe_events_parked_total";
/// Counter: EDUs ignored or dropped.
pub(crate) const EDUS_DROPPED: &str = "nabe_edus_dropped_total";
/// Counter: requests for other servers' keys, label `outcome`.
pub(crate) const KEY_REQUESTS: &str = "nabe_key_requests_total";
/// Counter: requests refused by the operator's lists.
pub(crate) const POLICY_REFUSALS: &str = "nabe_policy_refusals_total";
/// Counter: requests refused by a rate limit, label `endpoint`.
pub(crate) const RATE_LIMITED: &str = "nabe_rate_limited_total";
/// Counter: transactions answered from the stored reply.
pub(crate) const REPLIES_REPEATED: &str = "nabe_replies_repeated_total";
/// Gauge: rooms in memory.
pub(crate) const ROOMS_LOADED: &str = "nabe_rooms_loaded";
/// Gauge: estimated bytes of rooms in memory.
pub(crate) const ROOM_BYTES: &str = "nabe_room_bytes";
