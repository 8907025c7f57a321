//! One server behind its router, `h.example`; its peer `p.example`, which the tests speak for; and `dead.example`, which never
//! answers. The clock stands still.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use nabe_event::{EventBuilder, RoomVersionRules};
use nabe_mls::testing::mimi::TestHub;
use nabe_service::mimi::{HubKey, MimiDeps, MimiSettings};
use nabe_service::ports::mimi::{MimiPeerError, MimiPeers, MimiRequest};
use nabe_service::ports::{
    ManualClock, Method, PeerError, PeerRequest, PeerResponse, PeerStream, Peers, SystemEntropy,
};
use nabe_service::{Deps, Service, Settings};
use nabe_signing::json::{Json, Object};
use nabe_signing::keys::own_key_response;
use nabe_signing::xmatrix::{self, sign_request};
use nabe_signing::{Signer, SigningKey, object, sha256};
use nabe_store::MemoryStore;
use nabe_types::{DeviceId, KeyId, RoomId, ServerName, UnixMillis, UserId};
use tower::ServiceExt as _;

use crate::{AppState, HttpLimits, app};

pub(crate) const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
pub(crate) const PROVIDER_TOKEN: &str = "provider-credential";
const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

pub(crate) fn server(name: &str) -> ServerName {
    ServerName::parse(&format!("{name}.example")).unwrap()
}

pub(crate) fn user(localpart: &str, name: &str) -> UserId {
    UserId::parse(&format!("@{localpart}:{name}.example")).unwrap()
}

pub(crate) fn signer(name: &str) -> Signer {
    signer_with_key(name, "1")
}

pub(crate) fn signer_with_key(name: &str, version: &str) -> Signer {
    let key = SigningKey::from_seed(
        KeyId::ed25519(version).unwrap(),
        sha256(format!("{name} {version}").as_bytes()),
    );
    Signer::new(server(name), vec![key]).unwrap()
}

/// What `p.example` publishes: the current key `1` and the old key `0`.
struct FakePeers {
    clock: ManualClock,
}

#[async_trait]
impl Peers for FakePeers {
    async fn call(&self, _: &ServerName, request: PeerRequest) -> Result<PeerResponse, PeerError> {
        match request.method {
            Method::Put => {
                let body = Bytes::from_static(b"{\"failed_pdus\":{}}");
                Ok(PeerResponse {
                    status: 200,
                    body,
                    retry_after: None,
                })
            }
            _ => Err(PeerError::Unreachable),
        }
    }

    async fn server_keys(&self, asked: &ServerName) -> Result<Bytes, PeerError> {
        if *asked != server("p") {
            return Err(PeerError::Unreachable);
        }
        let now = nabe_service::ports::Clock::now(&self.clock);
        let old = signer_with_key("p", "0").keys()[0].public();
        let old = BTreeMap::from([(KeyId::ed25519("0").unwrap(), (old, now.minus(HOUR)))]);
        Ok(own_key_response(&signer("p"), &old, now.plus(12 * HOUR))
            .to_canonical()
            .into())
    }

    async fn notary_keys(
        &self,
        _: &ServerName,
        _: &BTreeMap<ServerName, BTreeMap<KeyId, UnixMillis>>,
    ) -> Result<Bytes, PeerError> {
        Err(PeerError::Unreachable)
    }
}

/// MIMI providers that never answer.
struct Silence;

#[async_trait]
impl MimiPeers for Silence {
    async fn call(&self, _: &ServerName, _: MimiRequest) -> Result<PeerResponse, MimiPeerError> {
        Err(PeerError::Unreachable.into())
    }

    async fn open(&self, _: &ServerName, _: MimiRequest) -> Result<PeerStream, MimiPeerError> {
        Err(PeerError::Unreachable.into())
    }
}

/// The server under test.
pub(crate) struct World {
    pub(crate) state: AppState,
    pub(crate) clock: ManualClock,
    txn: AtomicU32,
}

