//! One connection: TCP to a permitted address, TLS to the right name, HTTP/2 or HTTP/1.1 by ALPN; and one exchange
//! on it, with a bound on the answer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use nabe_types::ServerName;
use rustls::ClientConfig;
use rustls::client::verify_server_name;
use rustls::server::ParsedCertificate;
use rustls_pki_types::{CertificateDer, ServerName as TlsName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::address::AddressGuard;
use crate::discovery::{Dns, MAX_WELL_KNOWN_BYTES, Target, WellKnown, WellKnownError, WellKnownReply, WellKnownUrl};
use crate::tls::ALPN_H2;
use crate::transport::{SpeaksFor, TlsFault, TransportError};

/// Opens connections.
pub(crate) struct Connector {
    guard: AddressGuard,
    tls: TlsConnector,
    connect_timeout: Duration,
    handshake_timeout: Duration,
}

/// Whether the peer's end speaks TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Security {
    Tls,
    /// Plain HTTP/1.1, for peers that the operator lists.
    None,
}

impl Connector {
    /// `connect_timeout` is for TCP to one address, `handshake_timeout` for TLS and HTTP setup together.
    pub(crate) fn new(
        guard: AddressGuard,
        tls: Arc<ClientConfig>,
        connect_timeout: Duration,
        handshake_timeout: Duration,
    ) -> Self {
        Self {
            guard,
            tls: TlsConnector::from(tls),
            connect_timeout,
            handshake_timeout,
        }
    }

    /// Connects to the first of the target's addresses that is permitted and answers.
    pub(crate) async fn connect(&self, target: &Target, security: Security) -> Result<Connection, TransportError> {
        let authority: Authority = target.host_header.parse().map_err(|_| TransportError::InvalidRequest)?;
        let stream = self.tcp(&self.permitted(target)?).await?;
        let handshake = async {
            let (sender, certificate) = match security {
                Security::None => (http1_over(stream).await?, None),
                Security::Tls => {
                    let stream = self.tls(stream, &target.tls_name).await?;
                    let session = stream.get_ref().1;
                    let certificate = session.peer_certificates().and_then(<[_]>::first);
                    let certificate = certificate.map(|certificate| Arc::new(certificate.clone()));
                    let is_http2 = session.alpn_protocol() == Some(ALPN_H2);
                    let sender = if is_http2 {
                        http2_over(stream).await?
                    } else {
                        http1_over(stream).await?
                    };
                    (sender, certificate)
                }
            };
            Ok(Connection {
                sender,
                authority,
                certificate,
            })
        };
        tokio::time::timeout(self.handshake_timeout, handshake)
            .await
            .map_err(|_| TransportError::Timeout)?
    }

    /// The guard sees the addresses that are connected to; no name is looked up after this.
    fn permitted(&self, target: &Target) -> Result<Vec<SocketAddr>, TransportError> {
        let permitted: Vec<_> = target
            .addresses
            .iter()
            .copied()
            .filter(|address| target.overridden || self.guard.permits(address.ip()))
            .collect();
        if permitted.is_empty() {
            Err(TransportError::AddressRefused)
        } else {
            Ok(permitted)
        }
    }

    /// Tries the addresses in order and keeps the first that connects. The next one is tried when the one before has
    /// failed or has had a little time.
    async fn tcp(&self, addresses: &[SocketAddr]) -> Result<TcpStream, TransportError> {
        let mut remaining = addresses.iter();
        let mut attempts = FuturesUnordered::new();
        let mut error = TransportError::Unreachable;
        loop {
            match remaining.next() {
                Some(&address) => {
                    attempts.push(tokio::time::timeout(self.connect_timeout, TcpStream::connect(address)));
                }
                None if attempts.is_empty() => return Err(error),
                None => {}
            }
            tokio::select! {
                biased;
                Some(attempt) = attempts.next() => match attempt {
                    Ok(Ok(stream)) => {
                        // Requests are written whole; waiting to fill packets would only delay them.
                        stream.set_nodelay(true).map_err(|_| TransportError::Unreachable)?;
                        return Ok(stream);
                    }
                    Ok(Err(_)) => error = TransportError::Unreachable,
                    Err(_) => error = TransportError::Timeout,
                },
                () = tokio::time::sleep(STAGGER), if remaining.len() > 0 => {}
            }
        }
    }

