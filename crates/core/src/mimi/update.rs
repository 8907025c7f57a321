//! Proposals and commits (MIMI #update-room-state): whether the hub takes them, what they make of the room, and what is sent to
//! whom because of them (MIMI #fanout-messages-and-room-events).
//!
//! In this order: MLS, and what can be checked without a policy (`nabe_mls`); that the provider speaks for whoever sends; the
//! policy, proposer by proposer; that everybody who is added can be sent the Welcome. Nothing changes before all of it holds.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use nabe_auth::mimi::{self as policy, Action, Bundle, Claims, Client, Commit, CommitProposal, Committer, JoinCode};
use nabe_mls::mimi::{
    AddedMember, Identity, MimiGroup, MimiRefusal, PendingProposal, ProposalRef, ProposalRefused, StagedCommit,
    StagedProposals, key_package_ref,
};
use nabe_types::{LogPosition, ServerName, UnixMillis};
use nabe_wire::mls::{
    ComponentId, Credential, ExternalSender, FramedContentBody, LeafNode, MlsMessage, MlsMessageBody, Proposal, Sender,
    WireFormat,
};
use nabe_wire::notify::{FanoutBatch, FanoutParts};
use nabe_wire::update::{CommitParts, HandshakeBundle, HandshakeParts};
use nabe_wire::uri::{MimiKind, MimiUri};
use nabe_wire::{Encode as _, Kept, Message as _, codec};

use super::actor::{Actor, host_of};
use super::entry::{Audience, MimiEntry, MimiEntryKind};
use super::reach::Reached;
use super::refusal::UpdateRefusal;
use super::{Judged, Key, MimiCtx, MimiOutcome, MimiRoom};
use crate::{FollowerChange, GroupChange};

/// Whose a key package is that was fetched through this hub (MIMI #fetch-key-material).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyPackageRoute {
    /// The provider that gave it out, and that gets the Welcome.
    pub provider: ServerName,
    /// The user, as the provider says.
    pub user: MimiUri,
    /// The client, as the provider says.
    pub client: MimiUri,
}

