//! Proposals that are sent by themselves (MIMI #proposal-commit-paradigm, MIMI #authenticating-proposals): what the hub checks
//! before it takes one in, and what is pending until a commit comes.
//!
//! The next commit has to contain what is pending (MIMI #bob-leaves-the-room). So a proposal is only taken in if a commit could
//! contain it together with all others; otherwise nobody could commit any more.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use nabe_types::UnixMillis;
use nabe_wire::app_data::AppAck;
use nabe_wire::mls::{
    AppDataUpdate, AppEphemeral, ComponentId, Extension, ExternalSender, FramedContentBody, KeyPackage, LeafNode,
    LeafNodeSource, MlsMessage, Proposal, PublicMessage, Sender,
};
use nabe_wire::participant_list::ParticipantListData;
use nabe_wire::uri::MimiUri;
use nabe_wire::{Kept, Message as _};
use openmls::framing::{ProcessedMessageContent, ProtocolMessage};
use openmls::group::QueuedProposal;
use openmls::prelude::{MlsMessageBodyIn, MlsMessageIn};
use tls_codec::Deserialize as _;

use super::components;
use super::external::reference_of;
use super::framing::readable;
use super::identity::{Identity, Member};
use super::refusal::MimiRefusal;
use super::shape::{self, Changed, Requirements};
use super::stored::StoredProposals;
use super::{MimiGroup, State};
use crate::key_package::LifetimeFault;
use crate::keys;
use crate::provider::crypto;

/// The hash by which a commit refers to a proposal (RFC 9420, 5.2).
#[derive(Clone, Eq, Ord, PartialEq, PartialOrd)]
pub struct ProposalRef(pub(super) Vec<u8>);

impl ProposalRef {
    /// The hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ProposalRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Who proposes: they, and not who commits it, must be allowed to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Proposer {
    /// A client in the group.
    Member(Member),
    /// On the group's list of external senders; 0 is the hub.
    ExternalSender {
        /// The place in the list.
        index: u32,
        /// Who stands there.
        sender: ExternalSender,
    },
    /// A client that asks to be added, or joins by the external commit that the proposal is in.
    NewMember(Identity),
}

impl Proposer {
    /// The user whose client it is; none if it is none of a user.
    #[must_use]
    pub fn user(&self) -> Option<&MimiUri> {
        match self {
            Self::Member(member) => Some(member.identity.user()),
            Self::NewMember(identity) => Some(identity.user()),
            Self::ExternalSender { .. } => None,
        }
    }
}

/// A proposal that the hub has taken in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PendingProposal {
    /// Who proposes.
    pub proposer: Proposer,
    /// What.
    pub proposal: Proposal,
    /// The client that it adds, removes or renews.
    pub client: Option<Identity>,
    /// How commits refer to it.
    pub reference: ProposalRef,
    /// The message, for whoever joins by an external commit (MIMI #claim-group-key-information).
    pub message: Kept<MlsMessage>,
    /// When the hub accepted it.
    pub accepted: UnixMillis,
}

/// Proposals that passed all checks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StagedProposals {
    /// The proposals, in the order they came in.
    pub proposals: Vec<PendingProposal>,
    /// Which pending ones give way to them: an Update of somebody who is to be removed or proposes another, a Remove of somebody who
    /// leaves, what users change of nothing but their own place in the list.
    pub superseded: Vec<ProposalRef>,
    /// The change as it is stored, for [`MimiGroup::replay`]. About twice as large as the messages.
    pub bytes: Bytes,
}

/// One of several proposals is refused, and with it all.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("proposal {index}: {reason}")]
pub struct ProposalRefused {
    /// Which, counted from 0.
    pub index: usize,
    /// Its reference, if it got as far as having one.
    pub reference: Option<ProposalRef>,
    /// Why.
    pub reason: MimiRefusal,
}

