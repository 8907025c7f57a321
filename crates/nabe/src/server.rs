//! A running server: storage, outbound requests, use cases and listeners, wired from a configuration.
//!
//! `serve`, `demo` and the end-to-end tests all start servers here.

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use anyhow::Context as _;
use ipnet::IpNet;
use nabe_federation::{HttpsSettings, HttpsTransport, PeerSettings, SignedPeers, TlsSettings};
use nabe_http::{
    AppState, HttpLimits, MetricsText,
    listener::{self, ListenerLimits},
    tls::{self, CertificateFiles},
};
use nabe_mls::SuiteSet;
use nabe_service::{
    Compat, DeliverySettings, Deps, LimitSettings, MediaFolder, MediaSettings, RateLimit, Service, Settings,
    ports::{Clock, SystemClock, SystemEntropy},
};
use nabe_signing::{Signer, sha256};
use nabe_store::Store;
use nabe_store_sqlite::{SqliteOptions, SqliteStore};
use nabe_types::{ServerPattern, ServerPolicy};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tracing::{info, warn};

use crate::{
    InputAtFault,
    config::{Config, PeerCompat},
    keys,
    mimi::Provider,
};

/// How often certificate files are looked at for a change.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(30);

/// A server that accepts connections.
pub(crate) struct Server {
    service: Service,
    shutdown: watch::Sender<bool>,
    listeners: JoinSet<std::io::Result<()>>,
    certificate_watch: Option<JoinHandle<()>>,
}

/// The sockets a server answers on.
pub(crate) struct Sockets {
    /// Federation and client API.
    pub(crate) public: TcpListener,
    /// MIMI, where it has a socket of its own.
    pub(crate) mimi: Option<TcpListener>,
    /// Metrics.
    pub(crate) operations: Option<TcpListener>,
}

impl Sockets {
    /// Binds what the configuration names.
    pub(crate) async fn bind(config: &Config) -> anyhow::Result<Self> {
        let bind = async |address| {
            TcpListener::bind(address)
                .await
                .with_context(|| format!("listening on {address}"))
        };
        Ok(Self {
            public: bind(config.listen.address).await?,
            mimi: match config.mimi.address.filter(|_| config.mimi.domain.is_some()) {
                Some(address) => Some(bind(address).await?),
                None => None,
            },
            operations: match config.listen.operations_address {
                Some(address) => Some(bind(address).await?),
                None => None,
            },
        })
    }
}

impl Server {
    /// Opens the database and starts serving.
    pub(crate) async fn start(config: &Config, sockets: Sockets, metrics: MetricsText) -> anyhow::Result<Self> {
        let certificates = certificates(config)?;
        let provider = config.mimi.open(certificates.as_ref())?;
        let service = start(config, provider.as_ref()).await?;
        let state = AppState {
            service: service.clone(),
            well_known: config.listen.well_known.clone(),
            provider_token_hash: provider_token_hash(config)?,
            ohttp: provider.as_ref().and_then(|provider| provider.ohttp.clone()),
            limits: HttpLimits {
                body_bytes: config.limits.body_bytes,
                ..HttpLimits::default()
            },
            metrics,
        };
        let (shutdown, stopping) = watch::channel(false);
        let mut listeners = JoinSet::new();
        let limits = ListenerLimits {
            connections: config.limits.connections,
            connections_per_address: config.limits.connections_per_address,
            stall: Duration::from_millis(config.limits.stall_ms),
            ..ListenerLimits::default()
        };
        let behind = |proxies: &[IpNet]| ListenerLimits {
            proxies: proxies.to_vec(),
            ..limits.clone()
        };
        let mut open = |socket, tls, app, limits| {
            listeners.spawn(listener::serve(socket, tls, app, limits, stopping.clone()));
        };
        let (shared, own) = match (&provider, sockets.mimi) {
            (Some(provider), Some(socket)) => (None, Some((provider, socket))),
            (provider, _) => (provider.as_ref(), None),
        };
        let tls = match (&certificates, shared) {
            (None, _) => None,
            (Some(_), Some(provider)) => Some(provider.server_tls()?),
            (Some(files), None) => Some(tls::server_config(Arc::clone(files), config.listen.allow_tls12)?),
        };
        let app = match shared {
            Some(provider) => {
                nabe_http::app_with_mimi(nabe_http::mimi::endpoints(), provider.http.clone(), state.clone())?
            }
            None => nabe_http::app(state.clone()),
        };
        open(sockets.public, tls, app, behind(&config.listen.proxy_protocol_from));
        if let Some((provider, socket)) = own {
            let tls = match config.mimi.plain_http {
                true => None,
                false => Some(provider.server_tls()?),
            };
            let app = nabe_http::mimi::endpoints().router(provider.http.clone(), state.clone())?;
            open(socket, tls, app, behind(&config.mimi.proxy_protocol_from));
        }
        if let Some(socket) = sockets.operations {
            let app = nabe_http::operations_router(state);
            open(socket, None, app, limits.clone());
        }
        let mut watched: Vec<_> = certificates.into_iter().collect();
        if let Some(provider) = provider
            && !watched.iter().any(|files| Arc::ptr_eq(files, &provider.certificates))
        {
            watched.push(provider.certificates);
        }
        let certificate_watch = (!watched.is_empty()).then(|| tokio::spawn(watch_certificates(watched, stopping)));
        Ok(Self {
            service,
            shutdown,
            listeners,
            certificate_watch,
        })
    }

