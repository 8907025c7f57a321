//! The names and descriptions of all metrics of this crate and of requests to other servers, so that a dashboard can be checked against one file. The manual
//! (`docs/operations.md`) lists the same.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

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
/// Counter: events of a hub kept without effect, label `rule`.
pub(crate) const EVENTS_SOFT_FAILED: &str = "nabe_events_soft_failed_total";
/// Counter: events whose content hash was wrong and that were kept redacted.
pub(crate) const EVENTS_REDACTED: &str = "nabe_events_redacted_total";
/// Counter: events put aside because a key or a join is outstanding.
pub(crate) const EVENTS_PARKED: &str = "nabe_events_parked_total";
/// Gauge: destinations that sleep after a failure.
pub(crate) const DELIVERY_BACKING_OFF: &str = "nabe_delivery_backing_off";
/// Counter: EDUs that other servers have confirmed.
pub(crate) const DELIVERY_EDUS: &str = "nabe_delivery_edus_total";
/// Counter: events that other servers have confirmed.
pub(crate) const DELIVERY_PDUS: &str = "nabe_delivery_pdus_total";
/// Counter: transactions sent, label `result` = `delivered` or why not.
pub(crate) const DELIVERY_REQUESTS: &str = "nabe_delivery_requests_total";
/// Gauge: destinations being delivered to.
pub(crate) const DELIVERY_WORKERS: &str = "nabe_delivery_workers";
/// Counter: devices of other servers' users not taken in.
pub(crate) const DEVICES_REFUSED: &str = "nabe_devices_refused_total";
/// Counter: EDUs ignored or dropped.
pub(crate) const EDUS_DROPPED: &str = "nabe_edus_dropped_total";
/// Counter: requests for other servers' keys, label `outcome`.
pub(crate) const KEY_REQUESTS: &str = "nabe_key_requests_total";
/// Counter: key responses kept in memory only, because too many new ones came.
pub(crate) const KEYS_NOT_STORED: &str = "nabe_keys_not_stored_total";
/// Counter: files fetched from other servers, label `outcome`.
pub(crate) const MEDIA_FETCHES: &str = "nabe_media_fetches_total";
/// Counter: files that a MIMI provider had us download, label `outcome`.
pub(crate) const ASSET_DOWNLOADS: &str = "nabe_mimi_asset_downloads_total";
/// Counter: files that were kept, label `whose` = `own` or `others`.
pub(crate) const MEDIA_STORED: &str = "nabe_media_stored_total";
/// Counter: entries appended to logs of rooms of MIMI.
pub(crate) const MIMI_APPENDED: &str = "nabe_mimi_entries_appended_total";
/// Counter: attempts at forwarding what local users send to other hubs, label `result` = `accepted`, `refused`, `unanswered` or `given_up`.
pub(crate) const MIMI_FORWARDED: &str = "nabe_mimi_forwarded_total";
/// Counter: messages that followers of rooms of MIMI have confirmed.
pub(crate) const MIMI_NOTIFIED: &str = "nabe_mimi_messages_notified_total";
/// Gauge: followers of rooms of MIMI that sleep after a failure, each room for itself.
pub(crate) const MIMI_NOTIFY_BACKING_OFF: &str = "nabe_mimi_notify_backing_off";
/// Counter: notifications sent, label `result` = `delivered` or why not.
pub(crate) const MIMI_NOTIFY_REQUESTS: &str = "nabe_mimi_notify_requests_total";
/// Gauge: followers of rooms of MIMI being notified, each room for itself.
pub(crate) const MIMI_NOTIFY_WORKERS: &str = "nabe_mimi_notify_workers";
/// Counter: reports of abuse in rooms of MIMI that were taken.
pub(crate) const MIMI_REPORTS: &str = "nabe_mimi_reports_total";
/// Counter: updates, messages and requests for a GroupInfo or for key packages for a room that were answered with a refusal, label
/// `endpoint`.
pub(crate) const MIMI_REFUSED: &str = "nabe_mimi_refused_total";
/// Gauge: estimated bytes of rooms of MIMI in memory.
pub(crate) const MIMI_ROOM_BYTES: &str = "nabe_mimi_room_bytes";
/// Counter: requests to other servers of every kind, label `outcome`. Counted by whoever implements
/// [`Peers`](crate::ports::Peers).
pub const PEER_REQUESTS: &str = "nabe_peer_requests_total";
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

