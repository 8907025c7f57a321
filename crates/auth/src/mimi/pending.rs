//! What an epoch changes about a room: accepted proposals on top of what was committed (MIMI #room-state).
//!
//! A view is three layers: what was committed, what was accepted since, and what is being judged. So a decision costs what it changes,
//! however many users are listed and however much is pending.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nabe_wire::IdentifierUri;
use nabe_wire::codec::Bytes;
use nabe_wire::mls::ComponentId;
use nabe_wire::policy::JoinLink;

use super::participants::{Participants, Tally, entry_bytes};
use super::policy::Policy;
use super::roles::NO_ROLE;

/// Changes of one room, not committed yet.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Pending {
    users: BTreeMap<IdentifierUri, UserChange>,
    tallies: BTreeMap<u32, (i64, i64)>,
    participants: i64,
    /// Of the entries of the list.
    list_bytes: i64,
    clients: i64,
    with_several_clients: i64,
    /// Users who are put on the list, in order.
    appended: Vec<IdentifierUri>,
    /// The owners of added clients, in order, with those who were superseded.
    pub(super) added_clients: Vec<IdentifierUri>,
    policy: Option<Arc<Policy>>,
    /// Components other than the participant list: `true` if it was updated, `false` if it was removed. Of this epoch.
    pub(super) components: BTreeMap<ComponentId, bool>,
    pub(super) removed_links: BTreeSet<u32>,
    pub(super) added_links: Vec<JoinLink>,
    /// How many entries of the list's updates there are in this epoch, and how many that are no removals.
    pub(super) list_entries: i64,
    pub(super) list_entries_beyond_removals: i64,
}

impl Pending {
    pub(super) fn policy(&self) -> Option<&Arc<Policy>> {
        self.policy.as_ref()
    }

    /// Whether users' roles or clients change, or what the roles may do.
    pub(super) fn changes_standings(&self) -> bool {
        !self.users.is_empty() || self.components.contains_key(&ComponentId::ROLES_LIST)
    }

    /// Takes in the layer that was on top of this one.
    pub(super) fn absorb(&mut self, top: Self) {
        self.users.extend(top.users);
        for (role, (participants, active)) in top.tallies {
            let tally = self.tallies.entry(role).or_default();
            tally.0 += participants;
            tally.1 += active;
        }
        self.participants += top.participants;
        self.list_bytes += top.list_bytes;
        self.clients += top.clients;
        self.with_several_clients += top.with_several_clients;
        self.appended.extend(top.appended);
        self.added_clients.extend(top.added_clients);
        if top.policy.is_some() {
            self.policy = top.policy;
        }
        self.components.extend(top.components);
        self.removed_links.extend(top.removed_links);
        self.added_links.extend(top.added_links);
        self.list_entries += top.list_entries;
        self.list_entries_beyond_removals += top.list_entries_beyond_removals;
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
    /// Leaves of theirs that are removed, and how.
    pub(super) removed: BTreeMap<u32, Gone>,
    /// How many clients of theirs are added.
    pub(super) added: u32,
}

/// How a leaf is removed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Gone {
    /// An external commit made the proposal void, and it is not proposed again yet.
    LeftOver,
    /// By a Remove.
    Removed,
    /// By a SelfRemove.
    Left,
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
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) committed: &'a Participants,
    committed_policy: &'a Arc<Policy>,
    accepted: Option<&'a Pending>,
    own: Pending,
    /// Accepted proposals that give way to what is judged, by their numbers.
    superseded: BTreeSet<u64>,
}

impl<'a> View<'a> {
    /// What was committed, what was accepted, and nothing on top yet.
    pub(super) fn new(
        committed: &'a Participants,
        committed_policy: &'a Arc<Policy>,
        accepted: Option<&'a Pending>,
    ) -> Self {
        Self::with(committed, committed_policy, accepted, Pending::default())
    }

    pub(super) fn with(
        committed: &'a Participants,
        committed_policy: &'a Arc<Policy>,
        accepted: Option<&'a Pending>,
        own: Pending,
    ) -> Self {
        Self {
            committed,
            committed_policy,
            accepted,
            own,
            superseded: BTreeSet::new(),
        }
    }

    /// Without what is being judged.
    pub(super) fn before(&self) -> Self {
        Self::new(self.committed, self.committed_policy, self.accepted)
    }

    /// What is being judged, and what gives way to it.
    pub(super) fn into_own(self) -> (Pending, BTreeSet<u64>) {
        (self.own, self.superseded)
    }

    pub(super) fn own(&self) -> &Pending {
        &self.own
    }

    pub(super) fn own_mut(&mut self) -> &mut Pending {
        &mut self.own
    }

    /// From the bottom up.
    fn layers(&self) -> impl DoubleEndedIterator<Item = &Pending> {
        self.accepted.into_iter().chain([&self.own])
    }

    pub(super) fn policy(&self) -> &Arc<Policy> {
        let mut layers = self.layers().rev();
        layers.find_map(Pending::policy).unwrap_or(self.committed_policy)
    }

