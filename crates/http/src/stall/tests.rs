//! Whole connections over pipes in memory, while the clock stands still unless everybody waits.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::{Request, StatusCode};
use axum::routing::get;
use futures_util::{StreamExt as _, stream};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::listener::{ListenerLimits, serve_one, tests::tls};

const STALL: Duration = Duration::from_secs(30);
const MIB: usize = 1024 * 1024;

/// Bytes that say when they are gone.
struct Tracked {
    bytes: Vec<u8>,
    gone: Arc<Notify>,
}

impl AsRef<[u8]> for Tracked {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.gone.notify_one();
    }
}

/// A server on one end of a pipe.
struct Server {
    connection: JoinHandle<()>,
    /// Notified once the answer of `/answer`, or the stream of `/events`, is no longer in memory.
    gone: Arc<Notify>,
}

impl Server {
    /// `/answer` is so long; `/events` sends 20 KiB every 15 seconds, for ever; `/silence` sends one byte and no more; `/slow`
    /// takes twice as long as peers may; `/` has nothing to say.
    fn start(transport: DuplexStream, answer: usize) -> Self {
        Self::start_over(transport, None, answer)
    }

    fn start_over(transport: DuplexStream, tls: Option<Arc<rustls::ServerConfig>>, answer: usize) -> Self {
        let gone = Arc::new(Notify::new());
        let tracked = |bytes| Tracked {
            bytes: vec![b'x'; bytes],
            gone: Arc::clone(&gone),
        };
        let (of_answer, of_events) = (tracked(answer), tracked(20 * 1024));
        let of_answer = Arc::new(Mutex::new(Some(of_answer)));
        let of_events = Arc::new(Mutex::new(Some(of_events)));
        let app = Router::new()
            .route(
                "/answer",
                get(async move || Body::from(Bytes::from_owner(of_answer.lock().unwrap().take().unwrap()))),
            )
            .route(
                "/events",
                get(async move || {
                    let event = of_events.lock().unwrap().take().unwrap();
                    Body::from_stream(stream::unfold(event, async |event| {
                        pass(Duration::from_secs(15)).await;
                        Some((Ok::<_, Infallible>(event.bytes.clone()), event))
                    }))
                }),
            )
            .route(
                "/silence",
                get(async || {
                    let byte = stream::iter([Ok::<_, Infallible>(vec![b'x'])]);
                    Body::from_stream(byte.chain(stream::pending()))
                }),
            )
            .route(
                "/slow",
                get(async || {
                    pass(2 * STALL).await;
                    "at last"
                }),
            )
            .route("/", get(async || StatusCode::NO_CONTENT));
        let limits = ListenerLimits {
            stall: STALL,
            answer_bytes_per_second: 8 * 1024,
            // Probes of HTTP/2 find dead connections, too, but not all: here they come too late.
            header: 100 * STALL,
            ..ListenerLimits::default()
        };
        Self {
            connection: tokio::spawn(serve_one(transport, tls, app, limits)),
            gone,
        }
    }
}

/// Lets time pass on the paused clock: it jumps as soon as nobody has anything to do, and no test waits for it.
async fn pass(time: Duration) {
    sleep(time).await;
}

/// What happens must happen between these times from now.
async fn between<T>(from: Duration, to: Duration, what: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let Ok(outcome) = timeout(to, what).await else {
        panic!("not within {to:?}")
    };
    assert!(began.elapsed() >= from, "already after {:?}", began.elapsed());
    outcome
}

async fn ask(stream: &mut (impl AsyncWrite + Unpin), path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: h.localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
}

struct Client {
    sender: http2::SendRequest<Body>,
    connection: JoinHandle<hyper::Result<()>>,
}

impl Client {
    /// HTTP/2 whose streams have a window of so many bytes.
    async fn start(transport: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, window: u32) -> Self {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .initial_connection_window_size(1 << 30)
            .handshake::<_, Body>(TokioIo::new(transport))
            .await
            .unwrap();
        Self {
            sender,
            connection: tokio::spawn(connection),
        }
    }

