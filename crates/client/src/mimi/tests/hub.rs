//! A hub in memory, which decides as the real one does: `nabe_core`'s room, and nothing of HTTP or SQL around it. Its users are of any
//! provider, and all are told what happens as their provider would tell them. It never waits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use nabe_auth::mimi::JoinCode;
use nabe_content::mimi::Origin;
use nabe_content::mimi::franking as content;
use nabe_core::mimi::{Franking as HubFranking, KeyPackageRoute, MimiCtx, MimiOutcome, MimiRoom};
use nabe_mls::mimi::check_group_info_query;
use nabe_mls::testing::mimi::{TestHub, key_package_ref};
use nabe_mls::testing::wall_clock;
use nabe_signing::{SigningKey, sha256};
use nabe_types::{KeyId, ServerName, UnixMillis};
use nabe_wire::franking::{Frank, FrankingAgentData, ServerFrankingContext};
use nabe_wire::group_info::{GroupInfoCode, GroupInfoRequest, GroupInfoResponse};
use nabe_wire::key_material::{
    ClientKeyMaterial, ClientMaterial, KeyMaterialRequest, KeyMaterialResponse, KeyMaterialUserCode,
};
use nabe_wire::mls::{
    AppDataUpdate, CipherSuite, Credential, ExtensionType, ExternalSender, GroupInfo, KeyPackage, Proposal, RatchetTree,
};
use nabe_wire::notify::{FanoutMessage, FanoutParts};
use nabe_wire::protocol::{Body, Protocol};
use nabe_wire::report_abuse::AbuseReport;
use nabe_wire::submit_message::{SubmitMessageRequest, SubmitMessageResponse, SubmitVerdict};
use nabe_wire::update::{HandshakeBundle, HandshakeParts, UpdateRoomResponse};
use nabe_wire::uri::MimiUri;
use nabe_wire::{Encode as _, IdentifierUri, Kept, Message as _};
use ohttp::hpke::{Aead, Kdf, Kem};
use ohttp::{KeyConfig, SymmetricSuite};
use std::io::Cursor;
use std::time::Duration;

use crate::Clock;
use crate::mimi::device::identifier;
use crate::mimi::transport::{Entry, HubKeys, MimiTransport, Page};
use crate::testing::Fault;
use crate::transport::{Refusal, TransportError};

/// The hub. A clone is the same.
#[derive(Clone)]
pub(super) struct MimiHub {
    state: Arc<Mutex<State>>,
}

/// In which room, what, and who hears it.
pub(super) type Said = (MimiUri, Bytes, BTreeSet<String>);

struct State {
    key: TestHub,
    agent: Option<Agent>,
    rooms: BTreeMap<MimiUri, MimiRoom>,
    /// What happened in all rooms, and which users hear of it.
    stream: Vec<Said>,
    key_packages: BTreeMap<String, Vec<Bytes>>,
    routes: BTreeMap<Vec<u8>, KeyPackageRoute>,
    /// Answers by the request's hash.
    answered: BTreeMap<[u8; 32], Bytes>,
    codes: BTreeMap<Vec<u8>, u32>,
    shown: BTreeMap<String, JoinCode>,
    /// Users who hear nothing for now.
    held: BTreeSet<String>,
    claims: u32,
    reports: Vec<AbuseReport>,
    assets: BTreeMap<String, Vec<u8>>,
    /// How files were fetched.
    fetched: Vec<String>,
    gateway: Option<ohttp::Server>,
    /// Takes the place of the other at the next sealed request.
    newer_gateway: Option<ohttp::Server>,
    now: UnixMillis,
}

/// Franks as the real one does.
struct Agent {
    data: FrankingAgentData,
    key: SigningKey,
    keys: content::KeyRing,
}

