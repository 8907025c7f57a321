//! The draft's story (MIMI #example-protocol-flow) as its hub lives through it, and what it refuses. After every step the room is
//! restored from what was stored, and has to be the same.

mod keys;
mod refusals;
mod senders;
mod story;

use std::collections::BTreeMap;

use nabe_auth::mimi::{JoinCode, templates};
use nabe_mls::testing::mimi::*;
use nabe_mls::testing::wall_clock;
use nabe_wire::Message as _;
use nabe_wire::franking::FrankingAgentData;
use nabe_wire::mls::{ComponentId, Credential, MlsMessage, MlsMessageBody, PrivateMessage};
use nabe_wire::notify::{FanoutMessage, FanoutParts};
use nabe_wire::participant_list::{ParticipantListData, UserRolePair};
use nabe_wire::submit_message::Submission;
use nabe_wire::update::{HandshakeBundle, HandshakeParts};
use nabe_wire::{Encode as _, Kept};

use super::*;

const ALICE: &str = "mimi://a.example/u/alice";
const BOB: &str = "mimi://b.example/u/bob";
const CATHY: &str = "mimi://c.example/u/cathy";
const DAVE: &str = "mimi://d.example/u/dave";
const HALL: &str = "mimi://a.example/r/hall";

/// A hub at `a.example` with one room, its members by name, and its database.
struct Hub {
    key: TestHub,
    room: MimiRoom,
    members: BTreeMap<&'static str, MimiMember>,
    routes: BTreeMap<Vec<u8>, KeyPackageRoute>,
    log: Vec<MimiEntry>,
    changes: Vec<GroupChange>,
    followers: Vec<FollowerChange>,
    left_over: Bytes,
    parent: Option<policy::Room>,
    agent: FrankingAgentData,
    now: UnixMillis,
}

/// The hub's agent.
fn agent() -> FrankingAgentData {
    FrankingAgentData {
        franking_signature_key: b"key".as_slice().into(),
        credential: Credential::Basic {
            identity: b"mimi://a.example".as_slice().into(),
        },
    }
}

/// A key for franks, of which only the presence counts here.
struct Stamp;

impl Franking for Stamp {
    fn frank(&self, agent: &[u8], suite: CipherSuite, tag: &[u8; 32], _: &ServerFrankingContext) -> Option<Frank> {
        Some(Frank {
            server_frank: *tag,
            franking_signature_ciphersuite: suite,
            franking_integrity_signature: agent.into(),
        })
    }
}

impl Hub {
    /// Alice makes a room in which everyone may add people, and is alone.
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(adjust: impl FnOnce(&mut RoomDraft)) -> Self {
        Self::by(MimiDevice::clone, adjust)
    }

    /// Alice's client puts something else into its leaf.
    fn by(disguise: impl FnOnce(&MimiDevice) -> MimiDevice, adjust: impl FnOnce(&mut RoomDraft)) -> Self {
        let key = TestHub::new("mimi://a.example");
        let device = MimiDevice::new("mimi://a.example/d/alice/A");
        let mut draft = RoomDraft::new(&device, &key);
        let list = ParticipantListData {
            participants: vec![UserRolePair {
                user: uri(ALICE),
                role_index: templates::SUPER_ADMIN,
            }],
        };
        for entry in templates::cooperative("a.example").dictionary(&list).entries() {
            draft.set(entry.component_id, entry.data.to_vec());
        }
        adjust(&mut draft);
        let alice = disguise(&device).create_room_with(&draft);
        let (info, tree) = alice.hand_over();
        let room = MimiUri::parse(ROOM).unwrap();
        let now = wall_clock();
        let (room, outcome) = MimiRoom::found(&room, &server("a"), key.sender(), &info, &tree, now).unwrap();
        Self {
            key,
            room,
            members: [("alice", alice)].into(),
            routes: BTreeMap::new(),
            log: outcome.append,
            changes: outcome.group,
            followers: Vec::new(),
            left_over: Bytes::new(),
            parent: None,
            agent: agent(),
            now,
        }
    }

