//! [`SignedPeers`]: the service's port [`Peers`] over a [`Transport`]. Policy, signatures (LM #int-transport-auth),
//! the draft's unstable paths, and what a peer says about waiting.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response};
use nabe_service::metric::PEER_REQUESTS;
use nabe_service::ports::{Clock, Method, PeerError, PeerRequest, PeerResponse, PeerStream, Peers};
use nabe_signing::xmatrix::{self, request_object, sign_request};
use nabe_signing::{Json, Object, Signer, XMatrix};
use nabe_types::{ErrorCode, KeyId, ServerName, ServerPattern, ServerPolicy, UnixMillis};

use crate::discovery::well_known::seconds;
use crate::transport::{ResponseLimit, Transport};

/// How to speak to peers.
#[derive(Clone, Debug)]
pub struct PeerSettings {
    /// Whom we speak to at all.
    pub policy: ServerPolicy,
    /// Peers that expect Matrix's signature on a request without body: `content` left out instead of `{}`.
    pub omit_content: Vec<ServerPattern>,
    /// Longest wait for keys, of a server itself or from a notary.
    pub key_timeout: Duration,
    /// Largest key answer read, in bytes.
    pub max_key_bytes: usize,
    /// How long a peer that knows only the unstable paths is asked by those first.
    pub unstable_memory: Duration,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            policy: ServerPolicy::default(),
            omit_content: Vec::new(),
            key_timeout: Duration::from_secs(10),
            max_key_bytes: 1024 * 1024,
            unstable_memory: Duration::from_hours(24),
        }
    }
}

/// Signs requests and sends them by `T`.
pub struct SignedPeers<T> {
    transport: T,
    signer: Arc<Signer>,
    clock: Arc<dyn Clock>,
    settings: PeerSettings,
    /// Peers that did not know a stable path but its unstable alias, and until when to believe it.
    unstable: Mutex<BTreeMap<ServerName, UnixMillis>>,
}

impl<T> fmt::Debug for SignedPeers<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedPeers")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl<T: Transport> SignedPeers<T> {
    /// Requests are signed with every key of `signer`, one header each.
    #[must_use]
    pub const fn new(transport: T, signer: Arc<Signer>, clock: Arc<dyn Clock>, settings: PeerSettings) -> Self {
        Self {
            transport,
            signer,
            clock,
            settings,
            unstable: Mutex::new(BTreeMap::new()),
        }
    }

    fn check_policy(&self, destination: &ServerName) -> Result<(), PeerError> {
        if self.settings.policy.permits(destination) {
            Ok(())
        } else {
            Err(PeerError::Refused)
        }
    }

    /// Sends by the path the peer is known to serve, and by the other one when it is not.
    async fn call_either_path(&self, destination: &ServerName, request: &Outgoing) -> Result<Answer, PeerError> {
        let Some(unstable) = &request.unstable else {
            return self.call_path(destination, request, &request.stable).await;
        };
        let prefers_unstable = self.prefers_unstable(destination);
        let (first, second) = if prefers_unstable {
            (unstable, &request.stable)
        } else {
            (&request.stable, unstable)
        };
        let answer = self.call_path(destination, request, first).await?;
        if !answer.is_unrecognized() {
            return Ok(answer);
        }
        let other = self.call_path(destination, request, second).await?;
        if other.is_unrecognized() {
            return Ok(answer);
        }
        self.remember(destination, !prefers_unstable);
        Ok(other)
    }

    async fn call_path(
        &self,
        destination: &ServerName,
        request: &Outgoing,
        path: &PathAndQuery,
    ) -> Result<Answer, PeerError> {
        let message = self.signed(destination, request, path, JSON_TYPE)?;
        let response = self.transport.send(destination, message, request.timeout).await?;
        Ok(Answer(response))
    }

    /// The request as it is sent, for an answer of this type.
    fn signed(
        &self,
        destination: &ServerName,
        request: &Outgoing,
        path: &PathAndQuery,
        accept: &'static str,
    ) -> Result<Request<Bytes>, PeerError> {
        let mut message = request.message(path, accept)?;
        for header in self.signatures(destination, request, path.as_str()) {
            let value = HeaderValue::try_from(header).map_err(|_| PeerError::InvalidRequest)?;
            message.headers_mut().append(AUTHORIZATION, value);
        }
        Ok(message)
    }

    /// One header value for each of our keys, over exactly the path and content that are sent.
    fn signatures(&self, destination: &ServerName, request: &Outgoing, uri: &str) -> Vec<String> {
        let method = request.method.as_str();
        let content = request.body.as_ref().map(|body| &body.content);
        if content.is_none()
            && self
                .settings
                .omit_content
                .iter()
                .any(|pattern| pattern.matches(destination))
        {
            return self.signatures_without_content(destination, method, uri);
        }
        sign_request(
            &self.signer,
            &xmatrix::Request {
                method,
                uri,
                destination,
                content,
            },
        )
    }

    /// As Matrix has it for a request without body.
    fn signatures_without_content(&self, destination: &ServerName, method: &str, uri: &str) -> Vec<String> {
        let origin = self.signer.server();
        let mut object = request_object(method, uri, origin, destination, None);
        object.remove("content");
        let header = |(key, sig)| {
            XMatrix {
                origin: origin.clone(),
                destination: Some(destination.clone()),
                key,
                sig,
            }
            .to_string()
        };
        self.signer.signatures_of(&object.to_canonical()).map(header).collect()
    }

    fn prefers_unstable(&self, destination: &ServerName) -> bool {
        let now = self.clock.now();
        self.memory().get(destination).is_some_and(|&until| now < until)
    }

    fn remember(&self, destination: &ServerName, unstable: bool) {
        let now = self.clock.now();
        let mut memory = self.memory();
        if !unstable {
            memory.remove(destination);
            return;
        }
        if memory.len() >= MAX_REMEMBERED {
            memory.retain(|_, &mut until| now < until);
        }
        // A full memory costs a peer one more request each time, nothing else.
        if memory.len() < MAX_REMEMBERED {
            memory.insert(destination.clone(), now.plus(self.settings.unstable_memory));
        }
    }

    fn memory(&self) -> MutexGuard<'_, BTreeMap<ServerName, UnixMillis>> {
        // No code that holds the lock can leave the map half changed.
        self.unstable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An unsigned request about keys; only a 200 counts.
    async fn keys(&self, server: &ServerName, request: Outgoing) -> Result<Bytes, PeerError> {
        self.check_policy(server)?;
        let mut message = request.message(&request.stable, JSON_TYPE)?;
        message
            .extensions_mut()
            .insert(ResponseLimit(self.settings.max_key_bytes));
        let response = self.transport.send(server, message, request.timeout).await?;
        match response.status().as_u16() {
            200 => Ok(response.into_body()),
            status => Err(PeerError::Status { status }),
        }
    }
}