impl HubFranking for Agent {
    fn frank(&self, _: &[u8], suite: CipherSuite, tag: &[u8; 32], context: &ServerFrankingContext) -> Option<Frank> {
        let context = content::FrankingContext {
            origin: Origin::new(&context.sender_uri, &context.room_uri).ok()?,
            accepted: UnixMillis::new(context.accepted_timestamp),
        };
        let sign = |message: &[u8]| self.key.sign(message).to_bytes().to_vec();
        let suite = content::CipherSuite(suite.0);
        let stamp = content::Frank::stamp(&self.keys, suite, &content::FrankingTag(*tag), &context, sign)?;
        Some(Frank {
            server_frank: stamp.server_frank,
            franking_signature_ciphersuite: CipherSuite(stamp.cipher_suite.0),
            franking_integrity_signature: stamp.integrity_signature.into(),
        })
    }
}

impl MimiHub {
    pub(super) fn new() -> Self {
        let hub = Self::without_franking();
        let mut keys = content::KeyRing::new();
        keys.add(UnixMillis(0), content::HubKey::from_random([2; 32]));
        let key = SigningKey::from_seed(KeyId::ed25519("frank").unwrap(), [1; 32]);
        let data = FrankingAgentData {
            franking_signature_key: key.public().to_bytes().as_slice().into(),
            credential: Credential::Basic {
                identity: b"mimi://a.example".as_slice().into(),
            },
        };
        hub.lock().agent = Some(Agent { data, key, keys });
        hub
    }

    /// The hub's franking agent says that it is this provider's.
    pub(super) fn agent_is_of(&self, provider: &str) {
        let mut state = self.lock();
        let agent = state.agent.as_mut().unwrap();
        agent.data.credential = Credential::Basic {
            identity: provider.as_bytes().into(),
        };
    }

