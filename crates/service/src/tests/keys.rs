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

#[tokio::test]
async fn notary_vouches_when_the_owner_is_down() {
    let subject = Subject::new(|settings| settings.notaries.push(server("t")));
    let (p, t) = (signer("p"), signer("t"));
    subject.serves(&t, START.plus(hours(12)));
    let mut vouched = own_key_response(&p, &OldKeyMap::new(), START.plus(hours(12)));
    let unsigned = object! { "server_keys" => vec![Json::from(vouched.clone())] };
    subject
        .peers
        .notaries
        .lock()
        .unwrap()
        .insert(server("t"), unsigned.to_canonical().into());
    assert!(subject.authenticate(&p, "/x").await.is_err());
    t.sign_object(&mut vouched);
    let signed = object! { "server_keys" => vec![Json::from(vouched)] };
    subject
        .peers
        .notaries
        .lock()
        .unwrap()
        .insert(server("t"), signed.to_canonical().into());
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

#[tokio::test]
async fn what_a_hub_says_of_keys_is_not_kept() {
    let subject = Subject::new(|_| {});
    subject.serves(&signer("t"), START.plus(hours(12)));
    subject.vouches(&signer("t"), &impostor());
    let event = event_of_p();
    assert_eq!(subject.key_by_hub(&event).await, Some(only_key(&impostor())));
    assert_eq!(subject.service.store().server_keys(&server("p")).await.unwrap(), []);
    assert!(subject.service.cached_keys(&server("p")).await.unwrap().is_empty());
    assert!(subject.authenticate(&impostor(), "/x").await.is_err());
    // p is back: its own key is the one that counts.
    subject.serves(&signer("p"), START.plus(hours(12)));
    subject.clock.advance(hours(1));
    assert_eq!(subject.key_by_hub(&event).await, Some(only_key(&signer("p"))));
    subject.authenticate(&signer("p"), "/x").await.unwrap();
    assert!(subject.authenticate(&impostor(), "/x").await.is_err());
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

/// An event signed by p's key 2 alone.
fn event_by_new_key() -> RawEvent {
    let new = rotating().keys()[1].clone();
    event_signed_by(&Signer::new(server("p"), vec![new]).unwrap())
}

/// p was up and told us its key 1; now it does not answer.
async fn subject_that_knew_p() -> Subject {
    let subject = Subject::new(|_| {});
    subject.serves(&signer("p"), START.plus(hours(12)));
    subject.authenticate(&signer("p"), "/x").await.unwrap();
    subject.peers.responses.lock().unwrap().clear();
    subject.serves(&signer("t"), START.plus(hours(24)));
    subject.clock.advance(hours(1));
    subject
}

#[tokio::test]
async fn hub_speaks_for_no_server_that_is_known() {
    let subject = subject_that_knew_p().await;
    let event = event_by_new_key();
    // The hub makes up a key of p's: under an ID that p never used, signed with nothing of p's.
    subject.vouches(
        &signer("t"),
        &Signer::new(server("p"), vec![rotating().keys()[1].clone()]).unwrap(),
    );
    let keys = subject.keys_by_hub(&event).await;
    assert_eq!(*subject.peers.notaries_asked.lock().unwrap(), 1);
    assert_eq!(keys.get(&server("p"), &KeyId::ed25519("2").unwrap()), None);
    let checked = subject
        .service
        .verify_events(vec![event], Some(&server("t")), true)
        .await
        .unwrap();
    assert!(matches!(checked[0].verdict, CheckedVerdict::LacksKeys { .. }));
}

#[tokio::test]
async fn hub_passes_on_what_a_known_server_signed() {
    let subject = subject_that_knew_p().await;
    let event = event_by_new_key();
    subject.vouches(&signer("t"), &rotating());
    let checked = subject
        .service
        .verify_events(vec![event], Some(&server("t")), true)
        .await
        .unwrap();
    assert!(matches!(checked[0].verdict, CheckedVerdict::Lpdu(_)));
    assert_eq!(
        subject.service.store().server_keys(&server("p")).await.unwrap().len(),
        1
    );
}

#[tokio::test]
async fn retired_key_introduces_no_other() {
    let subject = Subject::new(|_| {});
    let retired = OldKeyMap::from([(KeyId::ed25519("1").unwrap(), (only_key(&signer("p")), START))]);
    let third = SigningKey::from_seed(KeyId::ed25519("3").unwrap(), [3; 32]);
    let p = Signer::new(server("p"), vec![third]).unwrap();
    let response = own_key_response(&p, &retired, START.plus(hours(12)));
    let responses = &subject.peers.responses;
    responses
        .lock()
        .unwrap()
        .insert(server("p"), response.to_canonical().into());
    subject.authenticate(&p, "/x").await.unwrap();
    responses.lock().unwrap().clear();
    subject.serves(&signer("t"), START.plus(hours(24)));
    subject.clock.advance(hours(1));
    // Whoever has key 1, which p retired, and the hub's help.
    subject.vouches(&signer("t"), &rotating());
    let keys = subject.keys_by_hub(&event_by_new_key()).await;
    assert_eq!(*subject.peers.notaries_asked.lock().unwrap(), 1);
    assert_eq!(keys.get(&server("p"), &KeyId::ed25519("2").unwrap()), None);
}

#[tokio::test]
async fn older_answer_of_a_notary_does_not_shorten_what_the_owner_said() {
    let subject = Subject::new(|settings| settings.notaries.push(server("d")));
    subject.serves(&signer("p"), START.plus(hours(24 * 7)));
    subject.authenticate(&signer("p"), "/x").await.unwrap();
    subject.peers.responses.lock().unwrap().clear();
    subject.clock.advance(hours(1));
    let d = signer("d");
    subject.serves(&d, START.plus(hours(24)));
    let mut older = own_key_response(&signer("p"), &OldKeyMap::new(), START.plus(hours(2)));
    d.sign_object(&mut older);
    let answer = object! { "server_keys" => vec![Json::from(older)] };
    let notaries = &subject.peers.notaries;
    notaries
        .lock()
        .unwrap()
        .insert(server("d"), answer.to_canonical().into());
    // An unknown key makes us ask.
    assert!(subject.authenticate(&rotating(), "/x").await.is_err());
    assert_eq!(*subject.peers.notaries_asked.lock().unwrap(), 1);
    subject.clock.advance(hours(3));
    subject.authenticate(&signer("p"), "/x").await.unwrap();
}

#[tokio::test]
async fn nobody_else_is_asked_for_what_the_owner_does_not_list() {
    let subject = Subject::new(|settings| settings.notaries.push(server("d")));
    let other = SigningKey::from_seed(KeyId::ed25519("2").unwrap(), [2; 32]);
    subject.serves(&Signer::new(server("p"), vec![other]).unwrap(), START.plus(hours(12)));
    for notary in [signer("t"), signer("d")] {
        subject.serves(&notary, START.plus(hours(12)));
        subject.vouches(&notary, &impostor());
    }
    assert_eq!(subject.key_by_hub(&event_of_p()).await, None);
    assert_eq!(*subject.peers.notaries_asked.lock().unwrap(), 0);
}

#[tokio::test]
async fn notary_cannot_replace_a_known_key() {
    let subject = Subject::new(|settings| settings.notaries.push(server("d")));
    let p = signer("p");
    subject.serves(&p, START.plus(Duration::from_secs(1)));
    subject.authenticate(&p, "/x").await.unwrap();
    subject.peers.responses.lock().unwrap().clear();
    subject.clock.advance(hours(1));
    for notary in [signer("t"), signer("d")] {
        subject.serves(&notary, START.plus(hours(12)));
        subject.vouches(&notary, &impostor());
    }
    assert!(subject.authenticate(&impostor(), "/x").await.is_err());
    assert_eq!(*subject.peers.notaries_asked.lock().unwrap(), 1);
    assert_eq!(subject.key_by_hub(&event_of_p()).await, Some(only_key(&p)));
    assert_eq!(
        subject.service.store().server_keys(&server("p")).await.unwrap().len(),
        1
    );
}

#[tokio::test]
async fn hub_asks_no_sender_for_the_keys_of_others() {
    let subject = Subject::new(|_| {});
    let room = subject
        .service
        .create_room(&user("alice", "h"), crate::client::testing::public_room(), None)
        .await
        .unwrap()
        .room_id;
    subject.serves(&signer("t"), START.plus(hours(12)));
    subject.vouches(&signer("t"), &impostor());
    let event = EventBuilder::new(room, "m.room.message", user("bob", "p"), START, Object::new())
        .build_lpdu(&impostor(), &server("h"), &RoomVersionRules::I1)
        .unwrap();
    let body = Json::from(object! { "pdus" => vec![json(&event)] });
    let hash = sha256(&body.to_canonical());
    subject
        .service
        .send_txn(server("t"), txn_id("1"), body, hash)
        .await
        .unwrap();
    assert_eq!(*subject.peers.notaries_asked.lock().unwrap(), 0);
    assert!(subject.service.cached_keys(&server("p")).await.unwrap().is_empty());
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
async fn notary_asks_an_owner_rarely_whatever_is_demanded() {
    let subject = Subject::new(|_| {});
    let notary_is_asked = async |until| {
        subject.service.notary_one(None, &BOBS, Some(until)).await.unwrap();
    };
    subject.serves(&signer("p"), START.plus(hours(1)));
    subject.service.notary_one(None, &BOBS, None).await.unwrap();
    for _ in 0..20 {
        subject.clock.advance(Duration::from_secs(2));
        notary_is_asked(START.plus(hours(48))).await;
    }
    assert_eq!(subject.asked("p"), 1);
    subject.clock.advance(Duration::from_secs(60));
    // No response counts for longer than a week.
    notary_is_asked(subject.service.now().plus(hours(24 * 7 + 1))).await;
    assert_eq!(subject.asked("p"), 1);
    notary_is_asked(START.plus(hours(48))).await;
    assert_eq!(subject.asked("p"), 2);
}

#[tokio::test]
async fn queries_to_the_notary_do_not_keep_requests_waiting() {
    let subject = Subject::new(|settings| settings.limits.key_requests = 4);
    let service = subject.service.clone();
    subject.peers.hanging.lock().unwrap().push(server("t"));
    let hanging = tokio::spawn(async move { service.notary_one(None, &server("t"), None).await });
    eventually("t is being asked", || async { subject.asked("t") == 1 }).await;
    // The one place is taken, so the notary answers from what it knows, which is nothing.
    let p = signer("p");
    subject.serves(&p, START.plus(hours(12)));
    let found = subject.service.notary_one(None, &BOBS, None).await.unwrap();
    assert!(list(&found, "server_keys").is_empty());
    assert_eq!(subject.asked("p"), 0);
    subject.authenticate(&p, "/x").await.unwrap();
    hanging.abort();
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

#[tokio::test]
async fn notary_keeps_an_answer_for_half_of_its_lifetime() {
    let subject = Subject::new(|_| {});
    subject.serves(&signer("p"), START.plus(hours(12)));
    let ask = || subject.service.notary_one(None, &BOBS, None);
    ask().await.unwrap();
    subject.clock.advance(hours(6) - Duration::from_millis(1));
    assert_eq!(list(&ask().await.unwrap(), "server_keys").len(), 1);
    assert_eq!(subject.asked("p"), 1);
    subject.clock.advance(Duration::from_millis(1));
    ask().await.unwrap();
    assert_eq!(subject.asked("p"), 2);
}

#[tokio::test]
async fn one_address_does_not_use_up_the_notary_for_others() {
    let limit = |burst| crate::RateLimit { per_second: 1.0, burst };
    let subject = Subject::new(|settings| {
        settings.limits.notary_queries = limit(2.0);
        settings.limits.notary_queries_total = limit(5.0);
    });
    let ask = |last: u8| {
        let caller = std::net::IpAddr::from([192, 0, 2, last]);
        subject.service.notary_one(Some(caller), &BOBS, None)
    };
    ask(1).await.unwrap();
    ask(1).await.unwrap();
    for _ in 0..10 {
        assert!(matches!(ask(1).await, Err(ServiceError::LimitExceeded { .. })));
    }
    ask(2).await.unwrap();
    ask(2).await.unwrap();
    ask(3).await.unwrap();
    // All together have had enough.
    assert!(matches!(ask(4).await, Err(ServiceError::LimitExceeded { .. })));
}

#[tokio::test]
async fn one_address_does_not_use_up_the_fetches_for_others() {
    let limit = |burst| crate::RateLimit { per_second: 1.0, burst };
    let subject = Subject::new(|settings| {
        settings.limits.notary_fetches = limit(2.0);
        settings.limits.notary_fetches_total = limit(3.0);
    });
    for number in 0..10 {
        let caller = std::net::IpAddr::from([192, 0, 2, 1]);
        let unknown = invented(number);
        let found = subject.service.notary_one(Some(caller), unknown.server(), None).await;
        assert!(list(&found.unwrap(), "server_keys").is_empty());
    }
    assert_eq!(subject.peers.asked.lock().unwrap().len(), 2);
    subject.serves(&signer("p"), START.plus(hours(12)));
    let other = std::net::IpAddr::from([192, 0, 2, 2]);
    let found = subject.service.notary_one(Some(other), &BOBS, None).await.unwrap();
    assert_eq!(list(&found, "server_keys").len(), 1);
}

#[tokio::test]
async fn bulk_query_counts_each_server() {
    let subject = Subject::new(|settings| {
        settings.limits.notary_queries_total = crate::RateLimit {
            per_second: 1.0,
            burst: 4.0,
        };
    });
    let three: Object = (0..3)
        .map(|number| (invented(number).server().to_string(), Json::from(Object::new())))
        .collect();
    let body = object! { "server_keys" => three };
    subject.service.notary_many(None, &body).await.unwrap();
    let refused = subject.service.notary_many(None, &body).await;
    assert!(
        matches!(refused, Err(ServiceError::LimitExceeded { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn bulk_query_for_too_much_is_refused() {
    let subject = Subject::new(|settings| {
        settings.limits.notary_servers = 2;
        settings.limits.notary_keys = 3;
        settings.limits.notary_answer_bytes = 500;
    });
    for number in 0..2 {
        subject.serves(&invented(number), START.plus(hours(12)));
    }
    let keys = |count: usize| -> Object {
        (0..count)
            .map(|key| (format!("ed25519:{key}"), Json::from(Object::new())))
            .collect()
    };
    let ask = |servers: Object| {
        let body = object! { "server_keys" => servers };
        let service = subject.service.clone();
        async move { service.notary_many(None, &body).await }
    };
    ask(object! { "s0.example" => keys(3) }).await.unwrap();
    assert_eq!(subject.asked_in_all(), 1);
    for servers in [
        object! { "s0.example" => keys(2), "s1.example" => keys(2) },
        object! { "a.example" => keys(0), "b.example" => keys(0), "c.example" => keys(0) },
    ] {
        let refused = ask(servers).await.unwrap_err();
        assert!(matches!(refused, ServiceError::TooLarge(_)), "{refused}");
    }
    // Whoever asks for too much has made us ask nobody.
    assert_eq!(subject.asked_in_all(), 1);
    let one = ask(object! { "s0.example" => keys(0) }).await.unwrap();
    assert_eq!(list(&one, "server_keys").len(), 1);
    let refused = ask(object! { "s0.example" => keys(0), "s1.example" => keys(0) }).await;
    assert!(matches!(refused, Err(ServiceError::TooLarge(_))), "{refused:?}");
}

#[tokio::test]
async fn notary_measures_its_own_keys_like_those_of_others() {
    let subject = Subject::new(|_| {});
    let us = server("h");
    let own = |minimum| subject.service.notary_one(None, &us, minimum);
    assert_eq!(list(&own(None).await.unwrap(), "server_keys").len(), 1);
    let beyond = START.plus(hours(13));
    assert!(list(&own(Some(beyond)).await.unwrap(), "server_keys").is_empty());
    let unknown_key = object! { "h.example" => object! { "ed25519:nosuch" => Object::new() } };
    let body = object! { "server_keys" => unknown_key };
    let found = subject.service.notary_many(None, &body).await.unwrap();
    assert!(list(&found, "server_keys").is_empty());
}

#[tokio::test]
async fn notary_is_not_asked_without_end() {
    let one = crate::RateLimit {
        per_second: 1.0,
        burst: 2.0,
    };
    let subject = Subject::new(|settings| settings.limits.notary_queries_total = one);
    subject.service.notary_one(None, &BOBS, None).await.unwrap();
    subject
        .service
        .notary_many(None, &object! { "server_keys" => Object::new() })
        .await
        .unwrap();
    let refused = subject.service.notary_one(None, &BOBS, None).await.unwrap_err();
    assert!(matches!(refused, ServiceError::LimitExceeded { .. }), "{refused}");
}

#[tokio::test]
async fn notary_signs_what_it_knows_and_omits_what_is_too_old() {
    let subject = Subject::new(|_| {});
    let (p, notary) = (signer("p"), signer("h").public_keys());
    let answer = |minimum| subject.service.notary_one(None, &BOBS, minimum);
    assert!(list(&answer(None).await.unwrap(), "server_keys").is_empty());
    subject.serves(&p, START.plus(hours(24 * 30)));
    subject.clock.advance(hours(1));
    let found = answer(None).await.unwrap();
    let [keys] = list(&found, "server_keys") else {
        panic!("{found:?}")
    };
    let keys = keys.as_object().unwrap();
    verify_object(keys, "h.example", &notary).unwrap();
    verify_object(keys, "p.example", &p.public_keys()).unwrap();
    let too_far = START.plus(hours(24 * 8 + 1));
    assert!(list(&answer(Some(too_far)).await.unwrap(), "server_keys").is_empty());
    // The owner is gone and the keys are old: who asks about an old event still gets them.
    subject.peers.responses.lock().unwrap().clear();
    subject.clock.advance(hours(24 * 60));
    assert!(list(&answer(None).await.unwrap(), "server_keys").is_empty());
    assert_eq!(list(&answer(Some(START)).await.unwrap(), "server_keys").len(), 1);
}

#[tokio::test]
async fn bulk_query_answers_for_each_server_and_key() {
    let subject = Subject::new(|_| {});
    subject.serves(&signer("p"), START.plus(hours(12)));
    let ask = |servers: Object| {
        let body = object! { "server_keys" => servers };
        let service = subject.service.clone();
        async move { service.notary_many(None, &body).await }
    };
    assert!(list(&ask(Object::new()).await.unwrap(), "server_keys").is_empty());
    let both = ask(object! { "p.example" => Object::new(), "h.example" => Object::new() })
        .await
        .unwrap();
    let names: Vec<_> = list(&both, "server_keys")
        .iter()
        .map(|keys| text(keys.as_object().unwrap(), "server_name"))
        .collect();
    assert_eq!(names, ["h.example", "p.example"]);
    let key = |id: &str| object! { "p.example" => object! { id => Object::new() } };
    assert_eq!(list(&ask(key("ed25519:1")).await.unwrap(), "server_keys").len(), 1);
    subject.clock.advance(hours(1));
    assert!(list(&ask(key("ed25519:nosuch")).await.unwrap(), "server_keys").is_empty());
    assert!(ask(object! { "p.example" => 7 }).await.is_err());
    let many: Object = (0..200)
        .map(|n| (format!("s{n}.example"), Json::from(Object::new())))
        .collect();
    assert!(ask(many).await.is_err());
}

#[tokio::test]
async fn event_whose_key_cannot_be_had_waits_and_is_appended_later() {
    let hub = Hub::public().await;
    let (bob, carol) = (user("bob", "p"), user("carol", "t"));
    let participant = hub.world.service("p");
    participant.join(&bob, &hub.room, &[server("h")]).await.unwrap();
    hub.joins(&carol).await;
    hub.world.settle(&hub.room, &["h", "p"]).await;
    let known = hub.world.log("p", &hub.room).await.len();

    // The hub knows d's key; p cannot get it, neither from d nor from a notary.
    let dave = dave();
    let join = hub.member(&dave, &dave, "join");
    hub.service.learn_for_test(&signer("d"), START).await;
    hub.send_member("d", crate::MembershipKind::Join, json(&join))
        .await
        .unwrap();
    hub.send("p", "after", vec![json(&hub.message(&bob, "after"))])
        .await
        .unwrap();
    let store = hub.world.store("p");
    eventually("both events wait", || async {
        store.parked(&hub.room).await.unwrap().len() == 2
    })
    .await;
    assert_eq!(hub.world.log("p", &hub.room).await.len(), known);

    participant.learn_for_test(&signer("d"), START).await;
    hub.world.clock.advance(Duration::from_secs(60));
    participant.retry_due().await.unwrap();
    assert_eq!(store.parked(&hub.room).await.unwrap(), []);
    assert!(
        hub.world
            .log("h", &hub.room)
            .await
            .ends_with(&hub.world.log("p", &hub.room).await)
    );
}

#[tokio::test]
async fn key_that_was_valid_too_short_a_time_may_still_turn_out_valid() {
    let subject = Subject::new(|_| {});
    let early = START.minus(Duration::from_secs(1));
    subject.serves(&signer("p"), early);
    subject.service.keys_of(&server("p")).await.unwrap();
    subject.peers.responses.lock().unwrap().clear();
    let checked = subject.service.verify_single(event_of_p()).await.unwrap();
    assert!(matches!(checked.verdict, CheckedVerdict::LacksKeys { .. }));
    // Of a key that is out of use nothing else is to be heard.
    let retired = OldKeyMap::from([(KeyId::ed25519("1").unwrap(), (only_key(&signer("p")), early))]);
    let now_used = SigningKey::from_seed(KeyId::ed25519("2").unwrap(), [2; 32]);
    let now_used = Signer::new(server("p"), vec![now_used]).unwrap();
    let response = own_key_response(&now_used, &retired, START.plus(hours(12)));
    subject
        .peers
        .responses
        .lock()
        .unwrap()
        .insert(server("p"), response.to_canonical().into());
    subject.clock.advance(hours(1));
    let checked = subject.service.verify_single(event_of_p()).await.unwrap();
    assert!(matches!(checked.verdict, CheckedVerdict::Bad(_)));
}

#[tokio::test]
async fn event_whose_key_never_comes_leaves_a_hole_after_a_day() {
    let hub = Hub::public().await;
    let bob = user("bob", "p");
    let participant = hub.world.service("p");
    participant.join(&bob, &hub.room, &[server("h")]).await.unwrap();
    let dave = dave();
    hub.service.learn_for_test(&signer("d"), START).await;
    hub.send_member(
        "d",
        crate::MembershipKind::Join,
        json(&hub.member(&dave, &dave, "join")),
    )
    .await
    .unwrap();
    hub.send("p", "after", vec![json(&hub.message(&bob, "after"))])
        .await
        .unwrap();
    let store = hub.world.store("p");
    eventually("both events wait", || async {
        store.parked(&hub.room).await.unwrap().len() == 2
    })
    .await;
    hub.world.clock.advance(hours(24));
    eventually("nothing waits", || async {
        participant.retry_due().await.unwrap();
        store.parked(&hub.room).await.unwrap().is_empty()
    })
    .await;
    let log = store
        .entries(&hub.room, Between::ALL, usize::MAX, Order::Ascending)
        .await
        .unwrap();
    let [.., hole, after] = log.as_slice() else {
        panic!("{log:?}")
    };
    assert!(
        matches!(
            &hole.body,
            EntryBody::Hole {
                reason: HoleReason::KeysUnavailable,
                ..
            }
        ),
        "{hole:?}"
    );
    assert_eq!(
        after.pdu().unwrap().content().get("body").unwrap().as_str(),
        Some("after")
    );
}

#[tokio::test]
async fn event_during_a_join_is_kept_for_it() {
    let hub = Hub::public().await;
    let bob = user("bob", "p");
    let participant = hub.world.service("p");
    let guard = participant.begin_join(&hub.room);
    guard.ask(&server("h"));
    hub.joins(&bob).await;
    let event = Json::from(hub.last().await);
    let body = Json::from(object! { "pdus" => vec![event] });
    let hash = sha256(&body.to_canonical());
    let reply = participant
        .send_txn(server("h"), txn_id("early"), body, hash)
        .await
        .unwrap();
    assert_eq!(Object::parse(&reply.body).unwrap(), nothing_failed());
    assert_eq!(hub.world.store("p").parked(&hub.room).await.unwrap().len(), 1);
    drop(guard);
    // The join failed after all, so what came for it is dropped.
    participant.drain_parked(&hub.room).await.unwrap();
    assert_eq!(hub.world.store("p").parked(&hub.room).await.unwrap(), []);
}

impl Service {
    /// Makes a server's keys known, as if it had answered at `at`.
    async fn learn_for_test(&self, signer: &Signer, at: UnixMillis) {
        let response = own_key_response(signer, &OldKeyMap::new(), at.plus(hours(24 * 30)));
        let bytes = response.to_canonical().into();
        self.cached_keys(signer.server()).await.unwrap();
        let keys = nabe_signing::ServerKeys::parse(response, signer.server()).unwrap();
        self.learn(keys, bytes, Source::Owner, Purpose::Event).await.unwrap();
    }
}

/// A user of a server that is not there.
fn dave() -> nabe_types::UserId {
    user("dave", "d")
}

static BOBS: std::sync::LazyLock<ServerName> = std::sync::LazyLock::new(|| server("p"));
