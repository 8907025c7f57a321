//! How a room's group is stored: whole, and as changes. A change is as large as what made it.
//!
//! OpenMLS's staged commit repeats the group's context, and in a MIMI room that has the participant list in it. So the context
//! is cut out of it and put together again from the one before, by the updates that the commit contains.
//!
//! As with [`crate::HubGroup`], these are types of OpenMLS in postcard behind a tag that names its version.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use nabe_types::UnixMillis;
use nabe_wire::mls::{
    AppDataUpdate, ComponentId, Extension, ExtensionType, ExternalSender, GroupContext, GroupInfo, MlsMessage,
    PartialGroupInfo,
};
use nabe_wire::uri::MimiUri;
use nabe_wire::{Encode as _, Kept, Message as _};
use openmls::group::{
    GroupContext as MlsGroupContext, ProposalQueue, PublicGroup, QueuedProposal, StagedCommit as MlsStagedCommit,
};
use openmls::prelude::{LeafNodeIndex, ParentNodeIndex};
use openmls::treesync::{LeafNode, ParentNode};
use serde::{Deserialize, Serialize};
use tls_codec::{Deserialize as _, Serialize as _};

use super::commit::{CommittedProposal, Leaves, updates};
use super::identity::Member;
use super::proposals::{Entry, ProposalRef};
use super::shape::Requirements;
use super::tree::TreeAfter;
use super::{MimiGroup, SignedInfo, State, components, read_all};
use crate::provider::{self, NoStorage};
use crate::stored::{RestoreError, decode, encode, interim_transcript_hash};

/// What bytes hold once their tag is known.
pub(super) enum Stored<'a> {
    Group(StoredGroup<'a>),
    Commit(StoredCommit<'a>),
    Proposals(StoredProposals<'a>),
}

/// A whole group.
#[derive(Deserialize, Serialize)]
pub(super) struct StoredGroup<'a> {
    #[serde(borrow)]
    room: &'a str,
    hub: &'a [u8],
    tree: &'a [u8],
    context: &'a [u8],
    interim_transcript_hash: &'a [u8],
    confirmation_tag: &'a [u8],
    /// A `PartialGroupInfo`, and whose leaf signed it.
    info: &'a [u8],
    signer: u32,
    sequence: u64,
    pending: Vec<StoredProposal<'a>>,
}

/// Which state of which group a change continues.
#[derive(Deserialize, Eq, PartialEq, Serialize)]
struct Base<'a> {
    epoch: u64,
    #[serde(borrow)]
    transcript: &'a [u8],
    /// How often what is pending has changed in the epoch.
    sequence: u64,
}

/// A commit's effect.
#[derive(Deserialize, Serialize)]
pub(super) struct StoredCommit<'a> {
    #[serde(borrow)]
    from: Base<'a>,
    /// OpenMLS's staged commit in front of and behind its context, without proposals.
    front: &'a [u8],
    back: &'a [u8],
    tree_hash: &'a [u8],
    confirmed_transcript_hash: &'a [u8],
    /// The context's extensions in order, those with their content that neither stay as they are nor are the dictionary.
    extensions: Vec<(u16, Option<&'a [u8]>)>,
    updates: Vec<(u16, Option<&'a [u8]>)>,
    removed: Vec<u32>,
    /// Leaves that are new, or new at their place.
    set: Vec<u32>,
    info: &'a [u8],
    signer: u32,
}

/// Proposals that were taken in.
#[derive(Deserialize, Serialize)]
pub(super) struct StoredProposals<'a> {
    #[serde(borrow)]
    from: Base<'a>,
    superseded: Vec<&'a [u8]>,
    proposals: Vec<StoredProposal<'a>>,
}

#[derive(Deserialize, Serialize)]
struct StoredProposal<'a> {
    message: &'a [u8],
    queued: &'a [u8],
    accepted: u64,
}