    /// Ends when a listener breaks; a server that cannot listen any more should not go on.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        match self.listeners.join_next().await {
            Some(Ok(Err(error))) => anyhow::Error::new(error).context("a listener broke"),
            Some(Err(error)) => anyhow::Error::new(error).context("a listener broke"),
            Some(Ok(Ok(()))) | None => anyhow::anyhow!("a listener ended"),
        }
    }

    /// Lets open requests finish, stops the workers and makes everything durable.
    pub(crate) async fn stop(mut self) {
        self.shutdown.send_replace(true);
        let listeners = async {
            while let Some(ended) = self.listeners.join_next().await {
                if let Ok(Err(error)) = ended {
                    warn!(%error, "a listener ended with an error");
                }
            }
        };
        // Together: it is the service that ends event streams, which would keep their connections open.
        tokio::join!(listeners, self.service.shutdown());
        if let Some(watch) = self.certificate_watch {
            watch.abort();
        }
    }
}

/// Opens the database of a configuration; only one process may have it open.
pub(crate) async fn open_store(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    fs::create_dir_all(&config.data_dir).with_context(|| format!("making {}", config.data_dir.display()))?;
    let options = SqliteOptions {
        path: config.storage.database.clone(),
        readers: config.storage.readers,
    };
    let store = SqliteStore::open(&options)
        .await
        .with_context(|| format!("opening {}", config.storage.database.display()))?;
    Ok(Arc::new(store))
}

/// The use cases over the configuration's database, without listeners. Nothing of MIMI: that is for who serves it.
pub(crate) async fn service(config: &Config) -> anyhow::Result<Service> {
    start(config, None).await
}

async fn start(config: &Config, provider: Option<&Provider>) -> anyhow::Result<Service> {
    // The database first: while we have it, nobody rotates the keys.
    let store = open_store(config).await?;
    let files = open_media(config)?;
    let keys = keys::load(&config.signing).context(InputAtFault)?;
    let signer = Arc::new(Signer::new(config.server_name.clone(), keys.active)?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy = Arc::new(SystemEntropy);
    let mimi = match provider {
        Some(provider) => Some(provider.deps(https_settings(config), policy(config), &clock)?),
        None => None,
    };
    let transport = HttpsTransport::new(https_settings(config), clock.clone(), entropy.clone())?;
    let peers = SignedPeers::new(transport, Arc::clone(&signer), clock.clone(), peer_settings(config));
    let old_keys: BTreeMap<_, _> = keys
        .retired
        .into_iter()
        .map(|key| (key.id, (key.public, key.expired_ts)))
        .collect();
    Ok(Service::start(Deps {
        store,
        peers: Arc::new(peers),
        clock,
        entropy,
        signer,
        old_keys,
        settings: Settings {
            media: MediaSettings {
                folder: Some(files),
                ..config.media.settings(Duration::from_millis(config.limits.stall_ms))
            },
            ..settings(config)
        },
        mimi,
    }))
}

/// Opens the folder of users' files, and removes what uploads left there that never ended. Only for who has the database.
fn open_media(config: &Config) -> anyhow::Result<MediaFolder> {
    let folder = &config.media.folder;
    MediaFolder::open(folder).with_context(|| format!("opening media.folder {}", folder.display()))
}

/// Reads everything the configuration names, without starting anything.
pub(crate) fn check(config: &Config) -> anyhow::Result<()> {
    let certificates = certificates(config)?;
    if let Some(provider) = config.mimi.open(certificates.as_ref())? {
        provider.server_tls()?;
    }
    if let Some(files) = certificates {
        tls::server_config(files, config.listen.allow_tls12)?;
    }
    provider_token_hash(config)?;
    https_settings(config).tls.client_config()?;
    let files = &config.media.folder;
    anyhow::ensure!(
        files.is_dir() || !files.try_exists().unwrap_or(true),
        "media.folder {}: not a folder, or not one that can be looked into",
        files.display()
    );
    Ok(())
}

fn certificates(config: &Config) -> anyhow::Result<Option<Arc<CertificateFiles>>> {
    match (&config.listen.tls_certificate, &config.listen.tls_key) {
        (Some(certificate), Some(key)) => Ok(Some(CertificateFiles::open(certificate, key)?)),
        _ => Ok(None),
    }
}

async fn watch_certificates(watched: Vec<Arc<CertificateFiles>>, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(CERTIFICATE_CHECK) => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
        for files in &watched {
            match files.reload_if_changed() {
                Ok(true) => info!("the TLS certificate changed; new connections use the new one"),
                Ok(false) => {}
                Err(error) => warn!(%error, "the changed TLS certificate cannot be used; the old one stays in use"),
            }
        }
    }
}

