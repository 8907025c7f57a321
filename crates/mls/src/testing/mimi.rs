//! Clients of MIMI rooms and a hub's key for tests, made with OpenMLS as a real client makes them; and messages that no honest
//! client sends. Whatever fails here panics.

use nabe_wire::uri::MimiUri;

use super::wall_clock;
use crate::mimi::MimiGroup;

mod bare;
mod bundle;
mod components;
mod device;
mod draft;
mod forged;
mod hub;
mod member;
mod requests;
mod translate;

pub use bare::BareMimiGroup;
pub use bundle::TestBundle;
pub use components::{
    REQUIRED, SUPPORTED, add_participants, change_participants, components_list, media_types, metadata,
    operational_policy, participants_of, remove_component, safe_aad, set_component,
};
pub use device::MimiDevice;
pub use draft::{RoomDraft, room_on_paper, room_on_paper_with};
pub use hub::TestHub;
pub use member::{Change, MimiMember};
pub use requests::{
    group_info_query, group_info_query_with, key_material_request, key_material_request_of, key_package_ref,
    open_group_info,
};
pub use translate::context_of;

/// The room of the draft's example.
pub const ROOM: &str = "mimi://a.example/r/clubhouse";

const GROUP: &str = "mimi://a.example/g/clubhouse";

/// The room of the tests.
#[must_use]
pub fn room() -> MimiUri {
    MimiUri::parse(ROOM).expect("a room's URI")
}

/// Begins a room at the hub.
#[must_use]
pub fn found(hub: &TestHub, creator: &MimiMember) -> MimiGroup {
    let (info, tree) = creator.hand_over();
    let (group, _) = MimiGroup::found(&room(), hub.sender(), &info, &tree, wall_clock()).expect("a sound room");
    group
}
