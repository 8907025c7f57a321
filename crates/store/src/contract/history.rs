//! Outliers, backfill, checkpoints, state as it was, gaps and pruning.

use nabe_core::{Entry, EntryBody, FollowerChange, HoleReason};
use nabe_event::{Pdu, RoomVersionRules};

use super::fixture::{RoomLog, at, checkpoint, commit, conflict, event_id, pdus, pos, room_id, server};
use super::log::all;
use crate::{DeliveryRange, OutboundRequest, Store, Write};

/// Events are found whether in the log or not, in the order asked for.
pub async fn events_are_found_in_log_and_among_outliers(store: &dyn Store) {
    let mut log = RoomLog::participant("a");
    let outlier = log.outlier("m.room.create", "");
    let entries = vec![log.member("@bob:b.example", "join"), log.message("one")];
    commit(
        store,
        [
            log.create_with(vec![], vec![outlier.clone()]),
            log.append(entries.clone(), at(5)),
        ],
    )
    .await
    .unwrap();
    let ids = [
        entries[1].event_id().clone(),
        event_id(9),
        outlier.event_id().clone(),
        entries[0].event_id().clone(),
    ];
    let found = store.events(log.id(), &ids).await.unwrap();
    let entries = pdus(&entries);
    assert_eq!(found, vec![entries[1].clone(), outlier.clone(), entries[0].clone()]);
    assert_eq!(store.entry(outlier.event_id()).await.unwrap(), None);
    assert_eq!(store.events(&room_id("b"), &ids).await.unwrap(), vec![]);
}

/// A participant's room whose snapshot has its name, and then a join. The name's place in the log is below its first entry.
async fn joined_with_a_name(store: &dyn Store) -> (RoomLog, Entry, Entry) {
    let mut log = RoomLog::participant("a");
    log.jump(-1);
    let name = log.state("m.room.name", "", nabe_signing::object! { "name" => "n" });
    let join = log.member("@bob:b.example", "join");
    let created = log.create_with(pdus([&name]), vec![]);
    let joined = log.append(vec![join.clone()], at(5));
    commit(store, [created, joined]).await.unwrap();
    (log, name, join)
}

/// An event known from a snapshot can take its place in the log later.
pub async fn outlier_becomes_an_entry(store: &dyn Store) {
    let (log, name, join) = joined_with_a_name(store).await;
    let state = pdus([&name]);
    let room = log.id().clone();
    let backfill = Write::Prepend {
        room,
        expected_first: pos(1),
        entries: vec![name.clone()],
    };
    commit(store, [backfill]).await.unwrap();
    assert_eq!(all(store, log.id()).await, vec![name.clone(), join]);
    assert_eq!(
        store.entry(name.event_id()).await.unwrap(),
        Some((log.id().clone(), name))
    );
    assert_eq!(
        store.load(log.id()).await.unwrap().unwrap().checkpoint,
        Some(checkpoint(0, None, state))
    );
}

/// A hub shows us history from before our time redacted; what a snapshot brought in full stays whole.
pub async fn redacted_copy_does_not_replace_the_event(store: &dyn Store) {
    let (log, name, join) = joined_with_a_name(store).await;
    let state = pdus([&name]);
    let full = name.pdu().unwrap();
    let redacted = nabe_event::redact(full.object(), &RoomVersionRules::I1).to_canonical();
    let redacted = Pdu::from_stored(&redacted, &RoomVersionRules::I1).unwrap();
    assert_eq!(redacted.event_id(), full.event_id());
    let backfill = Write::Prepend {
        room: log.id().clone(),
        expected_first: pos(1),
        entries: vec![Entry {
            body: EntryBody::Event(redacted),
            ..name.clone()
        }],
    };
    commit(store, [backfill]).await.unwrap();
    assert_eq!(all(store, log.id()).await, vec![name, join]);
    assert_eq!(
        store.load(log.id()).await.unwrap().unwrap().checkpoint,
        Some(checkpoint(0, None, state.clone()))
    );
    assert_eq!(store.state_before(log.id(), pos(1)).await.unwrap(), Some(state));
}

