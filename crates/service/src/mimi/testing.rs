//! Several providers in one process, joined by a wire that carries bytes and that tests can cut, listen on and talk into. The clock stands
//! still until a test advances it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use nabe_core::mimi::{Evidence, Franking};
use nabe_mls::testing::mimi::TestHub;
use nabe_mls::testing::wall_clock;
use nabe_store::{MemoryStore, Store, Write};
use nabe_store_sqlite::{SqliteOptions, SqliteStore};
use nabe_types::{ServerName, UnixMillis, UserId};
use nabe_wire::directory::Endpoint;
use nabe_wire::franking::{Frank, ServerFrankingContext};
use nabe_wire::label::{SignatureScheme, Signer, SignerError};
use nabe_wire::mls::CipherSuite;
use nabe_wire::notify::FanoutBatch;
use nabe_wire::report_abuse::AbusiveMessage;
use nabe_wire::uri::MimiUri;
use nabe_wire::{Encode, IdentifierUri, Message};
use tempfile::TempDir;
use tokio::sync::Semaphore;

use super::{HubKey, Mimi, MimiDeps, MimiError, MimiSettings, RateSettings};
use crate::client::testing::{server, signer};
use crate::ports::mimi::{MimiPeerError, MimiPeers, MimiRequest};
use crate::ports::{Entropy, ManualClock, PeerError, PeerResponse, PeerStream, Peers};
use crate::{Deps, Service, Settings};

pub(super) type Answer = Result<PeerResponse, MimiPeerError>;
type Interceptor = Box<dyn Fn(&ServerName, &MimiRequest) -> Option<Answer> + Send>;

/// A request that was made.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) to: ServerName,
    pub(super) endpoint: Endpoint,
    pub(super) body: Bytes,
}

/// Providers `a.example` and so on, and the wire between them.
pub(super) struct Providers {
    pub(super) clock: ManualClock,
    /// Of whatever is started from now on.
    pub(super) gather: Duration,
    /// Of whatever is started from now on.
    pub(super) rates: RateSettings,
    wire: Arc<Wire>,
    keys: BTreeMap<ServerName, Arc<TestHub>>,
    disks: BTreeMap<ServerName, Disk>,
}

/// What a provider's store is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Backend {
    Memory,
    Sqlite,
}

pub(super) const BACKENDS: [Backend; 2] = [Backend::Memory, Backend::Sqlite];

/// A provider's store, and the folder that it lies in.
enum Disk {
    Memory(MemoryStore),
    Sqlite(Arc<SqliteStore>, TempDir),
}

impl Disk {
    async fn new(backend: Backend) -> Self {
        match backend {
            Backend::Memory => Self::Memory(MemoryStore::new()),
            Backend::Sqlite => Self::in_folder(tempfile::tempdir().unwrap()).await,
        }
    }

    async fn in_folder(folder: TempDir) -> Self {
        let options = SqliteOptions::new(folder.path().join("nabe.db"));
        Self::Sqlite(Arc::new(SqliteStore::open(&options).await.unwrap()), folder)
    }

    /// What a crash leaves: what was committed.
    async fn after_crash(&self) -> Self {
        match self {
            Self::Memory(store) => Self::Memory(store.snapshot()),
            Self::Sqlite(_, folder) => {
                let left = tempfile::tempdir().unwrap();
                for name in ["nabe.db", "nabe.db-wal"] {
                    std::fs::copy(folder.path().join(name), left.path().join(name)).unwrap();
                }
                Self::in_folder(left).await
            }
        }
    }

    fn store(&self) -> &dyn Store {
        match self {
            Self::Memory(store) => store,
            Self::Sqlite(store, _) => &**store,
        }
    }

    fn shared(&self) -> Arc<dyn Store> {
        match self {
            Self::Memory(store) => Arc::new(store.clone()),
            Self::Sqlite(store, _) => Arc::clone(store) as Arc<dyn Store>,
        }
    }
}

/// What becomes of answers whose work is done.
#[derive(Clone)]
pub(super) enum Answers {
    /// Each waits for a permit.
    Held(Arc<Semaphore>),
    /// Nobody hears them.
    Lost,
}

#[derive(Default)]
struct Wire {
    services: Mutex<BTreeMap<ServerName, Service>>,
    /// Which life of each provider this is: what a crashed one sends goes nowhere.
    lives: Mutex<BTreeMap<ServerName, u64>>,
    down: Mutex<BTreeSet<ServerName>>,
    made: Mutex<Vec<Made>>,
    interceptor: Mutex<Option<Interceptor>>,
    answers: Mutex<Option<(ServerName, Endpoint, Answers)>>,
    gateways: Mutex<Gateways>,
}