    async fn tls(&self, stream: TcpStream, name: &str) -> Result<TlsStream<TcpStream>, TransportError> {
        let name = TlsName::try_from(name.to_owned()).map_err(|_| TransportError::InvalidRequest)?;
        self.tls.connect(name, stream).await.map_err(|error| tls_error(&error))
    }
}

/// tokio-rustls hides the TLS error inside the I/O error.
fn tls_error(error: &io::Error) -> TransportError {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .map_or(TransportError::Unreachable, |error| {
            TransportError::Tls(TlsFault::from(error))
        })
}

async fn http1_over<S>(stream: S) -> Result<Sender, TransportError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEADER_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| TransportError::Protocol)?;
    // Ends by itself when the sender is dropped or the peer closes; errors reach whoever waits for an answer.
    tokio::spawn(connection);
    Ok(Sender::Http1(sender))
}

async fn http2_over<S>(stream: S) -> Result<Sender, TransportError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).expect("64 KiB fits"))
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| TransportError::Protocol)?;
    tokio::spawn(connection);
    Ok(Sender::Http2(sender))
}

/// An open connection to one authority.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: Sender,
    authority: Authority,
    /// The server's own, which was found to be good for the authority's host.
    certificate: Option<Arc<CertificateDer<'static>>>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// An exchange without a complete answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    pub(crate) error: TransportError,
    /// Whether the peer may never have seen the request: the connection ended before any answer.
    pub(crate) connection_lost: bool,
    /// Whether the peer cannot have seen it: it was still waiting for its turn.
    pub(crate) never_sent: bool,
}

impl Connection {
    /// A second handle to an HTTP/2 connection; HTTP/1.1 carries one request at a time.
    pub(crate) fn share(&self) -> Option<Self> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => Some(Self {
                sender: Sender::Http2(sender.clone()),
                authority: self.authority.clone(),
                certificate: self.certificate.clone(),
            }),
        }
    }

    /// Whether a request can still be sent.
    pub(crate) fn is_open(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => !sender.is_closed(),
            Sender::Http2(sender) => !sender.is_closed(),
        }
    }

    /// Sends a request whose URI is path and query only, and reads an answer of at most `limit` bytes.
    pub(crate) async fn exchange(
        &mut self,
        request: &Request<Bytes>,
        limit: usize,
    ) -> Result<Response<Bytes>, Failure> {
        let (head, body) = self.open(request).await?.into_parts();
        let body = read_body(body, limit).await.map_err(Failure::fatal)?;
        Ok(Response::from_parts(head, body))
    }

    /// As [`exchange`](Self::exchange), with the body still to be read.
    pub(crate) async fn open(&mut self, request: &Request<Bytes>) -> Result<Response<Incoming>, Failure> {
        if let Some(SpeaksFor(name)) = request.extensions().get()
            && !self.is_certified_for(name)
        {
            return Err(Failure::fatal(TransportError::Tls(TlsFault::WrongName)));
        }
        let request = self.addressed(request).map_err(Failure::fatal)?;
        let response = match &mut self.sender {
            Sender::Http1(sender) => async { sender.ready().await.map(|()| sender.send_request(request))?.await }.await,
            Sender::Http2(sender) => async { sender.ready().await.map(|()| sender.send_request(request))?.await }.await,
        };
        response.map_err(|error| Failure::before_answer(&error))
    }

    fn is_certified_for(&self, name: &ServerName) -> bool {
        let certificate = self
            .certificate
            .as_deref()
            .and_then(|certificate| ParsedCertificate::try_from(certificate).ok());
        let name = TlsName::try_from(name.host()).ok();
        certificate
            .zip(name)
            .is_some_and(|(certificate, name)| verify_server_name(&certificate, &name).is_ok())
    }

    /// HTTP/2 carries the authority in the URI, HTTP/1.1 in a header.
    fn addressed(&self, request: &Request<Bytes>) -> Result<Request<Full<Bytes>>, TransportError> {
        let path = request
            .uri()
            .path_and_query()
            .cloned()
            .ok_or(TransportError::InvalidRequest)?;
        let mut addressed = Request::new(Full::new(request.body().clone()));
        *addressed.method_mut() = request.method().clone();
        *addressed.headers_mut() = request.headers().clone();
        match &self.sender {
            Sender::Http1(_) => {
                *addressed.uri_mut() = Uri::from(path);
                let host =
                    HeaderValue::from_str(self.authority.as_str()).map_err(|_| TransportError::InvalidRequest)?;
                addressed.headers_mut().insert(HOST, host);
            }
            Sender::Http2(_) => *addressed.uri_mut() = absolute(&self.authority, path)?,
        }
        Ok(addressed)
    }
}

