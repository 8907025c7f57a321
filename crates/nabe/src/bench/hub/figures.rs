//! What `bench hub` has measured, and how it is printed.

use serde::Serialize;

use crate::{
    bench::{latency::Latency, open_loop::AtRate},
    output::say,
};

/// The figures, in the shape that `--json` prints.
#[derive(Serialize)]
pub(super) struct Figures {
    pub(super) events: u64,
    pub(super) rooms: u32,
    pub(super) origins: u32,
    /// Beside the origins.
    pub(super) followers: u32,
    pub(super) batch: u32,
    pub(super) accepted_per_s: f64,
    pub(super) hub_cpu_us_per_event: f64,
    /// To the database and its write-ahead log.
    pub(super) hub_bytes_written_per_event: Option<f64>,
    /// Of a transaction, from sending it.
    #[serde(flatten)]
    pub(super) latency: Latency,
    /// With `--rate`.
    pub(super) at_rate: Option<AtRate>,
    /// Whether the database has everything that was accepted after the hub was killed.
    pub(super) durable: bool,
    pub(super) delivered: u64,
    pub(super) delivered_after_ms: f64,
    pub(super) hub_resident_bytes: Option<u64>,
    pub(super) load_average: Option<f64>,
}

pub(super) fn print_text(figures: &Figures) {
    say!(
        "{} events in {} room(s), from {} origin(s), up to {} a transaction; {} more follower(s)",
        figures.events,
        figures.rooms,
        figures.origins,
        figures.batch,
        figures.followers
    );
    say!("  accepted per second       {:.0}", figures.accepted_per_s);
    say!("  hub CPU time per event    {:.0} µs", figures.hub_cpu_us_per_event);
    if let Some(bytes) = figures.hub_bytes_written_per_event {
        say!("  written for each event    {bytes:.0} bytes");
    }
    figures.latency.print("transaction latency");
    say!(
        "  delivered                 {} events, the last of the first part after {:.0} ms",
        figures.delivered,
        figures.delivered_after_ms
    );
    if let Some(at_rate) = &figures.at_rate {
        at_rate.print();
    }
    say!(
        "  durable                   {}",
        if figures.durable {
            "yes: all accepted events are in the database of the killed hub"
        } else {
            "NO: accepted events are not in the database of the killed hub"
        }
    );
    if let Some(bytes) = figures.hub_resident_bytes {
        say!(
            "  hub memory                {:.1} MiB",
            bytes as f64 / (1024.0 * 1024.0)
        );
    }
    if let Some(load) = figures.load_average {
        say!("  load average              {load:.2}");
    }
}
