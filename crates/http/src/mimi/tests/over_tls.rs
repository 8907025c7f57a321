//! Over real connections: our client of MIMI providers and this server, each with certificates of its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::ConnectInfo;
use nabe_federation::discovery::{DnsError, SrvRecord};
use nabe_federation::{Dns, HttpsSettings, HttpsTransport, MimiPeers, TlsSettings};
use nabe_service::ports::mimi::{DirectoryError, MimiPeerError, MimiPeers as _, MimiRequest};
use nabe_service::ports::{PeerError, SystemClock};
use rustls::client::ResolvesClientCert;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

use super::*;
use crate::listener::{ListenerLimits, serve};
use crate::tls::mutual_server_config;

/// Everybody is on this machine.
struct Loopback;

#[async_trait]
impl Dns for Loopback {
    async fn addresses(&self, _: &str) -> Result<Vec<IpAddr>, DnsError> {
        Ok(vec![Ipv4Addr::LOCALHOST.into()])
    }

    async fn srv(&self, _: &str) -> Result<Vec<SrvRecord>, DnsError> {
        Ok(Vec::new())
    }
}

/// A provider `h.example` whose endpoints are at `mimi.h.example`, both with one certificate, listening.
struct Provider {
    pki: Pki,
    address: SocketAddr,
    _stop: watch::Sender<bool>,
}

impl Provider {
    async fn start(usage: PeerUsage) -> Self {
        Self::start_as(&["h.example", "mimi.h.example"], usage).await
    }

    async fn start_as(names: &[&str], usage: PeerUsage) -> Self {
        let pki = Pki::new();
        let (address, stop) = listen(&pki, names, usage).await;
        Self {
            pki,
            address,
            _stop: stop,
        }
    }

    /// A provider that shows this certificate and says to be `from`.
    fn peer(&self, from: &str, certificate: Option<Arc<CertificateFiles>>) -> MimiPeers<HttpsTransport> {
        self.peer_with(from, certificate, |_| {})
    }

    fn peer_with(
        &self,
        from: &str,
        certificate: Option<Arc<CertificateFiles>>,
        adjust: impl FnOnce(&mut HttpsSettings),
    ) -> MimiPeers<HttpsTransport> {
        let names = ["h.example", "mimi.h.example"].map(|name| (ServerName::parse(name).unwrap(), self.address));
        let mut settings = HttpsSettings {
            tls: TlsSettings {
                system_roots: false,
                extra_root_files: vec![self.pki.path("ca.pem")],
                client_certificate: certificate.map(|files| files as Arc<dyn ResolvesClientCert>),
                ..TlsSettings::default()
            },
            overrides: BTreeMap::from(names),
            ..HttpsSettings::default()
        };
        adjust(&mut settings);
        let clock = Arc::new(SystemClock);
        let transport = HttpsTransport::direct_with_dns(settings, clock.clone(), Arc::new(Loopback)).unwrap();
        let from = ServerName::parse(from).unwrap();
        MimiPeers::new(transport, &from, clock, nabe_federation::MimiSettings::default())
    }
}

/// A server with one certificate for these names; until the sender goes.
async fn listen(pki: &Pki, names: &[&str], usage: PeerUsage) -> (SocketAddr, watch::Sender<bool>) {
    let app = router(settings(), &World::new());
    listen_with(pki, names, usage, app, ListenerLimits::default()).await
}

/// The same with other routes and limits.
async fn listen_with(
    pki: &Pki,
    names: &[&str],
    usage: PeerUsage,
    app: Router,
    limits: ListenerLimits,
) -> (SocketAddr, watch::Sender<bool>) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let (certificate, key) = pki.write(&names.join(" "), &pki.ca.issue(&names).unwrap());
    let files = CertificateFiles::open(certificate, key).unwrap();
    let tls = mutual_server_config(files, verifier(pki.roots(), usage).unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(serve(listener, Some(tls), app, limits, stopped));
    (address, stop)
}

/// What the provider answers to a request for each endpoint.
async fn notify(peer: &MimiPeers<HttpsTransport>) -> Result<(u16, String), MimiPeerError> {
    let request = MimiRequest {
        endpoint: Endpoint::Notify,
        target: "mimi://h.example/r/club".to_owned(),
        body: Bytes::from_static(b"body"),
        // Generous: only a broken test gets there.
        timeout: Duration::from_secs(20),
        max_response_bytes: 1024,
    };
    let answer = peer.call(&server("h"), request).await?;
    Ok((answer.status, String::from_utf8(answer.body.to_vec()).unwrap()))
}

