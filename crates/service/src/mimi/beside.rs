//! What is kept beside a room because of its policy, written in the batch of what makes it so: the terms of join links, that there is one
//! room with fixed membership for a set of participants, and on which room another depends (MRP #join-link, MRP
//! #base-room-policy-component-syntax).

use std::sync::Arc;

use nabe_auth::mimi::Policy;
use nabe_core::mimi::{MimiRoom, MimiUri};
use nabe_signing::sha256;
use nabe_store::{MimiWrite, PolicyWrite, Write};

use super::{Mimi, join_links};

/// What it was like before something was taken in.
pub(super) struct Before {
    policy: Arc<Policy>,
    has_fixed_members: bool,
}

impl Before {
    pub(super) fn of(room: &MimiRoom) -> Self {
        Self {
            policy: Arc::clone(room.policy().policy()),
            has_fixed_members: has_fixed_members(room),
        }
    }
}

/// What is to be kept otherwise than before, or of a new room.
pub(super) fn changes(before: Option<&Before>, room: &MimiRoom, mimi: &Mimi) -> Vec<Write> {
    let after = room.policy().policy();
    let earlier = before.map(|before| &*before.policy);
    let uri = || room.uri().clone();
    let mut writes = Vec::new();
    let had = before.is_some_and(|before| before.has_fixed_members);
    let has = has_fixed_members(room);
    if had != has {
        writes.push(PolicyWrite::SetFixedMembers {
            room: uri(),
            members_sha256: has.then(|| members_sha256(room)),
        });
    }
    if !earlier.is_some_and(|earlier| std::ptr::eq(earlier, &raw const **after)) {
        let parent = parent_of(after);
        if earlier.and_then(parent_of) != parent {
            writes.push(PolicyWrite::SetParent { room: uri(), parent });
        }
        writes.extend(join_links::changes(room.uri(), earlier, after, mimi.service.now()));
    }
    writes
        .into_iter()
        .map(|write| Write::Mimi(MimiWrite::Policy(write)))
        .collect()
}

/// What is to be kept of a room that was there before anything was: its join links go on without terms.
pub(super) fn of_old_room(room: &MimiRoom) -> Vec<PolicyWrite> {
    let uri = || room.uri().clone();
    let fixed = has_fixed_members(room).then(|| PolicyWrite::SetFixedMembers {
        room: uri(),
        members_sha256: Some(members_sha256(room)),
    });
    let parent = parent_of(room.policy().policy()).map(|parent| PolicyWrite::SetParent {
        room: uri(),
        parent: Some(parent),
    });
    fixed.into_iter().chain(parent).collect()
}

/// The room that a room of this policy depends on.
pub(super) fn parent_of(policy: &Policy) -> Option<MimiUri> {
    let base = policy.base();
    let parent = base.parent_room.first().filter(|_| base.parent_dependant)?;
    MimiUri::parse(parent).ok()
}

/// A room that is over keeps nobody from another.
fn has_fixed_members(room: &MimiRoom) -> bool {
    room.policy().policy().base().fixed_membership && !room.policy().is_over()
}

/// Of everybody on the list: with fixed membership nobody comes or goes, but for whoever leaves a parent room, and the room stays that of
/// those who began it.
fn members_sha256(room: &MimiRoom) -> [u8; 32] {
    let list = room.policy().effective_list().participants;
    let mut users: Vec<_> = list.iter().map(|participant| participant.user.as_str()).collect();
    users.sort_unstable();
    sha256(users.join("\n").as_bytes())
}
