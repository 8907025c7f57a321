//! Why a store did not do as asked.

use nabe_core::mimi::MimiUri;
use nabe_types::{RoomId, ServerName, UserId};

/// The one error of every [`Store`](crate::Store) method.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StoreError {
    /// The write does not fit what the store holds: the head moved, an event or LPDU ID is there already, the room
    /// exists, or a prune would cut what is still needed. Load the room again and decide again.
    #[error("room {room} has changed since the decision was made")]
    Conflict {
        /// The room the write was about.
        room: RoomId,
    },
    /// The write names a room the store does not have.
    #[error("room {room} is not in the store")]
    UnknownRoom {
        /// The room asked for.
        room: RoomId,
    },
    /// As [`StoreError::Conflict`], of a room of MIMI.
    #[error("room {room} has changed since the decision was made")]
    MimiConflict {
        /// The room the write was about.
        room: MimiUri,
    },
    /// As [`StoreError::UnknownRoom`], of a room of MIMI.
    #[error("room {room} is not in the store")]
    UnknownMimiRoom {
        /// The room asked for.
        room: MimiUri,
    },
    /// As [`StoreError::NotInFlight`], of a room's messages to a follower.
    #[error("notification of {provider} about {room} is not the one in flight")]
    MimiNotInFlight {
        /// The room.
        room: MimiUri,
        /// Who is notified.
        provider: ServerName,
    },
    /// Another room with fixed membership has the same users.
    #[error("the same users have room {room}, and with fixed membership there is one")]
    FixedMembersTaken {
        /// The other room.
        room: MimiUri,
    },
    /// A user's profile is not the one that the write was made on.
    #[error("the profile of {user} has changed since it was read")]
    ProfileChanged {
        /// Whose.
        user: MimiUri,
    },
    /// The destination's outbox holds as many items as the write allowed.
    #[error("outbox to {destination} is full")]
    Full {
        /// Whose outbox.
        destination: ServerName,
    },
    /// `Freeze` while another request to the destination is frozen, or `Confirm` of one that is not.
    #[error("request to {destination} is not the one in flight")]
    NotInFlight {
        /// To whom the request goes.
        destination: ServerName,
    },
    /// No more devices are kept of this user of another server, or of that server's users in all.
    #[error("too many devices of {user} or their server's users")]
    TooManyDevices {
        /// Whose device it was.
        user: UserId,
    },
    /// The user was deleted, and nobody gets the name again.
    #[error("{user} was deleted")]
    AccountDeleted {
        /// Who.
        user: UserId,
    },
    /// The user's uploads would take more than the write allowed.
    #[error("the files of {user} take too much")]
    OverQuota {
        /// Whose.
        user: UserId,
    },
    /// Another process has the database open.
    #[error("database {path} is in use by another process")]
    InUse {
        /// The database's path.
        path: String,
    },
    /// The database cannot be used at the moment, or at all: disk full, I/O error, not a database.
    #[error("database is unavailable: {cause}")]
    Unavailable {
        /// The database's own words.
        cause: String,
    },
    /// A row does not say what this version of the program would have written. Never guessed around.
    #[error("bad value in table `{table}`, column `{column}`, row {row}")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's key, as text.
        row: String,
    },
    /// The database was written by a newer version of the program.
    #[error(
        "database has schema version {found}, this program knows up to {known}: use a newer program or restore a backup"
    )]
    SchemaTooNew {
        /// The database's version.
        found: i64,
        /// The newest version this program knows.
        known: i64,
    },
}

impl StoreError {
    /// Whether only the batch failed and the store itself is fine. Anything else fails the whole commit.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Conflict { .. }
                | Self::UnknownRoom { .. }
                | Self::Full { .. }
                | Self::NotInFlight { .. }
                | Self::MimiConflict { .. }
                | Self::UnknownMimiRoom { .. }
                | Self::MimiNotInFlight { .. }
                | Self::FixedMembersTaken { .. }
                | Self::ProfileChanged { .. }
                | Self::TooManyDevices { .. }
                | Self::AccountDeleted { .. }
                | Self::OverQuota { .. }
        )
    }
}