/// An answer, read whole. Every one of them is JSON.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(adjust: impl FnOnce(&mut Settings)) -> Self {
        Self::with_mimi(adjust, None)
    }

    /// A MIMI provider whose peers never answer.
    pub(crate) fn provider() -> Self {
        Self::provider_with(TestHub::new("mimi://h.example").into())
    }

    /// The same with this key as the hub's.
    pub(crate) fn provider_with(hub: Arc<TestHub>) -> Self {
        Self::provider_that(hub, |_| {})
    }

    /// The same with other settings.
    pub(crate) fn provider_that(hub: Arc<TestHub>, adjust: impl FnOnce(&mut Settings)) -> Self {
        let mimi = MimiDeps {
            domain: server("h"),
            peers: Arc::new(Silence),
            hub: HubKey {
                sender: hub.sender().clone(),
                signer: hub,
            },
            franking: None,
            franking_agent: None,
            assets: None,
            settings: MimiSettings::default(),
        };
        Self::with_mimi(adjust, Some(mimi))
    }

    pub(crate) fn with_mimi(adjust: impl FnOnce(&mut Settings), mimi: Option<MimiDeps>) -> Self {
        let clock = ManualClock::new(NOW);
        let mut settings = Settings::new(server("h"));
        adjust(&mut settings);
        let service = Service::start(Deps {
            store: Arc::new(MemoryStore::new()),
            peers: Arc::new(FakePeers { clock: clock.clone() }),
            clock: Arc::new(clock.clone()),
            entropy: Arc::new(SystemEntropy),
            signer: Arc::new(signer("h")),
            old_keys: BTreeMap::new(),
            settings,
            mimi,
        });
        let state = AppState {
            service,
            well_known: None,
            provider_token_hash: Some(sha256(PROVIDER_TOKEN.as_bytes())),
            ohttp: None,
            limits: HttpLimits::default(),
            metrics: Arc::new(|| "nabe_up 1\n".to_owned()),
        };
        Self {
            state,
            clock,
            txn: AtomicU32::new(0),
        }
    }

    pub(crate) fn router(&self) -> Router {
        app(self.state.clone())
    }

    pub(crate) async fn raw(&self, request: Request<Body>) -> Response {
        self.router().oneshot(request).await.unwrap()
    }

    pub(crate) async fn ask(&self, request: Request<Body>) -> Answer {
        let response = self.raw(request).await;
        let (parts, body) = response.into_parts();
        assert_eq!(parts.headers[CONTENT_TYPE], "application/json");
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            bytes,
        }
    }

    /// A request nobody signed.
    pub(crate) async fn unsigned(&self, method: &str, target: &str, body: &str) -> Answer {
        self.ask(
            Request::builder()
                .method(method)
                .uri(target)
                .body(body.to_owned().into())
                .unwrap(),
        )
        .await
    }

    /// A bodyless request by `p.example`.
    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.ask(signed(&signer("p"), "GET", target, None)).await
    }

    /// A request by `p.example` with a body.
    pub(crate) async fn peer(&self, method: &str, target: &str, body: &Object) -> Answer {
        self.ask(signed(&signer("p"), method, target, Some(body))).await
    }

    /// Sends one event in a transaction of its own.
    pub(crate) async fn send_pdu(&self, event: Object) -> Answer {
        let target = format!("/_matrix/federation/v2/send/{}", self.new_txn());
        self.peer("PUT", &target, &object! { "pdus" => vec![event] }).await
    }

    pub(crate) fn new_txn(&self) -> String {
        format!("txn{}", self.txn.fetch_add(1, Ordering::Relaxed))
    }

    /// A request by the provider for a user of ours.
    pub(crate) async fn client(&self, user: &str, method: &str, target: &str, body: &str) -> Answer {
        self.client_with(user, method, target, body, &[]).await
    }

    pub(crate) async fn client_with(
        &self,
        user: &str,
        method: &str,
        target: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        self.ask(client_request(user, method, target, body, headers)).await
    }

    /// A room of `@alice:h.example` that anybody may join or, with `knock`, knock on.
    pub(crate) async fn room(&self, join_rule: &str) -> RoomId {
        let body = format!(r#"{{"join_rule":"{join_rule}","name":"Test"}}"#);
        let created = self.client("alice", "POST", "/_nabe/v1/rooms", &body).await;
        RoomId::parse(created.expect(200)["room_id"].as_str().unwrap()).unwrap()
    }

    /// Makes `@bob:p.example` a member of a public room, and returns the answer of `send_join`.
    pub(crate) async fn bob_joins(&self, room: &RoomId) -> serde_json::Value {
        let target = format!("/_matrix/federation/v3/send_join/{}", self.new_txn());
        let join = member_lpdu(room, &user("bob", "p"), "join");
        self.peer("POST", &target, &join).await.expect(200)
    }

    pub(crate) async fn token(&self, name: &str, device: Option<&str>) -> String {
        let device = device.map(|device| DeviceId::parse(device).unwrap());
        self.state
            .service
            .add_token(&user(name, "h"), device)
            .await
            .unwrap()
            .secret()
            .to_owned()
    }
}

