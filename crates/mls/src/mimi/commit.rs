//! Commits, by members and by those who join with them (MIMI #update-room-state, MIMI #proposal-commit-paradigm): what the hub
//! checks before it takes one in, and what it finds out for the policy.
//!
//! In this order: the frame; which proposals there are, and whose; that nothing pending is left out; what becomes of the
//! components; then OpenMLS, which checks RFC 9420; then what has come of it: who is in the group, that leaves support what
//! the group asks, and that GroupInfo, tree and Welcome belong to the commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use nabe_types::UnixMillis;
use nabe_wire::app_data::AppDataDictionary;
use nabe_wire::mls::{
    AppDataUpdate, CipherSuite, Commit, ComponentId, FramedContentBody, GroupContext, GroupInfo, KeyPackage,
    MlsMessage, Proposal, ProposalOrRef, RatchetTreeOption, Sender, UpdatePath, Welcome,
};
use nabe_wire::update::CommitParts;
use nabe_wire::uri::MimiUri;
use nabe_wire::{Encode as _, Kept};
use openmls::ciphersuite::hash_ref::make_key_package_ref;
use openmls::component::ComponentData;
use openmls::framing::{ProcessedMessageContent, ProtocolMessage};
use openmls::group::{PublicGroup, StagedCommit as MlsStagedCommit};
use openmls::prelude::{LeafNodeIndex, MlsMessageBodyIn, MlsMessageIn};
use tls_codec::{Deserialize as _, Serialize as _};

use super::components::{self, Changes};
use super::framing::readable;
use super::identity::{Identity, Member};
use super::info::{self, InfoSignature};
use super::proposals::{PendingProposal, ProposalRef, Proposer, check_ephemeral, check_lifetime, identity};
use super::refusal::MimiRefusal;
use super::shape::Requirements;
use super::stored::{Effect, NextEpoch, StoredCommit};
use super::tree::TreeAfter;
use super::{MimiGroup, State, read_all, shape, tree};
use crate::keys;
use crate::provider::crypto;
use crate::refusal::GroupRefusal;
use crate::signatures::{self, Signatures};
use crate::suite::Suite;

/// What a checked commit does.
#[derive(Debug)]
pub struct StagedCommit {
    /// The committer, at its leaf after the commit. Whether it joins with it is in [`StagedCommit::external`].
    pub committer: Member,
    /// Whether the committer joins, or joins again, with the commit.
    pub external: bool,
    /// What it puts into effect, in its order, each with whoever proposed it.
    pub proposals: Vec<CommittedProposal>,
    /// Who comes: those added, in the order of their proposals, then an external committer.
    pub added: Vec<AddedMember>,
    /// Who goes, as they were.
    pub removed: Vec<Member>,
    /// Who has a new leaf, as they are now.
    pub updated: Vec<Member>,
    /// New data of components, or none.
    pub components: BTreeMap<ComponentId, Option<Vec<u8>>>,
    /// The epoch it begins.
    pub epoch: u64,
    /// The GroupInfo of that epoch, whole and verified, without the tree.
    pub group_info: Arc<GroupInfo>,
    /// Pending proposals that it does not contain, and that are void with it. After an external commit those are many; what counts on
    /// is for the policy to say, and the hub proposes it anew.
    pub voided: Vec<PendingProposal>,
    /// The tree that goes with the Welcome, if there is one and the committer left it to the hub.
    pub tree_after: Option<TreeAfter>,
    /// The change, for [`MimiGroup::merge_staged`].
    pub next: NextEpoch,
    /// The change as it is stored, for [`MimiGroup::replay`]: about as large as the commit, however large group and room are.
    pub bytes: Bytes,
}

impl StagedCommit {
    /// The room's components after the commit.
    #[must_use]
    pub fn dictionary(&self, before: &MimiGroup) -> AppDataDictionary {
        let mut dictionary = before.dictionary();
        for (component, change) in &self.components {
            match change {
                Some(data) => dictionary.set(*component, data.clone()),
                None => {
                    dictionary.remove(*component);
                }
            }
        }
        dictionary
    }
}