    pub(super) fn without_franking() -> Self {
        let state = State {
            key: TestHub::new("mimi://a.example"),
            agent: None,
            rooms: BTreeMap::new(),
            stream: Vec::new(),
            key_packages: BTreeMap::new(),
            routes: BTreeMap::new(),
            answered: BTreeMap::new(),
            codes: BTreeMap::new(),
            shown: BTreeMap::new(),
            held: BTreeSet::new(),
            claims: 0,
            reports: Vec::new(),
            assets: BTreeMap::new(),
            fetched: Vec::new(),
            gateway: None,
            newer_gateway: None,
            now: wall_clock(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    pub(super) fn transport(&self, client: &str) -> Arc<Line> {
        Arc::new(Line {
            hub: self.clone(),
            client: MimiUri::parse(client).unwrap(),
            faults: Mutex::default(),
            refusals: Mutex::default(),
            canned: Mutex::default(),
            down: Mutex::default(),
            cut: Mutex::default(),
            asked: Mutex::default(),
            rate_limit: Mutex::default(),
            stands_still: Mutex::default(),
        })
    }

    pub(super) fn clock(&self) -> Clock {
        let hub = self.clone();
        Box::new(move || hub.lock().now)
    }

    pub(super) fn advance(&self, duration: Duration) {
        let mut state = self.lock();
        state.now = state.now.plus(duration);
    }

    /// The epoch and the tree hash.
    pub(super) fn epoch(&self, room: &MimiUri) -> (u64, Vec<u8>) {
        let state = self.lock();
        let group = state.rooms[room].group();
        (group.epoch(), group.tree_hash().to_vec())
    }

    pub(super) fn members(&self, room: &MimiUri) -> usize {
        self.lock().rooms[room].group().members().len()
    }

    /// Has a user hear nothing, or everything again.
    pub(super) fn hold(&self, user: &str, held: bool) {
        let mut state = self.lock();
        match held {
            true => state.held.insert(user.to_owned()),
            false => state.held.remove(user),
        };
    }

    /// Changes what was said last before anybody hears it, as a dishonest hub could.
    pub(super) fn alter_last(&self, change: impl FnOnce(&mut FanoutMessage)) {
        let mut state = self.lock();
        let (_, body, _) = state.stream.last_mut().unwrap();
        let mut fanout = FanoutMessage::from_bytes(body).unwrap();
        change(&mut fanout);
        *body = fanout.to_bytes().into();
    }

    /// Says everything again that was said in a room.
    pub(super) fn repeat_everything(&self) {
        let mut state = self.lock();
        let again = state.stream.clone();
        state.stream.extend(again);
    }

    /// Takes back what was said last, before anybody hears it.
    pub(super) fn take_last(&self) -> Said {
        self.lock().stream.pop().unwrap()
    }

    /// Says something that was taken back.
    pub(super) fn say(&self, said: Said) {
        self.lock().stream.push(said);
    }

    /// Says what was said last in another room, to those who are there.
    pub(super) fn say_in(&self, room: &MimiUri) {
        let mut state = self.lock();
        let (_, body, _) = state.stream.last().unwrap().clone();
        let audience = state.audience(room);
        state.stream.push((room.clone(), body, audience));
    }

    /// Says that the hub proposes to change a component of one room, in the log of another.
    pub(super) fn propose_elsewhere(&self, of: &MimiUri, update: AppDataUpdate, into: &MimiUri) {
        let mut state = self.lock();
        let proposal = Proposal::AppDataUpdate(update);
        let message = state.rooms[of].group().hub_proposal(proposal, state.key.signer());
        let fanout = FanoutMessage {
            timestamp: state.now.as_u64(),
            message: message.unwrap(),
            with: FanoutParts::Proposal {
                more_proposals: Vec::new(),
            },
        };
        let audience = state.audience(into);
        state.stream.push((into.clone(), fanout.to_bytes().into(), audience));
    }

    /// The hub proposes to take proposals of another provider as well.
    pub(super) fn trust(&self, room: &MimiUri, sender: ExternalSender) {
        let mut state = self.lock();
        let group = state.rooms[room].group();
        let mut extensions = group.group_info().group_context.extensions.clone();
        let list = extensions
            .iter_mut()
            .find(|extension| extension.extension_type == ExtensionType::EXTERNAL_SENDERS);
        list.unwrap().extension_data = [group.external_senders(), &[sender]].concat().to_bytes().into();
        let proposal = Proposal::GroupContextExtensions(extensions);
        let bundle = HandshakeBundle {
            proposal_or_commit: group.hub_proposal(proposal, state.key.signer()).unwrap(),
            with: HandshakeParts::Proposal {
                more_proposals: Vec::new(),
            },
        };
        let hub = ServerName::parse(room.host()).unwrap();
        let outcome = state.rooms[room].update(&hub, &bundle, &BTreeMap::new(), JoinCode::Absent, &state.ctx());
        state.apply(room, outcome.unwrap());
    }

    pub(super) fn external_senders(&self, room: &MimiUri) -> Vec<ExternalSender> {
        self.lock().rooms[room].group().external_senders().to_vec()
    }

    /// Opens an OHTTP gateway, or takes its key away for a newer one while a request is on its way.
    pub(super) fn open_gateway(&self, number: u8) {
        let suites = vec![SymmetricSuite::new(Kdf::HkdfSha256, Aead::Aes128Gcm)];
        let config = KeyConfig::derive(number, Kem::X25519Sha256, suites, &[number; 32]).unwrap();
        let gateway = ohttp::Server::new(config).unwrap();
        let mut state = self.lock();
        match state.gateway {
            None => state.gateway = Some(gateway),
            Some(_) => state.newer_gateway = Some(gateway),
        }
    }

    /// How files were fetched since it was asked last.
    pub(super) fn fetched(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().fetched)
    }

    /// Changes what is stored.
    pub(super) fn alter_assets(&self, change: impl Fn(&mut Vec<u8>)) {
        self.lock().assets.values_mut().for_each(change);
    }

    pub(super) fn accept_code(&self, code: &[u8], role: u32) {
        self.lock().codes.insert(code.to_vec(), role);
    }

    pub(super) fn drop_key_packages(&self, client: &str) {
        self.lock().key_packages.insert(client.to_owned(), Vec::new());
    }

    pub(super) fn key_packages_left(&self, client: &str) -> usize {
        self.lock().key_packages.get(client).map_or(0, Vec::len)
    }

    /// How often key packages were asked for.
    pub(super) fn claims(&self) -> u32 {
        self.lock().claims
    }

    /// What was reported, each with whether its franks are genuine.
    pub(super) fn reports(&self) -> Vec<(AbuseReport, Vec<bool>)> {
        let state = self.lock();
        let agent = state.agent.as_ref().unwrap();
        let verify = |report: &AbuseReport| {
            let check = |message: &nabe_wire::report_abuse::AbusiveMessage| {
                let stamp = content::Frank {
                    server_frank: message.frank.server_frank,
                    cipher_suite: content::CipherSuite(message.frank.franking_signature_ciphersuite.0),
                    integrity_signature: message.frank.franking_integrity_signature.to_vec(),
                };
                let accepted = UnixMillis::new(message.accepted_timestamp);
                let verify = content::ed25519(agent.key.public());
                stamp
                    .verify_report(&message.message_content, accepted, &agent.keys, verify)
                    .is_ok()
            };
            report.messages.iter().map(check).collect()
        };
        state
            .reports
            .iter()
            .map(|report| (report.clone(), verify(report)))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the hub")
    }
}

impl State {
    fn ctx(&self) -> MimiCtx<'_> {
        MimiCtx {
            now: self.now,
            signer: self.key.signer(),
            franking: self.agent.as_ref().map(|agent| agent as &dyn HubFranking),
            franking_agent: self.agent.as_ref().map(|agent| &agent.data),
            parent: None,
        }
    }

    /// Users who hear what happens in a room: participants, and who has clients in the group still.
    fn audience(&self, room: &MimiUri) -> BTreeSet<String> {
        let room = &self.rooms[room];
        let listed = room.policy().participants().iter().map(|one| one.user().to_string());
        let members = room.group().members().map(|(_, one)| one.user().to_string());
        listed.chain(members).collect()
    }

    fn apply(&mut self, room: &MimiUri, outcome: MimiOutcome) {
        let bodies: Vec<Bytes> = outcome.append.iter().map(|entry| entry.body.clone()).collect();
        let mut audience = self.audience(room);
        self.rooms.get_mut(room).unwrap().apply(outcome);
        audience.extend(self.audience(room));
        for body in bodies {
            self.stream.push((room.clone(), body, audience.clone()));
        }
    }
}

/// One client's line to the hub, by way of its provider.
pub(super) struct Line {
    hub: MimiHub,
    client: MimiUri,
    faults: Mutex<Vec<Option<Fault>>>,
    /// Whether the next requests are done before they are answered so.
    refusals: Mutex<VecDeque<(bool, u16)>>,
    /// What the next updates and messages are answered, whatever they are.
    canned: Mutex<VecDeque<Bytes>>,
    /// Rooms whose hub cannot be reached.
    down: Mutex<BTreeSet<MimiUri>>,
    /// Whether the provider itself cannot.
    cut: Mutex<bool>,
    /// How many requests there were, those for entries not counted.
    asked: Mutex<u32>,
    /// For how long the next request is to wait.
    rate_limit: Mutex<Option<Duration>>,
    /// Whether the cursor after some entries is the one before them.
    stands_still: Mutex<bool>,
}

#[derive(Debug, thiserror::Error)]
#[error("the line went dead")]
struct Dead;

impl Line {
    /// Has the next requests fail, in this order; those for entries are not counted.
    pub(super) fn fail(&self, faults: &[Fault]) {
        self.faults.lock().unwrap().extend(faults.iter().copied().map(Some));
    }