/// OHTTP gateways: what they were sent, by whom, and what they answer.
#[derive(Default)]
struct Gateways {
    asked: Vec<(ServerName, ServerName, Bytes)>,
    answers: VecDeque<PeerStream>,
}

/// One provider's end of the wire.
struct End {
    from: ServerName,
    life: u64,
    wire: Arc<Wire>,
}

/// A hub's key, shared with the test.
pub(super) struct KeyOf(pub(super) Arc<TestHub>);

impl Signer for KeyOf {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        self.0.signer().sign(payload)
    }

    fn signature_scheme(&self) -> SignatureScheme {
        self.0.signer().signature_scheme()
    }
}

/// Franks nothing, and takes a report's word if it has this frank: its content is sender and room, with a space between.
struct PlainFranks;

/// What [`PlainFranks`] believes.
pub(super) const BELIEVED: [u8; 32] = [7; 32];

impl Franking for PlainFranks {
    fn frank(&self, _: &[u8], _: CipherSuite, _: &[u8; 32], _: &ServerFrankingContext) -> Option<Frank> {
        None
    }

    fn recognize(&self, message: &AbusiveMessage) -> Result<ServerFrankingContext, Evidence> {
        if message.frank.server_frank != BELIEVED {
            return Err(Evidence::OtherFrank);
        }
        let claims = std::str::from_utf8(&message.message_content).map_err(|_| Evidence::NotContent)?;
        let (sender, room) = claims.split_once(' ').ok_or(Evidence::NoClaims)?;
        Ok(ServerFrankingContext {
            sender_uri: IdentifierUri::new(sender).unwrap(),
            room_uri: IdentifierUri::new(room).unwrap(),
            accepted_timestamp: message.accepted_timestamp,
        })
    }
}

/// Always the same bytes: no test of rooms depends on them.
struct Zeros;

impl Entropy for Zeros {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

/// Nobody speaks Linearized Matrix here.
struct Nobody;

#[async_trait]
impl Peers for Nobody {
    async fn call(&self, _: &ServerName, _: crate::ports::PeerRequest) -> Result<PeerResponse, PeerError> {
        Err(PeerError::Unreachable)
    }

    async fn server_keys(&self, _: &ServerName) -> Result<Bytes, PeerError> {
        Err(PeerError::Unreachable)
    }

    async fn notary_keys(
        &self,
        _: &ServerName,
        _: &BTreeMap<ServerName, BTreeMap<nabe_types::KeyId, UnixMillis>>,
    ) -> Result<Bytes, PeerError> {
        Err(PeerError::Unreachable)
    }
}

impl Providers {
    /// Running providers with these names, each with the users whose names begin like its own.
    pub(super) async fn new(names: &[&str]) -> Self {
        Self::on(Backend::Memory, names).await
    }

    pub(super) async fn on(backend: Backend, names: &[&str]) -> Self {
        let mut providers = Self {
            clock: ManualClock::new(wall_clock()),
            gather: Duration::ZERO,
            rates: RateSettings::default(),
            wire: Arc::default(),
            keys: BTreeMap::new(),
            disks: BTreeMap::new(),
        };
        for name in names {
            let key = Arc::new(TestHub::new(&format!("mimi://{}", server(name))));
            providers.keys.insert(server(name), key);
            let disk = Disk::new(backend).await;
            for user in ["alice", "adam", "bob", "ben", "cathy"]
                .into_iter()
                .filter(|user| user.starts_with(name))
            {
                let account = Write::PutAccount {
                    user: UserId::parse(&format!("@{user}:{name}.example")).unwrap(),
                    created_at: UnixMillis::ZERO,
                    token_hash: None,
                    device: None,
                };
                disk.store()
                    .commit(vec![account.into()])
                    .await
                    .unwrap()
                    .remove(0)
                    .unwrap();
            }
            providers.disks.insert(server(name), disk);
            providers.start(name);
        }
        providers
    }

