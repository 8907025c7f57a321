//! Follower intervals, the outbox, requests in flight.

use bytes::Bytes;
use nabe_core::{Entry, FollowerChange};
use nabe_types::{LogPosition, ServerName};

use super::fixture::{RoomLog, at, commit, edu, event_id, pos, room_id, server, user};
use crate::{DeliveryRange, DestinationStatus, DirectItem, Follower, OutboundRequest, Store, StoreError, Write};

fn b() -> ServerName {
    server("b.example")
}

fn open(from: i64) -> FollowerChange {
    FollowerChange::Open {
        server: b(),
        from: pos(from),
    }
}

fn close(until: i64) -> FollowerChange {
    FollowerChange::Close {
        server: b(),
        until: pos(until),
    }
}

fn follower(log: &RoomLog, from: i64, until: Option<i64>, delivered: i64, dirty_since: Option<u64>) -> Follower {
    Follower {
        room: log.id().clone(),
        server: b(),
        from: pos(from),
        until: until.map(LogPosition),
        delivered: pos(delivered),
        dirty_since: dirty_since.map(at),
    }
}

fn range(log: &RoomLog, interval_from: i64, after: i64, through: i64) -> DeliveryRange {
    DeliveryRange {
        room: log.id().clone(),
        interval_from: pos(interval_from),
        after: pos(after),
        through: pos(through),
    }
}

fn request(txn_id: &str, ranges: Vec<DeliveryRange>, direct: Vec<i64>) -> OutboundRequest {
    OutboundRequest {
        destination: b(),
        txn_id: txn_id.to_owned(),
        ranges,
        direct,
        body_sha256: [3; 32],
        frozen_at: at(50),
    }
}

fn freeze(txn_id: &str, ranges: Vec<DeliveryRange>, direct: Vec<i64>) -> Write {
    Write::Freeze {
        request: request(txn_id, ranges, direct),
    }
}

fn confirm(txn_id: &str) -> Write {
    Write::Confirm {
        destination: b(),
        txn_id: txn_id.to_owned(),
    }
}

fn enqueue(destination: ServerName, item: DirectItem, now: u64) -> Write {
    Write::Enqueue {
        destination,
        item,
        limit: 10,
        now: at(now),
    }
}

/// A room with a creation and `messages`, in which b.example follows from 2.
async fn followed_room(store: &dyn Store, messages: usize, now: u64) -> RoomLog {
    let mut log = RoomLog::hub("a");
    let mut entries = vec![log.creation()];
    entries.extend(log.messages(messages));
    commit(store, [log.create(), log.append_with(entries, vec![open(2)], at(now))])
        .await
        .unwrap();
    log
}

/// An append makes clean cursors dirty and leaves dirty ones alone.
pub async fn append_marks_open_intervals_dirty(store: &dyn Store) {
    let mut log = RoomLog::hub("a");
    let first = log.creation();
    commit(
        store,
        [log.create(), log.append_with(vec![first], vec![open(2)], at(5))],
    )
    .await
    .unwrap();
    assert_eq!(
        store.followers(log.id()).await.unwrap(),
        vec![follower(&log, 2, None, 1, None)]
    );
    assert_eq!(store.dirty(&b(), 9).await.unwrap(), vec![]);
    for now in [7, 8] {
        let entry = log.message("m");
        commit(store, [log.append(vec![entry], at(now))]).await.unwrap();
    }
    let dirty = vec![follower(&log, 2, None, 1, Some(7))];
    assert_eq!(store.followers(log.id()).await.unwrap(), dirty);
    assert_eq!(store.dirty(&b(), 9).await.unwrap(), vec![range(&log, 2, 1, 3)]);
    assert_eq!(store.dirty(&server("c.example"), 9).await.unwrap(), vec![]);
}

