//! A room as its hub knows it: what was committed, what was accepted since, and the decisions about what comes next
//! (MIMI #room-state).
//!
//! Deciding changes nothing. What was decided is put into effect afterwards, when the hub has stored it.

use std::collections::BTreeSet;
use std::sync::Arc;

use nabe_wire::app_data::AppDataDictionary;
use nabe_wire::codec::Bytes;
use nabe_wire::mls::{ComponentId, ProposalOrRef, WireFormat};
use nabe_wire::participant_list::{ParticipantListData, ParticipantListUpdate, UserRolePair};
use nabe_wire::{Encode, IdentifierUri};

use super::Rejection;
use super::accepted::{Accepted, Author, Queue};
use super::action::{Action, Client, JoinCode, Proposer};
use super::claims::Claims;
use super::commit::{self, Outcome};
use super::left_over::LeftOver;
use super::participants::Participants;
use super::pending::{Pending, View};
use super::policy::{Policy, read};
use super::proposal::{Around, Authority, Parent, authorize, counts_hold, unbanned};
use super::roles::NO_ROLE;
use super::{component, list};

/// A room's policy, participants and leaves, with everything that was accepted in this epoch.
#[derive(Clone, Debug)]
pub struct Room {
    participants: Participants,
    policy: Arc<Policy>,
    pending: Pending,
    accepted: Queue,
    left_over: LeftOver,
    revision: u64,
}

/// Proposals of one proposer that reach the hub together, in one `HandshakeBundle`.
#[derive(Clone, Debug)]
pub struct Bundle<'a> {
    /// Who proposes.
    pub proposer: Proposer<'a>,
    /// By reference: the `ProposalRef` of each, and what it is. MLS was found to be in order; of a Remove and a SelfRemove of one
    /// leaf there is only the SelfRemove.
    pub proposals: &'a [(Bytes, Action)],
    /// How they were framed.
    pub wire_format: WireFormat,
}

/// A commit, of which MLS was found to be in order.
#[derive(Clone, Debug)]
pub struct Commit<'a> {
    /// Who commits.
    pub committer: Committer<'a>,
    /// Its proposals in its order.
    pub proposals: &'a [CommitProposal<'a>],
    /// References of accepted Adds whose key package is not good any more, which MLS knows: these may be left out.
    pub expired: &'a [&'a [u8]],
    /// How it was framed.
    pub wire_format: WireFormat,
}

/// Who commits.
#[derive(Clone, Copy, Debug)]
pub enum Committer<'a> {
    /// A client of the group.
    Member {
        /// Its leaf.
        leaf: u32,
        /// What its credential says.
        claims: &'a Claims,
        /// The leaf in the commit's path, if it has one.
        path: Option<&'a Client>,
    },
    /// A client that joins by an external commit.
    NewMember {
        /// The client.
        client: &'a Client,
        /// The code by which it got the GroupInfo.
        code: JoinCode,
    },
}

/// A proposal in a commit.
#[derive(Clone, Debug)]
pub enum CommitProposal<'a> {
    /// One that was sent before: its `ProposalRef`.
    Reference(&'a [u8]),
    /// One of the committer.
    Inline(Action),
}

impl<'a> CommitProposal<'a> {
    /// As it stands in a commit.
    ///
    /// # Errors
    /// As for [`Action::of`].
    pub fn of(proposal: &'a ProposalOrRef) -> Result<Self, Rejection> {
        match proposal {
            ProposalOrRef::Reference(reference) => Ok(Self::Reference(reference)),
            ProposalOrRef::Proposal(proposal) => Action::of(proposal).map(Self::Inline),
        }
    }
}

/// Proposals that may be accepted: [`Room::accept`].
#[derive(Debug)]
#[must_use]
pub struct Proposed {
    pending: Pending,
    accepted: Vec<Accepted>,
    superseded: Vec<(u64, Bytes)>,
    revision: u64,
}

impl Proposed {
    /// The `ProposalRef`s of accepted proposals that give way to these and are not committed any more (D-supersede). MLS is to drop the
    /// same.
    pub fn superseded(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.superseded.iter().map(|(_, reference)| &**reference)
    }

