//! What decides on the order of local logs, and who reads how much of them.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use nabe_core::mimi::MimiUri;
use nabe_types::{LogPosition, UnixMillis};

use super::fixture::{at, commit, pos, server};
use crate::rules::{MESSAGES_REMEMBERED, MIN_REMEMBERED_MESSAGES};
use crate::{
    Forwarded, LocalOrder, MessageKind, MimiOrderWrite, MimiUserWrite, MimiWrite, NewLocalMessage, OpenForward,
    OpenOfUser, Store, Write,
};

const BOB: &str = "mimi://b.example/u/bob";
const BEN: &str = "mimi://b.example/u/ben";
const ROOM: &str = "mimi://hub.example/r/a";

fn uri(text: &str) -> MimiUri {
    MimiUri::parse(text).unwrap()
}

async fn put(store: &dyn Store, writes: impl IntoIterator<Item = MimiUserWrite>) {
    let writes = writes.into_iter().map(|write| Write::Mimi(MimiWrite::User(write)));
    commit(store, writes).await.unwrap();
}

async fn order(store: &dyn Store, write: MimiOrderWrite) {
    put(store, [MimiUserWrite::Order(write)]).await;
}

fn message(body: &str) -> NewLocalMessage {
    NewLocalMessage {
        accepted: at(3),
        body: Bytes::copy_from_slice(body.as_bytes()),
        marks: Vec::new(),
        withheld_from: Vec::new(),
    }
}

fn deliver(messages: Vec<NewLocalMessage>, now: UnixMillis) -> MimiUserWrite {
    MimiUserWrite::Deliver {
        room: uri(ROOM),
        hub: server("hub.example"),
        messages,
        readers: Vec::new(),
        leavers: Vec::new(),
        once: None,
        now,
    }
}

fn forwarded(request: u8, user: &str, next_attempt: u64) -> Forwarded {
    Forwarded {
        room: uri(ROOM),
        request: [request; 32],
        hub: server("hub.example"),
        user: uri(user),
        endpoint: "update".to_owned(),
        kind: MessageKind::Commit,
        epoch: u64::from(request),
        message: [99; 32],
        joins_from: Some(pos(4)),
        body: Bytes::from_static(b"body"),
        sent_at: at(1),
        failures: 0,
        next_attempt: at(next_attempt),
    }
}

fn open(forwarded: &Forwarded) -> OpenForward {
    OpenForward {
        room: forwarded.room.clone(),
        request: forwarded.request,
        hub: forwarded.hub.clone(),
        kind: forwarded.kind,
        epoch: forwarded.epoch,
        joins_from: forwarded.joins_from,
        next_attempt: forwarded.next_attempt,
    }
}

/// From before it is sent until its verdict is known.
pub async fn forwarded_requests_are_kept_until_their_verdict(store: &dyn Store) {
    assert_eq!(store.next_forward().await.unwrap(), None);
    let (first, second) = (forwarded(2, BOB, 20), forwarded(1, BEN, 10));
    for forwarded in [&first, &second, &forwarded(2, BEN, 5)] {
        let forwarded = forwarded.clone();
        order(store, MimiOrderWrite::Forward { forwarded }).await;
    }
    let found = store.forwarded(&uri(ROOM), &[2; 32]).await.unwrap();
    assert_eq!(found.as_ref(), Some(&first));
    assert_eq!(store.forwarded(&uri(ROOM), &[3; 32]).await.unwrap(), None);
    let of_room = store.local_order(&uri(ROOM)).await.unwrap();
    let expected = LocalOrder {
        open: vec![open(&first), open(&second)],
        ..LocalOrder::default()
    };
    assert_eq!(of_room, expected);
    assert_eq!(store.next_forward().await.unwrap(), Some(at(10)));
    assert_eq!(store.forwards_due(at(9), 9).await.unwrap(), []);
    assert_eq!(store.forwards_due(at(19), 9).await.unwrap(), [open(&second)]);
    let due = store.forwards_due(at(20), 9).await.unwrap();
    assert_eq!(due, [open(&second), open(&first)]);
    assert_eq!(store.forwards_due(at(20), 1).await.unwrap().len(), 1);
    let put_off = MimiOrderWrite::PutOff {
        room: uri(ROOM),
        request: [1; 32],
        failures: 3,
        next_attempt: at(40),
    };
    order(store, put_off).await;
    let found = store.forwarded(&uri(ROOM), &[1; 32]).await.unwrap().unwrap();
    assert_eq!((found.failures, found.next_attempt), (3, at(40)));
    let of_bob = store.open_forwards_of(&uri(BOB)).await.unwrap();
    assert_eq!(of_bob, OpenOfUser { count: 1, bytes: 4 });
    for request in [[2; 32], [7; 32]] {
        let room = uri(ROOM);
        order(store, MimiOrderWrite::End { room, request }).await;
    }
    assert_eq!(store.next_forward().await.unwrap(), Some(at(40)));
    let of_bob = store.open_forwards_of(&uri(BOB)).await.unwrap();
    assert_eq!(of_bob, OpenOfUser::default());
}

