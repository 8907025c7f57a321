//! Local users: accounts, tokens, devices, inboxes, invites and knocks.

use bytes::Bytes;
use nabe_types::RoomVersionId;

use super::fixture::{at, commit, device, room_id, server, user};
use crate::rules::{MAX_INBOX_ITEMS, MAX_PENDING_ROOMS};
use crate::{Account, InboxItem, InboxKind, PendingMembership, PendingRoom, Store, StoreError, Write};

fn put_account(id: &str, now: u64) -> Write {
    Write::PutAccount {
        user: user(id),
        created_at: at(now),
        token_hash: None,
        device: None,
    }
}

fn inbox(id: &str, for_device: Option<&str>, body: &'static str) -> Write {
    Write::Inbox {
        user: user(id),
        device: for_device.map(device),
        kind: InboxKind::ToDevice,
        body: Bytes::from_static(body.as_bytes()),
        now: at(5),
    }
}

/// The first creation counts.
pub async fn account_is_created_once(store: &dyn Store) {
    let alice = user("@alice:hub.example");
    assert_eq!(store.account(&alice).await.unwrap(), None);
    commit(store, [put_account("@alice:hub.example", 5)]).await.unwrap();
    commit(store, [put_account("@alice:hub.example", 9)]).await.unwrap();
    assert_eq!(
        store.account(&alice).await.unwrap(),
        Some(Account {
            user: alice,
            created_at: at(5),
            deleted_at: None,
        })
    );
}

/// Whoever is deleted has nothing any more, and nobody else becomes them.
pub async fn deleted_account_is_nobody_else_s(store: &dyn Store) {
    let [alice, bob] = ["@alice:hub.example", "@bob:hub.example"];
    let put = |id: &str, token: u8| Write::PutAccount {
        user: user(id),
        created_at: at(5),
        token_hash: Some([token; 32]),
        device: (token == 1).then(|| device("PHONE")),
    };
    let delete = |id: &str, now: u64| Write::DeleteAccount {
        user: user(id),
        now: at(now),
    };
    let pending = |id: &str| PendingRoom {
        user: user(id),
        room: room_id("a"),
        membership: PendingMembership::Invite,
        hub: server("hub.example"),
        version: RoomVersionId::parse("I.1").unwrap(),
        stripped_state: Bytes::from_static(b"[]"),
        event: None,
        at: at(5),
    };
    let of = |id: &str, token: u8| {
        let pending = pending(id);
        [put(id, token), inbox(id, None, "all"), Write::PutPending { pending }]
    };
    let all = of(alice, 1).into_iter().chain([put(alice, 2)]).chain(of(bob, 3));
    commit(store, all).await.unwrap();
    let never = "@never:hub.example";
    commit(store, [delete(alice, 7), delete(alice, 9), delete(never, 7)])
        .await
        .unwrap();
    let deleted = store.account(&user(alice)).await.unwrap().unwrap();
    assert_eq!((deleted.created_at, deleted.deleted_at), (at(5), Some(at(7))));
    assert_eq!(store.account(&user(never)).await.unwrap(), None);
    for token in [1, 2] {
        assert_eq!(store.account_by_token(&[token; 32]).await.unwrap(), None);
    }
    assert!(store.devices(&user(alice)).await.unwrap().is_empty());
    assert_eq!(store.inbox(&user(alice), None, 0, 9).await.unwrap(), vec![]);
    assert_eq!(store.inbox_head(&user(alice)).await.unwrap(), 1);
    assert_eq!(store.pending(&user(alice)).await.unwrap(), vec![]);
    let put_device = Write::PutDevice {
        user: user(alice),
        device: device("PHONE"),
        now: at(9),
    };
    let put_object = Write::PutDeviceObject {
        user: user(alice),
        device: device("PHONE"),
        object: Bytes::from_static(b"{}"),
        forget_key_packages: false,
        now: at(9),
    };
    for again in [put(alice, 1), put_account(alice, 9), put_device, put_object] {
        let refused = commit(store, [inbox(bob, None, "not there"), again]).await;
        assert_eq!(refused, Err(StoreError::AccountDeleted { user: user(alice) }));
    }
    assert!(store.devices(&user(alice)).await.unwrap().is_empty());
    // Of Bob everything is there.
    assert_eq!(store.account_by_token(&[3; 32]).await.unwrap(), Some((user(bob), None)));
    assert_eq!(store.inbox(&user(bob), None, 0, 9).await.unwrap().len(), 1);
    assert_eq!(store.pending(&user(bob)).await.unwrap(), vec![pending(bob)]);
}

