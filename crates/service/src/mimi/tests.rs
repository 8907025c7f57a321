//! The hub and its followers with real clients: the draft's story (MIMI #example-protocol-flow), what comes twice, and followers that fail.

mod base_policy;
mod follow;
mod hub;
mod join_links;
mod notify;
mod rates;
mod relay;
mod report;
mod story;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use nabe_auth::mimi::templates;
use nabe_core::mimi::{KeyPackageRoute, MimiUri};
use nabe_mls::testing::mimi::*;
use nabe_store::{FetchedKeyPackage, MimiWrite, Write};
use nabe_types::{ServerName, UnixMillis};
use nabe_wire::consent::ConsentAction;
use nabe_wire::key_material::ClientMaterial;
use nabe_wire::mls::{AppDataUpdate, ComponentId, MlsMessage, MlsMessageBody, PrivateMessage, RequiredCapabilities};
use nabe_wire::notify::{FanoutMessage, FanoutParts};
use nabe_wire::participant_list::{ParticipantListData, UserRolePair};
use nabe_wire::submit_message::{Acceptance, Submission, SubmitMessageRequest, SubmitMessageResponse, SubmitVerdict};
use nabe_wire::update::{HandshakeBundle, HandshakeParts, UpdateRoomResponse, UpdateVerdict};
use nabe_wire::{Encode as _, IdentifierUri, Kept, Message as _};

use super::testing::{Backend, Providers, local_bodies};
use super::users::testing::entry;
use crate::client::testing::{eventually, server};

const ALICE: &str = "mimi://a.example/u/alice";
const BOB: &str = "mimi://b.example/u/bob";
const CATHY: &str = "mimi://c.example/u/cathy";

/// A room at `a.example`, the providers of its members, and their clients by name. A name's first letter is that of its provider.
struct Room {
    providers: Providers,
    uri: MimiUri,
    clients: BTreeMap<&'static str, Client>,
}

/// A client, and how far it has read what its provider has for it.
struct Client {
    member: MimiMember,
    read: usize,
    /// What it sent itself and takes in when it is accepted.
    own: BTreeSet<Vec<u8>>,
    heard: Vec<String>,
}

impl Client {
    fn new(member: MimiMember, read: usize) -> Self {
        Self {
            member,
            read,
            own: BTreeSet::new(),
            heard: Vec::new(),
        }
    }
}

fn provider_of(name: &str) -> &'static str {
    match name.as_bytes()[0] {
        b'a' => "a",
        b'b' => "b",
        b'c' => "c",
        _ => "d",
    }
}

/// Whose client this is: `cathy 2` is one of Cathy's.
fn user_of(name: &str) -> MimiUri {
    let user = name.split(' ').next().unwrap();
    MimiUri::parse(&format!("mimi://{}.example/u/{user}", provider_of(name))).unwrap()
}

impl Room {
    /// Alice, alone, in a room where everyone may add people.
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(adjust: impl FnOnce(&mut RoomDraft)) -> Self {
        Self::on(Backend::Memory, adjust).await
    }

    async fn on(backend: Backend, adjust: impl FnOnce(&mut RoomDraft)) -> Self {
        let providers = Providers::on(backend, &["a", "b", "c", "d"]).await;
        let device = MimiDevice::new("mimi://a.example/d/alice/A");
        let mut draft = RoomDraft::new(&device, providers.key("a"));
        let list = ParticipantListData {
            participants: vec![UserRolePair {
                user: identifier(ALICE),
                role_index: templates::SUPER_ADMIN,
            }],
        };
        for entry in templates::cooperative("a.example").dictionary(&list).entries() {
            draft.set(entry.component_id, entry.data.to_vec());
        }
        adjust(&mut draft);
        let alice = device.create_room_with(&draft);
        let (info, tree) = alice.hand_over();
        let uri = MimiUri::parse(ROOM).unwrap();
        let creator = MimiUri::parse(ALICE).unwrap();
        let mimi = providers.mimi("a");
        mimi.create_room(&creator, &uri, info, tree).await.unwrap();
        Self {
            providers,
            uri,
            clients: [("alice", Client::new(alice, 0))].into(),
        }
    }

    /// Alice, Bob and Cathy, each of a provider of their own, who have read everything.
    async fn of_three() -> Self {
        Self::of_three_on(Backend::Memory).await
    }

    async fn of_three_on(backend: Backend) -> Self {
        let mut room = Self::on(backend, |_| {}).await;
        room.add("alice", "bob", "mimi://b.example/d/bob/B", BOB).await;
        room.add("bob", "cathy", "mimi://c.example/d/cathy/C", CATHY).await;
        room.all_catch_up().await;
        room
    }

