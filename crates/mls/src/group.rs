//! The public side of a room's group (LM #int-mls-considerations), as the hub and, for their own protection, participants
//! follow it from commit to commit (LM #int-mls-add-remove).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use nabe_types::{DeviceId, DeviceRef, MembershipDelta, RoomId, UnixMillis, UserId};
use openmls::framing::{ContentType, ProcessedMessageContent, ProtocolMessage, Sender};
use openmls::group::{ProposalStore, PublicGroup, StagedCommit};
use openmls::messages::group_info::VerifiableGroupInfo;
use openmls::prelude::{Extension, ExtensionType, LeafNode, MlsMessageBodyIn, MlsMessageIn, Proposal, PublicMessageIn};
use openmls::treesync::LeafNodeSource;
use tls_codec::{Deserialize as _, Serialize as _};

use self::rules::Rules;
use crate::codec::Reader;
use crate::group_info::{GroupInfoBytes, SignatureCheck};
use crate::key_package::check_lifetime;
use crate::keys;
use crate::limits::{MAX_GROUP_STATE_BYTES, MAX_MESSAGE_BYTES};
use crate::meanwhile::Meanwhile;
use crate::overdue;
use crate::provider::{NoStorage, crypto};
use crate::refusal::{APP_DATA_UPDATE, GroupRefusal};
use crate::signatures::{self, Signatures};
use crate::stored::{RestoreError, Stored};
use crate::suite::Suite;

pub(crate) mod recording;
mod rules;

/// The public side of a room's group at one epoch.
///
/// It begins with a room's first commit ([`HubGroup::bootstrap`]), or wherever a participant starts to follow
/// ([`HubGroup::take_up`]). Each
/// later commit is checked once ([`HubGroup::stage`]), which changes nothing, and merged once it is stored
/// ([`HubGroup::merge`]). What is stored is the *change*, about as large as the commit; [`HubGroup::replay`] merges it
/// again after a restart, by the same code and without checking it a second time. So a group can be rebuilt at any
/// later time: OpenMLS compares the lifetimes of leaves with the wall clock when it checks, and does not check here.
/// To keep the replay short there is also a [`HubGroup::checkpoint`], as large as the group.
///
/// A clone shares the tree. Merging into a group that is shared copies it first.
#[derive(Clone)]
pub struct HubGroup {
    state: Arc<State>,
}

struct State {
    group: PublicGroup,
    room: RoomId,
    suite: Suite,
    rules: Rules,
    roster: Roster,
}

impl HubGroup {
    /// Begins to follow `room`'s group with one of its commits: `message` and `group_state` are those of an `m.mls.commit`
    /// (LM #int-ev-mls-commit), the group is then at the epoch that the commit begins, and all members count as added.
    ///
    /// As the epoch before is unknown, the commit is only held against the group state: same group, following epoch,
    /// same committer, same confirmation tag. The group state itself is checked in full. If the commit is the group's very
    /// first, its leaves must have as much time left as those added later. Fails with the check that did.
    pub fn bootstrap(
        room: &RoomId,
        suite: Suite,
        message: &[u8],
        group_state: &[u8],
        now: UnixMillis,
    ) -> Result<(Self, StagedChange), GroupRefusal> {
        let (group, change, epoch) = Self::begin(room, suite, message, group_state, load_tree)?;
        if epoch == 0 {
            let leaves = group.state.group.treesync().full_leaves();
            leaves
                .map(|(_, leaf)| leaf)
                .try_for_each(|leaf| check_leaf_lifetime(leaf, now))?;
        }
        Ok((group, change))
    }

