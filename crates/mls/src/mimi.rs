//! The public side of a MIMI room's MLS group, as its hub follows it (MIMI #cryptographic-room-representation): proposals that
//! are pending, commits, the room's components, and what joiners need. It holds no secret.
//!
//! A room's group differs from that of a Linearized Matrix room ([`crate::HubGroup`]) in what it is asked: proposals come by
//! themselves and stay until a commit contains them; the room's state is data of components in the group's context; the hub
//! and other providers propose from outside; GroupInfo, tree and Welcome come beside the commit and not within.
//!
//! Nothing here knows a role or a capability, stores or fetches. What passes is sound MLS and keeps the rules of the drafts that
//! can be checked without a policy; the result says who proposes what, for the policy to judge. What is merged is the stored
//! change or, right after a commit was staged, what that would be read as, so that the live group and one that is replayed after a
//! restart go through the same code.
//!
//! | File | Story |
//! |---|---|
//! | `mimi.rs` | the group: how it begins, takes in a change, is stored and restored, and what it tells |
//! | `mimi/framing.rs` | what all messages have in common; application messages, of which no more can be seen |
//! | `mimi/proposals.rs` | a proposal by itself: whose it is, whether a commit could contain it, what is pending |
//! | `mimi/commit.rs` | a commit and what comes with it, from the frame to the GroupInfo |
//! | `mimi/info.rs` | the GroupInfo that comes with a commit |
//! | `mimi/external.rs` | proposals from outside, and what OpenMLS lacks for them |
//! | `mimi/joiners.rs` | the answer to who asks for the GroupInfo |
//! | `mimi/key_package.rs` | a key package by itself, and who asks for one |
//! | `mimi/member.rs` | what members need of this, too |
//! | `mimi/components.rs` | what updates make of the room's components |
//! | `mimi/shape.rs` | what makes a group a room's, and what it asks of leaves |
//! | `mimi/identity.rs` | whose a leaf is; who is in the group |
//! | `mimi/tree.rs` | the hash of a tree that was sent, and the tree that goes with a Welcome |
//! | `mimi/stored.rs` | the group and its changes as bytes |
//! | `mimi/refusal.rs` | one reason for each check, with its section |
//!
//! # The clock
//!
//! Times are passed in. OpenMLS reads the wall clock besides when it looks at the lifetime of a leaf: in
//! [`MimiGroup::found`], [`MimiGroup::follow`], [`MimiGroup::propose`] and [`MimiGroup::stage`], and nowhere else; a change is
//! merged, and a group restored, at any later time.

mod commit;
mod components;
mod external;
mod framing;
mod identity;
mod info;
mod joiners;
mod key_package;
mod member;
mod proposals;
mod refusal;
mod shape;
mod stored;
mod tree;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use nabe_types::UnixMillis;
use nabe_wire::app_data::AppDataDictionary;
use nabe_wire::group_info::{self as wire_group_info, GroupInfoRatchetTreeTbe};
use nabe_wire::mls::{
    Capabilities, ComponentId, Extension, ExtensionType, ExternalSender, GroupContext, GroupInfo, PartialGroupInfo,
    RatchetTree, RatchetTreeOption, RequiredCapabilities,
};
use nabe_wire::uri::MimiUri;
use nabe_wire::{Decode, DecodeError, Encode as _, Kept, Reader, Rule};
use openmls::group::{ProposalStore, PublicGroup};
use openmls::messages::group_info::VerifiableGroupInfo;
use openmls::prelude::{LeafNode, RatchetTreeIn};
use openmls::treesync::LeafNodeSource;
use tls_codec::{Deserialize as _, Serialize as _};

pub use commit::{AddedMember, CommittedProposal, StagedCommit};
#[cfg(any(test, feature = "testing"))]
pub(crate) use external::queued;
pub use framing::CheckedMessage;
pub use identity::{Identity, IdentityError, Member};
pub use joiners::{JoinerError, check_group_info_query};
pub use key_package::{OfferRefused, OfferedKeyPackage, check_key_material_request, key_package_ref, meets};
pub use member::{check_newcomer, component_changes, queue_external_proposal};
pub use proposals::{PendingProposal, ProposalRef, ProposalRefused, Proposer, StagedProposals};
pub use refusal::{MessageRefusal, MimiRefusal};
pub use stored::NextEpoch;
pub use tree::TreeAfter;