    fn client(&mut self, name: &str) -> &mut Client {
        self.clients.get_mut(name).unwrap()
    }

    fn member(&mut self, name: &str) -> &mut MimiMember {
        &mut self.client(name).member
    }

    /// A key package was fetched through the hub.
    async fn fetched(&self, package: &[u8], client: &str) {
        self.fetched_for(&self.uri, package, client).await;
    }

    /// The same, for this room.
    async fn fetched_for(&self, room: &MimiUri, package: &[u8], client: &str) {
        let client = MimiUri::parse(client).unwrap();
        let user = client.name().split_once('/').unwrap().0;
        let fetched = FetchedKeyPackage {
            reference: key_package_ref(package).into(),
            route: KeyPackageRoute {
                provider: ServerName::parse(client.host()).unwrap(),
                user: MimiUri::parse(&format!("mimi://{}/u/{user}", client.host())).unwrap(),
                client,
            },
            room: Some(room.clone()),
            expires_at: UnixMillis::new(u64::from(u32::MAX) * 1_000),
            until_expiry: false,
        };
        let packages = vec![fetched];
        let write = Write::Mimi(MimiWrite::PutKeyPackages { packages });
        self.providers.mimi("a").service.commit(write.into()).await.unwrap();
    }

    /// Somebody's client hands an update to its provider, and hears what the hub says.
    async fn update(&mut self, name: &str, body: &[u8]) -> UpdateRoomResponse {
        let user = user_of(name);
        let mimi = self.providers.mimi(provider_of(name));
        let body = Bytes::copy_from_slice(body);
        mimi.forward_update(&user, &self.uri, &body).await.unwrap()
    }

    /// A commit is accepted, and its committer takes it in.
    async fn commit(&mut self, name: &str, bundle: &TestBundle) {
        self.client(name).own.insert(bundle.commit.as_bytes().to_vec());
        let answer = self.update(name, &bundle.to_request()).await;
        assert!(matches!(answer.verdict, UpdateVerdict::Success { .. }), "{answer:?}");
        self.member(name).merge();
    }

    async fn add(&mut self, adder: &'static str, name: &'static str, client: &str, user: &str) {
        self.catch_up(adder).await;
        let device = MimiDevice::new(client);
        let package = self.key_package(adder, &device, client, user).await;
        let reference = key_package_ref(&package);
        let is_theirs = |message: &FanoutMessage| match &message.message.body {
            MlsMessageBody::Welcome(welcome) => welcome.secrets.iter().any(|it| *it.new_member == *reference),
            _ => false,
        };
        let bundle = self.member(adder).commit(Change {
            add: vec![package],
            updates: vec![add_participants(&[(user, templates::ORDINARY_USER)])],
            ..Change::default()
        });
        self.commit(adder, &bundle).await;
        let inbox = self.inbox_with(name, is_theirs).await;
        let place = inbox.iter().position(is_theirs);
        let FanoutMessage { message, with, .. } = inbox[place.unwrap()].clone();
        let (MlsMessageBody::Welcome(welcome), FanoutParts::Welcome { ratchet_tree_option }) =
            (message.into_value().body, with)
        else {
            panic!("a Welcome");
        };
        let member = device.join(&welcome, &ratchet_tree_option);
        self.clients.insert(name, Client::new(member, place.unwrap() + 1));
    }

    /// A user's client has uploaded a key package, and lets it be fetched, through the hub.
    async fn key_package(&mut self, adder: &str, device: &MimiDevice, client: &str, user: &str) -> Vec<u8> {
        let (target, client) = (MimiUri::parse(user).unwrap(), MimiUri::parse(client).unwrap());
        let room = self.uri.to_string();
        let theirs = ServerName::parse(target.host()).unwrap();
        let mimi = self.providers.mimi(theirs.host().split('.').next().unwrap());
        let packages = vec![Bytes::from(device.key_package())];
        let kept = mimi.upload_key_packages(&target, &client, packages).await.unwrap();
        assert!(kept.iter().all(Result::is_ok), "{kept:?}");
        let grant = ConsentAction::Grant {
            client_key_packages: Vec::new(),
        };
        let grant = entry(grant, &user_of(adder).to_string(), user, Some(&room));
        mimi.update_consent(&theirs, &grant).await.unwrap();
        let required = RequiredCapabilities {
            extension_types: Vec::new(),
            proposal_types: Vec::new(),
            credential_types: Vec::new(),
        };
        let request = key_material_request(self.member(adder).device(), user, Some(&room), required);
        let asking = self.providers.mimi(provider_of(adder));
        let mut answer = asking.key_material(asking.domain(), &target, request).await.unwrap();
        match answer.clients.remove(0).material {
            ClientMaterial::KeyPackage(package) => package.as_bytes().to_vec(),
            other => panic!("{other:?}"),
        }
    }