/// The server ends a handshake that is over on the client's side, which sees an alert or just the end.
#[track_caller]
fn expect_no_connection(answer: Result<(u16, String), MimiPeerError>) {
    use PeerError::{Tls, Unreachable};
    let refused = matches!(
        answer,
        Err(MimiPeerError::Directory(DirectoryError::NoAnswer(Tls | Unreachable)))
    );
    assert!(refused, "{answer:?}");
}

#[tokio::test]
async fn providers_know_each_other_by_certificates_of_either_profile() {
    let provider = Provider::start(PeerUsage::Either).await;
    for profile in [CertificateProfile::Server, CertificateProfile::Mutual] {
        let files = provider.pki.files("peer", "p.example", profile);
        let peer = provider.peer("p.example", Some(files));
        for _ in 0..2 {
            assert_eq!(notify(&peer).await, Ok((200, "p.example".to_owned())), "{profile:?}");
        }
    }
}

#[tokio::test]
async fn a_strict_provider_wants_the_usage_for_clients() {
    let provider = Provider::start(PeerUsage::ClientAuth).await;
    let files = provider.pki.files("peer", "p.example", CertificateProfile::Mutual);
    assert_eq!(
        notify(&provider.peer("p.example", Some(files))).await,
        Ok((200, "p.example".to_owned()))
    );
    let files = provider.pki.files("peer", "p.example", CertificateProfile::Server);
    expect_no_connection(notify(&provider.peer("p.example", Some(files))).await);
}

#[tokio::test]
async fn who_shows_no_certificate_reads_the_directory_and_nothing_else() {
    let provider = Provider::start(PeerUsage::Either).await;
    let (status, text) = notify(&provider.peer("p.example", None)).await.unwrap();
    assert_eq!((status, text), (401, format!("{}\n", MimiRefusal::NoCertificate)));
}

#[tokio::test]
async fn a_certificate_of_an_authority_that_is_not_trusted_is_refused() {
    let provider = Provider::start(PeerUsage::Either).await;
    let files = Pki::new().files("peer", "p.example", CertificateProfile::Mutual);
    expect_no_connection(notify(&provider.peer("p.example", Some(files))).await);
}

#[tokio::test]
async fn nobody_speaks_for_a_domain_their_certificate_is_not_for() {
    let provider = Provider::start(PeerUsage::Either).await;
    let files = provider.pki.files("peer", "p.example", CertificateProfile::Mutual);
    let (status, text) = notify(&provider.peer("q.example", Some(files))).await.unwrap();
    assert_eq!(
        (status, text),
        (403, format!("{}\n", MimiRefusal::OtherDomain(server("q"))))
    );
}

#[tokio::test]
async fn a_provider_whose_certificate_is_for_another_name_is_told_nothing() {
    // Neither by the provider's own name nor, where only that is right, by the one that the directory leads to.
    for (names, refused) in [
        (
            &["mimi.h.example"][..],
            MimiPeerError::Directory(DirectoryError::NoAnswer(PeerError::Tls)),
        ),
        (&["h.example"], MimiPeerError::Peer(PeerError::Tls)),
    ] {
        let provider = Provider::start_as(names, PeerUsage::Either).await;
        let files = provider.pki.files("peer", "p.example", CertificateProfile::Mutual);
        assert_eq!(notify(&provider.peer("p.example", Some(files))).await, Err(refused));
    }
}

/// `h.example`'s directory leads to `mimi.h.example`, where somebody else may be, who has a certificate for that name.
#[tokio::test]
async fn a_directory_cannot_have_us_speak_to_who_does_not_speak_for_its_provider() {
    let provider = Provider::start_as(&["h.example"], PeerUsage::Either).await;
    let files = provider.pki.files("peer", "p.example", CertificateProfile::Mutual);
    for (names, answer) in [
        (&["mimi.h.example"][..], Err(MimiPeerError::Peer(PeerError::Tls))),
        (&["mimi.h.example", "h.example"], Ok((200, "p.example".to_owned()))),
    ] {
        let (address, _stop) = listen(&provider.pki, names, PeerUsage::Either).await;
        let peer = provider.peer_with("p.example", Some(files.clone()), |settings| {
            let name = ServerName::parse("mimi.h.example").unwrap();
            settings.overrides.insert(name, address);
        });
        // Neither on a new connection nor on one that is kept.
        for _ in 0..2 {
            assert_eq!(notify(&peer).await, answer, "{names:?}");
        }
    }
}

#[tokio::test]
async fn a_directory_cannot_lead_to_addresses_that_are_not_public() {
    let provider = Provider::start(PeerUsage::Either).await;
    let files = provider.pki.files("peer", "p.example", CertificateProfile::Mutual);
    // The operator wrote down where the provider is, not where its endpoints are.
    let peer = provider.peer_with("p.example", Some(files), |settings| {
        settings.overrides.retain(|name, _| name.as_str() == "h.example");
    });
    let refused = MimiPeerError::Peer(PeerError::AddressRefused);
    assert_eq!(notify(&peer).await, Err(refused));
}

