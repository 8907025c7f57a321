//! Accepted changes that an external commit kept from being committed (D-external-commit): they count on, and the hub proposes
//! them again. This is the one list of what is proposed again.

mod stored;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nabe_wire::codec::Bytes;
use nabe_wire::mls::{AppDataUpdate, ComponentId};
use nabe_wire::participant_list::{ParticipantListUpdate, UserIndexRolePair, UserRolePair};
use nabe_wire::policy::{JoinLinksData, JoinLinksUpdate};
use nabe_wire::{IdentifierUri, Message};

use super::action::Action;
use super::component;
use super::list;
use super::participants::Participants;
use super::pending::{Gone, Pending, View};
use super::policy::{Policy, read};
use super::proposal::counts_hold;
use super::roles::{NO_ROLE, Role};
use super::room::Room;

/// What is left over. A hub stores it with the epoch (it encodes) and hands it to [`super::Room::restore`] when it loads the room again.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LeftOver {
    /// Users who are not as they should be.
    pub users: BTreeMap<IdentifierUri, LeftOverUser>,
    /// The data that each of these components is to have; `None` if it is to be removed.
    pub components: BTreeMap<ComponentId, Option<Bytes>>,
}

/// What is left over of one user's changes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LeftOverUser {
    /// The role that they are to have, 0 if they are to go; `None` if it is theirs already.
    pub role: Option<u32>,
    /// Whoever changed the role had the right to remove their clients along with it.
    pub clients_may_go: bool,
    /// Leaves of theirs that are to go.
    pub leaves: BTreeSet<u32>,
}

