//! Requests as the transport gets them. With real connections: `nabe-http`, `mimi::tests::over_tls`.

use std::collections::VecDeque;
use std::sync::Mutex;

use async_trait::async_trait;
use nabe_service::ports::ManualClock;
use nabe_service::ports::mimi::MimiPeers as _;
use nabe_types::{ServerPattern, UnixMillis};
use nabe_wire::directory::{Endpoint, TemplateError};

use super::*;
use crate::testing::name;

const ROOM: &str = "mimi://a.example/r/club";
const DIRECTORY: &str = r#"{"update":"https://mimi.p.example/u/{roomId}","notify":"https://mimi.p.example/n/{roomId}",
    "identifierQuery":"https://mimi.p.example/i/{domain}","proxyDownload":"https://127.0.0.1/{downloadUrl}","groupInfo":"x"}"#;

/// A request as the transport got it.
#[derive(Debug)]
struct Sent {
    to: String,
    line: String,
    head: http::HeaderMap,
    body: Bytes,
    at_most_once: bool,
    limit: Option<usize>,
    speaks_for: Option<ServerName>,
}

/// Gives the answers it was given, in order, and keeps what it was asked.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<(VecDeque<Answer>, Vec<Sent>)>>);

type Answer = Result<Response<Bytes>, TransportError>;

#[async_trait]
impl Transport for Script {
    async fn send(
        &self,
        destination: &ServerName,
        request: Request<Bytes>,
        _: Duration,
    ) -> Result<Response<Bytes>, TransportError> {
        let mut script = self.0.lock().unwrap();
        script.1.push(Sent {
            to: destination.to_string(),
            line: format!("{} {}", request.method(), request.uri()),
            head: request.headers().clone(),
            body: request.body().clone(),
            at_most_once: request.extensions().get::<AtMostOnce>().is_some(),
            limit: request.extensions().get().map(|&ResponseLimit(limit)| limit),
            speaks_for: request.extensions().get().map(|SpeaksFor(name)| name.clone()),
        });
        script.0.pop_front().expect("no answer is left")
    }
}

struct World {
    script: Script,
    peers: MimiPeers<Script>,
    clock: ManualClock,
}

impl World {
    fn new<const N: usize>(answers: [Result<Response<Bytes>, TransportError>; N]) -> Self {
        let script = Script::default();
        script.0.lock().unwrap().0 = answers.into();
        let clock = ManualClock::new(UnixMillis(1_700_000_000_000));
        let settings = MimiSettings {
            policy: ServerPolicy {
                allow: Vec::new(),
                deny: vec![ServerPattern::parse("*.evil.example").unwrap()],
            },
            ..MimiSettings::default()
        };
        let domain = name("A.example");
        Self {
            peers: MimiPeers::new(script.clone(), &domain, Arc::new(clock.clone()), settings),
            script,
            clock,
        }
    }

    async fn call(&self, endpoint: Endpoint, target: &str) -> Result<u16, MimiPeerError> {
        let answer = self.peers.call(&name("p.example"), request(endpoint, target)).await;
        answer.map(|answer| answer.status)
    }

    fn sent(&self) -> Vec<Sent> {
        std::mem::take(&mut self.script.0.lock().unwrap().1)
    }

    /// Where the requests went.
    fn lines(&self) -> Vec<String> {
        let sent = self.sent();
        sent.iter().map(|sent| format!("{} {}", sent.to, sent.line)).collect()
    }
}

fn request(endpoint: Endpoint, target: &str) -> MimiRequest {
    MimiRequest {
        endpoint,
        target: target.to_owned(),
        body: Bytes::from_static(b"body"),
        timeout: Duration::from_secs(20),
        max_response_bytes: 77,
    }
}

fn answer(status: u16, body: &str) -> Result<Response<Bytes>, TransportError> {
    let answer = Response::builder().status(status).body(Bytes::from(body.to_owned()));
    Ok(answer.unwrap())
}

fn redirect(location: &str) -> Result<Response<Bytes>, TransportError> {
    let mut redirect = answer(302, "")?;
    redirect.headers_mut().insert("location", location.parse().unwrap());
    Ok(redirect)
}

const FETCH: &str = "p.example GET /.well-known/mimi-protocol-directory";