    async fn ask(&mut self, path: &str) -> hyper::Response<Incoming> {
        let request = Request::get(format!("http://h.localhost{path}"))
            .body(Body::empty())
            .unwrap();
        self.sender.send_request(request).await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn who_reads_nothing_over_http_1_loses_the_connection() {
    for encrypted in [false, true] {
        let (ours, mut theirs) = duplex(64 * 1024);
        let tls = tls();
        let server = Server::start_over(ours, encrypted.then(|| Arc::clone(&tls.server)), 4 * MIB);
        let open: Box<dyn AsyncWrite> = if encrypted {
            let mut stream = tls.over(theirs, &rustls::version::TLS13, b"http/1.1").await.unwrap();
            ask(&mut stream, "/answer").await;
            Box::new(stream)
        } else {
            ask(&mut theirs, "/answer").await;
            Box::new(theirs)
        };
        between(STALL, 2 * STALL, server.connection).await.unwrap();
        between(Duration::ZERO, STALL, server.gone.notified()).await;
        drop(open);
    }
}

#[tokio::test(start_paused = true)]
async fn who_reads_slowly_over_http_1_gets_everything() {
    let (ours, mut theirs) = duplex(16 * 1024);
    let server = Server::start(ours, MIB);
    ask(&mut theirs, "/answer").await;
    let began = Instant::now();
    let mut received = 0;
    let mut buffer = vec![0; 16 * 1024];
    while received < MIB {
        pass(Duration::from_secs(1)).await;
        let read = theirs.read(&mut buffer).await.unwrap();
        assert!(read > 0, "closed after {received} bytes");
        received += read;
    }
    assert!(began.elapsed() > 2 * STALL, "not slow: {:?}", began.elapsed());
    assert!(!server.connection.is_finished());
}

#[tokio::test(start_paused = true)]
async fn who_reads_too_slowly_over_http_1_loses_the_connection() {
    let (ours, mut theirs) = duplex(1024);
    let server = Server::start(ours, MIB);
    ask(&mut theirs, "/answer").await;
    let reading = tokio::spawn(async move {
        let mut byte = [0; 100];
        while theirs.read(&mut byte).await.is_ok_and(|read| read > 0) {
            pass(Duration::from_secs(1)).await;
        }
    });
    // 1 MiB is to be taken in 128 seconds.
    let time = STALL + Duration::from_secs(128);
    between(time, 3 * time, server.gone.notified()).await;
    between(Duration::ZERO, time, server.connection).await.unwrap();
    reading.abort();
}

#[tokio::test(start_paused = true)]
async fn who_keeps_a_window_closed_loses_the_stream_and_not_the_connection() {
    // The last: all of the answer but its end fits.
    for (window, answer) in [
        (0, 4 * MIB),
        (0, 2 * 1024),
        (20_000, 4 * MIB),
        (65_535, 4 * MIB),
        (5_000, 5_001),
    ] {
        let (ours, theirs) = duplex(MIB);
        let server = Server::start(ours, answer);
        let mut client = Client::start(theirs, window).await;
        let response = client.ask("/answer").await;
        assert_eq!(response.headers()["content-length"], answer.to_string());
        between(STALL, 2 * STALL, server.gone.notified()).await;
        // Those who read now learn that it was cut off.
        let read = between(Duration::ZERO, STALL, response.into_body().collect()).await;
        assert!(read.is_err(), "{window}");
        assert_eq!(client.ask("/").await.status(), 204);
        assert!(!server.connection.is_finished() && !client.connection.is_finished());
    }
}

#[tokio::test(start_paused = true)]
async fn who_opens_the_window_but_does_not_read_loses_the_connection() {
    let (ours, theirs) = duplex(64 * 1024);
    let server = Server::start(ours, 4 * MIB);
    let is_deaf = Arc::new(AtomicBool::new(false));
    let theirs = Deaf {
        stream: theirs,
        is_deaf: Arc::clone(&is_deaf),
    };
    let mut client = Client::start(theirs, 1 << 30).await;
    assert_eq!(client.ask("/").await.status(), 204);
    is_deaf.store(true, Ordering::Relaxed);
    let unanswered = tokio::spawn(async move { client.ask("/answer").await });
    between(STALL, 2 * STALL, server.connection).await.unwrap();
    between(Duration::ZERO, STALL, server.gone.notified()).await;
    unanswered.abort();
}

/// A transport from which nothing is read any more once it is deaf.
struct Deaf {
    stream: DuplexStream,
    is_deaf: Arc<AtomicBool>,
}

impl AsyncRead for Deaf {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.is_deaf.load(Ordering::Relaxed) {
            true => Poll::Pending,
            false => Pin::new(&mut self.stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Deaf {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn who_opens_the_window_too_slowly_loses_the_stream() {
    let (ours, theirs) = duplex(MIB);
    let server = Server::start(ours, MIB);
    let mut client = Client::start(theirs, 16 * 1024).await;
    let mut body = client.ask("/answer").await.into_body();
    let reading = tokio::spawn(async move {
        // Each frame of 16 KiB well before the stream counts as stalled.
        while let Some(Ok(_)) = body.frame().await {
            pass(STALL / 2).await;
        }
    });
    let time = STALL + Duration::from_secs(128);
    between(time, time + STALL, server.gone.notified()).await;
    between(Duration::ZERO, 2 * STALL, reading).await.unwrap();
    assert_eq!(client.ask("/").await.status(), 204);
}

#[tokio::test(start_paused = true)]
async fn who_reads_over_http_2_gets_everything() {
    for answer in [0, 1, 2, 1024, 1025, 1026, 16 * 1024, 16 * 1024 + 1, MIB + 1] {
        let (ours, theirs) = duplex(16 * 1024);
        let _server = Server::start(ours, answer);
        let mut client = Client::start(theirs, 65_535).await;
        let body = client.ask("/answer").await.into_body();
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), answer);
    }
}

#[tokio::test(start_paused = true)]
async fn streams_of_events_live_as_long_as_they_are_read() {
    let (ours, theirs) = duplex(MIB);
    let server = Server::start(ours, 0);
    let mut client = Client::start(theirs, 65_535).await;
    let mut silence = client.ask("/silence").await.into_body();
    assert!(silence.frame().await.unwrap().is_ok());
    let events = client.ask("/events").await.into_body().into_data_stream();
    let mut received = 0;
    let mut events = events.map(|event| event.unwrap().len());
    while received < 20 * 1024 * 200 {
        received += events.next().await.unwrap();
    }
    assert!(timeout(STALL, silence.frame()).await.is_err());
    assert!(!server.connection.is_finished());
    drop(events);
    between(Duration::ZERO, STALL, server.gone.notified()).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_events_that_nobody_reads_is_cut_off() {
    let (ours, theirs) = duplex(MIB);
    let server = Server::start(ours, 0);
    let mut client = Client::start(theirs, 65_535).await;
    let unread = client.ask("/events").await;
    between(STALL, 5 * STALL, server.gone.notified()).await;
    drop(unread);

    let (ours, mut theirs) = duplex(64 * 1024);
    let server = Server::start(ours, 0);
    ask(&mut theirs, "/events").await;
    between(STALL, 10 * STALL, server.gone.notified()).await;
}

#[tokio::test(start_paused = true)]
async fn the_time_to_read_an_answer_begins_when_it_is_there() {
    let (ours, theirs) = duplex(MIB);
    let server = Server::start(ours, 0);
    let mut client = Client::start(theirs, 65_535).await;
    let body = client.ask("/slow").await.into_body();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "at last");
    assert!(!server.connection.is_finished());
}
