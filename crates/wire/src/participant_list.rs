//! Who takes part, and as what: MIMI #participant-list.
//!
//! Here is the format of the list and of a change to it. Which changes are valid, and who may make them, is a matter of
//! the room's policy.

use crate::codec::wire_struct;
use crate::uri::IdentifierUri;

wire_struct! {
    /// `UserRolePair`
    pub struct UserRolePair {
        /// The same for all clients of a user. The draft's type is any bytes; what identifies users in it are URIs.
        pub user: IdentifierUri,
        /// Their role.
        pub role_index: u32,
    }
}

wire_struct! {
    /// `ParticipantListData`: the data of the component `participant_list`.
    pub struct ParticipantListData {
        /// In the order in which they came; changes name users by their place in it, counted from 0.
        pub participants: Vec<UserRolePair>,
    }
}

wire_struct! {
    /// `UserindexRolePair`
    pub struct UserIndexRolePair {
        /// The user's place in the list as it is.
        pub user_index: u32,
        /// Their new role.
        pub role_index: u32,
    }
}

wire_struct! {
    /// `ParticipantListUpdate`: what an `AppDataUpdate` of the list holds.
    pub struct ParticipantListUpdate {
        /// First: who gets another role.
        pub changed_role_participants: Vec<UserIndexRolePair>,
        /// Then: who goes, by their place in the list as it is.
        pub removed_indices: Vec<u32>,
        /// Then: who comes, at the end.
        pub added_participants: Vec<UserRolePair>,
    }
}

#[cfg(test)]
mod tests;
