//! The frame of all policy: MRP #base-room-policy-component-syntax.

use crate::codec::wire_struct;
use crate::mls::ComponentId;
use crate::uri::Uri;

wire_struct! {
    /// `BaseRoomPolicy`: the data of the component `base_room_policy`.
    pub struct BaseRoomPolicy {
        /// Nobody comes or goes.
        pub fixed_membership: bool,
        /// Participants are some of those of another room.
        pub parent_dependant: bool,
        /// That room, or none. The draft declares a list and speaks of one.
        pub parent_room: Vec<Uri>,
        /// A user may have several clients in the group.
        pub multi_device: bool,
        /// At most so many clients.
        pub max_clients: Option<u32>,
        /// At most so many users who are not banned.
        pub max_users: Option<u32>,
        /// Clients may hide who they are.
        pub pseudonyms_allowed: bool,
        /// The room outlives its group.
        pub persistent_room: bool,
        /// The room can be found.
        pub discoverable: bool,
        /// The components of policy that matter here.
        pub policy_component_ids: Vec<ComponentId>,
    }
}
