//! HTTP to one server: one connection for requests, kept while it lasts, and one for the event stream.

use std::{io, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{net::TcpStream, sync::Mutex, time::timeout};
use tokio_rustls::TlsConnector;

type Sender = http1::SendRequest<Full<Bytes>>;

/// A server and how to reach it.
pub(crate) struct Connection {
    host: String,
    port: u16,
    authority: String,
    /// `None` for plain HTTP.
    tls: Option<TlsConnector>,
    /// Sent with every request.
    headers: HeaderMap,
    idle: Mutex<Option<Sender>>,
}

/// No answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("no answer in time")]
    Timeout,
    #[error("the request cannot be sent")]
    Request(#[from] http::Error),
    #[error("the answer is too large or broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Connection {
    /// Connects to `url` (`https://…`, or `http://…` on one machine), trusting the authorities in `ca` and, without one, the system's.
    pub(crate) fn new(url: &str, ca: Option<&Path>, headers: HeaderMap) -> anyhow::Result<Self> {
        let url: Uri = url.parse().context("the server's URL")?;
        let host = url.host().context("the server's URL names no host")?.to_owned();
        let plain = match url.scheme_str() {
            Some("https") => false,
            Some("http") => true,
            _ => bail!("the server's URL must begin with https:// (or http://)"),
        };
        let port = url.port_u16().unwrap_or(if plain { 80 } else { 443 });
        let authority = url.authority().context("the server's URL names no host")?.to_string();
        let tls = if plain { None } else { Some(connector(ca)?) };
        Ok(Self {
            host,
            port,
            authority,
            tls,
            headers,
            idle: Mutex::default(),
        })
    }

    /// One request and its whole answer, at most `max_bytes` long.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
        max_bytes: usize,
    ) -> Result<Response<Bytes>, ConnectionError> {
        self.request_within(TIMEOUT, method, path, headers, body, max_bytes)
            .await
    }

    /// The same for a file, which may take long on a slow line.
    pub(crate) async fn transfer(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
        max_bytes: usize,
    ) -> Result<Response<Bytes>, ConnectionError> {
        self.request_within(TRANSFER_TIMEOUT, method, path, headers, body, max_bytes)
            .await
    }

    async fn request_within(
        &self,
        time: Duration,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
        max_bytes: usize,
    ) -> Result<Response<Bytes>, ConnectionError> {
        timeout(time, async {
            let request = self.build(method, path, headers, body)?;
            let mut sender = match self.idle.lock().await.take().filter(|sender| !sender.is_closed()) {
                Some(sender) => sender,
                None => self.connect().await?,
            };
            sender.ready().await?;
            let (parts, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, max_bytes)
                .collect()
                .await
                .map_err(ConnectionError::Body)?;
            *self.idle.lock().await = Some(sender);
            Ok(Response::from_parts(parts, body.to_bytes()))
        })
        .await
        .unwrap_or(Err(ConnectionError::Timeout))
    }

    /// A request on a connection of its own, whose answer goes on and on.
    pub(crate) async fn open(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response<Incoming>, ConnectionError> {
        timeout(TIMEOUT, async {
            let request = self.build(Method::GET, path, headers, Bytes::new())?;
            let mut sender = self.connect().await?;
            Ok(sender.send_request(request).await?)
        })
        .await
        .unwrap_or(Err(ConnectionError::Timeout))
    }

    fn build(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ConnectionError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.authority);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Full::new(body))?;
        request.headers_mut().extend(self.headers.clone());
        Ok(request)
    }

    async fn connect(&self) -> Result<Sender, ConnectionError> {
        let stream = TcpStream::connect((self.host.trim_matches(['[', ']']), self.port)).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => handshake(TokioIo::new(stream)).await,
            Some(tls) => {
                let name = ServerName::try_from(self.host.trim_matches(['[', ']']).to_owned())
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
                handshake(TokioIo::new(tls.connect(name, stream).await?)).await
            }
        }
    }
}

async fn handshake<T>(io: TokioIo<T>) -> Result<Sender, ConnectionError>
where
    TokioIo<T>: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(io).await?;
    // It ends with the sender and the last body.
    tokio::spawn(connection);
    Ok(sender)
}

fn connector(ca: Option<&Path>) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(file) => {
            for certificate in CertificateDer::pem_file_iter(file).context("the CA file")? {
                roots.add(certificate.context("the CA file")?).context("the CA file")?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Whether an answer is good.
pub(crate) fn is_success(status: StatusCode) -> bool {
    status.is_success()
}

/// For one request.
const TIMEOUT: Duration = Duration::from_secs(60);
/// For one file.
const TRANSFER_TIMEOUT: Duration = Duration::from_hours(1);