    /// Starts a provider on what its store holds, in place of the one that ran.
    pub(super) fn start(&mut self, name: &str) {
        let name = server(name);
        let life = {
            let mut lives = self.wire.lives.lock().unwrap();
            let life = lives.entry(name.clone()).or_default();
            *life += 1;
            *life
        };
        let key = Arc::clone(&self.keys[&name]);
        let service = Service::start(Deps {
            store: self.disks[&name].shared(),
            peers: Arc::new(Nobody),
            clock: Arc::new(self.clock.clone()),
            entropy: Arc::new(Zeros),
            signer: Arc::new(signer(name.host().split('.').next().unwrap())),
            old_keys: BTreeMap::new(),
            settings: Settings::new(name.clone()),
            mimi: Some(MimiDeps {
                domain: name.clone(),
                peers: Arc::new(End {
                    from: name.clone(),
                    life,
                    wire: Arc::clone(&self.wire),
                }),
                hub: HubKey {
                    sender: key.sender().clone(),
                    signer: Arc::new(KeyOf(key)),
                },
                franking: Some(Arc::new(PlainFranks)),
                franking_agent: None,
                assets: None,
                settings: MimiSettings {
                    gather: self.gather,
                    rates: self.rates,
                    ..MimiSettings::default()
                },
            }),
        });
        self.wire.services.lock().unwrap().insert(name, service);
    }

    /// A crash: what runs on is cut off from the store, and another one starts on what was committed.
    pub(super) async fn crash(&mut self, name: &str) {
        let left = self.disks[&server(name)].after_crash().await;
        self.disks.insert(server(name), left);
        self.start(name);
    }

    pub(super) fn mimi(&self, name: &str) -> Mimi {
        self.wire.services.lock().unwrap()[&server(name)].mimi().unwrap()
    }

    pub(super) fn store(&self, name: &str) -> &dyn Store {
        self.disks[&server(name)].store()
    }

    /// The store of a provider that keeps it in memory.
    pub(super) fn memory(&self, name: &str) -> &MemoryStore {
        match &self.disks[&server(name)] {
            Disk::Memory(store) => store,
            Disk::Sqlite(..) => panic!("{name} keeps it on a disk"),
        }
    }

    pub(super) fn key(&self, name: &str) -> &TestHub {
        &self.keys[&server(name)]
    }

    /// Cuts a provider off, or connects it again.
    pub(super) fn set_down(&self, name: &str, is_down: bool) {
        let mut down = self.wire.down.lock().unwrap();
        match is_down {
            true => down.insert(server(name)),
            false => down.remove(&server(name)),
        };
    }

    /// Answers in place of whom a request is for, as far as there is an answer.
    pub(super) fn intercept(&self, by: impl Fn(&ServerName, &MimiRequest) -> Option<Answer> + Send + 'static) {
        *self.wire.interceptor.lock().unwrap() = Some(Box::new(by));
    }

    /// What becomes of a provider's answers from now on, when it has done what it was asked by this endpoint.
    pub(super) fn answers(&self, of: &str, endpoint: Endpoint, answers: Option<Answers>) {
        *self.wire.answers.lock().unwrap() = answers.map(|answers| (server(of), endpoint, answers));
    }

    /// The answers wait until there are permits.
    pub(super) fn hold_answers(&self, of: &str, endpoint: Endpoint) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        self.answers(of, endpoint, Some(Answers::Held(Arc::clone(&gate))));
        gate
    }

    /// What was asked of a provider by this endpoint.
    pub(super) fn made(&self, to: &str, endpoint: Endpoint) -> Vec<Made> {
        let made = self.wire.made.lock().unwrap();
        let to = server(to);
        let asked = made.iter().filter(|made| made.to == to && made.endpoint == endpoint);
        asked.cloned().collect()
    }

    /// The next answer of a gateway.
    pub(super) fn gateway_answers(&self, answer: PeerStream) {
        self.wire.gateways.lock().unwrap().answers.push_back(answer);
    }

    /// What was handed on sealed: by whom, to whose gateway.
    pub(super) fn relayed(&self) -> Vec<(ServerName, ServerName, Bytes)> {
        self.wire.gateways.lock().unwrap().asked.clone()
    }

