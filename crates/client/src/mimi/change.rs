//! What an intention means in the epoch that the group is in: whom the list names where, which leaves go, whose key packages come.

use std::collections::BTreeSet;

use nabe_auth::mimi::BAN_ROLE;
use nabe_mls::mimi::{Identity, check_newcomer};
use nabe_wire::key_material::{
    ClientMaterial, KeyMaterialQuery, KeyMaterialRequestTbs, KeyMaterialResponse, KeyMaterialUserCode,
};
use nabe_wire::mls::{
    AppDataUpdate, CipherSuite, ComponentId, GroupContext, KeyPackage as WireKeyPackage, LeafNode as WireLeafNode,
    MlsMessage,
};
use nabe_wire::participant_list::{ParticipantListUpdate, UserIndexRolePair, UserRolePair};
use nabe_wire::policy::BaseRoomPolicy;
use nabe_wire::uri::MimiUri;
use nabe_wire::{Encode as _, IdentifierUri, Kept, Message as _};
use openmls::group::MlsGroup;
use openmls::messages::proposals::Proposal;
use openmls::prelude::{KeyPackage, KeyPackageIn, ProtocolVersion};
use rusqlite::Connection;
use tls_codec::Deserialize as _;

use super::client::MimiClient;
use super::device::{Device, identifier};
use super::error::{Doing as _, MimiError};
use super::group::{self, Change, Member};
use super::intent::MimiIntent;
use super::receive::{Work, epoch_of, group_of};
use super::store::{StoredIntent, keep_material, keep_self_remove, material, own_self_remove};
use crate::provider::{Provider, crypto};

/// What is to be done.
pub(super) enum Plan {
    /// Nothing: it is so already.
    Nothing,
    /// What is pending is about the same; it has to be committed first.
    PendingFirst,
    /// A commit, and clients that cannot come along, with the reason.
    Commit {
        change: Change,
        left_out: Vec<(String, String)>,
    },
    /// Proposals, since nobody removes themselves.
    Propose {
        self_remove: bool,
        remove: Vec<u32>,
        updates: Vec<AppDataUpdate>,
    },
}

/// A group as plans need to know it.
struct Facts {
    participants: Vec<UserRolePair>,
    members: Vec<Member>,
    /// Users whom a pending update of the list is about.
    touched: BTreeSet<String>,
    /// Components that a pending update is about.
    changed: BTreeSet<ComponentId>,
    /// Leaves that are as good as gone.
    going: BTreeSet<u32>,
    own_leaf: u32,
    has_pending: bool,
}

impl Facts {
    fn of(group: &MlsGroup) -> Result<Self, MimiError> {
        let participants = group::participants(group)?.participants;
        let mut touched = BTreeSet::new();
        let mut changed = BTreeSet::new();
        for update in group::pending_updates(group)? {
            changed.insert(update.component_id);
            let content = update
                .update
                .as_deref()
                .filter(|_| update.component_id == ComponentId::PARTICIPANT_LIST);
            let Some(Ok(list)) = content.map(ParticipantListUpdate::from_bytes) else {
                continue;
            };
            let changes = list.changed_role_participants.iter().map(|change| change.user_index);
            for index in changes.chain(list.removed_indices.iter().copied()) {
                let user = usize::try_from(index).ok().and_then(|index| participants.get(index));
                touched.extend(user.map(|pair| pair.user.to_string()));
            }
            touched.extend(list.added_participants.iter().map(|pair| pair.user.to_string()));
        }
        Ok(Self {
            members: group::members(group),
            going: group::pending_removals(group).into_iter().collect(),
            own_leaf: group.own_leaf_index().u32(),
            has_pending: group.pending_proposals().next().is_some(),
            participants,
            touched,
            changed,
        })
    }

    fn index_of(&self, user: &str) -> Option<u32> {
        let at = self.participants.iter().position(|pair| pair.user.as_str() == user)?;
        u32::try_from(at).ok()
    }

    /// The leaves of a user that are not as good as gone.
    fn leaves_of(&self, user: &str) -> Vec<u32> {
        let of_user = self
            .members
            .iter()
            .filter(|member| member.identity.user().to_string() == user && !self.going.contains(&member.leaf));
        of_user.map(|member| member.leaf).collect()
    }
}