    /// Has one request fail after so many that do not.
    pub(super) fn fail_after(&self, requests: usize) {
        let mut faults = self.faults.lock().unwrap();
        faults.extend(std::iter::repeat_n(None, requests));
        faults.push(Some(Fault::RequestLost));
    }

    /// Has a request be answered with a status, although it is done or because it is not.
    pub(super) fn refuse(&self, is_done: bool, status: u16) {
        self.refusals.lock().unwrap().push_back((is_done, status));
    }

    /// Has an update or a message be answered with these bytes.
    pub(super) fn answer(&self, bytes: &[u8]) {
        self.canned.lock().unwrap().push_back(Bytes::copy_from_slice(bytes));
    }

    /// Has a room's hub be out of reach, or not.
    pub(super) fn is_down(&self, room: &MimiUri, is_down: bool) {
        let mut down = self.down.lock().unwrap();
        match is_down {
            true => down.insert(room.clone()),
            false => down.remove(room),
        };
    }

    /// Has the next request wait.
    pub(super) fn rate_limit(&self, retry_after: Duration) {
        *self.rate_limit.lock().unwrap() = Some(retry_after);
    }

    /// Has the same entries come again and again.
    pub(super) fn stand_still(&self) {
        *self.stands_still.lock().unwrap() = true;
    }

