//! What an epoch changes about a room: accepted proposals on top of what was committed (MIMI #room-state). A view is both together.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nabe_wire::IdentifierUri;
use nabe_wire::codec::Bytes;
use nabe_wire::mls::ComponentId;
use nabe_wire::policy::JoinLink;

use super::participants::{Participants, Tally};
use super::policy::Policy;
use super::roles::NO_ROLE;

/// Changes of one room, not committed yet.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Pending {
    users: BTreeMap<IdentifierUri, UserChange>,
    tallies: BTreeMap<u32, (i64, i64)>,
    participants: i64,
    clients: i64,
    with_several_clients: i64,
    /// Users who are put on the list, in order.
    pub(super) appended: Vec<IdentifierUri>,
    /// The owners of added clients, in order.
    pub(super) added_clients: Vec<IdentifierUri>,
    policy: Option<Arc<Policy>>,
    /// Components other than the participant list: `true` if it was updated, `false` if it was removed.
    pub(super) components: BTreeMap<ComponentId, bool>,
    pub(super) removed_links: BTreeSet<u32>,
    pub(super) added_links: Vec<JoinLink>,
    /// The list was changed in this epoch, and by more than removals.
    pub(super) list_changed: bool,
    pub(super) list_changed_beyond_removals: bool,
}

impl Pending {
    pub(super) fn policy(&self) -> Option<&Arc<Policy>> {
        self.policy.as_ref()
    }
}

/// What became of one user in this epoch.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct UserChange {
    /// Their new role; 0 if they are taken off the list.
    pub(super) role: Option<u32>,
    /// Who changed that did so in this epoch. Otherwise it is left over from an earlier one (D-external-commit).
    pub(super) is_touched: bool,
    /// They were put on the list in this epoch.
    pub(super) is_added: bool,
    /// Whoever changed their role had the right to remove their clients along with it.
    pub(super) clients_may_go: bool,
    /// Leaves of theirs that are removed.
    pub(super) removed: BTreeSet<u32>,
    /// How many clients of theirs are added.
    pub(super) added: u32,
}

/// Where a user stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Standing {
    /// 0 if they are not on the list.
    pub(super) role: u32,
    /// How many clients they have.
    pub(super) clients: u32,
}

/// A room with changes on top.
#[derive(Clone)]
pub(super) struct View<'a> {
    pub(super) committed: &'a Participants,
    committed_policy: &'a Arc<Policy>,
    /// Borrowed until something changes.
    pub(super) pending: Cow<'a, Pending>,
}

impl<'a> View<'a> {
    pub(super) fn new(
        committed: &'a Participants,
        committed_policy: &'a Arc<Policy>,
        pending: Cow<'a, Pending>,
    ) -> Self {
        Self {
            committed,
            committed_policy,
            pending,
        }
    }

    pub(super) fn policy(&self) -> &Arc<Policy> {
        self.pending.policy.as_ref().unwrap_or(self.committed_policy)
    }

