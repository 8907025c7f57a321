//! Device objects, devices of others, key packages, notices.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::future::join_all;
use nabe_types::{DeviceId, UnixMillis};

use super::fixture::{at, commit, device, user};
use crate::rules::{MAX_KEY_PACKAGES, MAX_REMOTE_DEVICE_BYTES, MAX_REMOTE_DEVICES, MAX_SPENT_KEY_PACKAGES};
use crate::{
    ClaimedKeyPackage, InboxKind, KeyPackage, KeyPackageClaim, KeyPackageCount, KeyPackageKept, RemoteDevice, Store,
    StoreError, StoredDevice, Write,
};

const ALICE: &str = "@alice:hub.example";
const LATE: UnixMillis = at(1_000_000);

fn put_object(name: &str, object: &'static str, forget_key_packages: bool) -> Write {
    Write::PutDeviceObject {
        user: user(ALICE),
        device: device(name),
        object: Bytes::from_static(object.as_bytes()),
        forget_key_packages,
        now: at(5),
    }
}

fn put_device(name: &str) -> Write {
    Write::PutDevice {
        user: user(ALICE),
        device: device(name),
        now: at(5),
    }
}

fn package(name: &str) -> KeyPackage {
    KeyPackage {
        suite: 1,
        hash_ref: name.to_owned(),
        body: Bytes::copy_from_slice(name.as_bytes()),
        not_after: LATE,
        last_resort: false,
    }
}

fn last_resort(name: &str) -> KeyPackage {
    KeyPackage {
        last_resort: true,
        ..package(name)
    }
}

fn expiring(name: &str, not_after: u64) -> KeyPackage {
    KeyPackage {
        not_after: at(not_after),
        ..package(name)
    }
}

fn claim_of(name: &str) -> KeyPackageClaim {
    KeyPackageClaim {
        user: user(ALICE),
        device: device(name),
        suite: 1,
        only_last_resort: false,
    }
}

async fn add(store: &dyn Store, packages: &[KeyPackage]) -> Vec<KeyPackageKept> {
    let (alice, phone) = (user(ALICE), device("PHONE"));
    store.add_key_packages(&alice, &phone, packages, at(10)).await.unwrap()
}

/// Body, whether it was the last resort, and how many are left.
async fn claim(store: &dyn Store, claim: KeyPackageClaim, now: u64) -> Option<(String, bool, u64)> {
    let mut claimed = store.claim_key_packages(&[claim], at(now)).await.unwrap();
    assert_eq!(claimed.len(), 1, "one answer per claim");
    claimed.remove(0).map(|claimed| seen(&claimed))
}

fn seen(claimed: &ClaimedKeyPackage) -> (String, bool, u64) {
    let body = String::from_utf8_lossy(&claimed.body).into_owned();
    (body, claimed.last_resort, claimed.left)
}

fn got(body: &str, is_last_resort: bool, left: u64) -> Option<(String, bool, u64)> {
    Some((body.to_owned(), is_last_resort, left))
}

/// An object makes its device if need be, stays byte for byte, and gives way to the next.
pub async fn device_object_is_kept_and_replaced(store: &dyn Store) {
    let alice = user(ALICE);
    let of = |name: &str, object: Option<&'static str>| StoredDevice {
        device: device(name),
        object: object.map(|object| Bytes::from_static(object.as_bytes())),
    };
    commit(
        store,
        [
            put_device("OLD"),
            put_object("PHONE", "1", false),
            put_object("A", "a", false),
        ],
    )
    .await
    .unwrap();
    commit(store, [put_object("PHONE", "2", false), put_device("PHONE")])
        .await
        .unwrap();
    let found = async |name: &str| store.device(&alice, &device(name)).await.unwrap();
    assert_eq!(found("PHONE").await, Some(of("PHONE", Some("2"))));
    assert_eq!(found("OLD").await, Some(of("OLD", None)));
    assert_eq!(found("NONE").await, None);
    assert_eq!(
        store.published_devices(&alice).await.unwrap(),
        [of("A", Some("a")), of("PHONE", Some("2"))]
    );
    assert_eq!(store.published_devices(&user("@bob:hub.example")).await.unwrap(), []);
}