    /// Cuts the line to the provider, or mends it.
    pub(super) fn cut(&self, is_cut: bool) {
        *self.cut.lock().unwrap() = is_cut;
    }

    /// How many requests there were since this was asked last, those for entries not counted.
    pub(super) fn asked(&self) -> u32 {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn is_cut(&self) -> Result<(), TransportError> {
        match *self.cut.lock().unwrap() {
            true => Err(TransportError::Unreachable(Box::new(Dead))),
            false => Ok(()),
        }
    }

    fn of_room<T>(
        &self,
        room: &MimiUri,
        act: impl FnOnce(&mut State) -> Result<T, TransportError>,
    ) -> Result<T, TransportError> {
        if self.down.lock().unwrap().contains(room) {
            *self.asked.lock().unwrap() += 1;
            self.is_cut()?;
            return Err(no(502, "the hub cannot be reached"));
        }
        self.request(act)
    }

    fn request<T>(&self, act: impl FnOnce(&mut State) -> Result<T, TransportError>) -> Result<T, TransportError> {
        *self.asked.lock().unwrap() += 1;
        self.is_cut()?;
        if let Some(retry_after) = self.rate_limit.lock().unwrap().take() {
            return Err(TransportError::RateLimited { retry_after });
        }
        let mut faults = self.faults.lock().unwrap();
        let fault = (!faults.is_empty()).then(|| faults.remove(0)).flatten();
        drop(faults);
        let dead = || TransportError::Unreachable(Box::new(Dead));
        if fault == Some(Fault::RequestLost) {
            return Err(dead());
        }
        let refusal = match fault {
            None => self.refusals.lock().unwrap().pop_front(),
            Some(_) => None,
        };
        if let Some((is_done, status)) = refusal {
            if is_done {
                let _ = act(&mut self.hub.lock());
            }
            return Err(no(status, "no"));
        }
        let answer = act(&mut self.hub.lock());
        if fault == Some(Fault::AnswerLost) {
            return Err(dead());
        }
        answer
    }

    fn user(&self) -> String {
        crate::mimi::device::user_of(&self.client).unwrap().to_string()
    }

    fn provider(&self) -> ServerName {
        ServerName::parse(self.client.host()).unwrap()
    }
}

fn no(status: u16, message: &str) -> TransportError {
    TransportError::Refused(Refusal {
        status,
        code: "refused".to_owned(),
        message: message.to_owned(),
        current_epoch: None,
    })
}

#[async_trait]
impl MimiTransport for Line {
    async fn hub(&self, _: CipherSuite) -> Result<HubKeys, TransportError> {
        self.request(|state| {
            let franking_agent = state.agent.as_ref().map(|agent| agent.data.clone());
            Ok(HubKeys {
                sender: state.key.sender().clone(),
                franking_agent,
            })
        })
    }