/// One of a commit's proposals.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CommittedProposal {
    /// Who proposes: the committer if the proposal is in the commit itself.
    pub proposer: Proposer,
    /// What.
    pub proposal: Proposal,
    /// The client that it adds, removes or renews.
    pub client: Option<Identity>,
    /// Its reference, if it was sent by itself before.
    pub reference: Option<ProposalRef>,
}

/// A new member.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AddedMember {
    /// Who, and at which leaf.
    pub member: Member,
    /// The reference of the key package by which it was added, which is how the Welcome is routed (MIMI
    /// #fanout-messages-and-room-events). None for who joins by an external commit.
    pub key_package: Option<Vec<u8>>,
}

impl MimiGroup {
    /// Checks a commit and what comes with it against the group. Says what it would do, and changes nothing.
    ///
    /// Whether each proposer may do what they propose is for the policy to say, which is given what is found here.
    ///
    /// OpenMLS compares the lifetimes of new leaves with the wall clock; `now` is compared in addition.
    pub fn stage(
        &self,
        commit: &Kept<MlsMessage>,
        parts: &CommitParts,
        now: UnixMillis,
    ) -> Result<StagedCommit, MimiRefusal> {
        let (staged, ()) = self.stage_while(commit, parts, now, |_| ())?;
        Ok(staged)
    }

    /// The same, with something to do about the commit while the last of it is checked, which is the signature over the GroupInfo. What
    /// comes of it counts only if that holds.
    pub fn stage_while<R>(
        &self,
        commit: &Kept<MlsMessage>,
        parts: &CommitParts,
        now: UnixMillis,
        meanwhile: impl FnOnce(&StagedCommit) -> R,
    ) -> Result<(StagedCommit, R), MimiRefusal> {
        let state = &*self.state;
        let public = readable(commit)?;
        let FramedContentBody::Commit(body) = &public.content.body else {
            return Err(MimiRefusal::NotACommit);
        };
        state.check_frame(&public.content)?;
        let confirmation_tag = public.confirmation_tag.clone().unwrap_or_default();
        let committer = state.committer(&public.content.sender, body)?;
        let proposals = state.resolve(&committer, body)?;
        state.check_list(&committer, &proposals)?;
        state.check_nothing_left_out(&committer, &proposals, now)?;
        let packages = state.key_package_refs(&proposals)?;
        check_welcome(state.suite, &packages, parts.welcome.as_ref())?;

        let suite = state.suite.ciphersuite();
        let changes = components::resolve(|component| state.data(component), updates(&proposals))?;
        let hash = suite.hash_algorithm();
        let process = || signatures::checked(|crypto| process(&state.group, commit, &changes, crypto));
        let (staged, sent_tree) = match &parts.ratchet_tree_option {
            RatchetTreeOption::Full(tree) if tree.len() > WORTH_A_THREAD => {
                rayon::join(process, || Some(tree::hash(tree, hash)))
            }
            RatchetTreeOption::Full(tree) => (process(), Some(tree::hash(tree, hash))),
            RatchetTreeOption::DistributionService => (process(), None),
            _ => return Err(MimiRefusal::TreeElsewhere),
        };
        let staged = staged?;
        if sent_tree.is_some_and(|hash| hash.as_deref() != Some(staged.group_context().tree_hash())) {
            return Err(MimiRefusal::TreeMismatch);
        }

        let leaves = state.leaves(&committer, &proposals, packages, &staged, now)?;
        let context = staged
            .group_context()
            .tls_serialize_detached()
            .map_err(|_| MimiRefusal::GroupInfoMismatch)?;
        let context: GroupContext = read_all(&context).map_err(MimiRefusal::ContextMalformed)?;
        let signer = leaves.committer.leaf;
        let group_info = info::assemble(&parts.group_info_option, context, &confirmation_tag, signer)?;
        let group_info = Arc::new(group_info);
        let signature = InfoSignature::offer(&group_info, &leaves.committer_key);
        state.check_encryption_keys(body.path.as_ref(), &proposals, &leaves)?;
        let context = &group_info.group_context;
        let requirements = state.check_requirements(context, &changes, &proposals, &leaves, &staged)?;
        let effect = Effect::of(staged);
        let is_tree_ours = parts.ratchet_tree_option == RatchetTreeOption::DistributionService;
        let tree_after = (parts.welcome.is_some() && is_tree_ours).then(|| effect.tree());
        let bytes = StoredCommit::encode(self, &leaves, &proposals, &effect, &group_info);
        let in_commit: BTreeSet<_> = proposals.iter().filter_map(|one| one.reference.as_ref()).collect();
        let is_void = |pending: &&PendingProposal| !in_commit.contains(&pending.reference);
        let voided = state.pending.iter().filter(is_void).cloned().collect();
        let staged = StagedCommit {
            next: NextEpoch::new(state, &leaves, effect, requirements, &group_info),
            tree_after,
            bytes,
            committer: leaves.committer,
            external: leaves.external,
            added: leaves.added,
            removed: leaves.removed,
            updated: leaves.updated,
            components: changes,
            epoch: self.epoch() + 1,
            group_info,
            voided,
            proposals,
        };
        let answer = meanwhile(&staged);
        match signature.holds() {
            true => Ok((staged, answer)),
            false => Err(MimiRefusal::GroupInfoBadSignature),
        }
    }
}