/// With a device goes all that was for it, and nothing else.
pub async fn removed_device_leaves_nothing(store: &dyn Store) {
    let alice = user(ALICE);
    let token = |token: u8, name: Option<&str>| Write::PutAccount {
        user: alice.clone(),
        created_at: at(5),
        token_hash: Some([token; 32]),
        device: name.map(device),
    };
    let item = |name: Option<&str>| Write::Inbox {
        user: alice.clone(),
        device: name.map(device),
        kind: InboxKind::ToDevice,
        body: Bytes::from_static(b"x"),
        now: at(5),
    };
    let writes = [
        put_object("PHONE", "1", false),
        put_object("LAPTOP", "2", false),
        token(1, Some("PHONE")),
        token(2, Some("LAPTOP")),
        token(3, None),
        item(Some("PHONE")),
        item(Some("LAPTOP")),
        item(None),
    ];
    commit(store, writes).await.unwrap();
    add(store, &[package("a"), package("b")]).await;
    assert!(claim(store, claim_of("PHONE"), 10).await.is_some());
    let remove = || Write::RemoveDevice {
        user: alice.clone(),
        device: device("PHONE"),
    };
    commit(store, [remove(), remove()]).await.unwrap();
    assert_eq!(store.devices(&alice).await.unwrap(), [device("LAPTOP")]);
    assert_eq!(store.published_devices(&alice).await.unwrap().len(), 1);
    assert_eq!(store.account_by_token(&[1; 32]).await.unwrap(), None);
    for other in [2, 3] {
        assert!(store.account_by_token(&[other; 32]).await.unwrap().is_some());
    }
    let left = |name: &'static str| {
        let alice = alice.clone();
        async move { store.inbox(&alice, Some(&device(name)), 0, 9).await.unwrap().len() }
    };
    assert_eq!((left("PHONE").await, left("LAPTOP").await), (1, 2));
    assert_eq!(claim(store, claim_of("PHONE"), 10).await, None);
    assert_eq!(add(store, &[package("c")]).await, [KeyPackageKept::NoDevice]);
    // A device of that name that comes later is another one.
    commit(store, [put_device("PHONE")]).await.unwrap();
    let phone = store.device(&alice, &device("PHONE")).await.unwrap().unwrap();
    assert_eq!(phone.object, None);
    assert_eq!(
        store.key_packages_left(&alice, &device("PHONE"), at(10)).await.unwrap(),
        []
    );
}

/// Each goes once, the one that expires first before the others; expired ones never.
pub async fn key_package_is_claimed_once(store: &dyn Store) {
    commit(store, [put_device("PHONE"), put_device("LAPTOP")])
        .await
        .unwrap();
    let packages = [
        expiring("late", 90),
        expiring("soon", 20),
        expiring("mid", 50),
        expiring("mid2", 50),
    ];
    assert_eq!(add(store, &packages).await, [KeyPackageKept::Kept; 4]);
    let other_suite = KeyPackage {
        suite: 2,
        ..expiring("other", 90)
    };
    assert_eq!(add(store, &[other_suite]).await, [KeyPackageKept::Kept]);
    assert_eq!(claim(store, claim_of("LAPTOP"), 10).await, None);
    let bobs = KeyPackageClaim {
        user: user("@bob:hub.example"),
        ..claim_of("PHONE")
    };
    assert_eq!(claim(store, bobs, 10).await, None);
    assert_eq!(claim(store, claim_of("PHONE"), 10).await, got("soon", false, 3));
    assert_eq!(claim(store, claim_of("PHONE"), 50).await, got("late", false, 0));
    let (twice, now) = ([claim_of("PHONE"), claim_of("PHONE"), claim_of("PHONE")], at(49));
    let claimed = store.claim_key_packages(&twice, now).await.unwrap();
    let claimed: Vec<_> = claimed.iter().map(|claimed| claimed.as_ref().map(seen)).collect();
    assert_eq!(claimed, [got("mid", false, 1), got("mid2", false, 0), None]);
}

