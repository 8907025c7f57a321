//! Rooms, and what is appended to their logs and found in them.

use nabe_core::{Entry, EntryBody, HoleReason};
use nabe_types::RoomId;

use super::fixture::{RoomLog, at, checkpoint, commit, conflict, event_id, pdus, pos, room_id, server};
use crate::{Between, DeliveryRange, EntryBytes, KnownLpdu, Order, OutboundRequest, Store, StoreError, Write};

pub(super) async fn all(store: &dyn Store, room: &RoomId) -> Vec<Entry> {
    store.entries(room, Between::ALL, 1000, Order::Ascending).await.unwrap()
}

/// A created room is there, empty, and cannot be created again.
pub async fn room_is_created_once(store: &dyn Store) {
    let log = RoomLog::hub("a");
    assert_eq!(store.head(log.id()).await.unwrap(), None);
    assert_eq!(store.first(log.id()).await.unwrap(), None);
    assert!(store.load(log.id()).await.unwrap().is_none());
    commit(store, [log.create()]).await.unwrap();
    assert_eq!(store.head(log.id()).await.unwrap(), Some(pos(0)));
    assert_eq!(store.first(log.id()).await.unwrap(), Some(pos(1)));
    let loaded = store.load(log.id()).await.unwrap().unwrap();
    assert_eq!(loaded.meta, *log.meta());
    assert_eq!(loaded.checkpoint, None);
    assert_eq!(loaded.tail, vec![]);
    assert_eq!(store.state_before(log.id(), pos(1)).await.unwrap(), Some(vec![]));
    assert_eq!(commit(store, [log.create()]).await, conflict(log.id()));
}

/// A participant's room starts from its snapshot.
pub async fn snapshot_is_loaded_back(store: &dyn Store) {
    let mut log = RoomLog::participant("a");
    let state = vec![log.outlier("m.room.create", ""), log.outlier("m.room.name", "")];
    let chain = log.outlier("m.room.member", "@old:hub.example");
    commit(store, [log.create_with(state.clone(), vec![chain.clone()])])
        .await
        .unwrap();
    let join = log.member("@bob:b.example", "join");
    commit(store, [log.append(vec![join.clone()], at(5))]).await.unwrap();
    let loaded = store.load(log.id()).await.unwrap().unwrap();
    assert_eq!(loaded.meta, *log.meta());
    assert_eq!(loaded.checkpoint, Some(checkpoint(0, None, state.clone())));
    assert_eq!(loaded.tail, vec![join]);
    let found = store
        .events(log.id(), &[chain.event_id().clone(), state[1].event_id().clone()])
        .await
        .unwrap();
    assert_eq!(found, vec![chain, state[1].clone()]);
}

/// Appended entries come back as they were, in either order and within bounds.
pub async fn append_grows_the_log(store: &dyn Store) {
    let mut log = RoomLog::hub("a");
    let entries = vec![log.creation(), log.message("one"), log.topic("t"), log.message("two")];
    commit(store, [log.create(), log.append(entries[..2].to_vec(), at(5))])
        .await
        .unwrap();
    commit(store, [log.append(entries[2..].to_vec(), at(6))]).await.unwrap();
    assert_eq!(store.head(log.id()).await.unwrap(), Some(pos(4)));
    assert_eq!(store.first(log.id()).await.unwrap(), Some(pos(1)));
    assert_eq!(all(store, log.id()).await, entries);
    let last = store
        .entries(log.id(), Between::ALL, 2, Order::Descending)
        .await
        .unwrap();
    assert_eq!(last, vec![entries[3].clone(), entries[2].clone()]);
    let middle = Between {
        after: pos(1),
        through: pos(3),
    };
    assert_eq!(
        store.entries(log.id(), middle, 9, Order::Ascending).await.unwrap(),
        entries[1..3]
    );
    assert_eq!(
        store.entries(log.id(), middle, 1, Order::Ascending).await.unwrap(),
        entries[1..2]
    );
    let inverted = Between {
        after: pos(3),
        through: pos(1),
    };
    assert_eq!(
        store.entries(log.id(), inverted, 9, Order::Ascending).await.unwrap(),
        vec![]
    );
    assert_eq!(store.load(log.id()).await.unwrap().unwrap().tail, entries);
}

