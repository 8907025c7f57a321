//! What a client wants of a room.

use serde::{Deserialize, Serialize};

/// What should be done to a room. It is kept until it is done or refused, and made into a commit, or proposals, of whatever epoch the
/// group is in then. Users and clients are named by their URIs.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "intent", rename_all = "snake_case")]
pub enum MimiIntent {
    /// Hand the room over to its hub (MIMI #alice-creates-a-room).
    Create,
    /// Give this client new keys, and commit what is pending.
    Update,
    /// Commit what is pending, if anything is.
    Tend,
    /// Put users on the participant list, and their clients into the group (MIMI #alice-adds-bob-to-the-room).
    Add {
        /// Whom.
        users: Vec<Newcomer>,
    },
    /// Add the user's own other clients.
    AddClients,
    /// Take a user off the list, and their clients out of the group.
    Remove {
        /// Whom.
        user: String,
    },
    /// Take clients out of the group, and nobody off the list.
    RemoveClients {
        /// Which.
        clients: Vec<String>,
    },
    /// Give a user the role of the banned, and take their clients out of the group (MRP #role-changes).
    Ban {
        /// Whom.
        user: String,
    },
    /// Give a user another role.
    SetRole {
        /// Whom.
        user: String,
        /// Which.
        role: u32,
    },
    /// Replace the data of a component, or remove it.
    SetComponent {
        /// Which.
        component: u16,
        /// Its update; `None` removes it.
        update: Option<Vec<u8>>,
    },
    /// Propose that this user and all their clients go (MIMI #bob-leaves-the-room).
    Leave {
        /// This client, too, by a Remove, where groups have no SelfRemove.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_remove: bool,
    },
    /// Join by an external commit (MIMI #claim-group-key-information).
    Join {
        /// The role to join with, for a user who is not on the list; without one, the first that is open.
        role: Option<u32>,
        /// A joining code.
        code: Option<Vec<u8>>,
    },
}

/// A user to be added.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Newcomer {
    /// The user's URI.
    pub user: String,
    /// The role.
    pub role: u32,
}