    /// Whether anybody may do something else afterwards, or has other clients: roles, or users' places and clients, are changed.
    pub fn changes_standings(&self) -> bool {
        self.pending.changes_standings()
    }
}

/// A commit that may be merged: [`Room::merge`].
#[derive(Debug)]
#[must_use]
pub struct Merge {
    outcome: Outcome,
    left_over: LeftOver,
    removed: BTreeSet<u32>,
    added: Vec<(u32, IdentifierUri)>,
    revision: u64,
}

/// The room has changed since the decision, which therefore says nothing any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the room has changed since this was decided")]
pub struct Stale;

impl Room {
    /// The room with this dictionary in its group's context, and these leaves: the number of each and whose it is. What was left over in
    /// the current epoch is to be restored after that ([`Room::restore`]), and proposals that were accepted in it are to be accepted again,
    /// in their order ([`Room::accept_again`]).
    ///
    /// # Errors
    /// The dictionary does not read, contradicts itself, or does not fit the leaves.
    pub fn load(
        room: IdentifierUri,
        dictionary: &AppDataDictionary,
        leaves: impl IntoIterator<Item = (u32, IdentifierUri)>,
    ) -> Result<Self, Rejection> {
        let policy = Arc::new(Policy::new(room, dictionary)?);
        let list = dictionary
            .data(ComponentId::PARTICIPANT_LIST)
            .ok_or(Rejection::ComponentRequired)?;
        let participants = Participants::new(&read::<ParticipantListData>(list)?, leaves)?;
        let room = Self {
            participants,
            policy,
            pending: Pending::default(),
            accepted: Queue::default(),
            left_over: LeftOver::default(),
            revision: 0,
        };
        counts_hold(&room.view(), true)?;
        Ok(room)
    }

    /// What was left over when the epoch began, for a room that was just loaded: the [`Room::left_over`] of before.
    pub fn restore(&mut self, left_over: LeftOver) {
        (self.left_over, self.pending) = left_over.that_fits(&self.participants, &self.policy);
        self.accepted.clear();
        self.revision += 1;
    }

