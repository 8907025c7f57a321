//! Tests of signed requests over a transport that answers from memory.

use nabe_service::ports::ManualClock;
use nabe_signing::xmatrix::{Bodyless, RequestError, verify_request};
use nabe_signing::{KeySet, ServerKeys, SigningKey, keys};

use super::*;
use crate::testing::name;
use crate::transport::TransportError;

type Handler = dyn Fn(&Request<Bytes>) -> Response<Bytes> + Send + Sync;

/// Answers by a function and remembers what it was asked.
#[derive(Clone)]
struct FakeTransport {
    handler: Arc<Handler>,
    sent: Arc<Mutex<Vec<Request<Bytes>>>>,
}

impl FakeTransport {
    fn new(handler: impl Fn(&Request<Bytes>) -> Response<Bytes> + Send + Sync + 'static) -> Self {
        Self {
            handler: Arc::new(handler),
            sent: Arc::default(),
        }
    }

    fn sent(&self) -> Vec<Request<Bytes>> {
        std::mem::take(&mut self.sent.lock().unwrap())
    }

    fn sent_paths(&self) -> Vec<String> {
        self.sent().iter().map(|request| request.uri().to_string()).collect()
    }
}

#[async_trait]
impl Transport for FakeTransport {
    async fn send(
        &self,
        _: &ServerName,
        request: Request<Bytes>,
        _: Duration,
    ) -> Result<Response<Bytes>, TransportError> {
        let response = (self.handler)(&request);
        self.sent.lock().unwrap().push(request);
        Ok(response)
    }
}

/// Never answers.
struct SilentTransport;

#[async_trait]
impl Transport for SilentTransport {
    async fn send(&self, _: &ServerName, _: Request<Bytes>, _: Duration) -> Result<Response<Bytes>, TransportError> {
        std::future::pending().await
    }
}

fn respond(status: u16, body: &str) -> Response<Bytes> {
    Response::builder()
        .status(status)
        .body(Bytes::copy_from_slice(body.as_bytes()))
        .unwrap()
}

fn signer() -> Arc<Signer> {
    let key = |version: &str, byte| SigningKey::from_seed(KeyId::ed25519(version).unwrap(), [byte; 32]);
    Arc::new(Signer::new(name("us.example"), vec![key("a", 1), key("b", 2)]).unwrap())
}

fn clock() -> ManualClock {
    ManualClock::new(UnixMillis(1_700_000_000_000))
}

fn peers_with(transport: &FakeTransport, settings: PeerSettings) -> SignedPeers<FakeTransport> {
    SignedPeers::new(transport.clone(), signer(), Arc::new(clock()), settings)
}

fn peers(transport: &FakeTransport) -> SignedPeers<FakeTransport> {
    peers_with(transport, PeerSettings::default())
}

const TIMEOUT: Duration = Duration::from_secs(5);

fn get(path: &str) -> PeerRequest {
    PeerRequest::get(path.to_owned(), TIMEOUT)
}

fn peer() -> ServerName {
    name("peer.example")
}

/// Checks the request as its receiver would, and returns its `Authorization` headers.
fn verify(request: &Request<Bytes>, bodyless: Bodyless) -> Result<Vec<XMatrix>, RequestError> {
    let headers: Vec<_> = request
        .headers()
        .get_all(AUTHORIZATION)
        .iter()
        .map(|value| XMatrix::parse(value.to_str().unwrap()).unwrap())
        .collect();
    let content = (!request.body().is_empty()).then(|| Json::parse(request.body()).unwrap());
    let (uri, destination) = (request.uri().to_string(), peer());
    let signed = xmatrix::Request {
        method: request.method().as_str(),
        uri: &uri,
        destination: &destination,
        content: content.as_ref(),
    };
    let now = clock().now();
    let response = keys::own_key_response(&signer(), &BTreeMap::new(), now.plus(Duration::from_hours(1)));
    let mut known = KeySet::default();
    known.insert_server_keys(&ServerKeys::parse(response, signer().server()).unwrap(), now);
    verify_request(&signed, &headers, &known, now, bodyless)?;
    Ok(headers)
}

