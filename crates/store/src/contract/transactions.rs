//! Batches happen wholly or not at all, and apart from each other.

use nabe_core::{Entry, FollowerChange};

use super::fixture::{RoomLog, at, commit, conflict, edu, pos, server, user};
use crate::{
    Batch, Between, DeliveryRange, IdempotencyKey, Order, OutboundRequest, Store, StoreError, StoredReply, Write,
};

fn key() -> IdempotencyKey {
    IdempotencyKey {
        scope: "b.example".to_owned(),
        endpoint: "send".to_owned(),
        txn_id: "1".to_owned(),
    }
}

fn put_reply() -> Write {
    let reply = StoredReply {
        status: 200,
        body: "{}".into(),
        request_sha256: [0; 32],
    };
    Write::PutReply {
        key: key(),
        reply,
        now: at(5),
    }
}

/// A later write of a batch builds on an earlier one.
pub async fn batch_sees_its_own_writes(store: &dyn Store) {
    let mut log = RoomLog::hub("a");
    let (one, two) = (vec![log.creation()], log.messages(2));
    commit(
        store,
        [
            log.create(),
            log.append(one, at(5)),
            log.append(two, at(5)),
            put_reply(),
        ],
    )
    .await
    .unwrap();
    assert_eq!(store.head(log.id()).await.unwrap(), Some(pos(3)));
    assert!(store.reply(&key()).await.unwrap().is_some());
}

/// Whatever the batch did before it was refused is undone.
pub async fn refused_batch_leaves_no_trace(store: &dyn Store) {
    let mut log = RoomLog::hub("a");
    let first = log.creation();
    commit(store, [log.create(), log.append(vec![first.clone()], at(5))])
        .await
        .unwrap();
    let member = log.member("@bob:b.example", "join");
    let open = FollowerChange::Open {
        server: server("b.example"),
        from: pos(2),
    };
    let other = RoomLog::hub("b");
    let refused = commit(
        store,
        [
            other.create(),
            log.append_with(vec![member.clone()], vec![open], at(6)),
            put_reply(),
            Write::Enqueue {
                destination: server("b.example"),
                item: edu("x"),
                limit: 9,
                now: at(6),
            },
            Write::PutDevice {
                user: user("@bob:b.example"),
                device: super::fixture::device("D"),
                now: at(6),
            },
            log.create(),
        ],
    )
    .await;
    assert_eq!(refused, conflict(log.id()));
    assert_eq!(store.head(other.id()).await.unwrap(), None);
    assert_eq!(store.head(log.id()).await.unwrap(), Some(pos(1)));
    assert_eq!(
        store
            .entries(log.id(), Between::ALL, 9, Order::Ascending)
            .await
            .unwrap(),
        vec![first]
    );
    assert_eq!(store.entry(member.event_id()).await.unwrap(), None);
    assert_eq!(store.rooms_of(&user("@bob:b.example")).await.unwrap(), vec![]);
    assert_eq!(store.followers(log.id()).await.unwrap(), vec![]);
    assert_eq!(store.reply(&key()).await.unwrap(), None);
    assert_eq!(store.outbox_len(&server("b.example")).await.unwrap(), 0);
    assert_eq!(store.destination(&server("b.example")).await.unwrap(), None);
    assert_eq!(store.account(&user("@bob:b.example")).await.unwrap(), None);
    commit(store, [log.append(vec![member], at(7))]).await.unwrap();
    commit(
        store,
        [Write::Enqueue {
            destination: server("b.example"),
            item: edu("x"),
            limit: 9,
            now: at(6),
        }],
    )
    .await
    .unwrap();
    assert_eq!(
        store.outbox(&server("b.example"), 9).await.unwrap(),
        vec![(1, edu("x"))]
    );
}

/// Rooms with a creation and a member of b.example, which follows.
async fn rooms(store: &dyn Store, names: &[&str]) -> Vec<RoomLog> {
    let mut logs = Vec::new();
    for name in names {
        let mut log = RoomLog::hub(name);
        let entries = vec![log.creation(), log.member("@bob:b.example", "join")];
        let open = FollowerChange::Open {
            server: server("b.example"),
            from: pos(2),
        };
        commit(store, [log.create(), log.append_with(entries, vec![open], at(5))])
            .await
            .unwrap();
        let range = DeliveryRange {
            room: log.id().clone(),
            interval_from: pos(2),
            after: pos(1),
            through: pos(2),
        };
        let request = OutboundRequest {
            destination: server("b.example"),
            txn_id: "t".to_owned(),
            ranges: vec![range],
            direct: vec![],
            body_sha256: [3; 32],
            frozen_at: at(6),
        };
        let confirm = Write::Confirm {
            destination: server("b.example"),
            txn_id: "t".to_owned(),
        };
        commit(store, [Write::Freeze { request }, confirm]).await.unwrap();
        logs.push(log);
    }
    logs
}

