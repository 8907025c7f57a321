//! Providers in one process whose users have to do with each other: a wire that carries what this half of MIMI asks, and that a test can
//! listen on and talk into. The clock stands still until a test advances it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use nabe_auth::mimi::templates;
use nabe_core::mimi::MimiUri;
use nabe_mls::testing::mimi::{MimiDevice, RoomDraft, TestHub, metadata};
use nabe_mls::testing::wall_clock;
use nabe_store::{ConsentScope, MemoryStore, Store as _, Write};
use nabe_types::{KeyId, ServerName, UnixMillis, UserId};
use nabe_wire::consent::{ConsentAction, ConsentEntry, ConsentScope as WireScope};
use nabe_wire::directory::Endpoint;
use nabe_wire::mls::ComponentId;
use nabe_wire::participant_list::{ParticipantListData, UserRolePair};
use nabe_wire::{Encode as _, IdentifierUri, Message};

use super::{Mimi, MimiError, UserSettings};
use crate::client::testing::{server, signer};
use crate::mimi::testing::KeyOf;
use crate::mimi::{HubKey, MimiDeps, MimiSettings};
use crate::ports::mimi::{MimiPeerError, MimiPeers, MimiRequest};
use crate::ports::{ManualClock, PeerError, PeerRequest, PeerResponse, PeerStream, Peers, SystemEntropy};
use crate::{Deps, Service, Settings};

pub(in crate::mimi) const ALICE: &str = "mimi://a.example/u/alice";
pub(in crate::mimi) const BOB: &str = "mimi://b.example/u/bob";
pub(in crate::mimi) const NOBODY: &str = "mimi://b.example/u/nobody";
/// Rooms of `a.example` where Alice, Ann, Bob and Cathy may add people, and one of `c.example` where Cathy and Alice may.
pub(in crate::mimi) const ROOM: &str = "mimi://a.example/r/clubhouse";
pub(in crate::mimi) const OTHER_ROOM: &str = "mimi://a.example/r/other";
pub(in crate::mimi) const ROOM_OF_C: &str = "mimi://c.example/r/club";

type Interceptor = Box<dyn Fn(&ServerName, &MimiRequest) -> Option<PeerResponse> + Send>;

/// Providers `a.example`, `b.example` and `c.example`, with `alice`, `bob` and `cathy` in this order.
pub(in crate::mimi) struct Providers {
    pub(in crate::mimi) clock: ManualClock,
    wire: Arc<Wire>,
    stores: BTreeMap<ServerName, MemoryStore>,
    hubs: BTreeMap<ServerName, Arc<TestHub>>,
}

#[derive(Default)]
struct Wire {
    services: Mutex<BTreeMap<ServerName, Service>>,
    made: Mutex<Vec<(ServerName, ServerName, Endpoint)>>,
    interceptor: Mutex<Option<Interceptor>>,
}

/// One provider's end of the wire.
struct End {
    from: ServerName,
    wire: Arc<Wire>,
}

/// Nobody speaks Linearized Matrix here.
struct Silence;

#[async_trait]
impl Peers for Silence {
    async fn call(&self, _: &ServerName, _: PeerRequest) -> Result<PeerResponse, PeerError> {
        Err(PeerError::Unreachable)
    }

    async fn server_keys(&self, _: &ServerName) -> Result<Bytes, PeerError> {
        Err(PeerError::Unreachable)
    }

    async fn notary_keys(
        &self,
        _: &ServerName,
        _: &BTreeMap<ServerName, BTreeMap<KeyId, UnixMillis>>,
    ) -> Result<Bytes, PeerError> {
        Err(PeerError::Unreachable)
    }
}

impl Providers {
    pub(in crate::mimi) async fn new() -> Self {
        Self::with(UserSettings::default()).await
    }

