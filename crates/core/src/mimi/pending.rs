//! How many bytes wait to be committed (D-pending-limit). A commit refers to all proposals of its epoch, whoever joins gets them with
//! the GroupInfo, and an epoch has no end but a commit: without a bound one sender could make both too large to be sent. How many
//! proposals there may be, the policy counts.

use std::collections::BTreeMap;

use nabe_types::ServerName;

use super::entry::{MimiEntry, MimiEntryKind};

/// How many bytes of proposals may be pending in a room.
pub(super) const MAX_PENDING_BYTES: usize = 8 << 20;

/// How many of them of one provider's clients.
pub(super) const MAX_PENDING_BYTES_OF_ONE: usize = 4 << 20;

/// The bytes of the proposals since the last commit, as they were fanned out, by the provider they came from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct PendingBytes {
    of: BTreeMap<ServerName, usize>,
    all: usize,
}

impl PendingBytes {
    /// Whether there is room for an entry with proposals.
    pub(super) fn takes(&self, entry: &MimiEntry) -> bool {
        let of_them = self.of.get(&entry.origin).copied().unwrap_or(0);
        let bytes = entry.body.len();
        of_them + bytes <= MAX_PENDING_BYTES_OF_ONE && self.all + bytes <= MAX_PENDING_BYTES
    }

    /// Counts an entry that is appended. What the hub proposes itself is never refused, and counts as its own users' does.
    pub(super) fn append(&mut self, entry: &MimiEntry) {
        match entry.kind {
            MimiEntryKind::Commit => *self = Self::default(),
            MimiEntryKind::Proposal => {
                *self.of.entry(entry.origin.clone()).or_default() += entry.body.len();
                self.all += entry.body.len();
            }
            MimiEntryKind::Founded | MimiEntryKind::Application | MimiEntryKind::Welcome => {}
        }
    }
}
