//! Tests of the transport against a real TLS server on loopback.

use futures_util::StreamExt as _;
use http::Version;
use nabe_service::ports::ManualClock;
use nabe_types::UnixMillis;
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use tokio::net::TcpListener;

use self::server::{Answers, Authority, Seen, Server};
use super::*;
use crate::discovery::{MAX_WELL_KNOWN_BYTES, Target, WellKnown, WellKnownUrl};
use crate::testing::{FakeDns, NoEntropy, name};
use crate::transport::TlsFault;

mod server;

const HOST: &str = "peer.example";
const H2_AND_H1: &[&str] = &["h2", "http/1.1"];
const H1_ONLY: &[&str] = &["http/1.1"];
/// Tells the process that trusts other authorities where to connect to.
const PORT: &str = "NABE_TEST_SYSTEM_ROOTS_PORT";
/// Long enough that only a broken test reaches it.
const TIMEOUT: Duration = Duration::from_secs(20);

struct World {
    authority: Authority,
    server: Server,
    dns: Arc<FakeDns>,
    clock: ManualClock,
}

/// A server with a certificate for `peer.example`, which resolves to it.
async fn world(alpn: &[&str], answers: Answers) -> World {
    world_with(HOST, &[&TLS13], alpn, answers).await
}

async fn world_with(
    certified: &str,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&str],
    answers: Answers,
) -> World {
    let authority = Authority::generate("ours");
    let server = Server::start(Some(authority.tls(certified, versions, alpn)), answers).await;
    let dns = Arc::new(FakeDns::default().host(HOST, &["127.0.0.1"]));
    World {
        authority,
        server,
        dns,
        clock: ManualClock::new(UnixMillis(1_700_000_000_000)),
    }
}

impl World {
    /// Trusts the world's authority only, and may connect to loopback.
    fn settings(&self) -> HttpsSettings {
        HttpsSettings {
            tls: TlsSettings {
                system_roots: false,
                extra_roots: vec![self.authority.certificate()],
                ..TlsSettings::default()
            },
            allowed_networks: vec!["127.0.0.1/32".parse().unwrap()],
            ..HttpsSettings::default()
        }
    }

    fn transport(&self, settings: HttpsSettings) -> HttpsTransport {
        let dns = Arc::clone(&self.dns);
        HttpsTransport::with_dns(settings, Arc::new(self.clock.clone()), Arc::new(NoEntropy), dns).unwrap()
    }

    fn peer(&self) -> ServerName {
        name(&format!("{HOST}:{}", self.server.port()))
    }

    fn seen(&self, version: Version, path: &str) -> Seen {
        Seen {
            version,
            host: format!("{HOST}:{}", self.server.port()),
            path: path.to_owned(),
        }
    }
}

fn request(path: &str) -> Request<Bytes> {
    Request::get(path).body(Bytes::new()).unwrap()
}

async fn status(transport: &HttpsTransport, server: &ServerName) -> Result<u16, TransportError> {
    Ok(transport.send(server, request("/x"), TIMEOUT).await?.status().as_u16())
}

#[tokio::test]
async fn http2_is_negotiated_and_the_authority_is_the_name_with_its_port() {
    let world = world(H2_AND_H1, Answers::Empty).await;
    let transport = world.transport(world.settings());
    let response = transport
        .send(&world.peer(), request("/_matrix/%2F?a=%20"), TIMEOUT)
        .await
        .unwrap();
    assert_eq!(
        (response.status().as_u16(), response.body().as_ref()),
        (200, b"{}".as_ref())
    );
    assert_eq!(world.server.seen(), [world.seen(Version::HTTP_2, "/_matrix/%2F?a=%20")]);
}

#[tokio::test]
async fn http1_is_spoken_with_the_host_header_where_the_peer_has_no_http2() {
    for alpn in [H1_ONLY, &[]] {
        let world = world(alpn, Answers::Empty).await;
        let transport = world.transport(world.settings());
        transport
            .send(&world.peer(), request("/_matrix/%2F?a=%20"), TIMEOUT)
            .await
            .unwrap();
        assert_eq!(
            world.server.seen(),
            [world.seen(Version::HTTP_11, "/_matrix/%2F?a=%20")]
        );
    }
}