impl<'a> Stored<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, RestoreError> {
        let (tag, body): (Tag<'_>, _) = postcard::take_from_bytes(bytes).map_err(|_| RestoreError::OtherVersion)?;
        if tag.format != FORMAT || tag.openmls != OPENMLS {
            return Err(RestoreError::OtherVersion);
        }
        match tag.kind {
            KIND_GROUP => decode(body).map(Stored::Group),
            KIND_COMMIT => decode(body).map(Stored::Commit),
            KIND_PROPOSALS => decode(body).map(Stored::Proposals),
            _ => Err(RestoreError::Malformed),
        }
    }
}

impl StoredGroup<'_> {
    pub(super) fn encode(group: &MimiGroup) -> Bytes {
        let state = &*group.state;
        let (public, context) = (&state.group, state.group.group_context());
        let owned: Vec<_> = state.pending.entries().iter().map(|entry| Owned::of(entry)).collect();
        let stored = StoredGroup {
            room: &state.room.to_string(),
            hub: &state.hub.to_bytes(),
            tree: &encode(public.treesync()),
            context: &encode(context),
            interim_transcript_hash: &encode(&interim_transcript_hash(context, public.confirmation_tag())),
            confirmation_tag: &encode(public.confirmation_tag()),
            info: &state.info.partial.to_bytes(),
            signer: state.info.signer,
            sequence: state.sequence,
            pending: owned.iter().map(Owned::stored).collect(),
        };
        tagged(KIND_GROUP, &encode(&stored))
    }

    pub(super) fn load(&self) -> Result<State, RestoreError> {
        let storage = provider::StoredGroup {
            tree: self.tree,
            context: self.context,
            interim_transcript_hash: self.interim_transcript_hash,
            confirmation_tag: self.confirmation_tag,
        };
        let context: MlsGroupContext = decode(self.context)?;
        let group = PublicGroup::load(&storage, context.group_id());
        let group = group.ok().flatten().ok_or(RestoreError::Malformed)?;
        let room = MimiUri::parse(self.room).map_err(|_| RestoreError::Malformed)?;
        let hub = ExternalSender::from_bytes(self.hub).map_err(|_| RestoreError::Malformed)?;
        let info = SignedInfo {
            partial: PartialGroupInfo::from_bytes(self.info).map_err(|_| RestoreError::Malformed)?,
            signer: self.signer,
        };
        let mut state = State::new(group, room, hub, info).map_err(|_| RestoreError::Malformed)?;
        for proposal in &self.pending {
            proposal.add_to(&mut state)?;
        }
        state.sequence = self.sequence;
        Ok(state)
    }
}

/// What OpenMLS's staged commit does, and the same as bytes.
pub(super) struct Effect {
    staged: MlsStagedCommit,
    bytes: Vec<u8>,
    /// Where the context is in them.
    context: Range<usize>,
}

impl Effect {
    pub(super) fn of(mut staged: MlsStagedCommit) -> Self {
        // They are done; what they did is in the tree. They would repeat the key packages.
        staged.staged_proposal_queue = ProposalQueue::default();
        let bytes = encode(&staged);
        let context = encode(staged.group_context());
        // Not much comes after it.
        let start = bytes.windows(context.len()).rposition(|window| window == context);
        let start = start.expect("a staged commit holds the context that it shows");
        Self {
            context: start..start + context.len(),
            bytes,
            staged,
        }
    }

    /// What it makes of the tree, which OpenMLS shows of the groups of members only.
    pub(super) fn tree(&self) -> TreeAfter {
        // The beginning of a staged commit, up to the tree's hash and the context. A node has a struct of its own around it.
        type Nodes<I, N> = BTreeMap<I, (Option<N>,)>;
        type Beginning = (
            ProposalQueue,
            PublicState,
            Nodes<LeafNodeIndex, LeafNode>,
            Nodes<ParentNodeIndex, ParentNode>,
            u32,
        );
        let read = postcard::take_from_bytes::<Beginning>(&self.bytes[..self.context.start]);
        let ((_, PublicState::Public, leaves, parents, places), _) = read.expect("it was encoded right here");
        TreeAfter {
            leaves: leaves.into_iter().map(|(index, (node,))| (index, node)).collect(),
            parents: parents.into_iter().map(|(index, (node,))| (index, node)).collect(),
            places,
        }
    }
}

