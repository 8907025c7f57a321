//! HTTP to one server. With HTTP/2, which servers with TLS have: one connection for everything, kept while it lasts, on which what requests say again and
//! again, the credential among it, is said once (HPACK). With HTTP/1.1 one connection for requests, and one for the event stream.

use std::{io, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{net::TcpStream, sync::Mutex, time::timeout};
use tokio_rustls::TlsConnector;

/// An open connection.
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A server and how to reach it.
pub(crate) struct Connection {
    host: String,
    port: u16,
    authority: String,
    /// `None` for plain HTTP.
    tls: Option<TlsConnector>,
    /// Sent with every request.
    headers: HeaderMap,
    kept: Mutex<Option<Sender>>,
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
            kept: Mutex::default(),
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
        let answered = timeout(time, async {
            let mut sender = self.sender().await?;
            let request = self.build(&sender, method, path, headers, body)?;
            let (parts, body) = sender.send(request).await?.into_parts();
            let body = Limited::new(body, max_bytes)
                .collect()
                .await
                .map_err(ConnectionError::Body)?;
            if matches!(sender, Sender::Http1(_)) {
                *self.kept.lock().await = Some(sender);
            }
            Ok(Response::from_parts(parts, body.to_bytes()))
        });
        let answered = answered.await.unwrap_or(Err(ConnectionError::Timeout));
        if answered.is_err() {
            // Whether it still leads anywhere is not known: the next request finds out on another one.
            *self.kept.lock().await = None;
        }
        answered
    }

    /// A request whose answer goes on and on.
    pub(crate) async fn open(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response<Incoming>, ConnectionError> {
        let opened = timeout(TIMEOUT, async {
            let mut sender = self.sender().await?;
            let request = self.build(&sender, Method::GET, path, headers, Bytes::new())?;
            sender.send(request).await
        });
        let opened = opened.await.unwrap_or(Err(ConnectionError::Timeout));
        if opened.is_err() {
            *self.kept.lock().await = None;
        }
        opened
    }

    /// The connection that is kept, or another one. One of HTTP/1.1 is the caller's alone.
    async fn sender(&self) -> Result<Sender, ConnectionError> {
        // Who comes meanwhile waits, and has the same one if it can be shared.
        let mut kept = self.kept.lock().await;
        let sender = match kept.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        if let Sender::Http2(shared) = &sender {
            *kept = Some(Sender::Http2(shared.clone()));
        }
        Ok(sender)
    }

    fn build(
        &self,
        sender: &Sender,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ConnectionError> {
        let mut request = Request::builder().method(method);
        request = match sender {
            Sender::Http1(_) => request.uri(path).header(header::HOST, &self.authority),
            // Never without TLS.
            Sender::Http2(_) => request.uri(format!("https://{}{path}", self.authority)),
        };
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Full::new(body))?;
        request.headers_mut().extend(self.headers.clone());
        if matches!(sender, Sender::Http2(_)) {
            // A sensitive one would be sent in full each time. To learn the credential from how long requests are, one had to put the whole of it,
            // which is random, into another header of this connection (RFC 7541, section 7.1).
            request
                .headers_mut()
                .values_mut()
                .for_each(|value| value.set_sensitive(false));
        }
        Ok(request)
    }

    async fn connect(&self) -> Result<Sender, ConnectionError> {
        let stream = TcpStream::connect((self.host.trim_matches(['[', ']']), self.port)).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => http1_over(TokioIo::new(stream)).await,
            Some(tls) => {
                let name = ServerName::try_from(self.host.trim_matches(['[', ']']).to_owned())
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
                let stream = tls.connect(name, stream).await?;
                match stream.get_ref().1.alpn_protocol() {
                    Some(HTTP2) => http2_over(TokioIo::new(stream)).await,
                    _ => http1_over(TokioIo::new(stream)).await,
                }
            }
        }
    }
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ConnectionError> {
        Ok(match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        })
    }
}

async fn http1_over<T>(io: TokioIo<T>) -> Result<Sender, ConnectionError>
where
    TokioIo<T>: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(io).await?;
    // It ends with the sender and the last body.
    tokio::spawn(connection);
    Ok(Sender::Http1(sender))
}

async fn http2_over<T>(io: TokioIo<T>) -> Result<Sender, ConnectionError>
where
    TokioIo<T>: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
    tokio::spawn(connection);
    Ok(Sender::Http2(sender))
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
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Whether an answer is good.
pub(crate) fn is_success(status: StatusCode) -> bool {
    status.is_success()
}

