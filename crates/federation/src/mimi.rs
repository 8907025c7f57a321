//! [`MimiPeers`], the service's port of that name: requests to the endpoints of MIMI providers (MIMI #transport-layer, MIMI #directory). Where an endpoint is, the
//! provider's directory says; who we are, `From` and our certificate say, which the [`Transport`] shows.
//!
//! - `directory`: the document, read
//! - `cache`: documents by provider, fetched once however many requests wait for them
//! - `ohttp`: gateways of providers, and their keys
//! - `url`: where a document or an endpoint is
//!
//! The transport is one whose destinations are authorities of URLs, such as
//! [`HttpsTransport::direct`](crate::HttpsTransport::direct): it verifies the certificate for the URL's host and guards the addresses.
//! Wherever a directory leads, that certificate is for the provider's domain as well ([`SpeaksFor`]): else it could have us speak, in our
//! own name, to somebody else.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http::header::{ACCEPT, CONTENT_TYPE, FROM};
use http::{HeaderValue, Request, Response, StatusCode};
use nabe_service::metric::PEER_REQUESTS;
use nabe_service::ports::mimi::{self as port, DirectoryError, MimiPeerError, MimiRequest};
use nabe_service::ports::{Clock, PeerError, PeerResponse, PeerStream};
use nabe_types::{ServerName, ServerPolicy};
use nabe_wire::directory::DIRECTORY_PATH;

use self::cache::{Known, Published};
pub use self::directory::Directory;
use self::directory::MAX_DIRECTORY_BYTES;
use self::url::HttpsUrl;
use crate::discovery::well_known::header;
use crate::peers::{MAX_RETRY_AFTER, retry_after_header};
use crate::transport::{AtMostOnce, ResponseLimit, SpeaksFor, Transport, TransportError};

mod cache;
mod directory;
mod ohttp;
pub(crate) mod url;

/// How to speak to MIMI providers.
#[derive(Clone, Debug)]
pub struct MimiSettings {
    /// Whom we speak to at all.
    pub policy: ServerPolicy,
    /// Longest wait for a directory, redirects included.
    pub directory_timeout: Duration,
}

impl Default for MimiSettings {
    fn default() -> Self {
        Self {
            policy: ServerPolicy::default(),
            directory_timeout: Duration::from_secs(10),
        }
    }
}

impl From<TransportError> for MimiPeerError {
    fn from(error: TransportError) -> Self {
        Self::Peer(error.into())
    }
}

/// Sends requests to MIMI providers in the name of one of them, by `T`.
pub struct MimiPeers<T> {
    transport: T,
    from: HeaderValue,
    clock: Arc<dyn Clock>,
    settings: MimiSettings,
    directories: Published<Directory, DirectoryError>,
    /// Of OHTTP gateways.
    keys: Published<Bytes, MimiPeerError>,
}

impl<T> fmt::Debug for MimiPeers<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MimiPeers")
            .field("from", &self.from)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Where a request goes, by which directory.
struct Route {
    url: HttpsUrl,
    known: Known<Directory>,
}

/// What of a directory a request is for.
trait Find: Fn(&Directory) -> Result<HttpsUrl, MimiPeerError> + Sync {}

impl<F: Fn(&Directory) -> Result<HttpsUrl, MimiPeerError> + Sync> Find for F {}

/// The endpoint that the request is for.
fn endpoint_of(request: &MimiRequest) -> impl Find + '_ {
    move |directory| {
        let endpoint = request.endpoint;
        let template = match directory.template(endpoint) {
            Some(Ok(template)) => template,
            Some(Err(error)) => return Err(MimiPeerError::BadTemplate { endpoint, error }),
            None => return Err(MimiPeerError::NoEndpoint(endpoint)),
        };
        HttpsUrl::parse(&template.expand(&request.target)).ok_or(MimiPeerError::BadUrl(endpoint))
    }
}

