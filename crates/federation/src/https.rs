//! [`HttpsTransport`]: the transport of a running server. Discovery, then a pooled connection over TLS 1.3 with HTTP/2
//! or HTTP/1.1 (LM #int-transport), every wait and every buffer bounded.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use ipnet::IpNet;
use nabe_service::ports::{Clock, Entropy};
use nabe_types::{ServerName, ServerPattern};

use crate::address::AddressGuard;
use crate::connect::{self, Connector, Failure, Security, WellKnownFetch};
use crate::discovery::{Direct, Discovery, Dns, Resolve};
use crate::dns::SystemDns;
use crate::pool::{Gate, Pool, PoolLimits, Pooled};
use crate::tls::{TlsError, TlsSettings};
use crate::transport::{AtMostOnce, ResponseLimit, Transport, TransportBody, TransportError};

/// How to reach other servers.
#[derive(Clone, Debug)]
pub struct HttpsSettings {
    /// Trust anchors and TLS versions.
    pub tls: TlsSettings,
    /// Networks that may be connected to although they are not public.
    pub allowed_networks: Vec<IpNet>,
    /// Servers reached at a fixed address, which need not be public. Certificate and `Host` are those of the name.
    pub overrides: BTreeMap<ServerName, SocketAddr>,
    /// Servers spoken to in plain HTTP/1.1, for experiments only: the draft requires TLS.
    pub insecure_http: Vec<ServerPattern>,
    /// Longest wait for TCP to one address.
    pub connect_timeout: Duration,
    /// Longest wait for TLS and HTTP setup.
    pub handshake_timeout: Duration,
    /// Longest wait for `.well-known`, redirects included.
    pub well_known_timeout: Duration,
    /// Largest answer read, in bytes.
    pub max_response_bytes: usize,
    /// Requests in progress to one destination.
    pub max_in_flight: usize,
    /// Requests that wait to be in progress to one destination; one more fails with [`TransportError::Busy`].
    pub max_waiting: usize,
    /// Idle connections kept to one destination.
    pub max_idle_per_destination: usize,
    /// Idle and shared connections kept in all.
    pub max_connections: usize,
    /// A connection unused for this long is closed.
    pub idle_timeout: Duration,
    /// A connection older than this takes no new request, so that a peer that moves is found again.
    pub max_connection_age: Duration,
}

impl Default for HttpsSettings {
    fn default() -> Self {
        Self {
            tls: TlsSettings::default(),
            allowed_networks: Vec::new(),
            overrides: BTreeMap::new(),
            insecure_http: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(5),
            well_known_timeout: Duration::from_secs(5),
            max_response_bytes: 64 * 1024 * 1024,
            max_in_flight: 16,
            max_waiting: 256,
            max_idle_per_destination: 4,
            max_connections: 512,
            idle_timeout: Duration::from_mins(1),
            max_connection_age: Duration::from_mins(10),
        }
    }
}

/// Sends requests to other servers over HTTPS.
pub struct HttpsTransport {
    settings: HttpsSettings,
    clock: Arc<dyn Clock>,
    resolver: Box<dyn Resolve>,
    connector: Arc<Connector>,
    pool: Arc<Pool>,
}

