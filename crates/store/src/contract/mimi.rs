//! Rooms of MIMI: the log, the group, and who is notified how far.

use bytes::Bytes;
use nabe_core::mimi::{Audience, KeyPackageRoute, MimiEntry, MimiEntryKind, MimiUri, StoredMimiRoom};
use nabe_core::{FollowerChange, GroupChange};

use super::fixture::{at, commit, pos, server};
use crate::{Between, FetchedKeyPackage, MimiFollower, MimiWrite, Notification, NotifyWork, Store, StoreError, Write};

fn uri(name: &str) -> MimiUri {
    MimiUri::parse(&format!("mimi://hub.example/r/{name}")).unwrap()
}

fn entry(position: i64, kind: MimiEntryKind) -> MimiEntry {
    MimiEntry {
        position: pos(position),
        kind,
        accepted: at(1000 + position.unsigned_abs()),
        origin: server("b.example"),
        audience: Audience::Others,
        body: Bytes::from(format!("{kind} at {position}")),
    }
}

fn change(position: i64) -> GroupChange {
    GroupChange {
        position: pos(position),
        bytes: Bytes::from(format!("change at {position}")),
    }
}

fn append(room: &str, expected: i64, entries: Vec<MimiEntry>) -> MimiWrite {
    MimiWrite::Append {
        room: uri(room),
        expected: pos(expected),
        entries,
        group: vec![],
        left_over: None,
        followers: vec![],
        now: at(5),
    }
}

fn with(mut write: MimiWrite, changes: Vec<GroupChange>, over: Option<&'static [u8]>) -> MimiWrite {
    if let MimiWrite::Append { group, left_over, .. } = &mut write {
        *group = changes;
        *left_over = over.map(Bytes::from_static);
    }
    write
}

fn following(mut write: MimiWrite, changes: Vec<FollowerChange>) -> MimiWrite {
    if let MimiWrite::Append { followers, .. } = &mut write {
        *followers = changes;
    }
    write
}

fn open(provider: &str, from: i64) -> FollowerChange {
    FollowerChange::Open {
        server: server(provider),
        from: pos(from),
    }
}

fn close(provider: &str, until: i64) -> FollowerChange {
    FollowerChange::Close {
        server: server(provider),
        until: pos(until),
    }
}

async fn put(store: &dyn Store, writes: impl IntoIterator<Item = MimiWrite>) -> Result<(), StoreError> {
    commit(store, writes.into_iter().map(Write::Mimi)).await
}

fn found(room: &str) -> MimiWrite {
    MimiWrite::Found {
        room: uri(room),
        now: at(7),
    }
}

/// Asking for one follower says the same as asking for all.
async fn is_the_work_of_each(store: &dyn Store, all: &[NotifyWork]) {
    for work in all {
        let (room, provider) = (&work.follower.room, &work.follower.provider);
        assert_eq!(store.notify_work_of(room, provider).await.unwrap().as_ref(), Some(work));
        let nobody = server("nobody.example");
        assert_eq!(store.notify_work_of(room, &nobody).await.unwrap(), None);
    }
}

async fn kept(store: &dyn Store, room: &str) -> StoredMimiRoom {
    store.mimi_room(&uri(room)).await.unwrap().unwrap()
}

fn conflict(room: &str) -> Result<(), StoreError> {
    Err(StoreError::MimiConflict { room: uri(room) })
}

/// A room begins empty.
pub async fn room_of_mimi_is_founded_once(store: &dyn Store) {
    assert_eq!(store.mimi_room(&uri("a")).await.unwrap(), None);
    assert_eq!(store.mimi_head(&uri("a")).await.unwrap(), None);
    put(store, [found("b"), found("a")]).await.unwrap();
    assert_eq!(put(store, [found("a")]).await, conflict("a"));
    let room = kept(store, "a").await;
    assert_eq!((room.created_at, room.newest, room.position), (at(7), at(7), pos(0)));
    assert!(room.group.changes.is_empty() && room.left_over.is_empty() && room.proposals.is_empty());
    assert_eq!(store.mimi_rooms().await.unwrap(), [uri("a"), uri("b")]);
}