impl LeftOver {
    /// Nothing is.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.components.is_empty()
    }

    /// The users who are to have another role, 0 for none.
    pub fn roles(&self) -> impl Iterator<Item = (&IdentifierUri, u32)> {
        let roles = self.users.iter();
        roles.filter_map(|(user, left_over)| Some((user, left_over.role?)))
    }

    /// The leaves that are to go, and whose they are.
    pub fn leaves(&self) -> impl Iterator<Item = (&IdentifierUri, u32)> {
        let users = self.users.iter();
        users.flat_map(|(user, left_over)| left_over.leaves.iter().map(move |leaf| (user, *leaf)))
    }

    /// What counts after a commit and was not committed with it. Clients that were to be added do not count on.
    pub(super) fn between(effective: &View<'_>, result: &View<'_>) -> Self {
        let mut users = BTreeMap::new();
        for (user, change) in effective.changed_users() {
            let role = effective.standing(user).role;
            let done = result.change_of(user);
            let is_done = |leaf: &u32| done.is_some_and(|done| done.removed.contains_key(leaf));
            let left_over = LeftOverUser {
                role: (result.standing(user).role != role).then_some(role),
                clients_may_go: change.clients_may_go,
                leaves: change.removed.keys().copied().filter(|leaf| !is_done(leaf)).collect(),
            };
            users.insert(user.clone(), left_over);
        }
        let components = effective.changed_components().into_iter();
        let components = components.filter(|(component, data)| result.component(*component) != data.as_deref());
        Self {
            users,
            components: components.collect(),
        }
    }

    /// Without what a commit has settled. Whoever changed a component since had the last word.
    pub(super) fn without(&self, result: &View<'_>) -> Self {
        let mut rest = self.clone();
        for (user, left_over) in &mut rest.users {
            if let Some(done) = result.change_of(user) {
                left_over.leaves.retain(|leaf| !done.removed.contains_key(leaf));
            }
        }
        rest.components
            .retain(|component, _| result.operation(*component).is_none());
        rest
    }

    /// Without roles for users who have left the parent room, which no commit could give them.
    pub(super) fn without_strangers(&mut self, policy: &Policy, parent: &Room) {
        for (user, left_over) in &mut self.users {
            let takes_part = |role: &u32| *role != NO_ROLE && !policy.roles().is_ban(*role);
            if left_over.role.as_ref().is_some_and(takes_part) && !parent.takes_part(user) {
                left_over.role = None;
            }
        }
    }

    /// As much of it as commits could still contain: first what is about users, then the components; and the same as changes on top
    /// of what is committed. If not all users can be as they should, those are who can by themselves, in the order of their URIs.
    pub(super) fn that_fits(self, committed: &Participants, policy: &Arc<Policy>) -> (Self, Pending) {
        let mut users = self.users;
        users.retain(|user, left_over| {
            let found = committed.get(user);
            left_over.role = left_over
                .role
                .filter(|role| found.map_or(NO_ROLE, |it| it.role()) != *role);
            left_over
                .leaves
                .retain(|leaf| committed.owner(*leaf).is_some_and(|it| it.user() == user));
            left_over.role.is_some() || !left_over.leaves.is_empty()
        });
        let mut view = View::new(committed, policy, None);
        for (user, left_over) in &users {
            left_over.put(&mut view, user);
        }
        let mut pending = if counts_hold(&view, false).is_ok() {
            view.into_own().0
        } else {
            let mut pending = Pending::default();
            users.retain(|user, left_over| {
                let mut view = View::new(committed, policy, Some(&pending));
                left_over.put(&mut view, user);
                let fits = counts_hold(&view, false).is_ok();
                if fits {
                    let (own, _) = view.into_own();
                    pending.absorb(own);
                }
                fits
            });
            pending
        };
        let mut components = self.components;
        components.retain(|component, data| {
            let mut view = View::new(committed, policy, Some(&pending));
            if view.component(*component) == data.as_deref() {
                return false;
            }
            let Ok(changed) = view.policy().with(*component, data.clone()) else {
                return false;
            };
            view.set_policy(Arc::new(changed));
            view.own_mut().components.insert(*component, data.is_some());
            if counts_hold(&view, false).is_err() {
                return false;
            }
            let (mut own, _) = view.into_own();
            // It is of no epoch until it is proposed again.
            own.components.clear();
            pending.absorb(own);
            true
        });
        (Self { users, components }, pending)
    }

    /// The action is one of those that are left over, or some of them.
    pub(super) fn contains(&self, view: &View<'_>, action: &Action) -> bool {
        match action {
            Action::Remove(leaf) => self.leaves().any(|(_, left_over)| left_over == *leaf),
            Action::AppData(update) if update.component_id == ComponentId::PARTICIPANT_LIST => {
                let update: Option<ParticipantListUpdate> = update.update.as_ref().and_then(|it| read(it).ok());
                let Some(update) = update else {
                    return false;
                };
                let is_one = |entry: Result<list::ListChange, _>| {
                    entry.is_ok_and(|entry| {
                        let left_over = self.users.get(&entry.user);
                        left_over.is_some_and(|left_over| left_over.role == Some(entry.to))
                    })
                };
                let mut entries = list::entries(view, &update).peekable();
                entries.peek().is_some() && entries.all(is_one)
            }
            Action::AppData(update) => component::is_left_over(view, self, update),
            _ => false,
        }
    }

    /// What the hub proposes right after an external commit: the changes of the list and the clients that go, or, since not everything
    /// goes into one commit, the components if no change of the list is left over.
    pub(super) fn proposals(&self, participants: &Participants, policy: &Policy, committed: &Policy) -> Vec<Action> {
        let mut update = ParticipantListUpdate {
            changed_role_participants: Vec::new(),
            removed_indices: Vec::new(),
            added_participants: Vec::new(),
        };
        let mut leaves: BTreeSet<u32> = self.leaves().map(|(_, leaf)| leaf).collect();
        for (user, role_index) in self.roles() {
            let Some(user_index) = participants.index_of(user) else {
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
            let roles = policy.roles();
            let is_without_clients = roles.get(role_index).is_some_and(Role::is_without_clients);
            if role_index == NO_ROLE || roles.is_ban(role_index) || is_without_clients {
                leaves.extend(participants.get(user).into_iter().flat_map(|it| it.leaves()));
            }
        }
        let removes = leaves.into_iter().map(Action::Remove);
        if self.roles().next().is_some() {
            let list = Action::update(ComponentId::PARTICIPANT_LIST, &update);
            return std::iter::once(list).chain(removes).collect();
        }
        let components = self.components.iter();
        let components = components.map(|(component, data)| proposal_of(*component, data.as_ref(), committed));
        removes.chain(components).collect()
    }
}

impl LeftOverUser {
    fn put(&self, view: &mut View<'_>, user: &IdentifierUri) {
        view.change(user, |change| {
            if self.role.is_some() {
                change.role = self.role;
                change.clients_may_go = self.clients_may_go;
            }
            let leaves = self.leaves.iter().map(|leaf| (*leaf, Gone::LeftOver));
            change.removed.extend(leaves);
        });
    }
}

fn proposal_of(component_id: ComponentId, data: Option<&Bytes>, committed: &Policy) -> Action {
    let links = data.filter(|_| component_id == ComponentId::JOIN_LINKS);
    if let Some(links) = links.and_then(|links| JoinLinksData::from_bytes(links).ok()) {
        let update = JoinLinksUpdate {
            removed_indices: (0..).take(committed.join_links().len()).collect(),
            added_links: links.join_links,
        };
        return Action::update(component_id, &update);
    }
    Action::AppData(AppDataUpdate {
        component_id,
        update: data.cloned(),
    })
}
