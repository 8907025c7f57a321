//! What the policy of MIMI's rooms asks of their hub, in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use nabe_core::mimi::MimiUri;

use super::MemoryStore;
use super::tables::Journal;
use crate::error::StoreError;
use crate::mimi_policy::{JoinLinkTerms, PolicyStore, PolicyWrite};

/// Its tables.
#[derive(Clone, Debug, Default)]
pub(super) struct MimiPolicy {
    links: BTreeMap<(MimiUri, Bytes), JoinLinkTerms>,
    fixed: BTreeMap<MimiUri, [u8; 32]>,
    /// By the room that depends on another: which one, and whether it is due.
    children: BTreeMap<MimiUri, (MimiUri, bool)>,
    to_note: BTreeMap<MimiUri, ()>,
}

impl Journal<'_> {
    pub(super) fn apply_mimi_policy(&mut self, write: PolicyWrite) -> Result<(), StoreError> {
        match write {
            PolicyWrite::ChangeJoinLinks { room, added, removed } => {
                self.tables.mimi.has(&room)?;
                for link in removed {
                    self.set(|tables| &mut tables.mimi_policy.links, (room.clone(), link), None);
                }
                for terms in added {
                    let key = (room.clone(), terms.link.clone());
                    if !self.tables.mimi_policy.links.contains_key(&key) {
                        self.set(|tables| &mut tables.mimi_policy.links, key, Some(terms));
                    }
                }
            }
            PolicyWrite::UseJoinLink { room, link, user } => {
                self.tables.mimi.has(&room)?;
                let key = (room, link);
                let known = self.tables.mimi_policy.links.get(&key).cloned();
                if let Some(mut terms) = known.filter(|terms| terms.used_by.is_none()) {
                    terms.used_by = Some(user);
                    self.set(|tables| &mut tables.mimi_policy.links, key, Some(terms));
                }
            }
            PolicyWrite::SetFixedMembers { room, members_sha256 } => {
                self.tables.mimi.has(&room)?;
                let mut others = self
                    .tables
                    .mimi_policy
                    .fixed
                    .iter()
                    .filter(|(other, _)| **other != room);
                if let Some((taken, _)) = others.find(|(_, members)| Some(**members) == members_sha256) {
                    return Err(StoreError::FixedMembersTaken { room: taken.clone() });
                }
                self.set(|tables| &mut tables.mimi_policy.fixed, room, members_sha256);
            }
            PolicyWrite::SetParent { room, parent } => {
                self.tables.mimi.has(&room)?;
                let known = self.tables.mimi_policy.children.get(&room);
                let is_due = |parent: &MimiUri| known.is_none_or(|(of, is_due)| of != parent || *is_due);
                let child = parent.map(|parent| (parent.clone(), is_due(&parent)));
                self.set(|tables| &mut tables.mimi_policy.children, room, child);
            }
            PolicyWrite::MarkChildrenDue { parent } => {
                let children = self.tables.mimi_policy.children.iter();
                let of_it = children
                    .filter(|(_, (of, _))| *of == parent)
                    .map(|(room, _)| room.clone());
                for room in of_it.collect::<Vec<_>>() {
                    self.set(
                        |tables| &mut tables.mimi_policy.children,
                        room,
                        Some((parent.clone(), true)),
                    );
                }
            }
            PolicyWrite::ChildIsDone { room } => {
                self.tables.mimi.has(&room)?;
                if let Some((parent, _)) = self.tables.mimi_policy.children.get(&room).cloned() {
                    self.set(|tables| &mut tables.mimi_policy.children, room, Some((parent, false)));
                }
            }
            PolicyWrite::Noted { room } => {
                self.tables.mimi.has(&room)?;
                self.set(|tables| &mut tables.mimi_policy.to_note, room, None);
            }
        }
        Ok(())
    }
}

/// As SQL does it.
fn in_order<'a>(rooms: impl Iterator<Item = &'a MimiUri>, after: Option<&MimiUri>, limit: usize) -> Vec<MimiUri> {
    let mut rooms: Vec<_> = rooms.cloned().collect();
    rooms.retain(|room| after.is_none_or(|after| room.to_string() > after.to_string()));
    rooms.sort_by_key(MimiUri::to_string);
    rooms.truncate(limit);
    rooms
}

impl MemoryStore {
    /// Makes it what a database of an earlier version is after its upgrade: beside rooms nothing is noted, and it is known that nothing is.
    pub fn forget_what_is_noted(&self) {
        let mut tables = self.tables();
        let rooms = tables.mimi.rooms().cloned().map(|room| (room, ())).collect();
        tables.mimi_policy = MimiPolicy {
            to_note: rooms,
            ..MimiPolicy::default()
        };
    }
}

#[async_trait]
impl PolicyStore for MemoryStore {
    async fn join_link(&self, room: &MimiUri, link: &[u8]) -> Result<Option<JoinLinkTerms>, StoreError> {
        let key = (room.clone(), Bytes::copy_from_slice(link));
        Ok(self.tables().mimi_policy.links.get(&key).cloned())
    }

    async fn due_child_rooms(&self, after: Option<&MimiUri>, limit: usize) -> Result<Vec<MimiUri>, StoreError> {
        let tables = self.tables();
        let due = tables.mimi_policy.children.iter().filter(|(_, (_, is_due))| *is_due);
        Ok(in_order(due.map(|(room, _)| room), after, limit))
    }

    async fn rooms_to_note(&self, after: Option<&MimiUri>, limit: usize) -> Result<Vec<MimiUri>, StoreError> {
        let tables = self.tables();
        Ok(in_order(tables.mimi_policy.to_note.keys(), after, limit))
    }
}