impl MimiGroup {
    /// Checks a proposal, and more that came with it (MIMI #update-room-state), against the group and what is pending. They are
    /// taken together or not at all. Says what they would do, and changes nothing.
    ///
    /// Whether the proposer may is for the policy to say, which is given what is found here.
    pub fn propose(
        &self,
        proposal: &Kept<MlsMessage>,
        more: &[Kept<MlsMessage>],
        now: UnixMillis,
    ) -> Result<StagedProposals, ProposalRefused> {
        let mut queue = self.state.pending.clone();
        let mut superseded = Vec::new();
        let mut staged = Vec::new();
        for (index, message) in std::iter::once(proposal).chain(more).enumerate() {
            let mut reference = None;
            let entry = self
                .state
                .admit(message, &mut queue, &mut superseded, &mut reference, now)
                .map_err(|reason| ProposalRefused {
                    index,
                    reference,
                    reason,
                })?;
            staged.push(entry);
        }
        // Of those that came together, one may take the place of another.
        staged.retain(|entry| queue.find(&entry.pending.reference).is_some());
        superseded.retain(|reference| self.state.pending.find(reference).is_some());
        Ok(StagedProposals {
            bytes: StoredProposals::encode(self, &staged, &superseded),
            proposals: staged.iter().map(|entry| entry.pending.clone()).collect(),
            superseded,
        })
    }

    /// Reads a proposal of this epoch that was checked before, or is about to be: who makes it, what it says, and its reference.
    ///
    /// # Errors
    /// It is none, or its sender is nobody of the group. No signature is checked.
    pub fn read_proposal(&self, message: &Kept<MlsMessage>) -> Result<(Proposer, Proposal, ProposalRef), MimiRefusal> {
        let public = readable(message)?;
        let FramedContentBody::Proposal(proposal) = &public.content.body else {
            return Err(MimiRefusal::NotAProposal);
        };
        let proposer = self.state.proposer(&public.content.sender, proposal)?;
        Ok((proposer, (***proposal).clone(), reference_of(public, self.suite())?))
    }

    /// The same, and these pending proposals are taken out, too: what gives way by the policy, which alone knows what a role means. Of
    /// references to nothing that is pending nothing comes.
    #[must_use]
    pub fn superseding<'r>(
        &self,
        mut staged: StagedProposals,
        references: impl IntoIterator<Item = &'r [u8]>,
    ) -> StagedProposals {
        let references = references.into_iter().map(|reference| ProposalRef(reference.to_vec()));
        for reference in references {
            if self.state.pending.find(&reference).is_some() && !staged.superseded.contains(&reference) {
                staged.superseded.push(reference);
            }
        }
        staged.bytes = StoredProposals::superseding(&staged.bytes, &staged.superseded);
        staged
    }

    /// What is pending, in the order in which it was accepted.
    pub fn pending(&self) -> impl ExactSizeIterator<Item = &PendingProposal> {
        self.state.pending.iter()
    }

    /// Components as they will be once what is pending is committed. Effects count from the moment the hub accepts them
    /// (MIMI #room-state).
    #[must_use]
    pub fn pending_components(&self) -> std::collections::BTreeMap<ComponentId, Option<Vec<u8>>> {
        let state = &*self.state;
        components::resolve(|component| state.data(component), state.pending.updates())
            .expect("every proposal was resolved with those before it when it was taken in")
    }

    /// Pending Adds whose key package is not good any more: a commit can leave them out, and OpenMLS would refuse it with them.
    pub fn expired(&self, now: UnixMillis) -> impl Iterator<Item = &ProposalRef> {
        let is_expired = move |pending: &&PendingProposal| matches!(&pending.proposal, Proposal::Add(package) if check_lifetime(&package.leaf_node, now).is_err());
        self.pending().filter(is_expired).map(|pending| &pending.reference)
    }

    /// Leaves whose removal is pending. Their clients send neither commits nor application messages (MIMI #update-room-state).
    pub fn leaving(&self) -> impl Iterator<Item = u32> + '_ {
        self.pending().filter_map(PendingProposal::removes)
    }
}

impl PendingProposal {
    /// The leaf that it removes.
    #[must_use]
    pub fn removes(&self) -> Option<u32> {
        match (&self.proposal, &self.proposer) {
            (Proposal::Remove(leaf), _) => Some(*leaf),
            (Proposal::SelfRemove, Proposer::Member(member)) => Some(member.leaf),
            _ => None,
        }
    }

    /// The user whose client proposes.
    fn user(&self) -> Option<&MimiUri> {
        self.proposer.user()
    }

