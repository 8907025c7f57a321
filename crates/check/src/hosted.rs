//! A room whose hub is one of our own servers: as much of a hub as the checks need. It authorizes nothing, since its cases
//! say themselves what goes in. LM #int-receiving-events, LM #int-auth-selection.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nabe_event::event_id_of;
use nabe_signing::json::{Json, Object};
use nabe_signing::{Signer, object};
use nabe_types::EventId;

use crate::author;

/// The room's log and the key that completes its events.
#[derive(Clone)]
pub(crate) struct Hosted {
    pub(crate) id: String,
    signer: Arc<Signer>,
    log: Vec<Listed>,
}

/// An event with its place.
#[derive(Clone)]
pub(crate) struct Listed {
    pub(crate) id: EventId,
    pub(crate) event: Object,
}

type State = BTreeMap<(String, String), usize>;

impl Hosted {
    pub(crate) const fn new(id: String, signer: Arc<Signer>) -> Self {
        Self {
            id,
            signer,
            log: Vec::new(),
        }
    }

    /// A state or message event by a user of the hub, appended.
    pub(crate) fn own(&mut self, event_type: &str, state_key: Option<&str>, sender: &str, content: Object) -> Object {
        let event = author::partial(&self.id, event_type, state_key, sender, content);
        self.seal_and_append(event)
    }

    /// A partial event of the hub's own, completed and appended.
    pub(crate) fn seal_and_append(&mut self, event: Object) -> Object {
        let (auth, prev) = (self.auth_events(&event), self.head());
        self.append(author::seal_pdu(event, &auth, &prev, &self.signer))
    }

    /// An LPDU as a PDU with its place at the end of the room, not appended.
    pub(crate) fn completed(&self, lpdu: Object) -> Object {
        let (auth, prev) = (self.auth_events(&lpdu), self.head());
        author::complete(lpdu, &auth, &prev, &self.signer)
    }

    /// An LPDU as a PDU, appended.
    pub(crate) fn complete_and_append(&mut self, lpdu: Object) -> Object {
        let pdu = self.completed(lpdu);
        self.append(pdu)
    }

    pub(crate) fn append(&mut self, event: Object) -> Object {
        let id = event_id_of(&event);
        self.log.push(Listed {
            id,
            event: event.clone(),
        });
        event
    }

    pub(crate) fn log(&self) -> &[Listed] {
        &self.log
    }

    /// The newest event's ID; nothing in an empty room.
    pub(crate) fn head(&self) -> Vec<EventId> {
        self.log.last().map(|listed| listed.id.clone()).into_iter().collect()
    }

    /// LM #int-auth-selection for an event at the end of the room.
    pub(crate) fn auth_events(&self, event: &Object) -> Vec<EventId> {
        let text = |key: &str| event.get(key).and_then(Json::as_str).unwrap_or_default();
        let state = self.state_at(self.log.len());
        let keys = selection(
            text("type"),
            text("sender"),
            event.get("state_key").and_then(Json::as_str),
            membership(event),
        );
        keys.into_iter()
            .filter_map(|key| state.get(&key))
            .map(|&at| self.log[at].id.clone())
            .collect()
    }

    pub(crate) fn find(&self, id: &str) -> Option<usize> {
        self.log.iter().position(|listed| listed.id.as_str() == id)
    }

    /// The state before the event at this place.
    pub(crate) fn state_before(&self, at: usize) -> Vec<&Listed> {
        self.state_at(at).into_values().map(|at| &self.log[at]).collect()
    }

    /// Everything the events lean on, themselves not included unless something else leans on them.
    pub(crate) fn auth_chain(&self, events: &[&Listed]) -> Vec<&Listed> {
        let mut chain = BTreeSet::new();
        let mut to_follow: Vec<&Listed> = events.to_vec();
        while let Some(listed) = to_follow.pop() {
            let auth = listed
                .event
                .get("auth_events")
                .and_then(Json::as_array)
                .unwrap_or_default();
            for at in auth.iter().filter_map(Json::as_str).filter_map(|id| self.find(id)) {
                if chain.insert(at) {
                    to_follow.push(&self.log[at]);
                }
            }
        }
        chain.into_iter().map(|at| &self.log[at]).collect()
    }

