//! Who is owed what (LM #int-transport-send-events): every server with a joined user, up to and including the event that takes its last
//! one out, and for a membership change the server of the user it is about.
//!
//! The draft says "the server implied by the `sender`" of a kick or ban. That server has a joined user anyway; the one that needs to
//! hear of it is the target's, so `state_key` is read instead.

use nabe_event::Event;
use nabe_types::{LogPosition, ServerName, UserId};

use crate::state::{JOIN, MEMBER};
use crate::{FollowerChange, State};

/// The user a membership event is about; `None` for any other event.
pub(super) fn member_target(event: &Event) -> Option<UserId> {
    if event.event_type() != MEMBER {
        return None;
    }
    UserId::parse(event.state_key()?).ok()
}

/// What changes for followers when `event` is appended at `position` to a room whose state before it is `state`. Only the server of
/// the user a membership event is about can be concerned.
pub(super) fn follower_change(
    state: &State,
    event: &Event,
    position: LogPosition,
    own: &ServerName,
) -> Option<FollowerChange> {
    let target = member_target(event)?;
    let server = target.server_name();
    if server == own {
        return None;
    }
    let joined_before = state.joined_users_of(server);
    let was_joined = state.membership(&target) == nabe_auth::lm::Membership::Join;
    let joins = event.membership() == Some(JOIN);
    let joined_after = joined_before - usize::from(was_joined) + usize::from(joins);
    let server = server.clone();
    match (joined_before, joined_after) {
        (0, 0) if event.membership() == Some("invite") => None,
        (0, 0) => Some(FollowerChange::Once { server, at: position }),
        (0, _) => Some(FollowerChange::Open { server, from: position }),
        (_, 0) => Some(FollowerChange::Close {
            server,
            until: position,
        }),
        _ => None,
    }
}
