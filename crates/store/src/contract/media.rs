//! What is known of the files that users send.

use nabe_types::MediaId;

use super::fixture::{at, commit, server, user};
use crate::rules::UPLOAD_DAY;
use crate::{MediaFile, MediaUse, Store, StoreError, UploadLimits, Write};

const ALICE: &str = "@alice:hub.example";
const BOB: &str = "@bob:hub.example";
const DAY: u64 = UPLOAD_DAY.as_millis() as u64;
const LIMITS: UploadLimits = UploadLimits {
    bytes: 100,
    bytes_per_day: 60,
};

fn upload(who: &str, file: u8, size: u64, now: u64) -> Write {
    Write::PutUpload {
        user: user(who),
        hash: [file; 32],
        size,
        now: at(now),
        limits: LIMITS,
    }
}

fn remove(who: &str, file: u8) -> Write {
    Write::RemoveUpload {
        user: user(who),
        hash: [file; 32],
    }
}

fn media_id(text: &str) -> MediaId {
    MediaId::parse(text).unwrap()
}

fn cached(name: &str, file: u8, size: u64, now: u64) -> Write {
    Write::PutCachedMedia {
        server: server("b.example"),
        media_id: media_id(name),
        hash: [file; 32],
        size,
        now: at(now),
    }
}

fn file(file: u8, size: u64, uploaders: u64) -> MediaFile {
    MediaFile {
        hash: [file; 32],
        size,
        uploaders,
    }
}

async fn used(store: &dyn Store, who: &str, recent_after: u64) -> MediaUse {
    store.media_use(&user(who), at(recent_after)).await.unwrap()
}

/// What two users uploaded counts for both, and is one file.
pub async fn same_file_of_two_users_is_one_file(store: &dyn Store) {
    assert_eq!(store.media_file(&[1; 32]).await.unwrap(), None);
    let writes = [upload(ALICE, 1, 10, 5), upload(BOB, 1, 10, 7), upload(ALICE, 1, 10, 9)];
    commit(store, writes).await.unwrap();
    assert_eq!(store.media_file(&[1; 32]).await.unwrap(), Some(file(1, 10, 2)));
    let once = MediaUse {
        bytes: 10,
        recent_bytes: 10,
        first_recent: Some(at(5)),
    };
    assert_eq!(used(store, ALICE, 4).await, once, "the second time changes nothing");
    assert!(store.has_uploaded(&user(BOB), &[1; 32]).await.unwrap());
    assert!(!store.has_uploaded(&user(BOB), &[2; 32]).await.unwrap());
}

/// Bytes of a day come back with time, bytes in all do not; what is refused leaves no trace.
pub async fn bytes_of_a_day_and_in_all_are_bounded(store: &dyn Store) {
    let over = || StoreError::OverQuota { user: user(ALICE) };
    commit(store, [upload(ALICE, 1, 40, 5)]).await.unwrap();
    assert_eq!(commit(store, [upload(ALICE, 2, 21, 6)]).await, Err(over()));
    assert_eq!(store.media_file(&[2; 32]).await.unwrap(), None);
    // Somebody else has their own, and what is there already costs nothing.
    commit(store, [upload(BOB, 2, 21, 6), upload(ALICE, 2, 20, 6)])
        .await
        .unwrap();
    assert_eq!(commit(store, [upload(ALICE, 3, 1, DAY + 4)]).await, Err(over()));
    commit(store, [upload(ALICE, 3, 40, DAY + 5)]).await.unwrap();
    assert_eq!(
        commit(store, [upload(ALICE, 4, 1, 9 * DAY)]).await,
        Err(over()),
        "100 in all"
    );
    let all = MediaUse {
        bytes: 100,
        recent_bytes: 60,
        first_recent: Some(at(6)),
    };
    assert_eq!(used(store, ALICE, 5).await, all);
    assert_eq!(used(store, "@nobody:hub.example", 0).await, MediaUse::default());
    commit(store, [remove(ALICE, 1), upload(ALICE, 4, 1, 9 * DAY)])
        .await
        .unwrap();
    assert_eq!(used(store, ALICE, 9 * DAY).await.bytes, 61);
}

