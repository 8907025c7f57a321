//! Bodies of the fuzz targets: they take any bytes and panic when an invariant breaks. Servers here share one thread and a clock
//! that stands still, and call each other directly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use nabe_core::Entry;
use nabe_event::{EventBuilder, RoomVersionRules};
use nabe_signing::json::{Json, Object};
use nabe_signing::{Signer, SigningKey, object, sha256};
use nabe_store::{Between, MemoryStore, Order, Store};
use nabe_types::{EventId, KeyId, RoomId, RoomVersionId, ServerName, TransactionId, UnixMillis, UserId};
use percent_encoding::percent_decode_str;

use crate::client::NewRoom;
use crate::ports::{ManualClock, Method, PeerError, PeerRequest, PeerResponse, Peers, SystemEntropy};
use crate::{Deps, MembershipKind, Service, ServiceError, Settings};

/// Any text as a stream's token, and any bytes as what a token is made of: what is read is written and read again.
pub fn stream_token(data: &[u8]) {
    crate::client::stream::fuzz_token(data);
}

/// Any bytes as another server's answer with a file, the first one being how it is cut into pieces.
pub fn multipart(data: &[u8]) {
    crate::media::fuzz_multipart(data);
}

/// Any JSON object as bodies of requests to a hub, under the endpoints' names: `send`, `invite`, `send_join`, `send_leave`,
/// `send_knock`. An object in it with an `author` becomes an event by that user of the calling server, signed and hashed, of the `type`,
/// `state_key` and `content` given beside it.
///
/// Holds for whatever comes in: every request is answered, and the room's log is one chain of events.
pub fn federation_body(data: &[u8]) {
    let Ok(Json::Object(bodies)) = Json::parse(data) else {
        return;
    };
    run(async {
        let town = Town::new().await;
        for endpoint in ["send_join", "send", "invite", "send_knock", "send_leave"] {
            let Some(body) = bodies.get(endpoint) else { continue };
            let body = town.authored(body, 0).to_canonical();
            let request = PeerRequest {
                method: Method::Post,
                stable: format!("/_matrix/federation/v3/{endpoint}/txn"),
                unstable: None,
                body: Some(body.into()),
                timeout: Duration::from_secs(1),
            };
            // Refused or not, it is answered.
            let _ = serve(&town.hub, &town.participant.server_name().clone(), &request).await;
        }
        let log = town.log(&town.hub_store).await;
        for pair in log.windows(2) {
            let [before, event] = pair else { continue };
            let prev = event.pdu().map(|pdu| pdu.prev_events().to_vec());
            assert_eq!(prev, Some(vec![before.event_id().clone()]), "a hub's log is one chain");
        }
    });
}

/// Any JSON object as what a hub answers to a participant, under the endpoints' names: `make_join`, `send_join`, `backfill`, `state`,
/// `event`. Members of an object there take the place of those in the true answer; anything else takes the place of the answer.
///
/// The participant joins, misses events, and is sent the newest. Holds whatever the answers: it comes to an end, and every event in
/// the participant's log is one of the hub's, whose signatures nobody else can make.
pub fn peer_answer(data: &[u8]) {
    let Ok(Json::Object(lies)) = Json::parse(data) else {
        return;
    };
    run(async {
        let town = Town::new().await;
        town.wire
            .lies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&lies);
        let (bob, hub) = (user("bob", "p"), town.hub.server_name().clone());
        let _ = town
            .participant
            .join(&bob, &town.room, std::slice::from_ref(&hub))
            .await;
        for n in 0..3_i64 {
            let said = crate::client::NewEvent {
                event_type: "m.room.message".to_owned(),
                state_key: None,
                content: object! { "n" => n },
            };
            let sent = town.hub.send_event(&user("alice", "h"), &town.room, said, None).await;
            assert!(sent.is_ok(), "the hub's own user may speak: {sent:?}");
        }
        let all = town.log(&town.hub_store).await;
        let newest = all
            .last()
            .and_then(Entry::pdu)
            .expect("somebody just spoke")
            .object()
            .clone();
        let body = Json::from(object! { "pdus" => vec![Json::from(newest)] });
        let hash = sha256(&body.to_canonical());
        let _ = town.participant.send_txn(hub, txn_id("pushed"), body, hash).await;
        let known: BTreeSet<&EventId> = all.iter().map(Entry::event_id).collect();
        for entry in town.log(&town.participant_store).await {
            let is_true = entry.pdu().is_none() || known.contains(entry.event_id());
            assert!(is_true, "{} is no event of the hub", entry.event_id());
        }
    });
}