#[tokio::test]
async fn an_srv_target_is_connected_to_as_the_original_host() {
    let mut world = world(H1_ONLY, Answers::Empty).await;
    // Port 443 of the name itself is refused by the guard, so there is no well-known document.
    let dns = FakeDns::default()
        .host(HOST, &["10.0.0.1"])
        .host("srv.example", &["127.0.0.1"])
        .srv(HOST, &[(1, world.server.port(), "srv.example")]);
    world.dns = Arc::new(dns);
    assert_eq!(status(&world.transport(world.settings()), &name(HOST)).await, Ok(200));
    assert_eq!(world.server.seen()[0].host, HOST);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let world = world_with("other.example", &[&TLS13], H2_AND_H1, Answers::Empty).await;
    let refused = Err(TransportError::Tls(TlsFault::WrongName));
    assert_eq!(status(&world.transport(world.settings()), &world.peer()).await, refused);
    assert_eq!(world.server.seen(), []);
}

#[tokio::test]
async fn a_certificate_by_an_unknown_authority_is_refused_whatever_its_name() {
    let world = world(H2_AND_H1, Answers::Empty).await;
    for trusted in ["ours", "theirs"] {
        let mut settings = world.settings();
        settings.tls.extra_roots = vec![Authority::generate(trusted).certificate()];
        let refused = Err(TransportError::Tls(TlsFault::UntrustedIssuer));
        assert_eq!(status(&world.transport(settings), &world.peer()).await, refused);
    }
    assert_eq!(world.server.seen(), []);
}

/// Which authorities the system trusts is the environment's to say, and an environment is a process's: the test below runs
/// a connection by the default settings in a process of its own, with its own idea of the system's authorities.
#[tokio::test]
async fn the_authorities_of_the_system_are_trusted_by_default() {
    let world = world(H2_AND_H1, Answers::Empty).await;
    let folder = std::env::temp_dir().join(format!(
        "nabe-system-roots-{}-{}",
        std::process::id(),
        world.server.port()
    ));
    std::fs::create_dir(&folder).unwrap();
    let connect = |file: &str, authority: &Authority| {
        let file = folder.join(file);
        std::fs::write(&file, authority.pem()).unwrap();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child
            .args([
                "--ignored",
                "--exact",
                "https::tests::connect_by_the_default_authorities",
            ])
            .env("SSL_CERT_FILE", file)
            .env_remove("SSL_CERT_DIR")
            .env(PORT, world.server.port().to_string());
        async move {
            let run = tokio::task::spawn_blocking(move || child.output().unwrap());
            String::from_utf8(run.await.unwrap().stdout).unwrap()
        }
    };
    let trusted = connect("ours.pem", &world.authority).await;
    let untrusted = connect("theirs.pem", &Authority::generate("theirs")).await;
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(trusted.contains("outcome: Ok(200)"), "{trusted}");
    assert!(untrusted.contains("outcome: Err(Tls(UntrustedIssuer))"), "{untrusted}");
}

/// The half of the test above that runs in a process of its own.
#[tokio::test]
#[ignore = "run by the_authorities_of_the_system_are_trusted_by_default"]
async fn connect_by_the_default_authorities() {
    let Ok(port) = std::env::var(PORT) else { return };
    let settings = HttpsSettings {
        allowed_networks: vec!["127.0.0.1/32".parse().unwrap()],
        ..HttpsSettings::default()
    };
    let transport = HttpsTransport::with_dns(
        settings,
        Arc::new(ManualClock::new(UnixMillis(1_700_000_000_000))),
        Arc::new(NoEntropy),
        Arc::new(FakeDns::default().host(HOST, &["127.0.0.1"])),
    )
    .unwrap();
    let outcome = status(&transport, &name(&format!("{HOST}:{port}"))).await;
    // Past the test harness, which keeps what a passing test prints.
    std::io::Write::write_all(&mut std::io::stdout(), format!("outcome: {outcome:?}\n").as_bytes()).unwrap();
}

