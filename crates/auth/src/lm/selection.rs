//! Which state events prove that a sender may send. LM #int-auth-selection, LM #int-auth-rules rule 4.

use std::collections::BTreeSet;

use nabe_event::{Event, Pdu};
use nabe_types::EventId;

use super::{AuthRejection, CREATE, JOIN_RULES, MEMBER, Membership, POWER_LEVELS, RoomState};

/// What is known of an event's `auth_events` when rule 4 is to be checked.
#[derive(Clone, Debug)]
pub enum Rule4Input<'a> {
    /// Rule 4 is skipped: the event has none yet (an LPDU, whose hub will select them), or this server keeps no history.
    NotChecked,
    /// Each entry of `auth_events` looked up; `None` where the ID is unknown.
    Resolved(Vec<Option<&'a Pdu>>),
    /// The same at a server that need not have all of a room's events: an ID that it does not hold breaks no rule by itself. It must
    /// hold the create event.
    Held(Vec<Option<&'a Pdu>>),
}

impl<'a> Rule4Input<'a> {
    /// Looks up every auth event of `event`.
    pub fn resolve(event: &Event, lookup: impl Fn(&EventId) -> Option<&'a Pdu>) -> Self {
        Self::Resolved(event.auth_events().iter().map(lookup).collect())
    }

    /// Looks up those that this server holds.
    pub fn held(event: &Event, lookup: impl Fn(&EventId) -> Option<&'a Pdu>) -> Self {
        Self::Held(event.auth_events().iter().map(lookup).collect())
    }
}

/// The types and state keys of the auth events of `event`, of which those that exist are to be named: what to load before
/// asking [`super::authorize`], together with the join rules.
pub fn auth_types(event: &Event) -> Vec<(&'static str, &str)> {
    if event.event_type() == CREATE {
        return Vec::new();
    }
    let sender = event.sender().as_str();
    let mut types = vec![(CREATE, ""), (POWER_LEVELS, ""), (MEMBER, sender)];
    if event.event_type() == MEMBER {
        types.extend(
            event
                .state_key()
                .filter(|target| *target != sender)
                .map(|target| (MEMBER, target)),
        );
        let membership = event.membership().and_then(Membership::parse);
        if matches!(membership, Some(Membership::Join | Membership::Invite)) {
            types.push((JOIN_RULES, ""));
        }
    }
    types
}

/// The auth events a hub puts on `event`, in the order of the draft's list.
pub fn select_auth_events(event: &Event, state: &impl RoomState) -> Vec<EventId> {
    let selected = auth_types(event)
        .into_iter()
        .filter_map(|(event_type, key)| state.get(event_type, key));
    selected.map(|event| event.event_id().clone()).collect()
}

/// LM #int-auth-rules, rule 4.
pub(super) fn check_auth_events(event: &Event, input: &Rule4Input<'_>) -> Result<(), AuthRejection> {
    let (entries, holds_all) = match input {
        Rule4Input::NotChecked => return Ok(()),
        Rule4Input::Resolved(entries) => (entries, true),
        Rule4Input::Held(entries) => (entries, false),
    };
    // 4.1; an ID named twice is one event twice, whether or not we hold it.
    let mut ids = BTreeSet::new();
    if !holds_all && event.auth_events().iter().any(|id| !ids.insert(id)) {
        return Err(AuthRejection::DuplicateAuthEvent);
    }
    let mut seen = BTreeSet::new();
    for entry in entries.iter().flatten() {
        if !seen.insert((entry.event_type(), entry.state_key())) {
            return Err(AuthRejection::DuplicateAuthEvent);
        }
    }
    // 4.2; an event nobody knows, or of another room, cannot be one of those selected. Of more entries than can be selected one is
    // outside, or a second one for the same type and state key.
    let expected = auth_types(event);
    if entries.len() > expected.len() {
        return Err(AuthRejection::UnexpectedAuthEvent);
    }
    for entry in entries.iter().filter(|entry| holds_all || entry.is_some()) {
        let selected = entry.is_some_and(|entry| {
            entry.room_id() == event.room_id()
                && entry
                    .state_key()
                    .is_some_and(|key| expected.contains(&(entry.event_type(), key)))
        });
        if !selected {
            return Err(AuthRejection::UnexpectedAuthEvent);
        }
    }
    // 4.3
    if seen.contains(&(CREATE, Some(""))) {
        Ok(())
    } else {
        Err(AuthRejection::NoCreateEvent)
    }
}
