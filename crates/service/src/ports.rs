//! What the service asks of the outside world: other servers ([`Peers`]), time ([`Clock`]) and randomness
//! ([`Entropy`]); MIMI providers are asked through [`mimi::MimiPeers`], and the web through [`assets::Assets`]. The federation
//! crate implements all that goes to others; tests replace everything. No HTTP, TLS or DNS type appears here, so that a use case cannot depend on how a
//! request travels.

pub mod assets;
pub mod mimi;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use nabe_signing::json::{Json, JsonError, Limits};
use nabe_types::{KeyId, ServerName, UnixMillis};
use tokio::sync::watch;

/// Requests to other servers (LM #int-transport). One call is one logical request: the implementation discovers
/// the destination, signs, and may repeat the request under the draft's unstable path; it never retries otherwise
/// and never sleeps for the peer's sake. Backing off is the caller's business.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// Sends a signed request and returns whatever the peer answered, any status included.
    ///
    /// # Errors
    ///
    /// [`PeerError`] when there is no complete answer. Never [`PeerError::Status`].
    async fn call(&self, destination: &ServerName, request: PeerRequest) -> Result<PeerResponse, PeerError>;

    /// Sends a signed request and returns the answer as it comes, any status included. `timeout` bounds everything up to the answer's
    /// header; from there on the caller decides how long it waits. The answer travels apart from those of [`call`](Self::call) and
    /// delays none of them; dropped, it ends.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call). An implementation that cannot do it says [`PeerError::Unreachable`].
    async fn open(&self, _destination: &ServerName, _request: PeerRequest) -> Result<PeerStream, PeerError> {
        Err(PeerError::Unreachable)
    }

    /// The body of the server's own key response, unsigned request (`GET /_matrix/key/v2/server`,
    /// LM #int-api-self-key). The caller parses it and checks name and signatures.
    ///
    /// # Errors
    ///
    /// [`PeerError::Status`] for any answer but 200, otherwise as for [`call`](Self::call).
    async fn server_keys(&self, server: &ServerName) -> Result<Bytes, PeerError>;

    /// The body of a notary's answer about other servers' keys (`POST /_matrix/key/v2/query`, LM #int-api-notary-query-bulk). `wanted` says for each
    /// server and key until when the key must be valid at least; a server with no key IDs asks for all its keys.
    ///
    /// # Errors
    ///
    /// As for [`server_keys`](Self::server_keys).
    async fn notary_keys(
        &self,
        notary: &ServerName,
        wanted: &BTreeMap<ServerName, BTreeMap<KeyId, UnixMillis>>,
    ) -> Result<Bytes, PeerError>;
}

/// Method of a federation request.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Method {
    /// `GET`, without a body.
    Get,
    /// `PUT`.
    Put,
    /// `POST`.
    Post,
}

impl Method {
    /// The method as it is sent and signed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Post => "POST",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One signed request to another server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerRequest {
    /// The method.
    pub method: Method,
    /// Path and query, percent-encoded, starting with `/`; signed and sent byte for byte.
    pub stable: String,
    /// The same endpoint under the draft's unstable prefix, tried when the peer does not know `stable`.
    pub unstable: Option<String>,
    /// The JSON body, sent as given; `None` for a request without one.
    pub body: Option<Bytes>,
    /// Bound on the whole call: discovery, connecting, sending and reading the answer, both paths together.
    pub timeout: Duration,
}

impl PeerRequest {
    /// A `GET` without a body and without an unstable path.
    #[must_use]
    pub const fn get(stable: String, timeout: Duration) -> Self {
        Self {
            method: Method::Get,
            stable,
            unstable: None,
            body: None,
            timeout,
        }
    }

    /// The same request with a path to fall back to.
    #[must_use]
    pub fn or_unstable(mut self, unstable: String) -> Self {
        self.unstable = Some(unstable);
        self
    }
}

/// A peer's complete answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerResponse {
    /// HTTP status.
    pub status: u16,
    /// The body as received, at most the configured size.
    pub body: Bytes,
    /// How long the peer asks us to wait: `Retry-After` in seconds, or `retry_after_ms` of an `M_LIMIT_EXCEEDED` body
    /// (LM #int-transport, "Rate Limiting"). The longer of the two when both are there. Bounded by the implementation.
    pub retry_after: Option<Duration>,
}

impl PeerResponse {
    /// The body as strict JSON. Its size is not limited again: the answer to a join may be larger than any request.
    ///
    /// # Errors
    ///
    /// [`JsonError`] for anything that is not one JSON value.
    pub fn json(&self) -> Result<Json, JsonError> {
        let limits = Limits {
            max_bytes: self.body.len(),
            ..Limits::default()
        };
        Json::parse_with(&self.body, limits)
    }
}

/// A peer's answer that is read as it comes.
pub struct PeerStream {
    /// HTTP status.
    pub status: u16,
    /// The `Content-Type`, if there is one that is text.
    pub content_type: Option<String>,
    /// The body in pieces, none of which is large.
    pub body: PeerBody,
}

impl fmt::Debug for PeerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerStream")
            .field("status", &self.status)
            .field("content_type", &self.content_type)
            .finish_non_exhaustive()
    }
}