/// More entries at once than any one statement takes.
pub async fn append_in_fifties_keeps_every_entry(store: &dyn Store) {
    let mut log = RoomLog::hub("a");
    let mut entries = vec![log.creation()];
    entries.extend(log.messages(230));
    commit(store, [log.create(), log.append(entries.clone(), at(5))])
        .await
        .unwrap();
    assert_eq!(all(store, log.id()).await, entries);
    let lpdus: Vec<_> = entries.iter().filter_map(|entry| entry.lpdu_id.clone()).collect();
    assert_eq!(store.entry_by_lpdu(log.id(), &lpdus).await.unwrap().len(), 230);
    let ids: Vec<_> = entries.iter().map(|entry| entry.event_id().clone()).collect();
    assert_eq!(store.events(log.id(), &ids).await.unwrap(), pdus(&entries));
}

/// LPDUs of many rooms are looked for at once, each in its own room.
pub async fn known_lpdus_of_many_rooms_are_found(store: &dyn Store) {
    let (mut one, mut two) = (RoomLog::hub("a"), RoomLog::hub("b"));
    let mut known = Vec::new();
    for log in [&mut one, &mut two] {
        let entries = vec![log.creation(), log.message("m"), log.message("n")];
        commit(store, [log.create(), log.append(entries.clone(), at(5))])
            .await
            .unwrap();
        known.extend(entries[1..].iter().map(|entry| {
            let known = KnownLpdu {
                lpdu_id: entry.lpdu_id.clone().unwrap(),
                event_id: entry.event_id().clone(),
                position: entry.position,
            };
            (log.id().clone(), known)
        }));
    }
    let asked = |n: usize| (known[n].0.clone(), known[n].1.lpdu_id.clone());
    let elsewhere = (room_id("nowhere"), known[0].1.lpdu_id.clone());
    let unknown = (one.id().clone(), event_id(9));
    let mut found = store
        .entries_by_lpdu(&[asked(3), elsewhere, asked(0), unknown, asked(3)])
        .await
        .unwrap();
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert_eq!(found, vec![known[0].clone(), known[3].clone()]);
    assert_eq!(store.entries_by_lpdu(&[]).await.unwrap(), vec![]);
}

/// Stretches of many rooms are read at once, in the order they are asked for.
pub async fn bytes_come_stretch_by_stretch(store: &dyn Store) {
    let (mut one, mut two) = (RoomLog::hub("b"), RoomLog::participant("a"));
    let (first, second) = (
        vec![one.creation(), one.message("one"), one.message("two")],
        vec![
            two.member("@bob:b.example", "join"),
            two.hole(HoleReason::Malformed),
            two.message("three"),
        ],
    );
    commit(
        store,
        [
            one.create(),
            two.create_with(vec![], vec![]),
            one.append(first.clone(), at(5)),
            two.append(second.clone(), at(5)),
        ],
    )
    .await
    .unwrap();
    let between = |after: i64, through: i64| Between {
        after: pos(after),
        through: pos(through),
    };
    let asked = [
        (one.id().clone(), between(1, 2)),
        (two.id().clone(), Between::ALL),
        (room_id("nowhere"), Between::ALL),
        (one.id().clone(), between(3, 1)),
        (one.id().clone(), Between::after(pos(1))),
    ];
    let expected: Vec<_> = [
        (0, &first[1]),
        (1, &second[0]),
        (1, &second[1]),
        (1, &second[2]),
        (4, &first[1]),
        (4, &first[2]),
    ]
    .map(|(stretch, entry)| EntryBytes {
        stretch,
        position: entry.position,
        body: entry.pdu().map(|pdu| pdu.bytes().to_vec().into()),
    })
    .into();
    assert_eq!(store.entry_bytes(&asked).await.unwrap(), expected);
    assert_eq!(expected[2].body, None, "a hole has none");
    assert_eq!(store.entry_bytes(&[]).await.unwrap(), vec![]);
}