    /// As [`HubGroup::bootstrap`], for a group that others have let grow: whether a leaf had enough time left was for them to judge when it
    /// was added, and it may have outlived its key package since.
    pub fn take_up(
        room: &RoomId,
        suite: Suite,
        message: &[u8],
        group_state: &[u8],
    ) -> Result<(Self, StagedChange), GroupRefusal> {
        let load = |info: &GroupInfoBytes<'_>| match load_tree(info) {
            Err(GroupRefusal::LeafLifetime(_)) => overdue::load(info, None),
            loaded => loaded,
        };
        let (group, change, _) = Self::begin(room, suite, message, group_state, load)?;
        Ok((group, change))
    }

    /// Also returns the epoch that the commit ended.
    fn begin(
        room: &RoomId,
        suite: Suite,
        message: &[u8],
        group_state: &[u8],
        load: impl FnOnce(&GroupInfoBytes<'_>) -> Result<PublicGroup, GroupRefusal>,
    ) -> Result<(Self, StagedChange, u64), GroupRefusal> {
        let commit = Commit::parse(message, room.as_str().as_bytes())?;
        let info = parse_group_state(group_state, room, commit.epoch)?;
        if info.suite != suite.id() {
            return Err(GroupRefusal::WrongSuite);
        }
        if info.confirmation_tag != commit.confirmation_tag {
            return Err(GroupRefusal::GroupStateMismatch);
        }
        let external = match commit.sender {
            Sender::Member(leaf) if leaf.u32() != info.signer => return Err(GroupRefusal::GroupStateWrongSigner),
            Sender::Member(_) => false,
            _ => true,
        };
        let group = load(&info)?;
        check_context_extensions(&group)?;
        let group = Self {
            state: Arc::new(State::new(group, room.clone(), suite, Rules::Room)?),
        };
        let members = &group.state.roster;
        let delta = MembershipDelta {
            committer: members
                .at(info.signer)
                .ok_or(GroupRefusal::GroupStateWrongSigner)?
                .clone(),
            external,
            added: members.iter().cloned().collect(),
            removed: Vec::new(),
            updated: Vec::new(),
        };
        let change = StagedChange {
            bytes: Stored::begin(&group.state.group, &delta),
            epoch: group.epoch(),
            delta,
        };
        Ok((group, change, commit.epoch))
    }

    /// Checks a commit against the group (LM #int-mls-add-remove). Says what it would change, and changes nothing. The
    /// committer's user still has to be compared with the event's sender, and the delta with the room's membership.
    pub fn stage(&self, message: &[u8], group_state: &[u8], now: UnixMillis) -> Result<StagedChange, GroupRefusal> {
        let state = &*self.state;
        let commit = state.read(message)?;
        let info = parse_group_state(group_state, &state.room, commit.epoch)?;
        // The signature covers the whole tree, and hashing that takes about as long as everything else together. A
        // committer rarely changes the key that it signs with, so both can be done at once.
        let early_key = state
            .key_of(&commit.sender)
            .filter(|_| info.signed.len() >= WORTH_A_THREAD);
        let early = early_key
            .as_ref()
            .map(|key| Meanwhile::offer(info.signature_check(state.suite, key), SignatureCheck::holds));
        let judged = state.judge(commit, message, now)?;
        let context = judged.staged.group_context().tls_serialize_detached();
        if context.as_deref() != Ok(info.context) || info.confirmation_tag != judged.confirmation_tag {
            return Err(GroupRefusal::GroupStateMismatch);
        }
        if info.signer != judged.delta.committer.leaf {
            return Err(GroupRefusal::GroupStateWrongSigner);
        }
        let is_signed = match early {
            Some(check) if early_key.as_ref() == Some(&judged.key) => check.finish(),
            _ => info.is_signed_by(state.suite, &judged.key),
        };
        if !is_signed {
            return Err(GroupRefusal::GroupStateBadSignature);
        }
        Ok(state.change(judged))
    }

    /// Takes in a change that was staged on this group at this epoch.
    pub fn merge(&mut self, change: &StagedChange) -> Result<(), RestoreError> {
        self.merge_bytes(&change.bytes)
    }

    /// Takes in a stored change ([`StagedChange::bytes`]): begins the group if it is one by [`HubGroup::bootstrap`],
    /// otherwise moves it to the next epoch. On [`RestoreError::OtherVersion`] the commit itself has to be staged again.
    pub fn replay(group: &mut Option<Self>, bytes: &[u8]) -> Result<(), RestoreError> {
        match Stored::parse(bytes)? {
            Stored::Group(stored) => *group = Some(Self::from_stored(Rules::Room, &stored)?),
            Stored::Change(_) => group.as_mut().ok_or(RestoreError::WrongEpoch)?.merge_bytes(bytes)?,
        }
        Ok(())
    }

    /// The whole group as bytes, for [`HubGroup::restore`]. Grows with the group: about 160 KB at 1,000 members.
    #[must_use]
    pub fn checkpoint(&self) -> Bytes {
        Stored::checkpoint(&self.state.group)
    }

    /// The group from a [`HubGroup::checkpoint`], at any later time.
    pub fn restore(bytes: &[u8]) -> Result<Self, RestoreError> {
        Self::restore_by(Rules::Room, bytes)
    }

    /// The room, whose ID is the group's (LM #int-mls-considerations).
    #[must_use]
    pub fn room(&self) -> &RoomId {
        &self.state.room
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

    /// The members in the order of their leaves.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &DeviceRef> {
        self.state.roster.iter()
    }

    /// The member at a leaf.
    #[must_use]
    pub fn member_at(&self, leaf: u32) -> Option<&DeviceRef> {
        self.state.roster.at(leaf)
    }

    /// Whether a device is a member.
    #[must_use]
    pub fn contains(&self, user: &UserId, device: &DeviceId) -> bool {
        self.state.roster.leaf_of(user, device).is_some()
    }

    /// About how much memory the group takes, in bytes. Post-quantum keys are not counted at their size.
    #[must_use]
    pub fn memory_estimate(&self) -> usize {
        MEMORY_BASE + self.state.roster.iter().len() * MEMORY_PER_MEMBER
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn copy_public_group(&self) -> PublicGroup {
        match Stored::parse(&self.checkpoint()) {
            Ok(Stored::Group(stored)) => stored.load().expect("a checkpoint loads"),
            _ => panic!("a checkpoint is a group"),
        }
    }

    fn restore_by(rules: Rules, bytes: &[u8]) -> Result<Self, RestoreError> {
        match Stored::parse(bytes)? {
            Stored::Group(stored) => Self::from_stored(rules, &stored),
            Stored::Change(_) => Err(RestoreError::Malformed),
        }
    }

    fn from_stored(rules: Rules, stored: &crate::stored::StoredGroup<'_>) -> Result<Self, RestoreError> {
        let group = stored.load()?;
        let room = rules.room(group.group_id().as_slice()).ok_or(RestoreError::Malformed)?;
        let suite = Suite::from_ciphersuite(group.ciphersuite()).ok_or(RestoreError::Malformed)?;
        let state = State::new(group, room, suite, rules).map_err(|_| RestoreError::Malformed)?;
        Ok(Self { state: Arc::new(state) })
    }

    fn merge_bytes(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        let Stored::Change(change) = Stored::parse(bytes)? else {
            return Err(RestoreError::Malformed);
        };
        let (delta, staged) = change.load(&self.state.group)?;
        if Arc::get_mut(&mut self.state).is_none() {
            *self = Self::restore_by(self.state.rules, &self.checkpoint())?;
        }
        let state = Arc::get_mut(&mut self.state).expect("the copy is not shared");
        state
            .group
            .merge_commit(&NoStorage, staged)
            .map_err(|_| RestoreError::Malformed)?;
        state.roster.apply(&delta);
        Ok(())
    }
}

impl fmt::Debug for HubGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubGroup")
            .field("room", &self.state.room)
            .field("suite", &self.state.suite)
            .field("epoch", &self.epoch())
            .field("members", &self.state.roster.iter().len())
            .finish()
    }
}