    async fn upload_key_packages(
        &self,
        client: &MimiUri,
        packages: &[Bytes],
    ) -> Result<Vec<Result<(), String>>, TransportError> {
        self.request(|state| {
            let kept = state.key_packages.entry(client.to_string()).or_default();
            for package in packages {
                if !kept.contains(package) {
                    kept.push(package.clone());
                }
            }
            Ok(packages.iter().map(|_| Ok(())).collect())
        })
    }

    async fn key_packages_left(&self, client: &MimiUri, _: CipherSuite) -> Result<u64, TransportError> {
        self.request(|state| Ok(state.key_packages.get(&client.to_string()).map_or(0, Vec::len) as u64))
    }

    async fn create_room(&self, room: &MimiUri, group_info: &[u8], tree: &[u8]) -> Result<(), TransportError> {
        self.request(|state| {
            let hash = sha256(&[group_info, tree].concat());
            if state.answered.contains_key(&hash) {
                return Ok(());
            }
            if state.rooms.contains_key(room) {
                return Err(no(409, "there is such a room"));
            }
            let info = Kept::new(GroupInfo::from_bytes(group_info).unwrap());
            let tree = RatchetTree::from_bytes(tree).unwrap();
            let founded = MimiRoom::found(room, &self.provider(), state.key.sender(), &info, &tree, state.now);
            let (founded, _) = founded.map_err(|error| no(400, &error.to_string()))?;
            state.rooms.insert(room.clone(), founded);
            state.answered.insert(hash, Bytes::new());
            Ok(())
        })
    }

    async fn key_material(&self, request: &[u8]) -> Result<Bytes, TransportError> {
        let request = KeyMaterialRequest::from_bytes(request).unwrap();
        let verified = request
            .verify(crate::provider::crypto())
            .expect("the request is signed");
        self.request(|state| {
            let room = MimiUri::parse(&verified.tbs.room_id).expect("it says for which room");
            assert!(state.rooms.contains_key(&room), "{room}");
            state.claims += 1;
            let target = verified.tbs.target_user.clone();
            let user = MimiUri::parse(&target).unwrap();
            let prefix = format!("mimi://{}/d/{}/", user.host(), user.name());
            let mut clients = Vec::new();
            for (client, packages) in &mut state.key_packages {
                if !client.starts_with(&prefix) {
                    continue;
                }
                let material = match packages.pop() {
                    Some(package) => {
                        let route = KeyPackageRoute {
                            provider: ServerName::parse(user.host()).unwrap(),
                            user: user.clone(),
                            client: MimiUri::parse(client).unwrap(),
                        };
                        state.routes.insert(key_package_ref(&package), route);
                        let package = KeyPackage::from_bytes(&package).unwrap();
                        ClientMaterial::KeyPackage(Box::new(Kept::new(package)))
                    }
                    None => ClientMaterial::Exhausted,
                };
                clients.push(ClientKeyMaterial {
                    client_uri: IdentifierUri::new(client.clone()).unwrap(),
                    material,
                });
            }
            let has = |one: &ClientKeyMaterial| matches!(one.material, ClientMaterial::KeyPackage(_));
            let user_status = match (clients.is_empty(), clients.iter().all(has), clients.iter().any(has)) {
                (true, ..) => KeyMaterialUserCode::USER_UNKNOWN,
                (_, true, _) => KeyMaterialUserCode::SUCCESS,
                (_, _, true) => KeyMaterialUserCode::PARTIAL_SUCCESS,
                _ => KeyMaterialUserCode::NO_COMPATIBLE_MATERIAL,
            };
            let response = KeyMaterialResponse {
                protocol: Protocol::MLS10,
                user_status,
                user_uri: target,
                clients,
            };
            Ok(response.to_bytes().into())
        })
    }

