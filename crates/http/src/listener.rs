//! The accept loop: TCP, TLS, HTTP/1.1 and HTTP/2, with every limit a hostile peer can push against.
//!
//! What is bounded here: connections in all and per address, the time of a handshake and of the header block, the size of
//! headers, HTTP/2 streams, and how long a peer may take to read its answers. Bodies, the time to answer and what unread
//! answers take are bounded by the routes ([`HttpLimits`](crate::HttpLimits)).
//!
//! Behind a proxy that passes connections through, addresses are those that the proxy says ([`ListenerLimits::proxies`]).

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Router, extract::ConnectInfo};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use ipnet::IpNet;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use tracing::debug;

use crate::peer_certificate::PeerCertificate;
use crate::stall::{Pace, Paced, Stalling, Streams};

pub(crate) mod proxy_protocol;

/// Limits of one listener; see each field for the unit.
#[derive(Clone, Debug)]
pub struct ListenerLimits {
    /// Connections open at once, all addresses together; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Connections open at once from one address, or from one IPv6 network of 64 bits; further ones are closed at once.
    pub connections_per_address: usize,
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Time for a connection to say which HTTP it speaks, then for the header block of a request (HTTP/1.1), or for the answer of a
    /// peer that is probed (HTTP/2).
    pub header: Duration,
    /// After so long a silent peer is probed (HTTP/2). Each time costs 78 bytes, there and back, on every connection that is idle.
    pub probe: Duration,
    /// HTTP/2 streams open at once on one connection.
    pub streams: u32,
    /// Bytes of a header block.
    pub header_bytes: u32,
    /// How long a peer may take nothing of what is sent to it before it loses the connection, or the HTTP/2 stream if only
    /// that is held up.
    pub stall: Duration,
    /// Bytes each second at which a peer must take an answer of known length, beyond [`Self::stall`]. Event streams have none.
    pub answer_bytes_per_second: u32,
    /// How long open requests may go on after shutdown was asked for.
    pub drain: Duration,
    /// Proxies that pass connections through and say by the PROXY protocol, version 1 or 2, who connects: the limits per address,
    /// and what requests are told of their origin, go by that. A connection from one of these must begin with such a header, within
    /// [`Self::handshake`]; from anybody else such a header is garbage.
    pub proxies: Vec<IpNet>,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_address: 256,
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(15),
            probe: Duration::from_mins(2),
            streams: 128,
            // A stream token of a user in thousands of rooms comes back in a header.
            header_bytes: 128 * 1024,
            stall: Duration::from_secs(30),
            answer_bytes_per_second: 8 * 1024,
            drain: Duration::from_secs(10),
            proxies: Vec::new(),
        }
    }
}

/// Accepts connections until `shutdown` turns `true` or its sender is gone, then lets open requests finish within [`ListenerLimits::drain`].
///
/// Without `tls` the listener speaks plain HTTP: for loopback behind a reverse proxy, and for the operator's own port.
///
/// # Errors
/// Only when the listening socket itself breaks.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    app: Router,
    limits: ListenerLimits,
    mut shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let shared = Arc::new(Shared::new(tls, app, limits, shutdown.clone()));
    let mut connections = JoinSet::new();
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&shared.total).acquire_owned() => permit.expect("the semaphore is never closed"),
            () = stopped(&mut shutdown) => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut shutdown) => break,
        };
        match accepted {
            Ok((stream, address)) => {
                connections.spawn(Arc::clone(&shared).connection(stream, address, permit));
            }
            // A peer that hung up in the queue is no fault of ours; being out of file descriptors passes with time.
            Err(error) if is_transient(&error) => sleep(Duration::from_millis(50)).await,
            Err(error) => return Err(error),
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(shared.limits.drain, drained).await.is_err() {
        connections.shutdown().await;
    }
    Ok(())
}

/// Serves one connection over any transport, until it ends.
#[cfg(test)]
pub(crate) async fn serve_one<S>(stream: S, tls: Option<Arc<ServerConfig>>, app: Router, limits: ListenerLimits)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (_stop, shutdown) = watch::channel(false);
    let address = (Ipv6Addr::LOCALHOST, 1).into();
    Shared::new(tls, app, limits, shutdown).transport(stream, address).await;
}

struct Shared {
    tls: Option<TlsAcceptor>,
    app: Router,
    total: Arc<Semaphore>,
    per_address: Mutex<BTreeMap<IpAddr, usize>>,
    shutdown: watch::Receiver<bool>,
    limits: ListenerLimits,
}

impl Shared {
    fn new(
        tls: Option<Arc<ServerConfig>>,
        app: Router,
        limits: ListenerLimits,
        shutdown: watch::Receiver<bool>,
    ) -> Self {
        Self {
            tls: tls.map(TlsAcceptor::from),
            app,
            total: Arc::new(Semaphore::new(limits.connections)),
            per_address: Mutex::default(),
            shutdown,
            limits,
        }
    }

    async fn connection(self: Arc<Self>, mut stream: TcpStream, address: SocketAddr, _permit: OwnedSemaphorePermit) {
        // Small signed requests and answers go back and forth: never wait to fill a segment.
        let _ = stream.set_nodelay(true);
        let Some(address) = self.source(&mut stream, address).await else {
            return;
        };
        self.transport(stream, address).await;
    }