impl std::fmt::Debug for HttpsTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpsTransport")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl HttpsTransport {
    /// A transport with the system's DNS. Call inside a tokio runtime: a task closes idle connections for as long as
    /// the transport lives.
    ///
    /// # Errors
    ///
    /// [`TlsError`] when the trust anchors are unusable.
    pub fn new(settings: HttpsSettings, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Self, TlsError> {
        Self::with_dns(settings, clock, entropy, Arc::new(SystemDns::new()))
    }

    /// A transport that resolves names by `dns`. Otherwise as [`new`](Self::new).
    ///
    /// # Errors
    ///
    /// [`TlsError`] when the trust anchors are unusable.
    pub fn with_dns(
        settings: HttpsSettings,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        dns: Arc<dyn Dns>,
    ) -> Result<Self, TlsError> {
        let connector = settings.connector()?;
        let well_known = WellKnownFetch {
            connector: Arc::clone(&connector),
            dns: Arc::clone(&dns),
        };
        let discovery = Discovery::new(dns, Arc::new(well_known), Arc::clone(&clock), entropy)
            .with_overrides(settings.overrides.clone())
            .with_well_known_timeout(settings.well_known_timeout);
        Ok(Self::with_parts(settings, clock, connector, Box::new(discovery)))
    }

    /// A transport whose destinations are authorities of `https` URLs: no discovery, port 443 unless they have one, always
    /// TLS. Otherwise as [`new`](Self::new).
    ///
    /// # Errors
    ///
    /// [`TlsError`] when the trust anchors are unusable.
    pub fn direct(settings: HttpsSettings, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        Self::direct_with_dns(settings, clock, Arc::new(SystemDns::new()))
    }

    /// As [`direct`](Self::direct), with names resolved by `dns`.
    ///
    /// # Errors
    ///
    /// [`TlsError`] when the trust anchors are unusable.
    pub fn direct_with_dns(
        mut settings: HttpsSettings,
        clock: Arc<dyn Clock>,
        dns: Arc<dyn Dns>,
    ) -> Result<Self, TlsError> {
        settings.insecure_http = Vec::new();
        let connector = settings.connector()?;
        let resolver = Direct::new(dns, settings.overrides.clone());
        Ok(Self::with_parts(settings, clock, connector, Box::new(resolver)))
    }

    fn with_parts(
        settings: HttpsSettings,
        clock: Arc<dyn Clock>,
        connector: Arc<Connector>,
        resolver: Box<dyn Resolve>,
    ) -> Self {
        let pool = Arc::new(Pool::new(settings.pool_limits()));
        tokio::spawn(close_idle_connections(Arc::downgrade(&pool), Arc::clone(&clock)));
        Self {
            settings,
            clock,
            resolver,
            connector,
            pool,
        }
    }

    async fn exchange(
        &self,
        destination: &ServerName,
        request: &Request<Bytes>,
    ) -> Result<Response<Bytes>, TransportError> {
        let gate = self.pool.gate(destination, self.clock.now());
        let _admitted = gate.admitted.try_acquire().map_err(|_| TransportError::Busy)?;
        let _in_flight = gate.in_flight.acquire().await.map_err(|_| TransportError::Busy)?;
        if let Some(pooled) = self.pool.take(destination, self.clock.now()) {
            match self.exchange_on(pooled, destination, request).await {
                // The peer closed the connection while it was idle. Requests may be repeated: transaction IDs make
                // the others what `GET` is by nature (LM #int-txn-ids); those that may not say so.
                Err(Failure {
                    connection_lost: true,
                    never_sent,
                    ..
                }) if never_sent || request.extensions().get::<AtMostOnce>().is_none() => {
                    self.pool.discard(destination);
                }
                answered => return answered.map_err(|failure| failure.error),
            }
        }
        let pooled = self.connect(destination, &gate).await?;
        self.exchange_on(pooled, destination, request)
            .await
            .map_err(|failure| failure.error)
    }

    async fn exchange_on(
        &self,
        mut pooled: Pooled,
        destination: &ServerName,
        request: &Request<Bytes>,
    ) -> Result<Response<Bytes>, Failure> {
        let asked = request
            .extensions()
            .get()
            .map_or(usize::MAX, |&ResponseLimit(limit)| limit);
        let limit = self.settings.max_response_bytes.min(asked);
        let response = pooled.connection.exchange(request, limit).await?;
        if pooled.connection.share().is_none() {
            self.pool.keep(destination, pooled, self.clock.now());
        }
        Ok(response)
    }

    /// A new connection, or the one that somebody else opened while we waited for our turn to open one.
    async fn connect(&self, destination: &ServerName, gate: &Gate) -> Result<Pooled, TransportError> {
        let _turn = gate.connecting.lock().await;
        if let Some(pooled) = self.pool.take(destination, self.clock.now()) {
            return Ok(pooled);
        }
        let target = self
            .resolver
            .resolve(destination)
            .await
            .map_err(|_| TransportError::Unresolvable)?;
        let connection = self.connector.connect(&target, self.security(destination)).await?;
        let now = self.clock.now();
        if let Some(shared) = connection.share() {
            self.pool.keep(destination, Pooled::new(shared, now), now);
        }
        Ok(Pooled::new(connection, now))
    }

    /// A request on a connection of its own: what takes long there delays nothing else, and ends with the connection.
    async fn open_alone(
        &self,
        destination: &ServerName,
        request: &Request<Bytes>,
    ) -> Result<Response<TransportBody>, TransportError> {
        let target = self
            .resolver
            .resolve(destination)
            .await
            .map_err(|_| TransportError::Unresolvable)?;
        let mut connection = self.connector.connect(&target, self.security(destination)).await?;
        let answer = connection.open(request).await.map_err(|failure| failure.error)?;
        let (head, body) = answer.into_parts();
        // The connection lives as long as the body.
        let pieces = stream::try_unfold((body, connection), |(mut body, connection)| async {
            Ok(connect::next_piece(&mut body)
                .await?
                .map(|piece| (piece, (body, connection))))
        });
        Ok(Response::from_parts(head, Box::pin(pieces)))
    }

    fn security(&self, destination: &ServerName) -> Security {
        let is_insecure = self
            .settings
            .insecure_http
            .iter()
            .any(|pattern| pattern.matches(destination));
        if is_insecure { Security::None } else { Security::Tls }
    }
}