/// Of the two kinds of staged commits that of a group without secrets, which comes first.
#[derive(Deserialize)]
enum PublicState {
    Public,
}

impl StoredCommit<'_> {
    pub(super) fn encode(
        group: &MimiGroup,
        leaves: &Leaves,
        proposals: &[CommittedProposal],
        effect: &Effect,
        info: &GroupInfo,
    ) -> Bytes {
        let Range { start, end } = effect.context;
        let old = group.state.other_extensions();
        let extensions = info.group_context.extensions.iter().map(|extension| {
            let is_dictionary = extension.extension_type == ExtensionType::APP_DATA_DICTIONARY;
            let stays = is_dictionary || old.contains(&extension.to_bytes());
            (
                extension.extension_type.0,
                (!stays).then_some(&extension.extension_data[..]),
            )
        });
        let stored = StoredCommit {
            from: Base::of(&group.state),
            front: &effect.bytes[..start],
            back: &effect.bytes[end..],
            tree_hash: &info.group_context.tree_hash,
            confirmed_transcript_hash: &info.group_context.confirmed_transcript_hash,
            extensions: extensions.collect(),
            updates: updates(proposals)
                .map(|update| (update.component_id.0, update.update.as_ref().map(|update| &update[..])))
                .collect(),
            removed: leaves.removed.iter().map(|member| member.leaf).collect(),
            set: leaves.set().collect(),
            info: &PartialGroupInfo::of(info).to_bytes(),
            signer: info.signer,
        };
        tagged(KIND_COMMIT, &encode(&stored))
    }

    /// Moves the group to the next epoch.
    pub(super) fn apply_to(&self, state: &mut State) -> Result<(), RestoreError> {
        self.from.check(state)?;
        let (context, changes) = self.next_context(state)?;
        let requirements = if changes.is_empty() {
            None
        } else {
            let requirements = state.requirements_after(&changes);
            Some(requirements.map_err(|_| RestoreError::Malformed)?)
        };
        let context =
            MlsGroupContext::tls_deserialize_exact(context.to_bytes()).map_err(|_| RestoreError::Malformed)?;
        let next = NextEpoch {
            from: OwnedBase::of(state),
            staged: decode(&[self.front, &encode(&context), self.back].concat())?,
            requirements,
            removed: self.removed.clone(),
            set: self.set.clone(),
            info: SignedInfo {
                partial: PartialGroupInfo::from_bytes(self.info).map_err(|_| RestoreError::Malformed)?,
                signer: self.signer,
            },
        };
        next.apply_to(state)
    }

    fn next_context(&self, state: &State) -> Result<(GroupContext, components::Changes), RestoreError> {
        let old = state.group.group_context().tls_serialize_detached();
        let old = old.map_err(|_| RestoreError::Malformed)?;
        let old: GroupContext = read_all(&old).map_err(|_| RestoreError::Malformed)?;
        let updates: Vec<_> = self
            .updates
            .iter()
            .map(|&(component, update)| AppDataUpdate {
                component_id: ComponentId(component),
                update: update.map(Into::into),
            })
            .collect();
        let changes = components::resolve(|component| state.data(component), &updates);
        let changes = changes.map_err(|_| RestoreError::Malformed)?;
        let mut extensions = Vec::with_capacity(self.extensions.len());
        for &(extension_type, content) in &self.extensions {
            let extension_type = ExtensionType(extension_type);
            let mut before = old.extensions.iter();
            let before = before.find(|extension| extension.extension_type == extension_type);
            let extension = match (content, before) {
                (Some(content), _) => Extension {
                    extension_type,
                    extension_data: content.into(),
                },
                (None, Some(before)) => before.clone(),
                (None, None) => return Err(RestoreError::Malformed),
            };
            extensions.push(extension);
        }
        if !changes.is_empty() {
            set_dictionary(&mut extensions, &changes)?;
        }
        let context = GroupContext {
            epoch: old.epoch.checked_add(1).ok_or(RestoreError::Malformed)?,
            tree_hash: self.tree_hash.into(),
            confirmed_transcript_hash: self.confirmed_transcript_hash.into(),
            extensions,
            ..old
        };
        Ok((context, changes))
    }
}