use crate::key_package::LifetimeFault;
use crate::provider::{NoStorage, crypto};
use crate::refusal::GroupRefusal;
use crate::stored::RestoreError;
use crate::suite::Suite;
use identity::Roster;
use proposals::{Entry, Queue};
use shape::Requirements;
use stored::{Stored, StoredGroup};

/// The public side of a MIMI room's group at one epoch, with what is pending in it.
///
/// It begins when a client of the hub's own hands over a group that it made ([`MimiGroup::found`]). Proposals
/// ([`MimiGroup::propose`]) and commits ([`MimiGroup::stage`]) are checked, which changes nothing, and merged once they are stored
/// ([`MimiGroup::merge`]). What is stored is the change; [`MimiGroup::replay`] merges it again after a restart. To keep the
/// replay short there is also a [`MimiGroup::checkpoint`], as large as the group.
///
/// A clone shares the tree. Merging into a group that is shared copies it first.
#[derive(Clone)]
pub struct MimiGroup {
    state: Arc<State>,
}

struct State {
    group: PublicGroup,
    room: MimiUri,
    hub: ExternalSender,
    suite: Suite,
    senders: Vec<ExternalSender>,
    requirements: Requirements,
    roster: Roster,
    pending: Queue,
    /// How often what is pending has changed in this epoch.
    sequence: u64,
    info: SignedInfo,
}

/// What the hub cannot work out of the epoch's GroupInfo.
#[derive(Clone, Debug, Eq, PartialEq)]
struct SignedInfo {
    partial: PartialGroupInfo,
    signer: u32,
}

impl MimiGroup {
    /// Begins the group of a room that a client of the hub's own creates (MIMI #alice-creates-a-room): it hands over the
    /// GroupInfo and the tree of a group with itself as the only member. `hub` is what has to stand first among the
    /// external senders.
    ///
    /// Returns the group and, to be stored as its first change, its checkpoint. Fails with the check that did.
    pub fn found(
        room: &MimiUri,
        hub: &ExternalSender,
        group_info: &Kept<GroupInfo>,
        tree: &RatchetTree,
        now: UnixMillis,
    ) -> Result<(Self, Bytes), MimiRefusal> {
        let (group, bytes) = Self::follow(room, hub, group_info, tree, now)?;
        let members = group.members().len();
        if members != 1 {
            return Err(MimiRefusal::NotAGroupOfOne { members });
        }
        Ok((group, bytes))
    }

    /// The same for a group with any number of members, for who begins to follow a room that exists.
    pub fn follow(
        room: &MimiUri,
        hub: &ExternalSender,
        group_info: &Kept<GroupInfo>,
        tree: &RatchetTree,
        now: UnixMillis,
    ) -> Result<(Self, Bytes), MimiRefusal> {
        let partial = PartialGroupInfo::of(group_info);
        if group_info.has_ratchet_tree() {
            return Err(MimiRefusal::GroupInfoTreeInside);
        }
        info::check_external_pub(&partial)?;
        let id = group_info.group_context.cipher_suite.0;
        Suite::from_id(id).ok_or(MimiRefusal::UnknownSuite { id })?;
        shape::check_context(&group_info.group_context, room, hub)?;
        let info = VerifiableGroupInfo::tls_deserialize_exact(group_info.as_bytes())
            .map_err(|_| MimiRefusal::GroupInfoMismatch)?;
        let tree = RatchetTreeIn::tls_deserialize_exact(tree.to_bytes()).map_err(|_| MimiRefusal::TreeMismatch)?;
        let (group, _) = PublicGroup::from_external(crypto(), &NoStorage, tree, info, ProposalStore::new())
            .map_err(GroupRefusal::from)?;
        let info = SignedInfo {
            partial,
            signer: group_info.signer,
        };
        let state = State::new(group, room.clone(), hub.clone(), info)?;
        for (_, node) in state.group.treesync().full_leaves() {
            check_lifetime(node, now)?;
            state.requirements.check_node(node)?;
        }
        let group = Self { state: Arc::new(state) };
        let bytes = group.checkpoint();
        Ok((group, bytes))
    }