/// Who commits, as far as can be said before the commit is processed.
enum Committer {
    Member(Member),
    Joiner(Identity),
}

impl Committer {
    fn proposer(&self) -> Proposer {
        match self {
            Self::Member(member) => Proposer::Member(member.clone()),
            Self::Joiner(identity) => Proposer::NewMember(identity.clone()),
        }
    }
}

/// What a commit does to the leaves.
pub(super) struct Leaves {
    pub(super) committer: Member,
    committer_key: Vec<u8>,
    external: bool,
    pub(super) added: Vec<AddedMember>,
    pub(super) removed: Vec<Member>,
    pub(super) updated: Vec<Member>,
}

impl Leaves {
    /// The leaves that are new, or new at their place.
    pub(super) fn set(&self) -> impl Iterator<Item = u32> {
        let set = self.added.iter().map(|added| &added.member).chain(&self.updated);
        set.map(|member| member.leaf)
    }
}

impl State {
    fn committer(&self, sender: &Sender, body: &Commit) -> Result<Committer, MimiRefusal> {
        match *sender {
            Sender::Member { leaf_index: leaf } => {
                let member = self.roster.member_at(leaf).ok_or(MimiRefusal::UnknownMember { leaf })?;
                if self.pending.iter().any(|pending| pending.removes() == Some(leaf)) {
                    return Err(MimiRefusal::CommitterIsLeaving);
                }
                Ok(Committer::Member(member))
            }
            Sender::NewMemberCommit => {
                let path = body.path.as_ref().ok_or(MimiRefusal::ExternalCommitWithoutPath)?;
                identity(&path.leaf_node).map(Committer::Joiner)
            }
            _ => Err(MimiRefusal::SenderNotAllowed),
        }
    }