#[tokio::test]
async fn a_request_goes_where_the_directory_says_and_says_who_we_are() {
    let world = World::new([answer(200, DIRECTORY), answer(200, "ok"), answer(201, "")]);
    assert_eq!(world.call(Endpoint::Update, ROOM).await, Ok(200));
    let sent = world.sent();
    let [fetch, update] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(format!("{} {}", fetch.to, fetch.line), FETCH);
    assert_eq!(fetch.limit, Some(MAX_DIRECTORY_BYTES));
    // Wherever the directory leads, the provider's certificate is asked for.
    let provider = Some(name("p.example"));
    assert_eq!((&fetch.speaks_for, &update.speaks_for), (&provider, &provider));
    assert_eq!(update.to, "mimi.p.example");
    assert_eq!(update.line, "POST /u/mimi%3A%2F%2Fa.example%2Fr%2Fclub");
    assert_eq!(update.head["from"], "mimi@a.example");
    assert_eq!(update.head["content-type"], "application/octet-stream");
    assert_eq!((&update.body[..], update.limit), (&b"body"[..], Some(77)));
    assert!(update.at_most_once);
    // The directory is known now, and a notification may be repeated.
    assert_eq!(world.call(Endpoint::Notify, ROOM).await, Ok(201));
    let sent = world.sent();
    assert_eq!(sent.len(), 1);
    assert!(!sent[0].at_most_once);
}

#[tokio::test]
async fn what_a_peer_says_about_waiting_is_told() {
    let mut busy = answer(503, "").unwrap();
    busy.headers_mut().insert("retry-after", "2".parse().unwrap());
    let world = World::new([answer(200, DIRECTORY), Ok(busy)]);
    let provider = name("p.example");
    let answer = world.peers.call(&provider, request(Endpoint::Notify, ROOM));
    assert_eq!(answer.await.unwrap().retry_after, Some(Duration::from_secs(2)));
}

#[tokio::test]
async fn a_provider_that_has_moved_is_found_once_by_its_new_directory() {
    let moved = DIRECTORY.replace("mimi.p.example", "new.p.example");
    let world = World::new([
        answer(200, DIRECTORY),
        answer(200, ""),
        answer(404, ""),
        answer(200, &moved),
        answer(404, "still"),
    ]);
    assert_eq!(world.call(Endpoint::Notify, ROOM).await, Ok(200));
    world.clock.advance(Duration::from_mins(2));
    world.sent();
    assert_eq!(world.call(Endpoint::Notify, ROOM).await, Ok(404));
    let path = "POST /n/mimi%3A%2F%2Fa.example%2Fr%2Fclub";
    assert_eq!(
        world.lines(),
        [
            format!("mimi.p.example {path}"),
            FETCH.to_owned(),
            format!("new.p.example {path}")
        ]
    );
}

#[tokio::test]
async fn a_404_by_a_directory_that_is_still_the_same_is_the_answer() {
    let world = World::new([
        answer(200, DIRECTORY),
        answer(404, ""),
        answer(404, ""),
        answer(200, DIRECTORY),
    ]);
    // Straight after the directory was fetched it is not fetched again.
    assert_eq!(world.call(Endpoint::Notify, ROOM).await, Ok(404));
    assert_eq!(world.sent().len(), 2);
    world.clock.advance(Duration::from_mins(2));
    assert_eq!(world.call(Endpoint::Notify, ROOM).await, Ok(404));
    assert_eq!(world.sent().len(), 2);
}

#[tokio::test]
async fn a_directory_may_be_elsewhere() {
    let world = World::new([
        redirect("https://www.p.example/mimi"),
        redirect("/mimi/"),
        answer(200, DIRECTORY),
        answer(200, ""),
    ]);
    assert_eq!(world.call(Endpoint::IdentifierQuery, "p.example").await, Ok(200));
    assert_eq!(
        world.lines(),
        [
            FETCH,
            "www.p.example GET /mimi",
            "www.p.example GET /mimi/",
            "mimi.p.example POST /i/p.example"
        ]
    );
}

#[tokio::test]
async fn a_directory_that_leads_nowhere_is_none() {
    for answers in [
        [
            redirect("http://p.example/"),
            answer(200, DIRECTORY),
            answer(200, ""),
            answer(200, ""),
        ],
        [
            redirect("https://10.0.0.1/"),
            answer(200, DIRECTORY),
            answer(200, ""),
            answer(200, ""),
        ],
        [redirect("/1"), redirect("/2"), redirect("/3"), redirect("/4")],
    ] {
        let world = World::new(answers);
        let error = MimiPeerError::Directory(DirectoryError::Redirects);
        assert_eq!(world.call(Endpoint::Update, ROOM).await, Err(error));
    }
}

