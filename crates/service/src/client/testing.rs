//! Several servers in one process, joined by a wire that tests can cut, listen on and talk into. The clock stands still until
//! a test advances it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use nabe_signing::json::{Json, Object};
use nabe_signing::{Signer, SigningKey, object, sha256};
use nabe_store::{Between, MemoryStore, Order, Store};
use nabe_types::{DeviceId, EventId, KeyId, RoomId, RoomVersionId, ServerName, TransactionId, UnixMillis, UserId};

use crate::client::{NewEvent, NewRoom};
use crate::ports::{Clock, Entropy, ManualClock, Method, PeerError, PeerRequest, PeerResponse, Peers};
use crate::{Deps, MembershipKind, Service, ServiceError, Settings};

/// A name for each of the tests' servers.
pub(crate) fn server(name: &str) -> ServerName {
    ServerName::parse(&format!("{name}.example")).unwrap()
}

/// `@alice:a.example` from `alice` and `a`.
pub(crate) fn user(localpart: &str, name: &str) -> UserId {
    UserId::parse(&format!("@{localpart}:{name}.example")).unwrap()
}

/// The signing keys of a test server.
pub(crate) fn signer(name: &str) -> Signer {
    let key = SigningKey::from_seed(KeyId::ed25519("1").unwrap(), sha256(name.as_bytes()));
    Signer::new(server(name), vec![key]).unwrap()
}

/// A message.
pub(crate) fn message(body: &str) -> NewEvent {
    NewEvent {
        event_type: "m.room.message".to_owned(),
        state_key: None,
        content: object! { "body" => body },
    }
}

/// A room anybody may join.
pub(crate) fn public_room() -> NewRoom {
    NewRoom {
        join_rule: Some("public".to_owned()),
        ..NewRoom::default()
    }
}

/// What answers a request instead of the server it is for.
type Answer = Result<PeerResponse, PeerError>;
type Rewriter = Box<dyn Fn(&PeerRequest, Bytes) -> Bytes + Send>;
type Delay = Arc<dyn Fn(&PeerRequest) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;
type Interceptor = Box<dyn Fn(&ServerName, &ServerName, &PeerRequest) -> Option<Answer> + Send>;

/// A request that was made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Made {
    pub(crate) from: ServerName,
    pub(crate) to: ServerName,
    pub(crate) request: PeerRequest,
}

/// The servers and the wire between them.
pub(crate) struct World {
    pub(crate) clock: ManualClock,
    entropy: Arc<Counting>,
    wire: Arc<Wire>,
    stores: BTreeMap<ServerName, MemoryStore>,
}

#[derive(Default)]
struct Wire {
    servers: Mutex<BTreeMap<ServerName, Service>>,
    /// How often each server was started.
    lives: Mutex<BTreeMap<ServerName, u64>>,
    down: Mutex<BTreeSet<ServerName>>,
    /// Requests to these are never answered.
    silent: Mutex<BTreeSet<ServerName>>,
    /// Answers of these to requests with such a path are lost after the work is done.
    losing_answers: Mutex<BTreeMap<ServerName, String>>,
    made: Mutex<Vec<Made>>,
    interceptor: Mutex<Option<Interceptor>>,
    rewriter: Mutex<Option<Rewriter>>,
    delay: Mutex<Option<Delay>>,
}

/// One server's end of the wire.
struct End {
    from: ServerName,
    /// Which of the server's lives this is: what a crashed server sends goes nowhere.
    life: u64,
    wire: Arc<Wire>,
}

/// Bytes that differ from call to call and are the same in every run.
#[derive(Default)]
struct Counting(AtomicU64);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            let hash = sha256(&self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes());
            chunk.copy_from_slice(&hash[..chunk.len()]);
        }
    }
}