    /// The user who proposes to change their own place in the list and nothing else.
    pub(super) fn own_change(&self, list: &ParticipantListData) -> Option<&MimiUri> {
        let (user, update) = (self.user()?, self.update()?);
        let touched = components::touched(list, update).users;
        let is_own = touched.len() == 1 && touched.contains(&user.to_string());
        is_own.then_some(user)
    }

    fn update(&self) -> Option<&AppDataUpdate> {
        match &self.proposal {
            Proposal::AppDataUpdate(update) => Some(update),
            _ => None,
        }
    }

    pub(super) fn renews(&self) -> Option<u32> {
        match (&self.proposal, &self.proposer) {
            (Proposal::Update(_), Proposer::Member(member)) => Some(member.leaf),
            _ => None,
        }
    }

    /// The new leaf that it brings.
    fn leaf_node(&self) -> Option<&LeafNode> {
        match &self.proposal {
            Proposal::Add(package) => Some(&package.leaf_node),
            Proposal::Update(leaf) => Some(leaf),
            _ => None,
        }
    }
}

/// A pending proposal, and what OpenMLS needs of it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) pending: PendingProposal,
    pub(super) queued: QueuedProposal,
}

/// What is pending, in the order of acceptance.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue(Vec<Arc<Entry>>);

impl Queue {
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &PendingProposal> {
        self.0.iter().map(|entry| &entry.pending)
    }

    pub(super) fn entries(&self) -> &[Arc<Entry>] {
        &self.0
    }

    pub(super) fn find(&self, reference: &ProposalRef) -> Option<&PendingProposal> {
        self.iter().find(|pending| pending.reference == *reference)
    }

    pub(super) fn push(&mut self, entry: Arc<Entry>) {
        self.0.push(entry);
    }

    pub(super) fn remove(&mut self, reference: &ProposalRef) {
        self.0.retain(|entry| entry.pending.reference != *reference);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn updates(&self) -> impl Iterator<Item = &AppDataUpdate> {
        self.iter().filter_map(PendingProposal::update)
    }

    fn of_leaf(&self, leaf: u32) -> impl Iterator<Item = &PendingProposal> {
        self.iter()
            .filter(move |pending| pending.removes() == Some(leaf) || pending.renews() == Some(leaf))
    }
}

impl State {
    fn admit(
        &self,
        message: &Kept<MlsMessage>,
        queue: &mut Queue,
        superseded: &mut Vec<ProposalRef>,
        found: &mut Option<ProposalRef>,
        now: UnixMillis,
    ) -> Result<Arc<Entry>, MimiRefusal> {
        let public = readable(message)?;
        let FramedContentBody::Proposal(proposal) = &public.content.body else {
            return Err(MimiRefusal::NotAProposal);
        };
        self.check_frame(&public.content)?;
        let proposer = self.proposer(&public.content.sender, proposal)?;
        check_type(&proposer, proposal)?;
        let queued = self.authenticate(message, public, proposal)?;
        let reference = ProposalRef(queued.proposal_reference_ref().as_slice().to_vec());
        *found = Some(reference.clone());
        if queue.find(&reference).is_some() {
            return Err(MimiRefusal::PendingAlready);
        }
        let pending = PendingProposal {
            client: self.client_of(&proposer, proposal)?,
            proposer,
            proposal: (***proposal).clone(),
            reference,
            message: message.clone(),
            accepted: now,
        };
        for reference in self.check(&pending, queue, now)? {
            queue.remove(&reference);
            superseded.push(reference);
        }
        let entry = Arc::new(Entry { pending, queued });
        queue.push(entry.clone());
        Ok(entry)
    }

    /// A pending proposal as it was when it was taken in, from what is stored of it.
    pub(super) fn reload(
        &self,
        message: &Kept<MlsMessage>,
        queued: QueuedProposal,
        accepted: UnixMillis,
    ) -> Result<Arc<Entry>, MimiRefusal> {
        let public = readable(message)?;
        let FramedContentBody::Proposal(proposal) = &public.content.body else {
            return Err(MimiRefusal::NotAProposal);
        };
        let proposer = self.proposer(&public.content.sender, proposal)?;
        let pending = PendingProposal {
            client: self.client_of(&proposer, proposal)?,
            proposer,
            proposal: (***proposal).clone(),
            reference: ProposalRef(queued.proposal_reference_ref().as_slice().to_vec()),
            message: message.clone(),
            accepted,
        };
        Ok(Arc::new(Entry { pending, queued }))
    }