/// A token is its user's, and its device's if it was given one.
pub async fn token_leads_to_user_and_device(store: &dyn Store) {
    let alice = user("@alice:hub.example");
    let put = |token: u8, of: Option<&str>| Write::PutAccount {
        user: alice.clone(),
        created_at: at(5),
        token_hash: Some([token; 32]),
        device: of.map(device),
    };
    commit(store, [put(1, None), put(2, Some("PHONE"))]).await.unwrap();
    assert_eq!(
        store.account_by_token(&[1; 32]).await.unwrap(),
        Some((alice.clone(), None))
    );
    assert_eq!(
        store.account_by_token(&[2; 32]).await.unwrap(),
        Some((alice.clone(), Some(device("PHONE"))))
    );
    assert_eq!(store.account_by_token(&[3; 32]).await.unwrap(), None);
    assert_eq!(store.devices(&alice).await.unwrap(), vec![device("PHONE")]);
}

/// A revoked token is no longer anyone's; the others still work.
pub async fn revoked_token_is_forgotten(store: &dyn Store) {
    let alice = user("@alice:hub.example");
    let put = |token: u8| Write::PutAccount {
        user: alice.clone(),
        created_at: at(5),
        token_hash: Some([token; 32]),
        device: None,
    };
    let revoke = || Write::RevokeToken { token_hash: [1; 32] };
    commit(store, [put(1), put(2), revoke(), revoke()]).await.unwrap();
    assert_eq!(store.account_by_token(&[1; 32]).await.unwrap(), None);
    assert_eq!(store.account_by_token(&[2; 32]).await.unwrap(), Some((alice, None)));
}

/// A device makes its account if need be.
pub async fn devices_are_listed_in_order(store: &dyn Store) {
    let put = |id: &str, name: &str| Write::PutDevice {
        user: user(id),
        device: device(name),
        now: at(5),
    };
    let (alice, bob) = ("@alice:hub.example", "@bob:hub.example");
    commit(
        store,
        [put(alice, "Z"), put(alice, "A"), put(bob, "M"), put(alice, "Z")],
    )
    .await
    .unwrap();
    assert_eq!(
        store.devices(&user(alice)).await.unwrap(),
        vec![device("A"), device("Z")]
    );
    assert_eq!(
        store.account(&user(bob)).await.unwrap(),
        Some(Account {
            user: user(bob),
            created_at: at(5),
            deleted_at: None,
        })
    );
    assert!(store.devices(&user("@carol:hub.example")).await.unwrap().is_empty());
}

/// A device sees what is for it or for all.
pub async fn inbox_answers_by_device(store: &dyn Store) {
    let alice = user("@alice:hub.example");
    let items = [
        inbox("@alice:hub.example", None, "all"),
        inbox("@alice:hub.example", Some("PHONE"), "phone"),
        inbox("@bob:hub.example", None, "bob"),
        inbox("@alice:hub.example", Some("LAPTOP"), "laptop"),
        inbox("@alice:hub.example", None, "all again"),
    ];
    commit(store, items).await.unwrap();
    let item = |seq: i64, for_device: Option<&str>, body: &'static str| InboxItem {
        seq,
        device: for_device.map(device),
        kind: InboxKind::ToDevice,
        body: Bytes::from_static(body.as_bytes()),
        at: at(5),
    };
    let phone = device("PHONE");
    assert_eq!(
        store.inbox(&alice, Some(&phone), 0, 9).await.unwrap(),
        vec![
            item(1, None, "all"),
            item(2, Some("PHONE"), "phone"),
            item(4, None, "all again")
        ]
    );
    assert_eq!(
        store.inbox(&alice, Some(&phone), 1, 1).await.unwrap(),
        vec![item(2, Some("PHONE"), "phone")]
    );
    assert_eq!(
        store.inbox(&alice, None, 1, 9).await.unwrap(),
        vec![item(4, None, "all again")]
    );
    assert_eq!(store.inbox(&alice, None, i64::MAX, 9).await.unwrap(), vec![]);
    assert_eq!(store.inbox_head(&alice).await.unwrap(), 4);
}

/// A trimmed inbox goes on counting.
pub async fn inbox_numbers_are_never_reused(store: &dyn Store) {
    let alice = user("@alice:hub.example");
    assert_eq!(store.inbox_head(&alice).await.unwrap(), 0);
    let add = || inbox("@alice:hub.example", None, "x");
    let trim = |up_to: i64| Write::TrimInbox {
        user: alice.clone(),
        up_to,
    };
    commit(store, [add(), add(), add(), trim(2)]).await.unwrap();
    assert_eq!(store.inbox(&alice, None, 0, 9).await.unwrap().len(), 1);
    commit(store, [trim(3), add()]).await.unwrap();
    let left = store.inbox(&alice, None, 0, 9).await.unwrap();
    assert_eq!(left.iter().map(|item| item.seq).collect::<Vec<_>>(), vec![4]);
    assert_eq!(store.inbox_head(&alice).await.unwrap(), 4);
}