/// Backfill grows the log downwards and leaves its end alone.
pub async fn backfill_goes_below_the_first_entry(store: &dyn Store) {
    let mut log = RoomLog::participant("a");
    log.jump(-3);
    let old = vec![log.message("-2"), log.hole(HoleReason::BadSignature), log.message("0")];
    let join = log.member("@bob:b.example", "join");
    commit(
        store,
        [log.create_with(vec![], vec![]), log.append(vec![join.clone()], at(5))],
    )
    .await
    .unwrap();
    let prepend = |first: i64, entries: &[Entry]| Write::Prepend {
        room: log.id().clone(),
        expected_first: pos(first),
        entries: entries.to_vec(),
    };
    commit(store, [prepend(1, &old[2..])]).await.unwrap();
    commit(store, [prepend(0, &old[..2]), prepend(7, &[])]).await.unwrap();
    assert_eq!(store.first(log.id()).await.unwrap(), Some(pos(-2)));
    assert_eq!(store.head(log.id()).await.unwrap(), Some(pos(1)));
    let mut everything = old;
    everything.push(join.clone());
    assert_eq!(all(store, log.id()).await, everything);
    assert_eq!(store.load(log.id()).await.unwrap().unwrap().tail, vec![join]);
}

/// Two backfills at once: one wins. Nothing known is added again.
pub async fn backfill_at_a_moved_first_conflicts(store: &dyn Store) {
    let mut log = RoomLog::participant("a");
    log.jump(-2);
    let old = [log.message("-1"), log.message("0")];
    let join = log.member("@bob:b.example", "join");
    commit(
        store,
        [log.create_with(vec![], vec![]), log.append(vec![join.clone()], at(5))],
    )
    .await
    .unwrap();
    let prepend = |first: i64, entries: Vec<Entry>| Write::Prepend {
        room: log.id().clone(),
        expected_first: pos(first),
        entries,
    };
    commit(store, [prepend(1, vec![old[1].clone()])]).await.unwrap();
    for write in [
        prepend(1, vec![old[1].clone()]),
        prepend(1, vec![old[0].clone()]),
        prepend(
            0,
            vec![Entry {
                position: pos(-2),
                ..old[0].clone()
            }],
        ),
        prepend(
            0,
            vec![Entry {
                position: pos(-1),
                ..join.clone()
            }],
        ),
        prepend(
            0,
            vec![Entry {
                position: pos(-1),
                ..old[1].clone()
            }],
        ),
    ] {
        assert_eq!(commit(store, [write]).await, conflict(log.id()));
    }
    assert_eq!(all(store, log.id()).await, vec![old[1].clone(), join]);
}

/// Loading starts from the newest checkpoint.
pub async fn checkpoint_shortens_the_tail(store: &dyn Store) {
    let mut log = RoomLog::hub("a");
    let entries = vec![
        log.creation(),
        log.topic("one"),
        log.message("m"),
        log.topic("two"),
        log.message("n"),
    ];
    commit(store, [log.create(), log.append(entries.clone(), at(5))])
        .await
        .unwrap();
    let put = |n: usize, state: &[usize]| Write::PutCheckpoint {
        room: log.id().clone(),
        checkpoint: checkpoint(
            entries[n].position.0,
            Some(entries[n].event_id().clone()),
            pdus(state.iter().map(|&n| &entries[n])),
        ),
    };
    commit(store, [put(3, &[0, 3]), put(1, &[0, 1])]).await.unwrap();
    let loaded = store.load(log.id()).await.unwrap().unwrap();
    let head = Some(entries[3].event_id().clone());
    assert_eq!(
        loaded.checkpoint,
        Some(checkpoint(4, head, pdus([&entries[0], &entries[3]])))
    );
    assert_eq!(loaded.tail, entries[4..]);
    commit(store, [put(3, &[0, 3])]).await.unwrap();
    assert_eq!(store.load(log.id()).await.unwrap().unwrap().tail, entries[4..]);
}

