//! The contract on SQLite, and what only a database can get wrong.

use std::path::Path;

use nabe_core::Entry;
use nabe_store::contract::fixture::{RoomLog, at, checkpoint, commit, pdus, pos, user};
use nabe_store::contract::random::Writer;
use nabe_store::{Between, MemoryStore, Order, Store, StoreError, Write};
use proptest::prelude::*;
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use tempfile::TempDir;

use crate::{SqliteOptions, SqliteStore};

async fn open() -> (SqliteStore, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = open_in(folder.path()).await.unwrap();
    (store, folder)
}

async fn open_in(folder: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(&SqliteOptions::new(folder.join("nabe.db"))).await
}

nabe_store::contract_tests!(open);

/// Something in most tables.
async fn fill(store: &dyn Store) -> (RoomLog, Vec<Entry>) {
    let mut log = RoomLog::hub("a");
    let entries = vec![
        log.creation(),
        log.member("@bob:b.example", "join"),
        log.message("m"),
        log.topic("t"),
    ];
    let kept = checkpoint(2, Some(entries[1].event_id().clone()), pdus(&entries[..2]));
    let kept = Write::PutCheckpoint {
        room: log.id().clone(),
        checkpoint: kept,
    };
    commit(store, [log.create(), log.append(entries.clone(), at(5)), kept])
        .await
        .unwrap();
    (log, entries)
}

async fn all(store: &dyn Store, log: &RoomLog) -> Result<Vec<Entry>, StoreError> {
    store.entries(log.id(), Between::ALL, 100, Order::Ascending).await
}

/// Changes the database behind the store's back.
async fn tamper(folder: &Path, sql: &str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(folder.join("nabe.db"))
        .foreign_keys(false);
    let mut db = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut db)
        .await
        .unwrap();
    db.close().await.unwrap();
}

async fn pragma(db: &mut SqliteConnection, name: &str) -> String {
    let sql = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
    let sql = if name == "busy_timeout" {
        sql.replace("(busy_timeout", "(timeout")
    } else {
        sql
    };
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(db).await.unwrap()
}

#[tokio::test]
async fn every_connection_is_durable_and_strict() {
    let (store, _folder) = open().await;
    let mut readers = Vec::new();
    for _ in 0..4 {
        readers.push(store.readers.acquire().await.unwrap());
    }
    let mut writer = store.writer.lock().await;
    let writer = writer.as_mut().unwrap();
    let connections = readers.iter_mut().map(|reader| &mut **reader).chain([writer]);
    for db in connections {
        assert_eq!(pragma(db, "journal_mode").await, "wal");
        assert_eq!(pragma(db, "synchronous").await, "2", "FULL");
        assert_eq!(pragma(db, "foreign_keys").await, "1");
        assert_eq!(pragma(db, "busy_timeout").await, "5000");
    }
}

#[tokio::test]
async fn readers_cannot_write() {
    let (store, _folder) = open().await;
    let mut reader = store.readers.acquire().await.unwrap();
    assert!(sqlx::query("DELETE FROM rooms").execute(&mut *reader).await.is_err());
}

#[tokio::test]
async fn newer_schema_is_refused_in_clear_words() {
    let (store, folder) = open().await;
    store.close().await.unwrap();
    drop(store);
    tamper(folder.path(), "PRAGMA user_version = 99").await;
    let error = open_in(folder.path()).await.unwrap_err();
    assert_eq!(error, StoreError::SchemaTooNew { found: 99, known: 11 });
    assert_eq!(
        error.to_string(),
        "database has schema version 99, this program knows up to 11: use a newer program or restore a backup"
    );
}

#[tokio::test]
async fn database_of_version_one_is_upgraded() {
    let folder = tempfile::tempdir().unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(folder.path().join("nabe.db"))
        .create_if_missing(true);
    let mut db = SqliteConnection::connect_with(&options).await.unwrap();
    let as_it_was = concat!(
        include_str!("../migrations/0001_initial.sql"),
        "PRAGMA user_version = 1;
         INSERT INTO accounts VALUES ('@alice:hub.example', 5);
         INSERT INTO devices VALUES ('@alice:hub.example', 'PHONE', 5);
         INSERT INTO inbox_heads VALUES ('@alice:hub.example', 1);
         INSERT INTO inbox VALUES ('@alice:hub.example', 1, NULL, 'device_list', x'7b7d', 5);"
    );
    sqlx::raw_sql(as_it_was).execute(&mut db).await.unwrap();
    db.close().await.unwrap();
    let store = open_in(folder.path()).await.unwrap();
    let alice = user("@alice:hub.example");
    let phone = store
        .device(&alice, &store.devices(&alice).await.unwrap()[0])
        .await
        .unwrap();
    assert_eq!(phone.unwrap().object, None);
    let inbox = store.inbox(&alice, None, 0, 9).await.unwrap();
    assert_eq!(inbox[0].kind, nabe_store::InboxKind::DeviceList);
}