/// In the order in which they came, until they are in the log.
pub async fn messages_wait_for_their_epoch(store: &dyn Store) {
    let wait = |body: &str, epoch, kind, now| MimiOrderWrite::Wait {
        room: uri(ROOM),
        hub: server("hub.example"),
        message: NewLocalMessage {
            marks: vec![[7; 32]],
            ..message(body)
        },
        kind,
        epoch,
        now: at(now),
    };
    order(store, wait("two", 2, MessageKind::Commit, 10)).await;
    order(store, wait("one", 1, MessageKind::Application, 20)).await;
    let epoch = |epoch| MimiOrderWrite::SetEpoch { room: uri(ROOM), epoch };
    order(store, epoch(Some(1))).await;
    let found = store.local_order(&uri(ROOM)).await.unwrap();
    assert_eq!((found.epoch, found.head, found.has_log), (Some(1), pos(0), false));
    let waiting: Vec<_> = found
        .waiting
        .iter()
        .map(|it| (it.kind, it.epoch, it.accepted, it.since, &it.body[..]))
        .collect();
    let expected = [
        (MessageKind::Commit, 2, at(3), at(10), &b"two"[..]),
        (MessageKind::Application, 1, at(3), at(20), b"one"),
    ];
    assert_eq!(waiting, expected);
    let known = store.delivered_messages(&uri(ROOM), &[[7; 32], [8; 32]]).await.unwrap();
    assert_eq!(known, BTreeSet::from([[7; 32]]));
    assert_eq!(store.rooms_waiting_since(at(9)).await.unwrap(), []);
    assert_eq!(store.rooms_waiting_since(at(10)).await.unwrap(), [uri(ROOM)]);
    let numbers = vec![found.waiting[0].number];
    order(store, MimiOrderWrite::EndWaits { numbers }).await;
    order(store, epoch(None)).await;
    let left = store.local_order(&uri(ROOM)).await.unwrap();
    assert_eq!((left.epoch, left.waiting.len()), (None, 1));
    assert_eq!(left.waiting[0], found.waiting[1]);
    // Of a room that has no log, nothing is remembered.
    let elsewhere = uri("mimi://hub.example/r/b");
    let room = elsewhere.clone();
    order(store, MimiOrderWrite::SetEpoch { room, epoch: Some(1) }).await;
    let found = store.local_order(&elsewhere).await.unwrap();
    assert_eq!(found, LocalOrder::default());
}

/// At least the newest, whatever their age.
pub async fn delivered_messages_are_known_again(store: &dyn Store) {
    let mark = |n: usize| {
        let mut mark = [0; 32];
        mark[..8].copy_from_slice(&n.to_be_bytes());
        mark
    };
    let marked = |n: usize| NewLocalMessage {
        marks: vec![mark(n)],
        ..message("some")
    };
    let known = async |n: usize| {
        let known = store.delivered_messages(&uri(ROOM), &[mark(n)]).await.unwrap();
        !known.is_empty()
    };
    put(store, [deliver((0..5).map(marked).collect(), at(10))]).await;
    let later = at(10).plus(MESSAGES_REMEMBERED).plus(Duration::from_millis(1));
    let few = (5..MIN_REMEMBERED_MESSAGES).map(marked).collect();
    put(store, [deliver(few, later)]).await;
    assert!(known(0).await && known(4).await && known(5).await);
    // The same again is not another one.
    let again = vec![marked(6), marked(6), marked(MIN_REMEMBERED_MESSAGES)];
    put(store, [deliver(again, later)]).await;
    assert!(!known(0).await);
    assert!(known(1).await && known(MIN_REMEMBERED_MESSAGES).await);
    // Not those that a hub may repeat yet.
    let many = MIN_REMEMBERED_MESSAGES + 1..3 * MIN_REMEMBERED_MESSAGES;
    put(store, [deliver(many.map(marked).collect(), later)]).await;
    assert!(!known(4).await);
    assert!(known(5).await);
}

async fn read_by(store: &dyn Store, user: &str) -> Vec<String> {
    let (user, room) = (uri(user), uri(ROOM));
    let found = store.messages_readable_by(&user, &room, LogPosition::ZERO, 99, 9999);
    let found = found.await.unwrap().into_iter();
    found.map(|it| String::from_utf8(it.body.to_vec()).unwrap()).collect()
}