/// The last resort only when there is no other, again and again; at once for who shall have no other.
pub async fn last_resort_comes_last_and_stays(store: &dyn Store) {
    commit(store, [put_device("PHONE")]).await.unwrap();
    add(store, &[last_resort("z"), package("a"), package("b")]).await;
    let only = KeyPackageClaim {
        only_last_resort: true,
        ..claim_of("PHONE")
    };
    assert_eq!(claim(store, only.clone(), 10).await, got("z", true, 2));
    assert_eq!(claim(store, claim_of("PHONE"), 10).await, got("a", false, 1));
    assert_eq!(claim(store, claim_of("PHONE"), 10).await, got("b", false, 0));
    for _ in 0..3 {
        assert_eq!(claim(store, claim_of("PHONE"), 10).await, got("z", true, 0));
    }
    // A new one replaces it; an expired one is no resort.
    let newer = KeyPackage {
        not_after: at(30),
        ..last_resort("y")
    };
    assert_eq!(add(store, &[newer]).await, [KeyPackageKept::Kept]);
    assert_eq!(claim(store, only.clone(), 29).await, got("y", true, 0));
    assert_eq!(claim(store, only, 30).await, None);
}

/// What was handed out, or is here, is not taken in again; more than the limit are refused; expired ones make room.
pub async fn key_packages_are_bounded_and_not_taken_twice(store: &dyn Store) {
    commit(store, [put_device("PHONE")]).await.unwrap();
    let many: Vec<_> = (0..MAX_KEY_PACKAGES + 2)
        .map(|n| expiring(&format!("p{n:03}"), 40))
        .collect();
    let kept = add(store, &many).await;
    assert!(
        kept[..MAX_KEY_PACKAGES]
            .iter()
            .all(|kept| *kept == KeyPackageKept::Kept)
    );
    assert_eq!(kept[MAX_KEY_PACKAGES..], [KeyPackageKept::Full; 2]);
    assert_eq!(
        add(store, &[last_resort("z")]).await,
        [KeyPackageKept::Kept],
        "it does not count"
    );
    assert_eq!(claim(store, claim_of("PHONE"), 10).await.unwrap().0, "p000");
    let again = [
        expiring("p000", 40),
        expiring("p001", 40),
        package("new"),
        package("new2"),
    ];
    assert_eq!(
        add(store, &again).await,
        [
            KeyPackageKept::Spent,
            KeyPackageKept::Known,
            KeyPackageKept::Kept,
            KeyPackageKept::Full
        ]
    );
    let (alice, phone) = (user(ALICE), device("PHONE"));
    let later = store.add_key_packages(&alice, &phone, &[package("new3")], at(40)).await;
    assert_eq!(later.unwrap(), [KeyPackageKept::Kept]);
    let left = store.key_packages_left(&alice, &phone, at(40)).await.unwrap();
    let count = KeyPackageCount {
        suite: 1,
        left: 2,
        has_last_resort: true,
    };
    assert_eq!(left, [count]);
}

/// A device that changes its key is not reached by packages made with the old one.
pub async fn new_key_forgets_key_packages(store: &dyn Store) {
    commit(store, [put_object("PHONE", "1", false)]).await.unwrap();
    add(store, &[package("a"), last_resort("z")]).await;
    commit(store, [put_object("PHONE", "2", false)]).await.unwrap();
    let left = async || {
        store
            .key_packages_left(&user(ALICE), &device("PHONE"), at(10))
            .await
            .unwrap()
            .len()
    };
    assert_eq!(left().await, 1);
    commit(store, [put_object("PHONE", "3", true)]).await.unwrap();
    assert_eq!(left().await, 0);
}

/// Expired packages and memories of spent ones go; the rest stays.
pub async fn expired_key_packages_are_dropped(store: &dyn Store) {
    commit(store, [put_device("PHONE")]).await.unwrap();
    add(store, &[expiring("a", 20), expiring("b", 20), expiring("c", 30)]).await;
    assert_eq!(claim(store, claim_of("PHONE"), 10).await.unwrap().0, "a");
    commit(store, [Write::ExpireKeyPackages { now: at(19) }]).await.unwrap();
    assert_eq!(
        add(store, &[expiring("a", 20), expiring("b", 20)]).await,
        [KeyPackageKept::Spent, KeyPackageKept::Known]
    );
    commit(store, [Write::ExpireKeyPackages { now: at(20) }]).await.unwrap();
    assert_eq!(claim(store, claim_of("PHONE"), 0).await, got("c", false, 0));
}

