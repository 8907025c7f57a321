//! The proposals that the hub accepted in an epoch, and which of them give way to what is proposed later (D-supersede).

use std::collections::{BTreeMap, BTreeSet};

use nabe_wire::IdentifierUri;
use nabe_wire::codec::Bytes;

use super::Rejection;
use super::action::Action;

/// How many proposals may be pending. It bounds what an epoch can cost: a commit refers to all of them (D-pending-limit).
pub const MAX_PENDING: usize = 1024;

/// How many of them one user, or one external sender but the hub, may have made.
pub const MAX_PENDING_OF_ONE: usize = 256;

/// A proposal that the hub accepted in this epoch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Accepted {
    pub(super) reference: Bytes,
    pub(super) leaf: Option<u32>,
    pub(super) action: Action,
    /// `None` for the hub.
    pub(super) author: Option<Author>,
    /// The user who proposed it, if it changes nothing but their own place in the list.
    pub(super) own_change: Option<IdentifierUri>,
}

/// Whose proposals are counted together.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Author {
    User(IdentifierUri),
    Sender(u32),
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

    /// The leaf that it removes.
    fn removes(&self) -> Option<u32> {
        match self.action {
            Action::Remove(leaf) => Some(leaf),
            Action::SelfRemove => self.leaf,
            _ => None,
        }
    }
}

/// All that were accepted, by numbers that grow.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    accepted: BTreeMap<u64, Accepted>,
    numbers: BTreeMap<Vec<u8>, u64>,
    updates: BTreeMap<u32, u64>,
    removals: BTreeMap<u32, u64>,
    adds: BTreeMap<IdentifierUri, BTreeSet<u64>>,
    own_changes: BTreeMap<IdentifierUri, u64>,
    of_author: BTreeMap<Author, usize>,
    of_all_authors: usize,
    next: u64,
}

impl Queue {
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Accepted> {
        self.accepted.values()
    }

    pub(super) fn numbered(&self) -> impl Iterator<Item = (u64, &Accepted)> {
        self.accepted.iter().map(|(number, accepted)| (*number, accepted))
    }

    pub(super) fn number_of(&self, reference: &[u8]) -> Option<u64> {
        self.numbers.get(reference).copied()
    }

    pub(super) fn get(&self, number: u64) -> Option<&Accepted> {
        self.accepted.get(&number)
    }

    /// The Update of a leaf.
    pub(super) fn update_of(&self, leaf: u32) -> Option<u64> {
        self.updates.get(&leaf).copied()
    }

    /// The Remove of a leaf; not a SelfRemove.
    pub(super) fn removal_of(&self, leaf: u32) -> Option<u64> {
        let number = self.removals.get(&leaf).copied()?;
        let is_remove = |accepted: &&Accepted| matches!(accepted.action, Action::Remove(_));
        self.get(number).filter(is_remove).map(|_| number)
    }

    /// The Adds of a user's clients.
    pub(super) fn adds_of(&self, user: &IdentifierUri) -> impl Iterator<Item = u64> {
        self.adds.get(user).into_iter().flatten().copied()
    }

    /// What a user proposed that changes nothing but their own place in the list.
    pub(super) fn own_change_of(&self, user: &IdentifierUri) -> Option<u64> {
        self.own_changes.get(user).copied()
    }

    /// There is room for so many more proposals of one author.
    pub(super) fn takes(&self, author: Option<&Author>, more: usize) -> Result<(), Rejection> {
        let Some(author) = author else {
            return Ok(());
        };
        let of_them = self.of_author.get(author).copied().unwrap_or(0);
        if of_them + more > MAX_PENDING_OF_ONE || self.of_all_authors + more > MAX_PENDING {
            return Err(Rejection::PendingFull);
        }
        Ok(())
    }

    pub(super) fn push(&mut self, accepted: Accepted) {
        let number = self.next;
        self.next += 1;
        self.numbers.insert(accepted.reference.to_vec(), number);
        match (&accepted.action, accepted.leaf) {
            (Action::Add(client), _) => {
                self.adds.entry(client.user.clone()).or_default().insert(number);
            }
            (Action::Update(_), Some(leaf)) => {
                self.updates.insert(leaf, number);
            }
            _ => {}
        }
        if let Some(leaf) = accepted.removes() {
            self.removals.insert(leaf, number);
        }
        if let Some(user) = &accepted.own_change {
            self.own_changes.insert(user.clone(), number);
        }
        if let Some(author) = &accepted.author {
            *self.of_author.entry(author.clone()).or_default() += 1;
            self.of_all_authors += 1;
        }
        self.accepted.insert(number, accepted);
    }

    /// Drops one that gave way.
    pub(super) fn remove(&mut self, number: u64) {
        let Some(accepted) = self.accepted.remove(&number) else {
            return;
        };
        self.numbers.remove(&accepted.reference[..]);
        if let Action::Add(client) = &accepted.action
            && let Some(adds) = self.adds.get_mut(&client.user)
        {
            adds.remove(&number);
        }
        if let (Action::Update(_), Some(leaf)) = (&accepted.action, accepted.leaf) {
            self.updates.remove(&leaf);
        }
        if let Some(leaf) = accepted.removes() {
            self.removals.remove(&leaf);
        }
        if let Some(user) = &accepted.own_change {
            self.own_changes.remove(user);
        }
        if let Some(author) = &accepted.author {
            self.of_all_authors -= 1;
            if let Some(count) = self.of_author.get_mut(author) {
                *count -= 1;
            }
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
