//! Keys: cases 49, 54 to 58; a key server that is down, a notary, floods of forged origins.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use nabe_core::{EntryBody, HoleReason};
use nabe_event::{EventBuilder, RawEvent, RoomVersionRules};
use nabe_signing::json::{Json, Object};
use nabe_signing::keys::{KeySet, OldKeyMap, own_key_response};
use nabe_signing::xmatrix::{Request, sign_request};
use nabe_signing::{Signer, SigningKey, object, sha256, verify_object};
use nabe_store::{Between, MemoryStore, Order, Store};
use nabe_types::{KeyId, ServerName, UnixMillis};

use super::{Hub, json, list, nothing_failed, text, txn_id};
use crate::client::testing::{eventually, server, signer, user};
use crate::incoming::CheckedVerdict;
use crate::keys::{Purpose, Source};
use crate::ports::{ManualClock, PeerError, PeerRequest, PeerResponse, Peers, SystemEntropy};
use crate::{Deps, Service, ServiceError, Settings};

mod hearsay;
mod notary;
mod waiting;

const START: UnixMillis = UnixMillis(1_700_000_000_000);

/// Key servers, each up or down, and notaries.
#[derive(Default)]
struct KeyServers {
    responses: Mutex<BTreeMap<ServerName, Bytes>>,
    notaries: Mutex<BTreeMap<ServerName, Bytes>>,
    asked: Mutex<Vec<ServerName>>,
    notaries_asked: Mutex<usize>,
    /// Those who take a question and never answer.
    hanging: Mutex<Vec<ServerName>>,
}

#[async_trait]
impl Peers for KeyServers {
    async fn call(&self, _: &ServerName, _: PeerRequest) -> Result<PeerResponse, PeerError> {
        Err(PeerError::Unreachable)
    }

    async fn server_keys(&self, server: &ServerName) -> Result<Bytes, PeerError> {
        self.asked.lock().unwrap().push(server.clone());
        let is_hanging = self.hanging.lock().unwrap().contains(server);
        if is_hanging {
            std::future::pending::<()>().await;
        }
        tokio::task::yield_now().await;
        self.responses
            .lock()
            .unwrap()
            .get(server)
            .cloned()
            .ok_or(PeerError::Unreachable)
    }

    async fn notary_keys(
        &self,
        notary: &ServerName,
        _: &BTreeMap<ServerName, BTreeMap<KeyId, UnixMillis>>,
    ) -> Result<Bytes, PeerError> {
        *self.notaries_asked.lock().unwrap() += 1;
        let is_hanging = self.hanging.lock().unwrap().contains(notary);
        if is_hanging {
            std::future::pending::<()>().await;
        }
        self.notaries
            .lock()
            .unwrap()
            .get(notary)
            .cloned()
            .ok_or(PeerError::Unreachable)
    }
}

struct Subject {
    service: Service,
    peers: Arc<KeyServers>,
    clock: ManualClock,
}

impl Subject {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let (peers, clock) = (Arc::new(KeyServers::default()), ManualClock::new(START));
        let mut settings = Settings::new(server("h"));
        change(&mut settings);
        let service = Service::start(Deps {
            store: Arc::new(MemoryStore::new()),
            peers: Arc::clone(&peers) as Arc<dyn Peers>,
            clock: Arc::new(clock.clone()),
            entropy: Arc::new(SystemEntropy),
            signer: Arc::new(signer("h")),
            old_keys: OldKeyMap::new(),
            settings,
            mimi: None,
        });
        Self { service, peers, clock }
    }

    fn serves(&self, signer: &Signer, valid_until: UnixMillis) {
        let response = own_key_response(signer, &OldKeyMap::new(), valid_until);
        self.peers
            .responses
            .lock()
            .unwrap()
            .insert(signer.server().clone(), response.to_canonical().into());
    }

    /// What this notary answers from now on: these keys of p's.
    fn vouches(&self, notary: &Signer, keys: &Signer) {
        let mut vouched = own_key_response(keys, &OldKeyMap::new(), START.plus(hours(24 * 7)));
        notary.sign_object(&mut vouched);
        let answer = object! { "server_keys" => vec![Json::from(vouched)] };
        let mut notaries = self.peers.notaries.lock().unwrap();
        notaries.insert(notary.server().clone(), answer.to_canonical().into());
    }

    /// The keys known for an event that the hub t sent.
    async fn keys_by_hub(&self, event: &RawEvent) -> KeySet {
        let (hub, events) = (server("t"), std::slice::from_ref(event));
        self.service.event_keys(events, Some(&hub), true).await.unwrap()
    }

    /// Whether the hub t helps to verify p's event, and the key known for it then.
    async fn key_by_hub(&self, event: &RawEvent) -> Option<nabe_signing::PublicKey> {
        let keys = self.keys_by_hub(event).await;
        let key = KeyId::ed25519("1").unwrap();
        keys.for_event(&server("p"), &key, event.origin_server_ts()).copied()
    }

    fn asked(&self, name: &str) -> usize {
        self.peers
            .asked
            .lock()
            .unwrap()
            .iter()
            .filter(|asked| **asked == server(name))
            .count()
    }

    fn asked_in_all(&self) -> usize {
        self.peers.asked.lock().unwrap().len()
    }

    async fn authenticate(&self, signer: &Signer, uri: &str) -> Result<ServerName, ServiceError> {
        let destination = server("h");
        let request = Request {
            method: "GET",
            uri,
            destination: &destination,
            content: None,
        };
        self.service
            .authenticate("GET", uri, &sign_request(signer, &request), None)
            .await
    }
}

fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 60 * 60)
}

#[tokio::test]
async fn own_response_is_self_signed_and_valid_for_hours() {
    let subject = Subject::new(|_| {});
    let response = Object::parse(&subject.service.own_keys()).unwrap();
    verify_object(&response, "h.example", &signer("h").public_keys()).unwrap();
    let valid_until = response.get("valid_until_ts").unwrap().as_i64().unwrap();
    assert_eq!(valid_until, START.plus(hours(12)).as_i64());
    assert_eq!(response.get("m.linearized"), Some(&Json::from(true)));
}

#[tokio::test]
async fn every_header_must_hold() {
    let subject = Subject::new(|_| {});
    let p = signer("p");
    subject.serves(&p, START.plus(hours(12)));
    assert_eq!(subject.authenticate(&p, "/x").await.unwrap(), server("p"));
    let (us, them) = (server("h"), server("t"));
    let request = |destination| Request {
        method: "GET",
        uri: "/x",
        destination,
        content: None,
    };
    let good = sign_request(&p, &request(&us));
    let misdirected = sign_request(&p, &request(&them));
    let stranger_key = SigningKey::from_seed(KeyId::ed25519("other").unwrap(), [9; 32]);
    let stranger = Signer::new(server("p"), vec![stranger_key]).unwrap();
    let unknown = sign_request(&stranger, &request(&us));
    let both: Vec<_> = good.iter().chain(&unknown).cloned().collect();
    let own = sign_request(&signer("h"), &request(&us));
    for headers in [vec![], misdirected, unknown, both, own, vec!["Bearer x".to_owned()]] {
        let refused = subject
            .service
            .authenticate("GET", "/x", &headers, None)
            .await
            .unwrap_err();
        assert!(
            matches!(refused, ServiceError::Unauthenticated(_)),
            "{headers:?}: {refused}"
        );
    }
    let refused = subject
        .service
        .authenticate("GET", "/y", &good, None)
        .await
        .unwrap_err();
    assert!(matches!(refused, ServiceError::Unauthenticated(_)));
}

#[tokio::test]
async fn omitted_content_is_accepted_only_from_peers_granted_it() {
    let p = signer("p");
    let bare = nabe_signing::object! {
        "method" => "GET", "uri" => "/x", "origin" => "p.example", "destination" => "h.example",
    };
    let (key, sig) = p.signatures_of(&bare.to_canonical()).next().unwrap();
    let header = format!("X-Matrix origin=p.example,destination=\"h.example\",key=\"{key}\",sig=\"{sig}\"");
    for granted in [false, true] {
        let subject = Subject::new(|settings| {
            let compat = crate::Compat {
                accept_omitted_content: granted,
                ..crate::Compat::default()
            };
            settings
                .compat
                .push((nabe_types::ServerPattern::parse("p.example").unwrap(), compat));
        });
        subject.serves(&p, START.plus(hours(12)));
        let result = subject
            .service
            .authenticate("GET", "/x", std::slice::from_ref(&header), None)
            .await;
        assert_eq!(result.is_ok(), granted);
    }
}

#[tokio::test]
async fn keys_are_fetched_once_for_many_and_not_again() {
    let subject = Subject::new(|_| {});
    let p = signer("p");
    subject.serves(&p, START.plus(hours(12)));
    let requests = (0..10).map(|_| subject.authenticate(&p, "/x"));
    for result in futures_util::future::join_all(requests).await {
        result.unwrap();
    }
    assert_eq!(subject.asked("p"), 1);
    subject.clock.advance(hours(13));
    subject.serves(&p, START.plus(hours(25)));
    subject.authenticate(&p, "/x").await.unwrap();
    assert_eq!(subject.asked("p"), 2);
}

#[tokio::test]
async fn response_valid_for_a_month_counts_for_a_week() {
    let subject = Subject::new(|_| {});
    let p = signer("p");
    subject.serves(&p, START.plus(hours(24 * 30)));
    subject.authenticate(&p, "/x").await.unwrap();
    subject.peers.responses.lock().unwrap().clear();
    subject.clock.advance(hours(24 * 7));
    subject.authenticate(&p, "/x").await.unwrap();
    subject.clock.advance(Duration::from_millis(1));
    assert!(subject.authenticate(&p, "/x").await.is_err());
}