#[tokio::test]
async fn a_certificate_that_changed_is_the_one_shown_from_then_on() {
    let provider = Provider::start(PeerUsage::Either).await;
    let files = provider.pki.files("peer", "p.example", CertificateProfile::Server);
    let answered = Ok((200, "p.example".to_owned()));
    assert_eq!(notify(&provider.peer("p.example", Some(files.clone()))).await, answered);
    let new = provider.pki.issue("q.example", CertificateProfile::Server);
    let (certificate, _) = provider.pki.write("peer", &new);
    let later = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    std::fs::File::options()
        .append(true)
        .open(certificate)
        .unwrap()
        .set_modified(later)
        .unwrap();
    assert!(files.reload_if_changed().unwrap());
    let (status, _) = notify(&provider.peer("p.example", Some(files.clone()))).await.unwrap();
    assert_eq!(status, 403);
    let answered = Ok((200, "q.example".to_owned()));
    assert_eq!(notify(&provider.peer("q.example", Some(files))).await, answered);
}

/// Says who called, and from where.
async fn echo_address(peer: PeerIdentity, ConnectInfo(from): ConnectInfo<SocketAddr>) -> String {
    format!("{} at {from}", peer.domain())
}

/// What a server answers whom a proxy passes a connection to: `first` comes before TLS.
async fn through_proxy(
    address: SocketAddr,
    first: &[u8],
    pki: &Pki,
    certificate: Option<Arc<CertificateFiles>>,
    from: &str,
) -> std::io::Result<String> {
    let settings = TlsSettings {
        system_roots: false,
        extra_root_files: vec![pki.path("ca.pem")],
        client_certificate: certificate.map(|files| files as Arc<dyn ResolvesClientCert>),
        ..TlsSettings::default()
    };
    let mut config = (*settings.client_config().unwrap()).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(first).await?;
    let name = "mimi.h.example".try_into().unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let head = format!("POST /_mimi/v1/notify/x HTTP/1.1\r\nHost: mimi.h.example\r\nFrom: mimi@{from}\r\n");
    let rest = "Content-Length: 0\r\nConnection: close\r\n\r\n";
    stream.write_all(format!("{head}{rest}").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap();
    Ok(format!("{status} {}", body.trim_end()))
}

#[tokio::test]
async fn behind_a_proxy_that_passes_tls_through_the_certificate_says_who_it_is_and_the_proxy_from_where() {
    // Version 2, TCP over IPv4 and IPv6: from 192.0.2.9 and 2001:db8::9, port 256, to port 443.
    let v4 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x09\x7f\0\0\x01\x01\0\x01\xbb";
    let v6 = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24"[..],
        b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09",
        b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\0\x01\xbb",
    ]
    .concat();
    let pki = Pki::new();
    let start = async |proxies: &str| {
        let endpoints = Endpoints::new().serve(Endpoint::Notify, echo_address);
        let app = endpoints.router(settings(), World::new().state.clone()).unwrap();
        let limits = ListenerLimits {
            proxies: vec![proxies.parse().unwrap()],
            ..ListenerLimits::default()
        };
        listen_with(&pki, &["mimi.h.example"], PeerUsage::Either, app, limits).await
    };
    let files = |profile| Some(pki.files("peer", "p.example", profile));
    let (address, _stop) = start("127.0.0.1/32").await;
    for profile in [CertificateProfile::Server, CertificateProfile::Mutual] {
        for (header, from) in [(&v4[..], "192.0.2.9:256"), (&v6, "[2001:db8::9]:256")] {
            let answer = through_proxy(address, header, &pki, files(profile), "p.example").await;
            assert_eq!(answer.unwrap(), format!("200 p.example at {from}"), "{profile:?}");
        }
    }
    let ask = async |files, from| through_proxy(address, v4, &pki, files, from).await.unwrap();
    let other = MimiRefusal::OtherDomain(server("q"));
    assert_eq!(
        ask(files(CertificateProfile::Mutual), "q.example").await,
        format!("403 {other}")
    );
    assert_eq!(
        ask(None, "p.example").await,
        format!("401 {}", MimiRefusal::NoCertificate)
    );
    // Without the proxy's header there is no connection, and from who is no proxy none with it.
    let plain = through_proxy(address, b"", &pki, files(CertificateProfile::Mutual), "p.example").await;
    plain.unwrap_err();
    let (address, _stop) = start("192.0.2.0/24").await;
    let spoofed = through_proxy(address, v4, &pki, files(CertificateProfile::Mutual), "p.example").await;
    spoofed.unwrap_err();
}