/// Entries come back as they were put, of their room alone and within bounds.
pub async fn log_of_mimi_grows(store: &dyn Store) {
    let mut to_two = entry(2, MimiEntryKind::Welcome);
    to_two.audience = Audience::Only(vec![server("c.example"), server("d.example")]);
    let mut to_nobody = entry(3, MimiEntryKind::Founded);
    to_nobody.audience = Audience::Only(vec![]);
    to_nobody.body = Bytes::new();
    let first = entry(1, MimiEntryKind::Application);
    put(store, [found("a"), found("b"), append("a", 0, vec![first.clone()])])
        .await
        .unwrap();
    put(store, [append("a", 1, vec![to_two.clone(), to_nobody.clone()])])
        .await
        .unwrap();
    let read = |between, limit| async move { store.mimi_entries(&uri("a"), between, limit, usize::MAX).await.unwrap() };
    assert_eq!(read(Between::ALL, 10).await, [first.clone(), to_two.clone(), to_nobody]);
    assert_eq!(read(Between::after(pos(1)), 1).await, [to_two.clone()]);
    let second = Between {
        after: pos(1),
        through: pos(2),
    };
    assert_eq!(read(second, 10).await, [to_two]);
    assert_eq!(
        store
            .mimi_entries(&uri("b"), Between::ALL, 10, usize::MAX)
            .await
            .unwrap(),
        []
    );
    assert_eq!(store.mimi_head(&uri("a")).await.unwrap(), Some(pos(3)));
    assert_eq!(kept(store, "a").await.newest, at(1003));
}

/// Whoever catches up takes as many bytes as it has room for, and gets ahead even if one entry has more than that.
pub async fn log_of_mimi_is_read_within_bytes(store: &dyn Store) {
    let sized = |position, size: usize| MimiEntry {
        body: Bytes::from(vec![7; size]),
        ..entry(position, MimiEntryKind::Application)
    };
    let all = vec![
        sized(1, 500),
        sized(2, 0),
        sized(3, 10),
        sized(4, 10),
        sized(5, 0),
        sized(6, 11),
    ];
    put(store, [found("a"), append("a", 0, all.clone())]).await.unwrap();
    let read = |after, limit, max_bytes| async move {
        let between = Between::after(pos(after));
        store.mimi_entries(&uri("a"), between, limit, max_bytes).await.unwrap()
    };
    assert_eq!(read(0, 10, 0).await, all[..1]);
    assert_eq!(read(0, 10, 499).await, all[..1]);
    assert_eq!(read(0, 10, 509).await, all[..2]);
    assert_eq!(read(0, 10, 510).await, all[..3]);
    assert_eq!(read(1, 10, 0).await, all[1..2]);
    assert_eq!(read(2, 10, 20).await, all[2..5]);
    assert_eq!(read(2, 2, 20).await, all[2..4]);
    assert_eq!(read(2, 0, 20).await, []);
    assert_eq!(read(0, 10, 531).await, all);
    assert_eq!(read(6, 10, 0).await, []);
}

/// And leave no trace.
pub async fn appends_to_mimi_that_do_not_fit_conflict(store: &dyn Store) {
    let grown = with(
        append("a", 0, vec![entry(1, MimiEntryKind::Founded)]),
        vec![change(1)],
        None,
    );
    put(store, [found("a"), grown]).await.unwrap();
    let before = kept(store, "a").await;
    let one = |position| vec![entry(position, MimiEntryKind::Application)];
    for bad in [
        append("a", 0, one(1)),
        append("a", 2, one(3)),
        append("a", 1, one(3)),
        with(append("a", 1, one(2)), vec![change(1)], Some(b"lost")),
        with(append("a", 1, one(2)), vec![change(3)], Some(b"lost")),
    ] {
        assert_eq!(put(store, [found("b"), bad.clone()]).await, conflict("a"), "{bad:?}");
    }
    assert_eq!(kept(store, "a").await, before);
    assert_eq!(store.mimi_room(&uri("b")).await.unwrap(), None);
    let nowhere = StoreError::UnknownMimiRoom { room: uri("c") };
    for lost in [
        append("c", 0, one(1)),
        append("c", 0, one(7)),
        MimiWrite::PutGroup {
            room: uri("c"),
            position: pos(1),
            checkpoint: Bytes::new(),
        },
        MimiWrite::Freeze {
            notification: notification("c", 1),
        },
        MimiWrite::Backoff {
            room: uri("c"),
            provider: server("b.example"),
            failures: 1,
            next_attempt: at(1),
            last_error: String::new(),
        },
    ] {
        assert_eq!(put(store, [lost]).await, Err(nowhere.clone()));
    }
}