/// As TLS calls it.
const HTTP2: &[u8] = b"h2";
/// For one request.
const TIMEOUT: Duration = Duration::from_secs(60);
/// For one file.
pub(crate) const TRANSFER_TIMEOUT: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::{
        Router,
        body::Body,
        extract::{ConnectInfo, Request},
        routing::get,
    };
    use nabe_http::{
        listener::{self, ListenerLimits},
        tls::{self, CertificateFiles, DevelopmentCa},
    };
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        sync::watch,
        time::Instant,
    };

    use super::*;

    /// Says from where it was asked, in which version, and by whom; `/stream` says so and does not end.
    async fn server(folder: &Path, is_plain: bool) -> (String, watch::Sender<bool>) {
        let said = |ConnectInfo(address): ConnectInfo<SocketAddr>, request: Request| async move {
            let who = request
                .headers()
                .get("authorization")
                .map(|value| value.to_str().unwrap_or_default());
            format!("{address} {:?} {}", request.version(), who.unwrap_or_default())
        };
        let stream = |ConnectInfo(address): ConnectInfo<SocketAddr>| async move {
            let first = futures_util::stream::once(async move { Ok::<_, io::Error>(address.to_string()) });
            let more = futures_util::stream::pending();
            Body::from_stream(futures_util::StreamExt::chain(first, more))
        };
        let app = Router::new().route("/", get(said)).route("/stream", get(stream));
        let ca = DevelopmentCa::generate().unwrap();
        let issued = ca.issue(&["localhost".to_owned()]).unwrap();
        for (name, pem) in [
            ("ca.pem", ca.certificate_pem()),
            ("tls.pem", &issued.chain_pem),
            ("tls.key", &issued.key_pem),
        ] {
            std::fs::write(folder.join(name), pem).unwrap();
        }
        let tls = (!is_plain).then(|| {
            let files = CertificateFiles::open(folder.join("tls.pem"), folder.join("tls.key")).unwrap();
            tls::server_config(files, false).unwrap()
        });
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(listener::serve(socket, tls, app, ListenerLimits::default(), stopped));
        let scheme = if is_plain { "http" } else { "https" };
        (format!("{scheme}://localhost:{port}"), stop)
    }

    async fn ask(connection: &Connection) -> Vec<String> {
        let answer = connection
            .request(Method::GET, "/", &[], Bytes::new(), 1_000)
            .await
            .unwrap();
        let text = String::from_utf8(answer.into_body().to_vec()).unwrap();
        text.split(' ').map(str::to_owned).collect()
    }

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "Bearer".parse().unwrap());
        headers
    }

    #[tokio::test]
    async fn requests_and_the_stream_share_a_connection_where_the_server_has_http2() {
        let folder = tempfile::tempdir().unwrap();
        let (url, _running) = server(folder.path(), false).await;
        let connection = Connection::new(&url, Some(&folder.path().join("ca.pem")), headers()).unwrap();
        let mut stream = connection.open("/stream", &[]).await.unwrap().into_body();
        let piece = stream.frame().await.unwrap().unwrap().into_data().unwrap();
        let (first, second) = tokio::join!(ask(&connection), ask(&connection));
        assert_eq!(first, [std::str::from_utf8(&piece).unwrap(), "HTTP/2.0", "Bearer"]);
        assert_eq!(second, first);
    }

    #[tokio::test]
    async fn a_server_without_tls_is_spoken_to_in_http1_on_a_connection_that_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (url, _running) = server(folder.path(), true).await;
        let connection = Connection::new(&url, None, headers()).unwrap();
        let first = ask(&connection).await;
        assert_eq!(first[1..], ["HTTP/1.1", "Bearer"]);
        let stream = connection.open("/stream", &[]).await.unwrap().into_body();
        assert_eq!(ask(&connection).await[1..], first[1..]);
        drop(stream);
        let answer = connection.request(Method::GET, "/", &[], Bytes::new(), 3).await;
        assert!(matches!(answer, Err(ConnectionError::Body(_))));
        assert_eq!(ask(&connection).await[1..], first[1..]);
    }

    /// A server that takes whatever comes, says this, and then one byte in each half minute.
    async fn slow(says: &'static [u8]) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut request = [0; 1];
                    stream.read_exact(&mut request).await.unwrap();
                    stream.write_all(says).await.unwrap();
                    loop {
                        tokio::time::sleep(Duration::from_secs(30)).await;
                        let said = if says.is_empty() {
                            Ok(())
                        } else {
                            stream.write_all(b"x").await
                        };
                        if said.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Connection::new(&url, None, HeaderMap::new()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_takes_a_request_and_does_not_come_to_an_end_with_its_answer_is_given_up() {
        for says in [&b""[..], b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n"] {
            let connection = slow(says).await;
            let get = Method::GET;
            let begun = Instant::now();
            let answer = connection.request(get.clone(), "/", &[], Bytes::new(), 2_000_000).await;
            assert!(matches!(answer, Err(ConnectionError::Timeout)), "{answer:?}");
            assert!(begun.elapsed() < 2 * TIMEOUT);
            let begun = Instant::now();
            let answer = connection.transfer(get, "/", &[], Bytes::new(), 2_000_000).await;
            assert!(matches!(answer, Err(ConnectionError::Timeout)), "{answer:?}");
            assert!(begun.elapsed() < 2 * TRANSFER_TIMEOUT);
        }
        let answer = slow(b"").await.open("/", &[]).await;
        assert!(matches!(answer, Err(ConnectionError::Timeout)), "{answer:?}");
    }
}
