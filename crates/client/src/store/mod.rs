//! A client's state in one SQLite file: OpenMLS's tables and ours, changed together in one transaction.
//!
//! The database is locked while it is open: two processes on one state would use one message key twice. Every commit is
//! synced to disk before anything made in it leaves the device, for the same reason.

mod groups;
mod messages;

use std::path::Path;

use nabe_types::{DeviceId, UserId};
use openmls_sqlite_storage::SqliteStorageProvider;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, params};

use crate::error::StoreError;
use crate::keys::KeyNames;
use crate::provider::Cbor;

pub(crate) use groups::{
    CommitState, PendingCommit, StoredIntent, commit_of_epoch, forget_unaddable, is_unaddable, note_epoch,
    note_unaddable,
};
pub use groups::{GroupStatus, Room};
pub use messages::{ItemBody, TimelineItem};
pub(crate) use messages::{
    Outgoing, OutgoingState, OwnKeyPackage, Upload, WaitingWelcome, held_event, hold, queue_to_device,
    queued_to_device, release, sent_to_device, tell, told, untold,
};

/// An open client database.
pub struct ClientStore {
    connection: Connection,
    #[cfg(any(test, feature = "testing"))]
    fuse: Option<Fuse>,
}

/// When a test's client is to die.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Copy, Debug)]
pub struct Fuse {
    /// How many more transactions are committed.
    pub transactions: u32,
}

impl ClientStore {
    /// Opens a file, or makes one that only its owner can read.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        create_private(path)?;
        Self::prepare(Connection::open(path)?)
    }

    /// A database in memory, gone when it is closed.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::prepare(Connection::open_in_memory()?)
    }

    fn prepare(mut connection: Connection) -> Result<Self, StoreError> {
        let in_use = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::InUse,
            _ => StoreError::Sqlite(error),
        };
        connection
            .execute_batch(
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                 PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY; BEGIN IMMEDIATE; COMMIT;",
            )
            .map_err(in_use)?;
        connection.set_prepared_statement_cache_capacity(128);
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if found > FORMAT {
            return Err(StoreError::Newer { found, known: FORMAT });
        }
        SqliteStorageProvider::<Cbor, &mut Connection>::new(&mut connection)
            .run_migrations()
            .map_err(|error| StoreError::Migration(Box::new(error)))?;
        if found == 0 {
            let transaction = connection.transaction()?;
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "user_version", FORMAT)?;
            transaction.commit()?;
        }
        Ok(Self {
            connection,
            #[cfg(any(test, feature = "testing"))]
            fuse: None,
        })
    }

    /// Whose state this is; `None` if nobody has logged in.
    pub fn owner(&self) -> Result<Option<(UserId, DeviceId)>, StoreError> {
        let text = |name| Ok::<_, StoreError>(meta(&self.connection, name)?.map(|bytes| String::from_utf8(bytes).ok()));
        let (Some(user), Some(device)) = (text(USER)?, text(DEVICE)?) else {
            return Ok(None);
        };
        let bad = StoreError::Inconsistent {
            table: "meta",
            column: "value",
        };
        let parsed = (|| Some((UserId::parse(&user?).ok()?, DeviceId::parse(&device?).ok()?)))();
        parsed.map(Some).ok_or(bad)
    }

    /// Runs `work` in a transaction, which counts only if `work` succeeds.
    pub(crate) fn transaction<T, E: From<StoreError>>(
        &mut self,
        work: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        #[cfg(any(test, feature = "testing"))]
        if self.fuse.is_some_and(|fuse| fuse.transactions == 0) {
            return Err(killed().into());
        }
        let transaction = self.connection.transaction().map_err(StoreError::from)?;
        let done = work(&transaction)?;
        transaction.commit().map_err(StoreError::from)?;
        #[cfg(any(test, feature = "testing"))]
        if let Some(fuse) = &mut self.fuse {
            fuse.transactions -= 1;
            if fuse.transactions == 0 {
                return Err(killed().into());
            }
        }
        Ok(done)
    }

    /// Reads.
    pub(crate) const fn read(&self) -> &Connection {
        &self.connection
    }

    /// Has the store die with the last of so many transactions, as if the process were killed at that moment.
    #[cfg(any(test, feature = "testing"))]
    pub const fn set_fuse(&mut self, fuse: Option<Fuse>) {
        self.fuse = fuse;
    }
}

/// What a dead store answers.
#[cfg(any(test, feature = "testing"))]
fn killed() -> StoreError {
    StoreError::Io(std::io::Error::new(
        std::io::ErrorKind::BrokenPipe,
        "killed by the test",
    ))
}

/// Runs `work` so that a failure undoes it alone and not the transaction around it.
pub(crate) fn attempt<T, E: From<StoreError>>(
    connection: &Connection,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let run = |sql| connection.execute_batch(sql).map_err(StoreError::from);
    run("SAVEPOINT attempt")?;
    match work() {
        Ok(done) => {
            run("RELEASE attempt")?;
            Ok(done)
        }
        Err(error) => {
            run("ROLLBACK TO attempt; RELEASE attempt")?;
            Err(error)
        }
    }
}

pub(crate) fn meta(connection: &Connection, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(connection
        .prepare_cached("SELECT value FROM meta WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?)
}

pub(crate) fn set_meta(connection: &Connection, name: &str, value: &[u8]) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2")?
        .execute(params![name, value])?;
    Ok(())
}

#[cfg(unix)]
fn create_private(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    Ok(())
}

#[cfg(not(unix))]
fn create_private(_: &Path) -> Result<(), StoreError> {
    Ok(())
}

pub(crate) const USER: &str = "user_id";
pub(crate) const DEVICE: &str = "device_id";
pub(crate) const TOKEN: &str = "stream_token";
pub(crate) const KEYS: KeyNames = KeyNames {
    suites: "suites",
    key: "signature_key.",
};

const FORMAT: i64 = 1;
const SCHEMA: &str = include_str!("schema.sql");
