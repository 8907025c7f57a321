//! What the service asks of MIMI providers (MIMI #transport-layer, MIMI #directory).

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use nabe_types::ServerName;
use nabe_wire::directory::{Endpoint, TemplateError};

use super::{PeerError, PeerResponse, PeerStream};

/// Requests to the endpoints of MIMI providers. One call is one logical request: the implementation finds the endpoint by the
/// provider's directory and shows who we are; it never retries what may not be repeated, and never sleeps for the peer's sake.
#[async_trait]
pub trait MimiPeers: Send + Sync + 'static {
    /// Sends a request to an endpoint of `provider` and reads the whole answer, whatever its status.
    ///
    /// # Errors
    ///
    /// [`MimiPeerError`] when there is none.
    async fn call(&self, provider: &ServerName, request: MimiRequest) -> Result<PeerResponse, MimiPeerError>;

    /// As [`call`](Self::call), with the answer's body still to be read: for downloads. The request's timeout bounds everything up to
    /// it.
    ///
    /// # Errors
    ///
    /// [`MimiPeerError`] when there is no answer.
    async fn open(&self, provider: &ServerName, request: MimiRequest) -> Result<PeerStream, MimiPeerError>;

    /// The keys of the provider's OHTTP gateway (RFC 9458): `application/ohttp-keys`, as the provider published them not long ago. One
    /// whose directory names no gateway has none.
    ///
    /// # Errors
    ///
    /// [`MimiPeerError`] when there are none.
    async fn ohttp_keys(&self, _provider: &ServerName, _timeout: Duration) -> Result<Bytes, MimiPeerError> {
        Err(MimiPeerError::NoGateway)
    }

    /// Hands a `message/ohttp-req` to the provider's OHTTP gateway, and the answer back with its body still to be read, whatever it is.
    /// `timeout` bounds everything up to the body.
    ///
    /// # Errors
    ///
    /// [`MimiPeerError`] when there is no answer.
    async fn ohttp(
        &self,
        _provider: &ServerName,
        _sealed: Bytes,
        _timeout: Duration,
    ) -> Result<PeerStream, MimiPeerError> {
        Err(MimiPeerError::NoGateway)
    }
}

/// Why there is no directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DirectoryError {
    /// The provider did not answer.
    #[error("{0}")]
    NoAnswer(PeerError),
    /// The provider answered that there is none.
    #[error("answered with status {0}")]
    Status(u16),
    /// It leads elsewhere too often, or to what is no `https` URL.
    #[error("leads nowhere")]
    Redirects,
    /// It is no JSON object.
    #[error("not a JSON object")]
    NotJson,
}

/// One request to an endpoint.
#[derive(Clone, Debug)]
pub struct MimiRequest {
    /// The endpoint, which also says the method.
    pub endpoint: Endpoint,
    /// What the endpoint's template is filled with: the URI of a room or user, a domain, a URL. Not escaped.
    pub target: String,
    /// The body; empty for a download.
    pub body: Bytes,
    /// Bound on the whole call: the directory, connecting, sending and reading the answer.
    pub timeout: Duration,
    /// The most bytes of an answer that are read; of no account for [`MimiPeers::open`].
    pub max_response_bytes: usize,
}

/// Why a request to an endpoint has no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MimiPeerError {
    /// As for any other request to a peer.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The provider's directory is not to be had.
    #[error("the provider's directory: {0}")]
    Directory(#[from] DirectoryError),
    /// The provider's directory does not have the endpoint.
    #[error("the provider's directory has no {0}")]
    NoEndpoint(Endpoint),
    /// What the provider's directory has for the endpoint cannot be used.
    #[error("the provider's directory has no usable template for {endpoint}: {error}")]
    BadTemplate {
        /// The endpoint.
        endpoint: Endpoint,
        /// What is wrong with its template.
        error: TemplateError,
    },
    /// A URL made from the provider's template is none that we connect to: its host is no DNS name.
    #[error("the provider's template for {0} leads nowhere")]
    BadUrl(Endpoint),
    /// The provider's directory names no OHTTP gateway.
    #[error("the provider's directory names no OHTTP gateway")]
    NoGateway,
    /// The provider's OHTTP gateway does not give out its keys.
    #[error("the keys of the provider's OHTTP gateway: answered with status {0}")]
    NoKeys(u16),
}

impl MimiPeerError {
    /// Whether the same request may succeed later without anybody changing a setting of ours.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        match self {
            Self::Peer(error) => error.is_transient(),
            Self::Directory(_)
            | Self::NoEndpoint(_)
            | Self::BadTemplate { .. }
            | Self::BadUrl(_)
            | Self::NoGateway
            | Self::NoKeys(_) => true,
        }
    }

    /// A short name, for metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Peer(error) => error.label(),
            Self::Directory(_)
            | Self::NoEndpoint(_)
            | Self::BadTemplate { .. }
            | Self::BadUrl(_)
            | Self::NoGateway
            | Self::NoKeys(_) => "directory",
        }
    }
}