    /// Takes in a change that was staged on this group in this state: [`StagedProposals::bytes`] or [`StagedCommit::bytes`]. Fails
    /// with [`RestoreError::WrongEpoch`] if anything has been merged since.
    pub fn merge(&mut self, change: &[u8]) -> Result<(), RestoreError> {
        let stored = Stored::parse(change)?;
        let state = self.state_alone()?;
        match stored {
            Stored::Commit(commit) => commit.apply_to(state),
            Stored::Proposals(proposals) => proposals.apply_to(state),
            Stored::Group(_) => Err(RestoreError::Malformed),
        }
    }

    /// The same as [`MimiGroup::merge`] of [`StagedCommit::bytes`], for who has just staged the commit and need not read it again.
    pub fn merge_staged(&mut self, next: NextEpoch) -> Result<(), RestoreError> {
        next.apply_to(self.state_alone()?)
    }

    /// The state, copied first if it is shared.
    fn state_alone(&mut self) -> Result<&mut State, RestoreError> {
        if Arc::get_mut(&mut self.state).is_none() {
            *self = Self::restore(&self.checkpoint())?;
        }
        Ok(Arc::get_mut(&mut self.state).expect("the copy is not shared"))
    }

    /// Takes in a stored change, or begins with a stored group.
    pub fn replay(group: &mut Option<Self>, bytes: &[u8]) -> Result<(), RestoreError> {
        match Stored::parse(bytes)? {
            Stored::Group(_) => *group = Some(Self::restore(bytes)?),
            _ => group.as_mut().ok_or(RestoreError::WrongEpoch)?.merge(bytes)?,
        }
        Ok(())
    }

    /// The whole group with what is pending as bytes, for [`MimiGroup::restore`].
    #[must_use]
    pub fn checkpoint(&self) -> Bytes {
        StoredGroup::encode(self)
    }

    /// The group from a [`MimiGroup::checkpoint`], at any later time.
    pub fn restore(bytes: &[u8]) -> Result<Self, RestoreError> {
        let Stored::Group(stored) = Stored::parse(bytes)? else {
            return Err(RestoreError::Malformed);
        };
        Ok(Self {
            state: Arc::new(stored.load()?),
        })
    }

    /// The room.
    #[must_use]
    pub fn room(&self) -> &MimiUri {
        &self.state.room
    }

    /// The group's ID, which says nothing.
    #[must_use]
    pub fn group_id(&self) -> &[u8] {
        self.state.group.group_id().as_slice()
    }