    /// As before; participants have to take part in a parent room too, in which these do.
    fn of_parent(users: &[&str]) -> Self {
        let mut template = templates::cooperative("a.example");
        let pair = |name: &&str| UserRolePair {
            user: uri(name),
            role_index: templates::ORDINARY_USER,
        };
        let list = ParticipantListData {
            participants: users.iter().map(pair).collect(),
        };
        let hall = policy::Room::load(uri(HALL), &template.dictionary(&list), []).unwrap();
        template.base.parent_dependant = true;
        template.base.parent_room = vec![nabe_wire::uri::Uri::new(HALL).unwrap()];
        let mut hub = Self::with(|draft| draft.set(ComponentId::BASE_ROOM_POLICY, template.base.to_bytes()));
        hub.parent = Some(hall);
        hub
    }

    /// Alice, Bob and Cathy, each of a provider of their own.
    fn of_three() -> Self {
        let mut hub = Self::new();
        hub.add(
            "alice",
            "bob",
            "mimi://b.example/d/bob/B",
            &[(BOB, templates::ORDINARY_USER)],
        );
        hub.add(
            "bob",
            "cathy",
            "mimi://c.example/d/cathy/C",
            &[(CATHY, templates::ORDINARY_USER)],
        );
        hub
    }

    fn member(&mut self, name: &str) -> &mut MimiMember {
        self.members.get_mut(name).unwrap()
    }