impl MimiRoom {
    /// Whether the hub takes proposals or a commit of a provider. Nothing changes.
    ///
    /// `routes` are those of the key packages in the Welcome, or of those that are proposed to be added, by KeyPackageRef; `code` is what the hub knows of the join code that
    /// whoever joins by an external commit showed before.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn update(
        &self,
        from: &ServerName,
        bundle: &HandshakeBundle,
        routes: &BTreeMap<Vec<u8>, KeyPackageRoute>,
        code: JoinCode,
        ctx: &MimiCtx<'_>,
    ) -> Result<MimiOutcome, UpdateRefusal> {
        if !self.may_come_from(from, &bundle.proposal_or_commit) {
            return Err(UpdateRefusal::OtherProvider);
        }
        if !self.may_hear_the_epoch(from, &bundle.proposal_or_commit, code, ctx) {
            return Err(UpdateRefusal::Stranger);
        }
        let accepted = self.accepted_at(ctx.now);
        let outcome = match &bundle.with {
            HandshakeParts::Proposal { more_proposals } => {
                // Each costs a signature to check, so they are counted first.
                if more_proposals.len() >= policy::MAX_PENDING_OF_ONE {
                    return Err(policy::Rejection::PendingFull.into());
                }
                let messages = std::iter::once(&bundle.proposal_or_commit).chain(more_proposals);
                self.take_proposals(from, &messages.cloned().collect::<Vec<_>>(), routes, accepted, ctx)
            }
            HandshakeParts::Commit(parts) => {
                let commit = Arrived {
                    from,
                    message: &bundle.proposal_or_commit,
                    parts,
                    accepted,
                };
                self.take_commit(&commit, routes, code, ctx)
            }
        }?;
        // What no follower takes would stand before all that comes after it, for ever.
        match outcome.append.iter().find(|entry| !entry.fits()) {
            Some(entry) => Err(UpdateRefusal::TooLong {
                bytes: entry.body.len(),
                max: FanoutBatch::MAX_LEN,
            }),
            None => Ok(outcome),
        }
    }

    /// Whether a proposal or commit may be one that this provider sends: `false` if it says itself that it is of another one's client.
    /// A glance, before anything that takes time; what it leaves open is looked at later.
    #[must_use]
    pub fn may_come_from(&self, provider: &ServerName, message: &Kept<MlsMessage>) -> bool {
        let MlsMessageBody::Public(public) = &message.body else {
            return true;
        };
        // In another epoch somebody else may have the leaf, and the answer is another one.
        if public.content.epoch != self.group.epoch() {
            return true;
        }
        let is_theirs = |user: &MimiUri| user.host() == provider.as_str();
        match (&public.content.sender, &public.content.body) {
            (Sender::Member { leaf_index }, _) => {
                let member = self.group.member_at(*leaf_index);
                member.is_none_or(|member| is_theirs(member.user()))
            }
            (Sender::NewMemberCommit, FramedContentBody::Commit(commit)) => {
                let user = commit.path.as_ref().and_then(|path| user_named(&path.leaf_node));
                user.is_none_or(|user| is_theirs(&user))
            }
            (_, FramedContentBody::Proposal(_)) => {
                let motion = Motion::read(&self.group, std::slice::from_ref(message));
                motion.map_or(true, |motion| motion.actor.is_of(provider))
            }
            _ => true,
        }
    }

    /// Whether this may be answered with the current epoch, if it is of another one: to a provider with clients in the group or of an external
    /// sender of it, or for somebody who could see it in the GroupInfo.
    fn may_hear_the_epoch(
        &self,
        from: &ServerName,
        message: &Kept<MlsMessage>,
        code: JoinCode,
        ctx: &MimiCtx<'_>,
    ) -> bool {
        let MlsMessageBody::Public(public) = &message.body else {
            return true;
        };
        if public.content.epoch == self.group.epoch() || self.reach.active().any(|provider| provider == from) {
            return true;
        }
        let leaf = match (&public.content.sender, &public.content.body) {
            (Sender::External { .. }, _) => {
                // Its place on the list may have been another then.
                let hosts = self.group.external_senders().iter().skip(1).filter_map(host_of);
                return hosts.into_iter().any(|host| host == from.as_str());
            }
            (Sender::NewMemberCommit, FramedContentBody::Commit(commit)) => {
                commit.path.as_ref().map(|path| &path.leaf_node)
            }
            (Sender::NewMemberProposal, FramedContentBody::Proposal(proposal)) => match &***proposal {
                Proposal::Add(package) => Some(&package.leaf_node),
                _ => None,
            },
            _ => None,
        };
        let Some(leaf) = leaf else {
            return false;
        };
        let is_theirs = user_named(leaf).is_some_and(|user| user.host() == from.as_str());
        is_theirs && Client::of_leaf(leaf).is_ok_and(|client| self.policy.group_info(&client, code, ctx.parent).is_ok())
    }

    fn take_proposals(
        &self,
        from: &ServerName,
        messages: &[Kept<MlsMessage>],
        routes: &BTreeMap<Vec<u8>, KeyPackageRoute>,
        accepted: UnixMillis,
        ctx: &MimiCtx<'_>,
    ) -> Result<MimiOutcome, UpdateRefusal> {
        let staged = self
            .group
            .propose(&messages[0], &messages[1..], accepted)
            .map_err(refused)?;
        if staged.proposals.len() != messages.len() {
            return Err(UpdateRefusal::NotTogether);
        }
        let motion = Motion::read(&self.group, messages)?;
        if !motion.actor.is_of(from) {
            return Err(UpdateRefusal::OtherProvider);
        }
        check_agent(staged.proposals.iter().map(|pending| &pending.proposal), ctx)?;
        let proposed = self.policy.propose(&motion.bundle(), ctx.parent)?;
        // The next commit has to have them, and whoever has them in a commit needs to know where the Welcome goes.
        let to_add = proposed_packages(&staged.proposals, routes)?;
        let staged = self.group.superseding(staged, proposed.superseded());
        let position = self.position.next();
        let entry = proposals_entry(position, from, Audience::Others, messages.to_vec(), accepted);
        if !self.pending.takes(&entry) {
            return Err(policy::Rejection::PendingFull.into());
        }
        Ok(MimiOutcome {
            append: vec![entry],
            group: vec![GroupChange {
                position,
                bytes: staged.bytes,
            }],
            followers: Vec::new(),
            welcomed: Vec::new(),
            to_add,
            left_over: None,
            accepted,
            next_epoch: None,
            reached: match proposed.changes_standings() {
                true => Reached::Others,
                false => Reached::Same,
            },
            judged: Judged::Proposed(Box::new(proposed)),
        })
    }

    fn take_commit(
        &self,
        commit: &Arrived<'_>,
        routes: &BTreeMap<Vec<u8>, KeyPackageRoute>,
        code: JoinCode,
        ctx: &MimiCtx<'_>,
    ) -> Result<MimiOutcome, UpdateRefusal> {
        // While the last of the commit is checked, the policy is asked and what goes out is written.
        let judge = |staged: &StagedCommit| self.outcome_of(commit, staged, routes, code, ctx);
        let (staged, outcome) = self
            .group
            .stage_while(commit.message, commit.parts, commit.accepted, judge)?;
        let mut outcome = outcome?;
        outcome.next_epoch = Some(Box::new(staged.next));
        Ok(outcome)
    }

    /// What a commit that is sound does to the room, but for the group itself.
    fn outcome_of(
        &self,
        commit: &Arrived<'_>,
        staged: &StagedCommit,
        routes: &BTreeMap<Vec<u8>, KeyPackageRoute>,
        code: JoinCode,
        ctx: &MimiCtx<'_>,
    ) -> Result<MimiOutcome, UpdateRefusal> {
        let (from, accepted) = (commit.from, commit.accepted);
        if staged.committer.identity.user().host() != from.as_str() {
            return Err(UpdateRefusal::OtherProvider);
        }
        let by_value = staged
            .proposals
            .iter()
            .filter(|committed| committed.reference.is_none());
        check_agent(by_value.map(|committed| &committed.proposal), ctx)?;
        let merge = self.judge(commit, staged, code, ctx)?;
        let providers = welcomed_providers(&staged.added, routes)?;
        let position = self.position.next();
        // What was pending counts no longer after it, be it committed or void.
        let reached = match self.group.pending().len() == 0 && self.policy.left_over().is_empty() {
            true => Reached::by(staged),
            false => Reached::Others,
        };
        let (judged, again) = self.propose_again(staged, merge, accepted, ctx)?;
        let left_over = match &judged {
            Judged::Replaced(room) => room.left_over().to_bytes(),
            _ => policy::LeftOver::default().to_bytes(),
        };
        let mut outcome = MimiOutcome {
            append: Vec::new(),
            followers: self.reach.changes(staged, position, &self.server),
            welcomed: staged
                .added
                .iter()
                .filter_map(|added| added.key_package.clone())
                .map(Bytes::from)
                .collect(),
            to_add: Vec::new(),
            left_over: Some(left_over.into()),
            accepted,
            judged,
            next_epoch: None,
            reached,
            group: Vec::new(),
        };
        // Stapled to external commits alone, which is where they are looked for.
        let external_proposals = match (staged.external, &again) {
            (true, Some(again)) => again.messages.clone(),
            _ => Vec::new(),
        };
        let with = FanoutParts::Commit { external_proposals };
        outcome.append.push(MimiEntry::new(
            (position, MimiEntryKind::Commit),
            from,
            Audience::Others,
            accepted,
            commit.message,
            |out| with.encode(out),
        ));
        if let Some(welcome) = &commit.parts.welcome {
            let tree = |out: &mut Vec<u8>| match &staged.tree_after {
                Some(tree) => tree.encode(&self.group, out),
                None => commit.parts.ratchet_tree_option.encode(out),
            };
            let next = position.next();
            let entry = MimiEntry::welcome(next, from, providers, accepted, welcome, tree);
            outcome.append.push(entry);
        }
        outcome.group.push(GroupChange {
            position,
            bytes: staged.bytes.clone(),
        });
        if let Some(Again { messages, change }) = again {
            // All others have them with an external commit, which is not sent to whoever comes with it.
            let come = outcome.followers.iter().filter_map(|change| match change {
                FollowerChange::Open { server, .. } => Some(server),
                _ => None,
            });
            let receivers: BTreeSet<_> = come.chain([from]).cloned().collect();
            let audience = match staged.external {
                true => Audience::Only(receivers.into_iter().collect()),
                false => Audience::Others,
            };
            let position = outcome.append.last().map_or(position, |last| last.position).next();
            outcome
                .append
                .push(proposals_entry(position, &self.server, audience, messages, accepted));
            outcome.group.push(GroupChange {
                position,
                bytes: change,
            });
        }
        Ok(outcome)
    }

    /// Whether all who propose what is in the commit may, and whoever commits.
    fn judge(
        &self,
        commit: &Arrived<'_>,
        staged: &StagedCommit,
        code: JoinCode,
        ctx: &MimiCtx<'_>,
    ) -> Result<policy::Merge, UpdateRefusal> {
        let mut proposals = Vec::with_capacity(staged.proposals.len());
        for committed in &staged.proposals {
            proposals.push(match &committed.reference {
                Some(reference) => CommitProposal::Reference(reference.as_bytes()),
                None => CommitProposal::Inline(Action::of(&committed.proposal)?),
            });
        }
        let path = commit.path_leaf().map(Client::of_leaf).transpose()?;
        let claims = Claims::of(staged.committer.identity.credential());
        let committer = match &path {
            Some(client) if staged.external => Committer::NewMember { client, code },
            path => Committer::Member {
                leaf: staged.committer.leaf,
                claims: &claims,
                path: path.as_ref(),
            },
        };
        let expired: Vec<_> = self.group.expired(commit.accepted).map(ProposalRef::as_bytes).collect();
        let commit = Commit {
            committer,
            proposals: &proposals,
            expired: &expired,
            wire_format: commit.message.wire_format(),
        };
        Ok(self.policy.commit(&commit, ctx.parent)?)
    }

    /// What the hub proposes right after a commit: an external one makes void nearly all that was pending, although it counts (MIMI
    /// #room-state), and what is left over does not fit into one commit; and followers whose last participant has left go from the list
    /// of external senders (MIMI #authenticating-proposals).
    fn propose_again(
        &self,
        staged: &StagedCommit,
        merge: policy::Merge,
        accepted: UnixMillis,
        ctx: &MimiCtx<'_>,
    ) -> Result<(Judged, Option<Again>), UpdateRefusal> {
        let has_absent = self.may_have_absent_followers(staged, &merge);
        if !staged.external && self.policy.left_over().is_empty() && !has_absent {
            return Ok((Judged::Merged(Box::new(merge)), None));
        }
        let mut after = self.policy.clone();
        after.merge(merge).expect("decided on what was copied");
        let mut proposals: Vec<_> = after
            .left_over_proposals()
            .iter()
            .filter_map(Action::to_proposal)
            .collect();
        if proposals.is_empty() && !has_absent {
            return Ok((Judged::Replaced(Box::new(after)), None));
        }
        let mut group = self.group.clone();
        group.merge(&staged.bytes).expect("staged on what was copied");
        proposals.extend(without_absent_followers(&group, &after));
        if proposals.is_empty() {
            return Ok((Judged::Replaced(Box::new(after)), None));
        }
        let key = Key(ctx.signer);
        let sign = |proposal| group.hub_proposal(proposal, &key).map_err(UpdateRefusal::Signing);
        let messages: Vec<_> = proposals.into_iter().map(sign).collect::<Result<_, _>>()?;
        // What can no longer be proposed is no reason to keep somebody out; it counts on, as the policy has it.
        let try_these = |messages: &[Kept<MlsMessage>]| propose_as_hub(&group, &after, messages, accepted, ctx);
        let messages = as_many_as(&messages, |some| try_these(some).is_some());
        let found = (!messages.is_empty()).then(|| try_these(&messages)).flatten();
        let again = found.and_then(|(staged, proposed)| {
            let staged = group.superseding(staged, proposed.superseded());
            after.accept(proposed).ok()?;
            Some(Again {
                messages,
                change: staged.bytes,
            })
        });
        Ok((Judged::Replaced(Box::new(after)), again))
    }

    /// Whether followers without participants may be on the list of external senders after a commit. Those that have clients are looked
    /// at first, and only for one that has none the participants; neither group nor policy is copied for it.
    fn may_have_absent_followers(&self, staged: &StagedCommit, merge: &policy::Merge) -> bool {
        let mut proposals = staged.proposals.iter();
        if proposals.any(|committed| matches!(committed.proposal, Proposal::GroupContextExtensions(_))) {
            return true;
        }
        let senders = self.group.external_senders();
        let followers = senders.iter().skip(1).filter_map(follower);
        let mut absent: BTreeSet<String> = followers
            .map(|provider| provider.host().to_owned())
            .filter(|provider| !self.reach.has_clients_after(staged, provider))
            .collect();
        if absent.is_empty() {
            return false;
        }
        for participant in &self.policy.list_after(merge).participants {
            if let Ok(user) = MimiUri::parse(&participant.user) {
                absent.remove(user.host());
            }
        }
        !absent.is_empty()
    }
}