    fn proposer(&self, sender: &Sender, proposal: &Proposal) -> Result<Proposer, MimiRefusal> {
        match (*sender, proposal) {
            (Sender::Member { leaf_index: leaf }, _) => {
                let member = self.roster.member_at(leaf);
                member.map(Proposer::Member).ok_or(MimiRefusal::UnknownMember { leaf })
            }
            (Sender::External { sender_index: index }, _) => {
                let sender = self.sender(index).cloned();
                sender
                    .map(|sender| Proposer::ExternalSender { index, sender })
                    .ok_or(MimiRefusal::UnknownExternalSender { index })
            }
            (Sender::NewMemberProposal, Proposal::Add(package)) => {
                identity(&package.leaf_node).map(Proposer::NewMember)
            }
            _ => Err(MimiRefusal::SenderNotAllowed),
        }
    }

    /// The client that a proposal adds, removes or renews.
    pub(super) fn client_of(&self, proposer: &Proposer, proposal: &Proposal) -> Result<Option<Identity>, MimiRefusal> {
        match (proposal, proposer) {
            (Proposal::Add(package), _) => identity(&package.leaf_node).map(Some),
            (&Proposal::Remove(leaf), _) => {
                let removed = self.roster.at(leaf).cloned();
                removed.map(Some).ok_or(MimiRefusal::NobodyToRemove { leaf })
            }
            (Proposal::SelfRemove | Proposal::Update(_), Proposer::Member(member)) => Ok(Some(member.identity.clone())),
            _ => Ok(None),
        }
    }

    /// Checks the signature, and those of a new leaf, and gives what OpenMLS will resolve commits by.
    fn authenticate(
        &self,
        message: &Kept<MlsMessage>,
        public: &PublicMessage,
        proposal: &Proposal,
    ) -> Result<QueuedProposal, MimiRefusal> {
        if let Sender::External { sender_index } = public.content.sender
            && let Some(queued) = self.queue_external(sender_index, public, proposal)?
        {
            return Ok(queued);
        }
        let message = MlsMessageIn::tls_deserialize_exact(message.as_bytes()).map(MlsMessageIn::extract);
        let Ok(MlsMessageBodyIn::PublicMessage(message)) = message else {
            return Err(MimiRefusal::WrongWireFormat);
        };
        let processed = self.group.process_message(crypto(), ProtocolMessage::from(message))?;
        match processed.into_content() {
            ProcessedMessageContent::ProposalMessage(queued)
            | ProcessedMessageContent::ExternalJoinProposalMessage(queued) => Ok(*queued),
            _ => Err(MimiRefusal::NotAProposal),
        }
    }

    /// Whether the next commit could contain the proposal beside all that are pending, and which of these it would not contain
    /// then.
    fn check(&self, new: &PendingProposal, queue: &Queue, now: UnixMillis) -> Result<Vec<ProposalRef>, MimiRefusal> {
        match &new.proposal {
            Proposal::Add(package) => {
                self.check_newcomer(package, queue, now)?;
                Ok(Vec::new())
            }
            Proposal::Update(leaf_node) => self.check_renewal(new, leaf_node, queue),
            Proposal::Remove(leaf) => removal_of(*leaf, queue),
            Proposal::SelfRemove => leave_of(new, queue),
            Proposal::GroupContextExtensions(extensions) => {
                self.check_extensions(extensions, queue)?;
                Ok(Vec::new())
            }
            Proposal::AppDataUpdate(update) => {
                let superseded = self.own_changes_before(new, update, queue);
                let stays = |pending: &&PendingProposal| !superseded.contains(&pending.reference);
                let pending = queue.iter().filter(stays).filter_map(PendingProposal::update);
                self.check_updates(pending.chain(std::iter::once(update)), queue)?;
                Ok(superseded)
            }
            Proposal::AppEphemeral(ephemeral) => check_ephemeral(ephemeral).map(|()| Vec::new()),
            _ => Ok(Vec::new()),
        }
    }

