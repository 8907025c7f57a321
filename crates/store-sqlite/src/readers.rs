//! The connections that read. A pool of our own, since the one that comes with the driver asks each connection whether it
//! is alive before and after every use: two messages to its thread for the one that reads. These are in this process;
//! they cannot be lost.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sqlx::{Connection, SqliteConnection};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::failure::Failure;

/// Idle connections. The one used last is used next: its statements are prepared, its pages cached.
#[derive(Debug)]
pub(crate) struct Readers {
    idle: Mutex<Vec<SqliteConnection>>,
    /// As many permits as idle connections; closed with them.
    permits: Semaphore,
    count: u32,
}

/// A connection in use; goes back when dropped. What it was doing then is given up before it does anything else: its
/// thread takes one thing after the other.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    readers: &'a Readers,
    /// `None` only while being dropped.
    connection: Option<SqliteConnection>,
    _permit: SemaphorePermit<'a>,
}

impl Readers {
    pub(crate) fn new(connections: Vec<SqliteConnection>) -> Self {
        let count = u32::try_from(connections.len()).expect("a handful");
        Self {
            permits: Semaphore::new(connections.len()),
            idle: Mutex::new(connections),
            count,
        }
    }

    /// Waits for a connection that is idle.
    pub(crate) async fn acquire(&self) -> Result<Reader<'_>, Failure> {
        let permit = self.permits.acquire().await.map_err(|_| Failure::Closed)?;
        let connection = self.idle().pop().ok_or(Failure::Closed)?;
        Ok(Reader {
            readers: self,
            connection: Some(connection),
            _permit: permit,
        })
    }

    /// Waits for the reads under way, then closes every connection.
    pub(crate) async fn close(&self) -> Result<(), Failure> {
        let Ok(_all) = self.permits.acquire_many(self.count).await else {
            return Ok(());
        };
        self.permits.close();
        let connections = std::mem::take(&mut *self.idle());
        for connection in connections {
            connection.close().await?;
        }
        Ok(())
    }

    fn idle(&self) -> MutexGuard<'_, Vec<SqliteConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        // Before the permit goes back, which is a field.
        self.readers.idle().extend(self.connection.take());
    }
}

impl Deref for Reader<'_> {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        self.connection.as_ref().expect("taken out only by `drop`")
    }
}

impl DerefMut for Reader<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        self.connection.as_mut().expect("taken out only by `drop`")
    }
}