    /// The commit's proposals with whoever proposed them, those by reference looked up among the pending ones.
    fn resolve(&self, committer: &Committer, body: &Commit) -> Result<Vec<CommittedProposal>, MimiRefusal> {
        let mut seen = BTreeSet::new();
        let resolved = body.proposals.iter().map(|proposal_or_ref| {
            // OpenMLS would silently take one of two for both.
            if !seen.insert(proposal_or_ref.to_bytes()) {
                return Err(MimiRefusal::ProposalTwice);
            }
            match proposal_or_ref {
                ProposalOrRef::Reference(reference) => {
                    let reference = ProposalRef(reference.to_vec());
                    let Some(pending) = self.pending.find(&reference) else {
                        return Err(MimiRefusal::NotPending { reference });
                    };
                    Ok(CommittedProposal {
                        proposer: pending.proposer.clone(),
                        proposal: pending.proposal.clone(),
                        client: pending.client.clone(),
                        reference: Some(reference),
                    })
                }
                ProposalOrRef::Proposal(proposal) => {
                    let proposer = committer.proposer();
                    Ok(CommittedProposal {
                        client: self.client_of(&proposer, proposal)?,
                        proposer,
                        proposal: proposal.clone(),
                        reference: None,
                    })
                }
            }
        });
        resolved.collect()
    }

    /// Checks the proposals as a list (RFC 9420, 12.2): which there may be in such a commit, and that they do not collide.
    fn check_list(&self, committer: &Committer, proposals: &[CommittedProposal]) -> Result<(), MimiRefusal> {
        let mut touched = BTreeSet::new();
        for committed in proposals {
            let by_value = committed.reference.is_none();
            let proposal_type = committed.proposal.proposal_type();
            let leaf = match (&committed.proposal, &committed.proposer) {
                (Proposal::Other { .. }, _) => return Err(MimiRefusal::UnknownProposalType { proposal_type }),
                (Proposal::ReInit(_), _) => return Err(MimiRefusal::ReInitNotFollowed),
                (Proposal::SelfRemove, _) if by_value => return Err(MimiRefusal::SelfRemoveByValue),
                (Proposal::Update(_), _) if by_value => return Err(MimiRefusal::UpdateByValue),
                (Proposal::AppEphemeral(ephemeral), _) => {
                    check_ephemeral(ephemeral)?;
                    None
                }
                (Proposal::GroupContextExtensions(extensions), _) => {
                    self.check_dictionary_unchanged(extensions)?;
                    None
                }
                (Proposal::Remove(leaf), _) => Some(*leaf),
                (Proposal::SelfRemove | Proposal::Update(_), Proposer::Member(member)) => Some(member.leaf),
                _ => None,
            };
            if let Some(leaf) = leaf
                && !touched.insert(leaf)
            {
                return Err(MimiRefusal::LeafTouchedTwice { leaf });
            }
        }
        match committer {
            Committer::Member(_) => check_member_commit(proposals),
            Committer::Joiner(joiner) => check_external_commit(joiner, proposals),
        }
    }

    /// A member's commit contains all that is pending (MIMI #bob-leaves-the-room), an external commit all SelfRemoves (MLSX
    /// #proposal-description). Left to the committer is what it cannot commit: its own Update, and an Add whose time is over; and what
    /// gives way to the commit's own proposals, as it would if they were sent by themselves: the Update of a leaf that it removes, what
    /// users change of their own place in the list if the commit does, and Adds of clients of a user who goes or gets another role. Whether
    /// the clients have to stay away then is for the policy to say.
    fn check_nothing_left_out(
        &self,
        committer: &Committer,
        proposals: &[CommittedProposal],
        now: UnixMillis,
    ) -> Result<(), MimiRefusal> {
        let contained: BTreeSet<_> = proposals.iter().filter_map(|one| one.reference.as_ref()).collect();
        let mut missing = self
            .pending
            .iter()
            .filter(|pending| !contained.contains(&pending.reference))
            .peekable();
        if missing.peek().is_none() {
            return Ok(());
        }
        let list = self.participants();
        let mut gone = BTreeSet::new();
        let mut touched = Vec::new();
        for committed in proposals {
            match (&committed.proposal, &committed.proposer) {
                (&Proposal::Remove(leaf), _) => {
                    gone.insert(leaf);
                }
                (Proposal::SelfRemove, Proposer::Member(member)) => {
                    gone.insert(member.leaf);
                }
                (Proposal::AppDataUpdate(update), proposer) => {
                    touched.push((proposer.user(), components::touched(&list, update)));
                }
                _ => {}
            }
        }
        let is_moved = |user: &str| touched.iter().any(|(_, touched)| touched.moved.contains(user));
        let is_changed_by_others = |user: &MimiUri| {
            let name = user.to_string();
            let mut others = touched.iter().filter(|(proposer, _)| *proposer != Some(user));
            others.any(|(_, touched)| touched.users.contains(&name))
        };
        let is_required = |pending: &&PendingProposal| match (committer, &pending.proposal) {
            (Committer::Joiner(_), proposal) => *proposal == Proposal::SelfRemove,
            (Committer::Member(_), Proposal::Add(package)) => {
                let user = pending.client.as_ref().map(|client| client.user().to_string());
                check_lifetime(&package.leaf_node, now).is_ok() && !user.is_some_and(|user| is_moved(&user))
            }
            (Committer::Member(member), Proposal::Update(_)) => {
                let leaf = pending.renews();
                leaf != Some(member.leaf) && !leaf.is_some_and(|leaf| gone.contains(&leaf))
            }
            (Committer::Member(_), Proposal::AppDataUpdate(_)) => {
                !pending.own_change(&list).is_some_and(is_changed_by_others)
            }
            _ => true,
        };
        let left_out = missing.filter(is_required).map(|pending| pending.reference.clone());
        let left_out: Vec<_> = left_out.collect();
        if left_out.is_empty() {
            Ok(())
        } else {
            Err(MimiRefusal::PendingLeftOut { references: left_out })
        }
    }