fn provider_token_hash(config: &Config) -> anyhow::Result<Option<[u8; 32]>> {
    let Some(path) = &config.client.provider_token_file else {
        return Ok(None);
    };
    let text = fs::read_to_string(path).with_context(|| format!("client.provider_token_file {}", path.display()))?;
    let token = text.trim();
    anyhow::ensure!(
        token.len() >= 32,
        "client.provider_token_file {}: shorter than 32 characters",
        path.display()
    );
    Ok(Some(sha256(token.as_bytes())))
}

fn settings(config: &Config) -> Settings {
    let limits = &config.limits;
    let delivery = &config.delivery;
    let defaults = Settings::new(config.server_name.clone());
    Settings {
        policy: policy(config),
        limits: LimitSettings {
            federation: RateLimit {
                per_second: limits.requests_per_second,
                burst: f64::from(limits.burst),
            },
            client: RateLimit {
                per_second: limits.user_requests_per_second,
                burst: f64::from(limits.user_burst),
            },
            room_memory_bytes: limits.room_cache_bytes,
            outbox_items: delivery.outbox_limit,
            ..config.notary.limits(LimitSettings::default())
        },
        delivery: DeliverySettings {
            backoff_base: Duration::from_millis(delivery.retry_base_ms),
            backoff_max: Duration::from_millis(delivery.retry_max_ms),
            request_timeout: Duration::from_millis(delivery.request_timeout_ms),
            ..DeliverySettings::default()
        },
        notaries: config.federation.notaries.clone(),
        compat: config.peer.iter().flat_map(compat).collect(),
        default_room_version: config
            .client
            .default_room_version
            .clone()
            .unwrap_or_else(|| defaults.default_room_version.clone()),
        suites: match config.mls.experimental_suites {
            true => SuiteSet::all(),
            false => SuiteSet::default(),
        },
        invites_for_unknown_users: config.client.invites_for_unknown_users,
        echo_wait: Duration::from_millis(config.client.echo_wait_ms),
        ..defaults
    }
}

fn compat(peer: &PeerCompat) -> impl Iterator<Item = (ServerPattern, Compat)> {
    let compat = Compat {
        body_in_txn_key: peer.body_in_transaction_key,
        accept_omitted_content: peer.omit_empty_content,
    };
    peer.names.iter().map(move |name| (name.clone(), compat))
}

fn policy(config: &Config) -> ServerPolicy {
    ServerPolicy {
        allow: config.federation.allow.clone(),
        deny: config.federation.deny.clone(),
    }
}

fn names_with(config: &Config, option: impl Fn(&PeerCompat) -> bool) -> Vec<ServerPattern> {
    config
        .peer
        .iter()
        .filter(|peer| option(peer))
        .flat_map(|peer| peer.names.clone())
        .collect()
}

fn peer_settings(config: &Config) -> PeerSettings {
    PeerSettings {
        policy: policy(config),
        omit_content: names_with(config, |peer| peer.omit_empty_content),
        ..PeerSettings::default()
    }
}

/// How the configuration's server reaches others; a client of it trusts the same authorities.
pub(crate) fn https_settings(config: &Config) -> HttpsSettings {
    let federation = &config.federation;
    HttpsSettings {
        tls: TlsSettings {
            system_roots: !federation.only_ca_files,
            extra_root_files: federation.ca_files.clone(),
            permit_tls12: federation.allow_tls12,
            ..TlsSettings::default()
        },
        allowed_networks: federation.allowed_ip_ranges.clone(),
        overrides: federation.overrides.clone(),
        insecure_http: names_with(config, |peer| peer.insecure_http),
        ..HttpsSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_says_nothing_is_the_service_with_its_own_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nabe.toml");
        fs::write(&path, "server_name = \"a.example\"\n[listen]\nplain_http = true\n").unwrap();
        let config = Config::load_with(&path, []).unwrap();
        let defaults = Settings::new(config.server_name.clone());
        assert_eq!(format!("{:?}", settings(&config)), format!("{defaults:?}"));
        let listener = ListenerLimits::default();
        assert_eq!(
            (config.limits.connections, config.limits.connections_per_address),
            (listener.connections, listener.connections_per_address)
        );
        assert_eq!(Duration::from_millis(config.limits.stall_ms), listener.stall);
        assert_eq!(config.limits.body_bytes, HttpLimits::default().body_bytes);
    }

    #[test]
    fn whether_users_nobody_has_seen_can_be_invited_is_for_the_configuration_to_say() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nabe.toml");
        let invites = |client: &str| {
            let text = format!("server_name = \"a.example\"\n[listen]\nplain_http = true\n[client]\n{client}\n");
            fs::write(&path, text).unwrap();
            settings(&Config::load_with(&path, []).unwrap()).invites_for_unknown_users
        };
        assert!(invites(""));
        assert!(!invites("invites_for_unknown_users = false"));
    }
}