/// Nobody but the hub can frank in the hub's name, and who takes its agent away leaves all that comes after without a frank (MIMI
/// #hub-processing).
fn check_agent<'p>(proposals: impl Iterator<Item = &'p Proposal>, ctx: &MimiCtx<'_>) -> Result<(), UpdateRefusal> {
    for proposal in proposals {
        let Proposal::AppDataUpdate(update) = proposal else {
            continue;
        };
        if update.component_id != ComponentId::FRANKING_AGENT {
            continue;
        }
        let own = ctx.franking_agent.map(|agent| agent.to_bytes());
        if update.update.as_ref().map(|agent| &agent[..]) != own.as_deref() {
            return Err(UpdateRefusal::OtherFrankingAgent);
        }
    }
    Ok(())
}

/// What takes followers off the list of external senders that have no participants (MIMI #authenticating-proposals). What stands
/// for no provider stays.
fn without_absent_followers(group: &MimiGroup, policy: &policy::Room) -> Option<Proposal> {
    if group.external_senders().len() < 2 {
        return None;
    }
    let users = policy.participants().iter().map(policy::Participant::user);
    let hosts = users.filter_map(|user| Some(MimiUri::parse(user).ok()?.host().to_owned()));
    let hosts: BTreeSet<String> = hosts.collect();
    group.without_senders(|sender| follower(sender).is_none_or(|provider| hosts.contains(provider.host())))
}