/// Groups are equal if they went through the same commits: the context hashes the tree and the transcript.
impl PartialEq for HubGroup {
    fn eq(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.state, &other.state);
        Arc::ptr_eq(ours, theirs)
            || (ours.group.group_context() == theirs.group.group_context()
                && ours.group.confirmation_tag() == theirs.group.confirmation_tag()
                && ours.roster == theirs.roster)
    }
}

impl Eq for HubGroup {}

/// What a checked commit will change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StagedChange {
    /// Who comes, goes and changes keys.
    pub delta: MembershipDelta,
    /// The epoch that the commit begins.
    pub epoch: u64,
    /// The change as it is stored, for [`HubGroup::replay`]. A tag in it names the version of OpenMLS whose types it
    /// holds. It is about as large as the commit; at [`HubGroup::bootstrap`], as the group.
    pub bytes: Bytes,
}

impl StagedChange {
    /// Reads what [`StagedChange::bytes`] says of the membership, without a group.
    pub fn parse(bytes: &Bytes) -> Result<Self, RestoreError> {
        let (delta, epoch) = match Stored::parse(bytes)? {
            Stored::Group(group) => group.delta()?.ok_or(RestoreError::Malformed)?,
            Stored::Change(change) => change.delta()?,
        };
        Ok(Self {
            delta,
            epoch,
            bytes: bytes.clone(),
        })
    }
}