    /// What E14 answers with this join, which comes after the first `at` events.
    pub(crate) fn welcome(&self, at: usize, join: &Object) -> Object {
        let state = self.state_before(at);
        let chain = self.auth_chain(&state);
        object! { "state" => events(&state), "auth_chain" => events(&chain), "event" => join.clone() }
    }

    /// The state's four-field form.
    pub(crate) fn stripped(&self) -> Vec<Json> {
        let state = self.state_before(self.log.len());
        let shown = state.iter().filter(|listed| {
            let event_type = listed.event.get("type").and_then(Json::as_str);
            event_type != Some("m.room.member")
        });
        shown.map(|listed| strip(&listed.event).into()).collect()
    }

    /// At most `limit` events up to the one with this ID, oldest first.
    pub(crate) fn backfill(&self, id: &str, limit: usize) -> Option<Vec<Json>> {
        let end = self.find(id)? + 1;
        let page = &self.log[end.saturating_sub(limit)..end];
        Some(page.iter().map(|listed| listed.event.clone().into()).collect())
    }

    /// Whether `server` is owed the newest event: it was joined before it, is joined after it, or the event is about one
    /// of its users.
    pub(crate) fn is_owed_newest(&self, server: &str) -> bool {
        let of_server = |user: &str| user.split_once(':').is_some_and(|(_, name)| name == server);
        let joined = |at: usize| {
            self.state_at(at).iter().any(|((event_type, user), &at)| {
                event_type == "m.room.member" && of_server(user) && membership(&self.log[at].event) == Some("join")
            })
        };
        let concerned = self.log.last().is_some_and(|listed| {
            let state_key = listed.event.get("state_key").and_then(Json::as_str);
            membership(&listed.event).is_some() && state_key.is_some_and(of_server)
        });
        concerned || joined(self.log.len()) || joined(self.log.len().saturating_sub(1))
    }

    fn state_at(&self, end: usize) -> State {
        let mut state = State::new();
        for (at, listed) in self.log.iter().take(end).enumerate() {
            let text = |key: &str| listed.event.get(key).and_then(Json::as_str);
            if let (Some(event_type), Some(state_key)) = (text("type"), text("state_key")) {
                state.insert((event_type.to_owned(), state_key.to_owned()), at);
            }
        }
        state
    }
}

/// Which state an event's `auth_events` are: LM #int-auth-selection.
pub(crate) fn selection(
    event_type: &str,
    sender: &str,
    state_key: Option<&str>,
    membership: Option<&str>,
) -> BTreeSet<(String, String)> {
    let key = |event_type: &str, state_key: &str| (event_type.to_owned(), state_key.to_owned());
    if event_type == "m.room.create" {
        return BTreeSet::new();
    }
    let mut keys = BTreeSet::from([
        key("m.room.create", ""),
        key("m.room.power_levels", ""),
        key("m.room.member", sender),
    ]);
    if event_type == "m.room.member" {
        keys.extend(state_key.map(|target| key("m.room.member", target)));
        if matches!(membership, Some("join" | "invite")) {
            keys.insert(key("m.room.join_rules", ""));
        }
    }
    keys
}

/// The membership an event states, if it is a member event.
pub(crate) fn membership(event: &Object) -> Option<&str> {
    if event.get("type").and_then(Json::as_str) != Some("m.room.member") {
        return None;
    }
    event.get("content")?.as_object()?.get("membership")?.as_str()
}

/// The events themselves.
pub(crate) fn events(listed: &[&Listed]) -> Json {
    listed.iter().map(|listed| Json::from(listed.event.clone())).collect()
}

fn strip(event: &Object) -> Object {
    ["sender", "type", "state_key", "content"]
        .into_iter()
        .filter_map(|key| Some((key, event.get(key)?.clone())))
        .collect()
}