/// What nobody fetches does not grow for ever, and costs nobody else anything.
pub async fn full_inbox_drops_the_oldest(store: &dyn Store) {
    let (alice, bob) = (user("@alice:hub.example"), "@bob:hub.example");
    let flood = (0..MAX_INBOX_ITEMS + 2).map(|_| inbox("@alice:hub.example", None, "x"));
    commit(store, [inbox(bob, None, "bob")].into_iter().chain(flood))
        .await
        .unwrap();
    let left = store.inbox(&alice, None, 0, usize::MAX).await.unwrap();
    let numbers: Vec<_> = left.iter().map(|item| item.seq).collect();
    assert_eq!(numbers, (3..=MAX_INBOX_ITEMS + 2).collect::<Vec<_>>());
    assert_eq!(store.inbox(&user(bob), None, 0, 9).await.unwrap().len(), 1);
}

/// The oldest by their moment, then by room ID; another user's are left alone.
pub async fn full_list_of_pending_rooms_drops_the_oldest(store: &dyn Store) {
    let put = |id: &str, room: &str, now: u64| {
        let pending = PendingRoom {
            user: user(id),
            room: room_id(room),
            membership: PendingMembership::Invite,
            hub: server("hub.example"),
            version: RoomVersionId::parse("I.1").unwrap(),
            stripped_state: Bytes::from_static(b"[]"),
            event: None,
            at: at(now),
        };
        Write::PutPending { pending }
    };
    let (bob, carol) = ("@bob:b.example", "@carol:b.example");
    let rest = (0..MAX_PENDING_ROOMS - 2).map(|n| put(bob, &format!("r{n}"), 7));
    let first = [put(carol, "a", 1), put(bob, "z", 5), put(bob, "y", 6)];
    commit(store, first.into_iter().chain(rest)).await.unwrap();
    commit(store, [put(bob, "new", 8), put(bob, "new", 9)]).await.unwrap();
    let has = async |id: &str, room: &str| store.pending_room(&user(id), &room_id(room)).await.unwrap().is_some();
    assert_eq!(store.pending(&user(bob)).await.unwrap().len(), MAX_PENDING_ROOMS);
    assert!(!has(bob, "z").await && has(bob, "y").await && has(bob, "new").await && has(carol, "a").await);
}

/// Invites and knocks by user and by room.
pub async fn pending_rooms_come_and_go(store: &dyn Store) {
    let pending = |id: &str, room: &str, membership, event: Option<&'static str>| PendingRoom {
        user: user(id),
        room: room_id(room),
        membership,
        hub: server("hub.example"),
        version: RoomVersionId::parse("I.1").unwrap(),
        stripped_state: Bytes::from_static(b"[]"),
        event: event.map(|event| Bytes::from_static(event.as_bytes())),
        at: at(5),
    };
    let put = |pending: &PendingRoom| Write::PutPending {
        pending: pending.clone(),
    };
    let (bob, carol) = ("@bob:b.example", "@carol:b.example");
    let knock = pending(bob, "a", PendingMembership::Knock, None);
    let other = pending(bob, "b", PendingMembership::Knock, None);
    let carols = pending(carol, "a", PendingMembership::Invite, Some("{}"));
    commit(store, [put(&other), put(&knock), put(&carols)]).await.unwrap();
    let invite = pending(bob, "a", PendingMembership::Invite, Some("{}"));
    commit(store, [put(&invite)]).await.unwrap();
    assert_eq!(
        store.pending(&user(bob)).await.unwrap(),
        vec![invite.clone(), other.clone()]
    );
    assert_eq!(store.pending_len(&user(bob)).await.unwrap(), 2);
    assert_eq!(
        store.pending_in(&room_id("a")).await.unwrap(),
        vec![invite.clone(), carols.clone()]
    );
    assert_eq!(
        store.pending_room(&user(bob), &room_id("a")).await.unwrap(),
        Some(invite)
    );
    let remove = || Write::RemovePending {
        user: user(bob),
        room: room_id("a"),
    };
    commit(store, [remove(), remove()]).await.unwrap();
    assert_eq!(store.pending_room(&user(bob), &room_id("a")).await.unwrap(), None);
    assert_eq!(store.pending(&user(bob)).await.unwrap(), vec![other]);
    assert_eq!(store.pending_in(&room_id("a")).await.unwrap(), vec![carols]);
}