/// A commit that is sound, as far as can be told without the group state that comes with it.
struct Judged {
    staged: StagedCommit,
    delta: MembershipDelta,
    /// The key that the committer signs with afterwards.
    key: Vec<u8>,
    confirmation_tag: Vec<u8>,
}

impl State {
    fn new(group: PublicGroup, room: RoomId, suite: Suite, rules: Rules) -> Result<Self, GroupRefusal> {
        let roster = Roster::new(&group, rules)?;
        Ok(Self {
            group,
            room,
            suite,
            rules,
            roster,
        })
    }

    fn epoch(&self) -> u64 {
        self.group.group_context().epoch().as_u64()
    }

    /// Reads a message as a commit that this epoch of the group could end with.
    fn read(&self, message: &[u8]) -> Result<Commit, GroupRefusal> {
        let commit = Commit::parse(message, self.group.group_id().as_slice())?;
        if commit.epoch != self.epoch() {
            return Err(GroupRefusal::WrongEpoch {
                epoch: commit.epoch,
                current: self.epoch(),
            });
        }
        match commit.sender {
            Sender::Member(leaf) if self.roster.at(leaf.u32()).is_none() => Err(GroupRefusal::UnknownCommitter),
            _ => Ok(commit),
        }
    }

    /// Checks a commit by itself: as MLS has it, by the group's rules, and for keys that are in the tree already.
    fn judge(&self, commit: Commit, message: &[u8], now: UnixMillis) -> Result<Judged, GroupRefusal> {
        let mut first = Some(commit.message);
        let staged = signatures::checked(|crypto| {
            let again = || parse_public_message(message);
            process(&self.group, first.take().map_or_else(again, Ok)?, crypto)
        })?;
        let (delta, key) = self.delta(&commit.sender, &staged, now)?;
        keys::check(&self.group, message, &staged, &delta)?;
        Ok(Judged {
            staged,
            delta,
            key,
            confirmation_tag: commit.confirmation_tag,
        })
    }

    fn change(&self, judged: Judged) -> StagedChange {
        StagedChange {
            bytes: Stored::change(&self.group, &judged.delta, judged.staged),
            epoch: self.epoch() + 1,
            delta: judged.delta,
        }
    }