    pub(in crate::mimi) async fn with(users: UserSettings) -> Self {
        let mut providers = Self {
            clock: ManualClock::new(wall_clock()),
            wire: Arc::default(),
            stores: BTreeMap::new(),
            hubs: BTreeMap::new(),
        };
        for (name, user) in [("a", "alice"), ("b", "bob"), ("c", "cathy")] {
            let store = MemoryStore::new();
            let account = Write::PutAccount {
                user: UserId::parse(&format!("@{user}:{name}.example")).unwrap(),
                created_at: UnixMillis::ZERO,
                token_hash: None,
                device: None,
            };
            store.commit(vec![account.into()]).await.unwrap().remove(0).unwrap();
            providers.stores.insert(server(name), store);
            let key = TestHub::new(&format!("mimi://{}", server(name)));
            providers.hubs.insert(server(name), Arc::new(key));
            providers.start(name, users);
        }
        let cathy = "mimi://c.example/u/cathy";
        for room in [ROOM, OTHER_ROOM] {
            let others = ["mimi://a.example/u/ann", BOB, cathy];
            providers.founds("mimi://a.example/d/alice/laptop", room, &others).await;
        }
        providers
            .founds("mimi://c.example/d/cathy/C", ROOM_OF_C, &[ALICE])
            .await;
        providers
    }

    /// A client has founded a room of its provider, for its user and others, who may all add people.
    async fn founds(&self, client: &str, room: &str, others: &[&str]) {
        let device = MimiDevice::new(client);
        let creator = uri(&device.user());
        let mut draft = RoomDraft::new(&device, &self.hubs[&ServerName::parse(creator.host()).unwrap()]);
        let of = |user: &str, role_index| UserRolePair {
            user: IdentifierUri::new(user).unwrap(),
            role_index,
        };
        let admin = of(&device.user(), templates::SUPER_ADMIN);
        let others = others.iter().map(|user| of(user, templates::ORDINARY_USER));
        let list = ParticipantListData {
            participants: std::iter::once(admin).chain(others).collect(),
        };
        for entry in templates::cooperative(creator.host()).dictionary(&list).entries() {
            draft.set(entry.component_id, entry.data.to_vec());
        }
        draft.set(ComponentId::ROOM_METADATA, metadata(room, "Room"));
        let (info, tree) = device.create_room_with(&draft).hand_over();
        let name = creator.host().strip_suffix(".example").unwrap();
        let mimi = self.mimi(name);
        mimi.create_room(&creator, &uri(room), info, tree).await.unwrap();
    }

    /// Starts a provider on what its store holds, in place of the one that ran.
    pub(in crate::mimi) fn start(&mut self, name: &str, users: UserSettings) {
        let domain = server(name);
        let key = Arc::clone(&self.hubs[&domain]);
        let service = Service::start(Deps {
            store: Arc::new(self.stores[&domain].clone()),
            peers: Arc::new(Silence),
            clock: Arc::new(self.clock.clone()),
            entropy: Arc::new(SystemEntropy),
            signer: Arc::new(signer(name)),
            old_keys: BTreeMap::new(),
            settings: Settings::new(domain.clone()),
            mimi: Some(MimiDeps {
                domain: domain.clone(),
                peers: Arc::new(End {
                    from: domain.clone(),
                    wire: Arc::clone(&self.wire),
                }),
                hub: HubKey {
                    sender: key.sender().clone(),
                    signer: Arc::new(KeyOf(key)),
                },
                franking: None,
                franking_agent: None,
                assets: None,
                settings: MimiSettings {
                    users,
                    ..MimiSettings::default()
                },
            }),
        });
        self.wire.services.lock().unwrap().insert(domain, service);
    }

    /// A crash: another one starts on what was committed.
    pub(in crate::mimi) fn crash(&mut self, name: &str) {
        let snapshot = self.store(name).snapshot();
        self.stores.insert(server(name), snapshot);
        self.start(name, UserSettings::default());
    }

    pub(in crate::mimi) fn mimi(&self, name: &str) -> Mimi {
        self.wire.services.lock().unwrap()[&server(name)].mimi().unwrap()
    }

    pub(in crate::mimi) fn store(&self, name: &str) -> &MemoryStore {
        &self.stores[&server(name)]
    }

    /// Answers in place of whom a request is for, as far as there is an answer.
    pub(in crate::mimi) fn intercept(
        &self,
        by: impl Fn(&ServerName, &MimiRequest) -> Option<PeerResponse> + Send + 'static,
    ) {
        *self.wire.interceptor.lock().unwrap() = Some(Box::new(by));
    }

    /// Who asked whom by which endpoint so far.
    pub(in crate::mimi) fn made(&self) -> Vec<(ServerName, ServerName, Endpoint)> {
        self.wire.made.lock().unwrap().clone()
    }