/// The provider that an external sender stands for.
fn follower(sender: &ExternalSender) -> Option<MimiUri> {
    let Credential::Basic { identity } = &sender.credential else {
        return None;
    };
    let uri = MimiUri::parse(std::str::from_utf8(identity).ok()?).ok()?;
    (uri.kind() == MimiKind::Provider).then_some(uri)
}

/// A commit on its way in.
struct Arrived<'a> {
    from: &'a ServerName,
    message: &'a Kept<MlsMessage>,
    parts: &'a CommitParts,
    accepted: UnixMillis,
}

impl Arrived<'_> {
    /// The new leaf of the committer.
    fn path_leaf(&self) -> Option<&LeafNode> {
        let MlsMessageBody::Public(public) = &self.message.body else {
            return None;
        };
        match &public.content.body {
            FramedContentBody::Commit(commit) => commit.path.as_ref().map(|path| &path.leaf_node),
            _ => None,
        }
    }
}

fn user_named(leaf: &LeafNode) -> Option<MimiUri> {
    MimiUri::parse(&policy::user_of(&leaf.credential)?).ok()
}

/// What the hub proposes after a commit.
struct Again {
    messages: Vec<Kept<MlsMessage>>,
    change: Bytes,
}

/// Proposals that came together, as the policy is asked about them.
pub(super) struct Motion {
    actor: Actor,
    proposals: Vec<(codec::Bytes, Action)>,
    wire_format: WireFormat,
}

