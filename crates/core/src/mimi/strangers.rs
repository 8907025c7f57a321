//! Who is in a room that depends on another and takes part in that one no more (MRP #base-room-policy-component-syntax): "that user is
//! automatically removed", which is for the hub to propose, as it alone sees both rooms.

use std::collections::BTreeSet;

use nabe_wire::mls::{ComponentId, MlsMessage, Proposal};
use nabe_wire::participant_list::ParticipantListUpdate;
use nabe_wire::{Encode as _, Kept};

use super::entry::Audience;
use super::reach::Reached;
use super::refusal::UpdateRefusal;
use super::update::{as_many_as, proposals_entry, propose_as_hub};
use super::{Judged, Key, MimiCtx, MimiOutcome, MimiRoom};
use crate::GroupChange;

/// What becomes of them.
pub struct Strangers {
    /// The hub's proposals to remove them, if there is anything to propose.
    pub outcome: Option<MimiOutcome>,
    /// Whether others are left, whose removal has to wait for a commit: somebody changed their place in this epoch, or added them in it.
    pub remain: bool,
}

impl MimiRoom {
    /// What the hub proposes so that everybody who takes part takes part in the room that this one depends on, too. Nothing changes.
    ///
    /// # Errors
    /// The hub's key does not sign.
    pub fn remove_strangers(&self, ctx: &MimiCtx<'_>) -> Result<Strangers, UpdateRefusal> {
        let nobody = Strangers {
            outcome: None,
            remain: false,
        };
        let Some(parent) = ctx.parent.filter(|_| self.policy.policy().base().parent_dependant) else {
            return Ok(nobody);
        };
        // Nobody is in it who could hear of it.
        if self.policy.is_over() {
            return Ok(nobody);
        }
        let listed = self.policy.effective_list().participants;
        let takes_part = |user| self.policy.takes_part(user) && !parent.takes_part(user);
        let strangers = listed.iter().filter(|it| takes_part(&it.user)).count();
        if strangers == 0 {
            return Ok(nobody);
        }
        let removals = self.policy.strangers_to(parent).take(MAX_AT_ONCE);
        let removals: Vec<_> = removals
            .map(|stranger| self.removal(stranger, ctx))
            .collect::<Result<_, _>>()?;
        let accepted = self.accepted_at(ctx.now);
        let try_these = |removals: &[Vec<Kept<MlsMessage>>]| {
            let messages = removals.concat();
            (!messages.is_empty())
                .then(|| propose_as_hub(&self.group, &self.policy, &messages, accepted, ctx))
                .flatten()
        };
        let removals = as_many_as(&removals, |some| try_these(some).is_some());
        let Some((staged, proposed)) = try_these(&removals) else {
            return Ok(Strangers {
                outcome: None,
                remain: true,
            });
        };
        let staged = self.group.superseding(staged, proposed.superseded());
        let position = self.position.next();
        let entry = proposals_entry(position, &self.server, Audience::Others, removals.concat(), accepted);
        let outcome = MimiOutcome {
            append: vec![entry],
            group: vec![GroupChange {
                position,
                bytes: staged.bytes,
            }],
            followers: Vec::new(),
            welcomed: Vec::new(),
            to_add: Vec::new(),
            left_over: None,
            accepted,
            judged: Judged::Proposed(Box::new(proposed)),
            next_epoch: None,
            reached: Reached::Others,
        };
        Ok(Strangers {
            outcome: Some(outcome),
            remain: strangers > removals.len(),
        })
    }

    /// Takes somebody off the list, and their clients out of the group.
    fn removal(
        &self,
        stranger: &nabe_auth::mimi::Participant,
        ctx: &MimiCtx<'_>,
    ) -> Result<Vec<Kept<MlsMessage>>, UpdateRefusal> {
        let index = self.policy.participants().index_of(stranger.user());
        let update = ParticipantListUpdate {
            changed_role_participants: Vec::new(),
            removed_indices: index.into_iter().collect(),
            added_participants: Vec::new(),
        };
        let list = Proposal::AppDataUpdate(nabe_wire::mls::AppDataUpdate {
            component_id: ComponentId::PARTICIPANT_LIST,
            update: Some(update.to_bytes().into()),
        });
        let leaving: BTreeSet<u32> = self.group.leaving().collect();
        let clients = stranger.leaves().filter(|leaf| !leaving.contains(leaf));
        let key = Key(ctx.signer);
        let sign = |proposal| self.group.hub_proposal(proposal, &key).map_err(UpdateRefusal::Signing);
        std::iter::once(list)
            .chain(clients.map(Proposal::Remove))
            .map(sign)
            .collect()
    }
}

/// How many users are removed by proposals that come together.
const MAX_AT_ONCE: usize = 1_000;