/// An append without entries wakes nobody.
pub async fn closed_interval_is_owed_nothing_more(store: &dyn Store) {
    let mut log = followed_room(store, 1, 5).await;
    commit(store, [freeze("1", vec![range(&log, 2, 1, 2)], vec![]), confirm("1")])
        .await
        .unwrap();
    commit(store, [log.append_with(vec![], vec![], at(6))]).await.unwrap();
    assert_eq!(
        store.followers(log.id()).await.unwrap(),
        vec![follower(&log, 2, None, 2, None)]
    );
    let last = log.message("last");
    commit(store, [log.append_with(vec![last], vec![close(3)], at(7))])
        .await
        .unwrap();
    let later = log.message("later");
    commit(store, [log.append(vec![later], at(8))]).await.unwrap();
    assert_eq!(
        store.followers(log.id()).await.unwrap(),
        vec![follower(&log, 2, Some(3), 2, Some(7))]
    );
    commit(store, [freeze("2", vec![range(&log, 2, 2, 3)], vec![]), confirm("2")])
        .await
        .unwrap();
    let unseen = log.message("unseen");
    commit(store, [log.append(vec![unseen], at(9))]).await.unwrap();
    assert_eq!(
        store.followers(log.id()).await.unwrap(),
        vec![follower(&log, 2, Some(3), 3, None)]
    );
}

/// A closed interval is done at its end, not at the log's.
pub async fn delivery_of_a_closed_interval_clears_it(store: &dyn Store) {
    let mut log = followed_room(store, 2, 5).await;
    let entries = log.messages(2);
    commit(store, [log.append_with(entries, vec![close(4)], at(6))])
        .await
        .unwrap();
    commit(store, [freeze("1", vec![range(&log, 2, 1, 3)], vec![]), confirm("1")])
        .await
        .unwrap();
    assert_eq!(
        store.followers(log.id()).await.unwrap(),
        vec![follower(&log, 2, Some(4), 3, Some(5))]
    );
    commit(store, [freeze("2", vec![range(&log, 2, 3, 4)], vec![]), confirm("2")])
        .await
        .unwrap();
    assert_eq!(
        store.followers(log.id()).await.unwrap(),
        vec![follower(&log, 2, Some(4), 4, None)]
    );
}

/// One event for a server that takes no part.
pub async fn interval_of_one_event_is_owed_that_event(store: &dyn Store) {
    let mut log = RoomLog::hub("a");
    let entries = vec![log.creation(), log.member("@bob:b.example", "ban"), log.message("m")];
    let once = FollowerChange::Once {
        server: b(),
        at: pos(2),
    };
    commit(store, [log.create(), log.append_with(entries, vec![once], at(5))])
        .await
        .unwrap();
    assert_eq!(
        store.followers(log.id()).await.unwrap(),
        vec![follower(&log, 2, Some(2), 1, Some(5))]
    );
    commit(store, [freeze("1", vec![range(&log, 2, 1, 2)], vec![]), confirm("1")])
        .await
        .unwrap();
    assert_eq!(
        store.followers(log.id()).await.unwrap(),
        vec![follower(&log, 2, Some(2), 2, None)]
    );
}

/// Kick and rejoin make two intervals with a cursor each.
pub async fn server_that_returns_has_two_intervals(store: &dyn Store) {
    let mut log = followed_room(store, 1, 5).await;
    let entries = log.messages(3);
    commit(store, [log.append_with(entries, vec![close(3), open(5)], at(6))])
        .await
        .unwrap();
    let both = vec![
        follower(&log, 2, Some(3), 1, Some(5)),
        follower(&log, 5, None, 4, Some(6)),
    ];
    assert_eq!(store.followers(log.id()).await.unwrap(), both);
    let owed = vec![range(&log, 2, 1, 3), range(&log, 5, 4, 5)];
    assert_eq!(store.dirty(&b(), 9).await.unwrap(), owed);
    let ranges = vec![range(&log, 2, 1, 3), range(&log, 5, 4, 5)];
    commit(store, [freeze("1", ranges, vec![]), confirm("1")])
        .await
        .unwrap();
    let both = vec![follower(&log, 2, Some(3), 3, None), follower(&log, 5, None, 5, None)];
    assert_eq!(store.followers(log.id()).await.unwrap(), both);
}