fn set_dictionary(extensions: &mut [Extension], changes: &components::Changes) -> Result<(), RestoreError> {
    let dictionary = Extension::app_data_dictionary(extensions).ok_or(RestoreError::Malformed)?;
    let mut dictionary = dictionary.map_err(|_| RestoreError::Malformed)?;
    for (component, change) in changes {
        match change {
            Some(data) => dictionary.set(*component, &data[..]),
            None => {
                dictionary.remove(*component);
            }
        }
    }
    for extension in extensions {
        if extension.extension_type == ExtensionType::APP_DATA_DICTIONARY {
            extension.extension_data = dictionary.to_bytes().into();
        }
    }
    Ok(())
}

/// What a commit makes of the group it was staged on, at hand: the same as the stored change, which has to be read first.
#[derive(Debug)]
pub struct NextEpoch {
    from: OwnedBase,
    staged: MlsStagedCommit,
    /// If they are others.
    requirements: Option<Requirements>,
    removed: Vec<u32>,
    /// Leaves that are new, or new at their place.
    set: Vec<u32>,
    info: SignedInfo,
}

impl NextEpoch {
    pub(super) fn new(
        state: &State,
        leaves: &Leaves,
        effect: Effect,
        requirements: Requirements,
        info: &GroupInfo,
    ) -> Self {
        Self {
            from: OwnedBase::of(state),
            staged: effect.staged,
            requirements: (requirements != state.requirements).then_some(requirements),
            removed: leaves.removed.iter().map(|member| member.leaf).collect(),
            set: leaves.set().collect(),
            info: SignedInfo {
                partial: PartialGroupInfo::of(info),
                signer: info.signer,
            },
        }
    }

    /// Moves the group to the next epoch.
    pub(super) fn apply_to(self, state: &mut State) -> Result<(), RestoreError> {
        self.from.base().check(state)?;
        let merged = state.group.merge_commit(&NoStorage, self.staged);
        merged.map_err(|_| RestoreError::Malformed)?;
        if let Some(requirements) = self.requirements {
            state.requirements = requirements;
        }
        for leaf in self.removed {
            state.roster.clear(leaf);
        }
        for leaf in self.set {
            let node = state
                .group
                .leaf(LeafNodeIndex::new(leaf))
                .ok_or(RestoreError::Malformed)?;
            let member = Member::at(leaf, node).map_err(|_| RestoreError::Malformed)?;
            state.roster.set(member);
        }
        state.reread_senders().map_err(|_| RestoreError::Malformed)?;
        state.pending.clear();
        state.sequence = 0;
        state.info = self.info;
        Ok(())
    }
}