impl<T: Transport> MimiPeers<T> {
    /// Requests come from `domain`, for which the transport's certificate must be.
    #[must_use]
    pub fn new(transport: T, domain: &ServerName, clock: Arc<dyn Clock>, settings: MimiSettings) -> Self {
        let from = format!("mimi@{}", domain.host().to_ascii_lowercase());
        Self {
            transport,
            from: HeaderValue::try_from(from).expect("a server name is ASCII without spaces"),
            clock,
            settings,
            directories: Published::default(),
            keys: Published::default(),
        }
    }

    /// Where a request goes by the provider's directory; by another one than `seen`, if that is still the one we know.
    async fn route(
        &self,
        provider: &ServerName,
        find: &impl Find,
        seen: Option<&Known<Directory>>,
    ) -> Result<Route, MimiPeerError> {
        if !self.settings.policy.permits(provider) {
            return Err(PeerError::Refused.into());
        }
        let fetch = within_directory(self.settings.directory_timeout, self.fetch(provider));
        let known = self.directories.get(provider, seen, &*self.clock, fetch).await?;
        let url = find(&known.value)?;
        Ok(Route { url, known })
    }

    /// Another URL for the request that was answered 404, if the directory has changed since.
    async fn moved(&self, provider: &ServerName, find: &impl Find, answered: &Route) -> Option<HttpsUrl> {
        let route = self.route(provider, find, Some(&answered.known)).await.ok()?;
        (route.url != answered.url).then_some(route.url)
    }

    /// Sends what `message` makes to where the directory says, and leaves the answer's body to be read.
    async fn open_at(
        &self,
        provider: &ServerName,
        find: &impl Find,
        message: impl Fn(&HttpsUrl) -> Result<Request<Bytes>, PeerError> + Sync,
        timeout: Duration,
    ) -> Result<PeerStream, MimiPeerError> {
        let outcome = within(timeout, async {
            let open = async |url: &HttpsUrl| {
                let mut message = message(url)?;
                message.extensions_mut().insert(SpeaksFor(provider.clone()));
                let answer = self.transport.open(url.authority(), message, timeout).await?;
                Ok::<_, MimiPeerError>(answer)
            };
            let route = self.route(provider, find, None).await?;
            let answer = open(&route.url).await?;
            if answer.status() == StatusCode::NOT_FOUND
                && let Some(moved) = self.moved(provider, find, &route).await
            {
                return open(&moved).await;
            }
            Ok(answer)
        })
        .await;
        count(&outcome);
        let (head, body) = outcome?.into_parts();
        Ok(PeerStream {
            status: head.status.as_u16(),
            content_type: header(&head.headers, CONTENT_TYPE).map(str::to_owned),
            body: Box::pin(body.map_err(PeerError::from)),
        })
    }

    async fn send(
        &self,
        provider: &ServerName,
        url: &HttpsUrl,
        request: &MimiRequest,
    ) -> Result<Response<Bytes>, MimiPeerError> {
        let mut message = self.message(url, request)?;
        let extensions = message.extensions_mut();
        extensions.insert(ResponseLimit(request.max_response_bytes));
        extensions.insert(SpeaksFor(provider.clone()));
        let answer = self.transport.send(url.authority(), message, request.timeout).await?;
        Ok(answer)
    }

    fn message(&self, url: &HttpsUrl, request: &MimiRequest) -> Result<Request<Bytes>, PeerError> {
        let endpoint = request.endpoint;
        let mut message = Request::builder()
            .method(endpoint.method())
            .uri(url.path().clone())
            .header(FROM, self.from.clone())
            .header(ACCEPT, "*/*");
        if endpoint.method() == "POST" {
            message = message.header(CONTENT_TYPE, "application/octet-stream");
        }
        let mut message = message
            .body(request.body.clone())
            .map_err(|_| PeerError::InvalidRequest)?;
        if !endpoint.may_be_repeated() {
            message.extensions_mut().insert(AtMostOnce);
        }
        Ok(message)
    }