    /// What a staged commit changes, and the key that the committer signs with afterwards. Checks what MLS leaves to the
    /// application: which proposals there may be, and who the new leaves are.
    fn delta(
        &self,
        sender: &Sender,
        staged: &StagedCommit,
        now: UnixMillis,
    ) -> Result<(MembershipDelta, Vec<u8>), GroupRefusal> {
        let mut removed = Vec::new();
        let mut updated = Vec::new();
        let mut joining = Vec::new();
        for queued in staged.queued_proposals() {
            self.rules.check_proposal(queued)?;
            match (queued.proposal(), queued.sender()) {
                (Proposal::Add(add), _) => joining.push(add.key_package()),
                (Proposal::Remove(remove), _) => {
                    let member = self.roster.at(remove.removed().u32());
                    removed.push(member.ok_or(GroupRefusal::InvalidRemoval)?.clone());
                }
                (Proposal::Update(_), Sender::Member(leaf)) => {
                    let member = self.roster.at(leaf.u32());
                    updated.push(member.ok_or(GroupRefusal::InvalidCommit)?.clone());
                }
                _ => {}
            }
        }
        let gone: BTreeSet<u32> = removed.iter().map(|member| member.leaf).collect();
        let mut added: Vec<DeviceRef> = Vec::with_capacity(joining.len() + 1);
        let mut free = self.roster.free_leaves(&gone);
        for package in joining {
            let leaf = free.next().ok_or(GroupRefusal::InvalidCommit)?;
            self.rules.check_lifetime(package.life_time(), now)?;
            added.push(self.rules.device_at(leaf, package.leaf_node())?);
        }
        let (committer, external, key) = self.committer(sender, staged)?;
        if external {
            self.rules.check_external_removals(&removed, &committer)?;
            added.push(committer.clone());
        }
        self.check_no_device_twice(&added, &gone)?;
        let updates_itself = !external && staged.update_path_leaf_node().is_some();
        updated.extend(updates_itself.then(|| committer.clone()));
        let delta = MembershipDelta {
            updated,
            committer,
            external,
            added,
            removed,
        };
        Ok((delta, key))
    }

    /// The committer at its leaf after the commit, whether it joins with it, and its signature key.
    fn committer(&self, sender: &Sender, staged: &StagedCommit) -> Result<(DeviceRef, bool, Vec<u8>), GroupRefusal> {
        let new_leaf = staged.update_path_leaf_node();
        let Sender::Member(leaf) = sender else {
            let leaf = self.group.ext_commit_sender_index(staged);
            let leaf = leaf.map_err(|_| GroupRefusal::InvalidExternalCommit)?.u32();
            let node = new_leaf.ok_or(GroupRefusal::InvalidExternalCommit)?;
            return Ok((
                self.rules.device_at(leaf, node)?,
                true,
                node.signature_key().as_slice().to_vec(),
            ));
        };
        let member = self.roster.at(leaf.u32()).ok_or(GroupRefusal::UnknownCommitter)?;
        let node = match new_leaf {
            Some(node) if self.rules.device_at(member.leaf, node)? != *member => {
                return Err(GroupRefusal::IdentityChanged);
            }
            Some(node) => node,
            None => self.group.leaf(*leaf).ok_or(GroupRefusal::UnknownCommitter)?,
        };
        Ok((member.clone(), false, node.signature_key().as_slice().to_vec()))
    }

    /// The key that a member signs with so far.
    fn key_of(&self, sender: &Sender) -> Option<Vec<u8>> {
        let Sender::Member(leaf) = sender else { return None };
        Some(self.group.leaf(*leaf)?.signature_key().as_slice().to_vec())
    }

    fn check_no_device_twice(&self, added: &[DeviceRef], gone: &BTreeSet<u32>) -> Result<(), GroupRefusal> {
        let mut new = BTreeSet::new();
        for member in added {
            let old = self.roster.leaf_of(&member.user, &member.device);
            if old.is_some_and(|leaf| !gone.contains(&leaf)) || !new.insert((&member.user, &member.device)) {
                return Err(GroupRefusal::DeviceTwice);
            }
        }
        Ok(())
    }
}

/// Which device is at which leaf.
#[derive(Debug, Default, Eq, PartialEq)]
struct Roster {
    by_leaf: BTreeMap<u32, DeviceRef>,
    leaves: BTreeMap<(UserId, DeviceId), u32>,
}

impl Roster {
    fn new(group: &PublicGroup, rules: Rules) -> Result<Self, GroupRefusal> {
        let mut roster = Self::default();
        for (leaf, node) in group.treesync().full_leaves() {
            if !roster.insert(rules.device_at(leaf.u32(), node)?) {
                return Err(GroupRefusal::DeviceTwice);
            }
        }
        Ok(roster)
    }