    pub(super) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

/// An answer with this status, which says when to come again.
pub(super) fn status(status: u16, retry_after: Option<Duration>) -> Answer {
    Ok(PeerResponse {
        status,
        body: Bytes::new(),
        retry_after,
    })
}

#[async_trait]
impl MimiPeers for End {
    async fn call(&self, provider: &ServerName, request: MimiRequest) -> Answer {
        if self.wire.lives.lock().unwrap()[&self.from] != self.life {
            return Err(PeerError::Unreachable.into());
        }
        self.wire.made.lock().unwrap().push(Made {
            to: provider.clone(),
            endpoint: request.endpoint,
            body: request.body.clone(),
        });
        let intercepted = match &*self.wire.interceptor.lock().unwrap() {
            Some(intercept) => intercept(provider, &request),
            None => None,
        };
        if let Some(answer) = intercepted {
            return answer;
        }
        let is_down = |server: &ServerName| self.wire.down.lock().unwrap().contains(server);
        if is_down(provider) || is_down(&self.from) {
            return Err(PeerError::Unreachable.into());
        }
        let service = self.wire.services.lock().unwrap().get(provider).cloned();
        let service = service.ok_or(MimiPeerError::Peer(PeerError::Unresolvable))?;
        let answer = serve(&service.mimi().unwrap(), &self.from, &request).await;
        let answers = self.wire.answers.lock().unwrap().clone();
        match answers {
            Some((of, endpoint, answers)) if of == *provider && endpoint == request.endpoint => match answers {
                Answers::Held(gate) => {
                    gate.acquire().await.unwrap().forget();
                    Ok(answer)
                }
                Answers::Lost => Err(PeerError::Timeout.into()),
            },
            _ => Ok(answer),
        }
    }

    async fn open(&self, _: &ServerName, _: MimiRequest) -> Result<PeerStream, MimiPeerError> {
        Err(PeerError::Unreachable.into())
    }

    async fn ohttp(&self, provider: &ServerName, sealed: Bytes, _: Duration) -> Result<PeerStream, MimiPeerError> {
        let mut gateways = self.wire.gateways.lock().unwrap();
        gateways.asked.push((self.from.clone(), provider.clone(), sealed));
        gateways.answers.pop_front().ok_or(MimiPeerError::NoGateway)
    }
}

/// What the HTTP crate does, less everything that is about HTTP.
async fn serve(mimi: &Mimi, from: &ServerName, request: &MimiRequest) -> PeerResponse {
    let target = || MimiUri::parse(&request.target).unwrap();
    let body = &request.body;
    let answer = match request.endpoint {
        Endpoint::Update => bytes(mimi.update(from, &target(), body, read(body)).await),
        Endpoint::SubmitMessage => bytes(mimi.submit(from, &target(), read(body)).await),
        Endpoint::GroupInfo => bytes(mimi.group_info(from, &target(), read(body)).await),
        Endpoint::Notify => {
            let batch: FanoutBatch = read(body);
            let taken = mimi.notify(from, &target(), &batch, body).await;
            taken.map(|()| (201, Bytes::new()))
        }
        Endpoint::KeyMaterial => bytes(mimi.key_material(from, &target(), read(body)).await),
        Endpoint::ReportAbuse => {
            let taken = mimi.report_abuse(from, &target(), body, &read(body)).await;
            taken.map(|()| (201, Bytes::new()))
        }
        Endpoint::UpdateConsent => {
            let taken = mimi.update_consent(from, &read(body)).await;
            taken.map(|()| (201, Bytes::new()))
        }
        endpoint => panic!("nobody serves {endpoint}"),
    };
    let retry_after = match &answer {
        Err(MimiError::NotYet { retry_after } | MimiError::LimitExceeded { retry_after }) => Some(*retry_after),
        _ => None,
    };
    let (status, body) = answer.unwrap_or_else(|error| match error {
        MimiError::Unknown(_) => (404, Bytes::new()),
        MimiError::NotYet { .. } => (503, Bytes::new()),
        MimiError::LimitExceeded { .. } => (429, Bytes::new()),
        MimiError::NotTheirs { .. } | MimiError::Forbidden(_) => (403, Bytes::new()),
        _ => (500, Bytes::from(error.to_string())),
    });
    PeerResponse {
        status,
        body,
        retry_after,
    }
}

fn read<T: Message>(bytes: &Bytes) -> T {
    T::from_bytes(bytes).unwrap()
}

fn bytes<T: Encode>(answer: Result<T, MimiError>) -> Result<(u16, Bytes), MimiError> {
    answer.map(|answer| (200, answer.to_bytes().into()))
}

/// How much of what a provider's users may read of a room is there.
pub(super) async fn local_bodies(store: &dyn Store, room: &MimiUri) -> Vec<Bytes> {
    let after = nabe_types::LogPosition::ZERO;
    let messages = store.local_messages(room, after, usize::MAX, usize::MAX).await.unwrap();
    messages.into_iter().map(|message| message.body).collect()
}