/// While anybody else has it, or another server, it stays.
pub async fn file_is_forgotten_with_its_last_uploader(store: &dyn Store) {
    commit(store, [upload(ALICE, 1, 10, 5), upload(BOB, 1, 10, 5)])
        .await
        .unwrap();
    commit(store, [remove(ALICE, 1), remove(ALICE, 1)]).await.unwrap();
    assert_eq!(store.media_file(&[1; 32]).await.unwrap(), Some(file(1, 10, 1)));
    commit(store, [remove(BOB, 1), remove(BOB, 9)]).await.unwrap();
    assert_eq!(store.media_file(&[1; 32]).await.unwrap(), None);
    commit(store, [cached("x", 2, 10, 5), upload(BOB, 2, 10, 6), remove(BOB, 2)])
        .await
        .unwrap();
    assert_eq!(store.media_file(&[2; 32]).await.unwrap(), Some(file(2, 10, 0)));
}

/// A name is its server's own, and leads to the newest file that had it.
pub async fn file_of_another_server_is_found_by_its_name(store: &dyn Store) {
    let find = async |name: &str| store.cached_media(&server("b.example"), &media_id(name)).await.unwrap();
    commit(
        store,
        [cached("x", 1, 10, 5), cached("X", 2, 20, 5), cached("same", 1, 10, 6)],
    )
    .await
    .unwrap();
    assert_eq!(find("x").await, Some(file(1, 10, 0)));
    assert_eq!(find("X").await, Some(file(2, 20, 0)));
    assert_eq!(find("same").await, Some(file(1, 10, 0)));
    assert_eq!(find("y").await, None);
    let elsewhere = store.cached_media(&server("c.example"), &media_id("x")).await.unwrap();
    assert_eq!(elsewhere, None);
    commit(store, [cached("x", 2, 20, 7)]).await.unwrap();
    assert_eq!(find("x").await, Some(file(2, 20, 0)));
}

/// Newest first, they stay as long as there is room; what a local user uploaded is not counted and never goes.
pub async fn oldest_files_of_other_servers_go_first(store: &dyn Store) {
    let beyond = async |bytes| store.media_beyond(bytes).await.unwrap();
    assert_eq!(beyond(0).await, []);
    let writes = [
        cached("a", 1, 10, 5),
        cached("b", 2, 20, 6),
        cached("c", 3, 30, 7),
        cached("d", 4, 40, 8),
        upload(ALICE, 3, 30, 9),
    ];
    commit(store, writes).await.unwrap();
    assert_eq!(beyond(70).await, []);
    assert_eq!(beyond(69).await, [file(1, 10, 0)]);
    assert_eq!(beyond(59).await, [file(2, 20, 0), file(1, 10, 0)]);
    assert_eq!(beyond(0).await.len(), 3);
    // Fetched again, it is the newest.
    commit(store, [cached("a", 1, 10, 9)]).await.unwrap();
    assert_eq!(beyond(50).await, [file(2, 20, 0)]);
}

/// Names and uploads go with it, and nobody else's.
pub async fn forgotten_file_leaves_nothing(store: &dyn Store) {
    let forget = Write::ForgetMedia { hash: [1; 32] };
    commit(
        store,
        [cached("x", 1, 10, 5), upload(ALICE, 1, 10, 5), upload(ALICE, 2, 20, 5)],
    )
    .await
    .unwrap();
    commit(store, [forget.clone(), forget]).await.unwrap();
    assert_eq!(store.media_file(&[1; 32]).await.unwrap(), None);
    let named = store.cached_media(&server("b.example"), &media_id("x")).await.unwrap();
    assert_eq!(named, None);
    assert!(!store.has_uploaded(&user(ALICE), &[1; 32]).await.unwrap());
    assert_eq!(used(store, ALICE, 0).await.bytes, 20);
}