    /// The references of the key packages that are added, in the order of their proposals.
    fn key_package_refs(&self, proposals: &[CommittedProposal]) -> Result<Vec<Vec<u8>>, MimiRefusal> {
        let packages = proposals.iter().filter_map(|committed| match &committed.proposal {
            Proposal::Add(package) => Some(package),
            _ => None,
        });
        let reference = |package: &Kept<KeyPackage>| {
            let reference = make_key_package_ref(package.as_bytes(), self.suite.ciphersuite(), crypto());
            let reference = reference.map_err(|_| MimiRefusal::Unsupported)?;
            Ok(reference.as_slice().to_vec())
        };
        packages.map(|package| reference(package)).collect()
    }

    /// Who comes, goes and has a new leaf. `packages` are the references of those who are added.
    fn leaves(
        &self,
        committer: &Committer,
        proposals: &[CommittedProposal],
        packages: Vec<Vec<u8>>,
        staged: &MlsStagedCommit,
        now: UnixMillis,
    ) -> Result<Leaves, MimiRefusal> {
        let (mut removed, mut updated, mut joining) = (Vec::new(), Vec::new(), Vec::new());
        for committed in proposals {
            match (&committed.proposal, &committed.proposer) {
                (Proposal::Add(package), _) => joining.push(package),
                (&Proposal::Remove(leaf), _) => {
                    let member = self.roster.member_at(leaf);
                    removed.push(member.ok_or(MimiRefusal::NobodyToRemove { leaf })?);
                }
                (Proposal::SelfRemove, Proposer::Member(member)) => removed.push(member.clone()),
                (Proposal::Update(leaf_node), Proposer::Member(member)) => updated.push(Member {
                    leaf: member.leaf,
                    identity: identity(leaf_node)?,
                }),
                _ => {}
            }
        }
        let gone: BTreeSet<u32> = removed.iter().map(|member| member.leaf).collect();
        let mut free = self.roster.free_leaves(&gone);
        let mut added = Vec::with_capacity(joining.len() + 1);
        for (package, key_package) in joining.into_iter().zip(packages) {
            check_lifetime(&package.leaf_node, now)?;
            let leaf = free.next().ok_or(MimiRefusal::Mls(GroupRefusal::InvalidCommit))?;
            added.push(AddedMember {
                member: Member {
                    leaf,
                    identity: identity(&package.leaf_node)?,
                },
                key_package: Some(key_package),
            });
        }
        let new_leaf = staged.update_path_leaf_node();
        let (mut member, external) = match committer {
            Committer::Member(member) => (member.clone(), false),
            Committer::Joiner(joiner) => {
                let leaf = self.group.ext_commit_sender_index(staged);
                let leaf = leaf.map_err(|_| MimiRefusal::ExternalCommitWithoutPath)?.u32();
                let identity = joiner.clone();
                (Member { leaf, identity }, true)
            }
        };
        let key = match new_leaf {
            Some(node) => {
                let renewed = Member::at(member.leaf, node)?;
                if !renewed.identity.is_same_client(&member.identity) {
                    return Err(MimiRefusal::IdentityChanged);
                }
                member = renewed;
                if !external {
                    updated.push(member.clone());
                }
                node.signature_key()
            }
            None => {
                let leaf = member.leaf;
                let node = self.group.leaf(LeafNodeIndex::new(leaf));
                node.ok_or(MimiRefusal::UnknownMember { leaf })?.signature_key()
            }
        };
        if external {
            added.push(AddedMember {
                member: member.clone(),
                key_package: None,
            });
        }
        self.check_no_client_twice(&added, &gone)?;
        let new = added.iter().map(|added| &added.member).chain(&updated);
        self.roster.check_pseudonyms(new.map(|member| &member.identity))?;
        let committer_key = key.as_slice().to_vec();
        let mut keys = new_keys(proposals, &added);
        keys.insert(member.leaf, &committer_key);
        self.check_signature_keys(&keys, &gone)?;
        Ok(Leaves {
            committer_key,
            committer: member,
            external,
            added,
            removed,
            updated,
        })
    }