impl MimiClient {
    /// Fetches key packages that an intention needs and has not got yet (MIMI #fetch-key-material).
    pub(super) async fn fetch_material(&mut self, intent: &StoredIntent, group: &MlsGroup) -> Result<(), MimiError> {
        let facts = Facts::of(group)?;
        let users: Vec<String> = match &intent.intent {
            MimiIntent::Add { users } => users
                .iter()
                .map(|newcomer| newcomer.user.clone())
                .filter(|user| facts.index_of(user).is_none() && !facts.touched.contains(user))
                .collect(),
            MimiIntent::AddClients => vec![self.device.user.to_string()],
            _ => return Ok(()),
        };
        for user in users {
            if material(self.store.read(), intent.id, &user)?.is_some() {
                continue;
            }
            let request = self.key_material_request(&intent.room, &user, group)?;
            let response = self.transport.key_material(&request).await?;
            KeyMaterialResponse::from_bytes(&response)?;
            self.store
                .transaction(|connection| keep_material(connection, intent.id, &user, &response))?;
        }
        Ok(())
    }

    pub(super) fn key_material_request(
        &self,
        room: &MimiUri,
        user: &str,
        group: &MlsGroup,
    ) -> Result<Vec<u8>, MimiError> {
        let suite = group::suite_of(group)?;
        let signer = self.device.signer(suite)?;
        let target_user = IdentifierUri::new(user).ok_or_else(|| MimiError::NotAUser(self.device.user.clone()))?;
        let request = KeyMaterialRequestTbs {
            requesting_user: identifier(&self.device.user),
            target_user,
            room_id: identifier(room),
            query: KeyMaterialQuery {
                acceptable_ciphersuites: vec![CipherSuite(suite.id())],
                required_capabilities: group::required_capabilities(group)?,
                requester_signature_key: signer.public().into(),
                requester_credential: self.device.credential(),
            },
        };
        Ok(request.sign(signer).doing("asking for key packages")?.to_bytes())
    }
}

impl Work<'_> {
    /// The SelfRemove of this epoch: there is one, however often the user asks to leave (MLSX #proposal-description).
    pub(super) fn self_remove(&self, room: &MimiUri, group: &mut MlsGroup) -> Result<Kept<MlsMessage>, MimiError> {
        if let Some(made) = own_self_remove(self.connection, room)? {
            let made = Kept::new(MlsMessage::from_bytes(&made)?);
            let is_of_group = group_of(&made) == Some(group.group_id().as_slice());
            if is_of_group && epoch_of(&made) == Some(group.epoch().as_u64()) {
                return Ok(made);
            }
        }
        let made = group::self_remove(&Provider::new(self.connection), self.device, group)?;
        keep_self_remove(self.connection, room, made.as_bytes())?;
        Ok(made)
    }
}

