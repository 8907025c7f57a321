//! Why something did not work, as the user of a client hears it.

use std::error::Error;

use nabe_content::ContentError;
use nabe_content::attachment::{OpenError, SealError};
use nabe_mls::{DeviceObjectError, Suite};
use nabe_types::{InvalidId, RoomId};

use crate::transport::TransportError;

/// Why an operation of the client failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The state on disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server, or the way to it.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// OpenMLS.
    #[error("MLS: {doing} failed")]
    Mls {
        /// What was being done.
        doing: &'static str,
        /// OpenMLS's own error.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The device's own object breaks a rule.
    #[error(transparent)]
    DeviceObject(#[from] DeviceObjectError),
    /// A message that cannot be built.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A file that cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A file that does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The server's answer holds an ID that is none.
    #[error("the server's answer: {0}")]
    Id(#[from] InvalidId),
    /// The server takes the credential for another user or device.
    #[error("the credential is for {found}, this state is of {expected}")]
    OtherAccount {
        /// Whose state this is.
        expected: String,
        /// Whose credential it is.
        found: String,
    },
    /// The client knows no such room.
    #[error("{0} is not one of your rooms")]
    UnknownRoom(RoomId),
    /// The room's creator chose no encryption.
    #[error("{0} is not encrypted")]
    NotEncrypted(RoomId),
    /// The room's encryption is one that this device cannot do.
    #[error("{room} is encrypted with {algorithm}, which this device does not support")]
    UnsupportedAlgorithm {
        /// The room.
        room: RoomId,
        /// Its algorithm.
        algorithm: String,
    },
    /// This device has no key for the room's group.
    #[error("this device is not in the group of {0} (yet); another device has to add it, or it joins externally")]
    NotInGroup(RoomId),
    /// There is no group to join.
    #[error("{0} has no group yet")]
    NoGroup(RoomId),
    /// The group's public state, from the server, cannot be joined.
    #[error("the public state of the group of {0} is unusable")]
    UnusableGroup(RoomId),
    /// A commit lost so many races that the client gave up.
    #[error("gave up after {attempts} attempts: others changed the group each time")]
    LostTooOften {
        /// How often it was tried.
        attempts: u32,
    },
    /// The hub refused a commit, and not because it came too late.
    #[error("the hub refused the change: {0}")]
    CommitRefused(String),
    /// A commit that does not fit into an event (64 KiB).
    #[error("the change would be an event of {bytes} bytes, {why}")]
    CommitTooLarge {
        /// How large its content is.
        bytes: usize,
        /// Who found that it does not fit, and why.
        why: NoRoom,
    },
    /// A message that does not fit into an event (64 KiB).
    #[error("the message would be an event of {bytes} bytes, over the limit of {limit}")]
    MessageTooLarge {
        /// How large.
        bytes: usize,
        /// How large at most.
        limit: usize,
    },
    /// The hub has not answered yet. The change goes on in later calls of `sync`.
    #[error("the hub has not answered yet; the change goes on with the next sync")]
    NotConfirmed,
    /// There is no such device in the group.
    #[error("{user}'s device {device} is not in the group")]
    NoSuchMember {
        /// The user.
        user: String,
        /// The device.
        device: String,
    },
    /// None of the devices could be added.
    #[error("nobody could be added: {0}")]
    NobodyAdded(String),
    /// The file is not the one the message promises.
    #[error("the message has no encrypted file")]
    NoFile,
}

/// Why an event has no room for a commit.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoRoom {
    /// Its content is over this many bytes, which is all that any event of this user in this room has room for. It was not sent.
    #[error("over the limit of {0}: the group's public state is in it, so a room has space for 140 to 180 devices")]
    OverLimit(usize),
    /// The server refused it, in these words. Its ways are longer than the shortest one, by which the client judges.
    #[error("refused by the server: {0}")]
    Refused(String),
}

impl ClientError {
    pub(crate) fn mls(doing: &'static str) -> impl FnOnce(Box<dyn Error + Send + Sync>) -> Self {
        move |source| Self::Mls { doing, source }
    }
}

/// Turns any error of OpenMLS into ours.
pub(crate) trait Doing<T> {
    /// Says what was being done.
    fn doing(self, doing: &'static str) -> Result<T, ClientError>;
}

impl<T, E: Error + Send + Sync + 'static> Doing<T> for Result<T, E> {
    fn doing(self, doing: &'static str) -> Result<T, ClientError> {
        self.map_err(|error| ClientError::mls(doing)(Box::new(error)))
    }
}

/// Why the state on disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite.
    #[error("the client's database")]
    Sqlite(#[from] rusqlite::Error),
    /// OpenMLS's tables could not be made.
    #[error("the client's database: OpenMLS's tables")]
    Migration(#[source] Box<dyn Error + Send + Sync>),
    /// Something on the file's way.
    #[error("the client's database")]
    Io(#[from] std::io::Error),
    /// Written by a newer version.
    #[error("the client's database has format {found}, this program knows {known}")]
    Newer {
        /// The file's.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Another process has it open.
    #[error("another program uses this client's database")]
    InUse,
    /// The file belongs to another device, or to none yet.
    #[error("the client's database is of {found}, not of {expected}")]
    OtherDevice {
        /// Who was expected.
        expected: String,
        /// Whose it is.
        found: String,
    },
    /// There is no client in it.
    #[error("the client's database is empty: log in first")]
    Empty,
    /// A row makes no sense.
    #[error("the client's database: a bad value in `{table}.{column}`")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
    },
}

/// A suite that no device key exists for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("this device has no key for {0}")]
pub(crate) struct NoKeyFor(pub(crate) Suite);

/// An error and its causes in one line.
pub(crate) fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