#[tokio::test]
async fn without_a_directory_nothing_is_sent() {
    for (answer, error) in [
        (answer(404, ""), DirectoryError::Status(404)),
        (answer(200, "<html>"), DirectoryError::NotJson),
        (
            Err(TransportError::AddressRefused),
            DirectoryError::NoAnswer(PeerError::AddressRefused),
        ),
    ] {
        let world = World::new([answer]);
        let error = MimiPeerError::Directory(error);
        assert_eq!(world.call(Endpoint::Update, ROOM).await, Err(error));
        assert!(error.is_transient());
        assert_eq!(world.lines(), [FETCH]);
    }
}

#[tokio::test]
async fn endpoints_that_the_directory_does_not_have_or_has_wrong_are_named() {
    let world = World::new([answer(200, DIRECTORY)]);
    assert_eq!(
        world.call(Endpoint::KeyMaterial, ROOM).await,
        Err(MimiPeerError::NoEndpoint(Endpoint::KeyMaterial))
    );
    assert_eq!(
        world.call(Endpoint::GroupInfo, ROOM).await,
        Err(MimiPeerError::BadTemplate {
            endpoint: Endpoint::GroupInfo,
            error: TemplateError::NotHttps
        })
    );
    assert_eq!(
        world.call(Endpoint::ProxyDownload, "https://x.example/").await,
        Err(MimiPeerError::BadUrl(Endpoint::ProxyDownload))
    );
    assert_eq!(world.lines(), [FETCH]);
}

#[tokio::test]
async fn excluded_providers_are_not_asked_anything() {
    let world = World::new([]);
    let excluded = name("x.evil.example");
    let answer = world.peers.call(&excluded, request(Endpoint::Update, ROOM));
    assert_eq!(answer.await, Err(MimiPeerError::Peer(PeerError::Refused)));
    assert!(world.lines().is_empty());
}

#[tokio::test]
async fn a_download_is_read_as_it_comes() {
    let directory = DIRECTORY.replace("https://127.0.0.1/", "https://mimi.p.example/d/");
    let mut file = answer(200, "file").unwrap();
    file.headers_mut().insert("content-type", "image/png".parse().unwrap());
    let world = World::new([answer(200, &directory), Ok(file)]);
    let wanted = MimiRequest {
        body: Bytes::new(),
        ..request(Endpoint::ProxyDownload, "https://x.example/y?z")
    };
    let stream = world.peers.open(&name("p.example"), wanted).await.unwrap();
    assert_eq!(
        (stream.status, stream.content_type.as_deref()),
        (200, Some("image/png"))
    );
    let pieces: Vec<Bytes> = stream.body.try_collect().await.unwrap();
    assert_eq!(pieces, ["file"]);
    let sent = world.sent();
    assert_eq!(sent[1].line, "GET /d/https%3A%2F%2Fx.example%2Fy%3Fz");
    assert!(!sent[1].head.contains_key("content-type"));
}

/// Never answers a request for a directory.
struct Silent;

#[async_trait]
impl Transport for Silent {
    async fn send(&self, _: &ServerName, _: Request<Bytes>, _: Duration) -> Result<Response<Bytes>, TransportError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_provider_that_never_answers_is_given_up() {
    let clock = Arc::new(ManualClock::new(UnixMillis(0)));
    let settings = MimiSettings {
        directory_timeout: Duration::from_millis(20),
        ..MimiSettings::default()
    };
    let peers = MimiPeers::new(Silent, &name("a.example"), clock, settings);
    let timeout = MimiPeerError::Directory(DirectoryError::NoAnswer(PeerError::Timeout));
    let provider = name("p.example");
    let call = || peers.call(&provider, request(Endpoint::Update, ROOM));
    assert_eq!(call().await.map(drop), Err(timeout));
    // Who waited meanwhile does not wait again.
    assert_eq!(call().await.map(drop), Err(timeout));
}

const WITH_GATEWAY: &str = r#"{"ohttpGateway":"https://mimi.p.example/.well-known/ohttp-gateway",
    "ohttpKeys":"https://mimi.p.example/.well-known/ohttp-gateway"}"#;