#[tokio::test]
async fn second_opener_is_kept_out() {
    let (store, folder) = open().await;
    let path = folder.path().join("nabe.db").display().to_string();
    assert_eq!(open_in(folder.path()).await.unwrap_err(), StoreError::InUse { path });
    store.close().await.unwrap();
    drop(store);
    open_in(folder.path()).await.unwrap();
}

#[tokio::test]
async fn reopened_database_has_everything() {
    let (store, folder) = open().await;
    let (log, entries) = fill(&store).await;
    store.close().await.unwrap();
    assert!(matches!(store.rooms().await, Err(StoreError::Unavailable { .. })));
    assert!(matches!(
        store.commit(vec![]).await,
        Err(StoreError::Unavailable { .. })
    ));
    drop(store);
    let store = open_in(folder.path()).await.unwrap();
    assert_eq!(all(&store, &log).await.unwrap(), entries);
    assert_eq!(store.load(log.id()).await.unwrap().unwrap().tail, entries[2..]);
    assert_eq!(
        store.rooms_of(&user("@bob:b.example")).await.unwrap()[0].position,
        pos(2)
    );
}

#[tokio::test]
async fn commit_survives_a_crash() {
    let (store, folder) = open().await;
    let (log, entries) = fill(&store).await;
    // The files as a crash would leave them: nothing closed, nothing folded into the database file.
    let crashed = tempfile::tempdir().unwrap();
    for name in ["nabe.db", "nabe.db-wal"] {
        std::fs::copy(folder.path().join(name), crashed.path().join(name)).unwrap();
    }
    let survivor = open_in(crashed.path()).await.unwrap();
    assert_eq!(all(&survivor, &log).await.unwrap(), entries);
    drop(store);
    let reopened = open_in(folder.path()).await.unwrap();
    assert_eq!(all(&reopened, &log).await.unwrap(), entries);
}

#[tokio::test]
async fn abandoned_commit_happens_wholly_or_not_at_all_and_blocks_nobody() {
    let (store, _folder) = open().await;
    let (mut log, _) = fill(&store).await;
    let more = log.messages(200);
    let write = log.append(more, at(6));
    for _ in 0..20 {
        // One poll starts the transaction, and may get as far as its end; then the caller loses interest.
        let mut commit = store.commit(vec![write.clone().into()]);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = commit.as_mut().poll(&mut context);
    }
    let other = RoomLog::hub("b");
    commit(&store, [other.create()]).await.unwrap();
    let happened = store.head(log.id()).await.unwrap() == Some(pos(204));
    let everything = store
        .entries(log.id(), Between::ALL, 1000, Order::Ascending)
        .await
        .unwrap();
    assert_eq!(everything.len(), if happened { 204 } else { 4 });
    let retried = commit(&store, [write]).await;
    assert_eq!(retried.is_err(), happened);
    let next = log.message("next");
    commit(&store, [log.append(vec![next], at(7))]).await.unwrap();
}

#[tokio::test]
async fn backup_is_a_database_of_its_own() {
    let (store, folder) = open().await;
    let (log, entries) = fill(&store).await;
    let copy = tempfile::tempdir().unwrap();
    store.backup(&copy.path().join("nabe.db")).await.unwrap();
    assert_eq!(all(&open_in(copy.path()).await.unwrap(), &log).await.unwrap(), entries);
    assert!(
        store.backup(&folder.path().join("nabe.db")).await.is_err(),
        "never over an existing file"
    );
}

#[tokio::test]
async fn bad_row_is_named() {
    for (sql, table, column, row) in [
        (
            "UPDATE events SET event_id = 'x' WHERE event_no = 2",
            "events",
            "event_id",
            "2",
        ),
        (
            "UPDATE events SET body = x'7b7d' WHERE event_no = 3",
            "events",
            "body",
            "3",
        ),
        (
            "UPDATE events SET body = (SELECT body FROM events WHERE event_no = 1) WHERE event_no = 2",
            "events",
            "event_id",
            "2",
        ),
        (
            "UPDATE events SET hole = 'moths' WHERE event_no = 3",
            "events",
            "hole",
            "3",
        ),
        (
            "UPDATE events SET lpdu_id = 'x' WHERE event_no = 3",
            "events",
            "lpdu_id",
            "3",
        ),
        (
            "UPDATE events SET received_at = -1 WHERE event_no = 4",
            "events",
            "received_at",
            "4",
        ),
    ] {
        let (store, folder) = open().await;
        let (log, _) = fill(&store).await;
        tamper(folder.path(), sql).await;
        let bad = StoreError::Inconsistent {
            table,
            column,
            row: row.to_owned(),
        };
        assert_eq!(all(&store, &log).await, Err(bad), "{sql}");
    }
}