    /// The policy as it was when the epoch began.
    pub(super) fn committed_policy(&self) -> &'a Arc<Policy> {
        self.committed_policy
    }

    pub(super) fn set_policy(&mut self, policy: Arc<Policy>) {
        self.pending.to_mut().policy = Some(policy);
    }

    pub(super) fn change_of(&self, user: &IdentifierUri) -> Option<&UserChange> {
        self.pending.users.get(user)
    }

    pub(super) fn standing(&self, user: &IdentifierUri) -> Standing {
        let committed = self.committed.get(user);
        let change = self.pending.users.get(user);
        let role = committed.map_or(NO_ROLE, |it| it.role());
        let clients = committed.map_or(0, |it| it.leaves().len());
        let removed = change.map_or(0, |it| it.removed.len());
        let added = change.map_or(0, |it| it.added);
        Standing {
            role: change.and_then(|it| it.role).unwrap_or(role),
            clients: narrow(clients.saturating_sub(removed)).saturating_add(added),
        }
    }

    /// Changes a user, and all counts with them.
    pub(super) fn change(&mut self, user: &IdentifierUri, change: impl FnOnce(&mut UserChange)) {
        let before = self.standing(user);
        change(self.pending.to_mut().users.entry(user.clone()).or_default());
        let after = self.standing(user);
        self.count(before, -1);
        self.count(after, 1);
    }

    fn count(&mut self, standing: Standing, by: i64) {
        let pending = self.pending.to_mut();
        pending.clients += by * i64::from(standing.clients);
        if standing.clients > 1 {
            pending.with_several_clients += by;
        }
        if standing.role != NO_ROLE {
            pending.participants += by;
            let tally = pending.tallies.entry(standing.role).or_default();
            tally.0 += by;
            tally.1 += if standing.clients > 0 { by } else { 0 };
        }
    }

    /// How many users have a role.
    pub(super) fn tally(&self, role: u32) -> Tally {
        let committed = self.committed.tally(role);
        let (participants, active) = self.pending.tallies.get(&role).copied().unwrap_or_default();
        Tally {
            participants: sum(committed.participants, participants),
            active: sum(committed.active, active),
        }
    }

    /// How many users are on the list.
    pub(super) fn participants(&self) -> u32 {
        sum(narrow(self.committed.len()), self.pending.participants)
    }

    /// How many clients the group has.
    pub(super) fn clients(&self) -> u32 {
        sum(narrow(self.committed.clients()), self.pending.clients)
    }

    /// How many users have more than one client.
    pub(super) fn with_several_clients(&self) -> u32 {
        sum(self.committed.with_several_clients(), self.pending.with_several_clients)
    }

    /// The roles whose counts may differ from the committed ones.
    pub(super) fn counted_roles(&self) -> impl Iterator<Item = u32> {
        self.pending.tallies.keys().copied()
    }

    /// The roles that anybody has.
    pub(super) fn roles_in_use(&self) -> BTreeSet<u32> {
        let roles = self.committed.roles_in_use().chain(self.counted_roles());
        roles.filter(|role| self.tally(*role).participants > 0).collect()
    }

    pub(super) fn changed_users(&self) -> impl Iterator<Item = (&IdentifierUri, &UserChange)> {
        self.pending.users.iter()
    }

    /// The data of a component, if it has any.
    pub(super) fn component(&self, component: ComponentId) -> Option<&[u8]> {
        self.policy().dictionary().data(component)
    }

    /// The new data of the components that were changed; `None` where they were removed. The participant list is not among
    /// them.
    pub(super) fn changed_components(&self) -> impl Iterator<Item = (ComponentId, Option<Bytes>)> {
        let data = |component| self.component(component).map(Bytes::from);
        self.pending
            .components
            .keys()
            .map(move |component| (*component, data(*component)))
    }

    /// The changes of the list that outlive the epoch although an external commit made the proposals void, and the policy that
    /// does (D-external-commit).
    pub(super) fn left_over(&self, result: &View<'_>) -> LeftOver {
        let still_differs = |(user, change): (&IdentifierUri, &UserChange)| {
            let role = change.role?;
            let is_done = result.standing(user).role == role;
            (!is_done).then(|| (user.clone(), (role, change.clients_may_go)))
        };
        let components = self.changed_components().filter(|(component, data)| {
            let done = result.component(*component);
            done != data.as_deref()
        });
        LeftOver {
            roles: self.changed_users().filter_map(still_differs).collect(),
            components: components.collect(),
        }
    }
}

/// Changes that the hub accepted and that an external commit kept from being committed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct LeftOver {
    /// The role that each of these users is to have, 0 for those who are to go, and whether their clients go along.
    pub(super) roles: BTreeMap<IdentifierUri, (u32, bool)>,
    /// The data that each of these components is to have.
    pub(super) components: BTreeMap<ComponentId, Option<Bytes>>,
}

impl LeftOver {
    /// As changes on top of what is committed. A policy that no longer fits what was committed since is dropped.
    pub(super) fn on_top_of(&mut self, committed: &Participants, policy: &Arc<Policy>) -> Pending {
        let mut view = View::new(committed, policy, Cow::Owned(Pending::default()));
        self.roles.retain(|user, (role, _)| view.standing(user).role != *role);
        for (user, (role, clients_may_go)) in &self.roles {
            view.change(user, |change| {
                change.role = Some(*role);
                change.clients_may_go = *clients_may_go;
            });
        }
        let mut changed = policy.clone();
        self.components.retain(|component, data| {
            if changed.dictionary().data(*component) == data.as_deref() {
                return false;
            }
            match changed.with(*component, data.clone()) {
                Ok(policy) => {
                    changed = Arc::new(policy);
                    true
                }
                Err(_) => false,
            }
        });
        if !self.components.is_empty() {
            view.set_policy(changed);
        }
        view.pending.into_owned()
    }
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn sum(committed: u32, change: i64) -> u32 {
    u32::try_from(i64::from(committed) + change).unwrap_or(0)
}