/// Those before it are settled; what is left over is the newest commit's.
pub async fn proposals_since_the_newest_commit_are_loaded(store: &dyn Store) {
    use MimiEntryKind::{Application, Commit, Founded, Proposal};
    let log = [Founded, Proposal, Commit, Proposal, Application, Proposal];
    let entries: Vec<_> = (1..).zip(log).map(|(position, kind)| entry(position, kind)).collect();
    put(store, [found("a"), append("a", 0, entries[..2].to_vec())])
        .await
        .unwrap();
    assert_eq!(kept(store, "a").await.proposals, [entries[1].clone()]);
    let commit = with(
        append("a", 2, entries[2..3].to_vec()),
        vec![change(3)],
        Some(b"left over"),
    );
    put(store, [commit, append("a", 3, entries[3..].to_vec())])
        .await
        .unwrap();
    let room = kept(store, "a").await;
    assert_eq!(room.proposals, [entries[3].clone(), entries[5].clone()]);
    assert_eq!(&room.left_over[..], b"left over");
}

/// Changes after it are kept beside it.
pub async fn checkpoint_of_a_mimi_group_replaces_its_changes(store: &dyn Store) {
    let entries = |range: std::ops::RangeInclusive<i64>| range.map(|at| entry(at, MimiEntryKind::Commit)).collect();
    let grown = with(append("a", 0, entries(1..=3)), vec![change(1), change(3)], None);
    put(store, [found("a"), grown]).await.unwrap();
    let whole = |position| MimiWrite::PutGroup {
        room: uri("a"),
        position: pos(position),
        checkpoint: Bytes::from_static(b"whole"),
    };
    assert_eq!(kept(store, "a").await.group.changes, [change(1), change(3)]);
    for position in [1, 2, 4] {
        assert_eq!(put(store, [whole(position)]).await, conflict("a"));
    }
    let more = with(append("a", 3, entries(4..=4)), vec![change(4)], None);
    put(store, [whole(3), more]).await.unwrap();
    let group = kept(store, "a").await.group;
    assert_eq!(group.checkpoint.as_deref(), Some(&b"whole"[..]));
    assert_eq!((group.changes, group.newest), (vec![change(4)], Some(pos(4))));
}

fn notification(room: &str, through: i64) -> Notification {
    Notification {
        room: uri(room),
        provider: server("b.example"),
        interval_from: pos(2),
        after: pos(1),
        through: pos(through),
        body_sha256: [7; 32],
        frozen_at: at(9),
    }
}

fn confirm(room: &str, body_sha256: [u8; 32]) -> MimiWrite {
    MimiWrite::Confirm {
        room: uri(room),
        provider: server("b.example"),
        body_sha256,
    }
}

fn messages(range: std::ops::RangeInclusive<i64>) -> Vec<MimiEntry> {
    range.map(|at| entry(at, MimiEntryKind::Application)).collect()
}

/// Open intervals are owed what is appended, closed ones what was before their end.
pub async fn followers_of_mimi_are_owed_what_comes(store: &dyn Store) {
    let begin = following(
        append("a", 0, messages(1..=1)),
        vec![open("b.example", 2), open("c.example", 1)],
    );
    put(store, [found("a"), begin]).await.unwrap();
    let follower = |provider: &str, from, until: Option<i64>, delivered, dirty: Option<u64>| MimiFollower {
        room: uri("a"),
        provider: server(provider),
        from: pos(from),
        until: until.map(pos),
        delivered: pos(delivered),
        dirty_since: dirty.map(at),
    };
    let followers = || async { store.mimi_followers(&uri("a")).await.unwrap() };
    let b = follower("b.example", 2, None, 1, None);
    assert_eq!(followers().await, [b, follower("c.example", 1, None, 0, Some(5))]);
    let more = following(append("a", 1, messages(2..=3)), vec![close("b.example", 2)]);
    put(store, [more]).await.unwrap();
    let back = following(append("a", 3, messages(4..=4)), vec![open("b.example", 4)]);
    put(store, [back]).await.unwrap();
    let expected = [
        follower("b.example", 2, Some(2), 1, Some(5)),
        follower("b.example", 4, None, 3, Some(5)),
        follower("c.example", 1, None, 0, Some(5)),
    ];
    assert_eq!(followers().await, expected);
    let work = store.notify_work(at(1_000), 10).await.unwrap();
    is_the_work_of_each(store, &work).await;
    let owed: Vec<_> = work.iter().map(|work| (work.follower.clone(), work.owed)).collect();
    // Of a provider what is older comes first.
    assert_eq!(owed, [(expected[0].clone(), pos(2)), (expected[2].clone(), pos(4))]);
    assert_eq!(store.notify_work(at(1_000), 1).await.unwrap().len(), 1);
    // What it is not to get is passed over.
    let skip = MimiWrite::Skip {
        room: uri("a"),
        provider: server("b.example"),
        interval_from: pos(2),
        through: pos(2),
    };
    put(store, [skip]).await.unwrap();
    assert_eq!(followers().await[0], follower("b.example", 2, Some(2), 2, None));
    assert_eq!(store.notify_work(at(1_000), 10).await.unwrap()[0].follower, expected[1]);
}