    /// The client has uploaded so many key packages to its provider.
    pub(in crate::mimi) async fn upload(&self, device: &MimiDevice, client: &str, count: usize) {
        let packages = (0..count).map(|_| Bytes::from(device.key_package())).collect();
        let client = uri(client);
        let (owner, _) = client.name().split_once('/').unwrap();
        let user = uri(&format!("mimi://{}/u/{owner}", client.host()));
        let name = client.host().strip_suffix(".example").unwrap();
        let answers = self.mimi(name).upload_key_packages(&user, &client, packages).await;
        assert!(answers.unwrap().iter().all(Result::is_ok));
    }

    /// Bob has granted consent in this scope.
    pub(in crate::mimi) async fn bob_grants(&self, requester: &str, room: Option<&str>) {
        let entry = entry(
            ConsentAction::Grant {
                client_key_packages: Vec::new(),
            },
            requester,
            BOB,
            room,
        );
        self.mimi("b").update_consent(&server("b"), &entry).await.unwrap();
    }
}

pub(in crate::mimi) fn uri(text: &str) -> MimiUri {
    MimiUri::parse(text).unwrap()
}

pub(in crate::mimi) fn scope(requester: &str, target: &str, room: Option<&str>) -> ConsentScope {
    ConsentScope {
        requester: uri(requester),
        target: uri(target),
        room: room.map(uri),
    }
}

pub(in crate::mimi) fn entry(
    operation: ConsentAction,
    requester: &str,
    target: &str,
    room: Option<&str>,
) -> ConsentEntry {
    let uri = |text: &str| IdentifierUri::new(text).unwrap();
    ConsentEntry {
        operation,
        scope: WireScope {
            requester_uri: uri(requester),
            target_uri: uri(target),
            room_id: room.map(uri),
        },
        consent_extensions: Default::default(),
    }
}

#[async_trait]
impl MimiPeers for End {
    async fn call(&self, provider: &ServerName, request: MimiRequest) -> Result<PeerResponse, MimiPeerError> {
        let made = (self.from.clone(), provider.clone(), request.endpoint);
        self.wire.made.lock().unwrap().push(made);
        let intercepted = match &*self.wire.interceptor.lock().unwrap() {
            Some(intercept) => intercept(provider, &request),
            None => None,
        };
        if let Some(answer) = intercepted {
            return Ok(answer);
        }
        let service = self.wire.services.lock().unwrap().get(provider).cloned();
        let service = service.ok_or(MimiPeerError::Peer(PeerError::Unresolvable))?;
        let answer = serve(&service.mimi().unwrap(), &self.from, &request).await;
        let (status, body) = answer.unwrap_or_else(|error| match error {
            MimiError::Unknown(_) => (404, Bytes::new()),
            MimiError::NotTheirs { .. } | MimiError::Forbidden(_) => (403, Bytes::new()),
            MimiError::Invalid { .. } => (400, Bytes::new()),
            other => panic!("{other}"),
        });
        Ok(response(status, body))
    }

    async fn open(&self, _: &ServerName, _: MimiRequest) -> Result<PeerStream, MimiPeerError> {
        Err(PeerError::Unreachable.into())
    }
}

pub(in crate::mimi) fn response(status: u16, body: Bytes) -> PeerResponse {
    PeerResponse {
        status,
        body,
        retry_after: None,
    }
}

/// What the HTTP crate does, less everything that is about HTTP.
async fn serve(mimi: &Mimi, from: &ServerName, request: &MimiRequest) -> Result<(u16, Bytes), MimiError> {
    let taken = (201, Bytes::new());
    match request.endpoint {
        Endpoint::KeyMaterial => {
            let answer = mimi
                .key_material(from, &uri(&request.target), read(&request.body))
                .await?;
            Ok((200, answer.to_bytes().into()))
        }
        Endpoint::IdentifierQuery => {
            let domain = ServerName::parse(&request.target).unwrap();
            let answer = mimi.find(from, &domain, &read(&request.body)).await?;
            Ok((200, answer.to_bytes().into()))
        }
        Endpoint::RequestConsent => mimi.request_consent(from, &read(&request.body)).await.map(|()| taken),
        Endpoint::UpdateConsent => mimi.update_consent(from, &read(&request.body)).await.map(|()| taken),
        endpoint => panic!("nobody serves {endpoint}"),
    }
}

fn read<T: Message>(bytes: &Bytes) -> T {
    T::from_bytes(bytes).unwrap()
}
