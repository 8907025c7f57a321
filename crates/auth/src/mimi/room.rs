//! A room as its hub knows it: what was committed, what was accepted since, and the decisions about what comes next
//! (MIMI #room-state).
//!
//! Deciding changes nothing. What was decided is put into effect afterwards, when the hub has stored it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use nabe_wire::app_data::AppDataDictionary;
use nabe_wire::codec::Bytes;
use nabe_wire::mls::{AppDataUpdate, ComponentId, ProposalOrRef, WireFormat};
use nabe_wire::participant_list::{ParticipantListData, ParticipantListUpdate, UserIndexRolePair, UserRolePair};
use nabe_wire::policy::{JoinLinksData, JoinLinksUpdate};
use nabe_wire::{Encode, IdentifierUri, Message};

use super::Rejection;
use super::action::{Action, Client, JoinCode, Proposer};
use super::claims::Claims;
use super::commit::{self, Outcome};
use super::component;
use super::participants::Participants;
use super::pending::{LeftOver, Pending, View};
use super::policy::{Policy, read};
use super::proposal::{Around, Authority, Counts, authorize, holds, unbanned};
use super::roles::{NO_ROLE, Role};

/// A room's policy, participants and leaves, with everything that was accepted in this epoch.
#[derive(Clone, Debug)]
pub struct Room {
    participants: Participants,
    policy: Arc<Policy>,
    pending: Pending,
    accepted: Vec<Accepted>,
    left_over: LeftOver,
    revision: u64,
}

/// Proposals of one proposer that reach the hub together, in one `HandshakeBundle`.
#[derive(Clone, Debug)]
pub struct Bundle<'a> {
    /// Who proposes.
    pub proposer: Proposer<'a>,
    /// By reference: the `ProposalRef` of each, and what it is.
    pub proposals: &'a [(Bytes, Action)],
    /// How they were framed.
    pub wire_format: WireFormat,
}

/// A proposal that the hub accepted in this epoch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Accepted {
    reference: Bytes,
    leaf: Option<u32>,
    action: Action,
}

impl Accepted {
    /// Its `ProposalRef`.
    pub fn reference(&self) -> &[u8] {
        &self.reference
    }

    /// The leaf of the client that proposed it; `None` if it came from outside.
    pub fn leaf(&self) -> Option<u32> {
        self.leaf
    }

    /// What it is.
    pub fn action(&self) -> &Action {
        &self.action
    }
}