/// What an intention means for this group, whose pending proposals are queued.
pub(super) fn plan(
    connection: &Connection,
    device: &Device,
    intent: &StoredIntent,
    group: &MlsGroup,
) -> Result<Plan, MimiError> {
    let facts = Facts::of(group)?;
    // Whoever is about to be removed commits nothing.
    if facts.going.contains(&facts.own_leaf) {
        match intent.intent {
            MimiIntent::Tend => return Ok(Plan::Nothing),
            MimiIntent::Leave { .. } => {}
            _ => return Err(MimiError::Leaving(intent.room.clone())),
        }
    }
    let missing = |user: &str| MimiError::NoSuchParticipant {
        user: user.to_owned(),
        room: intent.room.clone(),
    };
    let commit = |change| Plan::Commit {
        change,
        left_out: Vec::new(),
    };
    let with_list = |update: ParticipantListUpdate, remove: Vec<u32>| {
        commit(Change {
            add: Vec::new(),
            remove,
            updates: vec![list_update(&update)],
        })
    };
    Ok(match &intent.intent {
        // These are none of this epoch.
        MimiIntent::Create | MimiIntent::Join { .. } => Plan::Nothing,
        MimiIntent::Update => commit(Change::default()),
        MimiIntent::Tend if !facts.has_pending => Plan::Nothing,
        MimiIntent::Tend => commit(Change::default()),
        MimiIntent::Add { users } => {
            if users.iter().any(|newcomer| facts.touched.contains(&newcomer.user)) {
                return Ok(Plan::PendingFirst);
            }
            let mut added_participants = Vec::new();
            let (mut add, mut left_out) = (Vec::new(), Vec::new());
            let mut seen = BTreeSet::new();
            let mut newcomers = Newcomers::new(&intent.room, group)?;
            for newcomer in users {
                if facts.index_of(&newcomer.user).is_some() || !seen.insert(&newcomer.user) {
                    continue;
                }
                let user = IdentifierUri::new(newcomer.user.clone()).ok_or_else(|| missing(&newcomer.user))?;
                added_participants.push(UserRolePair {
                    user,
                    role_index: newcomer.role,
                });
                // Without any, the user has come to the list since it was asked for, and is gone again.
                if let Some(response) = material(connection, intent.id, &newcomer.user)? {
                    newcomers.usable(&response, &newcomer.user, &facts, &mut add, &mut left_out)?;
                }
            }
            if added_participants.is_empty() {
                return Ok(Plan::Nothing);
            }
            let update = ParticipantListUpdate {
                changed_role_participants: Vec::new(),
                removed_indices: Vec::new(),
                added_participants,
            };
            let change = Change {
                add,
                remove: Vec::new(),
                updates: vec![list_update(&update)],
            };
            Plan::Commit { change, left_out }
        }
        MimiIntent::AddClients => {
            let user = device.user.to_string();
            let (mut add, mut left_out) = (Vec::new(), Vec::new());
            if let Some(response) = material(connection, intent.id, &user)? {
                let mut newcomers = Newcomers::new(&intent.room, group)?;
                newcomers.usable(&response, &user, &facts, &mut add, &mut left_out)?;
            }
            if add.is_empty() && left_out.is_empty() {
                return Ok(Plan::Nothing);
            }
            let change = Change {
                add,
                ..Change::default()
            };
            Plan::Commit { change, left_out }
        }
        MimiIntent::Remove { user } => {
            if facts.touched.contains(user) {
                return Ok(Plan::PendingFirst);
            }
            let index = facts.index_of(user).ok_or_else(|| missing(user))?;
            with_list(removal(index), facts.leaves_of(user))
        }
        MimiIntent::RemoveClients { clients } => {
            let named = |member: &&Member| clients.contains(&member.name()) && !facts.going.contains(&member.leaf);
            let remove: Vec<u32> = facts.members.iter().filter(named).map(|member| member.leaf).collect();
            if remove.is_empty() {
                return Ok(Plan::Nothing);
            }
            commit(Change {
                remove,
                ..Change::default()
            })
        }
        MimiIntent::Ban { user } | MimiIntent::SetRole { user, .. } => {
            if facts.touched.contains(user) {
                return Ok(Plan::PendingFirst);
            }
            let index = facts.index_of(user).ok_or_else(|| missing(user))?;
            let (role, remove) = match &intent.intent {
                MimiIntent::SetRole { role, .. } => (*role, Vec::new()),
                _ => (BAN_ROLE, facts.leaves_of(user)),
            };
            let is_so = facts
                .participants
                .iter()
                .any(|pair| pair.user.as_str() == user && pair.role_index == role);
            if is_so && remove.is_empty() {
                return Ok(Plan::Nothing);
            }
            with_list(change_of_role(index, role), remove)
        }
        MimiIntent::SetComponent { component, update } => {
            let component_id = ComponentId(*component);
            if facts.changed.contains(&component_id) {
                return Ok(Plan::PendingFirst);
            }
            commit(Change {
                updates: vec![AppDataUpdate {
                    component_id,
                    update: update.clone().map(Into::into),
                }],
                ..Change::default()
            })
        }
        MimiIntent::Leave { by_remove } => {
            let user = device.user.to_string();
            if facts.touched.contains(&user) {
                return Ok(Plan::Nothing);
            }
            let stays = group::component(group, ComponentId::BASE_ROOM_POLICY)
                .and_then(|data| BaseRoomPolicy::from_bytes(data).ok())
                .is_some_and(|base| base.fixed_membership);
            let index = facts.index_of(&user).filter(|_| !stays);
            let mut remove = facts.leaves_of(&user);
            if !by_remove {
                remove.retain(|leaf| *leaf != facts.own_leaf);
            }
            Plan::Propose {
                self_remove: !by_remove && !facts.going.contains(&facts.own_leaf),
                remove,
                updates: index.map(|index| list_update(&removal(index))).into_iter().collect(),
            }
        }
    })
}

fn removal(index: u32) -> ParticipantListUpdate {
    ParticipantListUpdate {
        changed_role_participants: Vec::new(),
        removed_indices: vec![index],
        added_participants: Vec::new(),
    }
}

fn change_of_role(user_index: u32, role_index: u32) -> ParticipantListUpdate {
    ParticipantListUpdate {
        changed_role_participants: vec![UserIndexRolePair { user_index, role_index }],
        removed_indices: Vec::new(),
        added_participants: Vec::new(),
    }
}

pub(super) fn list_update(update: &ParticipantListUpdate) -> AppDataUpdate {
    AppDataUpdate {
        component_id: ComponentId::PARTICIPANT_LIST,
        update: Some(update.to_bytes().into()),
    }
}

