//! Power levels and the rules for changing them. LM #int-calc-power-levels, LM #int-auth-rules rule 9.

use std::collections::BTreeSet;

use nabe_event::{Event, PowerLevelUserRule, RoomVersionRules};
use nabe_signing::json::{Json, Object};
use nabe_types::UserId;

use super::{AuthRejection, CREATE, POWER_LEVELS, RoomState};

/// The power levels in force in a room.
#[derive(Clone, Copy, Debug)]
pub struct PowerLevels<'a> {
    content: Option<&'a Object>,
    creator: Option<&'a str>,
}

/// Actions with a power level of their own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Banning, and unbanning.
    Ban,
    /// Inviting.
    Invite,
    /// Removing another user.
    Kick,
    /// Redacting an event by another user. No rule of the draft asks for it.
    Redact,
}

impl<'a> PowerLevels<'a> {
    /// The levels of the current state.
    pub fn of(state: &'a impl RoomState) -> Self {
        Self {
            content: state.get(POWER_LEVELS, "").map(|event| event.content()),
            creator: state.get(CREATE, "").map(|create| create.sender().as_str()),
        }
    }

    /// A user's level. Without a power levels event the room's creator has 100, everyone else 0.
    pub fn user_level(&self, user: &str) -> i64 {
        match self.content {
            None if self.creator == Some(user) => 100,
            None => 0,
            Some(content) => entry(content, "users", user)
                .or_else(|| integer(content, "users_default"))
                .unwrap_or(0),
        }
    }

    /// The level required to send an event of this type, as state or not.
    pub fn event_level(&self, event_type: &str, is_state: bool) -> i64 {
        let (field, default) = if is_state {
            ("state_default", 50)
        } else {
            ("events_default", 0)
        };
        let stated = self
            .content
            .and_then(|content| entry(content, "events", event_type).or_else(|| integer(content, field)));
        stated.unwrap_or(default)
    }

    /// The level required for an action.
    pub fn action_level(&self, action: Action) -> i64 {
        let (field, default) = match action {
            Action::Ban => ("ban", 50),
            Action::Invite => ("invite", 0),
            Action::Kick => ("kick", 50),
            Action::Redact => ("redact", 50),
        };
        self.content
            .and_then(|content| integer(content, field))
            .unwrap_or(default)
    }
}

/// LM #int-auth-rules, rule 9.
pub(super) fn authorize_power_levels(
    event: &Event,
    levels: &PowerLevels<'_>,
    rules: &RoomVersionRules,
) -> Result<(), AuthRejection> {
    let new = event.content();
    // 9.1
    if SCALARS
        .iter()
        .filter_map(|field| new.get(field))
        .any(|level| level.as_i64().is_none())
    {
        return Err(AuthRejection::PowerLevelNotInteger);
    }
    // 9.2
    if new.get("events").is_some_and(|events| !is_object_of_integers(events)) {
        return Err(AuthRejection::EventLevelsMalformed);
    }
    // 9.3
    if new
        .get("users")
        .is_some_and(|users| !is_object_of_integers(users) || !has_user_ids_as_keys(users))
    {
        return Err(AuthRejection::UserLevelsMalformed);
    }
    // 9.4
    let Some(current) = levels.content else {
        return Ok(());
    };
    let sender = event.sender().as_str();
    let own = levels.user_level(sender);
    // 9.5: each field added, changed or removed.
    for field in SCALARS {
        check_scalar(integer(current, field), integer(new, field), own)?;
    }
    // 9.6, 9.7
    let events = changes(current, new, "events");
    // 9.6.1: entries changed or removed.
    if events
        .iter()
        .any(|change| change.current.is_some_and(|level| level > own))
    {
        return Err(AuthRejection::EventLevelOutOfReach);
    }
    // 9.7.1: entries added or changed.
    if events.iter().any(|change| change.new.is_some_and(|level| level > own)) {
        return Err(AuthRejection::EventLevelRaisedAboveOwn);
    }
    // 9.8, 9.9
    let users = changes(current, new, "users");
    // 9.8.1: entries changed or removed, the sender's own excepted.
    let out_of_reach = |level: i64| match rules.user_level_change {
        PowerLevelUserRule::GreaterThan => level > own,
        PowerLevelUserRule::AtLeast => level >= own,
    };
    if users
        .iter()
        .any(|change| change.key != sender && change.current.is_some_and(out_of_reach))
    {
        return Err(AuthRejection::UserLevelOutOfReach);
    }
    // 9.9.1: entries added or changed.
    if users.iter().any(|change| change.new.is_some_and(|level| level > own)) {
        return Err(AuthRejection::UserLevelRaisedAboveOwn);
    }
    // 9.10
    Ok(())
}

// 9.5. Values that are absent stand for nothing here: their defaults are not compared.
fn check_scalar(current: Option<i64>, new: Option<i64>, own: i64) -> Result<(), AuthRejection> {
    if current == new {
        return Ok(());
    }
    // 9.5.1
    if current.is_some_and(|level| level > own) {
        return Err(AuthRejection::PowerLevelOutOfReach);
    }
    // 9.5.2
    if new.is_some_and(|level| level > own) {
        return Err(AuthRejection::PowerLevelRaisedAboveOwn);
    }
    Ok(())
}

/// An entry of `events` or `users` that an event adds, changes or removes.
struct Change<'a> {
    key: &'a str,
    current: Option<i64>,
    new: Option<i64>,
}

fn changes<'a>(current: &'a Object, new: &'a Object, field: &str) -> Vec<Change<'a>> {
    let keys = |content: &'a Object| {
        content
            .get(field)
            .and_then(Json::as_object)
            .into_iter()
            .flat_map(Object::keys)
    };
    let all: BTreeSet<&'a str> = keys(current).chain(keys(new)).collect();
    all.into_iter()
        .map(|key| Change {
            key,
            current: entry(current, field, key),
            new: entry(new, field, key),
        })
        .filter(|change| change.current != change.new)
        .collect()
}

fn is_object_of_integers(value: &Json) -> bool {
    value
        .as_object()
        .is_some_and(|object| object.iter().all(|(_, level)| level.as_i64().is_some()))
}

fn has_user_ids_as_keys(users: &Json) -> bool {
    users
        .as_object()
        .is_some_and(|users| users.keys().all(|user| UserId::parse(user).is_ok()))
}

fn integer(content: &Object, field: &str) -> Option<i64> {
    content.get(field).and_then(Json::as_i64)
}

fn entry(content: &Object, field: &str, key: &str) -> Option<i64> {
    content
        .get(field)
        .and_then(Json::as_object)?
        .get(key)
        .and_then(Json::as_i64)
}

const SCALARS: [&str; 7] = [
    "users_default",
    "events_default",
    "state_default",
    "ban",
    "redact",
    "kick",
    "invite",
];
