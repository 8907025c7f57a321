//! Three providers in one process: what `nabe init` makes, in separate folders, and servers that can be stopped and
//! started again.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use nabe_federation::{HttpsTransport, PeerSettings, SignedPeers};
use nabe_service::ports::{Clock as _, SystemClock, SystemEntropy};
use nabe_signing::Signer;
use nabe_types::ServerName;
use tokio::{net::TcpListener, time::timeout};

use super::client::{Backend, wait_for};
use crate::{
    cli::Init,
    config::Config,
    init, keys,
    server::{self, Server, Sockets},
};

/// Which provider: the index of a [`Network`]'s array.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum At {
    /// The hub.
    A,
    B,
    C,
}

impl At {
    pub(super) const ALL: [Self; 3] = [Self::A, Self::B, Self::C];

    pub(super) const fn server_name(self) -> &'static str {
        match self {
            Self::A => "a.localhost",
            Self::B => "b.localhost",
            Self::C => "c.localhost",
        }
    }
}

/// The three providers.
pub(super) struct Network {
    providers: [Provider; 3],
}

impl Network {
    /// Makes the folders, binds the ports, starts the servers, and waits until each answers over TLS.
    pub(super) async fn start(folder: &Path) -> anyhow::Result<(Self, String)> {
        // All ports first: each configuration names the others'.
        let mut sockets = Vec::new();
        let mut addresses = BTreeMap::new();
        for at in At::ALL {
            let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .await
                .context("binding a port on 127.0.0.1")?;
            addresses.insert(ServerName::parse(at.server_name())?, socket.local_addr()?);
            sockets.push(socket);
        }
        let mut providers = Vec::new();
        for (at, socket) in At::ALL.into_iter().zip(sockets) {
            let mut provider = Provider::found(folder, at, &addresses)?;
            provider.sockets = Some(Sockets {
                public: socket,
                mimi: None,
                operations: None,
            });
            provider.start().await?;
            providers.push(provider);
        }
        let listening: Vec<String> = providers.iter().map(Provider::url).collect();
        let providers = providers.try_into().ok().context("there are three providers")?;
        let detail = format!(
            "Three servers with a database each answer over TLS 1.3: {}.",
            listening.join(", ")
        );
        Ok((Self { providers }, detail))
    }

    pub(super) const fn at(&self, at: At) -> &Provider {
        &self.providers[at as usize]
    }

    pub(super) const fn at_mut(&mut self, at: At) -> &mut Provider {
        &mut self.providers[at as usize]
    }

    pub(super) async fn stop(&mut self) {
        for provider in &mut self.providers {
            // One that hangs is not worth waiting for: the process ends now.
            let _ = timeout(Duration::from_secs(10), provider.stop()).await;
        }
    }
}

/// A provider: a folder, and a server while it runs.
pub(super) struct Provider {
    config: Config,
    folder: PathBuf,
    backend: Backend,
    /// Bound before the first start; a later start binds the same address again.
    sockets: Option<Sockets>,
    running: Option<Server>,
}

impl Provider {
    fn found(parent: &Path, at: At, addresses: &BTreeMap<ServerName, SocketAddr>) -> anyhow::Result<Self> {
        let server_name = ServerName::parse(at.server_name())?;
        let address = addresses[&server_name];
        let folder = parent.join(server_name.as_str());
        // The first one's CA issues everybody's certificates.
        let dev_ca = (at != At::A).then(|| parent.join(At::A.server_name()));
        init::write(
            &Init {
                dir: folder.clone(),
                mimi: Some(server_name.clone()),
                server_name,
                dev_tls: true,
                dev_ca,
                certificate_profile: None,
            },
            SystemClock.now(),
        )?;
        let file = folder.join("nabe.toml");
        fs::write(&file, config_text(at.server_name(), address, addresses))?;
        let config = Config::load_with(&file, [])?;
        let backend = Backend::new(&config)?;
        Ok(Self {
            config,
            folder,
            backend,
            sockets: None,
            running: None,
        })
    }

    /// Starts the server on its folder and its port, and waits until it is ready.
    pub(super) async fn start(&mut self) -> anyhow::Result<()> {
        let sockets = match self.sockets.take() {
            Some(sockets) => sockets,
            None => Sockets::bind(&self.config).await?,
        };
        let server = Server::start(&self.config, sockets, Arc::new(String::new)).await;
        self.running = Some(server.with_context(|| format!("starting {}", self.config.server_name))?);
        wait_for("the server to be ready", async || {
            Ok(self.backend.is_ready().await.then_some(()))
        })
        .await
    }

    /// Stops the server as a signal would; the folder stays.
    pub(super) async fn stop(&mut self) {
        if let Some(server) = self.running.take() {
            server.stop().await;
        }
    }

    pub(super) const fn backend(&self) -> &Backend {
        &self.backend
    }

    pub(super) const fn server_name(&self) -> &ServerName {
        &self.config.server_name
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.config.listen.address
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}:{}", self.config.server_name, self.address().port())
    }

    pub(super) fn config_file(&self) -> PathBuf {
        self.folder.join("nabe.toml")
    }

    pub(super) fn token_file(&self) -> PathBuf {
        self.folder.join("provider.token")
    }

    pub(super) fn ca_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Speaks to other servers as this provider does, with its signing key: for looking at events as servers see them.
    pub(super) fn peers(&self) -> anyhow::Result<SignedPeers<HttpsTransport>> {
        let keys = keys::load(&self.config.signing)?;
        let signer = Arc::new(Signer::new(self.config.server_name.clone(), keys.active)?);
        let clock = Arc::new(SystemClock);
        let transport = HttpsTransport::new(
            server::https_settings(&self.config),
            clock.clone(),
            Arc::new(SystemEntropy),
        )?;
        Ok(SignedPeers::new(transport, signer, clock, PeerSettings::default()))
    }
}

/// A configuration for a closed network without DNS, in which nobody waits long.
fn config_text(name: &str, address: SocketAddr, addresses: &BTreeMap<ServerName, SocketAddr>) -> String {
    let overrides: String = addresses
        .iter()
        .map(|(server, address)| format!("\"{server}\" = \"{address}\"\n"))
        .collect();
    format!(
        r#"# Written by `nabe demo`.
server_name = "{name}"

[listen]
address = "{address}"
tls_certificate = "tls.pem"
tls_key = "tls.key"

[federation]
ca_files = ["ca.pem"]
only_ca_files = true

[federation.overrides]
{overrides}
[mimi]
domain = "{name}"
ca_files = ["ca.pem"]
only_ca_files = true

[mimi.overrides]
{overrides}
[client]
provider_token_file = "provider.token"

[delivery]
retry_base_ms = 50
retry_max_ms = 500
"#
    )
}