    /// Changes of the list by which users change their own place and nothing else: they give way to what somebody else does about
    /// that user.
    fn own_changes_before(&self, new: &PendingProposal, update: &AppDataUpdate, queue: &Queue) -> Vec<ProposalRef> {
        let is_of_list = |update: &AppDataUpdate| update.component_id == ComponentId::PARTICIPANT_LIST;
        if !is_of_list(update) || !queue.updates().any(is_of_list) {
            return Vec::new();
        }
        let list = self.participants();
        let touched = components::touched(&list, update).users;
        let gives_way = |pending: &&PendingProposal| {
            let user = pending.own_change(&list);
            user.is_some_and(|user| new.user() != Some(user) && touched.contains(&user.to_string()))
        };
        let superseded = queue.iter().filter(gives_way);
        superseded.map(|pending| pending.reference.clone()).collect()
    }

    /// The list as it was when the epoch began.
    pub(super) fn participants(&self) -> ParticipantListData {
        let list = self.data(ComponentId::PARTICIPANT_LIST);
        let list = list.and_then(|list| ParticipantListData::from_bytes(list).ok());
        list.unwrap_or(ParticipantListData {
            participants: Vec::new(),
        })
    }

    fn check_newcomer(&self, package: &KeyPackage, queue: &Queue, now: UnixMillis) -> Result<(), MimiRefusal> {
        let leaf_node = &package.leaf_node;
        check_lifetime(leaf_node, now)?;
        let newcomer = identity(leaf_node)?;
        let gone: BTreeSet<u32> = queue.iter().filter_map(PendingProposal::removes).collect();
        let mut adds = queue
            .iter()
            .filter(|pending| matches!(pending.proposal, Proposal::Add(_)));
        let is_pending = adds.any(|pending| {
            newcomer.client().is_some()
                && pending
                    .client
                    .as_ref()
                    .is_some_and(|client| client.is_same_client(&newcomer))
        });
        if is_pending || self.roster.is_member_already(&newcomer, &gone) {
            return Err(MimiRefusal::ClientTwice);
        }
        if package.init_key == leaf_node.encryption_key {
            return Err(MimiRefusal::KeyInUse);
        }
        let init_keys = queue.iter().filter_map(|pending| match &pending.proposal {
            Proposal::Add(package) => Some(&package.init_key),
            _ => None,
        });
        for init_key in init_keys {
            if *init_key == package.init_key {
                return Err(MimiRefusal::KeyInUse);
            }
        }
        self.check_new_leaf(leaf_node, None, queue)
    }

    fn check_renewal(
        &self,
        new: &PendingProposal,
        leaf_node: &LeafNode,
        queue: &Queue,
    ) -> Result<Vec<ProposalRef>, MimiRefusal> {
        let Proposer::Member(member) = &new.proposer else {
            return Err(MimiRefusal::SenderNotAllowed);
        };
        if !identity(leaf_node)?.is_same_client(&member.identity) {
            return Err(MimiRefusal::IdentityChanged);
        }
        let mut superseded = Vec::new();
        for pending in queue.of_leaf(member.leaf) {
            if pending.removes().is_some() {
                return Err(MimiRefusal::UpdateWhileLeaving);
            }
            superseded.push(pending.reference.clone());
        }
        self.check_new_leaf(leaf_node, Some(member.leaf), queue)?;
        Ok(superseded)
    }