pub(crate) fn client_request(
    user: &str,
    method: &str,
    target: &str,
    body: &str,
    headers: &[(&str, &str)],
) -> Request<Body> {
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header(AUTHORIZATION, format!("Bearer {PROVIDER_TOKEN}"))
        .header("Nabe-User", format!("@{user}:h.example"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.to_owned().into()).unwrap()
}

/// A request to `h.example` as a conformant peer signs it.
pub(crate) fn signed(signer: &Signer, method: &str, target: &str, body: Option<&Object>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(target);
    for header in authorization(signer, method, target, body, "h") {
        request = request.header(AUTHORIZATION, header);
    }
    request
        .body(body.map_or_else(Body::empty, |body| body.to_canonical().into()))
        .unwrap()
}

pub(crate) fn authorization(
    signer: &Signer,
    method: &str,
    target: &str,
    body: Option<&Object>,
    destination: &str,
) -> Vec<String> {
    let content = body.cloned().map(Json::Object);
    let destination = server(destination);
    sign_request(
        signer,
        &xmatrix::Request {
            method,
            uri: target,
            destination: &destination,
            content: content.as_ref(),
        },
    )
}

/// A membership event of a user of `p.example`, as it is sent to the hub.
pub(crate) fn member_lpdu(room: &RoomId, who: &UserId, membership: &str) -> Object {
    lpdu(
        room,
        who,
        "m.room.member",
        Some(who.as_str()),
        object! { "membership" => membership },
    )
}

pub(crate) fn lpdu(room: &RoomId, who: &UserId, event_type: &str, state_key: Option<&str>, content: Object) -> Object {
    let mut builder = EventBuilder::new(room.clone(), event_type, who.clone(), NOW, content);
    if let Some(state_key) = state_key {
        builder = builder.state_key(state_key);
    }
    let lpdu = builder
        .build_lpdu(&signer("p"), &server("h"), &RoomVersionRules::I1)
        .unwrap();
    Object::parse(lpdu.bytes()).unwrap()
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    /// The body of an answer with this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> serde_json::Value {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.bytes));
        self.json()
    }

    /// A refusal as peers hear it: exactly a code and a sentence.
    #[track_caller]
    pub(crate) fn expect_errcode(&self, status: u16, code: &str) {
        let body = self.expect(status);
        assert_eq!(body["errcode"], code, "{body}");
        assert!(body["error"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
    }

    /// A refusal as clients hear it; returns the sentence.
    #[track_caller]
    pub(crate) fn expect_code(&self, status: u16, code: &str) -> String {
        let body = self.expect(status);
        assert_eq!(body["error"]["code"], code, "{body}");
        body["error"]["message"].as_str().unwrap().to_owned()
    }
}

/// An identifier in a path.
pub(crate) fn escape(id: impl ToString) -> String {
    percent_encoding::utf8_percent_encode(&id.to_string(), percent_encoding::NON_ALPHANUMERIC).to_string()
}