impl World {
    /// Running servers with these names.
    pub(crate) fn new(names: &[&str]) -> Self {
        let mut world = Self {
            clock: ManualClock::new(UnixMillis(1_700_000_000_000)),
            entropy: Arc::default(),
            wire: Arc::default(),
            stores: BTreeMap::new(),
        };
        for name in names {
            world.start(name);
        }
        world
    }

    /// Starts a server on what its store holds; it replaces the one that ran.
    pub(crate) fn start(&mut self, name: &str) -> Service {
        self.start_with(name, |_| {})
    }

    /// The same with other settings than the defaults.
    pub(crate) fn start_with(&mut self, name: &str, change: impl FnOnce(&mut Settings)) -> Service {
        let server = server(name);
        let store = self.stores.entry(server.clone()).or_default().clone();
        let mut settings = Settings::new(server.clone());
        change(&mut settings);
        let life = {
            let mut lives = self.wire.lives.lock().unwrap();
            let life = lives.entry(server.clone()).or_default();
            *life += 1;
            *life
        };
        let service = Service::start(Deps {
            store: Arc::new(store),
            peers: Arc::new(End {
                from: server.clone(),
                life,
                wire: Arc::clone(&self.wire),
            }),
            clock: Arc::new(self.clock.clone()),
            entropy: self.entropy.clone(),
            signer: Arc::new(signer(name)),
            old_keys: BTreeMap::new(),
            settings,
            mimi: None,
        });
        self.wire.servers.lock().unwrap().insert(server, service.clone());
        service
    }

    /// A crash: what runs on is cut off from the store, and a new server starts on what was committed.
    pub(crate) fn crash(&mut self, name: &str) -> Service {
        let server = server(name);
        let snapshot = self.stores[&server].snapshot();
        self.stores.insert(server, snapshot);
        self.start(name)
    }

    /// What the clock shows.
    pub(crate) fn clock_now(&self) -> UnixMillis {
        Clock::now(&self.clock)
    }

    /// The server of this name.
    pub(crate) fn service(&self, name: &str) -> Service {
        self.wire.servers.lock().unwrap()[&server(name)].clone()
    }

    /// The store of the server of this name.
    pub(crate) fn store(&self, name: &str) -> &MemoryStore {
        &self.stores[&server(name)]
    }

    /// Cuts a server off, or connects it again.
    pub(crate) fn set_down(&self, name: &str, is_down: bool) {
        let mut down = self.wire.down.lock().unwrap();
        if is_down {
            down.insert(server(name))
        } else {
            down.remove(&server(name))
        };
    }

    /// Has a server take requests and never answer them.
    pub(crate) fn silence(&self, name: &str) {
        self.wire.silent.lock().unwrap().insert(server(name));
    }

    /// Loses the answers of a server to requests whose path contains `part`; the work is done all the same. `None` ends it.
    pub(crate) fn lose_answers(&self, name: &str, part: Option<&str>) {
        let mut losing = self.wire.losing_answers.lock().unwrap();
        match part {
            Some(part) => losing.insert(server(name), part.to_owned()),
            None => losing.remove(&server(name)),
        };
    }

    /// Has `answer` asked before each request is handed on.
    pub(crate) fn intercept(
        &self,
        answer: impl Fn(&ServerName, &ServerName, &PeerRequest) -> Option<Answer> + Send + 'static,
    ) {
        *self.wire.interceptor.lock().unwrap() = Some(Box::new(answer));
    }

    /// Has what `delay` returns awaited before each request is handed on.
    pub(crate) fn delay(
        &self,
        delay: impl Fn(&PeerRequest) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync + 'static,
    ) {
        *self.wire.delay.lock().unwrap() = Some(Arc::new(delay));
    }

    /// Has `rewrite` change the bodies of successful answers.
    pub(crate) fn rewrite(&self, rewrite: impl Fn(&PeerRequest, Bytes) -> Bytes + Send + 'static) {
        *self.wire.rewriter.lock().unwrap() = Some(Box::new(rewrite));
    }

