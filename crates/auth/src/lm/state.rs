//! What the rules need to know of a room: its current state. LM #int-state-events.

use std::collections::BTreeMap;

use nabe_event::Pdu;

/// The state of a room before the event being judged.
pub trait RoomState {
    /// The current state event of this type and key.
    fn get(&self, event_type: &str, state_key: &str) -> Option<&Pdu>;
}

impl<S: RoomState + ?Sized> RoomState for &S {
    fn get(&self, event_type: &str, state_key: &str) -> Option<&Pdu> {
        (**self).get(event_type, state_key)
    }
}

/// Room state held in memory: type, then state key, then event.
#[derive(Clone, Debug, Default)]
pub struct StateMap(BTreeMap<String, BTreeMap<String, Pdu>>);

impl StateMap {
    /// Makes a state event current; any other event changes nothing.
    pub fn apply(&mut self, event: &Pdu) {
        if let Some(state_key) = event.state_key() {
            let of_type = self.0.entry(event.event_type().to_owned()).or_default();
            of_type.insert(state_key.to_owned(), event.clone());
        }
    }

    /// Every current state event, by type and then state key.
    pub fn iter(&self) -> impl Iterator<Item = &Pdu> {
        self.0.values().flat_map(BTreeMap::values)
    }
}

impl RoomState for StateMap {
    fn get(&self, event_type: &str, state_key: &str) -> Option<&Pdu> {
        self.0.get(event_type)?.get(state_key)
    }
}

impl<'a> FromIterator<&'a Pdu> for StateMap {
    fn from_iter<T: IntoIterator<Item = &'a Pdu>>(events: T) -> Self {
        let mut state = Self::default();
        events.into_iter().for_each(|event| state.apply(event));
        state
    }
}