/// A checkpoint stands for a position that is there.
pub async fn checkpoint_outside_the_log_conflicts(store: &dyn Store) {
    let mut log = RoomLog::hub("a");
    let entries = vec![log.creation(), log.message("m")];
    commit(store, [log.create(), log.append(entries, at(5))]).await.unwrap();
    for position in [-1, 3] {
        let checkpoint = checkpoint(position, None, vec![]);
        let put = Write::PutCheckpoint {
            room: log.id().clone(),
            checkpoint,
        };
        assert_eq!(commit(store, [put]).await, conflict(log.id()));
    }
}

/// State as it was, by replay from the beginning.
pub async fn state_before_a_position(store: &dyn Store) {
    let mut log = RoomLog::hub("a");
    let entries = vec![log.creation(), log.topic("one"), log.message("m"), log.topic("two")];
    commit(store, [log.create(), log.append(entries.clone(), at(5))])
        .await
        .unwrap();
    let create = entries[0].pdu().unwrap().clone();
    let topic = |n: usize| entries[n].pdu().unwrap().clone();
    for (position, state) in [
        (0, None),
        (1, Some(vec![])),
        (2, Some(vec![create.clone()])),
        (3, Some(vec![create.clone(), topic(1)])),
        (4, Some(vec![create.clone(), topic(1)])),
        (5, Some(vec![create.clone(), topic(3)])),
        (6, None),
    ] {
        assert_eq!(
            store.state_before(log.id(), pos(position)).await.unwrap(),
            state,
            "{position}"
        );
    }
}

/// State as it was, by replay from whatever checkpoint is below, never across a gap.
pub async fn state_before_crosses_checkpoints_and_rebase(store: &dyn Store) {
    let mut log = RoomLog::participant("a");
    let create = log.outlier("m.room.create", "");
    let entries = vec![log.member("@bob:b.example", "join"), log.topic("one"), log.topic("two")];
    commit(
        store,
        [
            log.create_with(vec![create.clone()], vec![]),
            log.append(entries.clone(), at(5)),
        ],
    )
    .await
    .unwrap();
    let entry = pdus(&entries);
    let kept = checkpoint(
        2,
        Some(entries[1].event_id().clone()),
        vec![create.clone(), entry[0].clone(), entry[1].clone()],
    );
    commit(
        store,
        [Write::PutCheckpoint {
            room: log.id().clone(),
            checkpoint: kept,
        }],
    )
    .await
    .unwrap();
    let renamed = log.outlier("m.room.name", "");
    let rebase = Write::Rebase {
        room: log.id().clone(),
        expected: pos(3),
        checkpoint: checkpoint(4, None, vec![create.clone(), renamed.clone()]),
        outliers: vec![],
    };
    log.jump(4);
    let back = log.member("@bob:b.example", "join");
    commit(store, [rebase, log.append(vec![back.clone()], at(6))])
        .await
        .unwrap();
    let back = back.pdu().unwrap().clone();
    let before_gap = vec![create.clone(), entry[0].clone(), entry[2].clone()];
    for (position, state) in [
        (0, None),
        (1, Some(vec![create.clone()])),
        (2, Some(vec![create.clone(), entry[0].clone()])),
        (3, Some(vec![create.clone(), entry[0].clone(), entry[1].clone()])),
        (4, Some(before_gap)),
        (5, Some(vec![create.clone(), renamed.clone()])),
        (6, Some(vec![create.clone(), back, renamed.clone()])),
    ] {
        assert_eq!(
            store.state_before(log.id(), pos(position)).await.unwrap(),
            state,
            "{position}"
        );
    }
}