    /// The requests made so far whose path contains `part`.
    pub(crate) fn made(&self, part: &str) -> Vec<Made> {
        let made = self.wire.made.lock().unwrap();
        made.iter()
            .filter(|made| made.request.stable.contains(part))
            .cloned()
            .collect()
    }

    /// The IDs in a server's log of a room.
    pub(crate) async fn log(&self, name: &str, room: &RoomId) -> Vec<EventId> {
        let entries = self
            .store(name)
            .entries(room, Between::ALL, usize::MAX, Order::Ascending)
            .await
            .unwrap();
        entries.iter().map(|entry| entry.event_id().clone()).collect()
    }

    /// Waits until the logs of a room are the same on these servers, as far as they reach.
    pub(crate) async fn settle(&self, room: &RoomId, names: &[&str]) {
        let hub = names[0];
        eventually("the logs agree", || async {
            let all = self.log(hub, room).await;
            for name in &names[1..] {
                if self.log(name, room).await.last() != all.last() {
                    return false;
                }
            }
            true
        })
        .await;
    }
}

/// Waits until `condition` holds. No time passes on the tests' clock meanwhile.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let patience = tokio::time::timeout(Duration::from_secs(20), async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    });
    assert!(patience.await.is_ok(), "waited in vain: {what}");
}

/// Lets everything that can run without waiting for time run.
pub(crate) async fn let_run() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// An answer with this status and body.
pub(crate) fn answer(status: u16, body: Object) -> Answer {
    Ok(PeerResponse {
        status,
        body: body.to_canonical().into(),
        retry_after: None,
    })
}

#[async_trait]
impl Peers for End {
    async fn call(&self, destination: &ServerName, request: PeerRequest) -> Answer {
        if self.wire.lives.lock().unwrap().get(&self.from) != Some(&self.life) {
            return std::future::pending().await;
        }
        let made = Made {
            from: self.from.clone(),
            to: destination.clone(),
            request: request.clone(),
        };
        self.wire.made.lock().unwrap().push(made);
        if let Some(intercept) = &*self.wire.interceptor.lock().unwrap()
            && let Some(answer) = intercept(&self.from, destination, &request)
        {
            return answer;
        }
        let is_down = |server: &ServerName| self.wire.down.lock().unwrap().contains(server);
        if is_down(destination) || is_down(&self.from) {
            return Err(PeerError::Unreachable);
        }
        let delay = self.wire.delay.lock().unwrap().clone();
        if let Some(delay) = delay {
            delay(&request).await;
        }
        if self.wire.silent.lock().unwrap().contains(destination) {
            return std::future::pending().await;
        }
        let service = self
            .wire
            .servers
            .lock()
            .unwrap()
            .get(destination)
            .cloned()
            .ok_or(PeerError::Unresolvable)?;
        service.heard_from(&self.from);
        let response = match serve(&service, &self.from, &request).await {
            Ok(body) => {
                let body = match &*self.wire.rewriter.lock().unwrap() {
                    Some(rewrite) => rewrite(&request, body),
                    None => body,
                };
                PeerResponse {
                    status: 200,
                    body,
                    retry_after: None,
                }
            }
            Err(error) => refusal(&error),
        };
        let lost = self.wire.losing_answers.lock().unwrap().get(destination).cloned();
        if lost.is_some_and(|part| request.stable.contains(&part)) {
            return Err(PeerError::Timeout);
        }
        Ok(response)
    }

    async fn server_keys(&self, server: &ServerName) -> Result<Bytes, PeerError> {
        if self.wire.down.lock().unwrap().contains(server) {
            return Err(PeerError::Unreachable);
        }
        let service = self
            .wire
            .servers
            .lock()
            .unwrap()
            .get(server)
            .cloned()
            .ok_or(PeerError::Unresolvable)?;
        Ok(service.own_keys())
    }

