//! What the user is told. Notices are written in the transaction of what they are about and stay until they are acknowledged, so
//! a client that dies before it has shown one shows it the next time.

use nabe_types::{DeviceId, EventId, RoomId, ServerName, UserId};
use serde::{Deserialize, Serialize};

use crate::intent::Intent;

/// Something the user should know.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub enum Notice {
    /// There is a new item in a room's timeline, or one became readable.
    Item {
        /// The room.
        room: RoomId,
        /// Its number, for [`Client::item`](crate::Client::item).
        item: i64,
    },
    /// A commit was accepted: the group is in a new epoch.
    Epoch {
        /// The room.
        room: RoomId,
        /// The epoch that began.
        epoch: u64,
        /// On this all members agree who are in this epoch, in hexadecimal.
        #[serde(default)]
        epoch_authenticator: String,
        /// Hash of the ratchet tree, in hexadecimal.
        #[serde(default)]
        tree_hash: String,
        /// The commit's event.
        commit: EventId,
        /// Who committed.
        by: DeviceName,
        /// Devices that came.
        added: Vec<DeviceName>,
        /// Devices that went.
        removed: Vec<DeviceName>,
    },
    /// This device is in a group now.
    Joined {
        /// The room.
        room: RoomId,
        /// The first epoch it can read.
        epoch: u64,
    },
    /// This device was removed from a group.
    Removed {
        /// The room.
        room: RoomId,
        /// By whom.
        by: DeviceName,
    },
    /// This device cannot follow a group any more.
    Stuck {
        /// The room.
        room: RoomId,
        /// Why.
        reason: String,
    },
    /// A change of the group was given up.
    GaveUp {
        /// The room.
        room: RoomId,
        /// What it was.
        intent: Intent,
        /// Why.
        reason: String,
    },
    /// Another commit came first; the change is made again.
    LostRace {
        /// The room.
        room: RoomId,
        /// What it was.
        intent: Intent,
        /// The epoch that both wanted to end.
        epoch: u64,
    },
    /// A device could not be added to a group.
    CannotAdd {
        /// The room.
        room: RoomId,
        /// Whose.
        user: UserId,
        /// Which.
        device: DeviceId,
        /// Why.
        reason: String,
    },
    /// The hub refused a message.
    MessageRefused {
        /// The room.
        room: RoomId,
        /// The message's number, from [`Client::send`](crate::Client::send).
        message: i64,
        /// Why.
        reason: String,
    },
    /// An invite.
    Invited {
        /// To this room.
        room: RoomId,
        /// Through this server it can be accepted.
        via: Option<ServerName>,
    },
    /// Somebody's membership of a room changed.
    Membership {
        /// The room.
        room: RoomId,
        /// Whose.
        user: UserId,
        /// `join`, `leave` …
        membership: String,
    },
    /// Somebody's devices changed.
    DevicesChanged {
        /// Whose.
        user: UserId,
    },
    /// The server does not take key packages of this device, without which nobody can add it to a group.
    KeyPackagesRefused {
        /// Of which suite.
        suite: String,
        /// How many.
        count: u64,
        /// Why the first of them.
        reason: String,
    },
    /// A Welcome that is of no use.
    WelcomeUnusable {
        /// Who sent it.
        sender: UserId,
        /// Why.
        reason: String,
    },
}

/// A device, for people.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct DeviceName {
    /// Whose.
    pub user: UserId,
    /// Which.
    pub device: DeviceId,
}