/// A hub `h` with a public room and a participant `p` that is not in it yet.
struct Town {
    wire: Arc<Wire>,
    hub: Service,
    hub_store: MemoryStore,
    participant: Service,
    participant_store: MemoryStore,
    room: RoomId,
}

impl Town {
    async fn new() -> Self {
        let wire = Arc::new(Wire::default());
        let start = |name: &str| {
            let store = MemoryStore::default();
            let service = Service::start(Deps {
                store: Arc::new(store.clone()),
                peers: Arc::new(End(Arc::clone(&wire))),
                clock: Arc::new(ManualClock::new(NOW)),
                entropy: Arc::new(SystemEntropy),
                signer: Arc::new(signer(name)),
                old_keys: BTreeMap::new(),
                settings: Settings::new(server(name)),
                mimi: None,
            });
            let mut servers = wire.servers.lock().unwrap_or_else(PoisonError::into_inner);
            servers.insert(server(name), service.clone());
            (service, store)
        };
        let ((hub, hub_store), (participant, participant_store)) = (start("h"), start("p"));
        let public = NewRoom {
            join_rule: Some("public".to_owned()),
            ..NewRoom::default()
        };
        let created = hub.create_room(&user("alice", "h"), public, None).await;
        let room = created.expect("a public room can be created").room_id;
        Self {
            wire,
            hub,
            hub_store,
            participant,
            participant_store,
            room,
        }
    }

    async fn log(&self, store: &MemoryStore) -> Vec<Entry> {
        let log = store
            .entries(&self.room, Between::ALL, usize::MAX, Order::Ascending)
            .await;
        log.expect("a store in memory does not fail")
    }

    /// The same JSON with its authored events in place. The fuzzer cannot sign.
    fn authored(&self, json: &Json, depth: usize) -> Json {
        match json {
            Json::Array(items) if depth < MAX_DEPTH => items
                .iter()
                .map(|item| self.authored(item, depth + 1))
                .collect::<Vec<_>>()
                .into(),
            Json::Object(object) if depth < MAX_DEPTH => match self.event_by_author(object) {
                Some(event) => event.into(),
                None => {
                    let members = object
                        .iter()
                        .map(|(key, value)| (key.to_owned(), self.authored(value, depth + 1)));
                    members.collect::<Object>().into()
                }
            },
            other => other.clone(),
        }
    }

    fn event_by_author(&self, object: &Object) -> Option<Object> {
        let author = UserId::parse(&format!("@{}:p.example", object.get("author")?.as_str()?)).ok()?;
        let content = object.get("content")?.as_object()?.clone();
        let event_type = object.get("type")?.as_str()?;
        let mut builder = EventBuilder::new(self.room.clone(), event_type, author, NOW, content);
        if let Some(state_key) = object.get("state_key").and_then(Json::as_str) {
            builder = builder.state_key(state_key);
        }
        let lpdu = builder
            .build_lpdu(&signer("p"), &server("h"), &RoomVersionRules::I1)
            .ok()?;
        Some(lpdu.event().object().clone())
    }
}

/// What connects the servers.
#[derive(Default)]
struct Wire {
    servers: Mutex<BTreeMap<ServerName, Service>>,
    /// What takes the place of answers, by endpoint.
    lies: Mutex<Object>,
}

/// One server's way out; it is the participant's if it is used for anything but `/send`.
struct End(Arc<Wire>);

