//! `nabe serve`: runs until a signal asks it to stop.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusBuilder;
use nabe_http::MetricsText;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::{
    InputAtFault,
    config::Config,
    keys,
    server::{self, Server, Sockets},
    telemetry,
};

/// Serves until SIGINT or SIGTERM; a second signal ends the process at once.
pub(crate) async fn run(path: &Path) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    telemetry::init(&config.log)?;
    // Whatever is wrong with a file is said before a socket is open.
    keys::load(&config.signing).context(InputAtFault)?;
    server::check(&config).context(InputAtFault)?;
    let sockets = Sockets::bind(&config).await?;
    let address = sockets.public.local_addr()?;
    let mimi_address = match &sockets.mimi {
        Some(socket) => Some(socket.local_addr()?),
        None => None,
    };
    let metrics = metrics()?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut server = Server::start(&config, sockets, metrics).await?;
    info!(server_name = %config.server_name, %address, tls = !config.listen.plain_http, "serving");
    if let Some(domain) = &config.mimi.domain {
        info!(%domain, address = %mimi_address.unwrap_or(address), "serving MIMI");
    }
    let broken = tokio::select! {
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        error = server.failed() => Some(error),
    };
    info!("stopping: open requests may finish");
    tokio::select! {
        () = server.stop() => info!("stopped"),
        _ = interrupt.recv() => info!("asked twice: ending at once"),
        _ = terminate.recv() => info!("asked twice: ending at once"),
    }
    broken.map_or(Ok(()), Err)
}

/// Installs the process-wide metrics recorder; the closure renders what it holds.
pub(crate) fn metrics() -> anyhow::Result<MetricsText> {
    let handle = PrometheusBuilder::new()
        .install_recorder()
        .context("installing the metrics recorder")?;
    Ok(Arc::new(move || handle.render()))
}