/// Tells the recorder what each metric is. Harmless when repeated.
pub(crate) fn describe() {
    for (name, help) in COUNTERS {
        describe_counter!(name, help);
    }
    for (name, help) in GAUGES {
        describe_gauge!(name, help);
    }
    describe_gauge!(ROOM_BYTES, Unit::Bytes, "estimated bytes of rooms in memory");
    describe_histogram!(COMMIT_BATCHES, "batches written in one database transaction");
}

const COUNTERS: [(&str, &str); 28] = [
    (COMMIT_FAILURES, "database transactions that failed as a whole"),
    (CONFLICTS, "appends repeated because the room had moved"),
    (DELIVERY_EDUS, "EDUs that other servers have confirmed"),
    (DELIVERY_PDUS, "events that other servers have confirmed"),
    (DELIVERY_REQUESTS, "transactions sent to other servers, by result"),
    (
        DEVICES_REFUSED,
        "devices of other servers' users that were invalid or too many",
    ),
    (EDUS_DROPPED, "EDUs ignored or dropped"),
    (EVENTS_APPENDED, "events appended, by our role in the room"),
    (EVENTS_DROPPED, "events dropped before any room saw them"),
    (EVENTS_PARKED, "events put aside because a key or a join is outstanding"),
    (EVENTS_REDACTED, "events with a wrong content hash, kept redacted"),
    (
        EVENTS_SOFT_FAILED,
        "events of a hub that were kept without effect, by rule",
    ),
    (EVENTS_REFUSED, "events refused, by rule"),
    (KEY_REQUESTS, "requests for other servers' keys, by outcome"),
    (
        KEYS_NOT_STORED,
        "key responses kept in memory only, because too many new ones came",
    ),
    (MEDIA_FETCHES, "files fetched from other servers, by outcome"),
    (ASSET_DOWNLOADS, "files downloaded for MIMI providers, by outcome"),
    (MEDIA_STORED, "files that were kept, by whose they are"),
    (MIMI_APPENDED, "entries appended to logs of rooms of MIMI"),
    (
        MIMI_FORWARDED,
        "attempts at forwarding to other hubs of MIMI what local users send, by result",
    ),
    (MIMI_NOTIFIED, "messages that followers of rooms of MIMI have confirmed"),
    (
        MIMI_NOTIFY_REQUESTS,
        "notifications sent to followers of rooms of MIMI, by result",
    ),
    (MIMI_REPORTS, "reports of abuse in rooms of MIMI that were taken"),
    (MIMI_REFUSED, "requests about rooms of MIMI refused, by endpoint"),
    (PEER_REQUESTS, "requests to other servers of every kind, by outcome"),
    (POLICY_REFUSALS, "requests refused by the operator's lists"),
    (RATE_LIMITED, "requests refused by a rate limit, by endpoint"),
    (REPLIES_REPEATED, "transactions answered from the stored reply"),
];

const GAUGES: [(&str, &str); 6] = [
    (DELIVERY_BACKING_OFF, "destinations that sleep after a failure"),
    (DELIVERY_WORKERS, "destinations being delivered to"),
    (
        MIMI_NOTIFY_BACKING_OFF,
        "followers of rooms of MIMI that sleep after a failure",
    ),
    (MIMI_NOTIFY_WORKERS, "followers of rooms of MIMI being notified"),
    (MIMI_ROOM_BYTES, "estimated bytes of rooms of MIMI in memory"),
    (ROOMS_LOADED, "rooms in memory"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{COMMIT_BATCHES, COUNTERS, GAUGES, ROOM_BYTES};

    /// Every text in backticks or quotation marks that begins like a metric of this program.
    fn names_in(text: &str) -> BTreeSet<&str> {
        let parts = text.split(['"', '`']);
        parts
            .filter(|part| part.starts_with("nabe_") && !part.contains(char::is_whitespace))
            .collect()
    }

    #[test]
    fn every_metric_is_described() {
        let tables = COUNTERS.iter().chain(&GAUGES).map(|(name, _)| *name);
        let described: BTreeSet<_> = tables.chain([ROOM_BYTES, COMMIT_BATCHES]).collect();
        let mut defined = names_in(include_str!("metric.rs"));
        defined.remove("nabe_");
        assert_eq!(described, defined);
    }

    #[test]
    fn the_manual_lists_every_metric() {
        let mut defined = names_in(include_str!("metric.rs"));
        defined.remove("nabe_");
        let listed = names_in(include_str!("../../../docs/operations.md"));
        let missing: Vec<_> = defined.difference(&listed).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn no_other_file_of_delivery_names_a_metric() {
        assert!(names_in(include_str!("deliver.rs")).is_empty());
    }
}