/// Who is to be added. A commit is refused as a whole for one client that does not fit, so each is looked at before.
struct Newcomers<'a> {
    room: &'a MimiUri,
    context: GroupContext,
    ciphersuite: openmls::prelude::Ciphersuite,
    /// Signature keys and encryption keys, each of which is in a group once.
    keys: BTreeSet<Vec<u8>>,
    clients: BTreeSet<String>,
}

impl<'a> Newcomers<'a> {
    fn new(room: &'a MimiUri, group: &MlsGroup) -> Result<Self, MimiError> {
        let members = group.members();
        let mut keys: BTreeSet<Vec<u8>> = members
            .flat_map(|member| [member.signature_key, member.encryption_key])
            .collect();
        let mut clients = BTreeSet::new();
        for queued in group.pending_proposals() {
            if let Proposal::Add(add) = queued.proposal() {
                let leaf = add.key_package().leaf_node();
                keys.extend(keys_of(&group::leaf(leaf)?));
                clients.extend(group::who(leaf.credential()).as_ref().map(group::name));
            }
        }
        Ok(Self {
            room,
            context: group::context(group)?,
            ciphersuite: group.ciphersuite(),
            keys,
            clients,
        })
    }

    /// The key packages of a user that can be added, and why others cannot. A provider that has none left says so with a code under
    /// which the user comes to the list all the same; with others it says that they do not want to, or that there is no such user.
    fn usable(
        &mut self,
        response: &[u8],
        user: &str,
        facts: &Facts,
        add: &mut Vec<KeyPackage>,
        left_out: &mut Vec<(String, String)>,
    ) -> Result<(), MimiError> {
        let response = KeyMaterialResponse::from_bytes(response)?;
        let may_be_listed = [
            KeyMaterialUserCode::SUCCESS,
            KeyMaterialUserCode::PARTIAL_SUCCESS,
            KeyMaterialUserCode::NO_COMPATIBLE_MATERIAL,
        ];
        if !may_be_listed.contains(&response.user_status) {
            return Err(MimiError::KeyMaterial {
                user: user.to_owned(),
                status: response.user_status,
            });
        }
        for client in response.clients {
            let name = client.client_uri.to_string();
            if facts.members.iter().any(|member| member.name() == name) {
                continue;
            }
            let problem = match client.material {
                ClientMaterial::KeyPackage(package) => match self.read(&package, &name, user) {
                    Ok(package) => {
                        add.push(package);
                        continue;
                    }
                    Err(problem) => problem.to_string(),
                },
                ClientMaterial::Exhausted => Unusable::Exhausted.to_string(),
                ClientMaterial::NothingCompatible(_) | ClientMaterial::Other(_) => Unusable::Incompatible.to_string(),
            };
            left_out.push((name, problem));
        }
        Ok(())
    }

    /// A key package, if it is what its provider says it is, and fits the group.
    fn read(&mut self, sent: &Kept<WireKeyPackage>, client: &str, user: &str) -> Result<KeyPackage, Unusable> {
        let package = KeyPackageIn::tls_deserialize_exact(sent.as_bytes()).map_err(|_| Unusable::Malformed)?;
        let package = package
            .validate(crypto(), ProtocolVersion::Mls10)
            .map_err(|_| Unusable::Invalid)?;
        if package.ciphersuite() != self.ciphersuite {
            return Err(Unusable::Incompatible);
        }
        let who: Option<Identity> = group::who(package.leaf_node().credential());
        let is_theirs = who.is_some_and(|who| group::name(&who) == client && who.user().to_string() == user);
        if !is_theirs {
            return Err(Unusable::OfAnother);
        }
        check_newcomer(&self.context, self.room, &sent.leaf_node).map_err(|_| Unusable::Incompatible)?;
        if self.clients.contains(client) {
            return Err(Unusable::Twice);
        }
        let keys = keys_of(&sent.leaf_node);
        if keys.iter().any(|key| self.keys.contains(key)) {
            return Err(Unusable::KeyInUse);
        }
        self.keys.extend(keys);
        self.clients.insert(client.to_owned());
        Ok(package)
    }
}

fn keys_of(leaf: &WireLeafNode) -> [Vec<u8>; 2] {
    [leaf.signature_key.to_vec(), leaf.encryption_key.to_vec()]
}

/// Why a client cannot be added.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
enum Unusable {
    #[error("it has no key packages left")]
    Exhausted,
    #[error("it has no key package that fits the group")]
    Incompatible,
    #[error("its key package does not read")]
    Malformed,
    #[error("its key package is not valid")]
    Invalid,
    #[error("its key package is of another client")]
    OfAnother,
    #[error("it is named twice")]
    Twice,
    #[error("a key in its key package is somebody's already")]
    KeyInUse,
}