/// A cursor that has not reached the end stays dirty, since when it was.
pub async fn partial_delivery_leaves_the_cursor_dirty(store: &dyn Store) {
    let mut log = followed_room(store, 3, 5).await;
    commit(store, [freeze("1", vec![range(&log, 2, 1, 3)], vec![]), confirm("1")])
        .await
        .unwrap();
    assert_eq!(
        store.followers(log.id()).await.unwrap(),
        vec![follower(&log, 2, None, 3, Some(5))]
    );
    commit(store, [freeze("2", vec![range(&log, 2, 3, 4)], vec![])])
        .await
        .unwrap();
    let late: Vec<Entry> = log.messages(1);
    commit(store, [log.append(late, at(6))]).await.unwrap();
    commit(store, [confirm("2")]).await.unwrap();
    assert_eq!(
        store.followers(log.id()).await.unwrap(),
        vec![follower(&log, 2, None, 4, Some(5))]
    );
    commit(store, [freeze("3", vec![range(&log, 2, 4, 5)], vec![]), confirm("3")])
        .await
        .unwrap();
    assert_eq!(
        store.followers(log.id()).await.unwrap(),
        vec![follower(&log, 2, None, 5, None)]
    );
}

/// What waits longest is served first.
pub async fn dirty_intervals_come_longest_waiting_first(store: &dyn Store) {
    let mut logs = Vec::new();
    for (name, now) in [("x", 9), ("y", 7), ("z", 8)] {
        let mut log = RoomLog::hub(name);
        let entry = log.creation();
        commit(
            store,
            [log.create(), log.append_with(vec![entry], vec![open(1)], at(now))],
        )
        .await
        .unwrap();
        logs.push(log);
    }
    let rooms = |dirty: Vec<DeliveryRange>| dirty.into_iter().map(|range| range.room).collect::<Vec<_>>();
    let order = vec![logs[1].id().clone(), logs[2].id().clone(), logs[0].id().clone()];
    assert_eq!(rooms(store.dirty(&b(), 9).await.unwrap()), order);
    assert_eq!(rooms(store.dirty(&b(), 2).await.unwrap()), order[..2]);
}

/// A request can be put on record for a server nothing was ever owed, but not with events of a room that is not there.
pub async fn request_with_an_unknown_room_is_refused(store: &dyn Store) {
    let log = followed_room(store, 2, 5).await;
    let unknown = DeliveryRange {
        room: room_id("nowhere"),
        ..range(&log, 2, 1, 3)
    };
    let ranges = vec![range(&log, 2, 1, 2), unknown, range(&log, 2, 2, 3)];
    let refusal = StoreError::UnknownRoom {
        room: room_id("nowhere"),
    };
    assert_eq!(commit(store, [freeze("1", ranges, vec![])]).await, Err(refusal));
    assert_eq!(store.frozen(&b()).await.unwrap(), None);
    let strange = OutboundRequest {
        destination: server("strange.example"),
        ..request("2", vec![range(&log, 2, 2, 3), range(&log, 2, 1, 2)], vec![3, 1])
    };
    commit(
        store,
        [Write::Freeze {
            request: strange.clone(),
        }],
    )
    .await
    .unwrap();
    assert_eq!(
        store.frozen(&server("strange.example")).await.unwrap(),
        Some(strange),
        "ranges and items in their order"
    );
}

