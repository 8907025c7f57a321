//! Changes of the room's metadata: an update replaces all of it, and each field that it changes needs a capability of its own
//! (MIMI #room-metadata, MRP #adjust-metadata).

use nabe_wire::IdentifierUri;
use nabe_wire::room_metadata::RoomMetaData;

use super::Rejection;
use super::roles::Role;

/// Metadata are those of this room, and its picture is an `https` URL.
pub(super) fn is_of_room(metadata: &RoomMetaData, room: &IdentifierUri) -> Result<(), Rejection> {
    if *metadata.room_uri != **room {
        return Err(Rejection::MetadataRoom);
    }
    if !metadata.room_avatar.is_empty() && !metadata.room_avatar.starts_with("https://") {
        return Err(Rejection::MetadataAvatar);
    }
    Ok(())
}

/// The role may change every field that differs. Without metadata all fields are empty.
pub(super) fn authorize_change(
    before: Option<&RoomMetaData>,
    after: Option<&RoomMetaData>,
    role: &Role,
) -> Result<(), Rejection> {
    for (changed, rejection) in [
        (
            differs(before, after, |it| &*it.room_name, ""),
            Rejection::CannotChangeRoomName,
        ),
        (
            differs(before, after, |it| &it.room_descriptions[..], [].as_slice()),
            Rejection::CannotChangeRoomDescription,
        ),
        (
            differs(before, after, |it| &*it.room_avatar, ""),
            Rejection::CannotChangeRoomAvatar,
        ),
        (
            differs(before, after, |it| &*it.room_subject, ""),
            Rejection::CannotChangeRoomSubject,
        ),
        (
            differs(before, after, |it| &*it.room_mood, ""),
            Rejection::CannotChangeRoomMood,
        ),
    ] {
        let capability = rejection.capability();
        if changed && !capability.is_some_and(|capability| role.can(capability)) {
            return Err(rejection);
        }
    }
    Ok(())
}

fn differs<'a, T: PartialEq + ?Sized>(
    before: Option<&'a RoomMetaData>,
    after: Option<&'a RoomMetaData>,
    field: impl Fn(&'a RoomMetaData) -> &'a T,
    empty: &'a T,
) -> bool {
    before.map_or(empty, &field) != after.map_or(empty, &field)
}