async fn heads(store: &dyn Store, logs: &[RoomLog]) -> Vec<i64> {
    let mut heads = Vec::new();
    for log in logs {
        heads.push(store.head(log.id()).await.unwrap().unwrap().0);
    }
    heads
}

/// A transaction's events go to many rooms in one batch, each with everything that goes with it.
pub async fn appends_to_many_rooms_are_made_together(store: &dyn Store) {
    let mut logs = rooms(store, &["a", "b", "c", "d"]).await;
    let (hello, member, nothing, many) = (
        vec![logs[0].message("hello")],
        vec![logs[1].member("@bob:b.example", "leave"), logs[1].topic("t")],
        vec![],
        logs[3].messages(70),
    );
    let closed = FollowerChange::Close {
        server: server("b.example"),
        until: pos(3),
    };
    commit(
        store,
        [
            logs[0].append(hello.clone(), at(7)),
            logs[1].append_with(member.clone(), vec![closed], at(8)),
            logs[2].append(nothing, at(9)),
            logs[3].append(many.clone(), at(10)),
            put_reply(),
        ],
    )
    .await
    .unwrap();
    assert_eq!(heads(store, &logs).await, [3, 4, 2, 72]);
    for (log, added) in [(&logs[0], &hello), (&logs[1], &member), (&logs[3], &many)] {
        let entries = store.entries(log.id(), Between::after(pos(2)), 99, Order::Ascending);
        assert_eq!(entries.await.unwrap(), *added);
    }
    let mut cursors = Vec::new();
    for log in &logs {
        let followers = store.followers(log.id()).await.unwrap();
        cursors.extend(followers.iter().map(|follower| (follower.until, follower.dirty_since)));
    }
    let expected = [
        (None, Some(at(7))),
        (Some(pos(3)), Some(at(8))),
        (None, None),
        (None, Some(at(10))),
    ];
    assert_eq!(cursors, expected);
    let bob = user("@bob:b.example");
    let steps = store.membership_history(logs[1].id(), &bob).await.unwrap();
    assert_eq!(steps.iter().map(|step| step.position.0).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(store.membership_history(logs[0].id(), &bob).await.unwrap().len(), 1);
    assert!(store.reply(&key()).await.unwrap().is_some());
}

/// Of many rooms one does not take its append: the refusal names it, whatever the reason, and no room grew.
pub async fn one_refused_append_of_many_undoes_all(store: &dyn Store) {
    let mut logs = rooms(store, &["a", "b", "c"]).await;
    let known = logs[1].message("known");
    commit(store, [logs[1].append(vec![known.clone()], at(6))])
        .await
        .unwrap();
    let (mut behind, nowhere) = (logs[1].clone(), RoomLog::hub("nowhere"));
    behind.jump(1);
    let stale = behind.message("decided on an old head");
    let again = |entry: &Entry| Entry {
        position: pos(4),
        ..entry.clone()
    };
    let same_lpdu = Entry {
        lpdu_id: known.lpdu_id.clone(),
        ..logs[1].clone().message("another event")
    };
    let gap = Write::Append {
        room: logs[1].id().clone(),
        expected: pos(3),
        entries: vec![Entry {
            position: pos(5),
            ..known.clone()
        }],
        followers: vec![],
        now: at(7),
    };
    let unknown = StoreError::UnknownRoom {
        room: nowhere.id().clone(),
    };
    for (bad, refusal) in [
        (logs[1].append(vec![stale], at(7)), conflict(logs[1].id())),
        (logs[1].append(vec![again(&known)], at(7)), conflict(logs[1].id())),
        (logs[1].append(vec![same_lpdu], at(7)), conflict(logs[1].id())),
        (gap, conflict(logs[1].id())),
        (nowhere.append(vec![], at(7)), Err(unknown)),
    ] {
        let (before, after) = (logs[0].clone().message("before"), logs[2].clone().message("after"));
        let writes = [
            put_reply(),
            logs[0].append(vec![before.clone()], at(7)),
            bad.clone(),
            logs[2].append(vec![after], at(7)),
        ];
        assert_eq!(commit(store, writes.clone()).await, refusal, "{bad:?}");
        // The same among other batches.
        let others = vec![Batch::default(), Batch::new(writes.into()), Batch::default()];
        assert_eq!(store.commit(others).await.unwrap(), vec![Ok(()), refusal, Ok(())]);
        assert_eq!(heads(store, &logs).await, [2, 3, 2], "{bad:?}");
        assert_eq!(store.entry(before.event_id()).await.unwrap(), None);
        assert_eq!(store.followers(logs[0].id()).await.unwrap()[0].dirty_since, None);
        assert_eq!(store.reply(&key()).await.unwrap(), None);
    }
}

/// A room may be appended to more than once in a batch, with others in between.
pub async fn room_appended_to_twice_in_a_batch(store: &dyn Store) {
    let mut logs = rooms(store, &["a", "b"]).await;
    let (one, two, three) = (logs[0].message("1"), logs[1].message("2"), logs[0].message("3"));
    let append = |log: &RoomLog, entry: &Entry| log.append(vec![entry.clone()], at(7));
    let writes = [append(&logs[0], &one), append(&logs[1], &two), append(&logs[0], &three)];
    commit(store, writes).await.unwrap();
    let entries = store
        .entries(logs[0].id(), Between::after(pos(2)), 9, Order::Ascending)
        .await
        .unwrap();
    assert_eq!(entries, vec![one, three]);
    assert_eq!(heads(store, &logs).await, [4, 3]);
}

/// A participant's hub makes two events of one LPDU; in a batch with other rooms, too, the second is kept without its ID.
pub async fn second_event_of_an_lpdu_among_many_rooms(store: &dyn Store) {
    let mut logs = rooms(store, &["a"]).await;
    let mut theirs = RoomLog::participant("b");
    commit(store, [theirs.create_with(vec![], vec![])]).await.unwrap();
    let first = theirs.message("first");
    let second = Entry {
        lpdu_id: first.lpdu_id.clone(),
        ..theirs.message("second")
    };
    let message = logs[0].message("m");
    let writes = [
        logs[0].append(vec![message], at(7)),
        theirs.append(vec![first.clone(), second.clone()], at(7)),
    ];
    commit(store, writes).await.unwrap();
    let bare = Entry {
        lpdu_id: None,
        ..second
    };
    let entries = store
        .entries(theirs.id(), Between::ALL, 9, Order::Ascending)
        .await
        .unwrap();
    assert_eq!(entries, vec![first, bare]);
    assert_eq!(heads(store, &logs).await, [3]);
}

/// One room's conflict is not another's.
pub async fn refused_batch_does_not_stop_the_others(store: &dyn Store) {
    let (one, two) = (RoomLog::hub("a"), RoomLog::hub("b"));
    let batches = vec![
        Batch::from(one.create()),
        Batch::new(vec![put_reply(), one.create()]),
        Batch::from(two.create()),
        Batch::default(),
    ];
    let results = store.commit(batches).await.unwrap();
    assert_eq!(results, vec![Ok(()), conflict(one.id()), Ok(()), Ok(())]);
    assert_eq!(store.head(one.id()).await.unwrap(), Some(pos(0)));
    assert_eq!(store.head(two.id()).await.unwrap(), Some(pos(0)));
    assert_eq!(store.reply(&key()).await.unwrap(), None);
    assert_eq!(store.commit(vec![]).await.unwrap(), vec![]);
}

/// A later batch of a commit builds on an earlier one, and conflicts with it.
pub async fn two_appends_of_one_commit_follow_each_other(store: &dyn Store) {
    let mut log = RoomLog::hub("a");
    let first = log.creation();
    let mut rival = log.clone();
    let (mine, yours) = (log.message("mine"), rival.message("yours"));
    let append = |entry: &Entry| Batch::from(log.append(vec![entry.clone()], at(5)));
    let batches = vec![Batch::from(log.create()), append(&first), append(&mine), append(&yours)];
    let results = store.commit(batches).await.unwrap();
    assert_eq!(results, vec![Ok(()), Ok(()), Ok(()), conflict(log.id())]);
    let entries = store
        .entries(log.id(), Between::ALL, 9, Order::Ascending)
        .await
        .unwrap();
    assert_eq!(entries, vec![first, mine]);
}
