//! A MIMI room with any number of participants, each with a client, as its policy sees it.

use nabe_auth::mimi::templates::{self, GROUP_ADMIN, ORDINARY_USER, SUPER_ADMIN, Template};
use nabe_auth::mimi::{Action, Claims, Room};
use nabe_wire::IdentifierUri;
use nabe_wire::app_data::AppDataDictionary;
use nabe_wire::mls::{ComponentId, Credential};
use nabe_wire::participant_list::{ParticipantListData, ParticipantListUpdate, UserIndexRolePair, UserRolePair};
use nabe_wire::policy::{Capability, SingleSourceRoleChangeTargets};

/// The room's URI.
pub const ROOM: &str = "mimi://hub.example/r/large";
/// Has the role that may do most.
pub const OWNER: u32 = 0;
/// Somebody in the middle.
pub const SOMEBODY: u32 = 5;

/// The participant of this number; a hundred providers have them by turns.
///
/// # Panics
/// Never.
#[must_use]
pub fn user(number: u32) -> IdentifierUri {
    let provider = number % 100;
    IdentifierUri::new(format!("mimi://provider{provider}.example/u/participant-{number}")).expect("a short URI")
}

/// What a client of this user says about itself.
#[must_use]
pub fn claims(user: &IdentifierUri) -> Claims {
    Claims::of(&Credential::Basic {
        identity: user.as_bytes().into(),
    })
}

/// A cooperative room that is open.
fn template() -> Template {
    let mut template = templates::cooperative("hub.example");
    template.roles.roles[0]
        .role_capabilities
        .push(Capability::CAN_OPEN_JOIN);
    template.roles.roles[0].authorized_role_changes = vec![SingleSourceRoleChangeTargets {
        from_role_index: 0,
        target_role_indexes: vec![ORDINARY_USER],
    }];
    template
}

/// The components of an open, cooperative room of so many.
#[must_use]
pub fn dictionary(size: u32) -> AppDataDictionary {
    let pair = |number| UserRolePair {
        user: user(number),
        role_index: match number {
            OWNER => SUPER_ADMIN,
            1 => GROUP_ADMIN,
            _ => ORDINARY_USER,
        },
    };
    template().dictionary(&ParticipantListData {
        participants: (0..size).map(pair).collect(),
    })
}

/// The room that has these components.
///
/// # Panics
/// If they are not in order.
#[must_use]
pub fn load(dictionary: &AppDataDictionary, size: u32) -> Room {
    let room = IdentifierUri::new(ROOM).expect("a short URI");
    let leaves = (0..size).map(|number| (number, user(number)));
    Room::load(room, dictionary, leaves).expect("the room is in order")
}

/// An open, cooperative room of so many.
#[must_use]
pub fn room(size: u32) -> Room {
    load(&dictionary(size), size)
}

/// A change of the list: places and their new roles, places that go, users and roles that come.
#[must_use]
pub fn list(roles: &[(u32, u32)], removed: &[u32], added: &[(u32, u32)]) -> Action {
    let update = ParticipantListUpdate {
        changed_role_participants: roles
            .iter()
            .map(|(user_index, role_index)| UserIndexRolePair {
                user_index: *user_index,
                role_index: *role_index,
            })
            .collect(),
        removed_indices: removed.to_vec(),
        added_participants: added
            .iter()
            .map(|(number, role_index)| UserRolePair {
                user: user(*number),
                role_index: *role_index,
            })
            .collect(),
    };
    Action::update(ComponentId::PARTICIPANT_LIST, &update)
}

/// A participant and their client go.
#[must_use]
pub fn removal(number: u32) -> [Action; 2] {
    [list(&[], &[number], &[]), Action::Remove(number)]
}
