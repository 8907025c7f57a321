//! Logs: text on a terminal, JSON lines otherwise.

use std::io::{self, IsTerminal as _};

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use crate::{
    InputAtFault,
    config::{Log, LogFormat},
};

/// Installs the process's log output. To be called once.
pub(crate) fn init(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.level)
        .with_context(|| format!("log.level = {:?}", log.level))
        .context(InputAtFault)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // Where the log cannot be written, a complaint about that cannot either: it would end in a panic.
        .log_internal_errors(false);
    let text = match log.format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => io::stderr().is_terminal(),
    };
    let installed = if text {
        builder.with_ansi(io::stderr().is_terminal()).try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
    installed.map_err(|error| anyhow::anyhow!("installing the log output: {error}"))
}