#[tokio::test]
async fn bad_room_or_checkpoint_is_named() {
    for (sql, table, column) in [
        ("UPDATE rooms SET version = ''", "rooms", "version"),
        ("UPDATE rooms SET hub = '???'", "rooms", "hub"),
        ("UPDATE checkpoints SET head = 'x'", "checkpoints", "head"),
        ("UPDATE checkpoints SET state = '[1,77]'", "checkpoints", "state"),
    ] {
        let (store, folder) = open().await;
        let (log, _) = fill(&store).await;
        tamper(folder.path(), sql).await;
        let bad = StoreError::Inconsistent {
            table,
            column,
            row: "1".to_owned(),
        };
        assert_eq!(store.load(log.id()).await.unwrap_err(), bad, "{sql}");
    }
}

async fn plan(reader: &mut SqliteConnection, sql: &str) -> Vec<String> {
    let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")))
        .fetch_all(reader)
        .await
        .unwrap();
    plan.into_iter().map(|(.., step)| step).collect()
}

#[tokio::test]
async fn no_statement_of_the_hot_path_scans_a_table() {
    let (store, _folder) = open().await;
    let mut reader = store.readers.acquire().await.unwrap();
    for (sql, indexes) in [
        (
            "SELECT 1 FROM followers WHERE server = 'b' AND dirty_since IS NOT NULL ORDER BY dirty_since",
            &["followers_dirty"][..],
        ),
        (
            "UPDATE followers SET dirty_since = grown.value ->> 1 FROM json_each(?) AS grown
             WHERE room_no = grown.value ->> 0 AND dirty_since IS NULL AND until_position IS NULL",
            &["followers_clean"],
        ),
        (
            "UPDATE rooms SET head_position = moved.value ->> 2 FROM json_each(?) AS moved
             WHERE room_id = moved.value ->> 0 AND head_position = moved.value ->> 1 RETURNING room_no",
            &["sqlite_autoindex_rooms_1"],
        ),
        (
            "SELECT 1 FROM events WHERE room_no = 1 AND position > 1 AND position <= 9 AND is_state = 1
             AND soft_failed = 0 AND hole IS NULL AND position IS NOT NULL",
            &["events_of_state"],
        ),
        (
            "SELECT DISTINCT event_no FROM json_each(?) AS wanted CROSS JOIN rooms CROSS JOIN events USING (room_no)
             WHERE room_id = wanted.value ->> 0 AND lpdu_id = wanted.value ->> 1",
            &["sqlite_autoindex_rooms_1", "events_by_lpdu"],
        ),
        (
            "SELECT body FROM json_each(?) AS wanted CROSS JOIN rooms CROSS JOIN events USING (room_no)
             WHERE room_id = wanted.value ->> 0 AND position > wanted.value ->> 1 AND position <= wanted.value ->> 2
             ORDER BY wanted.key, position",
            &["sqlite_autoindex_rooms_1", "events_by_position"],
        ),
    ] {
        let plan = plan(&mut reader, sql).await;
        for index in indexes {
            assert!(plan.iter().any(|step| step.contains(index)), "{index}: {plan:#?}");
        }
        let scans = |step: &&String| step.starts_with("SCAN") && !step.contains("VIRTUAL TABLE");
        assert_eq!(plan.iter().find(scans), None, "{plan:#?}");
    }
}

#[tokio::test]
async fn connection_of_an_abandoned_read_is_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions {
        readers: 1,
        ..SqliteOptions::new(folder.path().join("nabe.db"))
    };
    let store = SqliteStore::open(&options).await.unwrap();
    let (log, entries) = fill(&store).await;
    for _ in 0..20 {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        // A read of one statement, and one of several in a transaction of their own.
        let mut read = store.entries(log.id(), Between::ALL, 100, Order::Ascending);
        let _ = read.as_mut().poll(&mut context);
        drop(read);
        let mut load = store.load(log.id());
        let _ = load.as_mut().poll(&mut context);
    }
    let more = log.clone().message("afterwards");
    commit(&store, [log.append(vec![more.clone()], at(6))]).await.unwrap();
    let now: Vec<_> = entries.into_iter().chain([more]).collect();
    assert_eq!(all(&store, &log).await.unwrap(), now, "not an old snapshot");
    assert_eq!(store.load(log.id()).await.unwrap().unwrap().tail, now[2..]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn random_batches_look_the_same_in_memory(numbers in proptest::collection::vec(any::<u16>(), 1..400)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (sqlite, _folder) = open().await;
            Writer::new(&numbers).run(&MemoryStore::new(), &sqlite).await;
        });
    }
}
