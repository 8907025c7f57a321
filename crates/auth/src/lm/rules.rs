//! The rules, in the draft's order. LM #int-auth-rules.

use nabe_event::{Event, RoomVersionRules};
use nabe_types::ServerName;

use super::create::authorize_create;
use super::member::authorize_member;
use super::power_levels::authorize_power_levels;
use super::selection::check_auth_events;
use super::{
    AuthRejection, CREATE, MEMBER, Membership, POWER_LEVELS, PowerLevels, RoomState, Rule4Input, membership_of,
};

/// Decides whether `event` may enter the room whose state before it is `state`.
///
/// `hub` is the room's current hub; for a create event, the server of its sender. Rules 1 and 2, the signatures, are not
/// checked here: pass the [`Event`] of a verified type, or of a template nobody has signed yet. An event without `prev_events`
/// (LPDU, template) is judged as following something other than the create event.
pub fn authorize(
    event: &Event,
    state: &impl RoomState,
    rules: &RoomVersionRules,
    auth_events: &Rule4Input<'_>,
    hub: &ServerName,
) -> Result<(), AuthRejection> {
    // 2a, LM #int-auth-rules (deviation): the draft leaves "a single hub in a room" open.
    if event.hub_server().is_some_and(|made_for| made_for != hub) {
        return Err(AuthRejection::NotForCurrentHub);
    }
    // 3
    if event.event_type() == CREATE {
        return authorize_create(event, state, rules);
    }
    // 4
    check_auth_events(event, auth_events)?;
    // 4.3 again, for when rule 4 is not checked: without a create event nobody has any right.
    let create = state.get(CREATE, "").ok_or(AuthRejection::NoCreateEvent)?;
    // 5
    if event.event_type() == MEMBER {
        return authorize_member(event, state, create);
    }
    // 6
    let sender = event.sender().as_str();
    if membership_of(state, sender) != Membership::Join {
        return Err(AuthRejection::SenderNotJoined);
    }
    // 7
    let levels = PowerLevels::of(state);
    if levels.event_level(event.event_type(), event.is_state()) > levels.user_level(sender) {
        return Err(AuthRejection::LevelTooLow);
    }
    // 8
    if event
        .state_key()
        .is_some_and(|key| key.starts_with('@') && key != sender)
    {
        return Err(AuthRejection::StateKeyOfAnotherUser);
    }
    // 9
    if event.event_type() == POWER_LEVELS {
        return authorize_power_levels(event, &levels, rules);
    }
    // 10
    Ok(())
}
