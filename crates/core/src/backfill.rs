//! Putting fetched history in order (LM #int-transport-send-events, backfill): closing the gap between a participant's head and an
//! event it was sent, and growing its log backwards past the point where it joined.
//!
//! Order is taken from `prev_events` alone, so it does not matter in which order a server returns events, or whether it adds
//! others. Nothing here is authorized: each event of a gap still goes through [`RoomView::decide`](crate::RoomView::decide).

use std::collections::BTreeMap;

use nabe_types::{EventId, LogPosition, UnixMillis};

use crate::{Entry, EntryBody};

/// One fetched event and its place in the chain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Link<T> {
    /// The event's ID.
    pub event_id: EventId,
    /// The event before it; `None` for `m.room.create`.
    pub prev: Option<EventId>,
    /// What to do with it.
    pub item: T,
}

/// Whether fetched events reach from `missing` back to the head.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Gap<T> {
    /// They do: these come after the head, oldest first.
    Closed(Vec<T>),
    /// Not yet: `older` is the next one missing. `found` are those after it, oldest first; keep them.
    Open {
        /// The event to fetch backwards from. If it stands in our log, though not at its head, the hub has forked the room, or
        /// the event that started this was an old one.
        older: EventId,
        /// What connects to `missing` so far.
        found: Vec<Link<T>>,
    },
    /// The chain reaches the beginning of the room without passing our head: another room history than ours.
    Unrelated,
}

/// Follows the chain from `missing` back to `head` through `links`, which may be in any order.
#[must_use]
pub fn close_gap<T>(head: &EventId, missing: &EventId, links: Vec<Link<T>>) -> Gap<T> {
    let (mut found, end) = follow(missing, links, Some(head));
    found.reverse();
    match end {
        Some(end) if end == *head => Gap::Closed(found.into_iter().map(|link| link.item).collect()),
        Some(older) => Gap::Open { older, found },
        None => Gap::Unrelated,
    }
}

/// Log entries for the events that lie directly before a log's first entry, ascending, the newest at `first` − 1. `prev_of_first` is
/// the event that first entry names in `prev_events`. What does not connect is left out.
#[must_use]
pub fn prepend(
    first: LogPosition,
    prev_of_first: &EventId,
    links: Vec<Link<EntryBody>>,
    received_at: UnixMillis,
) -> Vec<Entry> {
    let (found, _) = follow(prev_of_first, links, None);
    let mut position = first;
    let mut entries: Vec<_> = found
        .into_iter()
        .map(|link| {
            position = position.previous();
            let lpdu_id = match &link.item {
                EntryBody::Event(pdu) => pdu.lpdu_id(),
                EntryBody::Hole { .. } => None,
            };
            Entry {
                position,
                lpdu_id,
                body: link.item,
                soft_failed: false,
                received_at,
            }
        })
        .collect();
    entries.reverse();
    entries
}

/// The chain from `start` backwards, newest first, and the ID it stopped at for want of an event (or at `stop`); `None` at the
/// room's beginning.
fn follow<T>(start: &EventId, links: Vec<Link<T>>, stop: Option<&EventId>) -> (Vec<Link<T>>, Option<EventId>) {
    let mut by_id: BTreeMap<EventId, Link<T>> = links.into_iter().map(|link| (link.event_id.clone(), link)).collect();
    let mut found = Vec::new();
    let mut next = Some(start.clone());
    while let Some(id) = next {
        if stop == Some(&id) {
            return (found, Some(id));
        }
        // Removing what is visited ends the walk even if a peer invents a circle.
        let Some(link) = by_id.remove(&id) else {
            return (found, Some(id));
        };
        next = link.prev.clone();
        found.push(link);
    }
    (found, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> EventId {
        EventId::from_hash([n; 32])
    }

    fn link(n: u8) -> Link<u8> {
        Link {
            event_id: id(n),
            prev: (n > 0).then(|| id(n - 1)),
            item: n,
        }
    }

    #[test]
    fn a_gap_closes_whatever_the_order() {
        let links = vec![link(7), link(5), link(9), link(6), link(2)];
        assert_eq!(close_gap(&id(4), &id(7), links), Gap::Closed(vec![5, 6, 7]));
    }

    #[test]
    fn nothing_missing_is_a_closed_gap() {
        assert_eq!(close_gap::<u8>(&id(4), &id(4), vec![]), Gap::Closed(vec![]));
    }

    #[test]
    fn an_open_gap_names_the_next_missing_event() {
        let links = vec![link(7), link(6)];
        assert_eq!(
            close_gap(&id(2), &id(7), links),
            Gap::Open {
                older: id(5),
                found: vec![link(6), link(7)]
            }
        );
    }

    #[test]
    fn a_chain_that_misses_our_head_is_unrelated() {
        let links = vec![link(0), link(1), link(2)];
        assert_eq!(close_gap(&id(9), &id(2), links), Gap::Unrelated);
    }

    #[test]
    fn a_circle_of_events_ends() {
        let circle = vec![
            Link {
                event_id: id(1),
                prev: Some(id(2)),
                item: 1,
            },
            Link {
                event_id: id(2),
                prev: Some(id(1)),
                item: 2,
            },
        ];
        assert!(matches!(close_gap(&id(9), &id(1), circle), Gap::Open { .. }));
    }

    #[test]
    fn history_grows_downwards_from_the_first_entry() {
        let hole = |n: u8| Link {
            event_id: id(n),
            prev: (n > 0).then(|| id(n - 1)),
            item: EntryBody::Hole {
                event_id: id(n),
                reason: crate::HoleReason::Malformed,
            },
        };
        let entries = prepend(LogPosition(1), &id(7), vec![hole(6), hole(7), hole(4)], UnixMillis(3));
        let places: Vec<_> = entries
            .iter()
            .map(|entry| (entry.position, entry.event_id().clone()))
            .collect();
        assert_eq!(places, vec![(LogPosition(-1), id(6)), (LogPosition(0), id(7))]);
    }
}