/// Backfilled history has a state once it reaches back to the room's creation.
pub async fn state_before_in_backfilled_history(store: &dyn Store) {
    let mut log = RoomLog::participant("a");
    log.jump(-3);
    let old = [log.creation(), log.topic("one"), log.message("0")];
    let join = log.member("@bob:b.example", "join");
    let state = pdus(&old[..2]);
    commit(
        store,
        [log.create_with(state.clone(), vec![]), log.append(vec![join], at(5))],
    )
    .await
    .unwrap();
    let prepend = |first: i64, entries: &[Entry]| Write::Prepend {
        room: log.id().clone(),
        expected_first: pos(first),
        entries: entries.to_vec(),
    };
    commit(store, [prepend(1, &old[1..])]).await.unwrap();
    assert_eq!(store.state_before(log.id(), pos(0)).await.unwrap(), None);
    assert_eq!(store.state_before(log.id(), pos(1)).await.unwrap(), Some(state.clone()));
    commit(store, [prepend(-1, &old[..1])]).await.unwrap();
    assert_eq!(store.state_before(log.id(), pos(-2)).await.unwrap(), Some(vec![]));
    assert_eq!(
        store.state_before(log.id(), pos(-1)).await.unwrap(),
        Some(vec![state[0].clone()])
    );
    assert_eq!(store.state_before(log.id(), pos(0)).await.unwrap(), Some(state));
}

/// A soft-failed event is in the log but not in the state.
pub async fn soft_failed_state_is_no_state(store: &dyn Store) {
    let mut log = RoomLog::participant("a");
    let failed = Entry {
        soft_failed: true,
        ..log.member("@bob:b.example", "join")
    };
    let entries = vec![failed, log.topic("t")];
    commit(
        store,
        [log.create_with(vec![], vec![]), log.append(entries.clone(), at(5))],
    )
    .await
    .unwrap();
    assert_eq!(all(store, log.id()).await, entries);
    let state = store.state_before(log.id(), pos(3)).await.unwrap();
    assert_eq!(state, Some(pdus(&entries[1..])));
    let bob = super::fixture::user("@bob:b.example");
    assert_eq!(store.membership_history(log.id(), &bob).await.unwrap(), vec![]);
}

/// After a gap the log goes on from a new snapshot.
pub async fn rebase_leaves_a_gap(store: &dyn Store) {
    let mut log = RoomLog::participant("a");
    let first = log.member("@bob:b.example", "join");
    commit(
        store,
        [log.create_with(vec![], vec![]), log.append(vec![first.clone()], at(5))],
    )
    .await
    .unwrap();
    let state = vec![log.outlier("m.room.create", "")];
    let chain = log.outlier("m.room.member", "@bob:b.example");
    let rebase = |expected: i64, position: i64| Write::Rebase {
        room: log.id().clone(),
        expected: pos(expected),
        checkpoint: checkpoint(position, None, state.clone()),
        outliers: vec![chain.clone()],
    };
    assert_eq!(commit(store, [rebase(0, 1)]).await, conflict(log.id()));
    assert_eq!(commit(store, [rebase(1, 3)]).await, conflict(log.id()));
    commit(store, [rebase(1, 2)]).await.unwrap();
    assert_eq!(store.head(log.id()).await.unwrap(), Some(pos(2)));
    log.jump(2);
    let back = log.member("@bob:b.example", "join");
    commit(store, [log.append(vec![back.clone()], at(6))]).await.unwrap();
    let loaded = store.load(log.id()).await.unwrap().unwrap();
    assert_eq!(loaded.checkpoint, Some(checkpoint(2, None, state)));
    assert_eq!(loaded.tail, vec![back.clone()]);
    assert_eq!(all(store, log.id()).await, vec![first, back]);
    assert_eq!(
        store.events(log.id(), &[chain.event_id().clone()]).await.unwrap(),
        vec![chain]
    );
}