impl Wire {
    fn find(&self, name: &ServerName) -> Result<Service, PeerError> {
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.get(name).cloned().ok_or(PeerError::Unresolvable)
    }

    fn told(&self, endpoint: &str, answer: Bytes) -> Bytes {
        let lies = self.lies.lock().unwrap_or_else(PoisonError::into_inner);
        match (lies.get(endpoint), Object::parse(&answer)) {
            (None, _) => answer,
            (Some(Json::Object(lie)), Ok(mut truth)) => {
                for (member, value) in lie.iter() {
                    truth.insert(member, value.clone());
                }
                truth.to_canonical().into()
            }
            (Some(lie), _) => lie.to_canonical().into(),
        }
    }
}

#[async_trait]
impl Peers for End {
    async fn call(&self, destination: &ServerName, request: PeerRequest) -> Result<PeerResponse, PeerError> {
        let endpoint = request.stable.split(['/', '?']).nth(4).unwrap_or_default().to_owned();
        // What the hub sends by itself would fill the gaps that are to be closed with answers.
        if endpoint == "send" || *destination != server("h") {
            return Err(PeerError::Unreachable);
        }
        let service = self.0.find(destination)?;
        let (status, body) = match serve(&service, &server("p"), &request).await {
            Ok(body) => (200, self.0.told(&endpoint, body)),
            Err(error) => {
                let told = object! { "errcode" => error.code().as_str() };
                (error.code().http_status(), told.to_canonical().into())
            }
        };
        Ok(PeerResponse {
            status,
            body,
            retry_after: None,
        })
    }

    async fn server_keys(&self, server: &ServerName) -> Result<Bytes, PeerError> {
        Ok(self.0.find(server)?.own_keys())
    }

    async fn notary_keys(
        &self,
        _notary: &ServerName,
        _wanted: &BTreeMap<ServerName, BTreeMap<KeyId, UnixMillis>>,
    ) -> Result<Bytes, PeerError> {
        Err(PeerError::Unreachable)
    }
}

/// What the HTTP crate does, less everything that is about HTTP.
async fn serve(service: &Service, origin: &ServerName, request: &PeerRequest) -> Result<Bytes, ServiceError> {
    let (path, query) = request.stable.split_once('?').unwrap_or((&request.stable, ""));
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let segments: Vec<String> = path.split('/').skip(4).map(decode).collect();
    let query: Vec<(&str, String)> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name, decode(value)))
        .collect();
    let value = |name: &'static str| {
        let mut found = query
            .iter()
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value.as_str());
        found.next().ok_or(ServiceError::InvalidParam(name))
    };
    let bytes = request.body.clone().unwrap_or_default();
    let body = Json::parse(&bytes).unwrap_or_else(|_| Object::new().into());
    let object = || body.clone().into_object().ok_or(ServiceError::BadJson("an object"));
    let hash = sha256(&bytes);
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let reply = match segments[..] {
        ["send", txn] => {
            service
                .send_txn(origin.clone(), txn_id(txn), body.clone(), hash)
                .await?
        }
        ["invite", txn] => service.invite(origin.clone(), txn_id(txn), object()?, hash).await?,
        [send @ ("send_join" | "send_leave" | "send_knock"), txn] => {
            let kind = match send {
                "send_join" => MembershipKind::Join,
                "send_leave" => MembershipKind::Leave,
                _ => MembershipKind::Knock,
            };
            service
                .send_membership(origin.clone(), kind, txn_id(txn), object()?, hash)
                .await?
        }
        ["make_join", room, user] => {
            let (room, user) = (RoomId::parse(room)?, UserId::parse(user)?);
            let versions: Vec<_> = RoomVersionRules::SUPPORTED
                .iter()
                .filter_map(|rules| RoomVersionId::parse(rules.id).ok())
                .collect();
            let template = service
                .make_membership(origin, MembershipKind::Join, &room, &user, &versions)
                .await?;
            return Ok(template.to_canonical().into());
        }
        ["backfill", room] => {
            let limit = value("limit")?
                .parse()
                .map_err(|_| ServiceError::InvalidParam("limit"))?;
            return service
                .backfill(origin, &RoomId::parse(room)?, &EventId::parse(value("v")?)?, limit)
                .await;
        }
        ["state", room] => {
            let at = EventId::parse(value("event_id")?)?;
            return service.state(origin, &RoomId::parse(room)?, &at).await;
        }
        ["event", event] => return service.event(origin, &EventId::parse(event)?).await,
        _ => return Err(ServiceError::InvalidParam("path")),
    };
    Ok(reply.body)
}

