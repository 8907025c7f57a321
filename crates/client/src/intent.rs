//! What a client wants of a room's group.

use nabe_types::{DeviceId, UserId};
use serde::{Deserialize, Serialize};

/// What should be done to a room's group. It is kept until it is done or refused, and made into a commit of whatever epoch
/// the group is in then.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "intent", rename_all = "snake_case")]
pub enum Intent {
    /// Send the group's first commit (LM #int-mls-considerations, "Group Creation").
    Found,
    /// Give this device new keys.
    Update,
    /// Add every device of these users.
    AddUsers {
        /// The users, who must have joined the room.
        users: Vec<UserId>,
    },
    /// Add one device.
    AddDevice {
        /// Whose.
        user: UserId,
        /// Which.
        device: DeviceId,
    },
    /// Remove devices: one's own, or those of users who have left the room.
    RemoveDevices {
        /// Whose and which.
        devices: Vec<(UserId, DeviceId)>,
    },
    /// Add the devices of members that are not in the group, and remove those that should not be.
    Tend,
    /// Join by an external commit.
    JoinExternally,
}