#[tokio::test]
async fn a_request_carries_a_valid_signature_by_each_of_our_keys() {
    let transport = FakeTransport::new(|_| respond(200, "{}"));
    let body = Bytes::from_static(br#"{"b": 1,  "a": "x"}"#);
    let request = PeerRequest {
        method: Method::Put,
        body: Some(body.clone()),
        ..get("/_matrix/x/%2Fa?q=1&q=%20")
    };
    let response = peers(&transport).call(&peer(), request).await.unwrap();
    assert_eq!(
        response,
        PeerResponse {
            status: 200,
            body: Bytes::from_static(b"{}"),
            retry_after: None
        }
    );

    let [sent] = transport.sent().try_into().unwrap();
    assert_eq!(sent.uri(), "/_matrix/x/%2Fa?q=1&q=%20");
    assert_eq!(sent.method(), "PUT");
    assert_eq!(sent.body(), &body);
    assert_eq!(sent.headers()[CONTENT_TYPE], "application/json");
    let keys: Vec<_> = verify(&sent, Bodyless::EmptyObject)
        .unwrap()
        .into_iter()
        .map(|header| header.key.to_string())
        .collect();
    assert_eq!(keys, ["ed25519:a", "ed25519:b"]);
}

#[tokio::test]
async fn a_get_is_signed_with_empty_content_and_sent_without_body() {
    let transport = FakeTransport::new(|_| respond(200, "{}"));
    peers(&transport).call(&peer(), get("/x")).await.unwrap();
    let [sent] = transport.sent().try_into().unwrap();
    assert!(sent.body().is_empty());
    assert!(!sent.headers().contains_key(CONTENT_TYPE));
    assert!(verify(&sent, Bodyless::EmptyObject).is_ok());
}

#[tokio::test]
async fn a_get_to_a_peer_that_follows_matrix_is_signed_without_content() {
    let transport = FakeTransport::new(|_| respond(200, "{}"));
    let settings = PeerSettings {
        omit_content: vec![ServerPattern::parse("peer.example").unwrap()],
        ..PeerSettings::default()
    };
    let peers = peers_with(&transport, settings);
    peers.call(&peer(), get("/x")).await.unwrap();
    let [sent] = transport.sent().try_into().unwrap();
    assert_eq!(
        verify(&sent, Bodyless::EmptyObject).unwrap_err(),
        RequestError::BadSignature
    );
    assert!(verify(&sent, Bodyless::EmptyObjectOrNone).is_ok());

    let with_body = PeerRequest {
        method: Method::Post,
        body: Some(Bytes::from_static(b"{\"a\":1}")),
        ..get("/x")
    };
    peers.call(&peer(), with_body).await.unwrap();
    let [sent] = transport.sent().try_into().unwrap();
    assert!(verify(&sent, Bodyless::EmptyObject).is_ok());
}

#[tokio::test]
async fn put_and_post_without_body_send_an_empty_object() {
    let transport = FakeTransport::new(|_| respond(200, "{}"));
    for method in [Method::Put, Method::Post] {
        peers(&transport)
            .call(&peer(), PeerRequest { method, ..get("/x") })
            .await
            .unwrap();
        let [sent] = transport.sent().try_into().unwrap();
        assert_eq!(sent.body(), "{}");
        assert!(verify(&sent, Bodyless::EmptyObject).is_ok());
    }
}

#[tokio::test]
async fn nothing_is_sent_to_a_denied_server() {
    let transport = FakeTransport::new(|_| respond(200, "{}"));
    let policy = ServerPolicy {
        deny: vec![ServerPattern::parse("*.bad.example").unwrap()],
        ..ServerPolicy::default()
    };
    let peers = peers_with(
        &transport,
        PeerSettings {
            policy,
            ..PeerSettings::default()
        },
    );
    let denied = name("x.bad.example");
    assert_eq!(peers.call(&denied, get("/x")).await, Err(PeerError::Refused));
    assert_eq!(peers.server_keys(&denied).await, Err(PeerError::Refused));
    assert_eq!(
        peers.notary_keys(&denied, &BTreeMap::new()).await,
        Err(PeerError::Refused)
    );
    assert!(transport.sent().is_empty());
    assert!(peers.call(&peer(), get("/x")).await.is_ok());
}

/// Serves `/unstable` only; says so about other paths with `status` and `body`.
fn unstable_only(status: u16, body: &'static str) -> FakeTransport {
    FakeTransport::new(move |request| match request.uri().path() {
        "/unstable" => respond(200, r#"{"served":true}"#),
        _ => respond(status, body),
    })
}

#[tokio::test]
async fn an_unknown_stable_path_is_tried_under_its_unstable_alias_and_that_is_remembered() {
    for (status, body) in [
        (404, r#"{"errcode":"M_UNRECOGNIZED"}"#),
        (405, r#"{"errcode":"M_UNRECOGNIZED"}"#),
        (400, r#"{"errcode":"M_UNRECOGNIZED"}"#),
        (404, "<!DOCTYPE html><pre>Cannot GET /stable</pre>"),
        (404, ""),
    ] {
        let transport = unstable_only(status, body);
        let peers = peers(&transport);
        let request = || get("/stable").or_unstable("/unstable".to_owned());
        assert_eq!(
            peers.call(&peer(), request()).await.unwrap().status,
            200,
            "{status} {body}"
        );
        let sent = transport.sent();
        assert_eq!(
            sent.iter().map(|request| request.uri().path()).collect::<Vec<_>>(),
            ["/stable", "/unstable"]
        );
        for request in &sent {
            assert!(verify(request, Bodyless::EmptyObject).is_ok());
        }
        peers.call(&peer(), request()).await.unwrap();
        assert_eq!(transport.sent_paths(), ["/unstable"]);
        peers.call(&name("other.example"), request()).await.unwrap();
        assert_eq!(transport.sent_paths(), ["/stable", "/unstable"]);
    }
}

#[tokio::test]
async fn other_errors_are_answers_and_not_tried_elsewhere() {
    for (status, body) in [
        (404, r#"{"errcode":"M_NOT_FOUND"}"#),
        (403, r#"{"errcode":"M_FORBIDDEN"}"#),
        (500, "<html></html>"),
        (502, ""),
        (429, r#"{"errcode":"M_LIMIT_EXCEEDED"}"#),
    ] {
        let transport = unstable_only(status, body);
        let response = peers(&transport)
            .call(&peer(), get("/stable").or_unstable("/unstable".to_owned()))
            .await
            .unwrap();
        assert_eq!(response.status, status);
        assert_eq!(transport.sent_paths(), ["/stable"]);
    }
}

#[tokio::test]
async fn when_neither_path_is_known_the_first_answer_counts_and_nothing_is_remembered() {
    let transport = FakeTransport::new(|request| respond(404, request.uri().path()));
    let peers = peers(&transport);
    for _ in 0..2 {
        let response = peers
            .call(&peer(), get("/stable").or_unstable("/unstable".to_owned()))
            .await
            .unwrap();
        assert_eq!(response.body, "/stable");
        assert_eq!(transport.sent_paths(), ["/stable", "/unstable"]);
    }
}

#[tokio::test]
async fn a_peer_is_asked_by_the_stable_path_again_after_a_day_or_when_the_unstable_one_is_gone() {
    let transport = FakeTransport::new(|request| match request.uri().path() {
        "/unstable" | "/new" => respond(200, "{}"),
        _ => respond(404, r#"{"errcode":"M_UNRECOGNIZED"}"#),
    });
    let clock = clock();
    let peers = SignedPeers::new(
        transport.clone(),
        signer(),
        Arc::new(clock.clone()),
        PeerSettings::default(),
    );
    let old = || get("/stable").or_unstable("/unstable".to_owned());
    let new = || get("/new").or_unstable("/gone".to_owned());
    peers.call(&peer(), old()).await.unwrap();
    transport.sent();

    peers.call(&peer(), new()).await.unwrap();
    assert_eq!(transport.sent_paths(), ["/gone", "/new"]);
    peers.call(&peer(), new()).await.unwrap();
    assert_eq!(transport.sent_paths(), ["/new"]);

    peers.call(&peer(), old()).await.unwrap();
    transport.sent();
    clock.advance(Duration::from_hours(24));
    peers.call(&peer(), old()).await.unwrap();
    assert_eq!(transport.sent_paths(), ["/stable", "/unstable"]);
}

#[tokio::test]
async fn the_wait_a_peer_asks_for_is_the_longer_of_header_and_body_and_at_most_an_hour() {
    let limited = r#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":2500}"#;
    let millis = |millis| Some(Duration::from_millis(millis));
    for (status, header, body, expected) in [
        (429, None, limited, millis(2_500)),
        (429, Some("7"), limited, millis(7_000)),
        (429, Some("1"), limited, millis(2_500)),
        (503, Some("30"), "", millis(30_000)),
        (429, Some("Mon, 01 Jan 2024 00:00:00 GMT"), "{}", None),
        (429, Some("-1"), "{}", None),
        (429, None, r#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":-5}"#, None),
        (
            429,
            None,
            r#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":"5"}"#,
            None,
        ),
        (429, None, r#"{"errcode":"M_UNKNOWN","retry_after_ms":5}"#, None),
        (
            429,
            None,
            r#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":9007199254740991}"#,
            millis(3_600_000),
        ),
        (429, Some("99999999999999999999"), "", millis(3_600_000)),
        (200, None, limited, None),
    ] {
        let transport = FakeTransport::new(move |_| {
            let mut response = respond(status, body);
            if let Some(header) = header {
                response
                    .headers_mut()
                    .insert(RETRY_AFTER, HeaderValue::from_static(header));
            }
            response
        });
        let response = peers(&transport).call(&peer(), get("/x")).await.unwrap();
        assert_eq!(response.retry_after, expected, "{status} {header:?} {body}");
    }
}

#[tokio::test]
async fn a_servers_keys_are_asked_for_without_signature_and_only_a_200_counts() {
    let transport = FakeTransport::new(|_| respond(200, "keys"));
    assert_eq!(peers(&transport).server_keys(&peer()).await.unwrap(), "keys");
    let [sent] = transport.sent().try_into().unwrap();
    assert_eq!(
        (sent.method().as_str(), sent.uri().path()),
        ("GET", "/_matrix/key/v2/server")
    );
    assert!(!sent.headers().contains_key(AUTHORIZATION));
    assert_eq!(sent.extensions().get(), Some(&ResponseLimit(1024 * 1024)));

    let transport = FakeTransport::new(|_| respond(404, "{}"));
    assert_eq!(
        peers(&transport).server_keys(&peer()).await,
        Err(PeerError::Status { status: 404 })
    );
}

#[tokio::test]
async fn a_notary_is_asked_for_all_wanted_keys_at_once() {
    let transport = FakeTransport::new(|_| respond(200, "keys"));
    let wanted = BTreeMap::from([
        (
            name("a.example"),
            BTreeMap::from([(KeyId::ed25519("1").unwrap(), UnixMillis(5))]),
        ),
        (name("b.example"), BTreeMap::new()),
    ]);
    assert_eq!(peers(&transport).notary_keys(&peer(), &wanted).await.unwrap(), "keys");
    let [sent] = transport.sent().try_into().unwrap();
    assert_eq!(
        (sent.method().as_str(), sent.uri().path()),
        ("POST", "/_matrix/key/v2/query")
    );
    let expected = r#"{"server_keys":{"a.example":{"ed25519:1":{"minimum_valid_until_ts":5}},"b.example":{}}}"#;
    assert_eq!(sent.body(), expected);
}

#[tokio::test]
async fn malformed_requests_are_not_sent() {
    let transport = FakeTransport::new(|_| respond(200, "{}"));
    let peers = peers(&transport);
    for path in ["", "x", "/a b", "/a#fragment", "https://other.example/x", "?q"] {
        assert_eq!(
            peers.call(&peer(), get(path)).await,
            Err(PeerError::InvalidRequest),
            "{path:?}"
        );
    }
    let bad_body = PeerRequest {
        method: Method::Post,
        body: Some(Bytes::from_static(b"{")),
        ..get("/x")
    };
    assert_eq!(peers.call(&peer(), bad_body).await, Err(PeerError::InvalidRequest));
    assert!(transport.sent().is_empty());
}

#[tokio::test]
async fn the_timeout_ends_a_call_whatever_the_transport_does() {
    let peers = SignedPeers::new(SilentTransport, signer(), Arc::new(clock()), PeerSettings::default());
    let request = PeerRequest {
        timeout: Duration::from_millis(1),
        ..get("/x")
    };
    assert_eq!(peers.call(&peer(), request).await, Err(PeerError::Timeout));
}

#[tokio::test]
async fn an_answer_that_is_read_as_it_comes_is_asked_for_with_signatures() {
    let transport = FakeTransport::new(|_| {
        let mut response = respond(404, "not here");
        let value = HeaderValue::from_static("multipart/mixed; boundary=b");
        response.headers_mut().insert(CONTENT_TYPE, value);
        response
    });
    let peers = peers(&transport);
    let answer = peers.open(&name("them.example"), get("/_matrix/x")).await.unwrap();
    assert_eq!(answer.status, 404);
    assert_eq!(answer.content_type.as_deref(), Some("multipart/mixed; boundary=b"));
    let pieces: Vec<_> = answer.body.try_collect().await.unwrap();
    assert_eq!(pieces, ["not here"]);
    let sent = transport.sent();
    assert_eq!(sent[0].uri(), "/_matrix/x");
    assert_eq!(sent[0].headers().get_all(AUTHORIZATION).iter().count(), 2);
    let excluded = PeerSettings {
        policy: ServerPolicy {
            deny: vec!["them.example".parse().unwrap()],
            ..ServerPolicy::default()
        },
        ..PeerSettings::default()
    };
    let refused = peers_with(&transport, excluded)
        .open(&name("them.example"), get("/x"))
        .await;
    assert_eq!(refused.map(|_| ()).unwrap_err(), PeerError::Refused);
    assert!(transport.sent().is_empty());
}