/// A confirmed request takes its cursors and items along, and nothing else.
pub async fn confirm_moves_cursors_and_items_together(store: &dyn Store) {
    let log = followed_room(store, 2, 5).await;
    let lpdu = DirectItem::Lpdu {
        room: log.id().clone(),
        lpdu_id: event_id(8),
        bytes: Bytes::from_static(b"{\"type\":\"t\"}"),
        sender: user("@alice:hub.example"),
    };
    let items = [edu("one"), lpdu, edu("three")];
    commit(store, items.iter().map(|item| enqueue(b(), item.clone(), 6)))
        .await
        .unwrap();
    let numbered: Vec<_> = (1..).zip(items).collect();
    assert_eq!(store.outbox(&b(), 9).await.unwrap(), numbered);
    assert_eq!(store.outbox(&b(), 2).await.unwrap(), numbered[..2]);
    assert_eq!(
        store.outbox_items(&b(), &[3, 1, 7, 1]).await.unwrap(),
        [numbered[0].clone(), numbered[2].clone()]
    );
    assert_eq!(store.outbox_items(&b(), &[]).await.unwrap(), vec![]);
    let frozen = request("1", vec![range(&log, 2, 1, 3)], vec![1, 2]);
    commit(
        store,
        [Write::Freeze {
            request: frozen.clone(),
        }],
    )
    .await
    .unwrap();
    assert_eq!(store.frozen(&b()).await.unwrap(), Some(frozen));
    assert_eq!(store.outbox_len(&b()).await.unwrap(), 3, "freezing moves nothing");
    assert_eq!(
        store.followers(log.id()).await.unwrap(),
        vec![follower(&log, 2, None, 1, Some(5))]
    );
    commit(store, [confirm("1")]).await.unwrap();
    assert_eq!(store.frozen(&b()).await.unwrap(), None);
    assert_eq!(store.outbox(&b(), 9).await.unwrap(), numbered[2..]);
    assert_eq!(store.outbox_len(&b()).await.unwrap(), 1);
    assert_eq!(
        store.followers(log.id()).await.unwrap(),
        vec![follower(&log, 2, None, 3, None)]
    );
}

/// A retry that was overtaken confirms nothing.
pub async fn confirm_of_another_transaction_is_refused(store: &dyn Store) {
    let log = followed_room(store, 1, 5).await;
    let refused = Err(StoreError::NotInFlight { destination: b() });
    assert_eq!(commit(store, [confirm("1")]).await, refused);
    commit(store, [freeze("1", vec![range(&log, 2, 1, 2)], vec![])])
        .await
        .unwrap();
    assert_eq!(commit(store, [confirm("2")]).await, refused);
    assert_eq!(
        store.followers(log.id()).await.unwrap(),
        vec![follower(&log, 2, None, 1, Some(5))]
    );
    assert!(store.frozen(&b()).await.unwrap().is_some());
}

/// One transaction at a time per destination (LM #int-api-send-txn).
pub async fn only_one_request_is_in_flight(store: &dyn Store) {
    let log = followed_room(store, 1, 5).await;
    commit(store, [freeze("1", vec![range(&log, 2, 1, 2)], vec![])])
        .await
        .unwrap();
    let second = commit(store, [freeze("2", vec![], vec![])]).await;
    assert_eq!(second, Err(StoreError::NotInFlight { destination: b() }));
    assert_eq!(store.frozen(&b()).await.unwrap().unwrap().txn_id, "1");
}

/// A request that can never get through makes room for another; what it held is still owed.
pub async fn thawed_request_leaves_everything_owed(store: &dyn Store) {
    let log = followed_room(store, 1, 5).await;
    let thaw = |txn_id: &str| Write::Thaw {
        destination: b(),
        txn_id: txn_id.to_owned(),
    };
    commit(
        store,
        [
            enqueue(b(), edu("x"), 5),
            freeze("1", vec![range(&log, 2, 1, 2)], vec![1]),
        ],
    )
    .await
    .unwrap();
    assert_eq!(
        commit(store, [thaw("2")]).await,
        Err(StoreError::NotInFlight { destination: b() })
    );
    commit(store, [thaw("1")]).await.unwrap();
    assert_eq!(store.frozen(&b()).await.unwrap(), None);
    assert_eq!(
        store.followers(log.id()).await.unwrap(),
        vec![follower(&log, 2, None, 1, Some(5))]
    );
    assert_eq!(store.outbox(&b(), 9).await.unwrap(), vec![(1, edu("x"))]);
    assert_eq!(
        commit(store, [confirm("1")]).await,
        Err(StoreError::NotInFlight { destination: b() })
    );
    commit(store, [freeze("2", vec![], vec![1])]).await.unwrap();
}