#[async_trait]
impl Transport for HttpsTransport {
    async fn send(
        &self,
        destination: &ServerName,
        request: Request<Bytes>,
        timeout: Duration,
    ) -> Result<Response<Bytes>, TransportError> {
        let mut unfinished = DiscardUnlessFinished {
            pool: &self.pool,
            destination,
            finished: false,
        };
        let exchange = self.exchange(destination, &request);
        let outcome = tokio::time::timeout(timeout, exchange)
            .await
            .map_err(|_| TransportError::Timeout)?;
        unfinished.finished = true;
        outcome
    }

    async fn open(
        &self,
        destination: &ServerName,
        request: Request<Bytes>,
        timeout: Duration,
    ) -> Result<Response<TransportBody>, TransportError> {
        tokio::time::timeout(timeout, self.open_alone(destination, &request))
            .await
            .map_err(|_| TransportError::Timeout)?
    }
}

/// Forgets the connections to a destination when a request was given up, by its timeout or by whoever made it: the
/// peer may be gone without having closed them.
struct DiscardUnlessFinished<'a> {
    pool: &'a Pool,
    destination: &'a ServerName,
    finished: bool,
}

impl Drop for DiscardUnlessFinished<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.pool.discard(self.destination);
        }
    }
}

impl HttpsSettings {
    fn connector(&self) -> Result<Arc<Connector>, TlsError> {
        Ok(Arc::new(Connector::new(
            AddressGuard::new(self.allowed_networks.clone()),
            self.tls.client_config()?,
            self.connect_timeout,
            self.handshake_timeout,
        )))
    }

    const fn pool_limits(&self) -> PoolLimits {
        PoolLimits {
            max_in_flight: self.max_in_flight,
            max_waiting: self.max_waiting,
            max_idle_per_destination: self.max_idle_per_destination,
            max_connections: self.max_connections,
            idle_timeout: self.idle_timeout,
            max_age: self.max_connection_age,
        }
    }
}

/// Runs until the pool is gone.
async fn close_idle_connections(pool: Weak<Pool>, clock: Arc<dyn Clock>) {
    while let Some(pause) = pool.upgrade().map(|pool| pool.idle_timeout() / 2) {
        clock.sleep(pause.max(MIN_SWEEP_PAUSE)).await;
        if let Some(pool) = pool.upgrade() {
            pool.sweep(clock.now());
        }
    }
}

const MIN_SWEEP_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
