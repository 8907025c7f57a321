//! What a member of a room's group needs beside OpenMLS: the same that the hub has for itself, so that both make the same of a
//! commit. Nothing here needs a group's secret.

use std::collections::BTreeMap;

use nabe_wire::app_data::AppDataDictionary;
use nabe_wire::mls::{
    AppDataUpdate, ComponentId, Extension, ExternalSender, FramedContentBody, GroupContext, LeafNode, PublicMessage,
    Sender,
};
use nabe_wire::uri::MimiUri;
use openmls::group::QueuedProposal;

use super::refusal::MimiRefusal;
use super::shape::{self, Requirements};
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

/// Whether a leaf supports what the group of this room asks of its members: without that the hub refuses the whole commit that adds it
/// (MLSX #negotiation).
///
/// # Errors
/// What it lacks, or what is wrong with the context.
pub fn check_newcomer(context: &GroupContext, room: &MimiUri, leaf: &LeafNode) -> Result<(), MimiRefusal> {
    if let Some(required) = shape::required_capabilities(&context.extensions)?
        && !shape::covers(&leaf.capabilities, &required)
    {
        return Err(MimiRefusal::Unsupported);
    }
    let dictionary: AppDataDictionary = Extension::app_data_dictionary(&context.extensions)
        .ok_or(MimiRefusal::MissingComponent {
            component: ComponentId::APP_COMPONENTS,
        })?
        .map_err(MimiRefusal::ContextMalformed)?;
    Requirements::of(&dictionary, room)?.check_leaf(leaf)
}

/// A proposal of an external sender, its group and epoch compared and its signature checked, as OpenMLS would keep it, for the types that
/// OpenMLS does not take from outside (D-external-app-data). `None` if OpenMLS takes it, or if it is of somebody else.
///
/// # Errors
/// It is of another group or epoch: a hub has one key for all its rooms. There is no such external sender, or it has not signed this.
pub fn queue_external_proposal(
    senders: &[ExternalSender],
    suite: Suite,
    group_id: &[u8],
    epoch: u64,
    public: &PublicMessage,
) -> Result<Option<QueuedProposal>, MimiRefusal> {
    match (&public.content.body, public.content.sender) {
        (FramedContentBody::Proposal(proposal), Sender::External { sender_index }) => {
            if public.content.group_id[..] != *group_id {
                return Err(MimiRefusal::WrongGroup);
            }
            if public.content.epoch != epoch {
                return Err(MimiRefusal::WrongEpoch {
                    epoch: public.content.epoch,
                    current: epoch,
                });
            }
            external::queue_from(senders, suite, sender_index, public, proposal)
        }
        _ => Ok(None),
    }
}
