//! Creating a room, which makes this server its hub (LM #int-hub-selection).

use nabe_auth::lm::JoinRule;
use nabe_signing::json::Object;
use nabe_signing::object;
use nabe_types::{RoomId, RoomVersionId, UserId};

use super::RoomView;
use crate::state::{JOIN, MEMBER};
use crate::visibility::HistoryVisibility;
use crate::{Ctx, EventDraft, Outcome, Refusal, Reply, Role, RoomMeta};

/// What a new room should be like.
#[derive(Clone, Debug)]
pub struct RoomSpec {
    /// Its ID, in the creator's server's namespace.
    pub room_id: RoomId,
    /// Its version; one we support.
    pub version: RoomVersionId,
    /// Its creator, a user of this server.
    pub creator: UserId,
    /// Content of `m.room.name`.
    pub name: Option<String>,
    /// Content of `m.room.topic`.
    pub topic: Option<String>,
    /// Who may join; [`JoinRule::Unknown`] is written as `invite`.
    pub join_rule: JoinRule,
    /// Content of `m.room.power_levels`; `None` for ours: creator 100, 50 for state and moderation, 100 to change power levels or history
    /// visibility.
    pub power_levels: Option<Object>,
    /// Who may read history; `None` leaves it at the default, `shared`.
    pub history_visibility: Option<HistoryVisibility>,
    /// `encryption.algorithm` of `m.room.create`, fixed forever; `None` for an unencrypted room (LM #int-mls-considerations).
    pub encryption: Option<String>,
    /// Further state: type, state key and content, in order.
    pub initial_state: Vec<(String, String, Object)>,
}

impl RoomSpec {
    /// A room to which its creator invites people, with nothing else set.
    #[must_use]
    pub const fn new(room_id: RoomId, version: RoomVersionId, creator: UserId) -> Self {
        Self {
            room_id,
            version,
            creator,
            name: None,
            topic: None,
            join_rule: JoinRule::Invite,
            power_levels: None,
            history_visibility: None,
            encryption: None,
            initial_state: Vec::new(),
        }
    }
}

/// A new room's first events: create, the creator's join, power levels, join rules, history visibility, further state, name, topic.
/// The view returned has them applied already; the outcome is what to store, at position zero.
pub fn create_room(spec: RoomSpec, ctx: &Ctx<'_>) -> Result<(RoomView, Outcome), Refusal> {
    let meta = RoomMeta {
        room_id: spec.room_id.clone(),
        version: spec.version.clone(),
        role: Role::Hub,
        created_at: ctx.now,
    };
    let mut view = RoomView::new_hub(meta)?;
    let mut append = Vec::new();
    for draft in first_events(spec, ctx) {
        let pdu = view.author(&draft, ctx)?;
        let outcome = view.appended(pdu, None, ctx);
        view.apply(&outcome);
        append.extend(outcome.append);
    }
    let newest = view.head().cloned().expect("the create event was appended");
    let reply = Reply::Appended {
        event_id: newest,
        position: view.position(),
    };
    Ok((
        view,
        Outcome {
            append,
            followers: Vec::new(),
            group: None,
            soft_failure: None,
            reply,
        },
    ))
}

fn first_events(spec: RoomSpec, ctx: &Ctx<'_>) -> Vec<EventDraft> {
    let creator = spec.creator;
    let mut create = object! { "room_version" => &spec.version };
    if let Some(algorithm) = spec.encryption {
        create.insert("encryption", object! { "algorithm" => algorithm });
    }
    let power_levels = spec.power_levels.unwrap_or_else(|| default_power_levels(&creator));
    let mut events = vec![
        ("m.room.create".to_owned(), String::new(), create),
        (MEMBER.to_owned(), creator.to_string(), object! { "membership" => JOIN }),
        ("m.room.power_levels".to_owned(), String::new(), power_levels),
        (
            "m.room.join_rules".to_owned(),
            String::new(),
            object! { "join_rule" => join_rule(spec.join_rule) },
        ),
    ];
    if let Some(visibility) = spec.history_visibility {
        let content = object! { "history_visibility" => visibility.as_str() };
        events.push(("m.room.history_visibility".to_owned(), String::new(), content));
    }
    events.extend(spec.initial_state);
    if let Some(name) = spec.name {
        events.push(("m.room.name".to_owned(), String::new(), object! { "name" => name }));
    }
    if let Some(topic) = spec.topic {
        events.push(("m.room.topic".to_owned(), String::new(), object! { "topic" => topic }));
    }
    let draft = |(event_type, state_key, content)| EventDraft {
        event_type,
        state_key: Some(state_key),
        sender: creator.clone(),
        content,
        origin_server_ts: ctx.now,
    };
    events.into_iter().map(draft).collect()
}

/// Everything stated, so that no two servers have to agree on a default (LM #int-calc-power-levels).
fn default_power_levels(creator: &UserId) -> Object {
    object! {
        "users" => object! { creator.as_str() => 100 },
        "users_default" => 0,
        "events" => object! { "m.room.power_levels" => 100, "m.room.history_visibility" => 100 },
        "events_default" => 0,
        "state_default" => 50,
        "ban" => 50,
        "kick" => 50,
        "redact" => 50,
        "invite" => 0,
    }
}

const fn join_rule(rule: JoinRule) -> &'static str {
    match rule {
        JoinRule::Public => "public",
        JoinRule::Knock => "knock",
        JoinRule::Invite | JoinRule::Unknown => "invite",
    }
}
