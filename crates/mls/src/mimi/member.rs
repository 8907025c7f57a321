//! What a member of a room's group needs beside OpenMLS: the same that the hub has for itself, so that both make the same of a
//! commit. Nothing here needs a group's secret.

use std::collections::BTreeMap;

use nabe_wire::mls::{AppDataUpdate, ComponentId, ExternalSender, FramedContentBody, PublicMessage, Sender};
use openmls::group::QueuedProposal;

use super::refusal::MimiRefusal;
use super::{components, external};
use crate::suite::Suite;

/// What updates of components make of the room, in the order in which they are committed: new data, or none, for the components that
/// they name (MLSX #appdataupdate). `data` is what there was at the beginning of the epoch.
///
/// # Errors
/// The updates contradict each other, the data, or a component's format.
pub fn component_changes<'d>(
    data: impl Fn(ComponentId) -> Option<&'d [u8]>,
    updates: &[AppDataUpdate],
) -> Result<BTreeMap<ComponentId, Option<Vec<u8>>>, MimiRefusal> {
    components::resolve(data, updates)
}

/// A proposal of an external sender, its signature checked, as OpenMLS would keep it, for the types that OpenMLS does not take
/// from outside (D-external-app-data). `None` if OpenMLS takes it, or if it is of somebody else. That it is of the group's epoch is
/// for the caller to check.
///
/// # Errors
/// There is no such external sender, or it has not signed this.
pub fn queue_external_proposal(
    senders: &[ExternalSender],
    suite: Suite,
    public: &PublicMessage,
) -> Result<Option<QueuedProposal>, MimiRefusal> {
    match (&public.content.body, public.content.sender) {
        (FramedContentBody::Proposal(proposal), Sender::External { sender_index }) => {
            external::queue_from(senders, suite, sender_index, public, proposal)
        }
        _ => Ok(None),
    }
}
