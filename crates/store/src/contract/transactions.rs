//! Batches happen wholly or not at all, and apart from each other.

use nabe_core::FollowerChange;

use super::fixture::{RoomLog, at, commit, conflict, edu, pos, server, user};
use crate::{Batch, Between, IdempotencyKey, Order, Store, StoredReply, Write};

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
    let append = |entry: &nabe_core::Entry| Batch::from(log.append(vec![entry.clone()], at(5)));
    let batches = vec![Batch::from(log.create()), append(&first), append(&mine), append(&yours)];
    let results = store.commit(batches).await.unwrap();
    assert_eq!(results, vec![Ok(()), Ok(()), Ok(()), conflict(log.id())]);
    let entries = store
        .entries(log.id(), Between::ALL, 9, Order::Ascending)
        .await
        .unwrap();
    assert_eq!(entries, vec![first, mine]);
}