#[tokio::test]
async fn dead_key_server_is_left_alone_for_a_while() {
    let subject = Subject::new(|_| {});
    let p = signer("p");
    for _ in 0..20 {
        assert!(subject.authenticate(&p, "/x").await.is_err());
    }
    assert_eq!(subject.asked("p"), 1);
    subject.serves(&p, START.plus(hours(12)));
    subject.clock.advance(hours(1));
    subject.authenticate(&p, "/x").await.unwrap();
}

/// An event signed by p's key 1.
fn event_of_p() -> RawEvent {
    event_signed_by(&signer("p"))
}

fn event_signed_by(signer: &Signer) -> RawEvent {
    let room = nabe_types::RoomId::parse("!room:t.example").unwrap();
    let content = object! { "body" => "hi" };
    let event = EventBuilder::new(room, "m.room.message", user("bob", "p"), START, content)
        .build_lpdu(signer, &server("t"), &RoomVersionRules::I1)
        .unwrap();
    RawEvent::parse(event.bytes(), &RoomVersionRules::I1).unwrap()
}

/// p's name, and a key that is not p's under the ID of p's.
fn impostor() -> Signer {
    let key = SigningKey::from_seed(KeyId::ed25519("1").unwrap(), [66; 32]);
    Signer::new(server("p"), vec![key]).unwrap()
}

fn only_key(signer: &Signer) -> nabe_signing::PublicKey {
    *signer.public_keys().values().next().unwrap()
}

/// Signs as p with its key 1 and the new key 2.
fn rotating() -> Signer {
    let key = |version: u8| SigningKey::from_seed(KeyId::ed25519(&version.to_string()).unwrap(), [version; 32]);
    let old = only_signing_key("p");
    Signer::new(server("p"), vec![old, key(2)]).unwrap()
}

/// The key that [`signer`] gives this server.
fn only_signing_key(name: &str) -> SigningKey {
    signer(name).keys()[0].clone()
}

#[tokio::test]
async fn oversized_key_response_is_refused() {
    let subject = Subject::new(|_| {});
    let p = signer("p");
    let mut response = own_key_response(&p, &OldKeyMap::new(), START.plus(hours(12)));
    response.insert("padding", "x".repeat(64 * 1024));
    p.sign_object(&mut response);
    subject
        .peers
        .responses
        .lock()
        .unwrap()
        .insert(server("p"), response.to_canonical().into());
    assert!(subject.authenticate(&p, "/x").await.is_err());
    assert_eq!(subject.service.store().server_keys(&server("p")).await.unwrap(), []);
}

#[tokio::test]
async fn memory_forgets_the_key_sets_that_the_store_forgets() {
    let subject = Subject::new(|_| {});
    for version in 0..20 {
        let key = SigningKey::from_seed(KeyId::ed25519(&format!("{version}")).unwrap(), [version; 32]);
        subject.serves(
            &Signer::new(server("p"), vec![key]).unwrap(),
            START.plus(hours(24 * 30)),
        );
        assert_eq!(subject.service.notary_one(None, &BOBS, None).await.unwrap().len(), 1);
        subject.clock.advance(hours(24 * 4));
    }
    let known = subject.service.cached_keys(&server("p")).await.unwrap();
    assert_eq!(known.iter().count(), nabe_store::rules::KEY_SETS_KEPT);
    assert!(known.get(&server("p"), &KeyId::ed25519("19").unwrap()).is_some());
}

