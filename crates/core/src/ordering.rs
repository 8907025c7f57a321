//! State in an order in which it could have been sent.
//!
//! LM #int-api-send-join leaves the order of `state` open. Peers that append what they are given one by one, each event
//! authorized against those before it, can only use an order in which nothing comes before what authorizes it.

use std::collections::{BTreeMap, BTreeSet};

use nabe_event::Pdu;
use nabe_types::EventId;

/// Puts every event after those of its `auth_events` that are among `events`; otherwise the oldest come first.
#[must_use]
pub fn after_their_auth_events(mut events: Vec<Pdu>) -> Vec<Pdu> {
    events.sort_by(|a, b| {
        let key = |event: &Pdu| (event.event_type() != "m.room.create", event.origin_server_ts());
        key(a).cmp(&key(b)).then_with(|| a.event_id().cmp(b.event_id()))
    });
    let places: BTreeMap<&EventId, usize> = events
        .iter()
        .zip(0..)
        .map(|(event, place)| (event.event_id(), place))
        .collect();
    let mut order = Vec::with_capacity(events.len());
    let mut placed = BTreeSet::new();
    for start in 0..events.len() {
        // Depth first without recursion: a chain of authorization can be as long as the list.
        let mut stack = vec![(start, false)];
        while let Some((place, authorized)) = stack.pop() {
            if authorized {
                order.push(place);
            } else if placed.insert(place) {
                stack.push((place, true));
                let before = events[place].auth_events().iter().rev().filter_map(|id| places.get(id));
                stack.extend(before.map(|&place| (place, false)));
            }
        }
    }
    let mut events: Vec<Option<Pdu>> = events.into_iter().map(Some).collect();
    order.into_iter().filter_map(|place| events[place].take()).collect()
}