    /// The policy as it was when the epoch began.
    pub(super) fn committed_policy(&self) -> &'a Arc<Policy> {
        self.committed_policy
    }

    pub(super) fn set_policy(&mut self, policy: Arc<Policy>) {
        self.own.policy = Some(policy);
    }

    pub(super) fn supersede(&mut self, proposal: u64) {
        self.superseded.insert(proposal);
    }

    pub(super) fn is_superseded(&self, proposal: u64) -> bool {
        self.superseded.contains(&proposal)
    }

    pub(super) fn change_of(&self, user: &IdentifierUri) -> Option<&UserChange> {
        self.layers().rev().find_map(|layer| layer.users.get(user))
    }

    pub(super) fn standing(&self, user: &IdentifierUri) -> Standing {
        let committed = self.committed.get(user);
        let change = self.change_of(user);
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
        let mut changed = self.change_of(user).cloned().unwrap_or_default();
        change(&mut changed);
        self.own.users.insert(user.clone(), changed);
        let after = self.standing(user);
        self.count(before, -1);
        self.count(after, 1);
        let listed = i64::from(after.role != NO_ROLE) - i64::from(before.role != NO_ROLE);
        self.own.list_bytes += listed * i64::from(narrow(entry_bytes(user)));
    }

    fn count(&mut self, standing: Standing, by: i64) {
        let own = &mut self.own;
        own.clients += by * i64::from(standing.clients);
        if standing.clients > 1 {
            own.with_several_clients += by;
        }
        if standing.role != NO_ROLE {
            own.participants += by;
            let tally = own.tallies.entry(standing.role).or_default();
            tally.0 += by;
            tally.1 += if standing.clients > 0 { by } else { 0 };
        }
    }

    /// Puts a user at the end of the list.
    pub(super) fn append(&mut self, user: IdentifierUri) {
        self.own.appended.push(user);
    }

    /// Those who were put at the end of the list, in order.
    pub(super) fn appended(&self) -> impl Iterator<Item = &IdentifierUri> {
        self.layers().flat_map(|layer| &layer.appended)
    }

    /// How many users have a role.
    pub(super) fn tally(&self, role: u32) -> Tally {
        let committed = self.committed.tally(role);
        let of = |layer: &Pending| layer.tallies.get(&role).copied().unwrap_or_default();
        let (participants, active) = self
            .layers()
            .map(of)
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        Tally {
            participants: sum(committed.participants, participants),
            active: sum(committed.active, active),
        }
    }

    /// How many users are on the list.
    pub(super) fn participants(&self) -> u32 {
        let change = self.layers().map(|layer| layer.participants).sum();
        sum(narrow(self.committed.len()), change)
    }

    /// How many bytes the entries of the list take up.
    pub(super) fn list_bytes(&self) -> u32 {
        let change = self.layers().map(|layer| layer.list_bytes).sum();
        sum(narrow(self.committed.bytes()), change)
    }

    /// How many clients the group has.
    pub(super) fn clients(&self) -> u32 {
        let change = self.layers().map(|layer| layer.clients).sum();
        sum(narrow(self.committed.clients()), change)
    }

    /// How many users have more than one client.
    pub(super) fn with_several_clients(&self) -> u32 {
        let change = self.layers().map(|layer| layer.with_several_clients).sum();
        sum(self.committed.with_several_clients(), change)
    }

    /// The roles whose counts may differ from those before.
    pub(super) fn counted_roles(&self) -> BTreeSet<u32> {
        self.own.tallies.keys().copied().collect()
    }

    /// The roles that anybody has, or had before.
    pub(super) fn roles_in_use(&self) -> BTreeSet<u32> {
        let counted = self.layers().flat_map(|layer| layer.tallies.keys().copied());
        let roles = self.committed.roles_in_use().chain(counted);
        roles.filter(|role| self.tally(*role).participants > 0).collect()
    }

    /// Who is changed by what is being judged.
    pub(super) fn own_users(&self) -> impl Iterator<Item = (&IdentifierUri, &UserChange)> {
        self.own.users.iter()
    }

    /// Everybody who is changed.
    pub(super) fn changed_users(&self) -> BTreeMap<&IdentifierUri, &UserChange> {
        self.layers().flat_map(|layer| &layer.users).collect()
    }

    /// The data of a component, if it has any.
    pub(super) fn component(&self, component: ComponentId) -> Option<&[u8]> {
        self.policy().dictionary().data(component)
    }

    /// What became of a component in this epoch.
    pub(super) fn operation(&self, component: ComponentId) -> Option<bool> {
        let mut layers = self.layers().rev();
        layers.find_map(|layer| layer.components.get(&component).copied())
    }

    /// The new data of the components that were changed; `None` where they were removed. The participant list is not among
    /// them.
    pub(super) fn changed_components(&self) -> BTreeMap<ComponentId, Option<Bytes>> {
        let components = self.layers().flat_map(|layer| layer.components.keys());
        components
            .map(|component| (*component, self.component(*component).map(Bytes::from)))
            .collect()
    }

    pub(super) fn removed_links(&self) -> BTreeSet<u32> {
        self.layers().flat_map(|layer| &layer.removed_links).copied().collect()
    }

    pub(super) fn added_links(&self) -> Vec<JoinLink> {
        self.layers().flat_map(|layer| &layer.added_links).cloned().collect()
    }

    /// The list was changed in this epoch.
    pub(super) fn list_changed(&self) -> bool {
        self.layers().map(|layer| layer.list_entries).sum::<i64>() > 0
    }

    /// And by more than removals.
    pub(super) fn list_changed_beyond_removals(&self) -> bool {
        let entries = self.layers().map(|layer| layer.list_entries_beyond_removals);
        entries.sum::<i64>() > 0
    }
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn sum(committed: u32, change: i64) -> u32 {
    u32::try_from(i64::from(committed) + change).unwrap_or(0)
}