fn absolute(authority: &Authority, path: PathAndQuery) -> Result<Uri, TransportError> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTPS);
    parts.authority = Some(authority.clone());
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).map_err(|_| TransportError::InvalidRequest)
}

impl Failure {
    const fn fatal(error: TransportError) -> Self {
        Self {
            error,
            connection_lost: false,
            never_sent: false,
        }
    }

    fn before_answer(error: &hyper::Error) -> Self {
        if error.is_user() {
            Self::fatal(TransportError::InvalidRequest)
        } else if error.is_parse() {
            Self::fatal(TransportError::Protocol)
        } else {
            Self {
                error: TransportError::Unreachable,
                connection_lost: true,
                never_sent: error.is_canceled() || error.is_closed(),
            }
        }
    }
}

async fn read_body(mut body: Incoming, limit: usize) -> Result<Bytes, TransportError> {
    let too_large = TransportError::TooLarge { limit };
    let announced = usize::try_from(body.size_hint().lower()).map_err(|_| too_large)?;
    if announced > limit {
        return Err(too_large);
    }
    let mut whole = BytesMut::with_capacity(announced);
    while let Some(data) = next_piece(&mut body).await? {
        if data.len() > limit - whole.len() {
            return Err(too_large);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// The next bytes of a body; `None` at its end.
pub(crate) async fn next_piece(body: &mut Incoming) -> Result<Option<Bytes>, TransportError> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| TransportError::Unreachable)?;
        // Anything else is trailers.
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// [`WellKnown`] of a running server: a connection for each fetch, by the same guard and trust as any other.
pub(crate) struct WellKnownFetch {
    pub(crate) connector: Arc<Connector>,
    pub(crate) dns: Arc<dyn Dns>,
}

#[async_trait]
impl WellKnown for WellKnownFetch {
    async fn get(&self, url: &WellKnownUrl) -> Result<WellKnownReply, WellKnownError> {
        let found = self.dns.addresses(url.host()).await.map_err(|_| WellKnownError)?;
        let target = Target {
            addresses: found
                .into_iter()
                .take(MAX_ADDRESSES)
                .map(|ip| SocketAddr::new(ip, url.port()))
                .collect(),
            host_header: url.authority().to_owned(),
            tls_name: url.host().to_owned(),
            overridden: false,
        };
        let request = Request::get(url.path().as_str())
            .body(Bytes::new())
            .map_err(|_| WellKnownError)?;
        let mut connection = self
            .connector
            .connect(&target, Security::Tls)
            .await
            .map_err(|_| WellKnownError)?;
        let response = connection
            .exchange(&request, MAX_WELL_KNOWN_BYTES)
            .await
            .map_err(|_| WellKnownError)?;
        let (head, body) = response.into_parts();
        Ok(WellKnownReply {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        })
    }
}

/// Between attempts at a target's addresses (RFC 8305 §5 recommends 250 ms).
const STAGGER: Duration = Duration::from_millis(250);
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const MAX_HEADER_BYTES: usize = 64 * 1024;
const MAX_ADDRESSES: usize = 16;