    fn at(&self, leaf: u32) -> Option<&DeviceRef> {
        self.by_leaf.get(&leaf)
    }

    fn leaf_of(&self, user: &UserId, device: &DeviceId) -> Option<u32> {
        self.leaves.get(&(user.clone(), device.clone())).copied()
    }

    fn iter(&self) -> impl ExactSizeIterator<Item = &DeviceRef> {
        self.by_leaf.values()
    }

    /// The leaves that new members take, in this order: a new member takes the leftmost blank leaf, and removals come first
    /// (RFC 9420, 12.3).
    fn free_leaves<'r>(&'r self, gone: &'r BTreeSet<u32>) -> impl Iterator<Item = u32> + 'r {
        let staying = self.by_leaf.keys().filter(|leaf| !gone.contains(leaf));
        let mut taken = staying.peekable();
        (0..=u32::MAX).filter(move |leaf| taken.next_if_eq(&leaf).is_none())
    }

    /// Returns whether the device was at no other leaf.
    fn insert(&mut self, member: DeviceRef) -> bool {
        let device = (member.user.clone(), member.device.clone());
        let is_new = self.leaves.insert(device, member.leaf).is_none();
        self.by_leaf.insert(member.leaf, member);
        is_new
    }

    fn apply(&mut self, delta: &MembershipDelta) {
        for member in &delta.removed {
            self.by_leaf.remove(&member.leaf);
            self.leaves.remove(&(member.user.clone(), member.device.clone()));
        }
        for member in &delta.added {
            self.insert(member.clone());
        }
    }
}

/// A message that is a commit for the group, as far as can be seen without the group.
struct Commit {
    message: PublicMessageIn,
    sender: Sender,
    epoch: u64,
    confirmation_tag: Vec<u8>,
}

impl Commit {
    fn parse(bytes: &[u8], group_id: &[u8]) -> Result<Self, GroupRefusal> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(GroupRefusal::MessageTooLarge);
        }
        let message = parse_public_message(bytes)?;
        let epoch = message.epoch().as_u64();
        if message.group_id().as_slice() != group_id {
            return Err(GroupRefusal::WrongGroup);
        }
        match message.content_type() {
            ContentType::Commit => {}
            ContentType::Proposal => return Err(GroupRefusal::StandaloneProposal),
            ContentType::Application => return Err(GroupRefusal::NotACommit),
        }
        let sender = message.sender().clone();
        if !matches!(sender, Sender::Member(_) | Sender::NewMemberCommit) {
            return Err(GroupRefusal::SenderNotAllowed);
        }
        let tag = message.confirmation_tag().ok_or(GroupRefusal::MissingConfirmationTag)?;
        let tag = tag
            .tls_serialize_detached()
            .map_err(|_| GroupRefusal::MessageMalformed)?;
        let tag = Reader::new(&tag).opaque().map_err(|_| GroupRefusal::MessageMalformed)?;
        Ok(Self {
            sender,
            epoch,
            confirmation_tag: tag.to_vec(),
            message,
        })
    }
}

/// A `PublicMessage`, bare or in an `MLSMessage`. The draft says "`PublicMessage`", and what implementations emit is the
/// latter. A bare one begins with the length of the group ID, which is not 0.
pub(crate) fn parse_public_message(bytes: &[u8]) -> Result<PublicMessageIn, GroupRefusal> {
    let malformed = |_| GroupRefusal::MessageMalformed;
    if bytes.first() != Some(&0) {
        return PublicMessageIn::tls_deserialize_exact(bytes).map_err(malformed);
    }
    let message = MlsMessageIn::tls_deserialize_exact(bytes).map_err(malformed)?;
    match message.extract() {
        MlsMessageBodyIn::PublicMessage(message) => Ok(message),
        MlsMessageBodyIn::PrivateMessage(_) => Err(GroupRefusal::PrivateMessage),
        _ => Err(GroupRefusal::WrongWireFormat),
    }
}

