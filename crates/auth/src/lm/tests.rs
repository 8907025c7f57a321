//! A room with one user of each kind, and the rules asked about it. One test per numbered rule, in files by rule.

mod create_and_auth_events;
mod every_rejection;
mod group;
mod membership;
mod power_levels;
mod properties;
mod sending;
mod vectors;

use nabe_event::{Pdu, RoomVersionRules};
use nabe_signing::json::{Json, Object};
use nabe_signing::object;
use nabe_types::{EventId, ServerName};

use super::*;

/// Created the room; power level 100.
const ALICE: &str = "@alice:hub";
/// Joined; power level 100.
const ANNE: &str = "@anne:guest";
/// Joined; power level 50.
const MOD: &str = "@mod:guest";
/// Joined; power level 0.
const BOB: &str = "@bob:guest";
/// Never seen.
const DAVE: &str = "@dave:guest";
/// Banned.
const EVE: &str = "@eve:guest";
/// Invited.
const IVY: &str = "@ivy:guest";
/// Knocking.
const KEN: &str = "@ken:guest";
/// Has left.
const LEO: &str = "@leo:guest";

type Verdict = Result<(), AuthRejection>;

#[derive(Clone, Debug)]
struct Room {
    state: StateMap,
    rules: &'static RoomVersionRules,
}

impl Room {
    fn empty() -> Self {
        Self {
            state: StateMap::default(),
            rules: &RoomVersionRules::I1,
        }
    }

    /// Created, and nothing else.
    fn created() -> Self {
        Self::empty().set(&create())
    }

    /// Everyone above, join rule `invite`.
    fn new() -> Self {
        let members = [
            (ALICE, "join"),
            (ANNE, "join"),
            (MOD, "join"),
            (BOB, "join"),
            (EVE, "ban"),
            (IVY, "invite"),
            (KEN, "knock"),
            (LEO, "leave"),
        ];
        let room = Self::created().join_rule("invite").power(levels());
        members
            .into_iter()
            .fold(room, |room, (user, membership)| room.member(user, membership))
    }

    /// Makes an event current without asking the rules.
    fn set(mut self, event: &Pdu) -> Self {
        self.state.apply(event);
        self
    }

    fn member(self, user: &str, membership: &str) -> Self {
        self.set(&member(ALICE, user, membership))
    }

    fn power(self, content: Object) -> Self {
        self.set(&power(ALICE, content))
    }

    fn join_rule(self, rule: &str) -> Self {
        self.set(&state(ALICE, "m.room.join_rules", "", object! { "join_rule" => rule }))
    }

    fn ask(&self, event: &Pdu) -> Verdict {
        self.ask_with(event, &Rule4Input::NotChecked)
    }

    fn ask_with(&self, event: &Pdu, auth_events: &Rule4Input<'_>) -> Verdict {
        authorize(event, &self.state, self.rules, auth_events, &server("hub"))
    }

    fn current(&self, event_type: &str, state_key: &str) -> &Pdu {
        self.state.get(event_type, state_key).unwrap()
    }
}

/// The content of the room's power levels.
fn levels() -> Object {
    object! {
        "users" => object! { ALICE => 100, ANNE => 100, MOD => 50 },
        "events" => object! { "m.room.name" => 60, "org.example.low" => 5 },
        "invite" => 10,
        "kick" => 40,
        "ban" => 50,
        "redact" => 70,
    }
}

fn levels_with(field: &str, value: impl Into<Json>) -> Object {
    let mut levels = levels();
    levels.insert(field, value);
    levels
}

fn server(name: &str) -> ServerName {
    ServerName::parse(name).unwrap()
}

/// An event without signatures, which these rules do not look at.
fn event(sender: &str, event_type: &str, state_key: Option<&str>, content: Object) -> Object {
    let mut event = object! {
        "type" => event_type,
        "sender" => sender,
        "room_id" => "!room:hub",
        "content" => content,
        "origin_server_ts" => 1_700_000_000_000,
        "hashes" => object! { "sha256" => "" },
        "signatures" => object! {},
        "auth_events" => Json::Array(Vec::new()),
        "prev_events" => vec![EventId::from_hash([7; 32])],
    };
    if let Some(state_key) = state_key {
        event.insert("state_key", state_key);
    }
    event
}

fn pdu(event: &Object) -> Pdu {
    Pdu::from_stored(&event.to_canonical(), &RoomVersionRules::I1).unwrap()
}

fn with(mut event: Object, field: &str, value: impl Into<Json>) -> Pdu {
    event.insert(field, value);
    pdu(&event)
}

fn state(sender: &str, event_type: &str, state_key: &str, content: Object) -> Pdu {
    pdu(&event(sender, event_type, Some(state_key), content))
}

fn message(sender: &str) -> Pdu {
    pdu(&event(sender, "m.room.message", None, object! {}))
}

fn member(sender: &str, target: &str, membership: &str) -> Pdu {
    state(sender, "m.room.member", target, object! { "membership" => membership })
}

fn power(sender: &str, content: Object) -> Pdu {
    state(sender, "m.room.power_levels", "", content)
}

fn create_event() -> Object {
    let mut create = event(ALICE, "m.room.create", Some(""), object! { "room_version" => "I.1" });
    create.insert("prev_events", Json::Array(Vec::new()));
    create
}

fn create() -> Pdu {
    pdu(&create_event())
}
