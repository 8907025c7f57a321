//! What the hub proposes anew (MIMI #fanout-messages-and-room-events): a commit makes void what it does not contain, an external
//! commit nearly everything, and what the hub had accepted counts all the same (MIMI #room-state).
//!
//! Removals name a leaf and changes of the participant list a place, and both may belong to somebody else in the next epoch. So a
//! proposal is translated and not repeated.

use std::collections::BTreeMap;

use nabe_wire::mls::{AppDataUpdate, ComponentId, Proposal};
use nabe_wire::participant_list::{ParticipantListData, ParticipantListUpdate, UserIndexRolePair};
use nabe_wire::{Encode as _, Message as _};

use super::MimiGroup;
use super::components::key;
use super::proposals::{PendingProposal, Proposer};

impl MimiGroup {
    /// What a proposal that was pending in `before` says in this later epoch, as one that an external sender can make. `None` if it
    /// has come true by other means, or if nobody but its proposer can repeat it.
    #[must_use]
    pub fn restate(&self, before: &Self, void: &PendingProposal) -> Option<Proposal> {
        match (&void.proposal, &void.proposer) {
            (&Proposal::Remove(leaf), _) => self.remove_again(before, leaf),
            (Proposal::SelfRemove, Proposer::Member(member)) => self.remove_again(before, member.leaf),
            (Proposal::AppDataUpdate(update), _) => self.update_again(before, update).map(Proposal::AppDataUpdate),
            (Proposal::Add(_), _) => {
                let newcomer = void.client.as_ref()?;
                let mut leaves = self.leaves_of(newcomer.user());
                let is_member = leaves.any(|leaf| {
                    self.member_at(leaf)
                        .is_some_and(|member| member.is_same_client(newcomer))
                });
                (!is_member).then(|| void.proposal.clone())
            }
            // The hub's own changes of the extensions name the dictionary as it was, a key is not the hub's, and an Update
            // is its sender's.
            _ => None,
        }
    }

    fn remove_again(&self, before: &Self, leaf: u32) -> Option<Proposal> {
        let was = before.member_at(leaf)?;
        let mut leaves = self.leaves_of(was.user());
        let is_them = |leaf: &u32| self.member_at(*leaf).is_some_and(|member| member.is_same_client(was));
        // A client that only names its user is told from others by its place alone.
        let leaf = if was.client().is_some() {
            leaves.find(is_them)?
        } else {
            leaves.find(|other| *other == leaf)?
        };
        Some(Proposal::Remove(leaf))
    }

    fn update_again(&self, before: &Self, update: &AppDataUpdate) -> Option<AppDataUpdate> {
        let component = update.component_id;
        let Some(content) = &update.update else {
            return self.component(component).is_some().then(|| update.clone());
        };
        if component != ComponentId::PARTICIPANT_LIST {
            // Join links are named by place too, and a hub that lost track of them makes new ones.
            let is_list = component == ComponentId::JOIN_LINKS;
            let is_same = before.component(component) == self.component(component);
            return (!is_list || is_same).then(|| update.clone());
        }
        let old = participants(before)?.participants;
        let new = participants(self)?.participants;
        let places: BTreeMap<_, _> = new.iter().map(key).zip(0_u32..).collect();
        let place = |index: u32| {
            let user = old.get(usize::try_from(index).ok()?)?;
            places.get(&key(user)).copied()
        };
        let content = ParticipantListUpdate::from_bytes(content).ok()?;
        let again = ParticipantListUpdate {
            changed_role_participants: content
                .changed_role_participants
                .iter()
                .filter_map(|change| {
                    let user_index = place(change.user_index)?;
                    let role_index = change.role_index;
                    let is_so = new.get(usize::try_from(user_index).ok()?)?.role_index == role_index;
                    (!is_so).then_some(UserIndexRolePair { user_index, role_index })
                })
                .collect(),
            removed_indices: content
                .removed_indices
                .iter()
                .filter_map(|&index| place(index))
                .collect(),
            added_participants: content
                .added_participants
                .into_iter()
                .filter(|newcomer| !places.contains_key(&key(newcomer)))
                .collect(),
        };
        let is_empty = again.changed_role_participants.is_empty()
            && again.removed_indices.is_empty()
            && again.added_participants.is_empty();
        (!is_empty).then(|| AppDataUpdate {
            component_id: component,
            update: Some(again.to_bytes().into()),
        })
    }
}

fn participants(group: &MimiGroup) -> Option<ParticipantListData> {
    let data = group.component(ComponentId::PARTICIPANT_LIST)?;
    ParticipantListData::from_bytes(data).ok()
}