/// A hole is an entry without an event.
pub async fn hole_keeps_its_place_and_reason(store: &dyn Store) {
    let mut log = RoomLog::participant("a");
    let entries = vec![
        log.member("@bob:b.example", "join"),
        log.hole(HoleReason::Rejected { rule: "5.2.3".into() }),
        log.hole(HoleReason::Malformed),
        log.message("after"),
    ];
    commit(
        store,
        [log.create_with(vec![], vec![]), log.append(entries.clone(), at(5))],
    )
    .await
    .unwrap();
    assert_eq!(all(store, log.id()).await, entries);
    let hole = entries[1].event_id();
    assert_eq!(
        store.entry(hole).await.unwrap(),
        Some((log.id().clone(), entries[1].clone()))
    );
    assert_eq!(
        store.events(log.id(), std::slice::from_ref(hole)).await.unwrap(),
        vec![]
    );
}

/// A snapshot may hold what we could not accept in its time; the log stays as it was.
pub async fn hole_may_be_filled_by_a_snapshot(store: &dyn Store) {
    let mut log = RoomLog::participant("a");
    let first = log.member("@bob:b.example", "join");
    let create = log.outlier("m.room.create", "");
    let mut hole = log.hole(HoleReason::KeysUnavailable);
    if let EntryBody::Hole { event_id, .. } = &mut hole.body {
        *event_id = create.event_id().clone();
    }
    let entries = vec![first, hole.clone()];
    let rebase = Write::Rebase {
        room: log.id().clone(),
        expected: pos(2),
        checkpoint: checkpoint(3, None, vec![create.clone()]),
        outliers: vec![],
    };
    let create_room = log.create_with(vec![], vec![]);
    commit(store, [create_room, log.append(entries.clone(), at(5)), rebase])
        .await
        .unwrap();
    assert_eq!(
        store.load(log.id()).await.unwrap().unwrap().checkpoint,
        Some(checkpoint(3, None, vec![create.clone()]))
    );
    assert_eq!(all(store, log.id()).await, entries);
    assert_eq!(
        store.entry(create.event_id()).await.unwrap(),
        Some((log.id().clone(), hole))
    );
    assert_eq!(
        store.events(log.id(), &[create.event_id().clone()]).await.unwrap(),
        vec![create.clone()]
    );
    assert_eq!(
        store.state_before(log.id(), pos(3)).await.unwrap(),
        Some(pdus(&entries[..1]))
    );
    commit(
        store,
        [Write::Prune {
            room: log.id().clone(),
            below: pos(3),
        }],
    )
    .await
    .unwrap();
    assert_eq!(store.entry(create.event_id()).await.unwrap(), None);
    assert_eq!(
        store.events(log.id(), &[create.event_id().clone()]).await.unwrap(),
        vec![create]
    );
}

/// Whoever decided on an old head decides again.
pub async fn append_with_moved_head_conflicts(store: &dyn Store) {
    let mut log = RoomLog::hub("a");
    let first = log.creation();
    let mut rival = log.clone();
    commit(store, [log.create(), log.append(vec![first.clone()], at(5))])
        .await
        .unwrap();
    let second = log.message("mine");
    commit(store, [log.append(vec![second.clone()], at(5))]).await.unwrap();
    assert_eq!(
        commit(store, [rival.clone().append(vec![rival.message("yours")], at(5))]).await,
        conflict(log.id())
    );
    assert_eq!(all(store, log.id()).await, vec![first, second]);
}

/// Positions follow each other.
pub async fn append_with_a_gap_conflicts(store: &dyn Store) {
    let mut log = RoomLog::hub("a");
    let first = log.creation();
    commit(store, [log.create(), log.append(vec![first.clone()], at(5))])
        .await
        .unwrap();
    let _lost = log.message("lost");
    let later = log.message("later");
    let room = log.id().clone();
    let write = Write::Append {
        room,
        expected: pos(1),
        entries: vec![later],
        followers: vec![],
        now: at(5),
    };
    assert_eq!(commit(store, [write]).await, conflict(log.id()));
    assert_eq!(all(store, log.id()).await, vec![first]);
}