    /// Whether the hub accepts proposals. `parent` is the room that this one depends on, if it does.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn propose(&self, bundle: &Bundle<'_>, parent: Option<&Self>) -> Result<Proposed, Rejection> {
        self.proposed(bundle, Parent::Now(parent))
    }

    /// Lets proposals count that were accepted before the room was loaded, in this epoch and in this order. The room they depend on was
    /// asked then and may be another by now, so it is not asked again.
    ///
    /// # Errors
    /// The rule by which they cannot have been accepted.
    pub fn accept_again(&mut self, bundle: &Bundle<'_>) -> Result<(), Rejection> {
        let proposed = self.proposed(bundle, Parent::AskedBefore)?;
        self.take_in(proposed);
        Ok(())
    }

    fn proposed(&self, bundle: &Bundle<'_>, parent: Parent<'_>) -> Result<Proposed, Rejection> {
        // What was accepted once was accepted while rooms went on after their last client, too.
        if let Parent::Now(_) = parent {
            self.is_going_on()?;
        }
        self.takes(bundle.wire_format)?;
        let around = self.around(parent, JoinCode::Absent);
        let mut view = self.view();
        let authority = Authority::new(&view, &bundle.proposer, &around)?;
        let mut references = BTreeSet::new();
        let mut is_new =
            |reference: &Bytes| self.accepted.number_of(reference).is_none() && references.insert(reference.clone());
        if !bundle.proposals.iter().all(|(reference, _)| is_new(reference)) {
            return Err(Rejection::ProposalTwice);
        }
        let (leaf, author) = match bundle.proposer {
            Proposer::Member { leaf, .. } => (Some(leaf), authority.user.clone().map(Author::User)),
            Proposer::External { index: 0, .. } => (None, None),
            Proposer::External { index, .. } => (None, Some(Author::Sender(index))),
            Proposer::NewMember { .. } => (None, authority.user.clone().map(Author::User)),
        };
        self.accepted.takes(author.as_ref(), bundle.proposals.len())?;
        let actions: Vec<&Action> = bundle.proposals.iter().map(|(_, action)| action).collect();
        authorize(&mut view, &authority, &actions)?;
        let accepted = |(reference, action): &(Bytes, Action)| Accepted {
            reference: reference.clone(),
            leaf,
            own_change: own_change(&view, &authority, action),
            action: action.clone(),
            author: author.clone(),
        };
        let accepted = bundle.proposals.iter().map(accepted).collect();
        let (pending, superseded) = view.into_own();
        let reference_of = |number: u64| Some((number, self.accepted.get(number)?.reference.clone()));
        Ok(Proposed {
            pending,
            accepted,
            superseded: superseded.into_iter().filter_map(reference_of).collect(),
            revision: self.revision,
        })
    }

    /// Lets proposals count.
    ///
    /// # Errors
    /// [`Stale`] if anything was accepted or merged since they were judged.
    pub fn accept(&mut self, proposed: Proposed) -> Result<(), Stale> {
        self.is_current(proposed.revision)?;
        self.take_in(proposed);
        Ok(())
    }

    fn take_in(&mut self, proposed: Proposed) {
        self.pending.absorb(proposed.pending);
        for (number, _) in proposed.superseded {
            self.accepted.remove(number);
        }
        for accepted in proposed.accepted {
            self.accepted.push(accepted);
        }
        self.revision += 1;
    }

    /// Whether the hub accepts a commit.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn commit(&self, commit: &Commit<'_>, parent: Option<&Self>) -> Result<Merge, Rejection> {
        self.is_going_on()?;
        self.takes(commit.wire_format)?;
        let code = match commit.committer {
            Committer::Member { .. } => JoinCode::Absent,
            Committer::NewMember { code, .. } => code,
        };
        let outcome = commit::decide(self, commit, &self.around(Parent::Now(parent), code))?;
        let changes = self.with(&outcome.result);
        let mut left_over = match &outcome.effective {
            Some(effective) => {
                let effective = View::with(&self.participants, &self.policy, Some(&self.pending), effective.clone());
                let mut left_over = LeftOver::between(&effective, &changes);
                for (component, data) in &self.left_over.components {
                    // Whoever changed it since had the last word, even with what is committed.
                    if effective.operation(*component).is_none() {
                        left_over.components.insert(*component, data.clone());
                    }
                }
                left_over
            }
            None => self.left_over.without(&changes),
        };
        if let Some(parent) = parent.filter(|_| changes.policy().base().parent_dependant) {
            left_over.without_strangers(changes.policy(), parent);
        }
        let removed: BTreeSet<u32> = changes
            .changed_users()
            .into_values()
            .flat_map(|it| it.removed.keys().copied())
            .collect();
        let owners = outcome.result.added_clients.iter().cloned();
        let free = self
            .participants
            .leaves_for(outcome.result.added_clients.len(), &removed);
        Ok(Merge {
            added: free.into_iter().zip(owners).collect(),
            removed,
            left_over,
            outcome,
            revision: self.revision,
        })
    }

    /// The new data of each component that a commit changes, `None` where it removes them: what the group's context gets.
    pub fn component_changes(&self, merge: &Merge) -> Vec<(ComponentId, Option<Bytes>)> {
        let view = self.with(&merge.outcome.result);
        let mut changes: Vec<_> = view.changed_components().into_iter().collect();
        if view.list_changed() {
            let data = list_of(&view).to_bytes();
            changes.push((ComponentId::PARTICIPANT_LIST, Some(data.into())));
        }
        changes.sort_by_key(|(component, _)| *component);
        changes
    }

    /// The list as a commit leaves it.
    pub fn list_after(&self, merge: &Merge) -> ParticipantListData {
        list_of(&self.with(&merge.outcome.result))
    }

    /// Puts a commit into effect. After an external commit, what else was accepted counts on, until the hub has proposed it again and
    /// somebody committed it (D-external-commit).
    ///
    /// # Errors
    /// [`Stale`] if anything was accepted or merged since it was judged.
    pub fn merge(&mut self, merge: Merge) -> Result<(), Stale> {
        self.is_current(merge.revision)?;
        let view = View::new(&self.participants, &self.policy, Some(&merge.outcome.result));
        let policy = view.policy().clone();
        let mut gone = Vec::new();
        let mut moved = Vec::new();
        for (user, change) in view.changed_users() {
            match change.role {
                Some(NO_ROLE) => gone.push(user.clone()),
                Some(role) if !change.is_added => moved.push((user.clone(), role)),
                _ => {}
            }
        }
        let appended: Vec<_> = view
            .appended()
            .map(|user| (user.clone(), view.standing(user).role))
            .collect();
        for (user, role) in moved {
            self.participants.set_role(&user, role);
        }
        for leaf in merge.removed {
            self.participants.take_leaf(leaf);
        }
        self.participants.remove(&gone);
        for (user, role) in appended {
            self.participants.append(user, role);
        }
        for (leaf, user) in merge.added {
            self.participants.fill_leaf(leaf, &user);
        }
        self.policy = policy;
        (self.left_over, self.pending) = merge.left_over.that_fits(&self.participants, &self.policy);
        self.accepted.clear();
        self.revision += 1;
        Ok(())
    }

    /// The list and the leaves as they were committed.
    pub fn participants(&self) -> &Participants {
        &self.participants
    }

    /// The policy as it counts now.
    pub fn policy(&self) -> &Arc<Policy> {
        self.pending.policy().unwrap_or(&self.policy)
    }

    /// The policy as it was committed.
    pub fn committed_policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// The proposals that were accepted in this epoch, in order, without those that gave way to later ones.
    pub fn accepted(&self) -> impl ExactSizeIterator<Item = &Accepted> {
        self.accepted.iter()
    }

    /// The role of a user as it counts now; 0 for users who are not on the list.
    pub fn role_of(&self, user: &IdentifierUri) -> u32 {
        self.view().standing(user).role
    }

    /// How many clients of a user the group has once everything accepted is committed.
    pub fn clients_of(&self, user: &IdentifierUri) -> u32 {
        self.view().standing(user).clients
    }

    /// The list as it counts now.
    pub fn effective_list(&self) -> ParticipantListData {
        list_of(&self.view())
    }

    /// A user is on the list, as it counts now, and not banned.
    pub fn takes_part(&self, user: &IdentifierUri) -> bool {
        component::takes_part(&self.view(), user)
    }

    /// Every client that the group has is to go, so that nobody is left to commit anything, and the room is not one that stays for whoever
    /// comes back: it is inaccessible from now on (D-room-over).
    pub fn is_over(&self) -> bool {
        if self.policy().base().persistent_room {
            return false;
        }
        let clients = self.participants.clients();
        let view = self.view();
        let changes = view.changed_users();
        clients > 0 && clients == changes.values().map(|change| change.removed.len()).sum::<usize>()
    }

    /// # Errors
    /// The room is over.
    pub(super) fn is_going_on(&self) -> Result<(), Rejection> {
        if self.is_over() {
            Err(Rejection::RoomOver)
        } else {
            Ok(())
        }
    }

    /// Whether a new room may depend on another: everybody who takes part in it takes part there, and others do (MRP
    /// #base-room-policy-component-syntax).
    ///
    /// # Errors
    /// Why not; a room that depends on none may.
    pub fn fits_parent(&self, parent: Option<&Self>) -> Result<(), Rejection> {
        if !self.policy().base().parent_dependant {
            return Ok(());
        }
        let parent = parent.ok_or(Rejection::ParentUnknown)?;
        if self.strangers_to(parent).next().is_some() {
            return Err(Rejection::NotInParent);
        }
        if self.unbanned() < parent.unbanned() {
            Ok(())
        } else {
            Err(Rejection::NotStrictSubset)
        }
    }

    /// The users on the list as it was committed who take part, but not in this other room.
    pub fn strangers_to<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a super::participants::Participant> {
        let committed = self.participants.iter();
        committed.filter(|it| self.takes_part(it.user()) && !other.takes_part(it.user()))
    }

    /// What was accepted and counts on though an external commit kept it from being committed. To be stored with the epoch.
    pub fn left_over(&self) -> &LeftOver {
        &self.left_over
    }

    /// What the hub proposes right after an external commit, and again after the commit of that until nothing is left (MIMI
    /// #fanout-messages-and-room-events): the changes of the list and the clients that go, then components.
    pub fn left_over_proposals(&self) -> Vec<Action> {
        self.left_over
            .proposals(&self.participants, self.policy(), &self.policy)
    }

    pub(super) fn queue(&self) -> &Queue {
        &self.accepted
    }

    pub(super) fn unbanned(&self) -> u32 {
        unbanned(&self.view())
    }

    pub(super) fn view(&self) -> View<'_> {
        self.with(&self.pending)
    }

    fn with<'a>(&'a self, pending: &'a Pending) -> View<'a> {
        View::new(&self.participants, &self.policy, Some(pending))
    }

    fn around<'a>(&'a self, parent: Parent<'a>, code: JoinCode) -> Around<'a> {
        Around {
            left_over: &self.left_over,
            accepted: &self.accepted,
            parent,
            code,
        }
    }

    /// Handshakes are public or semi-private, and of the formats that the operational policy names if it names any.
    fn takes(&self, wire_format: WireFormat) -> Result<(), Rejection> {
        let named = self
            .policy()
            .operational()
            .map(|it| &it.handshake_formats.wire_formats[..]);
        let is_readable = matches!(
            wire_format,
            WireFormat::PUBLIC_MESSAGE | WireFormat::SEMI_PRIVATE_MESSAGE
        );
        let is_named = named.is_none_or(|named| named.is_empty() || named.contains(&wire_format));
        if is_readable && is_named {
            Ok(())
        } else {
            Err(Rejection::HandshakeFormat)
        }
    }

    fn is_current(&self, revision: u64) -> Result<(), Stale> {
        if revision == self.revision { Ok(()) } else { Err(Stale) }
    }
}