#[async_trait]
impl<T: Transport> Peers for SignedPeers<T> {
    async fn call(&self, destination: &ServerName, request: PeerRequest) -> Result<PeerResponse, PeerError> {
        let outcome = async {
            self.check_policy(destination)?;
            let request = Outgoing::try_from(request)?;
            let calls = self.call_either_path(destination, &request);
            let answer = tokio::time::timeout(request.timeout, calls)
                .await
                .map_err(|_| PeerError::Timeout)??;
            Ok(answer.into_response())
        }
        .await;
        count(&outcome);
        outcome
    }

    async fn open(&self, destination: &ServerName, request: PeerRequest) -> Result<PeerStream, PeerError> {
        let outcome = async {
            self.check_policy(destination)?;
            let request = Outgoing::try_from(request)?;
            let message = self.signed(destination, &request, &request.stable, ANY_TYPE)?;
            let answer = self.transport.open(destination, message, request.timeout).await?;
            let (head, body) = answer.into_parts();
            let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            Ok(PeerStream {
                status: head.status.as_u16(),
                content_type: content_type.map(str::to_owned),
                body: Box::pin(body.map_err(PeerError::from)),
            })
        }
        .await;
        count(&outcome);
        outcome
    }

    async fn server_keys(&self, server: &ServerName) -> Result<Bytes, PeerError> {
        let outcome = self
            .keys(
                server,
                Outgoing::get("/_matrix/key/v2/server", self.settings.key_timeout),
            )
            .await;
        count(&outcome);
        outcome
    }

    async fn notary_keys(
        &self,
        notary: &ServerName,
        wanted: &BTreeMap<ServerName, BTreeMap<KeyId, UnixMillis>>,
    ) -> Result<Bytes, PeerError> {
        let request = Outgoing {
            method: Method::Post,
            body: Some(OutgoingBody::from(key_query(wanted))),
            ..Outgoing::get("/_matrix/key/v2/query", self.settings.key_timeout)
        };
        let outcome = self.keys(notary, request).await;
        count(&outcome);
        outcome
    }
}

/// LM #int-api-notary-query-bulk
fn key_query(wanted: &BTreeMap<ServerName, BTreeMap<KeyId, UnixMillis>>) -> Object {
    let criteria = |keys: &BTreeMap<KeyId, UnixMillis>| -> Object {
        keys.iter()
            .map(|(key, until)| {
                let mut criterion = Object::new();
                criterion.insert("minimum_valid_until_ts", until.as_i64());
                (key.as_str().to_owned(), Json::from(criterion))
            })
            .collect()
    };
    let servers: Object = wanted
        .iter()
        .map(|(server, keys)| (server.as_str().to_owned(), Json::from(criteria(keys))))
        .collect();
    let mut query = Object::new();
    query.insert("server_keys", servers);
    query
}

/// A request whose parts have been checked.
struct Outgoing {
    method: Method,
    stable: PathAndQuery,
    unstable: Option<PathAndQuery>,
    body: Option<OutgoingBody>,
    timeout: Duration,
}

