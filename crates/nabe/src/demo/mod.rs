//! `nabe demo`: three providers on this machine talk to each other, and every log is verified.
//!
//! - [`provider`]: the providers: folders, certificates, ports, servers that start and stop
//! - [`client`]: the client API as a provider's backend uses it, the only way the story is told
//! - [`story`]: what happens, step by step
//! - [`verify`]: what must be true of the logs afterwards
//! - [`report`]: how all of it is printed

mod client;
mod provider;
mod report;
mod story;
mod verify;

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::Demo,
    config::{Log, LogFormat},
    telemetry,
};
use provider::Network;
use report::Report;
use story::{Step, Story};

/// Tells the story; `true` when every step was verified.
pub(crate) async fn run(arguments: &Demo) -> anyhow::Result<bool> {
    // Quiet: servers that stop and come back are the story, and their peers would comment on it.
    let level = std::env::var("RUST_LOG").unwrap_or_else(|_| QUIET.to_owned());
    telemetry::init(&Log {
        format: LogFormat::Auto,
        level,
    })?;
    let folder = TempDir::with_prefix("nabe-demo-").context("making a temporary folder")?;
    let mut report = Report::new(arguments.json, folder.path());

    let network = report.step("start", Network::start(folder.path())).await;
    let Some(network) = network else {
        report.skip_all(Step::ALL.iter().map(|step| step.name()), "start");
        report.close(&[]);
        return Ok(false);
    };
    let mut story = Story::new(network);
    story.tell(&mut report).await;
    let providers = story.providers().await;
    let ok = report.close(&providers);
    if arguments.keep {
        let mut interrupt = signal(SignalKind::interrupt()).context("waiting for Ctrl-C")?;
        report.look_around(&providers, story.room());
        interrupt.recv().await;
    }
    story.stop().await;
    if arguments.keep {
        report.afterwards(&folder.keep(), &providers);
    }
    Ok(ok)
}

/// Delivery to a server that is down, and what comes of stopping one, is no news here.
const QUIET: &str = "warn,nabe_service::deliver=error,nabe_http=error";