    /// What any new leaf has to be like, `at` the place of an old one or at a new place.
    fn check_new_leaf(&self, leaf_node: &LeafNode, at: Option<u32>, queue: &Queue) -> Result<(), MimiRefusal> {
        let extensions = self.extensions_after(queue)?;
        let capabilities = &leaf_node.capabilities;
        let supports_group = shape::required_capabilities(&extensions)?
            .is_none_or(|required| shape::covers(capabilities, &required))
            && capabilities
                .cipher_suites
                .iter()
                .any(|suite| suite.0 == self.suite.id());
        let credential_type = leaf_node.credential.credential_type();
        let members_know_it = self.group.treesync().full_leaves().all(|(_, node)| {
            let mut known = node.capabilities().credentials().iter();
            known.any(|known| u16::from(*known) == credential_type.0)
        });
        let knows_members = self.roster.iter().all(|(_, member)| {
            let theirs = member.credential().credential_type();
            capabilities.credentials.contains(&theirs)
        });
        if !supports_group || !members_know_it || !knows_members {
            return Err(MimiRefusal::Unsupported);
        }
        let changes = components::resolve(|component| self.data(component), queue.updates())?;
        self.requirements_after(&changes)?.check_leaf(leaf_node)?;
        self.roster.check_pseudonyms(std::iter::once(&identity(leaf_node)?))?;
        for member in self.group.members() {
            let same_place = Some(member.index.u32()) == at;
            let signature_key_in_use = !same_place && member.signature_key == leaf_node.signature_key[..];
            if signature_key_in_use || member.encryption_key == leaf_node.encryption_key[..] {
                return Err(MimiRefusal::KeyInUse);
            }
        }
        let replaced: Vec<u32> = at.into_iter().collect();
        keys::check_inner_nodes(&self.group, vec![&leaf_node.encryption_key], &replaced)?;
        for pending in queue.iter() {
            let Some(other) = pending.leaf_node() else { continue };
            let same_place = at.is_some() && pending.renews() == at;
            if !same_place
                && (other.signature_key == leaf_node.signature_key || other.encryption_key == leaf_node.encryption_key)
            {
                return Err(MimiRefusal::KeyInUse);
            }
        }
        Ok(())
    }

    /// The group's extensions once what is pending is committed.
    fn extensions_after(&self, queue: &Queue) -> Result<Vec<Extension>, MimiRefusal> {
        let mut pending = queue.iter();
        let change = pending.find_map(|pending| match &pending.proposal {
            Proposal::GroupContextExtensions(extensions) => Some(extensions.clone()),
            _ => None,
        });
        change.map_or_else(|| self.context_extensions(), Ok)
    }

    fn check_extensions(&self, extensions: &[Extension], queue: &Queue) -> Result<(), MimiRefusal> {
        let mut pending = queue.iter();
        if pending.any(|pending| matches!(pending.proposal, Proposal::GroupContextExtensions(_))) {
            return Err(MimiRefusal::ExtensionsPending);
        }
        self.check_dictionary_unchanged(extensions)?;
        shape::check_extensions(extensions, &self.hub)?;
        let required = shape::required_capabilities(extensions)?;
        let covered =
            |node: &openmls::prelude::LeafNode| required.as_ref().is_none_or(|required| super::covers(node, required));
        let new_leaves_covered = queue.iter().filter_map(PendingProposal::leaf_node).all(|leaf_node| {
            let capabilities = &leaf_node.capabilities;
            required
                .as_ref()
                .is_none_or(|required| shape::covers(capabilities, required))
        });
        if !self.group.treesync().full_leaves().all(|(_, node)| covered(node)) || !new_leaves_covered {
            return Err(MimiRefusal::Unsupported);
        }
        Ok(())
    }

    /// A GroupContextExtensions proposal repeats the dictionary as it is (MLSX #appdataupdate).
    pub(super) fn check_dictionary_unchanged(&self, extensions: &[Extension]) -> Result<(), MimiRefusal> {
        let new = Extension::app_data_dictionary(extensions)
            .transpose()
            .map_err(MimiRefusal::ContextMalformed)?;
        let current = self.context_extensions()?;
        let current = Extension::app_data_dictionary(&current)
            .transpose()
            .map_err(MimiRefusal::ContextMalformed)?;
        if new != current {
            return Err(MimiRefusal::DictionaryByExtensions);
        }
        Ok(())
    }

    /// What these updates make of the components; refused if the result is no room's, or asks of leaves what they lack.
    fn check_updates<'u>(
        &self,
        updates: impl IntoIterator<Item = &'u AppDataUpdate>,
        queue: &Queue,
    ) -> Result<(), MimiRefusal> {
        let changes = components::resolve(|component| self.data(component), updates)?;
        let requirements = self.requirements_after(&changes)?;
        if requirements != self.requirements {
            for (_, node) in self.group.treesync().full_leaves() {
                requirements.check_node(node)?;
            }
            for leaf_node in queue.iter().filter_map(PendingProposal::leaf_node) {
                requirements.check_leaf(leaf_node)?;
            }
        }
        Ok(())
    }