/// From where they came in to where they went, and again from where they came back.
pub async fn readers_read_what_came_while_they_were_there(store: &dyn Store) {
    let change = |bodies: &[&str], come: &[(&str, usize)], go: &[(&str, usize)]| {
        let users = |users: &[(&str, usize)]| users.iter().map(|(user, index)| (uri(user), *index)).collect();
        let mut write = deliver(bodies.iter().map(|body| message(body)).collect(), at(5));
        if let MimiUserWrite::Deliver { readers, leavers, .. } = &mut write {
            (*readers, *leavers) = (users(come), users(go));
        }
        write
    };
    put(store, [change(&["1", "2", "3"], &[(BOB, 1), (BEN, 0)], &[])]).await;
    let until = async |user: &str| {
        let readable = store.readable_room(&uri(user), &uri(ROOM)).await.unwrap().unwrap();
        let listed = store.rooms_readable_by(&uri(user)).await.unwrap();
        assert_eq!(listed, std::slice::from_ref(&readable));
        (readable.from, readable.until)
    };
    put(store, [change(&["4", "5"], &[], &[(BOB, 0)])]).await;
    assert_eq!(until(BOB).await, (pos(2), Some(pos(4))));
    let found = store.local_order(&uri(ROOM)).await.unwrap();
    assert_eq!((found.head, found.has_log), (pos(5), true));
    assert_eq!(found.readers, BTreeSet::from([uri(BEN)]));
    // Whoever is gone does not go again, and comes back with a later message of the same delivery.
    put(store, [change(&["6"], &[], &[(BOB, 0)])]).await;
    put(store, [change(&["7", "8"], &[(BEN, 1), (BOB, 1)], &[(BEN, 0)])]).await;
    assert_eq!(until(BOB).await, (pos(2), None));
    assert_eq!(read_by(store, BOB).await, ["2", "3", "4", "8"]);
    assert_eq!(read_by(store, BEN).await, ["1", "2", "3", "4", "5", "6", "7", "8"]);
    assert_eq!(read_by(store, "mimi://b.example/u/other").await, Vec::<String>::new());
    // Whoever comes and goes with the same message reads that one.
    let other = "mimi://b.example/u/other";
    put(store, [change(&["9", "10"], &[(other, 0)], &[(other, 0)])]).await;
    assert_eq!(read_by(store, other).await, ["9"]);
    let open = MimiOrderWrite::Open {
        room: uri(ROOM),
        hub: server("hub.example"),
        user: uri(other),
        from: pos(10),
    };
    order(store, open.clone()).await;
    order(store, open).await;
    assert_eq!(read_by(store, other).await, ["9", "10"]);
    assert_eq!(until(other).await, (pos(9), None));
}

/// One by one, within the bounds of what is read at once.
pub async fn withheld_messages_are_not_read(store: &dyn Store) {
    let withheld = |body: &str| NewLocalMessage {
        withheld_from: vec![uri(BOB), uri(BOB)],
        ..message(body)
    };
    let messages = vec![message("1"), withheld("2"), withheld("3"), message("4"), message("5")];
    let mut write = deliver(messages, at(5));
    if let MimiUserWrite::Deliver { readers, .. } = &mut write {
        *readers = vec![(uri(BOB), 0), (uri(BEN), 0)];
    }
    put(store, [write]).await;
    assert_eq!(read_by(store, BOB).await, ["1", "4", "5"]);
    assert_eq!(read_by(store, BEN).await, ["1", "2", "3", "4", "5"]);
    let some = async |after, limit, bytes| {
        let (user, room) = (uri(BOB), uri(ROOM));
        let found = store.messages_readable_by(&user, &room, pos(after), limit, bytes).await;
        let positions = found.unwrap().into_iter().map(|it| it.position.as_i64());
        positions.collect::<Vec<_>>()
    };
    assert_eq!(some(1, 1, 99).await, [4]);
    assert_eq!(some(0, 9, 2).await, [1, 4]);
    assert_eq!(some(1, 9, 0).await, [4]);
}

/// Those that came first go first, whoever they are withheld from.
pub async fn old_messages_are_dropped_and_positions_stay(store: &dyn Store) {
    let withheld = NewLocalMessage {
        withheld_from: vec![uri(BEN)],
        ..message("1")
    };
    let mut write = deliver(vec![withheld, message("2")], at(10));
    if let MimiUserWrite::Deliver { readers, .. } = &mut write {
        *readers = vec![(uri(BOB), 0), (uri(BEN), 0)];
    }
    put(
        store,
        [
            write,
            deliver(vec![message("3")], at(20)),
            deliver(vec![message("4")], at(30)),
        ],
    )
    .await;
    let forget = async |before, limit| {
        let before = at(before);
        put(store, [MimiUserWrite::ForgetLocalMessages { before, limit }]).await;
        read_by(store, BOB).await
    };
    assert_eq!(forget(10, 9).await, ["1", "2", "3", "4"]);
    assert_eq!(forget(21, 1).await, ["2", "3", "4"]);
    assert_eq!(forget(21, 9).await, ["4"]);
    put(store, [deliver(vec![message("5")], at(40))]).await;
    let left = store
        .local_messages(&uri(ROOM), LogPosition::ZERO, 9, 99)
        .await
        .unwrap();
    let left: Vec<_> = left.iter().map(|message| message.position.as_i64()).collect();
    assert_eq!(left, [4, 5]);
    assert_eq!(forget(99, 9).await, Vec::<String>::new());
    put(store, [deliver(vec![message("6")], at(50))]).await;
    assert_eq!(read_by(store, BEN).await, ["6"]);
}
