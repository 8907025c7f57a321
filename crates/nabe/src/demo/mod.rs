//! `nabe demo`: three providers on this machine talk to each other, and every log is verified.
//!
//! - [`provider`]: the providers: folders, certificates, ports, servers that start and stop
//! - [`client`]: the client API as a provider's backend uses it, the only way the story is told
//! - [`story`]: what happens in a room that is not encrypted, step by step
//! - [`verify`]: what must be true of the logs afterwards
//! - [`encrypted`]: what happens in one that is, and what nobody else could read
//! - [`device`]: the devices in it, and the copy of one that its owner should no longer have
//! - [`mimi`]: the story of MIMI's draft, by the same three providers
//! - [`search`]: looking for plaintext on disk
//! - [`report`]: how all of it is printed

mod client;
mod device;
mod encrypted;
mod mimi;
mod provider;
mod report;
mod search;
mod story;
mod verify;

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::{Demo, DemoProtocol},
    config::{Log, LogFormat},
    telemetry,
};
use encrypted::Encrypted;
use mimi::Mimi;
use provider::{At, Network};
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
    let protocol = arguments.protocol;
    let rooms = match protocol {
        DemoProtocol::Lm => "two rooms",
        DemoProtocol::Mimi => "one room",
        DemoProtocol::All => "three rooms",
    };
    let mut report = Report::new(arguments.json, rooms, folder.path());

    let network = report.step("start", Network::start(folder.path())).await;
    let Some(network) = network else {
        if protocol.is_lm() {
            let second = encrypted::Step::ALL.iter().map(|step| step.name());
            report.skip_all(Step::ALL.iter().map(|step| step.name()).chain(second), "start");
        }
        if protocol.is_mimi() {
            report.skip_all(mimi::Step::ALL.iter().map(|step| step.name()), "start");
        }
        report.close(&[], None);
        return Ok(false);
    };
    let mut story = Story::new(network);
    let devices = folder.path().join("devices");
    let mut encrypted = Encrypted::new(devices.clone());
    if protocol.is_lm() {
        story.tell(&mut report).await;
        encrypted.tell(story.network(), &mut report).await;
    }
    let mut mimi = Mimi::new(folder.path().join("mimi"));
    if protocol.is_mimi() {
        mimi.tell(story.network(), &mut report).await;
    }
    let groups = match protocol {
        DemoProtocol::Mimi => mimi.groups(),
        DemoProtocol::Lm | DemoProtocol::All => encrypted.groups(),
    };
    let mut providers = story.providers().await;
    for (row, at) in providers.iter_mut().zip(At::ALL) {
        if let Some(group) = groups.iter().find(|group| group.at == at) {
            (row.epoch, row.tree_hash) = (Some(group.epoch), Some(group.tree_hash.clone()));
        }
        if protocol == DemoProtocol::Mimi {
            row.user = mimi::user_at(at);
        }
    }
    let ok = report.close(&providers, encrypted.hub_view());
    if arguments.keep {
        let mut interrupt = signal(SignalKind::interrupt()).context("waiting for Ctrl-C")?;
        report.look_around(&providers, story.room(), protocol.is_lm().then_some(devices.as_path()));
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
