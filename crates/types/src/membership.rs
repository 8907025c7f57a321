//! What a commit changes in the membership of a room's MLS group (LM #int-mls-add-remove), in the room's own terms: users
//! and devices, not credentials and leaves.

use serde::{Deserialize, Serialize};

use crate::{DeviceId, UserId};

/// A member of a room's MLS group: one device at one leaf of the tree (LM #int-mls-credentials).
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct DeviceRef {
    /// The user the device belongs to.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
    /// The leaf's index in the ratchet tree, counted from 0. It says where, not who: a leaf that became free is used
    /// again.
    pub leaf: u32,
}

impl DeviceRef {
    /// Whether both are the same device, at whichever leaf.
    #[must_use]
    pub fn is_same_device(&self, other: &Self) -> bool {
        self.user == other.user && self.device == other.device
    }
}

/// What one accepted commit did to the group. Leaves are those before the commit for `removed`, after it for all others.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct MembershipDelta {
    /// The device that made the commit.
    pub committer: DeviceRef,
    /// Whether the committer was no member before (an external commit). It is then among `added`, and in a resync its
    /// earlier leaf is among `removed`.
    pub external: bool,
    /// Devices that became members, in the order of the commit. At the group's first commit all its members.
    pub added: Vec<DeviceRef>,
    /// Devices that ceased to be members, in the order of the commit.
    pub removed: Vec<DeviceRef>,
    /// Devices that stayed members under new keys.
    pub updated: Vec<DeviceRef>,
}
