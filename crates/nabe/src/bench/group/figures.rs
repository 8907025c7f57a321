//! What `nabe bench group` prints.

use std::time::Duration;

use serde::Serialize;

use crate::{bench::latency::percentile, output::say};

/// The figures, in the shape that `--json` prints.
#[derive(Serialize)]
pub(super) struct Figures {
    /// While only the one who brought the others in has committed.
    pub(super) fresh: Shape,
    /// After everybody has.
    pub(super) committed: Shape,
    /// Adding fifty at once, the slowest time.
    pub(super) add_50_ms: f64,
    /// From reading a Welcome to being in the group.
    pub(super) join_by_welcome_p50_ms: f64,
    pub(super) limits: Option<Limits>,
    pub(super) load_average: Option<f64>,
}

/// What the group costs in one shape of its tree.
#[derive(Serialize)]
pub(super) struct Shape {
    pub(super) devices: usize,
    pub(super) update: Commit,
    pub(super) remove: Commit,
    pub(super) add: Commit,
    pub(super) message: Message,
    /// Of an update, with everything its readers ask for.
    pub(super) hub_cpu_ms_per_update: f64,
}

/// A kind of commit.
#[derive(Default, Serialize)]
pub(super) struct Commit {
    pub(super) measured: usize,
    /// Of the largest event's content, canonical JSON.
    pub(super) bytes: usize,
    /// From the wish to the echo.
    pub(super) p50_ms: f64,
    pub(super) max_ms: f64,
    /// From the wish to the moment when another device has followed (for an addition: when who was added is in).
    pub(super) followed_p50_ms: f64,
    /// What the client was told if an event had no room for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<String>,
}

/// A message to all.
#[derive(Serialize)]
pub(super) struct Message {
    pub(super) measured: usize,
    /// Until the hub has said yes.
    pub(super) accepted_p50_ms: f64,
    /// Until half of the devices have read it, and until the last one has, all of them on this one machine.
    pub(super) half_have_read_p50_ms: f64,
    pub(super) all_have_read_p50_ms: f64,
}

/// How many devices there were when no commit had room for one more, and what the client was told.
#[derive(Serialize)]
pub(super) struct Limits {
    pub(super) fresh: (usize, String),
    pub(super) committed: (usize, String),
}

/// Times of one kind of commit as they are taken.
#[derive(Default)]
pub(super) struct Times {
    pub(super) committed: Vec<Duration>,
    pub(super) followed: Vec<Duration>,
    pub(super) bytes: usize,
    pub(super) refused: Option<String>,
}

impl Times {
    pub(super) fn figures(mut self) -> Commit {
        Commit {
            measured: self.committed.len(),
            bytes: self.bytes,
            p50_ms: p50(&mut self.committed),
            max_ms: percentile(&self.committed, 100.0),
            followed_p50_ms: p50(&mut self.followed),
            refused: self.refused,
        }
    }
}

/// The median in milliseconds. The times are sorted afterwards.
pub(super) fn p50(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    percentile(times, 50.0)
}

pub(super) fn print_text(figures: &Figures) {
    for (shape, words) in [
        (&figures.fresh, "one device has committed"),
        (&figures.committed, "every device has committed"),
    ] {
        say!("{} devices in one room, {words}", shape.devices);
        for (commit, name) in [
            (&shape.update, "update"),
            (&shape.remove, "remove"),
            (&shape.add, "add"),
        ] {
            match &commit.refused {
                Some(reason) => say!("  {name:<22}  refused: {reason}"),
                None => say!(
                    "  {name:<22}  {} bytes; wish to echo p50 {:.0} ms, max {:.0} ms; another has followed p50 {:.0} ms; {} measured",
                    commit.bytes,
                    commit.p50_ms,
                    commit.max_ms,
                    commit.followed_p50_ms,
                    commit.measured
                ),
            }
        }
        let message = &shape.message;
        say!(
            "  message to all          accepted p50 {:.0} ms, read by half p50 {:.0} ms, by all p50 {:.0} ms; {} measured",
            message.accepted_p50_ms,
            message.half_have_read_p50_ms,
            message.all_have_read_p50_ms,
            message.measured
        );
        say!(
            "  hub CPU time            {:.0} ms per update, with its readers",
            shape.hub_cpu_ms_per_update
        );
    }
    say!("adding 50 devices         {:.0} ms at most", figures.add_50_ms);
    say!("joining by Welcome        p50 {:.0} ms", figures.join_by_welcome_p50_ms);
    if let Some(limits) = &figures.limits {
        for ((devices, sentence), words) in [(&limits.fresh, "one has committed"), (&limits.committed, "all have")] {
            say!("limit, {words:<18} {devices} devices; for one more: {sentence}");
        }
    }
    if let Some(load) = figures.load_average {
        say!("load average              {load:.2}");
    }
}