/// A body as sent and as signed.
struct OutgoingBody {
    bytes: Bytes,
    content: Json,
}

impl From<Object> for OutgoingBody {
    fn from(object: Object) -> Self {
        Self {
            bytes: object.to_canonical().into(),
            content: object.into(),
        }
    }
}

impl TryFrom<PeerRequest> for Outgoing {
    type Error = PeerError;

    fn try_from(request: PeerRequest) -> Result<Self, PeerError> {
        let body = match (request.body, request.method) {
            (Some(bytes), _) => {
                let content = Json::parse(&bytes).map_err(|_| PeerError::InvalidRequest)?;
                Some(OutgoingBody { bytes, content })
            }
            (None, Method::Get) => None,
            // LM #int-transport-requests-responses: these have a body, empty if need be.
            (None, Method::Put | Method::Post) => Some(OutgoingBody::from(Object::new())),
        };
        Ok(Self {
            method: request.method,
            stable: path(&request.stable)?,
            unstable: request.unstable.as_deref().map(path).transpose()?,
            body,
            timeout: request.timeout,
        })
    }
}

/// A path that is sent as it was written; anything else would break the signature.
fn path(text: &str) -> Result<PathAndQuery, PeerError> {
    let path: PathAndQuery = text.parse().map_err(|_| PeerError::InvalidRequest)?;
    if text.starts_with('/') && path.as_str() == text {
        Ok(path)
    } else {
        Err(PeerError::InvalidRequest)
    }
}

impl Outgoing {
    const fn get(path: &'static str, timeout: Duration) -> Self {
        Self {
            method: Method::Get,
            stable: PathAndQuery::from_static(path),
            unstable: None,
            body: None,
            timeout,
        }
    }

    fn message(&self, path: &PathAndQuery, accept: &'static str) -> Result<Request<Bytes>, PeerError> {
        let mut message = Request::builder()
            .method(self.method.as_str())
            .uri(path.clone())
            .header(ACCEPT, accept);
        if self.body.is_some() {
            message = message.header(CONTENT_TYPE, "application/json");
        }
        let body = self.body.as_ref().map(|body| body.bytes.clone()).unwrap_or_default();
        message.body(body).map_err(|_| PeerError::InvalidRequest)
    }
}

/// What the peer answered.
struct Answer(Response<Bytes>);

impl Answer {
    /// Whether the peer does not serve this path (LM #int-unknown-endpoints): it says `M_UNRECOGNIZED`, or its web
    /// framework answers with a page that is no Matrix error.
    fn is_unrecognized(&self) -> bool {
        match (self.0.status().as_u16(), self.error_code()) {
            (400 | 404 | 405, Some(code)) => code == ErrorCode::Unrecognized.as_str(),
            (404 | 405, None) => true,
            _ => false,
        }
    }

    fn error_code(&self) -> Option<String> {
        let body = self.error_body()?;
        Some(body.get("errcode")?.as_str()?.to_owned())
    }

    fn error_body(&self) -> Option<Object> {
        let has_error = self.0.status().as_u16() >= 400 && self.0.body().len() <= MAX_ERROR_BYTES;
        has_error.then(|| Object::parse(self.0.body()).ok()).flatten()
    }

    /// The longer of what header and body ask for.
    fn retry_after(&self) -> Option<Duration> {
        let by_header = retry_after_header(self.0.headers());
        let by_body = self.error_body().as_ref().and_then(retry_after_body);
        by_header.max(by_body).map(|wait| wait.min(MAX_RETRY_AFTER))
    }

    fn into_response(self) -> PeerResponse {
        let retry_after = self.retry_after();
        PeerResponse {
            status: self.0.status().as_u16(),
            body: self.0.into_body(),
            retry_after,
        }
    }
}

/// `Retry-After` in seconds.
pub(crate) fn retry_after_header(headers: &HeaderMap) -> Option<Duration> {
    seconds(headers.get(RETRY_AFTER)?.to_str().ok()?.trim())
}

/// `retry_after_ms` of a rate-limit error (LM #int-transport, "Rate Limiting").
pub(crate) fn retry_after_body(body: &Object) -> Option<Duration> {
    if body.get("errcode")?.as_str()? != ErrorCode::LimitExceeded.as_str() {
        return None;
    }
    let millis = u64::try_from(body.get("retry_after_ms")?.as_i64()?).ok()?;
    Some(Duration::from_millis(millis))
}

fn count<T>(outcome: &Result<T, PeerError>) {
    let label = outcome.as_ref().err().map_or("answered", |error| error.label());
    metrics::counter!(PEER_REQUESTS, "outcome" => label).increment(1);
}

const JSON_TYPE: &str = "application/json";
const ANY_TYPE: &str = "*/*";
const MAX_REMEMBERED: usize = 4096;
/// No error we understand is longer.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// No peer keeps us waiting longer.
pub(crate) const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests;