    async fn update(&self, room: &MimiUri, request: &[u8]) -> Result<Bytes, TransportError> {
        let canned = self.canned.lock().unwrap().pop_front();
        if let Some(canned) = canned {
            return Ok(canned);
        }
        let bundle = HandshakeBundle::from_bytes(request).unwrap();
        let hash = sha256(request);
        self.of_room(room, |state| {
            if let Some(answer) = state.answered.get(&hash) {
                return Ok(answer.clone());
            }
            let known = state.rooms.get(room).ok_or_else(|| no(404, "no such room"))?;
            let code = state.shown.get(&self.client.to_string()).copied();
            let code = code.unwrap_or(JoinCode::Absent);
            let decided = known.update(&self.provider(), &bundle, &state.routes, code, &state.ctx());
            let answer = match decided {
                Ok(outcome) => {
                    let accepted = outcome.accepted.as_u64();
                    state.apply(room, outcome);
                    UpdateRoomResponse::success(accepted)
                }
                Err(refusal) => refusal.response(known.group().epoch()).unwrap(),
            };
            let answer: Bytes = answer.to_bytes().into();
            state.answered.insert(hash, answer.clone());
            Ok(answer)
        })
    }

    async fn submit(&self, room: &MimiUri, request: &[u8]) -> Result<Bytes, TransportError> {
        let canned = self.canned.lock().unwrap().pop_front();
        if let Some(canned) = canned {
            return Ok(canned);
        }
        let hash = sha256(request);
        let request = SubmitMessageRequest::from_bytes(request).unwrap();
        let Body::Mls10(submission) = request.body else {
            panic!("MLS 1.0");
        };
        self.of_room(room, |state| {
            if let Some(answer) = state.answered.get(&hash) {
                return Ok(answer.clone());
            }
            // No two messages are of one time, so that their order does not depend on their IDs.
            state.now = state.now.plus(Duration::from_millis(1));
            let known = state.rooms.get(room).ok_or_else(|| no(404, "no such room"))?;
            let verdict = match known.submit(&self.provider(), &submission, &state.ctx()) {
                Ok(submitted) => {
                    state.apply(room, submitted.outcome);
                    SubmitVerdict::Accepted(submitted.acceptance)
                }
                Err(refusal) => refusal.verdict(known.group().epoch()),
            };
            let answer: Bytes = SubmitMessageResponse::from(verdict).to_bytes().into();
            state.answered.insert(hash, answer.clone());
            Ok(answer)
        })
    }

    async fn group_info(&self, room: &MimiUri, request: &[u8]) -> Result<Bytes, TransportError> {
        let request = GroupInfoRequest::from_bytes(request).unwrap();
        let Body::Mls10(query) = request.body else {
            panic!("MLS 1.0");
        };
        self.of_room(room, |state| {
            let refused = |code| Ok(GroupInfoResponse::refused(identifier(room), code).to_bytes().into());
            let Some(known) = state.rooms.get(room) else {
                return refused(GroupInfoCode::NO_SUCH_ROOM);
            };
            let code = match (query.joining_code.is_empty(), state.codes.get(&query.joining_code.0)) {
                (true, _) => JoinCode::Absent,
                (_, Some(role)) => JoinCode::For(*role),
                _ => JoinCode::Unknown,
            };
            let query = check_group_info_query(query).expect("the query is signed");
            match known.group_info(&self.provider(), &query, code, &state.ctx()) {
                Ok(answer) => {
                    state.shown.insert(self.client.to_string(), code);
                    Ok(answer.to_bytes().into())
                }
                Err(_) => refused(GroupInfoCode::NOT_AUTHORIZED),
            }
        })
    }

