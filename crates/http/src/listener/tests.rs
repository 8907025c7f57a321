//! Real sockets on loopback.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Version};
use axum::routing::get;
use http_body_util::BodyExt as _;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::tls::{CertificateFiles, DevelopmentCa, provider, read_chain, server_config};

/// A listener whose `/` says who asks and by which version, and whose `/slow` answers when it is let go.
struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<io::Result<()>>,
    slow: Arc<Slow>,
}

#[derive(Default)]
struct Slow {
    begun: Notify,
    let_go: Notify,
}

impl Server {
    async fn start(tls: Option<Arc<ServerConfig>>, limits: ListenerLimits) -> Self {
        let slow = Arc::new(Slow::default());
        let app = Router::new()
            .route(
                "/",
                get(
                    |ConnectInfo(from): ConnectInfo<SocketAddr>, request: Request<Body>| async move {
                        format!("{} {:?}", from.ip(), request.version())
                    },
                ),
            )
            .route(
                "/slow",
                get(|State(slow): State<Arc<Slow>>| async move {
                    slow.begun.notify_one();
                    slow.let_go.notified().await;
                    "done"
                }),
            )
            .with_state(Arc::clone(&slow));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(serve(listener, tls, app, limits, stopped));
        Self {
            address,
            stop,
            task,
            slow,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

async fn over_http1(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, path: &str) -> String {
    let (mut sender, connection) = http1::handshake::<_, Body>(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .uri(path)
        .header("Host", "h.localhost")
        .body(Body::empty())
        .unwrap();
    text(sender.send_request(request).await.unwrap()).await
}

async fn over_http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> String {
    let (mut sender, connection) = http2::handshake::<_, _, Body>(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .uri("https://h.localhost/")
        .version(Version::HTTP_2)
        .body(Body::empty())
        .unwrap();
    text(sender.send_request(request).await.unwrap()).await
}

async fn text(response: hyper::Response<hyper::body::Incoming>) -> String {
    assert_eq!(response.status(), 200);
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// What a server does to a connection it does not want: end of stream or a reset, after at most an error response.
async fn closed(mut stream: TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    match timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await {
        Ok(_) => rest,
        Err(_) => panic!("the connection is still open"),
    }
}

pub(crate) struct Tls {
    pub(crate) server: Arc<ServerConfig>,
    roots: Arc<rustls::RootCertStore>,
}

pub(crate) fn tls() -> Tls {
    let folder = tempfile::tempdir().unwrap();
    let ca = DevelopmentCa::generate().unwrap();
    let issued = ca.issue(&["h.localhost".into()]).unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("tls.pem"), &issued.chain_pem).unwrap();
    std::fs::write(path("tls.key"), &issued.key_pem).unwrap();
    std::fs::write(path("ca.pem"), ca.certificate_pem()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(read_chain(&path("ca.pem")).unwrap().remove(0)).unwrap();
    let files = CertificateFiles::open(path("tls.pem"), path("tls.key")).unwrap();
    Tls {
        server: server_config(files, false).unwrap(),
        roots: Arc::new(roots),
    }
}

impl Tls {
    async fn connect(
        &self,
        server: &Server,
        version: &'static rustls::SupportedProtocolVersion,
        alpn: &[u8],
    ) -> io::Result<TlsStream<TcpStream>> {
        self.over(server.connect().await, version, alpn).await
    }

    pub(crate) async fn over<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        transport: S,
        version: &'static rustls::SupportedProtocolVersion,
        alpn: &[u8],
    ) -> io::Result<TlsStream<S>> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let name = "h.localhost".try_into().unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, transport).await
    }
}

#[tokio::test]
async fn plain_listener_speaks_both_versions() {
    let server = Server::start(None, ListenerLimits::default()).await;
    assert_eq!(over_http1(server.connect().await, "/").await, "127.0.0.1 HTTP/1.1");
    assert_eq!(over_http2(server.connect().await).await, "127.0.0.1 HTTP/2.0");
}

#[tokio::test]
async fn tls_listener_speaks_the_version_agreed_on_and_only_tls_1_3() {
    let tls = tls();
    let server = Server::start(Some(Arc::clone(&tls.server)), ListenerLimits::default()).await;
    let stream = tls
        .connect(&server, &rustls::version::TLS13, b"http/1.1")
        .await
        .unwrap();
    assert_eq!(over_http1(stream, "/").await, "127.0.0.1 HTTP/1.1");
    let stream = tls.connect(&server, &rustls::version::TLS13, b"h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    assert_eq!(over_http2(stream).await, "127.0.0.1 HTTP/2.0");
    assert!(tls.connect(&server, &rustls::version::TLS12, b"h2").await.is_err());
    // The listener survives those who do not speak TLS at all.
    let mut plain = server.connect().await;
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    closed(plain).await;
    let stream = tls.connect(&server, &rustls::version::TLS13, b"h2").await.unwrap();
    over_http2(stream).await;
}

#[tokio::test]
async fn one_address_gets_only_its_share_of_connections() {
    let limits = ListenerLimits {
        connections_per_address: 2,
        ..ListenerLimits::default()
    };
    let server = Server::start(None, limits).await;
    let first = tokio::spawn(over_http1(server.connect().await, "/slow"));
    server.slow.begun.notified().await;
    let second = tokio::spawn(over_http1(server.connect().await, "/slow"));
    server.slow.begun.notified().await;
    assert_eq!(closed(server.connect().await).await, b"");
    server.slow.let_go.notify_one();
    server.slow.let_go.notify_one();
    assert_eq!(
        (first.await.unwrap(), second.await.unwrap()),
        ("done".to_owned(), "done".to_owned())
    );
    // Closed connections give their share back, as soon as the server has noticed.
    let try_again = async {
        loop {
            let mut stream = server.connect().await;
            let mut byte = [0];
            let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: h.localhost\r\n\r\n").await;
            if asked.is_ok() && stream.read_exact(&mut byte).await.is_ok() {
                return byte;
            }
        }
    };
    assert_eq!(timeout(Duration::from_secs(20), try_again).await.unwrap(), *b"H");
}

#[test]
fn ipv6_networks_of_64_bits_count_as_one_address() {
    let same = |a: &str, b: &str| owner(a.parse().unwrap()) == owner(b.parse().unwrap());
    assert!(same("2001:db8::1", "2001:db8::ffff:1"));
    assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
    assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
    assert!(!same("192.0.2.1", "192.0.2.2"));
}

#[tokio::test]
async fn open_requests_are_finished_before_the_listener_ends() {
    let server = Server::start(None, ListenerLimits::default()).await;
    let idle = server.connect().await;
    let request = tokio::spawn(over_http1(server.connect().await, "/slow"));
    server.slow.begun.notified().await;
    server.stop.send_replace(true);
    // The port is closed to newcomers while the request goes on.
    let refused = async { while TcpStream::connect(server.address).await.is_ok() {} };
    timeout(Duration::from_secs(20), refused).await.unwrap();
    assert!(!server.task.is_finished());
    server.slow.let_go.notify_one();
    assert_eq!(request.await.unwrap(), "done");
    timeout(Duration::from_secs(20), server.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    closed(idle).await;
}

#[tokio::test]
async fn requests_that_do_not_end_are_cut_off() {
    let limits = ListenerLimits {
        drain: Duration::from_millis(20),
        ..ListenerLimits::default()
    };
    let server = Server::start(None, limits).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /slow HTTP/1.1\r\nHost: h.localhost\r\n\r\n")
        .await
        .unwrap();
    server.slow.begun.notified().await;
    server.stop.send_replace(true);
    timeout(Duration::from_secs(20), server.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(closed(stream).await, b"");
}

#[tokio::test]
async fn slow_headers_are_not_waited_for() {
    let limits = ListenerLimits {
        header: Duration::from_millis(50),
        ..ListenerLimits::default()
    };
    let server = Server::start(None, limits).await;
    // Nothing at all, half of HTTP/2's preface, half of a request.
    for beginning in ["", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nHost: h.lo"] {
        let mut stream = server.connect().await;
        stream.write_all(beginning.as_bytes()).await.unwrap();
        closed(stream).await;
    }
}

#[tokio::test]
async fn slow_handshake_is_not_waited_for() {
    let limits = ListenerLimits {
        handshake: Duration::from_millis(50),
        ..ListenerLimits::default()
    };
    let server = Server::start(Some(tls().server), limits).await;
    assert_eq!(closed(server.connect().await).await, b"");
}

#[tokio::test]
async fn slow_answers_outlive_the_time_for_headers() {
    let limits = ListenerLimits {
        header: Duration::from_millis(50),
        ..ListenerLimits::default()
    };
    let server = Server::start(None, limits).await;
    let request = tokio::spawn(over_http1(server.connect().await, "/slow"));
    server.slow.begun.notified().await;
    // Another connection's time runs out meanwhile.
    closed(server.connect().await).await;
    server.slow.let_go.notify_one();
    assert_eq!(request.await.unwrap(), "done");
}

#[tokio::test]
async fn header_block_over_the_limit_is_refused() {
    let limits = ListenerLimits {
        header_bytes: 8192,
        ..ListenerLimits::default()
    };
    let server = Server::start(None, limits).await;
    let mut stream = server.connect().await;
    let request = format!(
        "GET / HTTP/1.1\r\nHost: h.localhost\r\nX-Pad: {}\r\n\r\n",
        "x".repeat(20_000)
    );
    let _ = stream.write_all(request.as_bytes()).await;
    let answer = closed(stream).await;
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[tokio::test]
async fn listener_ends_when_nobody_can_stop_it_any_more() {
    let server = Server::start(None, ListenerLimits::default()).await;
    drop(server.stop);
    timeout(Duration::from_secs(20), server.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

/// The listener as its operator's proxy sees it.
fn behind_proxies(proxies: &str) -> ListenerLimits {
    ListenerLimits {
        proxies: vec![proxies.parse().unwrap()],
        connections_per_address: 1,
        ..ListenerLimits::default()
    }
}

#[tokio::test]
async fn a_proxy_says_who_connects_in_front_of_plain_http_and_of_tls() {
    let server = Server::start(None, behind_proxies("127.0.0.0/8")).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 4660 443\r\n")
        .await
        .unwrap();
    assert_eq!(over_http1(stream, "/").await, "192.0.2.7 HTTP/1.1");

    let tls = tls();
    let server = Server::start(Some(Arc::clone(&tls.server)), behind_proxies("127.0.0.0/8")).await;
    let mut stream = server.connect().await;
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x09\x7f\0\0\x01\0\x01\0\x02";
    stream.write_all(header).await.unwrap();
    let stream = tls.over(stream, &rustls::version::TLS13, b"h2").await.unwrap();
    assert_eq!(over_http2(stream).await, "192.0.2.9 HTTP/2.0");
}

#[tokio::test]
async fn behind_a_proxy_each_address_has_its_own_share_of_connections() {
    let server = Server::start(None, behind_proxies("127.0.0.1/32")).await;
    let from = async |address: &str| {
        let mut stream = server.connect().await;
        let line = format!("PROXY TCP4 {address} 198.51.100.1 4660 443\r\n");
        stream.write_all(line.as_bytes()).await.unwrap();
        stream
    };
    let first = tokio::spawn(over_http1(from("192.0.2.1").await, "/slow"));
    server.slow.begun.notified().await;
    assert_eq!(closed(from("192.0.2.1").await).await, b"");
    assert_eq!(over_http1(from("192.0.2.2").await, "/").await, "192.0.2.2 HTTP/1.1");
    server.slow.let_go.notify_one();
    assert_eq!(first.await.unwrap(), "done");
}

#[tokio::test]
async fn a_proxy_that_does_not_say_who_connects_is_not_served() {
    let server = Server::start(None, behind_proxies("127.0.0.1/32")).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: h.localhost\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(closed(stream).await, b"");

    let limits = ListenerLimits {
        handshake: Duration::from_millis(20),
        ..behind_proxies("127.0.0.1/32")
    };
    let silent = Server::start(None, limits).await;
    assert_eq!(closed(silent.connect().await).await, b"");
}

#[tokio::test]
async fn who_is_no_proxy_cannot_say_to_be_somebody_else() {
    // The proxies are elsewhere.
    let server = Server::start(None, behind_proxies("192.0.2.0/24")).await;
    assert_eq!(over_http1(server.connect().await, "/").await, "127.0.0.1 HTTP/1.1");
    let mut spoofed = server.connect().await;
    spoofed
        .write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 4660 443\r\nGET / HTTP/1.1\r\nHost: h.localhost\r\n\r\n")
        .await
        .unwrap();
    let answer = closed(spoofed).await;
    assert!(
        answer.starts_with(b"HTTP/1.1 400"),
        "{}",
        String::from_utf8_lossy(&answer)
    );

    let tls = tls();
    let server = Server::start(Some(Arc::clone(&tls.server)), behind_proxies("192.0.2.0/24")).await;
    let mut spoofed = server.connect().await;
    spoofed
        .write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 4660 443\r\n")
        .await
        .unwrap();
    assert!(tls.over(spoofed, &rustls::version::TLS13, b"h2").await.is_err());
}