impl StoredProposals<'_> {
    pub(super) fn encode(group: &MimiGroup, entries: &[Arc<Entry>], superseded: &[ProposalRef]) -> Bytes {
        let owned: Vec<_> = entries.iter().map(|entry| Owned::of(entry)).collect();
        let stored = StoredProposals {
            from: Base::of(&group.state),
            superseded: superseded.iter().map(ProposalRef::as_bytes).collect(),
            proposals: owned.iter().map(Owned::stored).collect(),
        };
        tagged(KIND_PROPOSALS, &encode(&stored))
    }

    /// The same with others that are superseded.
    pub(super) fn superseding(bytes: &[u8], superseded: &[ProposalRef]) -> Bytes {
        let Ok(Stored::Proposals(mut stored)) = Stored::parse(bytes) else {
            unreachable!("proposals were staged as proposals");
        };
        stored.superseded = superseded.iter().map(ProposalRef::as_bytes).collect();
        tagged(KIND_PROPOSALS, &encode(&stored))
    }

    /// Adds them to what is pending.
    pub(super) fn apply_to(&self, state: &mut State) -> Result<(), RestoreError> {
        self.from.check(state)?;
        for &reference in &self.superseded {
            state.forget(&ProposalRef(reference.to_vec()));
        }
        for proposal in &self.proposals {
            proposal.add_to(state)?;
        }
        state.sequence += 1;
        Ok(())
    }
}

impl StoredProposal<'_> {
    fn add_to(&self, state: &mut State) -> Result<(), RestoreError> {
        let message: Kept<MlsMessage> = read_kept(self.message)?;
        let queued: QueuedProposal = decode(self.queued)?;
        let entry = state
            .reload(&message, queued, UnixMillis(self.accepted))
            .map_err(|_| RestoreError::Malformed)?;
        state.remember(entry);
        Ok(())
    }
}

/// The parts of a pending proposal as bytes.
struct Owned<'e> {
    entry: &'e Entry,
    queued: Vec<u8>,
}

impl<'e> Owned<'e> {
    fn of(entry: &'e Entry) -> Self {
        Self {
            entry,
            queued: encode(&entry.queued),
        }
    }

    fn stored(&self) -> StoredProposal<'_> {
        StoredProposal {
            message: self.entry.pending.message.as_bytes(),
            queued: &self.queued,
            accepted: self.entry.pending.accepted.as_u64(),
        }
    }
}

impl<'s> Base<'s> {
    fn of(state: &'s State) -> Self {
        let context = state.group.group_context();
        Self {
            epoch: context.epoch().as_u64(),
            transcript: context.confirmed_transcript_hash(),
            sequence: state.sequence,
        }
    }

    fn check(&self, state: &State) -> Result<(), RestoreError> {
        if *self == Base::of(state) {
            Ok(())
        } else {
            Err(RestoreError::WrongEpoch)
        }
    }
}

/// A [`Base`] that outlives its group.
#[derive(Debug)]
struct OwnedBase {
    epoch: u64,
    transcript: Vec<u8>,
    sequence: u64,
}

impl OwnedBase {
    fn of(state: &State) -> Self {
        let base = Base::of(state);
        Self {
            epoch: base.epoch,
            transcript: base.transcript.to_vec(),
            sequence: base.sequence,
        }
    }

    fn base(&self) -> Base<'_> {
        Base {
            epoch: self.epoch,
            transcript: &self.transcript,
            sequence: self.sequence,
        }
    }
}

fn read_kept(bytes: &[u8]) -> Result<Kept<MlsMessage>, RestoreError> {
    let message = MlsMessage::from_bytes(bytes).map_err(|_| RestoreError::Malformed)?;
    // What was read encodes to the bytes it was read from.
    Ok(Kept::new(message))
}

#[derive(Deserialize, Serialize)]
struct Tag<'a> {
    format: u8,
    openmls: &'a str,
    kind: u8,
}

fn tagged(kind: u8, body: &[u8]) -> Bytes {
    let tag = Tag {
        format: FORMAT,
        openmls: OPENMLS,
        kind,
    };
    [&encode(&tag), body].concat().into()
}

/// Of the envelope and of what is in it besides OpenMLS's types.
const FORMAT: u8 = 1;
/// The version that the workspace pins; a test compares.
const OPENMLS: &str = "0.9.2";
// Other numbers than those of a Linearized Matrix room's group, so that neither is taken for the other.
const KIND_GROUP: u8 = 16;
const KIND_COMMIT: u8 = 17;
const KIND_PROPOSALS: u8 = 18;