/// An event is in a log once.
pub async fn append_with_known_event_conflicts(store: &dyn Store) {
    let mut log = RoomLog::hub("a");
    let first = log.creation();
    commit(store, [log.create(), log.append(vec![first.clone()], at(5))])
        .await
        .unwrap();
    let again = Entry {
        position: pos(2),
        ..first.clone()
    };
    assert_eq!(
        commit(store, [log.append(vec![again], at(5))]).await,
        conflict(log.id())
    );
    let twice = log.message("twice");
    let twin = Entry {
        position: pos(3),
        lpdu_id: None,
        ..twice.clone()
    };
    assert_eq!(
        commit(store, [log.append(vec![twice, twin], at(5))]).await,
        conflict(log.id())
    );
    assert_eq!(all(store, log.id()).await, vec![first]);
}

/// An LPDU becomes one event.
pub async fn append_with_known_lpdu_conflicts(store: &dyn Store) {
    let mut log = RoomLog::hub("a");
    let entries = vec![log.creation(), log.message("one")];
    commit(store, [log.create(), log.append(entries.clone(), at(5))])
        .await
        .unwrap();
    let again = Entry {
        lpdu_id: entries[1].lpdu_id.clone(),
        ..log.message("other bytes, same LPDU")
    };
    assert_eq!(
        commit(store, [log.append(vec![again], at(5))]).await,
        conflict(log.id())
    );
    assert_eq!(all(store, log.id()).await, entries);
    let mut other = RoomLog::hub("b");
    let elsewhere = Entry {
        lpdu_id: entries[1].lpdu_id.clone(),
        ..other.creation()
    };
    commit(store, [other.create(), other.append(vec![elsewhere], at(5))])
        .await
        .unwrap();
}

/// A hub that takes an LPDU twice makes two events of it. A participant goes on: the LPDU's ID stays with the first one it had,
/// whether the other is newer or comes by backfill.
pub async fn participant_keeps_two_events_of_one_lpdu(store: &dyn Store) {
    let mut log = RoomLog::participant("a");
    let bare = |entry: &Entry| Entry {
        lpdu_id: None,
        ..entry.clone()
    };
    commit(store, [log.create_with(vec![], vec![])]).await.unwrap();
    let first = log.message("first copy");
    let again = |entry: Entry| Entry {
        lpdu_id: first.lpdu_id.clone(),
        ..entry
    };
    let (second, third) = (again(log.message("second copy")), again(log.message("third copy")));
    let older = Entry {
        position: pos(0),
        ..again(log.message("backfilled copy"))
    };
    commit(store, [log.append(vec![first.clone(), second.clone()], at(5))])
        .await
        .unwrap();
    commit(store, [log.append(vec![third.clone()], at(5))]).await.unwrap();
    let prepend = Write::Prepend {
        room: log.id().clone(),
        expected_first: pos(1),
        entries: vec![older.clone()],
    };
    commit(store, [prepend]).await.unwrap();
    assert_eq!(
        all(store, log.id()).await,
        vec![bare(&older), first.clone(), bare(&second), bare(&third)]
    );
    let known = store
        .entry_by_lpdu(log.id(), &[first.lpdu_id.clone().unwrap()])
        .await
        .unwrap();
    let places: Vec<_> = known.iter().map(|known| known.position).collect();
    assert_eq!(places, [pos(1)]);
    let twice = Write::Append {
        room: log.id().clone(),
        expected: pos(3),
        entries: vec![Entry {
            position: pos(4),
            ..second
        }],
        followers: vec![],
        now: at(5),
    };
    assert_eq!(commit(store, [twice]).await, conflict(log.id()));
}

/// Only existing rooms are written to.
pub async fn unknown_room_is_refused(store: &dyn Store) {
    let mut log = RoomLog::hub("a");
    let room = log.id().clone();
    let entry = log.creation();
    let request = OutboundRequest {
        destination: server("b.example"),
        txn_id: "1".to_owned(),
        ranges: vec![DeliveryRange {
            room: room.clone(),
            interval_from: pos(1),
            after: pos(0),
            through: pos(1),
        }],
        direct: vec![],
        body_sha256: [0; 32],
        frozen_at: at(5),
    };
    for write in [
        log.append(vec![entry.clone()], at(5)),
        Write::Prepend {
            room: room.clone(),
            expected_first: pos(2),
            entries: vec![entry],
        },
        Write::Rebase {
            room: room.clone(),
            expected: pos(0),
            checkpoint: checkpoint(1, None, vec![]),
            outliers: vec![],
        },
        Write::PutCheckpoint {
            room: room.clone(),
            checkpoint: checkpoint(0, None, vec![]),
        },
        Write::Prune {
            room: room.clone(),
            below: pos(1),
        },
        Write::Freeze { request },
    ] {
        assert_eq!(
            commit(store, [write]).await,
            Err(StoreError::UnknownRoom { room: room.clone() })
        );
    }
    assert_eq!(all(store, &room).await, vec![]);
    assert_eq!(store.state_before(&room, pos(1)).await.unwrap(), None);
    assert_eq!(store.followers(&room).await.unwrap(), vec![]);
}