    pub(super) fn requirements_after(&self, changes: &components::Changes) -> Result<Requirements, MimiRefusal> {
        let before = self.dictionary().ok_or(MimiRefusal::MissingComponent {
            component: ComponentId::APP_COMPONENTS,
        })?;
        Requirements::of(&Changed { before, changes }, &self.room)
    }
}

/// What each kind of sender can propose (RFC 9420, 12.1.8; MLSX #appdataupdate, MLSX #app-ephemeral, MLSX #selfremove-proposal).
fn check_type(proposer: &Proposer, proposal: &Proposal) -> Result<(), MimiRefusal> {
    let proposal_type = proposal.proposal_type();
    let is_allowed = match (proposal, proposer) {
        (Proposal::Other { .. }, _) => return Err(MimiRefusal::UnknownProposalType { proposal_type }),
        (Proposal::ReInit(_), _) => return Err(MimiRefusal::ReInitNotFollowed),
        (Proposal::Psk(_), _) => return Err(MimiRefusal::PskByItself),
        (Proposal::ExternalInit(_), _) => false,
        (_, Proposer::Member(_)) => true,
        (Proposal::Update(_) | Proposal::SelfRemove, Proposer::ExternalSender { .. }) => false,
        (_, Proposer::ExternalSender { .. }) => true,
        (_, Proposer::NewMember(_)) => matches!(proposal, Proposal::Add(_)),
    };
    if is_allowed {
        Ok(())
    } else {
        Err(MimiRefusal::ProposalNotBySender { proposal_type })
    }
}

/// An Update gives way to a Remove (RFC 9420, 12.2).
fn removal_of(leaf: u32, queue: &Queue) -> Result<Vec<ProposalRef>, MimiRefusal> {
    let mut superseded = Vec::new();
    for pending in queue.of_leaf(leaf) {
        if pending.removes().is_some() {
            return Err(MimiRefusal::RemovalPending { leaf });
        }
        superseded.push(pending.reference.clone());
    }
    Ok(superseded)
}

/// A Remove gives way to a SelfRemove (MLSX #proposal-description).
fn leave_of(new: &PendingProposal, queue: &Queue) -> Result<Vec<ProposalRef>, MimiRefusal> {
    let Some(leaf) = new.removes() else {
        return Err(MimiRefusal::SenderNotAllowed);
    };
    let mut superseded = Vec::new();
    for pending in queue.of_leaf(leaf) {
        if pending.proposal == Proposal::SelfRemove {
            return Err(MimiRefusal::SelfRemoveTwice);
        }
        superseded.push(pending.reference.clone());
    }
    Ok(superseded)
}

/// Nothing that we know is told in passing but which messages arrived (MLSX #appack).
pub(super) fn check_ephemeral(ephemeral: &AppEphemeral) -> Result<(), MimiRefusal> {
    let component = ephemeral.component_id;
    if component != ComponentId::APP_ACK {
        return Err(MimiRefusal::UnknownComponent { component });
    }
    AppAck::from_bytes(&ephemeral.data).map_err(|error| MimiRefusal::ComponentData { component, error })?;
    Ok(())
}

pub(super) fn identity(leaf_node: &LeafNode) -> Result<Identity, MimiRefusal> {
    Identity::parse(&leaf_node.credential, &leaf_node.signature_key).map_err(MimiRefusal::Identity)
}

/// Only a leaf that came with a key package has a lifetime.
pub(super) fn check_lifetime(leaf_node: &LeafNode, now: UnixMillis) -> Result<(), MimiRefusal> {
    let LeafNodeSource::KeyPackage(lifetime) = &leaf_node.source else {
        return Ok(());
    };
    let now = now.as_u64() / 1000;
    if lifetime.not_after <= now {
        Err(MimiRefusal::LeafLifetime(LifetimeFault::Expired))
    } else if lifetime.not_before > now {
        Err(MimiRefusal::LeafLifetime(LifetimeFault::NotYetValid))
    } else {
        Ok(())
    }
}