    fn check_no_client_twice(&self, added: &[AddedMember], gone: &BTreeSet<u32>) -> Result<(), MimiRefusal> {
        let mut new = BTreeSet::new();
        for AddedMember { member, .. } in added {
            let client = member.identity.client();
            let twice = client.is_some_and(|client| !new.insert(client));
            if twice || self.roster.is_member_already(&member.identity, gone) {
                return Err(MimiRefusal::ClientTwice);
            }
        }
        Ok(())
    }

    /// A key signs for one leaf (RFC 9420, 7.3), by leaf those of the new ones. OpenMLS looks at the keys of those who are added
    /// and not at those of others who change them; who then gets the tree takes it for invalid.
    fn check_signature_keys(&self, new: &BTreeMap<u32, &[u8]>, gone: &BTreeSet<u32>) -> Result<(), MimiRefusal> {
        let stays_the_same = |leaf: u32, key: &[u8]| {
            let node = self.group.leaf(LeafNodeIndex::new(leaf));
            !gone.contains(&leaf) && node.is_some_and(|node| node.signature_key().as_slice() == key)
        };
        let keys: BTreeSet<&[u8]> = new.values().copied().collect();
        if keys.len() < new.len() {
            return Err(MimiRefusal::KeyInUse);
        }
        if new.iter().all(|(leaf, key)| stays_the_same(*leaf, key)) {
            return Ok(());
        }
        for (leaf, node) in self.group.treesync().full_leaves() {
            let is_replaced = gone.contains(&leaf.u32()) || new.contains_key(&leaf.u32());
            if !is_replaced && keys.contains(node.signature_key().as_slice()) {
                return Err(MimiRefusal::KeyInUse);
            }
        }
        Ok(())
    }

