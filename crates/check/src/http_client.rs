//! An HTTPS client for one server: TLS 1.3, HTTP/2 kept open, HTTP/1.1 where there is nothing else. Knows nothing of Matrix or MIMI.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, ProtocolVersion, RootCertStore, version};

use crate::authority::Identity;

/// A connection to one server, made when needed. Cheap to clone; clones share it.
#[derive(Clone)]
pub(crate) struct HttpClient {
    endpoint: Arc<Endpoint>,
    connection: Arc<Mutex<Option<http2::SendRequest<Full<Bytes>>>>>,
}

struct Endpoint {
    authority: String,
    host: String,
    port: u16,
    address: Option<SocketAddr>,
    roots: RootCertStore,
    /// What we show when asked for a certificate.
    identity: Option<Identity>,
}

/// No answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// The URL is not `https://host[:port]`.
    #[error("the URL must be https://host[:port]")]
    Url,
    /// No certificate in the PEM text.
    #[error("no certificate in the CA file")]
    Ca,
    /// TCP.
    #[error("connection: {0}")]
    Connect(#[from] std::io::Error),
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The URL's host is no name for a certificate.
    #[error("the URL's host: {0}")]
    Host(#[from] InvalidDnsNameError),
    /// HTTP.
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    /// The request cannot be put together.
    #[error("request: {0}")]
    Request(#[from] http::Error),
    /// The answer broke off or is over the limit.
    #[error("answer: {0}")]
    Body(String),
    /// Not in time.
    #[error("no answer within {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl HttpClient {
    pub(crate) fn new(base_url: &str, address: Option<SocketAddr>, ca_pem: &str) -> Result<Self, HttpError> {
        let uri: Uri = base_url.trim_end_matches('/').parse().map_err(|_| HttpError::Url)?;
        let authority = uri.authority().ok_or(HttpError::Url)?;
        if uri.scheme_str() != Some("https") || !matches!(uri.path(), "" | "/") {
            return Err(HttpError::Url);
        }
        let roots = roots_in(ca_pem)?;
        let endpoint = Endpoint {
            authority: authority.to_string(),
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(443),
            address,
            roots,
            identity: None,
        };
        Ok(Self {
            endpoint: Arc::new(endpoint),
            connection: Arc::default(),
        })
    }

    /// The same server over a connection of its own.
    pub(crate) fn apart(&self) -> Self {
        Self {
            endpoint: Arc::clone(&self.endpoint),
            connection: Arc::default(),
        }
    }

    /// The same server over a connection of its own, on which this certificate is shown.
    pub(crate) fn showing(&self, identity: Option<Identity>) -> Self {
        self.changed(|endpoint| endpoint.identity = identity)
    }

    /// The same server over a connection of its own, with another text in `Host` or `:authority`.
    pub(crate) fn with_authority(&self, authority: &str) -> Self {
        self.changed(|endpoint| endpoint.authority = authority.to_owned())
    }

    /// Another host that is reached in the same way.
    pub(crate) fn elsewhere(&self, authority: &str) -> Result<Self, HttpError> {
        let uri: Uri = format!("https://{authority}").parse().map_err(|_| HttpError::Url)?;
        let host = uri.host().ok_or(HttpError::Url)?.to_owned();
        let port = uri.port_u16().unwrap_or(443);
        Ok(self.changed(|endpoint| {
            endpoint.authority = authority.to_owned();
            (endpoint.host, endpoint.port) = (host, port);
        }))
    }

    fn changed(&self, change: impl FnOnce(&mut Endpoint)) -> Self {
        let mut endpoint = Endpoint {
            authority: self.endpoint.authority.clone(),
            host: self.endpoint.host.clone(),
            port: self.endpoint.port,
            address: self.endpoint.address,
            roots: self.endpoint.roots.clone(),
            identity: self.endpoint.identity.clone(),
        };
        change(&mut endpoint);
        Self {
            endpoint: Arc::new(endpoint),
            connection: Arc::default(),
        }
    }

    /// What goes into `Host` or `:authority`.
    pub(crate) fn authority(&self) -> &str {
        &self.endpoint.authority
    }

    /// Sends a request whose URI is path and query only. The body must be repeatable: a connection that the server
    /// closed meanwhile is replaced once.
    pub(crate) async fn send(&self, request: Request<Bytes>) -> Result<Reply, HttpError> {
        timeout(REQUEST_TIMEOUT, self.exchange(request))
            .await
            .map_err(|_| HttpError::Timeout)?
    }

    /// Reads an answer that may never end, over a connection of its own, until `is_enough` says so of all that has come. An
    /// answer that ends before is all there is.
    pub(crate) async fn read_until(
        &self,
        mut request: Request<Bytes>,
        is_enough: impl Fn(&str) -> bool,
    ) -> Result<String, HttpError> {
        let reading = async {
            let stream = self.connect(&[b"http/1.1"]).await?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            let host = self.endpoint.authority.parse().map_err(|_| HttpError::Url)?;
            request.headers_mut().insert(header::HOST, host);
            let mut body = sender.send_request(request.map(Full::new)).await?.into_body();
            let mut text = String::new();
            while !is_enough(&text) && text.len() < MAX_ANSWER_BYTES {
                let Some(frame) = body.frame().await else { break };
                if let Ok(data) = frame?.into_data() {
                    text.push_str(&String::from_utf8_lossy(&data));
                }
            }
            Ok(text)
        };
        timeout(REQUEST_TIMEOUT, reading)
            .await
            .map_err(|_| HttpError::Timeout)?
    }

    /// A TLS connection that offers these protocols, and nothing sent on it.
    pub(crate) async fn connect(&self, alpn: &[&[u8]]) -> Result<TlsStream<TcpStream>, HttpError> {
        let Endpoint {
            host,
            port,
            address,
            roots,
            identity,
            ..
        } = &*self.endpoint;
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&version::TLS13])?
            .with_root_certificates(roots.clone());
        let mut config = match identity {
            Some(Identity { chain, key }) => config.with_client_auth_cert(chain.clone(), key.clone_key())?,
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let stream = match address {
            Some(address) => TcpStream::connect(address).await?,
            None => TcpStream::connect((host.as_str(), *port)).await?,
        };
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(host.clone())?;
        Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
    }

    /// Which TLS version and protocol the server agrees to when offered everything.
    pub(crate) async fn negotiated(&self) -> Result<(Option<ProtocolVersion>, Option<Vec<u8>>), HttpError> {
        let stream = self.connect(&[b"h2", b"http/1.1"]).await?;
        let (_, connection) = stream.get_ref();
        Ok((
            connection.protocol_version(),
            connection.alpn_protocol().map(<[u8]>::to_vec),
        ))
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Reply, HttpError> {
        let kept = self.connection.lock().await.clone();
        if let Some(sender) = kept.filter(|sender| !sender.is_closed()) {
            match self.over_http2(sender, request.clone()).await {
                Err(HttpError::Http(error)) if error.is_canceled() || error.is_closed() => {}
                answered => return answered,
            }
        }
        let mut kept = self.connection.lock().await;
        let stream = self.connect(&[b"h2", b"http/1.1"]).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            drop(kept);
            return self.over_http1(stream, request).await;
        }
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        *kept = Some(sender.clone());
        drop(kept);
        self.over_http2(sender, request).await
    }

    async fn over_http2(
        &self,
        mut sender: http2::SendRequest<Full<Bytes>>,
        request: Request<Bytes>,
    ) -> Result<Reply, HttpError> {
        let (mut parts, body) = request.into_parts();
        let mut uri = std::mem::take(&mut parts.uri).into_parts();
        uri.scheme = Some(http::uri::Scheme::HTTPS);
        uri.authority = self.endpoint.authority.parse().ok();
        parts.uri = Uri::from_parts(uri).map_err(|_| HttpError::Url)?;
        sender.ready().await?;
        let response = sender.send_request(Request::from_parts(parts, Full::new(body))).await?;
        read(response).await
    }

    async fn over_http1(&self, stream: TlsStream<TcpStream>, mut request: Request<Bytes>) -> Result<Reply, HttpError> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let host = self.endpoint.authority.parse().map_err(|_| HttpError::Url)?;
        request.headers_mut().insert(header::HOST, host);
        read(sender.send_request(request.map(Full::new)).await?).await
    }
}

/// The authorities in a PEM text, at least one.
pub(crate) fn roots_in(ca_pem: &str) -> Result<RootCertStore, HttpError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate.map_err(|_| HttpError::Ca)?)?;
    }
    match roots.is_empty() {
        true => Err(HttpError::Ca),
        false => Ok(roots),
    }
}

async fn read(response: http::Response<hyper::body::Incoming>) -> Result<Reply, HttpError> {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
    Ok(Reply {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: body.map_err(|error| HttpError::Body(error.to_string()))?.to_bytes(),
    })
}

const REQUEST_TIMEOUT: Duration = Duration::from_secs(45);
const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;