impl Merge {
    /// The leaves that become blank.
    pub fn removed_leaves(&self) -> impl Iterator<Item = u32> {
        self.removed.iter().copied()
    }

    /// The leaves that are filled, in the order of the Adds, and whose they are. It is where MLS puts them.
    pub fn added_leaves(&self) -> impl Iterator<Item = (u32, &IdentifierUri)> {
        self.added.iter().map(|(leaf, user)| (*leaf, user))
    }
}

/// The list with its changes: role changes, removals, additions at the end.
fn list_of(view: &View<'_>) -> ParticipantListData {
    // Whoever is added that an external commit left over is not among those of this epoch.
    let left_over = view.changed_users().into_iter().filter_map(|(user, change)| {
        let is_new = view.committed.get(user).is_none() && !change.is_added;
        is_new.then_some(user)
    });
    let users = view.committed.iter().map(|it| it.user());
    let pair = |user: &IdentifierUri| UserRolePair {
        user: user.clone(),
        role_index: view.standing(user).role,
    };
    let all = users.chain(left_over).chain(view.appended()).map(pair);
    ParticipantListData {
        participants: all.filter(|pair| pair.role_index != NO_ROLE).collect(),
    }
}

/// Whose place in the list the proposal changes, if it is its proposer's and nobody else's.
fn own_change(view: &View<'_>, authority: &Authority<'_>, action: &Action) -> Option<IdentifierUri> {
    let user = authority.user.as_ref()?;
    let Action::AppData(update) = action else {
        return None;
    };
    let update = update
        .update
        .as_ref()
        .filter(|_| update.component_id == ComponentId::PARTICIPANT_LIST)?;
    let update: ParticipantListUpdate = read(update).ok()?;
    let mut entries = list::entries(view, &update);
    let is_own = entries.all(|entry| entry.is_ok_and(|entry| entry.user == *user));
    is_own.then(|| user.clone())
}
