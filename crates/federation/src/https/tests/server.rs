//! A real HTTPS server on loopback, with certificates of its own authority.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use http::header::HOST;
use http::{Request, Response, StatusCode, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// A certificate authority.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn generate(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(super) fn certificate(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// A server's TLS with a certificate for `host`.
    pub(super) fn tls(&self, host: &str, versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([host.to_owned()])
            .unwrap()
            .signed_by(&key, &self.0)
            .unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config).into()
    }
}

/// How the server answers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answers {
    /// `{}`.
    Empty,
    /// So many bytes, announced.
    Sized(usize),
    /// So many bytes, in pieces and without announcement.
    Chunked(usize),
    /// 302 to `/elsewhere`.
    Redirect,
    /// `{}` to the first request; takes the others and says nothing.
    First,
    /// Takes the request and says nothing.
    Never,
}

/// A request as the server saw it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Seen {
    pub(super) version: Version,
    /// The `Host` header or `:authority`.
    pub(super) host: String,
    pub(super) path: String,
}

/// A server that runs as long as the test.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    answers: Answers,
    seen: Mutex<Vec<Seen>>,
    requests: watch::Sender<usize>,
    opened: watch::Sender<usize>,
    closed: watch::Sender<usize>,
    /// Connections begun under a lower number are cut.
    cut: watch::Sender<usize>,
}

impl Server {
    /// Starts a server; without `tls` it speaks plain HTTP.
    pub(super) async fn start(tls: Option<TlsAcceptor>, answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            answers,
            seen: Mutex::default(),
            requests: watch::Sender::new(0),
            opened: watch::Sender::new(0),
            closed: watch::Sender::new(0),
            cut: watch::Sender::new(0),
        });
        let accepting = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, shared) = (tls.clone(), Arc::clone(&accepting));
                tokio::spawn(async move {
                    match tls {
                        None => shared.serve(stream).await,
                        Some(tls) => {
                            // A refused handshake is for the client's assertions.
                            if let Ok(stream) = tls.accept(stream).await {
                                shared.serve(stream).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, shared }
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub(super) fn connections(&self) -> usize {
        *self.shared.opened.borrow()
    }

    pub(super) async fn has_seen_requests(&self, count: usize) {
        self.shared
            .requests
            .subscribe()
            .wait_for(|&seen| seen >= count)
            .await
            .unwrap();
    }

    pub(super) async fn has_closed_connections(&self, count: usize) {
        self.shared
            .closed
            .subscribe()
            .wait_for(|&closed| closed >= count)
            .await
            .unwrap();
    }

    /// Cuts the open connections, as a server does that has kept them idle for long enough.
    pub(super) fn cut_connections(&self) {
        self.shared.cut.send_modify(|cut| *cut += 1);
    }
}

impl Shared {
    async fn serve<S>(self: Arc<Self>, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut cut = self.cut.subscribe();
        self.opened.send_modify(|opened| *opened += 1);
        let service = service_fn(|request| {
            let shared = Arc::clone(&self);
            async move { shared.answer(&request).await }
        });
        let builder = auto::Builder::new(TokioExecutor::new());
        tokio::select! {
            _ended = builder.serve_connection(TokioIo::new(stream), service) => {}
            _cut = cut.changed() => {}
        }
        self.closed.send_modify(|closed| *closed += 1);
    }

    async fn answer(&self, request: &Request<Incoming>) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
        let host = match request.uri().authority() {
            Some(authority) => authority.to_string(),
            None => request.headers()[HOST].to_str().unwrap().to_owned(),
        };
        let path = request.uri().path_and_query().unwrap().to_string();
        self.seen.lock().unwrap().push(Seen {
            version: request.version(),
            host,
            path,
        });
        self.requests.send_modify(|requests| *requests += 1);
        let whole = |body: Vec<u8>| Response::new(Full::new(Bytes::from(body)).boxed());
        Ok(match self.answers {
            Answers::Empty => whole(b"{}".to_vec()),
            Answers::Sized(length) => whole(vec![b' '; length]),
            Answers::Chunked(length) => {
                let pieces = vec![b' '; length]
                    .chunks(1000)
                    .map(Bytes::copy_from_slice)
                    .collect::<Vec<_>>();
                let frames = pieces.into_iter().map(|piece| Ok(Frame::data(piece)));
                Response::new(StreamBody::new(stream::iter(frames)).boxed())
            }
            Answers::Redirect => {
                let mut response = whole(Vec::new());
                *response.status_mut() = StatusCode::FOUND;
                response.headers_mut().insert("location", "/elsewhere".parse().unwrap());
                response
            }
            Answers::First if *self.requests.borrow() == 1 => whole(b"{}".to_vec()),
            Answers::First | Answers::Never => std::future::pending().await,
        })
    }
}
