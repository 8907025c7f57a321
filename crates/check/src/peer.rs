//! A server of our own: it has a name, a certificate and a signing key, records everything that is asked of it, answers as
//! a well-behaved server would unless told otherwise, and sends the subject one transaction at a time.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use nabe_signing::json::{Json, Object};
use nabe_signing::keys::own_key_response;
use nabe_signing::{Signer, SigningKey, object, sha256};
use nabe_types::{KeyId, ServerName, UnixMillis, UserId};
use percent_encoding::percent_decode_str;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::author::{self, Stamp, now_millis};
use crate::case::{Checked, Stop};
use crate::hosted::{Hosted, Listed, events, membership};
use crate::http_client::Reply;
use crate::subject::{Subject, unique};

/// A running server of ours. Cheap to clone; it runs until the last run that knows it has ended.
#[derive(Clone)]
pub(crate) struct Peer {
    shared: Arc<Shared>,
}

struct Shared {
    name: ServerName,
    signer: Arc<Signer>,
    subject: Subject,
    /// What E2 answers.
    keys: Mutex<Object>,
    inbox: Mutex<Vec<Recorded>>,
    arrivals: watch::Sender<usize>,
    answers: Mutex<BTreeMap<Endpoint, Handler>>,
    rooms: Mutex<BTreeMap<String, Hosted>>,
    transactions: mpsc::UnboundedSender<Transaction>,
    accepting: tokio::task::AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What a peer does with a request instead of the usual.
type Handler = Arc<dyn Fn(&Recorded) -> Answer + Send + Sync>;

/// A body for E5 on its way, and who wants to know the answer.
struct Transaction {
    body: Json,
    done: Option<oneshot::Sender<Checked<Reply>>>,
}

/// The endpoints a peer knows, on their stable and unstable paths alike.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Endpoint {
    Keys,
    Send,
    Event,
    State,
    StateIds,
    Backfill,
    Invite,
    MakeJoin,
    SendJoin,
    MakeLeave,
    SendLeave,
    MakeKnock,
    SendKnock,
    Other,
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) endpoint: Endpoint,
    pub(crate) method: String,
    /// Path and query as sent.
    pub(crate) uri: String,
    /// `:authority` or `Host`.
    pub(crate) host: String,
    /// The name the caller asked TLS for.
    pub(crate) tls_name: Option<String>,
    pub(crate) authorization: Vec<String>,
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
    /// The body, if it is JSON as the draft demands it.
    pub(crate) json: Option<Json>,
}

