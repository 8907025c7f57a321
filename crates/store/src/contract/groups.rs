//! A room's MLS group: changes, and the checkpoint that replaces them.

use bytes::Bytes;
use nabe_core::{GroupChange, StoredGroup};
use nabe_types::RoomId;

use super::fixture::{RoomLog, at, checkpoint, commit, pos};
use crate::{Store, StoreError, Write};

fn change(position: i64, bytes: &'static [u8]) -> GroupChange {
    GroupChange {
        position: pos(position),
        bytes: Bytes::from_static(bytes),
    }
}

fn put(room: &RoomLog, change: GroupChange) -> Write {
    Write::PutGroupChange {
        room: room.id().clone(),
        change,
    }
}

fn replace(room: &RoomLog, position: i64) -> Write {
    Write::PutGroup {
        room: room.id().clone(),
        position: pos(position),
        checkpoint: Bytes::from_static(b"whole"),
    }
}

async fn group(store: &dyn Store, room: &RoomId) -> StoredGroup {
    store.load(room).await.unwrap().unwrap().group
}

/// A room with four entries and changes at two and three.
async fn grown(store: &dyn Store) -> RoomLog {
    let mut room = RoomLog::hub("a");
    let mut entries = vec![room.creation()];
    entries.extend(room.messages(3));
    let writes = [
        room.create(),
        room.append(entries, at(1)),
        put(&room, change(2, b"two")),
        put(&room, change(3, b"three")),
    ];
    commit(store, writes).await.unwrap();
    room
}

fn is_conflict(result: Result<(), StoreError>) -> bool {
    matches!(result, Err(StoreError::Conflict { .. }))
}

/// They come back as they were put; a room without any has an empty group.
pub async fn changes_are_kept_in_order(store: &dyn Store) {
    let room = grown(store).await;
    let kept = StoredGroup {
        checkpoint: None,
        changes: vec![change(2, b"two"), change(3, b"three")],
        newest: Some(pos(3)),
    };
    assert_eq!(group(store, room.id()).await, kept);
    assert_eq!(store.newest_commit(room.id()).await.unwrap(), Some(pos(3)));
    let other = RoomLog::hub("b");
    commit(store, [other.create()]).await.unwrap();
    assert_eq!(group(store, other.id()).await, StoredGroup::default());
    assert_eq!(store.newest_commit(other.id()).await.unwrap(), None);
}

/// What was there before stays.
pub async fn change_out_of_order_conflicts(store: &dyn Store) {
    let room = grown(store).await;
    let before = group(store, room.id()).await;
    for position in [2, 3, 5] {
        let refused = commit(store, [put(&room, change(position, b"again"))]).await;
        assert!(is_conflict(refused), "position {position}");
    }
    assert_eq!(group(store, room.id()).await, before);
    let nowhere = commit(store, [put(&RoomLog::hub("b"), change(1, b"lost"))]).await;
    assert!(matches!(nowhere, Err(StoreError::UnknownRoom { .. })));
}

/// Changes after it are kept beside it.
pub async fn checkpoint_replaces_the_changes(store: &dyn Store) {
    let room = grown(store).await;
    commit(store, [replace(&room, 3)]).await.unwrap();
    let mut kept = StoredGroup {
        checkpoint: Some(Bytes::from_static(b"whole")),
        changes: vec![],
        newest: Some(pos(3)),
    };
    assert_eq!(group(store, room.id()).await, kept);
    assert!(is_conflict(commit(store, [put(&room, change(3, b"again"))]).await));
    commit(store, [put(&room, change(4, b"four"))]).await.unwrap();
    kept.changes = vec![change(4, b"four")];
    kept.newest = Some(pos(4));
    assert_eq!(group(store, room.id()).await, kept);
}

/// It would lose the changes after it.
pub async fn checkpoint_of_an_older_epoch_conflicts(store: &dyn Store) {
    let room = grown(store).await;
    for position in [2, 4] {
        assert!(
            is_conflict(commit(store, [replace(&room, position)]).await),
            "position {position}"
        );
    }
    let other = RoomLog::hub("b");
    commit(store, [other.create()]).await.unwrap();
    assert!(is_conflict(commit(store, [replace(&other, 0)]).await));
}

/// Commits may have been missed while the server was away.
pub async fn rebase_forgets_the_group(store: &dyn Store) {
    let room = grown(store).await;
    let rebase = Write::Rebase {
        room: room.id().clone(),
        expected: pos(4),
        checkpoint: checkpoint(5, None, vec![]),
        outliers: vec![],
    };
    commit(store, [rebase]).await.unwrap();
    assert_eq!(group(store, room.id()).await, StoredGroup::default());
    commit(store, [put(&room, change(5, b"anew"))]).await.unwrap();
    assert_eq!(group(store, room.id()).await.newest, Some(pos(5)));
}
