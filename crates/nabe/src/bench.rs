//! `nabe bench`: what a hub costs. The parts that are measured run as processes of their own.

mod group;
mod hub;
mod latency;
mod load;
mod mimi;
pub(crate) mod mls;
mod open_loop;
mod process;
pub(crate) mod scenario;
pub(crate) mod sink;
mod start;

pub(crate) use group::run as group;

use std::{process::Child, time::Instant};

use clap::{CommandFactory as _, error::ErrorKind};

use crate::cli::{BenchHub, BenchProtocol, BenchStart, Cli};

/// `nabe bench hub`.
pub(crate) async fn hub(arguments: &BenchHub) -> anyhow::Result<()> {
    refuse(arguments.fault());
    match arguments.protocol {
        BenchProtocol::Lm => hub::run(arguments).await,
        BenchProtocol::Mimi => mimi::run(arguments).await,
    }
}

/// `nabe bench start`.
pub(crate) async fn start(arguments: &BenchStart) -> anyhow::Result<()> {
    refuse(arguments.fault());
    start::run(arguments).await
}

/// Ends the process as any wrong command line does, if there is a fault.
fn refuse(fault: Option<String>) {
    if let Some(fault) = fault {
        Cli::command().error(ErrorKind::ArgumentConflict, fault).exit();
    }
}

/// A child process that ends with us.
struct Process(Child);

impl Process {
    fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}