    /// What somebody's provider has for its users, once that is among it.
    async fn inbox_with(&self, name: &str, is_there: impl Fn(&FanoutMessage) -> bool) -> Vec<FanoutMessage> {
        eventually("the message comes", || async {
            self.inbox(name).await.iter().any(&is_there)
        })
        .await;
        self.inbox(name).await
    }

    async fn inbox(&self, name: &str) -> Vec<FanoutMessage> {
        let bodies = local_bodies(self.providers.store(provider_of(name)), &self.uri).await;
        bodies
            .iter()
            .map(|body| FanoutMessage::from_bytes(body).unwrap())
            .collect()
    }

    /// Nothing is on its way any more.
    async fn is_delivered(&self) {
        let store = self.providers.store("a");
        eventually("everything is delivered", || async {
            store
                .mimi_followers(&self.uri)
                .await
                .unwrap()
                .iter()
                .all(|it| it.dirty_since.is_none())
        })
        .await;
    }

    /// A client takes in what has come for it.
    async fn catch_up(&mut self, name: &str) {
        let inbox = self.inbox(name).await;
        let client = self.client(name);
        for message in &inbox[client.read..] {
            if client.own.contains(message.message.as_bytes()) {
                continue;
            }
            match (&message.message.body, &message.with) {
                (MlsMessageBody::Private(private), _) => {
                    let text = client.member.decrypt(private).expect("it can be read");
                    client.heard.push(String::from_utf8(text).unwrap());
                }
                (_, FanoutParts::Commit { external_proposals }) => {
                    client.member.process(&message.message);
                    external_proposals.iter().for_each(|again| client.member.process(again));
                }
                (_, FanoutParts::Proposal { more_proposals }) => {
                    client.member.process(&message.message);
                    more_proposals.iter().for_each(|more| client.member.process(more));
                }
                // Of a Welcome for somebody else there is nothing to be made.
                _ => {}
            }
        }
        client.read = inbox.len();
    }

    async fn all_catch_up(&mut self) {
        self.is_delivered().await;
        let names: Vec<_> = self.clients.keys().copied().collect();
        for name in names {
            self.catch_up(name).await;
        }
    }

    /// A message as its sender's client hands it over.
    fn message(&mut self, name: &str, text: &str) -> Bytes {
        let user = user_of(name).to_string();
        let message = self.member(name).encrypt(text.as_bytes(), None);
        let body = submission(message, &user);
        let request = SubmitMessageRequest::from_bytes(&body).unwrap();
        let sent = &request.body.mls10().unwrap().app_message;
        self.client(name).own.insert(sent.as_bytes().to_vec());
        body
    }

    async fn submit(&self, name: &str, body: &Bytes) -> SubmitMessageResponse {
        let mimi = self.providers.mimi(provider_of(name));
        mimi.forward_submit(&user_of(name), &self.uri, body).await.unwrap()
    }

    async fn say(&mut self, name: &str, text: &str) -> Acceptance {
        let body = self.message(name, text);
        let answer = self.submit(name, &body).await;
        match answer.body.mls10().unwrap() {
            SubmitVerdict::Accepted(acceptance) => acceptance.clone(),
            other => panic!("{other:?}"),
        }
    }
}

fn identifier(uri: &str) -> IdentifierUri {
    IdentifierUri::new(uri).unwrap()
}

/// The request with a message of this user.
fn submission(message: PrivateMessage, user: &str) -> Bytes {
    let request = SubmitMessageRequest::from(Submission {
        app_message: Kept::new(MlsMessage {
            body: MlsMessageBody::Private(message),
        }),
        sending_uri: identifier(user),
    });
    request.to_bytes().into()
}

fn proposals(messages: &[Kept<MlsMessage>]) -> Vec<u8> {
    HandshakeBundle {
        proposal_or_commit: messages[0].clone(),
        with: HandshakeParts::Proposal {
            more_proposals: messages[1..].to_vec(),
        },
    }
    .to_bytes()
}

fn rename(name: &str) -> AppDataUpdate {
    set_component(ComponentId::ROOM_METADATA, metadata(ROOM, name))
}