    /// A key is sealed to in one place (RFC 9420, 12.4.2). OpenMLS compares new ones with those of the leaves.
    fn check_encryption_keys(
        &self,
        path: Option<&UpdatePath>,
        proposals: &[CommittedProposal],
        leaves: &Leaves,
    ) -> Result<(), MimiRefusal> {
        let mut replaced: Vec<u32> = leaves.removed.iter().map(|member| member.leaf).collect();
        replaced.extend(leaves.updated.iter().map(|member| member.leaf));
        let mut new: Vec<&[u8]> = Vec::new();
        if let Some(path) = path {
            replaced.push(leaves.committer.leaf);
            new.push(&path.leaf_node.encryption_key);
            new.extend(path.nodes.iter().map(|node| &node.encryption_key[..]));
        }
        for committed in proposals {
            match &committed.proposal {
                Proposal::Add(package) => new.push(&package.leaf_node.encryption_key),
                Proposal::Update(leaf_node) => new.push(&leaf_node.encryption_key),
                _ => {}
            }
        }
        Ok(keys::check_inner_nodes(&self.group, new, &replaced)?)
    }

    /// The group is still a room's, and every leaf supports what it asks, which is returned: all leaves if it asks for something else now, the
    /// new ones in any case.
    fn check_requirements(
        &self,
        context: &GroupContext,
        changes: &Changes,
        proposals: &[CommittedProposal],
        leaves: &Leaves,
        staged: &MlsStagedCommit,
    ) -> Result<Requirements, MimiRefusal> {
        let requirements = if changes.is_empty() {
            self.requirements.clone()
        } else {
            self.requirements_after(changes)?
        };
        let extensions_change = proposals
            .iter()
            .any(|committed| matches!(committed.proposal, Proposal::GroupContextExtensions(_)));
        let required = if extensions_change {
            shape::check_extensions(&context.extensions, &self.hub)?;
            shape::required_capabilities(&context.extensions)?
        } else {
            None
        };
        let mut replaced: BTreeSet<u32> = leaves.removed.iter().map(|member| member.leaf).collect();
        replaced.extend(leaves.updated.iter().map(|member| member.leaf));
        if extensions_change || requirements != self.requirements {
            for (leaf, node) in self.group.treesync().full_leaves() {
                if replaced.contains(&leaf.u32()) {
                    continue;
                }
                requirements.check_node(node)?;
                if required.as_ref().is_some_and(|required| !super::covers(node, required)) {
                    return Err(MimiRefusal::Unsupported);
                }
            }
        }
        for committed in proposals {
            let leaf_node = match &committed.proposal {
                Proposal::Add(package) => &package.leaf_node,
                Proposal::Update(leaf_node) => leaf_node,
                _ => continue,
            };
            requirements.check_leaf(leaf_node)?;
            let capabilities = &leaf_node.capabilities;
            if required
                .as_ref()
                .is_some_and(|required| !shape::covers(capabilities, required))
            {
                return Err(MimiRefusal::Unsupported);
            }
        }
        if let Some(node) = staged.update_path_leaf_node() {
            requirements.check_node(node)?;
            if required.as_ref().is_some_and(|required| !super::covers(node, required)) {
                return Err(MimiRefusal::Unsupported);
            }
        }
        Ok(requirements)
    }
}

/// The keys that the leaves of these proposals sign with, by leaf.
fn new_keys<'p>(proposals: &'p [CommittedProposal], added: &[AddedMember]) -> BTreeMap<u32, &'p [u8]> {
    let mut added = added.iter().map(|added| added.member.leaf);
    let mut keys = BTreeMap::new();
    for committed in proposals {
        match (&committed.proposal, &committed.proposer) {
            (Proposal::Add(package), _) => {
                let key = &package.leaf_node.signature_key[..];
                keys.extend(added.next().map(|leaf| (leaf, key)));
            }
            (Proposal::Update(leaf_node), Proposer::Member(member)) => {
                keys.insert(member.leaf, &leaf_node.signature_key[..]);
            }
            _ => {}
        }
    }
    keys
}

fn check_member_commit(proposals: &[CommittedProposal]) -> Result<(), MimiRefusal> {
    let mut proposals = proposals.iter();
    if proposals.any(|committed| matches!(committed.proposal, Proposal::ExternalInit(_))) {
        return Err(MimiRefusal::ExternalInitByMember);
    }
    Ok(())
}