impl Motion {
    /// Of messages that the group has found to be in order.
    pub(super) fn read(group: &MimiGroup, messages: &[Kept<MlsMessage>]) -> Result<Self, UpdateRefusal> {
        let mut actor: Option<Actor> = None;
        let mut proposals = Vec::with_capacity(messages.len());
        for message in messages {
            let (proposer, proposal, reference) = group.read_proposal(message)?;
            proposals.push((reference.as_bytes().into(), Action::of(&proposal)?));
            let proposing = Actor::proposing(&proposer, &proposal)?;
            if actor.as_ref().is_some_and(|first| !first.is_same(&proposing)) {
                return Err(UpdateRefusal::SeveralProposers);
            }
            actor.get_or_insert(proposing);
        }
        Ok(Self {
            actor: actor.ok_or(MimiRefusal::NotAProposal)?,
            proposals,
            wire_format: messages[0].wire_format(),
        })
    }

    pub(super) fn bundle(&self) -> Bundle<'_> {
        Bundle {
            proposer: self.actor.proposer(),
            proposals: &self.proposals,
            wire_format: self.wire_format,
        }
    }
}

/// What becomes of a room by proposals of its hub, at least one, if it takes them.
pub(super) fn propose_as_hub(
    group: &MimiGroup,
    policy: &policy::Room,
    messages: &[Kept<MlsMessage>],
    accepted: UnixMillis,
    ctx: &MimiCtx<'_>,
) -> Option<(StagedProposals, policy::Proposed)> {
    let staged = group.propose(&messages[0], &messages[1..], accepted).ok()?;
    let motion = Motion::read(group, messages).ok()?;
    let proposed = policy.propose(&motion.bundle(), ctx.parent).ok()?;
    Some((staged, proposed))
}