/// Pruned entries are gone, but what the state rests on can still be asked for.
pub async fn prune_drops_messages_and_keeps_state(store: &dyn Store) {
    let mut log = RoomLog::hub("a");
    let entries = vec![
        log.creation(),
        log.topic("one"),
        log.message("m"),
        log.topic("two"),
        log.message("n"),
        log.message("o"),
    ];
    let room = log.id().clone();
    let state = pdus([&entries[0], &entries[3]]);
    let kept = checkpoint(4, Some(entries[3].event_id().clone()), state.clone());
    commit(
        store,
        [
            log.create(),
            log.append(entries.clone(), at(5)),
            Write::PutCheckpoint {
                room: room.clone(),
                checkpoint: checkpoint(1, None, pdus(&entries[..1])),
            },
            Write::PutCheckpoint {
                room: room.clone(),
                checkpoint: kept.clone(),
            },
            Write::Prune {
                room: room.clone(),
                below: pos(4),
            },
        ],
    )
    .await
    .unwrap();
    assert_eq!(store.first(&room).await.unwrap(), Some(pos(4)));
    assert_eq!(all(store, &room).await, entries[3..]);
    let loaded = store.load(&room).await.unwrap().unwrap();
    assert_eq!((loaded.checkpoint, loaded.tail), (Some(kept), entries[4..].to_vec()));
    let ids: Vec<_> = entries.iter().map(|entry| entry.event_id().clone()).collect();
    assert_eq!(
        store.events(&room, &ids).await.unwrap(),
        pdus([0, 1, 3, 4, 5].map(|n: usize| &entries[n]))
    );
    assert_eq!(store.entry(&ids[1]).await.unwrap(), None);
    assert_eq!(
        store
            .entry_by_lpdu(&room, &[entries[2].lpdu_id.clone().unwrap()])
            .await
            .unwrap(),
        vec![]
    );
    assert_eq!(store.state_before(&room, pos(3)).await.unwrap(), None);
    assert_eq!(store.state_before(&room, pos(4)).await.unwrap(), None);
    assert_eq!(store.state_before(&room, pos(5)).await.unwrap(), Some(state));
    commit(
        store,
        [Write::Prune {
            room: room.clone(),
            below: pos(2),
        }],
    )
    .await
    .unwrap();
    assert_eq!(store.first(&room).await.unwrap(), Some(pos(4)));
    let more = log.message("p");
    commit(store, [log.append(vec![more], at(6))]).await.unwrap();
}

/// Nothing is cut that loading or delivery still needs.
pub async fn prune_waits_for_checkpoint_and_followers(store: &dyn Store) {
    let mut log = RoomLog::hub("a");
    let entries = vec![log.creation(), log.message("m"), log.message("n"), log.message("o")];
    let room = log.id().clone();
    let open = FollowerChange::Open {
        server: server("b.example"),
        from: pos(2),
    };
    commit(
        store,
        [log.create(), log.append_with(entries.clone(), vec![open], at(5))],
    )
    .await
    .unwrap();
    let prune = |below: i64| Write::Prune {
        room: room.clone(),
        below: pos(below),
    };
    assert_eq!(commit(store, [prune(2)]).await, conflict(&room));
    let kept = checkpoint(3, Some(entries[2].event_id().clone()), pdus(&entries[..1]));
    commit(
        store,
        [Write::PutCheckpoint {
            room: room.clone(),
            checkpoint: kept,
        }],
    )
    .await
    .unwrap();
    assert_eq!(commit(store, [prune(4)]).await, conflict(&room));
    assert_eq!(commit(store, [prune(3)]).await, conflict(&room));
    commit(store, [prune(2)]).await.unwrap();
    let request = OutboundRequest {
        destination: server("b.example"),
        txn_id: "1".to_owned(),
        ranges: vec![DeliveryRange {
            room: room.clone(),
            interval_from: pos(2),
            after: pos(1),
            through: pos(2),
        }],
        direct: vec![],
        body_sha256: [0; 32],
        frozen_at: at(5),
    };
    let confirm = Write::Confirm {
        destination: server("b.example"),
        txn_id: "1".to_owned(),
    };
    commit(store, [Write::Freeze { request }, confirm, prune(3)])
        .await
        .unwrap();
    assert_eq!(all(store, &room).await, entries[2..]);
}