/// A commit, of which MLS was found to be in order.
#[derive(Clone, Debug)]
pub struct Commit<'a> {
    /// Who commits.
    pub committer: Committer<'a>,
    /// Its proposals in its order.
    pub proposals: &'a [CommitProposal<'a>],
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
    revision: u64,
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
    /// The room with this dictionary in its group's context, and these leaves: the number of each and whose it is. Proposals that
    /// were accepted in the current epoch are to be proposed and accepted again, in their order.
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
            accepted: Vec::new(),
            left_over: LeftOver::default(),
            revision: 0,
        };
        holds(&room.view(), &Counts::unknown(), None)?;
        Ok(room)
    }

    /// Whether the hub accepts proposals. `parent` is the room that this one depends on, if it does.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn propose(&self, bundle: &Bundle<'_>, parent: Option<&Self>) -> Result<Proposed, Rejection> {
        self.takes(bundle.wire_format)?;
        let around = self.around(parent, JoinCode::Absent);
        let mut view = self.view();
        let authority = Authority::new(&view, &bundle.proposer, &around)?;
        let mut references: BTreeSet<&[u8]> = self.accepted.iter().map(Accepted::reference).collect();
        if !bundle
            .proposals
            .iter()
            .all(|(reference, _)| references.insert(reference))
        {
            return Err(Rejection::ProposalTwice);
        }
        let actions: Vec<&Action> = bundle.proposals.iter().map(|(_, action)| action).collect();
        authorize(&mut view, &authority, &actions)?;
        let leaf = match bundle.proposer {
            Proposer::Member { leaf, .. } => Some(leaf),
            Proposer::External { .. } | Proposer::NewMember { .. } => None,
        };
        let accepted = |(reference, action): &(Bytes, Action)| Accepted {
            reference: reference.clone(),
            leaf,
            action: action.clone(),
        };
        Ok(Proposed {
            pending: view.pending.into_owned(),
            accepted: bundle.proposals.iter().map(accepted).collect(),
            revision: self.revision,
        })
    }

    /// Lets proposals count.
    ///
    /// # Errors
    /// [`Stale`] if anything was accepted or merged since they were judged.
    pub fn accept(&mut self, proposed: Proposed) -> Result<(), Stale> {
        self.is_current(proposed.revision)?;
        self.pending = proposed.pending;
        self.accepted.extend(proposed.accepted);
        self.revision += 1;
        Ok(())
    }

    /// Whether the hub accepts a commit.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn commit(&self, commit: &Commit<'_>, parent: Option<&Self>) -> Result<Merge, Rejection> {
        self.takes(commit.wire_format)?;
        let code = match commit.committer {
            Committer::Member { .. } => JoinCode::Absent,
            Committer::NewMember { code, .. } => code,
        };
        let outcome = commit::decide(self, commit, &self.around(parent, code))?;
        let left_over = if outcome.is_external {
            let result = self.with(&outcome.result);
            let mut left_over = self.with(&outcome.effective).left_over(&result);
            for (component, data) in &self.left_over.components {
                left_over.components.entry(*component).or_insert_with(|| data.clone());
            }
            left_over
        } else {
            // Whoever changed a component since had the last word.
            let mut left_over = self.left_over.clone();
            left_over
                .components
                .retain(|component, _| !outcome.result.components.contains_key(component));
            left_over
        };
        let changes = self.with(&outcome.result);
        let removed: BTreeSet<u32> = changes
            .changed_users()
            .flat_map(|(_, it)| it.removed.iter().copied())
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
        let mut changes: Vec<_> = view.changed_components().collect();
        if view.pending.list_changed {
            let data = list_of(&view).to_bytes();
            changes.push((ComponentId::PARTICIPANT_LIST, Some(data.into())));
        }
        changes.sort_by_key(|(component, _)| *component);
        changes
    }

    /// Puts a commit into effect. After an external commit, what else was accepted counts on, until the hub has proposed it again and
    /// somebody committed it (D-external-commit).
    ///
    /// # Errors
    /// [`Stale`] if anything was accepted or merged since it was judged.
    pub fn merge(&mut self, merge: Merge) -> Result<(), Stale> {
        self.is_current(merge.revision)?;
        let view = View::new(&self.participants, &self.policy, Cow::Owned(merge.outcome.result));
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
            .pending
            .appended
            .iter()
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
        self.left_over = merge.left_over;
        self.pending = self.left_over.on_top_of(&self.participants, &self.policy);
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

    /// The proposals that were accepted in this epoch, in order.
    pub fn accepted(&self) -> &[Accepted] {
        &self.accepted
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

    /// Changes that were accepted and that an external commit kept from being committed: the role that each user is to have, 0 for
    /// none. The hub proposes them again with the next epoch's first messages (MIMI #fanout-messages-and-room-events).
    pub fn left_over_roles(&self) -> impl Iterator<Item = (&IdentifierUri, u32)> {
        self.left_over.roles.iter().map(|(user, (role, _))| (user, *role))
    }

    /// The same of components: the data that each is to have, `None` for none.
    pub fn left_over_components(&self) -> impl Iterator<Item = (ComponentId, Option<&Bytes>)> {
        self.left_over
            .components
            .iter()
            .map(|(component, data)| (*component, data.as_ref()))
    }

    /// What the hub proposes right after an external commit, for what it left over: the changes of the list with the clients that go
    /// along, or, since not everything goes into one commit, the components if no change of the list is left over.
    pub fn left_over_proposals(&self) -> Vec<Action> {
        if self.left_over.roles.is_empty() {
            let change =
                |(component, data): (&ComponentId, &Option<Bytes>)| self.proposal_of(*component, data.as_ref());
            return self.left_over.components.iter().map(change).collect();
        }
        let mut update = ParticipantListUpdate {
            changed_role_participants: Vec::new(),
            removed_indices: Vec::new(),
            added_participants: Vec::new(),
        };
        let mut clients = Vec::new();
        for (user, (role_index, _)) in &self.left_over.roles {
            let role_index = *role_index;
            let Some(user_index) = self.participants.index_of(user) else {
                let user = user.clone();
                update.added_participants.push(UserRolePair { user, role_index });
                continue;
            };
            if role_index == NO_ROLE {
                update.removed_indices.push(user_index);
            } else {
                let pair = UserIndexRolePair { user_index, role_index };
                update.changed_role_participants.push(pair);
            }
            let roles = self.policy().roles();
            let is_without_clients = roles.get(role_index).is_some_and(Role::is_without_clients);
            if role_index == NO_ROLE || roles.is_ban(role_index) || is_without_clients {
                clients.extend(self.participants.get(user).into_iter().flat_map(|it| it.leaves()));
            }
        }
        let list = Action::update(ComponentId::PARTICIPANT_LIST, &update);
        std::iter::once(list)
            .chain(clients.into_iter().map(Action::Remove))
            .collect()
    }

    fn proposal_of(&self, component_id: ComponentId, data: Option<&Bytes>) -> Action {
        let links = data.filter(|_| component_id == ComponentId::JOIN_LINKS);
        if let Some(links) = links.and_then(|links| JoinLinksData::from_bytes(links).ok()) {
            let update = JoinLinksUpdate {
                removed_indices: (0..).take(self.policy.join_links().len()).collect(),
                added_links: links.join_links,
            };
            return Action::update(component_id, &update);
        }
        Action::AppData(AppDataUpdate {
            component_id,
            update: data.cloned(),
        })
    }

    pub(super) fn unbanned(&self) -> u32 {
        unbanned(&self.view())
    }

    pub(super) fn view(&self) -> View<'_> {
        self.with(&self.pending)
    }

    fn with<'a>(&'a self, pending: &'a Pending) -> View<'a> {
        View::new(&self.participants, &self.policy, Cow::Borrowed(pending))
    }

    fn around<'a>(&'a self, parent: Option<&'a Self>, code: JoinCode) -> Around<'a> {
        Around {
            left_over: &self.left_over,
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
    let left_over = view.changed_users().filter_map(|(user, change)| {
        let is_new = view.committed.get(user).is_none() && !change.is_added;
        is_new.then_some(user)
    });
    let users = view.committed.iter().map(|it| it.user());
    let pair = |user: &IdentifierUri| UserRolePair {
        user: user.clone(),
        role_index: view.standing(user).role,
    };
    let all = users.chain(left_over).chain(&view.pending.appended).map(pair);
    ParticipantListData {
        participants: all.filter(|pair| pair.role_index != NO_ROLE).collect(),
    }
}