/// Of these, in their order, as many as are fine together: all of them, or else those that are fine with the ones before. Of many that are
/// fine few questions are asked.
pub(super) fn as_many_as<T: Clone>(all: &[T], are_fine: impl Fn(&[T]) -> bool) -> Vec<T> {
    let mut kept: Vec<T> = Vec::with_capacity(all.len());
    let mut untried = vec![all];
    while let Some(some) = untried.pop().filter(|some| !some.is_empty()) {
        let before = kept.len();
        kept.extend_from_slice(some);
        if are_fine(&kept) {
            continue;
        }
        kept.truncate(before);
        if some.len() > 1 {
            let (first, second) = some.split_at(some.len() / 2);
            untried.extend([second, first]);
        }
    }
    kept
}

/// The providers of those who are added, in ascending order: each client by the key package that was fetched of it.
fn welcomed_providers(
    added: &[AddedMember],
    routes: &BTreeMap<Vec<u8>, KeyPackageRoute>,
) -> Result<Vec<ServerName>, UpdateRefusal> {
    let mut providers = BTreeSet::new();
    for added in added {
        let Some(reference) = &added.key_package else {
            continue;
        };
        let route = route_of(reference, &added.member.identity, routes)?;
        providers.insert(route.provider.clone());
    }
    Ok(providers.into_iter().collect())
}

/// The references of what is proposed to be added: nobody whose Welcome could not be sent.
fn proposed_packages(
    proposed: &[PendingProposal],
    routes: &BTreeMap<Vec<u8>, KeyPackageRoute>,
) -> Result<Vec<Bytes>, UpdateRefusal> {
    let mut references = Vec::new();
    for pending in proposed {
        let (Proposal::Add(package), Some(identity)) = (&pending.proposal, &pending.client) else {
            continue;
        };
        let reference = key_package_ref(package).ok_or(UpdateRefusal::KeyPackageNotFetched)?;
        route_of(&reference, identity, routes)?;
        references.push(reference);
    }
    Ok(references)
}

/// Whose a key package is, if it was fetched through this hub and is this client's.
fn route_of<'r>(
    reference: &[u8],
    identity: &Identity,
    routes: &'r BTreeMap<Vec<u8>, KeyPackageRoute>,
) -> Result<&'r KeyPackageRoute, UpdateRefusal> {
    let route = routes.get(reference).ok_or(UpdateRefusal::KeyPackageNotFetched)?;
    let is_client = identity.client().is_none_or(|client| *client == route.client);
    if *identity.user() != route.user || !is_client {
        return Err(UpdateRefusal::KeyPackageOfAnother);
    }
    Ok(route)
}

pub(super) fn proposals_entry(
    position: LogPosition,
    origin: &ServerName,
    audience: Audience,
    messages: Vec<Kept<MlsMessage>>,
    accepted: UnixMillis,
) -> MimiEntry {
    let mut messages = messages.into_iter();
    let message = messages.next().expect("a bundle has at least one proposal");
    let with = FanoutParts::Proposal {
        more_proposals: messages.collect(),
    };
    let place = (position, MimiEntryKind::Proposal);
    MimiEntry::new(place, origin, audience, accepted, &message, |out| with.encode(out))
}

fn refused(refused: ProposalRefused) -> UpdateRefusal {
    UpdateRefusal::Group {
        reason: refused.reason,
        proposal: refused.reference,
    }
}