    /// The group's suite.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.state.suite
    }

    /// The group's epoch, counted from 0 at its making.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.state.group.group_context().epoch().as_u64()
    }

    /// Hash of the ratchet tree. Members of one epoch have the same.
    #[must_use]
    pub fn tree_hash(&self) -> &[u8] {
        self.state.group.group_context().tree_hash()
    }

    /// The clients in the group, in the order of their leaves.
    pub fn members(&self) -> impl ExactSizeIterator<Item = (u32, &Identity)> {
        self.state.roster.iter()
    }

    /// The client at a leaf.
    #[must_use]
    pub fn member_at(&self, leaf: u32) -> Option<&Identity> {
        self.state.roster.at(leaf)
    }

    /// The leaves of a user's clients.
    pub fn leaves_of(&self, user: &MimiUri) -> impl Iterator<Item = u32> + '_ {
        self.state.roster.leaves_of(user)
    }

    /// Who may propose from outside, the hub first (MIMI #authenticating-proposals).
    #[must_use]
    pub fn external_senders(&self) -> &[ExternalSender] {
        &self.state.senders
    }

    /// A component's data, as of the last commit.
    #[must_use]
    pub fn component(&self, component: ComponentId) -> Option<&[u8]> {
        self.state.data(component)
    }

    /// All components' data, as of the last commit.
    #[must_use]
    pub fn dictionary(&self) -> AppDataDictionary {
        let mut dictionary = AppDataDictionary::new();
        for entry in self.state.dictionary().into_iter().flat_map(|all| all.entries()) {
            dictionary.set(ComponentId(entry.id()), entry.data());
        }
        dictionary
    }

    /// What members have to support.
    #[must_use]
    pub fn required_capabilities(&self) -> Option<RequiredCapabilities> {
        let extensions = self.state.context_extensions().ok()?;
        shape::required_capabilities(&extensions).ok()?
    }

    /// The epoch's GroupInfo as its committer signed it, without the tree (MIMI #claim-group-key-information). With it belong
    /// [`MimiGroup::ratchet_tree`] and [`MimiGroup::pending`].
    #[must_use]
    pub fn group_info(&self) -> Kept<GroupInfo> {
        let state = &*self.state;
        let tag = state.group.confirmation_tag().tls_serialize_detached();
        let tag = tag.expect("a tag that was decoded encodes");
        let mut tag = crate::codec::Reader::new(&tag);
        Kept::new(GroupInfo {
            group_context: state.context(),
            extensions: state.info.partial.group_info_extensions.clone(),
            confirmation_tag: tag.opaque().unwrap_or_default().into(),
            signer: state.info.signer,
            signature: state.info.partial.signature.clone(),
        })
    }

    /// The ratchet tree, for joiners.
    #[must_use]
    pub fn ratchet_tree(&self) -> RatchetTreeOption {
        let tree = self.state.group.export_ratchet_tree().tls_serialize_detached();
        let tree = tree.expect("a tree that was decoded encodes");
        RatchetTreeOption::Full(read_all(&tree).expect("the tree of a group that we follow is one"))
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn copy_public_group(&self) -> PublicGroup {
        let copy = Self::restore(&self.checkpoint()).expect("a checkpoint loads");
        let state = Arc::into_inner(copy.state).expect("the copy is not shared");
        state.group
    }

    /// All that a joiner needs, to be sealed for it (MIMI #claim-group-key-information).
    #[must_use]
    pub fn for_joiners(&self) -> GroupInfoRatchetTreeTbe {
        let pending = self.pending().map(|pending| wire_group_info::PendingProposal {
            proposal: pending.message.clone(),
            hub_accepted_time: pending.accepted.as_u64(),
        });
        GroupInfoRatchetTreeTbe {
            group_info: self.group_info(),
            ratchet_tree_option: self.ratchet_tree(),
            pending_proposals: pending.collect(),
        }
    }

    /// About how much memory the group takes, in bytes. Post-quantum keys are not counted at their size.
    #[must_use]
    pub fn memory_estimate(&self) -> usize {
        let dictionary = self.state.dictionary();
        let components: usize = dictionary.map_or(0, |all| all.entries().map(|entry| entry.data().len()).sum());
        let pending: usize = self.pending().map(|pending| 4 * pending.message.as_bytes().len()).sum();
        MEMORY_BASE + self.members().len() * MEMORY_PER_MEMBER + components + pending
    }
}

impl fmt::Debug for MimiGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MimiGroup")
            .field("room", &self.state.room)
            .field("suite", &self.state.suite)
            .field("epoch", &self.epoch())
            .field("members", &self.members().len())
            .field("pending", &self.pending().len())
            .finish()
    }
}

/// Groups are equal if they went through the same changes: the context hashes tree and transcript.
impl PartialEq for MimiGroup {
    fn eq(&self, other: &Self) -> bool {
        let (ours, theirs) = (&*self.state, &*other.state);
        Arc::ptr_eq(&self.state, &other.state)
            || (ours.group.group_context() == theirs.group.group_context()
                && ours.group.confirmation_tag() == theirs.group.confirmation_tag()
                && ours.room == theirs.room
                && ours.hub == theirs.hub
                && ours.senders == theirs.senders
                && ours.requirements == theirs.requirements
                && ours.roster == theirs.roster
                && ours.sequence == theirs.sequence
                && ours.info == theirs.info
                && ours.pending.iter().eq(theirs.pending.iter()))
    }
}

impl Eq for MimiGroup {}

impl State {
    fn new(group: PublicGroup, room: MimiUri, hub: ExternalSender, info: SignedInfo) -> Result<Self, MimiRefusal> {
        let id = group.ciphersuite() as u16;
        let dictionary = group.group_context().extensions().app_data_dictionary();
        let dictionary = dictionary.ok_or(MimiRefusal::MissingComponent {
            component: ComponentId::APP_COMPONENTS,
        })?;
        let mut state = Self {
            suite: Suite::from_id(id).ok_or(MimiRefusal::UnknownSuite { id })?,
            requirements: Requirements::of(dictionary.dictionary(), &room)?,
            roster: Roster::new(&group)?,
            senders: Vec::new(),
            pending: Queue::default(),
            sequence: 0,
            group,
            room,
            hub,
            info,
        };
        state.reread_senders()?;
        Ok(state)
    }

