//! What a room's policy says about how its group is run, as far as clients go by it (MRP #operational, D-operational-clients).

use std::time::Duration;

use nabe_wire::Message as _;
use nabe_wire::mls::ComponentId;
use nabe_wire::policy::{OperationalParameters, PendingProposalPolicy};
use openmls::group::{MlsGroup, MlsGroupJoinConfig, PURE_PLAINTEXT_WIRE_FORMAT_POLICY, PastEpochDeletionPolicy};
use openmls_traits::OpenMlsProvider as _;
use openmls_traits::random::OpenMlsRand as _;

use super::error::{Doing as _, MimiError};
use super::group;
use crate::mls::{MAX_PAST_EPOCHS, MAX_SKIPPED, PADDING, ratchets};
use crate::provider::{Provider, crypto};

fn policy_of(group: &MlsGroup) -> Option<OperationalParameters> {
    let data = group::component(group, ComponentId::MLS_OPERATIONAL_POLICY)?;
    OperationalParameters::from_bytes(data).ok()
}

/// How long this client leaves it to others to commit what was proposed; `otherwise` is its own way, for rooms that state none or one that
/// it does not know.
pub(super) fn leaves_it_for(group: &MlsGroup, otherwise: Duration) -> Result<Duration, MimiError> {
    Ok(match policy_of(group).map(|policy| policy.pending_proposal_policy) {
        Some(PendingProposalPolicy::ImmediateCommit) => Duration::ZERO,
        Some(PendingProposalPolicy::RandomDelay {
            minimum_delay_ms,
            maximum_delay_ms,
        }) => {
            let random: [u8; 8] = crypto().random_array().doing("choosing a delay")?;
            let more = maximum_delay_ms.saturating_sub(minimum_delay_ms);
            let chosen = more.checked_add(1).map_or(0, |ways| u64::from_be_bytes(random) % ways);
            Duration::from_millis(minimum_delay_ms.saturating_add(chosen))
        }
        Some(PendingProposalPolicy::Unspecified | PendingProposalPolicy::Extension { .. }) | None => otherwise,
    })
}

/// Sets a group up as its room's policy has it now: how messages are padded, and how many of one sender may be missing. A policy that says
/// 0 says nothing; more messages than this client lets be missing anyway it does not look for.
pub(super) fn follow(provider: &Provider<'_>, group: &mut MlsGroup) -> Result<(), MimiError> {
    let policy = policy_of(group).map(|policy| policy.app_message_policy);
    let padding = policy.as_ref().map_or(0, |policy| policy.pad_to_size.into());
    let skipped = policy.map_or(0, |policy| policy.max_generations_skipahead);
    let wanted = configuration(
        if padding == 0 { PADDING } else { padding },
        if skipped == 0 {
            MAX_SKIPPED
        } else {
            skipped.min(MAX_SKIPPED)
        },
    );
    let is = group.configuration();
    if is.padding_size() == wanted.padding_size()
        && is.sender_ratchet_configuration() == wanted.sender_ratchet_configuration()
    {
        return Ok(());
    }
    group
        .set_configuration(provider.storage(), &wanted)
        .doing("setting a group up")
}

/// How a group is set up that this client joins.
pub(super) fn configuration(padding: usize, skipped: u32) -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(false)
        .padding_size(padding)
        .set_past_epoch_deletion_policy(PastEpochDeletionPolicy::MaxEpochs(MAX_PAST_EPOCHS))
        .sender_ratchet_configuration(ratchets(skipped))
        .build()
}