const KEYS: &str = "application/ohttp-keys";

fn typed(status: u16, media_type: &str, body: &str) -> Result<Response<Bytes>, TransportError> {
    let mut typed = answer(status, body)?;
    typed.headers_mut().insert("content-type", media_type.parse().unwrap());
    Ok(typed)
}

#[tokio::test]
async fn what_is_sealed_goes_where_the_directory_says_and_names_nobody_but_us() {
    let world = World::new([
        answer(200, WITH_GATEWAY),
        typed(200, KEYS, "keys"),
        typed(200, "message/ohttp-res", "opened by nobody here"),
    ]);
    let (provider, patience) = (name("p.example"), Duration::from_secs(20));
    let keys = world.peers.ohttp_keys(&provider, patience);
    assert_eq!(keys.await.unwrap(), "keys");
    // They are the same for everybody who asks soon.
    let keys = world.peers.ohttp_keys(&provider, patience);
    assert_eq!(keys.await.unwrap(), "keys");
    let sealed = Bytes::from_static(b"sealed");
    let stream = world.peers.ohttp(&provider, sealed.clone(), patience).await.unwrap();
    assert_eq!(stream.content_type.as_deref(), Some("message/ohttp-res"));
    let pieces: Vec<Bytes> = stream.body.try_collect().await.unwrap();
    assert_eq!(pieces, ["opened by nobody here"]);
    let sent = world.sent();
    let lines: Vec<_> = sent.iter().map(|sent| format!("{} {}", sent.to, sent.line)).collect();
    let at_gateway = ["GET", "POST"].map(|method| format!("mimi.p.example {method} /.well-known/ohttp-gateway"));
    assert_eq!(lines, [FETCH, &at_gateway[0], &at_gateway[1]]);
    let request = &sent[2];
    assert_eq!(request.body, sealed);
    let mut names: Vec<_> = request.head.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "content-type", "from"]);
    assert_eq!(request.head["from"], "mimi@a.example");
    assert_eq!(request.head["content-type"], "message/ohttp-req");
}

#[tokio::test]
async fn keys_are_fetched_again_after_a_gateway_has_refused_what_was_sealed_to_them() {
    let problem = || typed(400, "application/problem+json", "{}");
    let world = World::new([
        answer(200, WITH_GATEWAY),
        typed(200, KEYS, "old"),
        problem(),
        problem(),
        typed(200, KEYS, "new"),
    ]);
    let (provider, patience) = (name("p.example"), Duration::from_secs(20));
    let keys = async || world.peers.ohttp_keys(&provider, patience).await.unwrap();
    let refused = async || {
        world
            .peers
            .ohttp(&provider, Bytes::new(), patience)
            .await
            .unwrap()
            .status
    };
    assert_eq!(keys().await, "old");
    // Not at once: whoever is refused on purpose makes us ask no more often than that.
    assert_eq!(refused().await, 400);
    assert_eq!(keys().await, "old");
    world.clock.advance(Duration::from_mins(1));
    assert_eq!(refused().await, 400);
    assert_eq!(keys().await, "new");
}

#[tokio::test]
async fn what_is_no_list_of_keys_is_handed_to_nobody() {
    let world = World::new([answer(200, WITH_GATEWAY), typed(200, "text/html", "something else")]);
    let keys = world
        .peers
        .ohttp_keys(&name("p.example"), Duration::from_secs(20))
        .await;
    assert_eq!(keys, Err(MimiPeerError::NoKeys(200)));
}

#[tokio::test]
async fn a_provider_that_names_no_gateway_is_sent_nothing_sealed() {
    let world = World::new([answer(200, DIRECTORY)]);
    let (provider, patience) = (name("p.example"), Duration::from_secs(20));
    let keys = world.peers.ohttp_keys(&provider, patience).await;
    assert_eq!(keys, Err(MimiPeerError::NoGateway));
    let sealed = world.peers.ohttp(&provider, Bytes::new(), patience).await;
    assert_eq!(sealed.map(drop), Err(MimiPeerError::NoGateway));
    assert_eq!(world.lines(), [FETCH]);
    let excluded = name("x.evil.example");
    let sealed = world.peers.ohttp(&excluded, Bytes::new(), patience).await;
    assert_eq!(sealed.map(drop), Err(PeerError::Refused.into()));
}