    async fn notary_keys(
        &self,
        _notary: &ServerName,
        _wanted: &BTreeMap<ServerName, BTreeMap<KeyId, UnixMillis>>,
    ) -> Result<Bytes, PeerError> {
        Err(PeerError::Unreachable)
    }
}

fn refusal(error: &ServiceError) -> PeerResponse {
    if let ServiceError::Proxied { status, body } = error {
        return PeerResponse {
            status: *status,
            body: body.clone(),
            retry_after: None,
        };
    }
    let mut body = object! { "errcode" => error.code().as_str(), "error" => error.to_string() };
    if let ServiceError::WrongServer { hub: Some(hub) } = error {
        body.insert("hub_server", hub.as_str());
    }
    PeerResponse {
        status: error.code().http_status(),
        body: body.to_canonical().into(),
        retry_after: None,
    }
}

/// What the HTTP crate does, less everything that is about HTTP.
async fn serve(service: &Service, origin: &ServerName, request: &PeerRequest) -> Result<Bytes, ServiceError> {
    let (path, query) = request.stable.split_once('?').unwrap_or((&request.stable, ""));
    let segments: Vec<String> = path.split('/').skip(4).map(decode).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let query: Vec<(String, String)> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (k.to_owned(), decode(v)))
        .collect();
    let value = |name: &str| {
        query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    let bytes = request.body.clone().unwrap_or_default();
    let body = || Json::parse(&bytes).unwrap();
    let object = || body().into_object().unwrap();
    let txn = |text: &str| TransactionId::parse(text).unwrap();
    let hash = sha256(&bytes);
    match (request.method, segments.as_slice()) {
        (Method::Put, ["send", id]) => Ok(service.send_txn(origin.clone(), txn(id), body(), hash).await?.body),
        (Method::Get, ["backfill", room]) => {
            let v = EventId::parse(value("v").unwrap())?;
            let limit = value("limit").unwrap().parse().unwrap();
            service.backfill(origin, &RoomId::parse(room)?, &v, limit).await
        }
        (Method::Get, ["state", room]) => {
            let at = EventId::parse(value("event_id").unwrap())?;
            service.state(origin, &RoomId::parse(room)?, &at).await
        }
        (Method::Get, ["event", event]) => service.event(origin, &EventId::parse(event)?).await,
        (Method::Get, [make @ ("make_join" | "make_leave" | "make_knock"), room, user]) => {
            let versions: Vec<RoomVersionId> = query
                .iter()
                .filter(|(key, _)| key == "ver")
                .map(|(_, version)| RoomVersionId::parse(version).unwrap())
                .collect();
            let (room, user) = (RoomId::parse(room)?, UserId::parse(user)?);
            let template = service
                .make_membership(origin, kind_of(make), &room, &user, &versions)
                .await?;
            Ok(template.to_canonical().into())
        }
        (Method::Post, [send @ ("send_join" | "send_leave" | "send_knock"), id]) => {
            let reply = service
                .send_membership(origin.clone(), kind_of(send), txn(id), object(), hash)
                .await?;
            Ok(reply.body)
        }
        (Method::Get, ["user", "devices", user]) => service.device_infos(origin, &UserId::parse(user)?).await,
        (Method::Get, ["user", user, "device", device]) => {
            let device = DeviceId::parse(device)?;
            service.device_info(origin, &UserId::parse(user)?, &device).await
        }
        (Method::Post, ["user", "keys", "claim"]) => {
            Ok(service.claim_keys(origin, &object()).await?.to_canonical().into())
        }
        (Method::Post, ["invite", id]) => Ok(service.invite(origin.clone(), txn(id), object(), hash).await?.body),
        (method, path) => panic!("nobody serves {method} {path:?}"),
    }
}

fn kind_of(endpoint: &str) -> MembershipKind {
    match endpoint.rsplit('_').next() {
        Some("join") => MembershipKind::Join,
        Some("leave") => MembershipKind::Leave,
        _ => MembershipKind::Knock,
    }
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .unwrap()
        .into_owned()
}