#[tokio::test]
async fn request_is_put_off_while_too_many_origins_are_being_asked() {
    let subject = Subject::new(|settings| {
        settings.limits.key_requests = 1;
        settings.notaries.push(server("n"));
    });
    // Asking t takes 20 seconds: ten for t, ten for the notary.
    subject.peers.hanging.lock().unwrap().extend([server("t"), server("n")]);
    let (p, t, d) = (signer("p"), signer("t"), signer("d"));
    subject.serves(&p, START.plus(hours(12)));
    let waiting = async {
        eventually("t is being asked", || async { subject.asked("t") == 1 }).await;
        // Events have places of their own.
        assert_eq!(subject.key_by_hub(&event_of_p()).await, Some(only_key(&p)));
        let refused = subject.authenticate(&d, "/x");
        let time = async {
            crate::client::testing::let_run().await;
            subject.clock.advance(Duration::from_secs(10));
        };
        futures_util::future::join(refused, time).await.0
    };
    let refused = tokio::select! {
        biased;
        _ = subject.authenticate(&t, "/x") => panic!("t answered"),
        refused = waiting => refused,
    };
    assert!(
        matches!(refused, Err(ServiceError::LimitExceeded { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn strangers_do_not_keep_those_waiting_whose_keys_we_had() {
    let subject = Subject::new(|settings| settings.limits.key_requests = 1);
    let p = signer("p");
    subject.serves(&p, START.plus(hours(12)));
    subject.authenticate(&p, "/x").await.unwrap();
    subject.clock.advance(hours(13));
    subject.serves(&p, START.plus(hours(25)));
    let t = signer("t");
    subject.peers.hanging.lock().unwrap().push(server("t"));
    let waiting = async {
        eventually("t is being asked", || async { subject.asked("t") == 1 }).await;
        subject.authenticate(&p, "/x").await
    };
    let known = tokio::select! {
        biased;
        _ = subject.authenticate(&t, "/x") => panic!("t answered"),
        known = waiting => known,
    };
    assert_eq!(known.unwrap(), server("p"));
}

/// A server with a name of its own and a key.
fn invented(number: usize) -> Signer {
    let name = ServerName::parse(&format!("s{number}.example")).unwrap();
    Signer::new(name, vec![only_signing_key("p")]).unwrap()
}

impl Subject {
    /// Of how many invented servers the store has keys.
    async fn stored(&self, invented_servers: usize) -> usize {
        let mut stored = 0;
        for number in 0..invented_servers {
            let keys = self
                .service
                .store()
                .server_keys(invented(number).server())
                .await
                .unwrap();
            stored += keys.len();
        }
        stored
    }
}

#[tokio::test]
async fn invented_names_do_not_fill_the_store() {
    const INVENTED: usize = 20;
    let subject = Subject::new(|settings| {
        settings.limits.key_storage = crate::RateLimit {
            per_second: 0.1,
            burst: 5_000.0,
        };
    });
    for number in 0..INVENTED {
        let stranger = invented(number);
        subject.serves(&stranger, START.plus(hours(12)));
        subject.authenticate(&stranger, "/x").await.unwrap();
    }
    let stored = subject.stored(INVENTED).await;
    // A response has about 300 bytes, its place 500 more.
    assert!((3..=7).contains(&stored), "{stored}");
    // The others work as well, from memory, for requests and for who asks us as a notary.
    subject.peers.responses.lock().unwrap().clear();
    let last = invented(INVENTED - 1);
    subject.authenticate(&last, "/x").await.unwrap();
    let found = subject.service.notary_one(None, last.server(), None).await.unwrap();
    assert_eq!(list(&found, "server_keys").len(), 1);
    // An event to verify is another account.
    let room = nabe_types::RoomId::parse("!room:t.example").unwrap();
    let sender = nabe_types::UserId::parse(&format!("@bob:{}", last.server())).unwrap();
    let event = EventBuilder::new(room, "m.room.message", sender, START, Object::new())
        .build_lpdu(&last, &server("t"), &RoomVersionRules::I1)
        .unwrap();
    let event = RawEvent::parse(event.bytes(), &RoomVersionRules::I1).unwrap();
    subject.service.verify_single(event).await.unwrap();
    assert_eq!(subject.stored(INVENTED).await, stored + 1);
    // And with time there is room again.
    subject.clock.advance(hours(3));
    let next = invented(INVENTED);
    subject.serves(&next, START.plus(hours(12)));
    subject.authenticate(&next, "/x").await.unwrap();
    assert_eq!(
        subject.service.store().server_keys(next.server()).await.unwrap().len(),
        1
    );
}

#[tokio::test]
async fn keys_said_again_take_no_room() {
    let subject = Subject::new(|settings| {
        settings.limits.key_storage = crate::RateLimit {
            per_second: 0.0,
            burst: 2_000.0,
        };
    });
    let p = signer("p");
    for day in 0..20 {
        subject.serves(&p, START.plus(hours(24 * day + 12)));
        subject.authenticate(&p, "/x").await.unwrap();
        let stored = subject.service.store().server_keys(&server("p")).await.unwrap();
        assert_eq!(stored[0].fetched_at, subject.service.now(), "day {day}");
        subject.clock.advance(hours(24));
    }
}

#[tokio::test]
async fn memory_for_keys_is_bounded_in_bytes() {
    let subject = Subject::new(|_| {});
    let keys = &subject.service.inner.keys;
    let response = Bytes::from(vec![b' '; 64 * 1024]);
    for number in 0..1_500 {
        let name = ServerName::parse(&format!("s{number}.example")).unwrap();
        keys.cached(&name);
        keys.keep_for_test(&name, response.clone(), START);
    }
    let (servers, bytes) = keys.cached_size();
    assert!(bytes <= 64 * 1024 * 1024, "{bytes}");
    assert!(servers > 500, "{servers}");
}

static BOBS: std::sync::LazyLock<ServerName> = std::sync::LazyLock::new(|| server("p"));