/// Sequence numbers belong to a destination and are not reused.
pub async fn outbox_numbers_count_per_destination(store: &dyn Store) {
    let c = server("c.example");
    commit(store, [enqueue(b(), edu("b1"), 5), enqueue(c.clone(), edu("c1"), 5)])
        .await
        .unwrap();
    assert_eq!(store.outbox(&b(), 9).await.unwrap(), vec![(1, edu("b1"))]);
    assert_eq!(store.outbox(&c, 9).await.unwrap(), vec![(1, edu("c1"))]);
    commit(
        store,
        [freeze("1", vec![], vec![1]), confirm("1"), enqueue(b(), edu("b2"), 6)],
    )
    .await
    .unwrap();
    assert_eq!(store.outbox(&b(), 9).await.unwrap(), vec![(2, edu("b2"))]);
}

/// A destination that is away for good does not fill the disk.
pub async fn full_outbox_refuses(store: &dyn Store) {
    let enqueue = |destination: ServerName| Write::Enqueue {
        destination,
        item: edu("x"),
        limit: 2,
        now: at(5),
    };
    commit(store, [enqueue(b()), enqueue(b())]).await.unwrap();
    assert_eq!(
        commit(store, [enqueue(b())]).await,
        Err(StoreError::Full { destination: b() })
    );
    assert_eq!(store.outbox_len(&b()).await.unwrap(), 2);
    commit(store, [enqueue(server("c.example"))]).await.unwrap();
    commit(store, [freeze("1", vec![], vec![1]), confirm("1"), enqueue(b())])
        .await
        .unwrap();
}

/// How often and why it failed, until it works.
pub async fn backoff_is_remembered_until_confirmed(store: &dyn Store) {
    assert_eq!(store.destination(&b()).await.unwrap(), None);
    commit(store, [enqueue(b(), edu("x"), 5), freeze("1", vec![], vec![1])])
        .await
        .unwrap();
    let backoff = Write::Backoff {
        destination: b(),
        failures: 3,
        next_attempt: at(700),
        last_error: "connection refused".to_owned(),
    };
    commit(store, [backoff]).await.unwrap();
    let failing = DestinationStatus {
        destination: b(),
        failures: 3,
        next_attempt: at(700),
        last_error: "connection refused".to_owned(),
        oldest_dirty: Some(at(5)),
    };
    assert_eq!(store.destination(&b()).await.unwrap(), Some(failing.clone()));
    assert_eq!(store.destinations_with_work().await.unwrap(), vec![failing]);
    commit(store, [confirm("1")]).await.unwrap();
    let well = DestinationStatus {
        destination: b(),
        failures: 0,
        next_attempt: at(0),
        last_error: String::new(),
        oldest_dirty: None,
    };
    assert_eq!(store.destination(&b()).await.unwrap(), Some(well));
    assert_eq!(store.destinations_with_work().await.unwrap(), vec![]);
    commit(store, [enqueue(b(), edu("y"), 8)]).await.unwrap();
    assert_eq!(store.outbox(&b(), 9).await.unwrap(), vec![(2, edu("y"))]);
}

/// What a server finds to do when it starts.
pub async fn destinations_with_work_are_found(store: &dyn Store) {
    let log = followed_room(store, 1, 5).await;
    commit(
        store,
        [enqueue(server("c.example"), edu("x"), 6), enqueue(b(), edu("y"), 4)],
    )
    .await
    .unwrap();
    let found = |statuses: Vec<DestinationStatus>| {
        let pairs = statuses
            .into_iter()
            .map(|status| (status.destination, status.oldest_dirty.unwrap().0));
        pairs.collect::<Vec<_>>()
    };
    let work = found(store.destinations_with_work().await.unwrap());
    assert_eq!(work, vec![(b(), 4), (server("c.example"), 6)]);
    commit(store, [freeze("1", vec![range(&log, 2, 1, 2)], vec![1]), confirm("1")])
        .await
        .unwrap();
    let work = found(store.destinations_with_work().await.unwrap());
    assert_eq!(work, vec![(server("c.example"), 6)]);
    commit(store, [freeze("2", vec![], vec![])]).await.unwrap();
    let work = found(store.destinations_with_work().await.unwrap());
    assert_eq!(work, vec![(b(), 50), (server("c.example"), 6)]);
}
