//! Redaction: what is left of an event when its contents may not be trusted or shown. LM #int-redactions.

use nabe_signing::json::{Json, Object};

use crate::RoomVersionRules;

/// The redacted copy of `event`: known top-level fields, and of `content` only what the room's algorithms read.
///
/// Works on any object. Idempotent, and keeps the event ID. `content`, where present, stays an object.
pub fn redact(event: &Object, rules: &RoomVersionRules) -> Object {
    // Both supported versions redact alike; the parameter keeps callers honest about the version they mean.
    let RoomVersionRules { .. } = rules;
    let kept = kept_content_keys(event.get("type").and_then(Json::as_str).unwrap_or_default());
    event
        .iter()
        .filter(|(key, _)| KEPT_TOP_LEVEL.contains(key))
        .map(|(key, value)| {
            let value = if key == "content" {
                redact_content(value, kept)
            } else {
                value.clone()
            };
            (key.to_owned(), value)
        })
        .collect()
}

fn redact_content(content: &Json, kept: Option<&[&str]>) -> Json {
    match (content, kept) {
        (Json::Object(_), None) => content.clone(),
        (Json::Object(content), Some(kept)) => Json::Object(
            content
                .iter()
                .filter(|(key, _)| kept.contains(key))
                .map(|(key, value)| (key, value.clone()))
                .collect(),
        ),
        _ => Json::Object(Object::new()),
    }
}

/// The members of `content` that survive redaction of an event of this type; `None` means all of them.
pub(crate) fn kept_content_keys(event_type: &str) -> Option<&'static [&'static str]> {
    match event_type {
        "m.room.create" => None,
        "m.room.member" => Some(&["membership"]),
        "m.room.join_rules" => Some(&["join_rule"]),
        "m.room.power_levels" => Some(&[
            "ban",
            "events",
            "events_default",
            "kick",
            "redact",
            "state_default",
            "users",
            "users_default",
            "invite",
        ]),
        "m.room.history_visibility" => Some(&["history_visibility"]),
        _ => Some(&[]),
    }
}

/// The top-level fields that survive redaction.
pub(crate) const KEPT_TOP_LEVEL: &[&str] = &[
    "type",
    "room_id",
    "sender",
    "state_key",
    "content",
    "origin_server_ts",
    "hashes",
    "signatures",
    "prev_events",
    "auth_events",
    "hub_server",
];
