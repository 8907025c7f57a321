//! From a server's name to the addresses, `Host` header and certificate name to use (LM #int-resolve-domain). The
//! outside world is two ports, [`Dns`] and [`WellKnown`]; time is the service's clock. Connecting, and refusing
//! addresses, is the connector's business.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use nabe_service::ports::{Clock, Entropy};
use nabe_types::ServerName;

use self::cache::DelegationCache;
use self::well_known::{Answer, Delegation, interpret};

mod cache;
mod direct;
mod srv;
mod url;
pub(crate) mod well_known;

pub(crate) use self::direct::Direct;
pub use self::srv::SrvRecord;
pub use self::url::WellKnownUrl;

/// Name resolution, as far as discovery needs it.
#[async_trait]
pub trait Dns: Send + Sync + 'static {
    /// The IPv4 and IPv6 addresses of `host`, aliases followed, in order of preference. May be empty.
    ///
    /// # Errors
    ///
    /// [`DnsError`] when the host is unknown or the lookup failed.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError>;

    /// The SRV records of `name` (`_matrix._tcp.example.org`, no final dot), in any order; empty when there are none.
    ///
    /// # Errors
    ///
    /// [`DnsError`] when nobody could say whether there are any.
    async fn srv(&self, name: &str) -> Result<Vec<SrvRecord>, DnsError>;
}

/// A name could not be looked up.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the DNS lookup failed")]
pub struct DnsError;

/// One unauthenticated `GET` with ordinary certificate validation (LM #int-wellknown). Redirects are answers like
/// any other: discovery follows them.
#[async_trait]
pub trait WellKnown: Send + Sync + 'static {
    /// Fetches `url`; the body is at most [`MAX_WELL_KNOWN_BYTES`] long.
    ///
    /// # Errors
    ///
    /// [`WellKnownError`] when there is no complete answer.
    async fn get(&self, url: &WellKnownUrl) -> Result<WellKnownReply, WellKnownError>;
}

/// What a web server answered.
#[derive(Clone, Debug)]
pub struct WellKnownReply {
    /// HTTP status.
    pub status: u16,
    /// HTTP headers.
    pub headers: http::HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// There is no complete answer. Discovery needs no reason: it goes on without delegation.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no answer to the well-known request")]
pub struct WellKnownError;

/// Where to connect and as whom.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// Addresses to try in this order, at least one, at most 16.
    pub addresses: Vec<SocketAddr>,
    /// The `Host` header (HTTP/2: `:authority`).
    pub host_header: String,
    /// The name the certificate must be valid for.
    pub tls_name: String,
    /// Whether the operator wrote the address down, so that no range of addresses is refused.
    pub overridden: bool,
}

/// From the name that a request is for to where it is sent.
#[async_trait]
pub trait Resolve: Send + Sync + 'static {
    /// Where to connect and as whom.
    ///
    /// # Errors
    ///
    /// [`Unresolvable`] when there is no address.
    async fn resolve(&self, name: &ServerName) -> Result<Target, Unresolvable>;
}

/// No address found.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no address found for the server name")]
pub struct Unresolvable;

/// Discovery with its cache of `.well-known` answers. DNS answers are left to the resolver's own caches.
pub struct Discovery {
    dns: Arc<dyn Dns>,
    well_known: Arc<dyn WellKnown>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    overrides: BTreeMap<ServerName, SocketAddr>,
    well_known_timeout: Duration,
    cache: DelegationCache,
}

impl std::fmt::Debug for Discovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Discovery")
            .field("overrides", &self.overrides)
            .finish_non_exhaustive()
    }
}

impl Discovery {
    /// Discovery without overrides that waits at most 5 s for all of a `.well-known` fetch.
    #[must_use]
    pub fn new(
        dns: Arc<dyn Dns>,
        well_known: Arc<dyn WellKnown>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self {
            dns,
            well_known,
            clock,
            entropy,
            overrides: BTreeMap::new(),
            well_known_timeout: Duration::from_secs(5),
            cache: DelegationCache::default(),
        }
    }

    /// Servers that are reached at a fixed address, whatever DNS says. Certificate and `Host` are those of the name.
    #[must_use]
    pub fn with_overrides(mut self, overrides: BTreeMap<ServerName, SocketAddr>) -> Self {
        self.overrides = overrides;
        self
    }

    /// Bounds all of a `.well-known` fetch, redirects included. Should be well below the timeout of a request.
    #[must_use]
    pub const fn with_well_known_timeout(mut self, timeout: Duration) -> Self {
        self.well_known_timeout = timeout;
        self
    }

    /// Resolves a server name by the steps of LM #int-resolve-domain. The draft's numbers have gaps; the comments
    /// give its numbers.
    ///
    /// # Errors
    ///
    /// [`Unresolvable`] when the step that applies finds no address. A bad `.well-known` answer is no error.
    pub async fn resolve(&self, server: &ServerName) -> Result<Target, Unresolvable> {
        if let Some(&address) = self.overrides.get(server) {
            return Ok(Target::overridden(server, address));
        }
        // Step 1
        if let Some(port) = server.port() {
            return self.at_port(server, port).await;
        }
        match self.delegation(server.host()).await {
            // Steps 2.1, and 2.3 with 2.4
            Some(delegated) => match delegated.port() {
                Some(port) => self.at_port(&delegated, port).await,
                None => self.by_srv(delegated.host()).await,
            },
            // Steps 3 and 4
            None => self.by_srv(server.host()).await,
        }
    }

