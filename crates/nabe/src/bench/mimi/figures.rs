//! What `bench hub --protocol mimi` has measured, and how it is printed.

use std::time::Duration;

use serde::Serialize;

use crate::{
    bench::{latency::Latency, open_loop::AtRate, process::Spent},
    output::say,
};

/// The figures, in the shape that `--json` prints.
#[derive(Serialize)]
pub(super) struct Figures {
    pub(super) rooms: u32,
    pub(super) in_flight: u32,
    /// Of a request, bytes.
    pub(super) message_bytes: usize,
    /// In rooms that nobody follows but the senders' provider.
    pub(super) alone: Phase,
    /// In rooms with followers.
    pub(super) followed: Phase,
    /// With `--rate`, in rooms with followers.
    pub(super) at_rate: Option<AtRate>,
    /// By how much the followers make a message more expensive.
    pub(super) fan_out_adds_percent: f64,
    /// The largest request by which a client joined: an external commit with all of the GroupInfo.
    pub(super) largest_update_bytes: usize,
    pub(super) largest_update_ms: f64,
    /// Whether the database has everything that was accepted after the hub was killed.
    pub(super) durable: bool,
    pub(super) hub_resident_bytes: Option<u64>,
    pub(super) hub_peak_bytes: Option<u64>,
    pub(super) load_average: Option<f64>,
}

/// What was measured in rooms of one kind.
#[derive(Serialize)]
pub(super) struct Phase {
    pub(super) followers: u32,
    pub(super) messages: u64,
    pub(super) accepted_per_s: f64,
    pub(super) hub_cpu_us_per_message: f64,
    /// The same in the turn that took least.
    pub(super) hub_cpu_us_per_message_fastest: f64,
    /// To the database and its write-ahead log.
    pub(super) hub_bytes_written_per_message: Option<f64>,
    /// Of a request, from sending it.
    #[serde(flatten)]
    pub(super) latency: Latency,
    pub(super) delivered: u64,
}

/// One turn: what it cost the hub, and how long it and each request took.
pub(super) struct Turn {
    pub(super) spent: Spent,
    pub(super) time: Duration,
    pub(super) latencies: Vec<Duration>,
}

impl Phase {
    pub(super) fn of(followers: u32, turns: Vec<Turn>, delivered: u64) -> Self {
        let time: Duration = turns.iter().map(|turn| turn.time).sum();
        let cpu: f64 = turns.iter().map(|turn| turn.spent.cpu_us()).sum();
        let each = turns
            .iter()
            .map(|turn| turn.spent.cpu_us() / turn.latencies.len() as f64);
        let fastest = each.fold(f64::INFINITY, f64::min);
        let spent = turns.iter().map(|turn| turn.spent).reduce(Spent::and);
        let latencies: Vec<_> = turns.into_iter().flat_map(|turn| turn.latencies).collect();
        let messages = latencies.len() as u64;
        Self {
            followers,
            messages,
            accepted_per_s: messages as f64 / time.as_secs_f64(),
            hub_cpu_us_per_message: cpu / messages as f64,
            hub_cpu_us_per_message_fastest: fastest,
            hub_bytes_written_per_message: spent.and_then(|spent| spent.bytes_written_for(messages)),
            latency: Latency::of(latencies),
            delivered,
        }
    }
}

pub(super) fn print_text(figures: &Figures) {
    say!(
        "messages of {} bytes in {} room(s) of each kind, {} on their way at once",
        figures.message_bytes,
        figures.rooms,
        figures.in_flight
    );
    for phase in [&figures.alone, &figures.followed] {
        say!("{} messages, {} follower(s)", phase.messages, phase.followers);
        say!("  accepted per second       {:.0}", phase.accepted_per_s);
        say!(
            "  hub CPU time per message  {:.0} µs, in the fastest turn {:.0} µs",
            phase.hub_cpu_us_per_message,
            phase.hub_cpu_us_per_message_fastest
        );
        if let Some(bytes) = phase.hub_bytes_written_per_message {
            say!("  written for each message  {bytes:.0} bytes");
        }
        phase.latency.print("latency of a request");
        say!("  delivered                 {} messages", phase.delivered);
    }
    if let Some(at_rate) = &figures.at_rate {
        at_rate.print();
    }
    say!("fan-out adds                {:.0} %", figures.fan_out_adds_percent);
    say!(
        "durable                     {}",
        if figures.durable {
            "yes: all accepted messages are in the database of the killed hub"
        } else {
            "NO: accepted messages are not in the database of the killed hub"
        }
    );
    say!(
        "largest update              {} bytes, accepted after {:.0} ms",
        figures.largest_update_bytes,
        figures.largest_update_ms
    );
    if let (Some(now), Some(peak)) = (figures.hub_resident_bytes, figures.hub_peak_bytes) {
        let mib = |bytes: u64| bytes as f64 / (1024.0 * 1024.0);
        say!(
            "hub memory                  {:.1} MiB, at most {:.1} MiB",
            mib(now),
            mib(peak)
        );
    }
    if let Some(load) = figures.load_average {
        say!("load average                {load:.2}");
    }
}