    /// The provider's directory and the headers it came with, redirects followed.
    async fn fetch(&self, provider: &ServerName) -> Result<(Directory, http::HeaderMap), DirectoryError> {
        let mut url = HttpsUrl::new(provider.clone(), DIRECTORY_PATH).ok_or(DirectoryError::Redirects)?;
        for _ in 0..=MAX_REDIRECTS {
            let mut message = Request::get(url.path().clone())
                .header(FROM, self.from.clone())
                .header(ACCEPT, "application/json")
                .body(Bytes::new())
                .map_err(|_| DirectoryError::NoAnswer(PeerError::InvalidRequest))?;
            let extensions = message.extensions_mut();
            extensions.insert(ResponseLimit(MAX_DIRECTORY_BYTES));
            extensions.insert(SpeaksFor(provider.clone()));
            let timeout = self.settings.directory_timeout;
            let answer = self.transport.send(url.authority(), message, timeout).await;
            let (head, body) = answer
                .map_err(|error| DirectoryError::NoAnswer(error.into()))?
                .into_parts();
            match head.status.as_u16() {
                200 => return Ok((Directory::parse(&body)?, head.headers)),
                301 | 302 | 303 | 307 | 308 => {
                    url = header(&head.headers, http::header::LOCATION)
                        .and_then(|location| url.redirected(location))
                        .ok_or(DirectoryError::Redirects)?;
                }
                status => return Err(DirectoryError::Status(status)),
            }
        }
        Err(DirectoryError::Redirects)
    }
}

#[async_trait]
impl<T: Transport> port::MimiPeers for MimiPeers<T> {
    async fn call(&self, provider: &ServerName, request: MimiRequest) -> Result<PeerResponse, MimiPeerError> {
        let outcome = within(request.timeout, async {
            let find = endpoint_of(&request);
            let route = self.route(provider, &find, None).await?;
            let answer = self.send(provider, &route.url, &request).await?;
            if answer.status() == StatusCode::NOT_FOUND
                && let Some(moved) = self.moved(provider, &find, &route).await
            {
                return self.send(provider, &moved, &request).await;
            }
            Ok(answer)
        })
        .await;
        count(&outcome);
        outcome.map(|answer| PeerResponse {
            status: answer.status().as_u16(),
            retry_after: retry_after_header(answer.headers()).map(|wait| wait.min(MAX_RETRY_AFTER)),
            body: answer.into_body(),
        })
    }

    async fn open(&self, provider: &ServerName, request: MimiRequest) -> Result<PeerStream, MimiPeerError> {
        let message = |url: &HttpsUrl| self.message(url, &request);
        self.open_at(provider, &endpoint_of(&request), message, request.timeout)
            .await
    }

    async fn ohttp_keys(&self, provider: &ServerName, timeout: Duration) -> Result<Bytes, MimiPeerError> {
        self.gateway_keys(provider, timeout).await
    }

    async fn ohttp(
        &self,
        provider: &ServerName,
        sealed: Bytes,
        timeout: Duration,
    ) -> Result<PeerStream, MimiPeerError> {
        self.to_gateway(provider, sealed, timeout).await
    }
}

async fn within<A>(time: Duration, answer: impl Future<Output = Result<A, MimiPeerError>>) -> Result<A, MimiPeerError> {
    tokio::time::timeout(time, answer)
        .await
        .unwrap_or(Err(MimiPeerError::Peer(PeerError::Timeout)))
}

async fn within_directory<A>(
    time: Duration,
    answer: impl Future<Output = Result<A, DirectoryError>>,
) -> Result<A, DirectoryError> {
    tokio::time::timeout(time, answer)
        .await
        .unwrap_or(Err(DirectoryError::NoAnswer(PeerError::Timeout)))
}

fn count<A>(outcome: &Result<A, MimiPeerError>) {
    let label = outcome.as_ref().err().map_or("answered", |error| error.label());
    metrics::counter!(PEER_REQUESTS, "outcome" => label).increment(1);
}

const MAX_REDIRECTS: usize = 3;

#[cfg(test)]
mod tests;
