//! What never changes about a room on this server: its ID, its version, and which side of it we are.

use nabe_event::RoomVersionRules;
use nabe_types::{RoomId, RoomVersionId, ServerName, UnixMillis};

use crate::Refusal;

/// Which side of the room this server is. Fixed for the life of a room: in `I.1` the hub is the server of the creator
/// (LM #int-hub-selection), and there is no transfer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Role {
    /// This server orders the room's events.
    Hub,
    /// Another server does.
    Participant {
        /// The server that does.
        hub: ServerName,
    },
}

/// What never changes about a room on this server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoomMeta {
    /// The room's ID. The server in it says nothing about the hub (LM #int-room-id).
    pub room_id: RoomId,
    /// The version it was created with (LM #int-room-versions).
    pub version: RoomVersionId,
    /// Our side of it.
    pub role: Role,
    /// When this server created or first joined the room.
    pub created_at: UnixMillis,
}

impl RoomMeta {
    /// The rules of the room's version; refused with [`Refusal::IncompatibleRoomVersion`] when we do not know it.
    pub fn rules(&self) -> Result<&'static RoomVersionRules, Refusal> {
        RoomVersionRules::for_id(&self.version).ok_or_else(|| Refusal::IncompatibleRoomVersion {
            version: self.version.clone(),
        })
    }

    /// The hub's name, given our own.
    #[must_use]
    pub const fn hub<'a>(&'a self, own: &'a ServerName) -> &'a ServerName {
        match &self.role {
            Role::Hub => own,
            Role::Participant { hub } => hub,
        }
    }

    /// Whether this server is the hub.
    #[must_use]
    pub const fn is_hub(&self) -> bool {
        matches!(self.role, Role::Hub)
    }
}