    /// An explicit port: only the host is looked up, and `Host` carries the port.
    async fn at_port(&self, name: &ServerName, port: u16) -> Result<Target, Unresolvable> {
        at_port(&*self.dns, name, port).await
    }

    /// No port: SRV records, else port 8448. Certificate and `Host` are of `host`, never of the SRV target.
    async fn by_srv(&self, host: &str) -> Result<Target, Unresolvable> {
        // A failed lookup counts as no records: the certificate protects us on port 8448 just as well.
        let records = self.dns.srv(&format!("_matrix._tcp.{host}")).await.unwrap_or_default();
        let addresses = if records.is_empty() {
            socket_addresses(&*self.dns, host, DEFAULT_PORT).await?
        } else {
            self.srv_addresses(records).await?
        };
        Ok(Target {
            addresses,
            host_header: host.to_owned(),
            tls_name: host.to_owned(),
            overridden: false,
        })
    }

    async fn srv_addresses(&self, records: Vec<SrvRecord>) -> Result<Vec<SocketAddr>, Unresolvable> {
        let mut addresses = Vec::new();
        for record in srv::in_order(records, &*self.entropy).into_iter().take(MAX_SRV_TARGETS) {
            if let Ok(found) = socket_addresses(&*self.dns, &record.target, record.port).await {
                addresses.extend(found);
            }
        }
        addresses.truncate(MAX_ADDRESSES);
        if addresses.is_empty() {
            Err(Unresolvable)
        } else {
            Ok(addresses)
        }
    }

    /// Step 2: the name that `host` delegates to, from the cache while that is fresh.
    async fn delegation(&self, host: &str) -> Option<ServerName> {
        if let Some(cached) = self.cache.fresh(host, self.clock.now()) {
            return cached;
        }
        // Whoever gives up before the fetch ends leaves a failure behind; otherwise a web server that never answers
        // would be waited for again by each request and none would ever get to the next step.
        let unfinished = FailureUnlessFinished {
            discovery: self,
            host,
            finished: false,
        };
        let fetched = tokio::time::timeout(self.well_known_timeout, self.fetch_delegation(host)).await;
        unfinished.finish(fetched.ok().flatten())
    }

    /// Fetches the delegation, following redirects; `None` for whatever the draft calls invalid.
    async fn fetch_delegation(&self, host: &str) -> Option<Delegation> {
        let mut url = WellKnownUrl::of_host(host)?;
        let mut visited = Vec::new();
        loop {
            let reply = self.well_known.get(&url).await.ok()?;
            match interpret(&url, &reply, self.clock.now()) {
                Answer::Delegates(delegation) => return Some(delegation),
                Answer::Redirects(next) => {
                    visited.push(std::mem::replace(&mut url, next));
                    if visited.len() > MAX_REDIRECTS || visited.contains(&url) {
                        return None;
                    }
                }
                Answer::Invalid => return None,
            }
        }
    }
}

#[async_trait]
impl Resolve for Discovery {
    async fn resolve(&self, name: &ServerName) -> Result<Target, Unresolvable> {
        Self::resolve(self, name).await
    }
}

impl Target {
    /// Where the operator says that it is.
    fn overridden(name: &ServerName, address: SocketAddr) -> Self {
        Self {
            addresses: vec![address],
            host_header: name.as_str().to_owned(),
            tls_name: name.host().to_owned(),
            overridden: true,
        }
    }
}

/// The addresses of a name's host, at this port.
async fn at_port(dns: &dyn Dns, name: &ServerName, port: u16) -> Result<Target, Unresolvable> {
    Ok(Target {
        addresses: socket_addresses(dns, name.host(), port).await?,
        host_header: name.as_str().to_owned(),
        tls_name: name.host().to_owned(),
        overridden: false,
    })
}

async fn socket_addresses(dns: &dyn Dns, host: &str, port: u16) -> Result<Vec<SocketAddr>, Unresolvable> {
    let found = dns.addresses(host).await.map_err(|_| Unresolvable)?;
    let addresses: Vec<_> = found
        .into_iter()
        .take(MAX_ADDRESSES)
        .map(|ip| SocketAddr::new(ip, port))
        .collect();
    if addresses.is_empty() {
        Err(Unresolvable)
    } else {
        Ok(addresses)
    }
}

/// Notes a failed fetch in the cache when dropped before [`finish`](Self::finish).
struct FailureUnlessFinished<'a> {
    discovery: &'a Discovery,
    host: &'a str,
    finished: bool,
}

impl FailureUnlessFinished<'_> {
    fn finish(mut self, delegation: Option<Delegation>) -> Option<ServerName> {
        self.finished = true;
        let now = self.discovery.clock.now();
        match delegation {
            Some(Delegation { server, lifetime }) => {
                self.discovery.cache.succeeded(self.host, server.clone(), lifetime, now);
                Some(server)
            }
            None => {
                self.discovery.cache.failed(self.host, now);
                None
            }
        }
    }
}

impl Drop for FailureUnlessFinished<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.discovery.cache.failed(self.host, self.discovery.clock.now());
        }
    }
}

/// The longest `.well-known` body we read, in bytes.
pub const MAX_WELL_KNOWN_BYTES: usize = 50 * 1024;
/// The port of a server that names none (LM #int-resolve-domain).
const DEFAULT_PORT: u16 = 8448;
const MAX_REDIRECTS: usize = 10;
const MAX_SRV_TARGETS: usize = 8;
const MAX_ADDRESSES: usize = 16;

#[cfg(test)]
mod tests;