    async fn report_abuse(&self, _: &MimiUri, report: &[u8]) -> Result<(), TransportError> {
        let report = AbuseReport::from_bytes(report).unwrap();
        self.request(|state| {
            state.reports.push(report);
            Ok(())
        })
    }

    async fn upload_asset(&self, file: Bytes) -> Result<String, TransportError> {
        self.request(|state| {
            let url = format!("https://files.example/{}", state.assets.len());
            state.assets.insert(url.clone(), file.to_vec());
            Ok(url)
        })
    }

    async fn download(&self, _: &MimiUri, url: &str) -> Result<Bytes, TransportError> {
        self.request(|state| {
            state.fetched.push(format!("proxy {url}"));
            let file = state.assets.get(url).cloned();
            file.map(Bytes::from).ok_or_else(|| no(404, "no such file"))
        })
    }

    async fn ohttp_keys(&self, provider: &str) -> Result<Bytes, TransportError> {
        self.request(|state| {
            state.fetched.push(format!("keys of {provider}"));
            let gateway = state.gateway.as_ref().ok_or_else(|| no(404, "no gateway"))?;
            Ok(KeyConfig::encode_list(&[gateway.config()]).unwrap().into())
        })
    }

    async fn ohttp(&self, _: &str, sealed: Bytes) -> Result<Bytes, TransportError> {
        self.request(|state| {
            let gateway = state.gateway.as_ref().ok_or_else(|| no(404, "no gateway"))?;
            if let Some(newer) = state.newer_gateway.take() {
                state.gateway = Some(newer);
                return Err(no(409, "another key"));
            }
            let (request, sealer) = gateway.decapsulate(&sealed).map_err(|_| no(409, "another key"))?;
            let request = bhttp::Message::read_bhttp(&mut Cursor::new(&request)).unwrap();
            let control = request.control();
            let part = |part: Option<&[u8]>| String::from_utf8(part.unwrap().to_vec()).unwrap();
            let url = format!("https://{}{}", part(control.authority()), part(control.path()));
            state.fetched.push(format!("oblivious {url}"));
            let file = state.assets.get(&url);
            let status = bhttp::StatusCode::try_from(if file.is_some() { 200_u16 } else { 404 }).unwrap();
            let mut answer = bhttp::Message::response(status);
            answer.write_content(file.cloned().unwrap_or_default());
            let mut bytes = Vec::new();
            answer.write_bhttp(bhttp::Mode::KnownLength, &mut bytes).unwrap();
            Ok(sealer.encapsulate(&bytes).unwrap().into())
        })
    }

    async fn download_directly(&self, url: &str) -> Result<Bytes, TransportError> {
        self.request(|state| {
            state.fetched.push(format!("direct {url}"));
            let file = state.assets.get(url).cloned();
            file.map(Bytes::from).ok_or_else(|| no(404, "no such file"))
        })
    }

    async fn entries(&self, after: Option<&str>, _: Duration) -> Result<Page, TransportError> {
        self.is_cut()?;
        let state = self.hub.lock();
        let end = state.stream.len();
        let start = after.map_or(end, |after| after.parse().unwrap());
        let user = self.user();
        if state.held.contains(&user) {
            return Ok(Page {
                entries: Vec::new(),
                cursor: start.to_string(),
            });
        }
        let entries = state.stream.iter().enumerate().skip(start);
        let entries = entries
            .filter(|(_, (_, _, users))| users.contains(&user))
            .map(|(at, (room, body, _))| Entry {
                cursor: (at + 1).to_string(),
                room: room.clone(),
                message: body.clone(),
            });
        if *self.stands_still.lock().unwrap() {
            let still = |entry: Entry| Entry {
                cursor: start.to_string(),
                ..entry
            };
            return Ok(Page {
                entries: entries.map(still).collect(),
                cursor: start.to_string(),
            });
        }
        Ok(Page {
            entries: entries.collect(),
            cursor: end.to_string(),
        })
    }
}
