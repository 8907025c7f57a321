//! A room's state: the newest state event of each type and state key (LM #int-state-events), and who has users in it.

use std::collections::BTreeMap;

use nabe_auth::lm::{Membership, RoomState, membership_of};
use nabe_event::Pdu;
use nabe_types::{ServerName, UserId};

/// The newest state event of each type and state key.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct State {
    events: BTreeMap<Box<str>, BTreeMap<Box<str>, Pdu>>,
    /// How many joined users each server has; no zeros.
    joined: BTreeMap<ServerName, usize>,
    bytes: usize,
}

impl State {
    /// The state after these events, oldest first. Events that are no state events are passed over.
    pub fn from_events(events: impl IntoIterator<Item = Pdu>) -> Self {
        let mut state = Self::default();
        for event in events {
            state.insert(event);
        }
        state
    }

    /// Takes one more event in; nothing happens if it is no state event.
    pub fn insert(&mut self, event: Pdu) {
        let Some(state_key) = event.state_key().map(Box::<str>::from) else {
            return;
        };
        let (is_member, joins) = (event.event_type() == MEMBER, event.membership() == Some(JOIN));
        self.bytes += footprint(&event);
        let of_type = self.events.entry(event.event_type().into()).or_default();
        let replaced = of_type.insert(state_key.clone(), event);
        if let Some(replaced) = &replaced {
            self.bytes -= footprint(replaced);
        }
        if is_member && let Ok(user) = UserId::parse(&state_key) {
            let joined_before = replaced.is_some_and(|event| event.membership() == Some(JOIN));
            self.count(user.server_name(), joined_before, joins);
        }
    }

    /// Every event, in ascending order of type, then state key.
    pub fn iter(&self) -> impl Iterator<Item = &Pdu> {
        self.events.values().flat_map(BTreeMap::values)
    }

    /// The membership events, in ascending order of user ID.
    pub fn member_events(&self) -> impl Iterator<Item = &Pdu> {
        self.events.get(MEMBER).into_iter().flat_map(BTreeMap::values)
    }

    /// Every user with a membership event and what it says, in ascending order of user ID.
    pub fn members(&self) -> impl Iterator<Item = (UserId, Membership)> {
        self.member_events().filter_map(|event| {
            let user = UserId::parse(event.state_key()?).ok()?;
            let membership = self.membership(&user);
            Some((user, membership))
        })
    }

    /// The user's membership; [`Membership::Leave`] for one the room has never heard of.
    #[must_use]
    pub fn membership(&self, user: &UserId) -> Membership {
        membership_of(self, user.as_str())
    }

    /// Servers with at least one joined user, in ascending order.
    pub fn joined_servers(&self) -> impl Iterator<Item = &ServerName> {
        self.joined.keys()
    }

    /// How many joined users the server has.
    #[must_use]
    pub fn joined_users_of(&self, server: &ServerName) -> usize {
        self.joined.get(server).copied().unwrap_or(0)
    }

    /// Whether some user of the server has this membership.
    #[must_use]
    pub fn has_user_of(&self, server: &ServerName, membership: Membership) -> bool {
        self.members()
            .any(|(user, found)| user.server_name() == server && found == membership)
    }

    /// How much memory this takes, roughly, in bytes.
    #[must_use]
    pub const fn size_bytes(&self) -> usize {
        self.bytes
    }

    fn count(&mut self, server: &ServerName, joined_before: bool, joins: bool) {
        match (joined_before, joins) {
            (false, true) => *self.joined.entry(server.clone()).or_default() += 1,
            (true, false) => {
                if let Some(count) = self.joined.get_mut(server) {
                    *count -= 1;
                    if *count == 0 {
                        self.joined.remove(server);
                    }
                }
            }
            _ => {}
        }
    }
}

impl RoomState for State {
    fn get(&self, event_type: &str, state_key: &str) -> Option<&Pdu> {
        self.events.get(event_type)?.get(state_key)
    }
}

impl FromIterator<Pdu> for State {
    fn from_iter<I: IntoIterator<Item = Pdu>>(events: I) -> Self {
        Self::from_events(events)
    }
}

/// The event's bytes, its parsed copy at about twice that, and the map entries around it.
fn footprint(event: &Pdu) -> usize {
    3 * event.bytes().len() + 512
}

pub(crate) const MEMBER: &str = "m.room.member";
pub(crate) const JOIN: &str = "join";