/// What to answer.
pub(crate) enum Answer {
    /// This status and body.
    Json(u16, Json),
    /// This status, content type and text.
    Text(u16, &'static str, String),
    /// 200 and bytes.
    #[cfg(test)]
    Bytes(Vec<u8>),
    /// What the peer would do anyway.
    Usual,
    /// What the peer would do anyway, done at once but answered only when the gate opens.
    UsualAfter(Gate),
    /// This status and body, but only when the gate opens.
    JsonAfter(Gate, u16, Json),
}

/// Closed until it is opened, for good.
#[derive(Clone)]
pub(crate) struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub(crate) fn closed() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    async fn wait(&self) {
        // Nobody left who could open it is as good as open.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

impl Peer {
    /// Starts a server on `listener`. Must be called in a runtime.
    pub(crate) fn start(
        name: ServerName,
        listener: TcpListener,
        tls: ServerConfig,
        seed: &[u8; 32],
        subject: Subject,
    ) -> Self {
        let signer = Arc::new(signer_of(&name, seed, "check"));
        let (transactions, queue) = mpsc::unbounded_channel();
        let (hand_over, handed_over) = oneshot::channel();
        let accepting = tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(tls)), handed_over)).abort_handle();
        let valid_until = UnixMillis::new(now_millis().unsigned_abs()).plus(Duration::from_secs(12 * 60 * 60));
        let keys = own_key_response(&signer, &BTreeMap::new(), valid_until);
        tokio::spawn(send_in_turn(queue, Arc::clone(&signer), subject.apart()));
        let shared = Arc::new(Shared {
            name,
            signer,
            subject,
            keys: Mutex::new(keys),
            inbox: Mutex::default(),
            arrivals: watch::Sender::new(0),
            answers: Mutex::default(),
            rooms: Mutex::default(),
            transactions,
            accepting,
        });
        let _ = hand_over.send(Arc::downgrade(&shared));
        Self { shared }
    }

    pub(crate) fn name(&self) -> &ServerName {
        &self.shared.name
    }

    pub(crate) fn signer(&self) -> &Arc<Signer> {
        &self.shared.signer
    }

    /// A user of this server, `@<local>:<name>`.
    pub(crate) fn user(&self, local: &str) -> UserId {
        UserId::parse(&format!("@{local}:{}", self.name())).expect("checks name their users well")
    }

    /// Another key of this server, which nobody knows unless it is published.
    pub(crate) fn other_key(&self, version: &str) -> Signer {
        signer_of(self.name(), &sha256(version.as_bytes()), version)
    }

    /// Answers E2 with this from now on.
    pub(crate) fn publish(&self, keys: Object) {
        *lock(&self.shared.keys) = keys;
    }

    /// Answers requests for `endpoint` like this from now on.
    pub(crate) fn on(&self, endpoint: Endpoint, handler: impl Fn(&Recorded) -> Answer + Send + Sync + 'static) {
        lock(&self.shared.answers).insert(endpoint, Arc::new(handler));
    }

    /// Back to what a well-behaved server does, with no rooms and an empty inbox.
    pub(crate) fn reset(&self) {
        lock(&self.shared.answers).clear();
        lock(&self.shared.rooms).clear();
        lock(&self.shared.inbox).clear();
    }

    /// Everything received so far.
    pub(crate) fn inbox(&self) -> Vec<Recorded> {
        lock(&self.shared.inbox).clone()
    }

    /// Waits for something to be in the inbox, also if it already is.
    pub(crate) async fn received<T>(
        &self,
        deadline: Duration,
        what: &str,
        find: impl Fn(&[Recorded]) -> Option<T>,
    ) -> Checked<T> {
        let mut arrivals = self.shared.arrivals.subscribe();
        let search = async {
            loop {
                arrivals.borrow_and_update();
                if let Some(found) = find(&lock(&self.shared.inbox)) {
                    return found;
                }
                if arrivals.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        timeout(deadline, search).await.map_err(|_| Stop::Failed {
            expected: format!("{} receives {what} within {} s", self.name(), deadline.as_secs()),
            got: format!("nothing of the kind among {} requests", lock(&self.shared.inbox).len()),
        })
    }

    /// All PDUs received by E5, in the order they came, repetitions included.
    pub(crate) fn received_pdus(&self) -> Vec<Object> {
        pdus_in(&lock(&self.shared.inbox))
    }

    /// Waits for the event with this stamp.
    pub(crate) async fn received_event(&self, deadline: Duration, stamp: &Stamp) -> Checked<Object> {
        self.received(deadline, "the event", |inbox| {
            pdus_in(inbox)
                .into_iter()
                .find(|pdu| Stamp::of(pdu).as_ref() == Some(stamp))
        })
        .await
    }

    /// A request of this server to the subject.
    pub(crate) async fn call(&self, method: &str, uri: &str, body: Option<&Object>) -> Checked<Reply> {
        let body = body.map(|body| Json::Object(body.clone()));
        self.shared
            .subject
            .signed(&self.shared.signer, method, uri, body.as_ref())
            .await
    }

    /// A transaction to the subject, when those before it are answered.
    pub(crate) async fn transact(&self, body: impl Into<Json>) -> Checked<Reply> {
        let (done, answered) = oneshot::channel();
        let transaction = Transaction {
            body: body.into(),
            done: Some(done),
        };
        let gone = || Stop::Skipped("the peer stopped".to_owned());
        self.shared.transactions.send(transaction).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Becomes the hub of this room.
    pub(crate) fn host(&self, room: Hosted) {
        lock(&self.shared.rooms).insert(room.id.clone(), room);
    }

    /// Looks at a room of its own, or changes it.
    pub(crate) fn with_room<T>(&self, id: &str, change: impl FnOnce(&mut Hosted) -> T) -> T {
        let mut rooms = lock(&self.shared.rooms);
        let signer = Arc::clone(&self.shared.signer);
        let room = rooms
            .entry(id.to_owned())
            .or_insert_with(|| Hosted::new(id.to_owned(), signer));
        change(room)
    }

    /// Sends the newest event of a room to the subject if it is owed, without waiting.
    fn fan_out(&self, room: &Hosted) {
        if !room.is_owed_newest(self.shared.subject.name().as_str()) {
            return;
        }
        if let Some(Listed { event, .. }) = room.log().last() {
            self.push(event.clone());
        }
    }

    /// Sends an event to the subject in its turn, without waiting.
    pub(crate) fn push(&self, pdu: Object) {
        let transaction = Transaction {
            body: object! { "pdus" => vec![Json::from(pdu)] }.into(),
            done: None,
        };
        // A closed queue means that the run is over.
        let _ = self.shared.transactions.send(transaction);
    }

    async fn answer(self, request: http::Request<Incoming>, tls_name: Option<String>) -> Response<Full<Bytes>> {
        let Some(recorded) = record(request, tls_name).await else {
            return response(400, "application/json", br#"{"errcode":"M_UNKNOWN"}"#.to_vec());
        };
        let handler = lock(&self.shared.answers).get(&recorded.endpoint).cloned();
        // Handler and usual behavior first: whoever sees the request in the inbox may rely on what it led to.
        let answer = handler.map_or(Answer::Usual, |handler| handler(&recorded));
        let (gate, usual) = match answer {
            Answer::Usual => (None, self.usual(&recorded)),
            Answer::UsualAfter(gate) => (Some(gate), self.usual(&recorded)),
            Answer::Json(status, body) => (None, json(status, &body)),
            #[cfg(test)]
            Answer::Bytes(bytes) => (None, response(200, "application/octet-stream", bytes)),
            Answer::JsonAfter(gate, status, body) => (Some(gate), json(status, &body)),
            Answer::Text(status, content_type, text) => (None, response(status, content_type, text.into_bytes())),
        };
        lock(&self.shared.inbox).push(recorded);
        self.shared.arrivals.send_modify(|count| *count += 1);
        if let Some(gate) = gate {
            gate.wait().await;
        }
        usual
    }

    /// What a well-behaved server answers.
    fn usual(&self, request: &Recorded) -> Response<Full<Bytes>> {
        let body = request.json.as_ref().and_then(Json::as_object);
        let answer = match request.endpoint {
            Endpoint::Keys => Some(lock(&self.shared.keys).clone()),
            Endpoint::Send => Some(self.take_transaction(body)),
            Endpoint::Invite => self.take_invite(body),
            Endpoint::MakeJoin => self.template(request, "join"),
            Endpoint::MakeKnock => self.template(request, "knock"),
            Endpoint::MakeLeave => self
                .template(request, "leave")
                .map(|template| object! { "event" => template, "room_version" => "I.1" }),
            Endpoint::SendJoin => self.take_join(body),
            Endpoint::SendLeave => self.take_membership(body).map(|_| Object::new()),
            Endpoint::SendKnock => self.take_membership(body).and_then(|id| {
                let stripped = lock(&self.shared.rooms).get(&id)?.stripped();
                Some(object! { "stripped_state" => stripped })
            }),
            Endpoint::Backfill => self.backfill(request),
            Endpoint::Event => self.event(request),
            Endpoint::State => self.state(request, false),
            Endpoint::StateIds => self.state(request, true),
            Endpoint::Other => return json(404, &error("M_UNRECOGNIZED")),
        };
        match answer {
            Some(answer) => json(200, &answer.into()),
            None => json(404, &error("M_NOT_FOUND")),
        }
    }

    /// LPDUs for rooms of its own become events; everything else is only recorded.
    fn take_transaction(&self, body: Option<&Object>) -> Object {
        let pdus = body
            .and_then(|body| body.get("pdus"))
            .and_then(Json::as_array)
            .unwrap_or_default();
        for lpdu in pdus
            .iter()
            .filter_map(Json::as_object)
            .filter(|pdu| !pdu.contains_key("auth_events"))
        {
            self.append_lpdu(lpdu);
        }
        object! { "failed_pdus" => Object::new() }
    }

    /// At the hub of a room: an event. At the invited user's server: signed and returned.
    fn take_invite(&self, body: Option<&Object>) -> Option<Object> {
        let event = body?.get("event")?.as_object()?;
        let pdu = match event.contains_key("auth_events") {
            false => self.append_lpdu(event)?.1,
            true => {
                let mut signed = event.clone();
                author::sign_event(&mut signed, &self.shared.signer);
                signed
            }
        };
        Some(object! { "pdu" => pdu })
    }

    /// LM #int-api-make-join: the bare template.
    fn template(&self, request: &Recorded, membership: &str) -> Option<Object> {
        let (room, user) = (request.segment_from_end(1)?, request.segment_from_end(0)?);
        let rooms = lock(&self.shared.rooms);
        let room = rooms.get(&room)?;
        Some(object! {
            "type" => "m.room.member",
            "room_id" => room.id.as_str(),
            "sender" => user.as_str(),
            "state_key" => user.as_str(),
            "content" => object! { "membership" => membership },
        })
    }

    fn take_join(&self, body: Option<&Object>) -> Option<Object> {
        let (id, pdu) = self.append_lpdu(body?)?;
        let rooms = lock(&self.shared.rooms);
        let room = rooms.get(&id)?;
        let at = room.find(nabe_event::event_id_of(&pdu).as_str())?;
        Some(room.welcome(at, &pdu))
    }

    fn take_membership(&self, body: Option<&Object>) -> Option<String> {
        let body = body?;
        membership(body)?;
        self.append_lpdu(body).map(|(id, _)| id)
    }

    /// Completes an LPDU, appends it and fans it out. Returns the room's ID and the PDU.
    fn append_lpdu(&self, lpdu: &Object) -> Option<(String, Object)> {
        let id = lpdu.get("room_id")?.as_str()?.to_owned();
        let mut rooms = lock(&self.shared.rooms);
        let room = rooms.get_mut(&id)?;
        let stamp = Stamp::of(lpdu)?;
        let known = room
            .log()
            .iter()
            .find(|listed| Stamp::of(&listed.event).as_ref() == Some(&stamp));
        if let Some(known) = known {
            return Some((id, known.event.clone()));
        }
        let pdu = room.complete_and_append(lpdu.clone());
        self.fan_out(room);
        Some((id, pdu))
    }

    fn backfill(&self, request: &Recorded) -> Option<Object> {
        let room = request.segment_from_end(0)?;
        let limit = request.query("limit")?.parse().ok()?;
        let pdus = lock(&self.shared.rooms)
            .get(&room)?
            .backfill(&request.query("v")?, limit)?;
        Some(object! { "pdus" => pdus })
    }

    fn event(&self, request: &Recorded) -> Option<Object> {
        let id = request.segment_from_end(0)?;
        let rooms = lock(&self.shared.rooms);
        let found = rooms.values().find_map(|room| Some(&room.log()[room.find(&id)?]));
        found.map(|listed| listed.event.clone())
    }

    fn state(&self, request: &Recorded, only_ids: bool) -> Option<Object> {
        let room = request.segment_from_end(0)?;
        let rooms = lock(&self.shared.rooms);
        let room = rooms.get(&room)?;
        let state = room.state_before(room.find(&request.query("event_id")?)?);
        let chain = room.auth_chain(&state);
        let ids = |listed: &[&Listed]| {
            listed
                .iter()
                .map(|listed| Json::from(listed.id.as_str()))
                .collect::<Json>()
        };
        Some(if only_ids {
            object! { "pdu_ids" => ids(&state), "auth_chain_ids" => ids(&chain) }
        } else {
            object! { "pdus" => events(&state), "auth_chain" => events(&chain) }
        })
    }
}

impl Recorded {
    /// A path segment counted from the last, which is 0, decoded.
    fn segment_from_end(&self, from_end: usize) -> Option<String> {
        let path = self.uri.split('?').next()?;
        let segment = path.rsplit('/').nth(from_end)?;
        percent_decode_str(segment).decode_utf8().ok().map(Into::into)
    }

    /// A query parameter, decoded; the first of that name.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.uri.split_once('?')?;
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.into_iter().find(|(key, _)| *key == name)?;
        percent_decode_str(value).decode_utf8().ok().map(Into::into)
    }

    /// One member of the body.
    pub(crate) fn member(&self, key: &str) -> Option<&Json> {
        self.json.as_ref()?.as_object()?.get(key)
    }
}

/// The PDUs of all recorded transactions.
fn pdus_in(inbox: &[Recorded]) -> Vec<Object> {
    let sent = inbox.iter().filter(|request| request.endpoint == Endpoint::Send);
    sent.filter_map(|request| request.member("pdus")?.as_array())
        .flatten()
        .filter_map(|pdu| pdu.as_object().cloned())
        .collect()
}

/// The key a server of ours has, derived so that every run knows the same.
fn signer_of(name: &ServerName, seed: &[u8; 32], version: &str) -> Signer {
    let mut material = seed.to_vec();
    material.extend_from_slice(name.as_str().as_bytes());
    let key_id = KeyId::ed25519(version).expect("checks name their keys well");
    let key = SigningKey::from_seed(key_id, sha256(&material));
    Signer::new(name.clone(), vec![key]).expect("there is one key")
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, peer: oneshot::Receiver<std::sync::Weak<Shared>>) {
    let Ok(peer) = peer.await else { return };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        tokio::spawn(serve(stream, tls.clone(), peer.clone()));
    }
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, peer: std::sync::Weak<Shared>) {
    let Ok(Ok(stream)) = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await else {
        return;
    };
    let tls_name = stream.get_ref().1.server_name().map(str::to_owned);
    let service = service_fn(move |request| {
        let (peer, tls_name) = (peer.upgrade(), tls_name.clone());
        async move {
            let Some(shared) = peer else {
                return Ok(json(503, &error("M_UNKNOWN")));
            };
            Ok::<_, Infallible>(Peer { shared }.answer(request, tls_name).await)
        }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    // A caller that breaks the connection off is no concern of ours.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn record(request: http::Request<Incoming>, tls_name: Option<String>) -> Option<Recorded> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, MAX_REQUEST_BYTES).collect().await.ok()?.to_bytes();
    let text = |name: &str| {
        let value = parts.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let authorization = parts.headers.get_all("authorization").iter();
    let uri = parts.uri.path_and_query().map_or("/", |uri| uri.as_str()).to_owned();
    Some(Recorded {
        endpoint: endpoint_of(parts.method.as_str(), &uri),
        method: parts.method.to_string(),
        host: parts.uri.authority().map_or_else(|| text("host"), ToString::to_string),
        tls_name,
        authorization: authorization
            .filter_map(|value| value.to_str().ok())
            .map(str::to_owned)
            .collect(),
        content_type: text("content-type"),
        json: Json::parse(&body).ok(),
        body,
        uri,
    })
}

fn endpoint_of(method: &str, uri: &str) -> Endpoint {
    let path = uri.split('?').next().unwrap_or_default();
    if method == "GET" && path == "/_matrix/key/v2/server" {
        return Endpoint::Keys;
    }
    let Some(rest) = path.strip_prefix("/_matrix/federation/") else {
        return Endpoint::Other;
    };
    let rest = match rest.strip_prefix(UNSTABLE) {
        Some(rest) => rest,
        None => rest.split_once('/').map_or("", |(_, rest)| rest),
    };
    let (name, parameters) = rest.split_once('/').unwrap_or((rest, ""));
    let count = parameters.split('/').filter(|segment| !segment.is_empty()).count();
    match (method, name, count) {
        ("PUT", "send", 1) => Endpoint::Send,
        ("GET", "event", 1) => Endpoint::Event,
        ("GET", "state", 1) => Endpoint::State,
        ("GET", "state_ids", 1) => Endpoint::StateIds,
        ("GET", "backfill", 1) => Endpoint::Backfill,
        ("POST", "invite", 1) => Endpoint::Invite,
        ("GET", "make_join", 2) => Endpoint::MakeJoin,
        ("POST", "send_join", 1) => Endpoint::SendJoin,
        ("GET", "make_leave", 2) => Endpoint::MakeLeave,
        ("POST", "send_leave", 1) => Endpoint::SendLeave,
        ("GET", "make_knock", 2) => Endpoint::MakeKnock,
        ("POST", "send_knock", 1) => Endpoint::SendKnock,
        _ => Endpoint::Other,
    }
}

/// LM #int-api-send-txn: no transaction before the last one's answer. Nothing is repeated: a case wants to see failures.
async fn send_in_turn(mut queue: mpsc::UnboundedReceiver<Transaction>, signer: Arc<Signer>, subject: Subject) {
    while let Some(Transaction { body, done }) = queue.recv().await {
        let uri = send_uri(&unique());
        let reply = subject.signed(&signer, "PUT", &uri, Some(&body)).await;
        if let Some(done) = done {
            // Whoever asked may have run out of time.
            let _ = done.send(reply);
        }
    }
}

/// Path of E5 for a transaction.
pub(crate) fn send_uri(txn_id: &str) -> String {
    format!("/_matrix/federation/v2/send/{txn_id}")
}

/// An error body.
pub(crate) fn error(code: &str) -> Json {
    object! { "errcode" => code, "error" => "as the check wants it" }.into()
}

fn json(status: u16, body: &Json) -> Response<Full<Bytes>> {
    response(status, "application/json", body.to_canonical())
}

fn response(status: u16, content_type: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let content_type = http::HeaderValue::from_static(content_type);
    response.headers_mut().insert("content-type", content_type);
    response
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The draft's prefix for tests, behind `/_matrix/federation/`.
pub(crate) const UNSTABLE: &str = "unstable/org.matrix.i-d.ralston-mimi-linearized-matrix.02/";
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_REQUEST_BYTES: usize = 32 * 1024 * 1024;