/// It is confirmed by its body and moves the cursor, as far as it goes.
pub async fn one_notification_of_a_follower_is_in_flight(store: &dyn Store) {
    let begin = following(append("a", 0, messages(1..=4)), vec![open("b.example", 2)]);
    put(store, [found("a"), begin]).await.unwrap();
    let not_in_flight = StoreError::MimiNotInFlight {
        room: uri("a"),
        provider: server("b.example"),
    };
    assert_eq!(put(store, [confirm("a", [7; 32])]).await, Err(not_in_flight.clone()));
    let sent = notification("a", 3);
    let freeze = || MimiWrite::Freeze {
        notification: sent.clone(),
    };
    put(store, [freeze()]).await.unwrap();
    let in_flight = || async { store.notification(&uri("a"), &server("b.example")).await.unwrap() };
    assert_eq!(in_flight().await, Some(sent.clone()));
    let skip = MimiWrite::Skip {
        room: uri("a"),
        provider: server("b.example"),
        interval_from: pos(2),
        through: pos(4),
    };
    for refused in [freeze(), skip, confirm("a", [8; 32])] {
        assert_eq!(put(store, [refused]).await, Err(not_in_flight.clone()));
    }
    put(store, [confirm("a", [7; 32])]).await.unwrap();
    assert_eq!(in_flight().await, None);
    let work = store.notify_work(at(1_000), 10).await.unwrap();
    is_the_work_of_each(store, &work).await;
    assert_eq!((work[0].follower.delivered, work[0].owed), (pos(3), pos(4)));
    let rest = Notification {
        after: pos(3),
        ..notification("a", 4)
    };
    put(store, [MimiWrite::Freeze { notification: rest }, confirm("a", [7; 32])])
        .await
        .unwrap();
    assert_eq!(store.notify_work(at(1_000), 10).await.unwrap(), []);
}

/// Until something got through.
pub async fn failures_of_a_follower_are_remembered(store: &dyn Store) {
    let begin = following(append("a", 0, messages(1..=3)), vec![open("b.example", 2)]);
    put(store, [found("a"), begin]).await.unwrap();
    for (failures, next_attempt) in [(1, 100), (2, 300)] {
        let backoff = MimiWrite::Backoff {
            room: uri("a"),
            provider: server("b.example"),
            failures,
            next_attempt: at(next_attempt),
            last_error: "unreachable".to_owned(),
        };
        put(store, [backoff]).await.unwrap();
        let work = store.notify_work(at(1_000), 10).await.unwrap();
        is_the_work_of_each(store, &work).await;
        assert_eq!((work[0].failures, work[0].next_attempt), (failures, at(next_attempt)));
        assert_eq!(store.notify_work(at(next_attempt - 1), 10).await.unwrap(), []);
    }
    let freeze = MimiWrite::Freeze {
        notification: notification("a", 2),
    };
    put(store, [freeze, confirm("a", [7; 32])]).await.unwrap();
    let work = store.notify_work(at(1_000), 10).await.unwrap();
    is_the_work_of_each(store, &work).await;
    assert_eq!((work[0].failures, work[0].next_attempt), (0, at(0)));
}

