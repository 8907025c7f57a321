//! What is pending, as the hub has it (MIMI #claim-group-key-information). What it fanned out may not have come yet, and some of what
//! came may have given way to what came later (D-supersede): the hub knows, so whoever is refused asks.

use nabe_wire::uri::MimiUri;

use super::client::MimiClient;
use super::error::{GroupFault, MimiError};
use super::group;
use super::store::{KnownRoom, forget_pending, note_pending, pending};
use crate::provider::Provider;

/// What the hub has pending, compared with what this client has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pending {
    /// The same.
    Same,
    /// It was something else, and is the same now.
    Changed,
    /// The hub is in this epoch, which is later.
    Later(u64),
}

impl MimiClient {
    /// Asks a room's hub for what is pending, and takes it over.
    ///
    /// # Errors
    /// As for joining; or what the hub says does not go with the group.
    pub(super) async fn ask_what_is_pending(&mut self, room: &MimiUri) -> Result<Pending, MimiError> {
        let fault = |fault| group::unsound(room, fault);
        let not_in = || MimiError::NotInGroup(room.clone());
        let known = self.room(room)?;
        let group = self.load(&known)?.ok_or_else(not_in)?;
        let suite = group::suite_of(&group)?;
        let (_, offer) = self.fetch_group_info(room, None, &[suite]).await?;
        let theirs = &offer.group_info.group_context;
        let ours = group.public_group().group_context();
        if theirs.group_id[..] != *ours.group_id().as_slice() {
            return Err(fault(GroupFault::OtherRoom));
        }
        let epoch = ours.epoch().as_u64();
        if theirs.epoch > epoch {
            return Ok(Pending::Later(theirs.epoch));
        }
        if theirs.epoch < epoch {
            let theirs = theirs.epoch;
            return Err(MimiError::HubBehind { theirs, ours: epoch });
        }
        if theirs.tree_hash[..] != *ours.tree_hash() {
            return Err(fault(GroupFault::OtherRoom));
        }
        let proposals = offer.pending_proposals.iter();
        let proposals: Vec<_> = proposals.map(|pending| pending.proposal.as_bytes().to_vec()).collect();
        self.in_transaction(|work, connection| {
            let Some(known) = KnownRoom::load(connection, room)?.filter(|known| known.status.is_in()) else {
                return Err(not_in());
            };
            let mut group = work.group(&known)?;
            if group.epoch().as_u64() != epoch {
                return Ok(Pending::Changed);
            }
            if pending(connection, room)? == proposals {
                return Ok(Pending::Same);
            }
            group::queue(&Provider::new(connection), &mut group, &proposals)?;
            forget_pending(connection, room)?;
            for proposal in &proposals {
                note_pending(connection, room, proposal)?;
            }
            Ok(Pending::Changed)
        })
    }
}
