//! The participant list as it was committed, and which leaf of the group is whose (MIMI #participant-list).
//!
//! Users are found by name, by their place in the list and by their leaves without going through the list, and counts are
//! kept for each role: a room of ten thousand costs a decision no more than one of ten.

use std::collections::{BTreeMap, BTreeSet};

use nabe_wire::IdentifierUri;
use nabe_wire::participant_list::{ParticipantListData, UserRolePair};
use nabe_wire::uri::{MimiKind, MimiUri};

use super::Rejection;
use super::roles::NO_ROLE;

/// A user on the list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Participant {
    user: IdentifierUri,
    role: u32,
    leaves: BTreeSet<u32>,
}

impl Participant {
    /// As the list names them.
    pub fn user(&self) -> &IdentifierUri {
        &self.user
    }

    /// The role's index.
    pub fn role(&self) -> u32 {
        self.role
    }

    /// Where their clients are in the group; none if they are inactive.
    pub fn leaves(&self) -> impl ExactSizeIterator<Item = u32> {
        self.leaves.iter().copied()
    }
}

/// How many users have a role.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// On the list.
    pub participants: u32,
    /// With clients in the group.
    pub active: u32,
}

/// The list and the leaves.
#[derive(Clone, Debug, Default)]
pub struct Participants {
    /// Users by an ordinal that grows along the list and that they keep while they are on it.
    users: BTreeMap<u64, Participant>,
    ordinals: BTreeMap<IdentifierUri, u64>,
    /// The ordinals in the order of the list: the index of a user is the place of theirs.
    order: Vec<u64>,
    owners: BTreeMap<u32, u64>,
    /// Blank leaves to the left of the last one that is not.
    blanks: BTreeSet<u32>,
    tallies: BTreeMap<u32, Tally>,
    with_several_clients: u32,
    /// What all entries take up in the component.
    bytes: usize,
    next: u64,
}

/// How many bytes a user's entry takes up in the component.
pub(super) fn entry_bytes(user: &IdentifierUri) -> usize {
    let length = user.len();
    let prefix = match length {
        0..=0x3f => 1,
        _ => 2,
    };
    prefix + length + size_of::<u32>()
}

impl Participants {
    /// A list, and whose each leaf is.
    ///
    /// # Errors
    /// A user is listed twice, with role 0, or under another URI than their own (D-user-uri); a leaf is there twice or that of a user who is not listed.
    pub(super) fn new(
        list: &ParticipantListData,
        leaves: impl IntoIterator<Item = (u32, IdentifierUri)>,
    ) -> Result<Self, Rejection> {
        let mut participants = Self::default();
        for UserRolePair { user, role_index } in &list.participants {
            if *role_index == NO_ROLE {
                return Err(Rejection::RoleZero);
            }
            if !is_user_uri(user) {
                return Err(Rejection::UserUri);
            }
            if !participants.append(user.clone(), *role_index) {
                return Err(Rejection::UserListed);
            }
        }
        for (leaf, user) in leaves {
            if leaf > MAX_LEAF || participants.owners.contains_key(&leaf) {
                return Err(Rejection::UnknownLeaf);
            }
            let ordinal = participants.ordinals.get(&user).ok_or(Rejection::ClientOfUnlisted)?;
            participants.give_leaf(leaf, *ordinal);
        }
        participants.blanks = participants.blank_leaves();
        Ok(participants)
    }

    /// How many users are listed.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Nobody is listed.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// All in the order of the list.
    pub fn iter(&self) -> impl Iterator<Item = &Participant> {
        self.order.iter().filter_map(|ordinal| self.users.get(ordinal))
    }

    /// The user at an index of the list.
    pub fn at(&self, index: u32) -> Option<&Participant> {
        self.users.get(self.order.get(usize::try_from(index).ok()?)?)
    }

    /// A user by name.
    pub fn get(&self, user: &IdentifierUri) -> Option<&Participant> {
        self.users.get(self.ordinals.get(user)?)
    }

    /// The index of a user in the list.
    pub fn index_of(&self, user: &IdentifierUri) -> Option<u32> {
        let index = self.order.binary_search(self.ordinals.get(user)?).ok()?;
        u32::try_from(index).ok()
    }

    /// Whose leaf this is.
    pub fn owner(&self, leaf: u32) -> Option<&Participant> {
        self.users.get(self.owners.get(&leaf)?)
    }

    /// How many clients the group has.
    pub fn clients(&self) -> usize {
        self.owners.len()
    }

    /// Every leaf that is not blank, and whose it is.
    pub fn leaves(&self) -> impl Iterator<Item = (u32, &Participant)> {
        let owner = |(leaf, ordinal): (&u32, &u64)| Some((*leaf, self.users.get(ordinal)?));
        self.owners.iter().filter_map(owner)
    }

    /// How many users have a role.
    pub fn tally(&self, role: u32) -> Tally {
        self.tallies.get(&role).copied().unwrap_or_default()
    }

    /// The roles that anybody has.
    pub(super) fn roles_in_use(&self) -> impl Iterator<Item = u32> {
        let in_use = self.tallies.iter().filter(|(_, tally)| tally.participants > 0);
        in_use.map(|(role, _)| *role)
    }