/// Until its Welcome is on its way, or it expires.
pub async fn fetched_key_packages_are_remembered(store: &dyn Store) {
    let package = |reference: &'static [u8], client: &str, expires_at| FetchedKeyPackage {
        reference: Bytes::from_static(reference),
        route: KeyPackageRoute {
            provider: server("b.example"),
            user: MimiUri::parse("mimi://b.example/u/bob").unwrap(),
            client: MimiUri::parse(&format!("mimi://b.example/d/bob/{client}")).unwrap(),
        },
        room: Some(uri("a")),
        expires_at: at(expires_at),
        until_expiry: false,
    };
    let [one, two, three] = [package(b"1", "A", 10), package(b"2", "B", 20), package(b"3", "C", 30)];
    let packages = vec![one.clone(), two.clone(), three.clone()];
    put(store, [MimiWrite::PutKeyPackages { packages }]).await.unwrap();
    let other = vec![package(b"1", "Z", 99)];
    put(store, [MimiWrite::PutKeyPackages { packages: other }])
        .await
        .unwrap();
    let known = || async {
        let references: Vec<_> = [b"1", b"2", b"3", b"4"].map(|it| Bytes::from_static(it)).to_vec();
        let mut found = store.fetched_key_packages(&references, None).await.unwrap();
        found.sort_by_key(|package| package.reference.clone());
        found
    };
    assert_eq!(known().await, [one, two.clone(), three.clone()], "the first stays");
    put(store, [MimiWrite::ExpireKeyPackages { now: at(20) }])
        .await
        .unwrap();
    assert_eq!(known().await, [two, three.clone()]);
    let references = vec![Bytes::from_static(b"2")];
    put(store, [MimiWrite::ForgetKeyPackages { references }]).await.unwrap();
    assert_eq!(known().await, std::slice::from_ref(&three));
    // Somebody proposes to add its client, so it is needed after the next Welcome, too.
    let lasting = FetchedKeyPackage {
        until_expiry: true,
        ..three.clone()
    };
    let references = vec![three.reference.clone()];
    let forget = || MimiWrite::ForgetKeyPackages {
        references: references.clone(),
    };
    for packages in [vec![lasting.clone()], vec![three]] {
        put(store, [MimiWrite::PutKeyPackages { packages }, forget()])
            .await
            .unwrap();
        assert_eq!(known().await, std::slice::from_ref(&lasting));
    }
    put(store, [MimiWrite::ExpireKeyPackages { now: at(31) }])
        .await
        .unwrap();
    assert_eq!(known().await, []);
}

/// What was for any room is for the one that it is proposed in, from then on; and one of last resort is for several, each by itself.
pub async fn fetched_key_packages_are_for_a_room(store: &dyn Store) {
    let package = |reference: &'static [u8], room: Option<&str>, until_expiry| FetchedKeyPackage {
        reference: Bytes::from_static(reference),
        route: KeyPackageRoute {
            provider: server("b.example"),
            user: MimiUri::parse("mimi://b.example/u/bob").unwrap(),
            client: MimiUri::parse("mimi://b.example/d/bob/A").unwrap(),
        },
        room: room.map(uri),
        expires_at: at(10),
        until_expiry,
    };
    let remember = async |package: FetchedKeyPackage| {
        let packages = vec![package];
        put(store, [MimiWrite::PutKeyPackages { packages }]).await.unwrap();
    };
    let known_in = async |room: Option<&str>| {
        let references = [b"1", b"2", b"3"].map(|it| Bytes::from_static(it));
        let room = room.map(uri);
        let mut found = store.fetched_key_packages(&references, room.as_ref()).await.unwrap();
        found.sort_by_key(|package| (package.reference.clone(), package.room.clone()));
        found
    };
    let (one, any) = (package(b"1", Some("a"), false), package(b"2", None, false));
    let last = ["a", "b"].map(|room| package(b"3", Some(room), true));
    for package in [&one, &any, &last[0], &last[1]] {
        remember(package.clone()).await;
    }
    assert_eq!(known_in(Some("a")).await, [one.clone(), any.clone(), last[0].clone()]);
    assert_eq!(known_in(Some("b")).await, [any.clone(), last[1].clone()]);
    assert_eq!(known_in(None).await, [one, any, last[0].clone(), last[1].clone()]);
    let proposed = package(b"2", Some("b"), true);
    remember(proposed.clone()).await;
    let references = vec![Bytes::from_static(b"1"), Bytes::from_static(b"2")];
    put(store, [MimiWrite::ForgetKeyPackages { references }]).await.unwrap();
    assert_eq!(known_in(Some("a")).await, [last[0].clone()]);
    assert_eq!(known_in(Some("b")).await, [proposed.clone(), last[1].clone()]);
    // For which room is not known, and some Add waits for it: it stays.
    let anywhere = package(b"1", None, true);
    remember(anywhere.clone()).await;
    let here = package(b"1", Some("b"), false);
    remember(here.clone()).await;
    assert_eq!(known_in(Some("a")).await, [anywhere.clone(), last[0].clone()]);
    assert_eq!(known_in(Some("b")).await, [anywhere, here, proposed, last[1].clone()]);
}
