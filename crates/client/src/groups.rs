//! The groups that were in use last, decoded. What is in here is what the store has: decoding a group takes longer than most of what is
//! done with it.

use nabe_types::RoomId;
use openmls::group::MlsGroup;

/// At most [`MAX_GROUPS`] groups, the one used last at the end.
#[derive(Default)]
pub(crate) struct Groups {
    recent: Vec<(RoomId, MlsGroup)>,
}

impl Groups {
    /// A room's group, to look at.
    pub(crate) fn get(&self, room: &RoomId) -> Option<&MlsGroup> {
        self.recent.iter().find_map(|(of, group)| (of == room).then_some(group))
    }

    /// A room's group, to do something with it; it is not here any more.
    pub(crate) fn take(&mut self, room: &RoomId) -> Option<MlsGroup> {
        let at = self.recent.iter().position(|(of, _)| of == room)?;
        Some(self.recent.remove(at).1)
    }

    /// Keeps a group that is as the store has it.
    pub(crate) fn put(&mut self, room: &RoomId, group: MlsGroup) {
        self.take(room);
        if self.recent.len() == MAX_GROUPS {
            self.recent.remove(0);
        }
        self.recent.push((room.clone(), group));
    }
}

/// A group of a thousand devices takes some megabytes.
const MAX_GROUPS: usize = 8;