fn parse_group_state<'b>(
    bytes: &'b [u8],
    room: &RoomId,
    commit_epoch: u64,
) -> Result<GroupInfoBytes<'b>, GroupRefusal> {
    if bytes.len() > MAX_GROUP_STATE_BYTES {
        return Err(GroupRefusal::GroupStateTooLarge);
    }
    let info = GroupInfoBytes::parse(bytes).map_err(|_| GroupRefusal::GroupStateMalformed)?;
    if info.group_id != room.as_str().as_bytes() {
        return Err(GroupRefusal::GroupStateWrongGroup);
    }
    if Some(info.epoch) != commit_epoch.checked_add(1) {
        return Err(GroupRefusal::GroupStateWrongEpoch {
            epoch: info.epoch,
            expected: commit_epoch.saturating_add(1),
        });
    }
    if !info.has_ratchet_tree {
        return Err(GroupRefusal::GroupStateWithoutTree);
    }
    if !info.has_external_pub {
        return Err(GroupRefusal::GroupStateWithoutExternalPub);
    }
    Ok(info)
}

fn process(group: &PublicGroup, message: PublicMessageIn, crypto: &Signatures) -> Result<StagedCommit, GroupRefusal> {
    let processed = group.process_message(crypto, ProtocolMessage::from(message))?;
    match processed.into_content() {
        ProcessedMessageContent::StagedCommitMessage(staged) => Ok(*staged),
        ProcessedMessageContent::UnresolvedAppDataCommit(_) => Err(GroupRefusal::ProposalNotAllowed {
            proposal_type: APP_DATA_UPDATE,
        }),
        _ => Err(GroupRefusal::NotACommit),
    }
}

fn load_tree(info: &GroupInfoBytes<'_>) -> Result<PublicGroup, GroupRefusal> {
    let info = VerifiableGroupInfo::tls_deserialize_exact(info.bytes).map_err(|_| GroupRefusal::GroupStateMalformed)?;
    let tree = info
        .extensions()
        .ratchet_tree()
        .ok_or(GroupRefusal::GroupStateWithoutTree)?;
    let tree = tree.ratchet_tree().clone();
    let (group, _) = PublicGroup::from_external(crypto(), &NoStorage, tree, info, ProposalStore::new())?;
    Ok(group)
}

/// A hub cannot judge what it does not know, and an unknown extension may change any rule. SafeAADs, which OpenMLS knows, Linearized
/// Matrix does not: in a group that asks for them every message would have to begin with one, and OpenMLS reads it with a codec
/// that panics with debug assertions where it is cut off.
fn check_context_extensions(group: &PublicGroup) -> Result<(), GroupRefusal> {
    if group.group_context().safe_aad_required() {
        let extension_type = ExtensionType::AppDataDictionary.into();
        return Err(GroupRefusal::UnknownExtension { extension_type });
    }
    let mut extensions = group.group_context().extensions().iter();
    match extensions.find(|extension| matches!(extension, Extension::Unknown(..))) {
        Some(unknown) => Err(GroupRefusal::UnknownExtension {
            extension_type: unknown.extension_type().into(),
        }),
        None => Ok(()),
    }
}

/// Only a leaf that came with a key package has a lifetime.
fn check_leaf_lifetime(leaf: &LeafNode, now: UnixMillis) -> Result<(), GroupRefusal> {
    match leaf.leaf_node_source() {
        LeafNodeSource::KeyPackage(lifetime) => check_lifetime(lifetime, now).map_err(GroupRefusal::LeafLifetime),
        _ => Ok(()),
    }
}

/// Bytes of a signed group state from which on waking another thread costs less than hashing them: some 60 members.
const WORTH_A_THREAD: usize = 16 * 1024;

const MEMORY_BASE: usize = 4 * 1024;
/// A leaf, its share of the parent nodes, and its two entries in the roster.
const MEMORY_PER_MEMBER: usize = 1536;

#[cfg(test)]
mod tests;
