//! Bodies of the fuzz targets: they take any bytes and panic when an invariant breaks.

use nabe_event::{Pdu, RoomVersionRules};
use nabe_signing::json::{Json, Object};
use nabe_signing::object;
use nabe_types::ServerName;

pub use crate::mimi::fuzzing::policy;

use crate::lm::{
    AuthRejection, Membership, PowerLevels, RoomState, Rule4Input, StateMap, auth_types, authorize as decide,
    membership_of,
};

/// Any bytes as a room's history, of which the allowed events become state. A JSON array is read as events; anything else is read
/// as small instructions, four bytes each, that reach deeper into the rules.
///
/// Holds throughout: no panic; the verdict is the same when the selected auth events are at hand; nobody joins for another; a
/// banned user stays out until somebody else lifts the ban; only joined users send; power does not come from nowhere.
pub fn authorize(data: &[u8]) {
    let mut room = Room::default();
    if let Ok(Json::Array(events)) = Json::parse(data) {
        for event in &events {
            room.receive(event);
        }
    } else {
        room.found();
        for step in data.chunks_exact(4).take(200) {
            let event = room.event_of(step);
            room.receive(&event);
        }
    }
}

const USERS: [&str; 4] = ["@alice:hub", "@bob:hub", "@carol:guest", "@dan:guest"];

/// A room that only ever holds allowed state.
#[derive(Default)]
struct Room {
    state: StateMap,
    last: Option<Pdu>,
    count: i64,
}

impl Room {
    fn found(&mut self) {
        let create = self.object(USERS[0], "m.room.create", Some(""), object! { "room_version" => "I.1" });
        self.receive(&create);
        let join = self.object(
            USERS[0],
            "m.room.member",
            Some(USERS[0]),
            object! { "membership" => "join" },
        );
        self.receive(&join);
    }

    fn receive(&mut self, event: &Json) {
        let Ok(event) = Pdu::from_stored(&event.to_canonical(), &RoomVersionRules::I1) else {
            return;
        };
        let Ok(hub) = ServerName::parse("hub") else {
            return;
        };
        let verdict = decide(
            &event,
            &self.state,
            &RoomVersionRules::I1,
            &Rule4Input::NotChecked,
            &hub,
        );
        let selected = auth_types(&event)
            .into_iter()
            .filter_map(|(kind, key)| self.state.get(kind, key))
            .map(Some);
        let selected = Rule4Input::Resolved(selected.collect());
        if self.state.iter().all(|state| state.room_id() == event.room_id()) {
            let checked = decide(&event, &self.state, &RoomVersionRules::I1, &selected, &hub);
            assert_eq!(checked, verdict, "the selected auth events pass rule 4");
        }
        match verdict {
            Ok(()) => {
                self.check_allowed(&event);
                self.state.apply(&event);
                self.last = Some(event);
            }
            Err(rejection) => assert!(AuthRejection::ALL.contains(&rejection)),
        }
    }

    fn check_allowed(&self, event: &Pdu) {
        let sender = event.sender().as_str();
        match event.event_type() {
            "m.room.create" => assert!(self.state.get("m.room.create", "").is_none(), "a room is created once"),
            "m.room.member" => self.check_membership(event),
            _ => assert_eq!(
                membership_of(&self.state, sender),
                Membership::Join,
                "only joined users send"
            ),
        }
        if event.is_state_of("m.room.power_levels", "") && self.state.get("m.room.power_levels", "").is_some() {
            // A user without an entry counts too: dropping an entry lifts its user to `users_default`.
            let highest = |levels: &PowerLevels<'_>| {
                let users = USERS.into_iter().chain(["@nobody:hub"]);
                users.map(|user| levels.user_level(user)).max()
            };
            let mut after = self.state.clone();
            after.apply(event);
            assert!(
                highest(&PowerLevels::of(&after)) <= highest(&PowerLevels::of(&self.state)),
                "nobody rises above the highest there was"
            );
        }
    }

    fn check_membership(&self, event: &Pdu) {
        let target = event.state_key().expect("rule 5.1 asks for a state key");
        let sender = event.sender().as_str();
        let new = event.membership().and_then(Membership::parse);
        if matches!(new, Some(Membership::Join | Membership::Knock)) {
            assert_eq!(sender, target, "nobody joins or knocks for another");
        }
        if membership_of(&self.state, target) == Membership::Ban {
            assert!(
                matches!(new, Some(Membership::Ban | Membership::Leave)),
                "a ban is lifted first"
            );
            assert_ne!(sender, target, "by somebody else");
        }
    }

    /// Reads one instruction: what, by whom, to whom, with which value.
    fn event_of(&mut self, step: &[u8]) -> Json {
        let [what, sender, target, value] = [0, 1, 2, 3].map(|at| step.get(at).copied().unwrap_or_default());
        let pick = |index: u8| USERS[usize::from(index) % USERS.len()];
        let (sender, target) = (pick(sender), pick(target));
        let level = i64::from(value) - 64;
        match what % 7 {
            0..=2 => {
                let membership = ["join", "leave", "invite", "ban", "knock", "foo"][usize::from(value) % 6];
                self.object(
                    sender,
                    "m.room.member",
                    Some(target),
                    object! { "membership" => membership },
                )
            }
            3 => {
                let rule = ["public", "invite", "knock", "restricted"][usize::from(value) % 4];
                self.object(sender, "m.room.join_rules", Some(""), object! { "join_rule" => rule })
            }
            4 => {
                let users = object! { USERS[0] => 100, target => level };
                let events = object! { "m.room.name" => level };
                let mut content = object! { "users" => users, "events" => events };
                let field = [
                    "ban",
                    "kick",
                    "invite",
                    "state_default",
                    "events_default",
                    "users_default",
                ];
                content.insert(field[usize::from(value) % 6], level);
                self.object(sender, "m.room.power_levels", Some(""), content)
            }
            5 => self.object(sender, "m.room.name", Some(target), Object::new()),
            _ => self.object(sender, "m.room.message", None, Object::new()),
        }
    }

    /// An event nobody signed: signatures are not the business of these rules.
    fn object(&mut self, sender: &str, event_type: &str, state_key: Option<&str>, content: Object) -> Json {
        self.count += 1;
        let previous: Json = self.last.iter().map(Pdu::event_id).collect();
        let mut event = object! {
            "type" => event_type,
            "sender" => sender,
            "room_id" => "!fuzz:hub",
            "content" => content,
            "origin_server_ts" => self.count,
            "hashes" => object! { "sha256" => "" },
            "signatures" => object! {},
            "auth_events" => Json::Array(Vec::new()),
            "prev_events" => previous,
        };
        if let Some(state_key) = state_key {
            event.insert("state_key", state_key);
        }
        Json::Object(event)
    }
}