/// Lookup by event ID over all rooms.
pub async fn entry_is_found_by_event_id(store: &dyn Store) {
    let (mut one, mut two) = (RoomLog::hub("a"), RoomLog::hub("b"));
    let (first, second) = (one.creation(), two.creation());
    commit(store, [one.create(), one.append(vec![first.clone()], at(5))])
        .await
        .unwrap();
    commit(store, [two.create(), two.append(vec![second.clone()], at(5))])
        .await
        .unwrap();
    assert_eq!(
        store.entry(second.event_id()).await.unwrap(),
        Some((two.id().clone(), second))
    );
    assert_eq!(
        store.entry(first.event_id()).await.unwrap(),
        Some((one.id().clone(), first))
    );
    assert_eq!(store.entry(&event_id(9)).await.unwrap(), None);
}

/// A hole may bear the ID of an event in another room; the event is what is found.
pub async fn event_in_another_room_does_not_collide(store: &dyn Store) {
    let (mut one, mut two) = (RoomLog::participant("a"), RoomLog::hub("b"));
    let real = two.creation();
    let mut hole = one.hole(HoleReason::Malformed);
    if let EntryBody::Hole { event_id, .. } = &mut hole.body {
        *event_id = real.event_id().clone();
    }
    commit(store, [one.create(), one.append(vec![hole.clone()], at(5))])
        .await
        .unwrap();
    commit(store, [two.create(), two.append(vec![real.clone()], at(5))])
        .await
        .unwrap();
    assert_eq!(
        store.entry(real.event_id()).await.unwrap(),
        Some((two.id().clone(), real))
    );
    assert_eq!(all(store, one.id()).await, vec![hole]);
}

/// Which LPDUs were seen.
pub async fn known_lpdus_are_found(store: &dyn Store) {
    let mut log = RoomLog::hub("a");
    let entries = vec![log.creation(), log.message("one"), log.message("two")];
    commit(store, [log.create(), log.append(entries.clone(), at(5))])
        .await
        .unwrap();
    let id = |n: usize| entries[n].lpdu_id.clone().unwrap();
    let mut known = store
        .entry_by_lpdu(log.id(), &[id(2), event_id(9), id(1), id(2)])
        .await
        .unwrap();
    known.sort_by_key(|known| known.position);
    let expected = |n: usize| KnownLpdu {
        lpdu_id: id(n),
        event_id: entries[n].event_id().clone(),
        position: entries[n].position,
    };
    assert_eq!(known, vec![expected(1), expected(2)]);
    assert_eq!(store.entry_by_lpdu(&room_id("b"), &[id(1)]).await.unwrap(), vec![]);
    assert_eq!(store.entry_by_lpdu(log.id(), &[]).await.unwrap(), vec![]);
}

/// Every room is in the list.
pub async fn rooms_are_listed(store: &dyn Store) {
    let mut one = RoomLog::hub("a");
    let two = RoomLog::participant("b");
    let entry = one.creation();
    commit(
        store,
        [
            two.create_with(vec![], vec![]),
            one.create(),
            one.append(vec![entry], at(5)),
        ],
    )
    .await
    .unwrap();
    let rooms = store.rooms().await.unwrap();
    let rooms: Vec<_> = rooms.iter().map(|room| (&room.meta, room.head, room.first)).collect();
    assert_eq!(rooms, vec![(one.meta(), pos(1), pos(1)), (two.meta(), pos(0), pos(1))]);
}