/// Runs what must end without time passing on the servers' clock.
fn run(act: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime without I/O needs nothing");
    let ended = runtime.block_on(async { tokio::time::timeout(PATIENCE, act).await });
    assert!(ended.is_ok(), "it never ends");
}

fn server(name: &str) -> ServerName {
    ServerName::parse(&format!("{name}.example")).expect("a constant name")
}

fn user(localpart: &str, name: &str) -> UserId {
    UserId::parse(&format!("@{localpart}:{name}.example")).expect("a constant name")
}

fn txn_id(text: &str) -> TransactionId {
    TransactionId::parse(text).unwrap_or_else(|_| TransactionId::parse("txn").expect("a constant ID"))
}

fn signer(name: &str) -> Signer {
    static KEY_ID: OnceLock<KeyId> = OnceLock::new();
    let key_id = KEY_ID.get_or_init(|| KeyId::parse("ed25519:fuzz").expect("a constant key ID"));
    let key = SigningKey::from_seed(key_id.clone(), sha256(name.as_bytes()));
    Signer::new(server(name), vec![key]).expect("there is a key")
}

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_DEPTH: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The seeds of a target.
    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let folder = format!("{}/../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let seeds: Vec<_> = files
            .filter(|path| path.extension().is_some())
            .map(|path| std::fs::read(path).unwrap())
            .collect();
        assert!(!seeds.is_empty());
        seeds
    }

    #[test]
    fn seeds_of_the_fuzz_targets_pass() {
        for (target, body) in [
            ("federation_body", federation_body as fn(&[u8])),
            ("peer_answer", peer_answer),
            ("stream_token", stream_token),
            ("multipart", multipart),
        ] {
            seeds(target).iter().for_each(|seed| body(seed));
        }
    }

    /// Any JSON.
    fn json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            (-9_i64..9).prop_map(Json::from),
            "[a-z$!@:._]{0,12}".prop_map(|text| Json::from(text.as_str())),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
                prop::collection::vec((member(), inner), 0..5)
                    .prop_map(|members| Json::from(members.into_iter().collect::<Object>())),
            ]
        })
    }

    fn member() -> impl Strategy<Value = String> {
        prop::sample::select(&[
            "pdus",
            "edus",
            "state",
            "auth_chain",
            "event",
            "author",
            "type",
            "state_key",
            "content",
            "membership",
            "room_id",
            "sender",
            "room_version",
            "invite_room_state",
            "hashes",
            "signatures",
            "prev_events",
            "auth_events",
            "hub_server",
        ])
        .prop_map(str::to_owned)
    }

    fn bodies(endpoints: &'static [&'static str]) -> impl Strategy<Value = Object> {
        let endpoint = prop::sample::select(endpoints).prop_map(str::to_owned);
        prop::collection::vec((endpoint, json()), 0..4).prop_map(|members| members.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn whatever_is_sent_to_a_hub_is_answered(bodies in bodies(&["send", "invite", "send_join", "send_leave", "send_knock"])) {
            federation_body(&bodies.to_canonical());
        }

        #[test]
        fn whatever_a_hub_answers_the_log_is_the_hubs(lies in bodies(&["make_join", "send_join", "backfill", "state", "event"])) {
            peer_answer(&lies.to_canonical());
        }
    }
}