#[tokio::test]
async fn tls_1_2_is_refused_unless_a_setting_permits_it() {
    let world = world_with(HOST, &[&TLS12], H2_AND_H1, Answers::Empty).await;
    let refused = Err(TransportError::Tls(TlsFault::Incompatible));
    assert_eq!(status(&world.transport(world.settings()), &world.peer()).await, refused);
    let mut settings = world.settings();
    settings.tls.permit_tls12 = true;
    assert_eq!(status(&world.transport(settings), &world.peer()).await, Ok(200));
}

#[tokio::test]
async fn an_answer_over_the_limit_is_refused_announced_or_not() {
    for alpn in [H2_AND_H1, H1_ONLY] {
        for (answers, expected) in [
            (Answers::Sized(5000), Ok(5000)),
            (Answers::Sized(5001), Err(TransportError::TooLarge { limit: 5000 })),
            (Answers::Chunked(5000), Ok(5000)),
            (Answers::Chunked(5001), Err(TransportError::TooLarge { limit: 5000 })),
        ] {
            let world = world(alpn, answers).await;
            let settings = HttpsSettings {
                max_response_bytes: 5000,
                ..world.settings()
            };
            let response = world
                .transport(settings)
                .send(&world.peer(), request("/x"), TIMEOUT)
                .await;
            assert_eq!(
                response.map(|response| response.body().len()),
                expected,
                "{alpn:?} {answers:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_request_can_lower_the_limit_on_its_answer_but_not_raise_it() {
    let world = world(H2_AND_H1, Answers::Sized(100)).await;
    let transport = world.transport(HttpsSettings {
        max_response_bytes: 99,
        ..world.settings()
    });
    for (asked, limit) in [(10, 10), (1000, 99)] {
        let mut request = request("/x");
        request.extensions_mut().insert(ResponseLimit(asked));
        let response = transport.send(&world.peer(), request, TIMEOUT).await;
        assert_eq!(response.map(drop), Err(TransportError::TooLarge { limit }));
    }
}

#[tokio::test]
async fn a_peer_that_never_answers_is_given_up_at_the_timeout() {
    let world = world(H2_AND_H1, Answers::Never).await;
    let transport = world.transport(world.settings());
    // Generous for connecting, short for a test.
    let outcome = transport
        .send(&world.peer(), request("/x"), Duration::from_secs(1))
        .await;
    assert_eq!(outcome.map(drop), Err(TransportError::Timeout));
    assert_eq!(world.server.seen().len(), 1);
}

#[tokio::test]
async fn the_connection_of_a_request_that_was_given_up_is_not_used_again() {
    let world = world(H2_AND_H1, Answers::Never).await;
    let (transport, peer) = (world.transport(world.settings()), world.peer());
    for attempt in 1..=2 {
        tokio::select! {
            biased;
            outcome = status(&transport, &peer) => panic!("ended: {outcome:?}"),
            () = world.server.has_seen_requests(attempt) => {}
        }
        assert_eq!(world.server.connections(), attempt);
    }
}

#[tokio::test]
async fn a_peer_that_never_finishes_the_handshake_is_given_up_at_its_timeout() {
    let world = world(H2_AND_H1, Answers::Empty).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = name(&format!("{HOST}:{}", silent.local_addr().unwrap().port()));
    let settings = HttpsSettings {
        handshake_timeout: Duration::from_millis(20),
        ..world.settings()
    };
    assert_eq!(
        status(&world.transport(settings), &peer).await,
        Err(TransportError::Timeout)
    );
}

#[tokio::test]
async fn a_closed_port_is_unreachable_and_an_unknown_name_unresolvable() {
    let world = world(H2_AND_H1, Answers::Empty).await;
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let transport = world.transport(world.settings());
    assert_eq!(
        status(&transport, &name(&format!("{HOST}:{closed}"))).await,
        Err(TransportError::Unreachable)
    );
    assert_eq!(
        status(&transport, &name("nowhere.example:1")).await,
        Err(TransportError::Unresolvable)
    );
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_does_not_connect() {
    let world = world(H2_AND_H1, Answers::Empty).await;
    world.dns.set_host(HOST, &["127.0.0.2", "127.0.0.1"]);
    let settings = HttpsSettings {
        allowed_networks: vec!["127.0.0.0/8".parse().unwrap()],
        ..world.settings()
    };
    assert_eq!(status(&world.transport(settings), &world.peer()).await, Ok(200));
}

#[tokio::test]
async fn loopback_is_refused_unless_its_network_is_allowed() {
    let world = world(H2_AND_H1, Answers::Empty).await;
    let transport = world.transport(HttpsSettings {
        allowed_networks: Vec::new(),
        ..world.settings()
    });
    for addresses in [
        &["127.0.0.1"][..],
        &["::ffff:127.0.0.1"],
        &["10.0.0.1", "127.0.0.1", "::1"],
    ] {
        world.dns.set_host(HOST, addresses);
        assert_eq!(
            status(&transport, &world.peer()).await,
            Err(TransportError::AddressRefused),
            "{addresses:?}"
        );
    }
    assert_eq!(world.server.connections(), 0);
}

#[tokio::test]
async fn a_name_that_is_rebound_to_a_refused_address_is_refused_at_its_next_connection() {
    let world = world(H2_AND_H1, Answers::Empty).await;
    let transport = world.transport(world.settings());
    assert_eq!(status(&transport, &world.peer()).await, Ok(200));
    world.dns.set_host(HOST, &["127.0.0.2"]);
    world.clock.advance(Duration::from_hours(1));
    assert_eq!(
        status(&transport, &world.peer()).await,
        Err(TransportError::AddressRefused)
    );
}

#[tokio::test]
async fn an_override_may_be_any_address_and_the_certificate_is_still_for_the_name() {
    let world = world(H1_ONLY, Answers::Empty).await;
    let overrides = [name(HOST), name("impostor.example")].map(|server| (server, world.server.address));
    let settings = HttpsSettings {
        allowed_networks: Vec::new(),
        overrides: BTreeMap::from(overrides),
        ..world.settings()
    };
    let transport = world.transport(settings);
    assert_eq!(status(&transport, &name(HOST)).await, Ok(200));
    assert_eq!(world.server.seen()[0].host, HOST);
    let refused = Err(TransportError::Tls(TlsFault::WrongName));
    assert_eq!(status(&transport, &name("impostor.example")).await, refused);
}

#[tokio::test]
async fn plain_http_is_spoken_to_listed_peers_only() {
    let mut world = world(H1_ONLY, Answers::Empty).await;
    world.server = Server::start(None, Answers::Empty).await;
    let mut settings = world.settings();
    assert!(matches!(
        status(&world.transport(settings.clone()), &world.peer()).await,
        Err(TransportError::Tls(_))
    ));
    assert_eq!(world.server.seen(), []);
    settings.insecure_http = vec![ServerPattern::parse(HOST).unwrap()];
    assert_eq!(status(&world.transport(settings), &world.peer()).await, Ok(200));
    assert_eq!(world.server.seen(), [world.seen(Version::HTTP_11, "/x")]);
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    for alpn in [H2_AND_H1, H1_ONLY] {
        let world = world(alpn, Answers::Empty).await;
        let transport = world.transport(world.settings());
        for _ in 0..5 {
            assert_eq!(status(&transport, &world.peer()).await, Ok(200));
        }
        assert_eq!(world.server.connections(), 1, "{alpn:?}");
    }
}

#[tokio::test]
async fn a_crowd_of_requests_shares_one_http2_connection() {
    let world = world(H2_AND_H1, Answers::Empty).await;
    let (transport, peer) = (world.transport(world.settings()), world.peer());
    let crowd = (0..50).map(|_| status(&transport, &peer));
    assert_eq!(futures_util::future::join_all(crowd).await, vec![Ok(200); 50]);
    assert_eq!(world.server.connections(), 1);
}

#[tokio::test]
async fn an_idle_connection_that_the_peer_has_cut_is_replaced() {
    for alpn in [H2_AND_H1, H1_ONLY] {
        let world = world(alpn, Answers::Empty).await;
        let transport = world.transport(world.settings());
        assert_eq!(status(&transport, &world.peer()).await, Ok(200));
        world.server.cut_connections();
        assert_eq!(status(&transport, &world.peer()).await, Ok(200));
        assert_eq!(world.server.connections(), 2, "{alpn:?}");
    }
}

#[tokio::test]
async fn a_request_that_may_have_come_is_sent_again_unless_it_must_not_come_twice() {
    for (alpn, at_most_once) in [(H2_AND_H1, false), (H1_ONLY, false), (H2_AND_H1, true), (H1_ONLY, true)] {
        let world = world(alpn, Answers::First).await;
        let (transport, peer) = (world.transport(world.settings()), world.peer());
        assert_eq!(status(&transport, &peer).await, Ok(200));
        let mut second = request("/x");
        if at_most_once {
            second.extensions_mut().insert(AtMostOnce);
        }
        let cut = async {
            world.server.has_seen_requests(2).await;
            world.server.cut_connections();
            world.server.has_seen_requests(3).await;
        };
        tokio::select! {
            outcome = transport.send(&peer, second, TIMEOUT) => {
                assert_eq!(outcome.map(drop), Err(TransportError::Unreachable), "{alpn:?}");
                assert!(at_most_once, "{alpn:?}");
            }
            () = cut => assert!(!at_most_once, "{alpn:?}"),
        }
    }
}

#[tokio::test]
async fn idle_connections_are_closed_when_their_time_has_come() {
    for alpn in [H2_AND_H1, H1_ONLY] {
        let world = world(alpn, Answers::Empty).await;
        let transport = world.transport(world.settings());
        assert_eq!(status(&transport, &world.peer()).await, Ok(200));
        // The sweeper begins to wait at a time that the test does not see, so more than one pause may be needed.
        let closed = world.server.has_closed_connections(1);
        tokio::pin!(closed);
        while futures_util::poll!(&mut closed).is_pending() {
            world.clock.advance(Duration::from_secs(30));
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn requests_beyond_those_in_progress_and_waiting_are_refused() {
    let world = world(H2_AND_H1, Answers::Never).await;
    let settings = HttpsSettings {
        max_in_flight: 1,
        max_waiting: 1,
        ..world.settings()
    };
    let (transport, peer) = (world.transport(settings), world.peer());
    let in_progress = status(&transport, &peer);
    let waiting = status(&transport, &peer);
    tokio::pin!(in_progress, waiting);
    tokio::select! {
        biased;
        outcome = &mut in_progress => panic!("ended: {outcome:?}"),
        outcome = &mut waiting => panic!("ended: {outcome:?}"),
        () = world.server.has_seen_requests(1) => {}
    }
    assert_eq!(status(&transport, &peer).await, Err(TransportError::Busy));
    assert_eq!(world.server.seen().len(), 1);
    // Others are not affected.
    assert_eq!(
        status(&transport, &name("nowhere.example:1")).await,
        Err(TransportError::Unresolvable)
    );
}

fn well_known(world: &World, allowed: &[&str]) -> WellKnownFetch {
    let guard = AddressGuard::new(allowed.iter().map(|network| network.parse().unwrap()).collect());
    let tls = world.settings().tls.client_config().unwrap();
    WellKnownFetch {
        connector: Arc::new(Connector::new(guard, tls, TIMEOUT, TIMEOUT)),
        dns: Arc::clone(&world.dns) as _,
    }
}

fn document(world: &World) -> WellKnownUrl {
    let location = format!("https://{HOST}:{}/.well-known/matrix/server", world.server.port());
    WellKnownUrl::of_host(HOST).unwrap().redirected(&location).unwrap()
}

#[tokio::test]
async fn the_well_known_document_is_fetched_with_redirects_left_to_discovery() {
    let world = world(H2_AND_H1, Answers::Redirect).await;
    let reply = well_known(&world, &["127.0.0.0/8"])
        .get(&document(&world))
        .await
        .unwrap();
    assert_eq!(reply.status, 302);
    assert_eq!(reply.headers["location"], "/elsewhere");
    assert_eq!(
        world.server.seen(),
        [world.seen(Version::HTTP_2, "/.well-known/matrix/server")]
    );
}

#[tokio::test]
async fn a_well_known_document_over_50_kilobytes_is_not_read() {
    for (length, is_read) in [(MAX_WELL_KNOWN_BYTES, true), (MAX_WELL_KNOWN_BYTES + 1, false)] {
        let world = world(H2_AND_H1, Answers::Chunked(length)).await;
        let reply = well_known(&world, &["127.0.0.0/8"]).get(&document(&world)).await;
        assert_eq!(reply.is_ok(), is_read, "{length}");
    }
}

#[tokio::test]
async fn the_well_known_document_is_not_fetched_from_refused_addresses_or_by_a_bad_certificate() {
    let refused = world(H2_AND_H1, Answers::Empty).await;
    assert!(well_known(&refused, &[]).get(&document(&refused)).await.is_err());
    assert_eq!(refused.server.connections(), 0);
    let misnamed = world_with("other.example", &[&TLS13], H2_AND_H1, Answers::Empty).await;
    assert!(
        well_known(&misnamed, &["127.0.0.0/8"])
            .get(&document(&misnamed))
            .await
            .is_err()
    );
    assert_eq!(misnamed.server.seen(), []);
}

#[tokio::test]
async fn a_host_name_that_no_certificate_can_carry_is_refused_before_anything_is_sent() {
    let world = world(H2_AND_H1, Answers::Empty).await;
    let guard = AddressGuard::new(vec!["127.0.0.0/8".parse().unwrap()]);
    let connector = Connector::new(guard, world.settings().tls.client_config().unwrap(), TIMEOUT, TIMEOUT);
    let target = Target {
        addresses: vec![world.server.address],
        host_header: HOST.to_owned(),
        tls_name: "x".repeat(300),
        overridden: false,
    };
    let outcome = connector.connect(&target, Security::Tls).await;
    assert_eq!(outcome.map(drop), Err(TransportError::InvalidRequest));
}

#[tokio::test]
async fn an_answer_can_be_read_as_it_comes_on_a_connection_of_its_own() {
    for alpn in [H2_AND_H1, H1_ONLY] {
        let world = world(alpn, Answers::Chunked(5_000)).await;
        let transport = world.transport(HttpsSettings {
            max_response_bytes: 1_000,
            ..world.settings()
        });
        let peer = world.peer();
        let answer = transport.open(&peer, request("/x"), TIMEOUT).await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        // It holds up nothing else, and nothing else is sent on its connection.
        let limit = transport.send(&peer, request("/y"), TIMEOUT).await.map(|_| ());
        assert_eq!(limit, Err(TransportError::TooLarge { limit: 1_000 }));
        assert_eq!(world.server.connections(), 2);
        let pieces: Vec<_> = answer.into_body().collect().await;
        assert!(pieces.len() > 1, "in pieces");
        assert_eq!(
            pieces.into_iter().map(|piece| piece.unwrap().len()).sum::<usize>(),
            5_000
        );
    }
}

#[tokio::test]
async fn an_answer_that_nobody_reads_on_ends_its_connection() {
    for alpn in [H2_AND_H1, H1_ONLY] {
        let world = world(alpn, Answers::Chunked(50_000_000)).await;
        let transport = world.transport(world.settings());
        let answer = transport.open(&world.peer(), request("/x"), TIMEOUT).await.unwrap();
        drop(answer);
        world.server.has_closed_connections(1).await;
    }
}

#[tokio::test]
async fn an_answer_that_does_not_begin_in_time_is_given_up() {
    let world = world(H2_AND_H1, Answers::Never).await;
    let transport = world.transport(world.settings());
    let opened = transport
        .open(&world.peer(), request("/x"), Duration::from_millis(300))
        .await;
    assert_eq!(opened.map(|_| ()).unwrap_err(), TransportError::Timeout);
}