    fn dictionary(&self) -> Option<&openmls::extensions::AppDataDictionary> {
        let extension = self.group.group_context().extensions().app_data_dictionary()?;
        Some(extension.dictionary())
    }

    fn data(&self, component: ComponentId) -> Option<&[u8]> {
        self.dictionary()?.get(&component.0)
    }

    fn context(&self) -> GroupContext {
        let context = self.group.group_context().tls_serialize_detached();
        let context = context.expect("a context that was decoded encodes");
        read_all(&context).expect("the context of a group that we follow is one")
    }

    fn context_extensions(&self) -> Result<Vec<Extension>, MimiRefusal> {
        Ok(self.context().extensions)
    }

    /// The extensions of the context, encoded, but for the dictionary, which is as large as the room.
    fn other_extensions(&self) -> Vec<Vec<u8>> {
        let extensions = self.group.group_context().extensions().iter();
        let others =
            extensions.filter(|extension| !matches!(extension, openmls::extensions::Extension::AppDataDictionary(_)));
        let encoded = others.map(|extension| extension.tls_serialize_detached());
        encoded
            .map(|bytes| bytes.expect("an extension that was decoded encodes"))
            .collect()
    }

    fn reread_senders(&mut self) -> Result<(), MimiRefusal> {
        let senders = self.group.group_context().extensions().external_senders();
        let senders = senders.map(|senders| senders.tls_serialize_detached()).transpose();
        let senders = senders.map_err(|_| MimiRefusal::HubNotFirstSender)?.unwrap_or_default();
        let extension = Extension {
            extension_type: ExtensionType::EXTERNAL_SENDERS,
            extension_data: senders.into(),
        };
        self.senders = shape::external_senders(&[extension])?;
        Ok(())
    }

    fn remember(&mut self, entry: Arc<Entry>) {
        let Ok(()) = self.group.add_proposal(&NoStorage, entry.queued.clone());
        self.pending.push(entry);
    }

    fn forget(&mut self, reference: &ProposalRef) {
        let entries = self.pending.entries().iter();
        let queued = entries
            .map(|entry| entry.queued.proposal_reference_ref())
            .find(|queued| queued.as_slice() == reference.as_bytes())
            .cloned();
        if let Some(queued) = queued {
            let Ok(()) = self.group.remove_proposal(&NoStorage, &queued);
        }
        self.pending.remove(reference);
    }
}

/// What a client makes of updates, for clients in tests.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn resolve_components<'d>(
    data: impl Fn(ComponentId) -> Option<&'d [u8]>,
    updates: &[nabe_wire::mls::AppDataUpdate],
) -> components::Changes {
    components::resolve(data, updates).expect("an honest client's updates")
}

/// All of what OpenMLS wrote, however long: it has no other bounds than those of the presentation language.
fn read_all<T: Decode>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes);
    let value = T::decode(&mut reader)?;
    match reader.left() {
        0 => Ok(value),
        left => Err(reader.error(Rule::TrailingBytes { left })),
    }
}

/// Whether a leaf in the tree supports what is required.
fn covers(node: &LeafNode, required: &RequiredCapabilities) -> bool {
    let capabilities = node.capabilities().tls_serialize_detached();
    let Ok(capabilities) = capabilities else { return false };
    read_all(&capabilities).is_ok_and(|capabilities: Capabilities| shape::covers(&capabilities, required))
}

/// Only a leaf that came with a key package has a lifetime.
fn check_lifetime(node: &LeafNode, now: UnixMillis) -> Result<(), MimiRefusal> {
    let LeafNodeSource::KeyPackage(lifetime) = node.leaf_node_source() else {
        return Ok(());
    };
    let now = now.as_u64() / 1000;
    if lifetime.not_after() <= now {
        Err(MimiRefusal::LeafLifetime(LifetimeFault::Expired))
    } else if lifetime.not_before() > now {
        Err(MimiRefusal::LeafLifetime(LifetimeFault::NotYetValid))
    } else {
        Ok(())
    }
}

const MEMORY_BASE: usize = 8 * 1024;
/// A leaf, its share of the parent nodes, and its entries in the roster.
const MEMORY_PER_MEMBER: usize = 2048;

#[cfg(test)]
mod tests;
