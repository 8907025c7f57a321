//! What the user is told. Notices are written in the transaction of what they are about and stay until they are acknowledged.

use serde::{Deserialize, Serialize};

use super::intent::MimiIntent;

/// Something the user should know. Rooms, users and clients are named by their URIs.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub enum MimiNotice {
    /// There is a new item in a room's timeline.
    Item {
        /// The room.
        room: String,
        /// Its number.
        item: i64,
    },
    /// A message has expired, and what it said is gone.
    Expired {
        /// The room.
        room: String,
        /// The ID of its first version, in hexadecimal.
        message: String,
    },
    /// A commit was accepted: the group is in a new epoch.
    Epoch {
        /// The room.
        room: String,
        /// The epoch that began.
        epoch: u64,
        /// Who committed, as far as their credential tells.
        by: String,
        /// Clients that came.
        added: Vec<String>,
        /// Clients that went.
        removed: Vec<String>,
    },
    /// Somebody proposed something that counts from now on (MIMI #proposal-commit-paradigm).
    Proposed {
        /// The room.
        room: String,
        /// How many proposals are pending now.
        pending: u64,
    },
    /// This client is in a group now.
    Joined {
        /// The room.
        room: String,
        /// The first epoch it can read.
        epoch: u64,
    },
    /// This client is not in a group any more.
    Removed {
        /// The room.
        room: String,
        /// By whom.
        by: String,
    },
    /// This client cannot follow a group any more; joining again is the way out.
    Stuck {
        /// The room.
        room: String,
        /// Why.
        reason: String,
    },
    /// A change was given up.
    GaveUp {
        /// The room.
        room: String,
        /// What it was.
        intent: MimiIntent,
        /// Why.
        reason: String,
    },
    /// Another commit came first; the change is made again.
    LostRace {
        /// The room.
        room: String,
        /// What it was.
        intent: MimiIntent,
        /// The epoch that both wanted to end.
        epoch: u64,
    },
    /// A client of a user was not added with the others.
    CannotAdd {
        /// The room.
        room: String,
        /// The client.
        client: String,
        /// Why.
        reason: String,
    },
    /// A message was refused.
    NotSent {
        /// The room.
        room: String,
        /// The message's ID, in hexadecimal.
        message: String,
    },
    /// The provider does not take a key package.
    KeyPackageRefused {
        /// Why.
        reason: String,
    },
    /// An entry of a room that is none.
    Malformed {
        /// The room.
        room: String,
        /// What is wrong.
        reason: String,
    },
}
