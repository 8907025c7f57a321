//! Events that wait for keys or for a join.

use bytes::Bytes;
use nabe_types::EventId;

use super::fixture::{at, commit, event_id, room_id, server};
use crate::{ParkReason, ParkedEvent, Store, Write};

fn event(room: &str, id: u8, next_try: u64) -> ParkedEvent {
    ParkedEvent {
        room: room_id(room),
        event_id: event_id(id),
        origin: server("b.example"),
        bytes: Bytes::from_static(b"{}"),
        reason: ParkReason::KeysUnavailable,
        received_at: at(5),
        next_try: at(next_try),
        attempts: 0,
    }
}

fn park(parked: ParkedEvent) -> Write {
    Write::Park { parked }
}

fn ids(events: Vec<ParkedEvent>) -> Vec<EventId> {
    events.into_iter().map(|parked| parked.event_id).collect()
}

/// Due events of all rooms, by when they became due; of a room, by when they came.
pub async fn due_events_come_longest_due_first(store: &dyn Store) {
    let waiting = ParkedEvent {
        reason: ParkReason::JoinPending,
        attempts: 4,
        ..event("b", 4, 10)
    };
    let parked = [event("a", 1, 30), event("a", 2, 20), event("a", 3, 20), waiting.clone()];
    commit(store, parked.into_iter().map(park)).await.unwrap();
    assert!(store.parked_due(at(9), 9).await.unwrap().is_empty());
    assert_eq!(ids(store.parked_due(at(20), 9).await.unwrap()), [4, 2, 3].map(event_id));
    assert_eq!(ids(store.parked_due(at(30), 2).await.unwrap()), [4, 2].map(event_id));
    assert_eq!(ids(store.parked(&room_id("a")).await.unwrap()), [1, 2, 3].map(event_id));
    assert_eq!(store.parked(&room_id("b")).await.unwrap(), vec![waiting]);
    assert_eq!(store.parked_ids(&room_id("a")).await.unwrap(), [1, 2, 3].map(event_id));
    assert_eq!(store.parked_ids(&room_id("c")).await.unwrap(), Vec::<EventId>::new());
}

/// A failed retry is recorded under the event's old place in line.
pub async fn parking_again_keeps_the_place(store: &dyn Store) {
    commit(store, [park(event("a", 1, 20)), park(event("a", 2, 20))])
        .await
        .unwrap();
    let retried = ParkedEvent {
        attempts: 1,
        ..event("a", 1, 90)
    };
    commit(store, [park(retried.clone())]).await.unwrap();
    assert_eq!(
        store.parked(&room_id("a")).await.unwrap(),
        vec![retried, event("a", 2, 20)]
    );
    assert_eq!(ids(store.parked_due(at(20), 9).await.unwrap()), vec![event_id(2)]);
}

/// An event that is sent again while it waits expires when it would have.
pub async fn parking_again_does_not_start_anew(store: &dyn Store) {
    let first = ParkedEvent {
        attempts: 3,
        ..event("a", 1, 20)
    };
    let again = ParkedEvent {
        received_at: at(50),
        ..event("a", 1, 60)
    };
    commit(store, [park(first), park(again)]).await.unwrap();
    let expected = ParkedEvent {
        attempts: 3,
        ..event("a", 1, 60)
    };
    assert_eq!(store.parked(&room_id("a")).await.unwrap(), vec![expected]);
}

/// Unparking twice is fine.
pub async fn unparked_event_is_gone(store: &dyn Store) {
    commit(store, [park(event("a", 1, 20)), park(event("b", 1, 20))])
        .await
        .unwrap();
    let unpark = || Write::Unpark {
        room: room_id("a"),
        event_id: event_id(1),
    };
    commit(store, [unpark(), unpark()]).await.unwrap();
    assert_eq!(store.parked(&room_id("a")).await.unwrap(), vec![]);
    assert_eq!(store.parked(&room_id("b")).await.unwrap(), vec![event("b", 1, 20)]);
}