/// Many at once: nobody gets what somebody else got.
pub async fn thousand_parallel_claims_share_no_package(store: &dyn Store) {
    let names: Vec<String> = (0..6).map(|n| format!("D{n}")).collect();
    commit(store, names.iter().map(|name| put_device(name))).await.unwrap();
    let alice = user(ALICE);
    for name in &names {
        let packages: Vec<_> = (0..MAX_KEY_PACKAGES - 1)
            .map(|n| package(&format!("{name}-{n}")))
            .collect();
        let kept = store.add_key_packages(&alice, &device(name), &packages, at(10)).await;
        assert!(kept.unwrap().iter().all(|kept| *kept == KeyPackageKept::Kept));
    }
    let claims = (0..1000).map(|n| claim(store, claim_of(&names[n % names.len()]), 10));
    let claimed: Vec<_> = join_all(claims).await.into_iter().flatten().collect();
    assert_eq!(claimed.len(), 1000);
    let distinct: BTreeSet<_> = claimed.iter().map(|(body, ..)| body).collect();
    assert_eq!(distinct.len(), 1000, "a package was handed out twice");
    // What is left can be had, then nothing more.
    let rest = 6 * (MAX_KEY_PACKAGES - 1) - 1000;
    let claims = (0..1000).map(|n| claim(store, claim_of(&names[n % names.len()]), 10));
    let more: BTreeSet<_> = join_all(claims)
        .await
        .into_iter()
        .flatten()
        .map(|(body, ..)| body)
        .collect();
    assert_eq!(more.len(), rest);
    assert!(more.iter().all(|body| !distinct.contains(body)));
}

/// What is remembered as spent does not grow for ever.
pub async fn spent_key_packages_are_bounded(store: &dyn Store) {
    commit(store, [put_device("PHONE")]).await.unwrap();
    let mut number = 0;
    while number <= MAX_SPENT_KEY_PACKAGES {
        let packages: Vec<_> = (number..number + MAX_KEY_PACKAGES)
            .map(|n| package(&n.to_string()))
            .collect();
        add(store, &packages).await;
        let claims = vec![claim_of("PHONE"); MAX_KEY_PACKAGES];
        let claimed = store.claim_key_packages(&claims, at(10)).await.unwrap();
        assert!(claimed.iter().all(Option::is_some));
        number += MAX_KEY_PACKAGES;
    }
    let first_remembered = number - MAX_SPENT_KEY_PACKAGES;
    let old = package(&(first_remembered - 1).to_string());
    let kept = add(store, &[package(&first_remembered.to_string()), old]).await;
    assert_eq!(kept, [KeyPackageKept::Spent, KeyPackageKept::Kept]);
}

fn remote(id: &str, name: &str, object: impl Into<Bytes>, now: u64) -> RemoteDevice {
    RemoteDevice {
        user: user(id),
        device: device(name),
        object: object.into(),
        updated_at: at(now),
    }
}

fn put_remote(device: &RemoteDevice) -> Write {
    Write::PutRemoteDevice { device: device.clone() }
}

/// What other servers say comes, changes, goes and grows old.
pub async fn remote_devices_come_and_go(store: &dyn Store) {
    let bob = "@bob:b.example";
    let (phone, laptop) = (remote(bob, "PHONE", "1", 5), remote(bob, "LAPTOP", "2", 6));
    let carols = remote("@carol:b.example", "PHONE", "3", 7);
    commit(store, [&phone, &laptop, &carols].map(put_remote)).await.unwrap();
    assert_eq!(
        store.remote_devices(&user(bob)).await.unwrap(),
        [laptop.clone(), phone.clone()]
    );
    let newer = remote(bob, "PHONE", "1 and more", 9);
    let gone = Write::RemoveRemoteDevice {
        user: user(bob),
        device: device("LAPTOP"),
    };
    commit(store, [put_remote(&newer), gone.clone(), gone]).await.unwrap();
    assert_eq!(
        store.remote_devices(&user(bob)).await.unwrap(),
        std::slice::from_ref(&newer)
    );
    commit(store, [Write::ExpireRemoteDevices { before: at(9) }])
        .await
        .unwrap();
    assert_eq!(store.remote_devices(&user(bob)).await.unwrap(), [newer]);
    assert_eq!(store.remote_devices(&user("@carol:b.example")).await.unwrap(), []);
}