/// RFC 9420, 12.2, MLSX #proposal-description, MLSX #appdataupdate.
fn check_external_commit(joiner: &Identity, proposals: &[CommittedProposal]) -> Result<(), MimiRefusal> {
    let (mut inits, mut removals) = (0, 0);
    for committed in proposals {
        if let Some(reference) = &committed.reference {
            if committed.proposal != Proposal::SelfRemove {
                let reference = reference.clone();
                return Err(MimiRefusal::ExternalCommitReference { reference });
            }
            continue;
        }
        match &committed.proposal {
            Proposal::ExternalInit(_) => inits += 1,
            Proposal::Remove(_) => {
                let is_own = |client: &Identity| client.is_same_client(joiner);
                if !committed.client.as_ref().is_some_and(is_own) {
                    return Err(MimiRefusal::ExternalRemoval);
                }
                removals += 1;
            }
            Proposal::Psk(_) | Proposal::AppDataUpdate(_) => {}
            other => {
                let proposal_type = other.proposal_type();
                return Err(MimiRefusal::ExternalCommitProposal { proposal_type });
            }
        }
    }
    if inits != 1 {
        return Err(MimiRefusal::ExternalInitCount { count: inits });
    }
    if removals > 1 {
        return Err(MimiRefusal::ExternalRemoval);
    }
    Ok(())
}

pub(super) fn updates(proposals: &[CommittedProposal]) -> impl Iterator<Item = &AppDataUpdate> {
    proposals.iter().filter_map(|committed| match &committed.proposal {
        Proposal::AppDataUpdate(update) => Some(update),
        _ => None,
    })
}

pub(super) fn process(
    group: &PublicGroup,
    commit: &Kept<MlsMessage>,
    changes: &Changes,
    crypto: &Signatures,
) -> Result<MlsStagedCommit, MimiRefusal> {
    let message = MlsMessageIn::tls_deserialize_exact(commit.as_bytes()).map(MlsMessageIn::extract);
    let Ok(MlsMessageBodyIn::PublicMessage(message)) = message else {
        return Err(MimiRefusal::WrongWireFormat);
    };
    let processed = group.process_message(crypto, ProtocolMessage::from(message))?;
    match processed.into_content() {
        ProcessedMessageContent::StagedCommitMessage(staged) => Ok(*staged),
        ProcessedMessageContent::UnresolvedAppDataCommit(unresolved) => {
            let mut updater = group.app_data_dictionary_updater();
            for (component, change) in changes {
                match change {
                    Some(data) => updater.set(ComponentData::from_parts(component.0, data.clone().into())),
                    None => updater.remove(&component.0),
                }
            }
            Ok(group.stage_app_data_commit(crypto, *unresolved, updater.changes())?)
        }
        _ => Err(MimiRefusal::NotACommit),
    }
}

/// There is a Welcome if somebody is added, and it is for exactly those (MIMI #fanout-messages-and-room-events).
fn check_welcome(suite: Suite, added: &[Vec<u8>], welcome: Option<&Kept<Welcome>>) -> Result<(), MimiRefusal> {
    let welcome = match (welcome, added.is_empty()) {
        (None, true) => return Ok(()),
        (None, false) => return Err(MimiRefusal::WelcomeMissing),
        (Some(_), true) => return Err(MimiRefusal::WelcomeForNobody),
        (Some(welcome), false) => welcome,
    };
    if welcome.cipher_suite != CipherSuite(suite.id()) {
        return Err(MimiRefusal::WelcomeOtherSuite);
    }
    let mut invited: Vec<&[u8]> = welcome.secrets.iter().map(|secrets| &*secrets.new_member).collect();
    let mut added: Vec<&[u8]> = added.iter().map(Vec::as_slice).collect();
    invited.sort_unstable();
    added.sort_unstable();
    if invited != added {
        return Err(MimiRefusal::WelcomeForOthers);
    }
    Ok(())
}

/// Nodes of a tree from which on waking another thread costs less than hashing them.
const WORTH_A_THREAD: usize = 64;