    /// How many users have more than one client.
    pub(super) fn with_several_clients(&self) -> u32 {
        self.with_several_clients
    }

    /// How many bytes all entries take up in the component.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The list as the component holds it.
    pub fn to_data(&self) -> ParticipantListData {
        let pair = |participant: &Participant| UserRolePair {
            user: participant.user.clone(),
            role_index: participant.role,
        };
        ParticipantListData {
            participants: self.iter().map(pair).collect(),
        }
    }

    /// Where MLS puts added clients: the blank leaves from the left, `removed` being blank, too (RFC 9420 section 12.1.1).
    pub(super) fn leaves_for(&self, count: usize, removed: &BTreeSet<u32>) -> Vec<u32> {
        let end = self.end();
        let mut blanks: BTreeSet<u32> = self.blanks.iter().take(count).copied().collect();
        blanks.extend(removed.iter().take(count));
        blanks.into_iter().chain(end..).take(count).collect()
    }

    /// Puts a user at the end of the list; false if they are on it.
    pub(super) fn append(&mut self, user: IdentifierUri, role: u32) -> bool {
        if self.ordinals.contains_key(&user) {
            return false;
        }
        let ordinal = self.next;
        self.next += 1;
        self.bytes += entry_bytes(&user);
        self.ordinals.insert(user.clone(), ordinal);
        self.order.push(ordinal);
        self.tallies.entry(role).or_default().participants += 1;
        let leaves = BTreeSet::new();
        self.users.insert(ordinal, Participant { user, role, leaves });
        true
    }

    /// Gives a listed user another role.
    pub(super) fn set_role(&mut self, user: &IdentifierUri, role: u32) {
        let Some(participant) = self.ordinals.get(user).and_then(|ordinal| self.users.get_mut(ordinal)) else {
            return;
        };
        let active = u32::from(!participant.leaves.is_empty());
        let before = self.tallies.entry(participant.role).or_default();
        before.participants -= 1;
        before.active -= active;
        let after = self.tallies.entry(role).or_default();
        after.participants += 1;
        after.active += active;
        participant.role = role;
    }

    /// Takes users off the list, whose leaves were taken before; those behind them move up.
    pub(super) fn remove(&mut self, users: &[IdentifierUri]) {
        for user in users {
            let Some(ordinal) = self.ordinals.remove(user) else {
                continue;
            };
            if let Some(participant) = self.users.remove(&ordinal) {
                self.bytes -= entry_bytes(&participant.user);
                self.tallies.entry(participant.role).or_default().participants -= 1;
            }
        }
        if !users.is_empty() {
            self.order.retain(|ordinal| self.users.contains_key(ordinal));
        }
    }

    /// Makes a leaf blank.
    pub(super) fn take_leaf(&mut self, leaf: u32) {
        let Some(participant) = self.owners.remove(&leaf).and_then(|owner| self.users.get_mut(&owner)) else {
            return;
        };
        participant.leaves.remove(&leaf);
        match participant.leaves.len() {
            0 => self.tallies.entry(participant.role).or_default().active -= 1,
            1 => self.with_several_clients -= 1,
            _ => {}
        }
        self.blanks.insert(leaf);
        let end = self.end();
        self.blanks.split_off(&end);
    }

    /// Fills a blank leaf with a client of a listed user.
    pub(super) fn fill_leaf(&mut self, leaf: u32, user: &IdentifierUri) {
        let end = self.end();
        self.blanks.extend(end..leaf);
        self.blanks.remove(&leaf);
        if let Some(ordinal) = self.ordinals.get(user) {
            self.give_leaf(leaf, *ordinal);
        }
    }

    /// One beyond the last leaf that is not blank.
    fn end(&self) -> u32 {
        self.owners.last_key_value().map_or(0, |(last, _)| last + 1)
    }

    fn give_leaf(&mut self, leaf: u32, ordinal: u64) {
        let Some(participant) = self.users.get_mut(&ordinal) else {
            return;
        };
        self.owners.insert(leaf, ordinal);
        participant.leaves.insert(leaf);
        match participant.leaves.len() {
            1 => self.tallies.entry(participant.role).or_default().active += 1,
            2 => self.with_several_clients += 1,
            _ => {}
        }
    }

    fn blank_leaves(&self) -> BTreeSet<u32> {
        let mut expected = 0;
        let mut blanks = BTreeSet::new();
        for leaf in self.owners.keys() {
            blanks.extend(expected..*leaf);
            expected = leaf + 1;
        }
        blanks
    }
}

/// The URI of a user as the list names them, `mimi://host/u/name` with the host in lower case: so one user has one (D-user-uri).
pub(super) fn is_user_uri(uri: &str) -> bool {
    MimiUri::parse(uri).is_ok_and(|parsed| {
        let host = uri.strip_prefix("mimi://").and_then(|rest| rest.split('/').next());
        parsed.kind() == MimiKind::User && host == Some(parsed.host())
    })
}

/// No tree has more leaves. Ours come from trees that were read, so this bounds what a mistake can cost.
const MAX_LEAF: u32 = 1 << 24;

/// Equal if list and leaves are, however they came about.
impl PartialEq for Participants {
    fn eq(&self, other: &Self) -> bool {
        self.order.len() == other.order.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Participants {}