/// Neither a user nor all users of a server can fill the disk.
pub async fn remote_devices_are_bounded(store: &dyn Store) {
    let (bob, carol) = ("@bob:b.example", "@carol:b.example");
    let refused = |id: &str| Err(StoreError::TooManyDevices { user: user(id) });
    let many = (0..MAX_REMOTE_DEVICES).map(|n| put_remote(&remote(bob, &format!("D{n}"), "x", 5)));
    commit(store, many).await.unwrap();
    assert_eq!(
        commit(store, [put_remote(&remote(bob, "ONE_MORE", "x", 5))]).await,
        refused(bob)
    );
    commit(store, [put_remote(&remote(bob, "D0", "y", 6))]).await.unwrap();

    let mib = 1024 * 1024;
    let large = |name: &str, bytes: usize| put_remote(&remote(carol, name, vec![b'x'; bytes], 5));
    let count = MAX_REMOTE_DEVICE_BYTES / mib - 1;
    commit(store, (0..count).map(|n| large(&format!("L{n}"), mib)))
        .await
        .unwrap();
    let rest = mib - MAX_REMOTE_DEVICES;
    assert_eq!(commit(store, [large("M", rest + 1)]).await, refused(carol));
    commit(store, [large("M", rest)]).await.unwrap();
    assert_eq!(commit(store, [large("N", 1)]).await, refused(carol));
    // Replacing counts the difference; another server has its own allowance.
    commit(store, [large("L0", mib - 1), large("N", 1)]).await.unwrap();
    commit(store, [put_remote(&remote("@dave:d.example", "A", "x", 5))])
        .await
        .unwrap();
    // What goes makes room.
    let gone = Write::RemoveRemoteDevice {
        user: user(carol),
        device: DeviceId::parse("L1").unwrap(),
    };
    commit(store, [gone, large("O", mib)]).await.unwrap();
    commit(store, [Write::ExpireRemoteDevices { before: at(7) }])
        .await
        .unwrap();
    commit(store, [large("AGAIN", MAX_REMOTE_DEVICE_BYTES)]).await.unwrap();
}

/// The newest notice about a subject takes the place of the one before, and comes after everything else.
pub async fn notice_replaces_the_one_before(store: &dyn Store) {
    let alice = user(ALICE);
    let notice = |kind, subject: &str, body: &'static str| Write::Notice {
        user: alice.clone(),
        device: None,
        kind,
        subject: subject.to_owned(),
        body: Bytes::from_static(body.as_bytes()),
        now: at(5),
    };
    let message = Write::Inbox {
        user: alice.clone(),
        device: None,
        kind: InboxKind::ToDevice,
        body: Bytes::from_static(b"message"),
        now: at(5),
    };
    let writes = [
        notice(InboxKind::DeviceList, "bob", "1"),
        notice(InboxKind::DeviceList, "carol", "2"),
        notice(InboxKind::KeyPackagesLow, "bob", "3"),
        message.clone(),
        message,
    ];
    commit(store, writes).await.unwrap();
    let flood = (0..500).map(|_| notice(InboxKind::DeviceList, "bob", "4"));
    commit(store, flood).await.unwrap();
    let inbox = store.inbox(&alice, None, 0, 9999).await.unwrap();
    let items: Vec<_> = inbox.iter().map(|item| (item.seq, &item.body[..])).collect();
    assert_eq!(
        items,
        [(2, &b"2"[..]), (3, b"3"), (4, b"message"), (5, b"message"), (505, b"4")]
    );
    let trim = Write::TrimInbox {
        user: alice.clone(),
        up_to: 505,
    };
    commit(store, [trim, notice(InboxKind::DeviceList, "bob", "5")])
        .await
        .unwrap();
    assert_eq!(store.inbox(&alice, None, 0, 9).await.unwrap().len(), 1);
}
