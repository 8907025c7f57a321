//! Opening: the lock, the connections with their settings, the schema.

use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::time::Duration;

use nabe_store::StoreError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};

use crate::failure::Failure;
use crate::readers::Readers;

/// Where the database is and how it is opened.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The database file; its folder must exist. `-wal`, `-shm` and `.lock` are put beside it.
    pub path: PathBuf,
    /// How many reads may run at once.
    pub readers: u32,
}

impl SqliteOptions {
    /// The database at `path` with four readers.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            readers: 4,
        }
    }
}

/// Keeps other processes out of the database until dropped. The operating system lets go of it if we crash.
#[derive(Debug)]
pub(crate) struct LockFile {
    _file: File,
}

impl LockFile {
    pub(crate) fn acquire(options: &SqliteOptions) -> Result<Self, StoreError> {
        let mut path = options.path.clone().into_os_string();
        path.push(".lock");
        let unavailable = |error: std::io::Error| StoreError::Unavailable {
            cause: format!("{}: {error}", PathBuf::from(&path).display()),
        };
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(unavailable)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse {
                path: options.path.display().to_string(),
            }),
            Err(TryLockError::Error(error)) => Err(unavailable(error)),
        }
    }
}

/// What every connection has in common.
pub(crate) fn settings(options: &SqliteOptions) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(&options.path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENTS)
}

/// The one connection that writes; brings the schema up to date.
pub(crate) async fn writer(settings: &SqliteConnectOptions) -> Result<SqliteConnection, Failure> {
    let settings = settings.clone().create_if_missing(true);
    let mut writer = SqliteConnection::connect_with(&settings).await?;
    migrate(&mut writer).await?;
    Ok(writer)
}

/// The connections that read.
pub(crate) async fn readers(settings: &SqliteConnectOptions, count: u32) -> Result<Readers, Failure> {
    let settings = settings.clone().pragma("query_only", "ON");
    let mut connections = Vec::new();
    for _ in 0..count.max(1) {
        connections.push(SqliteConnection::connect_with(&settings).await?);
    }
    Ok(Readers::new(connections))
}

async fn migrate(writer: &mut SqliteConnection) -> Result<(), Failure> {
    let found: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut *writer)
        .await?;
    let known = MIGRATIONS.len() as i64;
    if found > known {
        return Err(StoreError::SchemaTooNew { found, known }.into());
    }
    for (version, migration) in (1_i64..).zip(MIGRATIONS).filter(|(version, _)| *version > found) {
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::raw_sql(*migration).execute(&mut *transaction).await?;
        let mark = format!("PRAGMA user_version = {version}");
        sqlx::raw_sql(AssertSqlSafe(mark)).execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
    Ok(())
}

/// The step to schema version 1, to 2, and so on. A published one never changes.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_initial.sql"),
    include_str!("../migrations/0002_encryption.sql"),
    include_str!("../migrations/0003_media.sql"),
    include_str!("../migrations/0004_mimi.sql"),
    include_str!("../migrations/0005_mimi_follower.sql"),
    include_str!("../migrations/0006_mimi_order.sql"),
    include_str!("../migrations/0007_mimi_routes.sql"),
    include_str!("../migrations/0008_mimi_reports.sql"),
    include_str!("../migrations/0009_mimi_policy.sql"),
    include_str!("../migrations/0010_mimi_key_package_rooms.sql"),
    include_str!("../migrations/0011_users_and_rooms.sql"),
];

/// Only a checkpoint of the write-ahead log or an operator's own tool can make us wait.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Prepared statements kept per connection: ours, with room for one insert per number of rows.
const STATEMENTS: usize = 512;