/// A body in pieces. After an error nothing comes.
pub type PeerBody = Pin<Box<dyn Stream<Item = Result<Bytes, PeerError>> + Send>>;

/// Why a request has no complete answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PeerError {
    /// Our own allow and deny lists exclude the destination; nothing was sent.
    #[error("the destination is excluded by policy")]
    Refused,
    /// The name leads to addresses we do not connect to (private, loopback, …); nothing was sent.
    #[error("the destination resolves only to refused addresses")]
    AddressRefused,
    /// Discovery found no address.
    #[error("the destination's name does not resolve")]
    Unresolvable,
    /// No connection, or it broke before the answer was complete.
    #[error("the destination is unreachable")]
    Unreachable,
    /// The TLS handshake failed: no common version, an untrusted certificate or one for another name.
    #[error("no trusted TLS connection to the destination")]
    Tls,
    /// The time given with the request is over.
    #[error("the destination did not answer in time")]
    Timeout,
    /// Too many requests of ours to this destination are in progress.
    #[error("too many requests to the destination are in progress")]
    Busy,
    /// The answer is larger than we read.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The peer did not speak HTTP as it should.
    #[error("the destination broke the HTTP protocol")]
    Protocol,
    /// The answer's status is not the one required; only where the return value has no room for a status.
    #[error("the destination answered with status {status}")]
    Status {
        /// The HTTP status.
        status: u16,
    },
    /// The request could not be made: a malformed path, or a body that is not JSON. Our own mistake.
    #[error("the request is malformed")]
    InvalidRequest,
}

impl PeerError {
    /// Whether the same request may succeed later without anybody changing a setting of ours.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        match self {
            Self::Refused | Self::InvalidRequest => false,
            Self::Status { status } => status >= 500 || status == 429 || status == 408,
            Self::AddressRefused
            | Self::Unresolvable
            | Self::Unreachable
            | Self::Tls
            | Self::Timeout
            | Self::Busy
            | Self::TooLarge { .. }
            | Self::Protocol => true,
        }
    }

    /// A short constant name of the variant, for metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::AddressRefused => "address_refused",
            Self::Unresolvable => "unresolvable",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::TooLarge { .. } => "too_large",
            Self::Protocol => "protocol",
            Self::Status { .. } => "status",
            Self::InvalidRequest => "invalid_request",
        }
    }
}

/// A future that owns what it waits for, so that it can be kept or spawned.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Wall-clock time and waiting.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch. May step backwards when the system's clock is set.
    fn now(&self) -> UnixMillis;

    /// Completes after `duration` of this clock.
    fn sleep(&self, duration: Duration) -> Sleep;

    /// Completes when this clock shows `deadline` or later; at once when it already does.
    fn sleep_until(&self, deadline: UnixMillis) -> Sleep {
        let remaining = deadline.as_u64().saturating_sub(self.now().as_u64());
        self.sleep(Duration::from_millis(remaining))
    }
}

/// The system's clock and tokio's timer.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A clock that stands still until it is told to advance: for tests and simulations. Clones show the same time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    now: Arc<watch::Sender<UnixMillis>>,
}

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn new(now: UnixMillis) -> Self {
        Self {
            now: Arc::new(watch::Sender::new(now)),
        }
    }

    /// Moves the clock forward and wakes every sleeper whose time has come.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.now
            .send_modify(|now| *now = UnixMillis(now.as_u64().saturating_add(by)));
    }

    /// Sets the clock, also backwards.
    pub fn set(&self, now: UnixMillis) {
        self.now.send_replace(now);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixMillis {
        *self.now.borrow()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let by = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let deadline = self.now().as_u64().saturating_add(by);
        let mut ticks = self.now.subscribe();
        Box::pin(async move {
            if ticks.wait_for(|now| now.as_u64() >= deadline).await.is_err() {
                // The clock is gone: it will never show the deadline, so this sleep never ends.
                std::future::pending::<()>().await;
            }
        })
    }
}

/// Randomness for tokens, IDs and jitter.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `bytes` with random bytes, unpredictable to others except in tests.
    fn fill(&self, bytes: &mut [u8]);
}

/// The operating system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    /// # Panics
    ///
    /// When the operating system has no randomness to give: no secret may be made then.
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system's random source works on every supported platform");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn manual_clock_wakes_a_sleeper_only_when_its_time_has_come() {
        let clock = ManualClock::new(UnixMillis(1_000));
        let sleeper = tokio::spawn(clock.sleep(Duration::from_secs(2)));
        clock.advance(Duration::from_millis(1_999));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_millis(1));
        sleeper.await.unwrap();
        assert_eq!(clock.now(), UnixMillis(3_000));
    }

    #[tokio::test]
    async fn sleeping_until_a_past_deadline_ends_at_once() {
        ManualClock::new(UnixMillis(5)).sleep_until(UnixMillis(4)).await;
    }

    #[test]
    fn policy_and_malformed_requests_are_not_worth_repeating() {
        assert!(!PeerError::Refused.is_transient());
        assert!(!PeerError::InvalidRequest.is_transient());
        assert!(!PeerError::Status { status: 404 }.is_transient());
        assert!(PeerError::Status { status: 503 }.is_transient());
        assert!(PeerError::Unreachable.is_transient());
    }
}
