//! Whether a commit may change the room's MLS group as it does. LM #int-mls-add-remove.

use nabe_signing::json::Json;
use nabe_types::{DeviceRef, MembershipDelta, UserId};

use super::{HISTORY_VISIBILITY, Membership, RoomState, membership_of};

/// Why a commit is refused although it is sound MLS: the devices it adds or removes.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GroupRejection {
    /// The event's sender is not the user whose device made the commit. Our own rule: without it a user could commit in
    /// another's name.
    #[error("the commit was made by a device of {committer}, not of the event's sender")]
    CommitterIsNotSender {
        /// The user whose device made the commit.
        committer: UserId,
    },
    /// A device may be added only if its user is joined, or the room is world readable.
    #[error("{} of {} cannot be added: the user is not joined", device.device, device.user)]
    AddedNotJoined {
        /// The device.
        device: DeviceRef,
    },
    /// A device may be removed only by a device of the same user, or once its user is not joined any more.
    #[error("{} of {} cannot be removed by others: the user is joined", device.device, device.user)]
    RemovedStillJoined {
        /// The device.
        device: DeviceRef,
    },
}

impl GroupRejection {
    /// What the rule is called in logs and metrics, beside the numbered rules of LM #int-auth-rules.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::CommitterIsNotSender { .. } => "mls-committer",
            Self::AddedNotJoined { .. } => "mls-add",
            Self::RemovedStillJoined { .. } => "mls-remove",
        }
    }
}

/// Judges what a commit sent by `sender` does to the group against the state before the event. At the group's first commit every
/// leaf counts as added.
///
/// # Errors
/// The first rule broken, in the order of the draft.
pub fn authorize_group_change(
    delta: &MembershipDelta,
    sender: &UserId,
    state: &impl RoomState,
) -> Result<(), GroupRejection> {
    if delta.committer.user != *sender {
        return Err(GroupRejection::CommitterIsNotSender {
            committer: delta.committer.user.clone(),
        });
    }
    let is_joined = |user: &UserId| membership_of(state, user.as_str()) == Membership::Join;
    // A device "can only be added if it belongs to a joined user, or if the room is world readable".
    if !is_world_readable(state)
        && let Some(device) = delta.added.iter().find(|device| !is_joined(&device.user))
    {
        return Err(GroupRejection::AddedNotJoined { device: device.clone() });
    }
    // "A device can remove another of the same user", and anyone can remove those of a user who is not joined any more.
    let may_go = |device: &DeviceRef| device.user == delta.committer.user || !is_joined(&device.user);
    match delta.removed.iter().find(|device| !may_go(device)) {
        Some(device) => Err(GroupRejection::RemovedStillJoined { device: device.clone() }),
        None => Ok(()),
    }
}

fn is_world_readable(state: &impl RoomState) -> bool {
    let visibility = state.get(HISTORY_VISIBILITY, "");
    visibility.and_then(|event| event.content().get("history_visibility").and_then(Json::as_str))
        == Some("world_readable")
}