    fn ctx(&self) -> MimiCtx<'_> {
        MimiCtx {
            now: self.now,
            signer: self.key.signer(),
            franking: Some(&Stamp),
            franking_agent: Some(&self.agent),
            parent: self.parent.as_ref(),
        }
    }

    fn try_update(&self, from: &str, bundle: &HandshakeBundle) -> Result<MimiOutcome, UpdateRefusal> {
        self.room
            .update(&server(from), bundle, &self.routes, JoinCode::Absent, &self.ctx())
    }

    /// Stores an outcome and takes it in; what was appended.
    fn accept(&mut self, outcome: MimiOutcome) -> Vec<MimiEntry> {
        let appended = outcome.append.clone();
        self.log.extend(outcome.append.iter().cloned());
        self.changes.extend(outcome.group.iter().cloned());
        self.followers.extend(outcome.followers.iter().cloned());
        if let Some(left_over) = &outcome.left_over {
            self.left_over = left_over.clone();
        }
        self.room.apply(outcome);
        self.is_the_same_when_restored();
        appended
    }

    fn update(&mut self, from: &str, bundle: &HandshakeBundle) -> Vec<MimiEntry> {
        let outcome = self.try_update(from, bundle).unwrap();
        self.accept(outcome)
    }

    /// The commit is accepted, and all members are told.
    fn commit(&mut self, from: &str, committer: &str, bundle: &TestBundle) -> Vec<MimiEntry> {
        let appended = self.update(from, &bundle_of(bundle));
        for (name, member) in &mut self.members {
            if *name == committer {
                member.merge();
            } else if self.room.group.member_at(member.leaf()).is_some() {
                member.process(&bundle.commit);
            }
        }
        appended
    }

    /// A client is added by somebody's commit, and joins by what its provider is sent.
    fn add(&mut self, adder: &str, name: &'static str, client: &str, users: &[(&str, u32)]) -> Vec<MimiEntry> {
        let device = MimiDevice::new(client);
        let package = device.key_package();
        self.fetched(&package, client);
        let change = Change {
            add: vec![package],
            updates: (!users.is_empty())
                .then(|| add_participants(users))
                .into_iter()
                .collect(),
            ..Change::default()
        };
        let bundle = self.member(adder).commit(change);
        let from = host_of(adder);
        let appended = self.commit(from, adder, &bundle);
        let provider = MimiUri::parse(client).unwrap().host().to_owned();
        let welcome = appended
            .iter()
            .find(|entry| entry.kind == MimiEntryKind::Welcome)
            .unwrap();
        assert!(welcome.is_for(&ServerName::parse(&provider).unwrap()));
        let FanoutMessage { message, with, .. } = FanoutMessage::from_bytes(&welcome.body).unwrap();
        let (MlsMessageBody::Welcome(welcome), FanoutParts::Welcome { ratchet_tree_option }) =
            (message.into_value().body, with)
        else {
            panic!("a Welcome");
        };
        self.members.insert(name, device.join(&welcome, &ratchet_tree_option));
        appended
    }

    /// A key package was fetched through the hub.
    fn fetched(&mut self, package: &[u8], client: &str) {
        let client = MimiUri::parse(client).unwrap();
        let user = client.name().split_once('/').unwrap().0;
        let route = KeyPackageRoute {
            provider: ServerName::parse(client.host()).unwrap(),
            user: MimiUri::parse(&format!("mimi://{}/u/{user}", client.host())).unwrap(),
            client,
        };
        self.routes.insert(key_package_ref(package), route);
    }

    /// What the database holds makes the room that lives in memory.
    fn is_the_same_when_restored(&self) {
        let of_epoch = self.log.iter().rposition(|entry| entry.kind == MimiEntryKind::Commit);
        let since = &self.log[of_epoch.unwrap_or_default()..];
        let is_proposal = |entry: &&MimiEntry| entry.kind == MimiEntryKind::Proposal;
        let stored = StoredMimiRoom {
            uri: self.room.uri.clone(),
            created_at: self.log[0].accepted,
            group: StoredGroup {
                checkpoint: None,
                changes: self.changes.clone(),
                newest: None,
            },
            left_over: self.left_over.clone(),
            proposals: since.iter().filter(is_proposal).cloned().collect(),
            position: self.room.position,
            newest: self.room.newest,
        };
        let restored = MimiRoom::restore(stored, &self.room.server).unwrap();
        assert_eq!(restored.group, self.room.group);
        assert_eq!(restored.reach, self.room.reach);
        assert_eq!(restored.pending, self.room.pending);
        let (theirs, ours) = (restored.policy(), self.room.policy());
        assert_eq!(theirs.effective_list(), ours.effective_list());
        assert!(theirs.accepted().eq(ours.accepted()));
        assert_eq!(theirs.left_over(), ours.left_over());
        assert_eq!(restored.position, self.log.last().unwrap().position);
    }
}

fn uri(uri: &str) -> IdentifierUri {
    IdentifierUri::new(uri).unwrap()
}

fn server(letter: &str) -> ServerName {
    ServerName::parse(&format!("{letter}.example")).unwrap()
}

fn submission(message: PrivateMessage, sender: &str) -> Submission {
    Submission {
        app_message: Kept::new(MlsMessage {
            body: MlsMessageBody::Private(message),
        }),
        sending_uri: uri(sender),
    }
}

fn host_of(name: &str) -> &str {
    &name[..1]
}

fn bundle_of(bundle: &TestBundle) -> HandshakeBundle {
    HandshakeBundle {
        proposal_or_commit: bundle.commit.clone(),
        with: HandshakeParts::Commit(Box::new(bundle.parts.clone())),
    }
}

fn proposals(messages: &[Kept<MlsMessage>]) -> HandshakeBundle {
    HandshakeBundle {
        proposal_or_commit: messages[0].clone(),
        with: HandshakeParts::Proposal {
            more_proposals: messages[1..].to_vec(),
        },
    }
}

fn fanned_out(entry: &MimiEntry) -> FanoutMessage {
    FanoutMessage::from_bytes(&entry.body).unwrap()
}

fn kinds(entries: &[MimiEntry]) -> Vec<MimiEntryKind> {
    entries.iter().map(|entry| entry.kind).collect()
}