    /// Who is at the other end, or at the other end of the proxy there; `None` when the proxy does not say.
    async fn source(&self, stream: &mut TcpStream, address: SocketAddr) -> Option<SocketAddr> {
        if !contains(&self.limits.proxies, address.ip()) {
            return Some(address);
        }
        match timeout(self.limits.handshake, proxy_protocol::read(stream)).await {
            Ok(Ok(source)) => Some(source.unwrap_or(address)),
            Ok(Err(error)) => {
                debug!(%address, %error, "a proxy does not say who connects");
                None
            }
            Err(_) => {
                debug!(%address, "a proxy took too long to say who connects");
                None
            }
        }
    }

    async fn transport<S>(&self, stream: S, address: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(_slot) = AddressSlot::take(self, address.ip()) else {
            debug!(%address, "too many connections from one address");
            return;
        };
        let stream = Stalling::new(stream, self.limits.stall);
        let Some(acceptor) = &self.tls else {
            return self.http(stream, address, None).await;
        };
        match timeout(self.limits.handshake, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let peer = PeerCertificate::of(stream.get_ref().1);
                self.http(stream, address, peer).await;
            }
            Ok(Err(error)) => debug!(%address, %error, "TLS handshake failed"),
            Err(_) => debug!(%address, "TLS handshake took too long"),
        }
    }

    async fn http<S>(&self, stream: S, address: SocketAddr, peer: Option<PeerCertificate>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = auto::Builder::new(Streams);
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header)
            .max_buf_size(
                usize::try_from(self.limits.header_bytes)
                    .unwrap_or(usize::MAX)
                    .max(8192),
            );
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.limits.streams)
            .max_header_list_size(self.limits.header_bytes)
            .max_send_buf_size(STREAM_SEND_BUFFER)
            .keep_alive_interval(self.limits.probe)
            .keep_alive_timeout(self.limits.header);
        let pace = Pace {
            stall: self.limits.stall,
            bytes_per_second: self.limits.answer_bytes_per_second,
        };
        let service = self
            .app
            .clone()
            .map_request(move |mut request: axum::http::Request<hyper::body::Incoming>| {
                request.extensions_mut().insert(ConnectInfo(address));
                if let Some(peer) = &peer {
                    request.extensions_mut().insert(peer.clone());
                }
                request.map(axum::body::Body::new)
            })
            .map_response(move |answer: axum::response::Response| answer.map(|body| Paced::new(body, pace)));
        let stream = TokioIo::new(Prompt::new(stream, self.limits.header));
        let connection = builder.serve_connection(stream, TowerToHyperService::new(service));
        tokio::pin!(connection);
        let mut shutdown = self.shutdown.clone();
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopped(&mut shutdown) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(%address, %error, "connection ended early");
        }
    }
}

/// One address's share of the connections, given back on drop.
struct AddressSlot<'a> {
    shared: &'a Shared,
    address: IpAddr,
}

impl<'a> AddressSlot<'a> {
    fn take(shared: &'a Shared, address: IpAddr) -> Option<Self> {
        let address = owner(address);
        let mut counts = shared
            .per_address
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let count = counts.entry(address).or_insert(0);
        if *count >= shared.limits.connections_per_address {
            return None;
        }
        *count += 1;
        Some(Self { shared, address })
    }
}

impl Drop for AddressSlot<'_> {
    fn drop(&mut self) {
        let mut counts = self
            .shared
            .per_address
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// Whether an address is in one of the networks; an IPv4 address inside an IPv6 one is the IPv4 address.
pub(crate) fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// What counts as one address: whoever has an IPv6 address mostly has 2^64 of them.
pub(crate) fn owner(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

/// A connection that must say within a time which HTTP it speaks. Before that neither protocol's own limits apply.
struct Prompt<S> {
    stream: S,
    /// How much of [`PREFACE`] came, and until when the rest, or something else, must come; `None` once it is clear.
    waiting: Option<(usize, Pin<Box<Sleep>>)>,
}

impl<S> Prompt<S> {
    fn new(stream: S, time: Duration) -> Self {
        Self {
            stream,
            waiting: Some((0, Box::pin(sleep(time)))),
        }
    }

    /// Takes note of what came.
    fn came(&mut self, bytes: &[u8]) {
        let Some((matched, _)) = &mut self.waiting else { return };
        let expected = &PREFACE[*matched..];
        let common = bytes
            .iter()
            .zip(expected)
            .take_while(|(byte, expected)| byte == expected)
            .count();
        *matched += common;
        // Something else than the preface is HTTP/1.1, whose own limit starts now.
        if *matched == PREFACE.len() || common < bytes.len() {
            self.waiting = None;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prompt<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Pending => {
                let Some((_, deadline)) = &mut self.waiting else {
                    return Poll::Pending;
                };
                ready!(deadline.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Ready(outcome) => {
                self.came(buffer.filled().get(before..).unwrap_or_default());
                Poll::Ready(outcome)
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prompt<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Completes when `shutdown` is `true`, or when nobody is left to say so.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

fn is_transient(error: &io::Error) -> bool {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    ) || matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

/// Bytes of one HTTP/2 stream that wait for the connection to take them, although the peer made room for them.
const STREAM_SEND_BUFFER: usize = 64 * 1024;
/// How a client announces HTTP/2 (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[cfg(test)]
pub(crate) mod tests;
