//! Why the service did not do what it was asked. Said by whose fault it is; the HTTP crate alone turns these into
//! statuses and `M_*` codes, starting from [`ServiceError::code`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nabe_core::{CommitRefusal, Refusal};
use nabe_event::{BuildError, Dropped};
use nabe_mls::{DeviceObjectError, GroupRefusal, Suite};
use nabe_store::StoreError;
use nabe_types::{ErrorCode, InvalidId, RoomVersionId, ServerName};

use crate::authenticate::AuthenticationError;
use crate::ports::PeerError;

/// Why a use case failed. Cloneable, because everybody who waits for the same transaction hears it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ServiceError {
    /// The request does not prove who sent it (LM #int-transport-auth). Answered with 401.
    #[error("{0}")]
    Unauthenticated(#[from] AuthenticationError),
    /// The operator's lists exclude this server.
    #[error("this server does not federate with {server}")]
    PolicyRefused {
        /// The excluded server.
        server: ServerName,
    },
    /// The origin speaks for a user of another server.
    #[error("{server} may not act for users of other servers")]
    ForeignUser {
        /// The origin.
        server: ServerName,
    },
    /// The room's rules or its state machine refuse.
    #[error("{0}")]
    Refused(Arc<Refusal>),
    /// The event is malformed or badly signed.
    #[error("{0}")]
    Dropped(Arc<Dropped>),
    /// An invite was refused by our own settings.
    #[error("the user does not accept this invite")]
    InviteRefused,
    /// What was asked about does not exist here, or not for this caller.
    #[error("unknown {0}")]
    NotFound(Missing),
    /// The body is JSON of the wrong shape.
    #[error("the request body does not have the expected form: {0}")]
    BadJson(&'static str),
    /// More is asked for than one answer may hold.
    #[error("too much for one request: {0}")]
    TooLarge(&'static str),
    /// The body, or an identifier in it, is not well-formed.
    #[error("{0}")]
    BadId(#[from] InvalidId),
    /// A path or query parameter is malformed or out of range.
    #[error("the parameter `{0}` is missing or malformed")]
    InvalidParam(&'static str),
    /// The cipher suite is one of those that the operator has to enable.
    #[error(
        "the cipher suite `{suite}` is experimental and not enabled here: `mls.experimental_suites` in the configuration"
    )]
    ExperimentalSuite {
        /// The suite.
        suite: Suite,
    },
    /// Too many requests.
    #[error("too many requests, try again later")]
    LimitExceeded {
        /// When a further request would be served.
        retry_after: Duration,
    },
    /// Another transaction of the same origin is in progress (LM #int-api-send-txn).
    #[error("another transaction of this server is in progress")]
    TransactionInProgress,
    /// We are not the room's hub.
    #[error("this server is not the hub of the room")]
    WrongServer {
        /// The hub, where we know it.
        hub: Option<ServerName>,
    },
    /// The room's version is unknown to us, or not among those the caller supports.
    #[error("room version {version} is not supported")]
    IncompatibleRoomVersion {
        /// The version asked for, or the room's.
        version: RoomVersionId,
    },
    /// Another server refused; its answer is passed on as it is.
    #[error("the other server answered with status {status}")]
    Proxied {
        /// Its HTTP status.
        status: u16,
        /// Its body, a JSON object with `errcode`.
        body: Bytes,
    },
    /// Another server we needed gave no usable answer.
    #[error("{server} did not answer: {error}")]
    PeerFailed {
        /// Whom we asked.
        server: ServerName,
        /// What happened.
        error: PeerError,
    },
    /// Another server's answer broke the protocol.
    #[error("the answer of {server} is not valid: {what}")]
    BadAnswer {
        /// Whom we asked.
        server: ServerName,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The room changed faster than another server answered, several times over.
    #[error("the room changed too often meanwhile, try again")]
    RoomTooBusy,
    /// The database failed. Nothing was done, or it will be found done on the next attempt.
    #[error("the database failed")]
    Store(#[source] Arc<StoreError>),
    /// An earlier event of the room is still being waited for, so this one cannot have its place yet.
    #[error("an earlier event of the room is still missing")]
    GapOpen,
    /// As many things as allowed wait to be sent to this server already.
    #[error("too much is waiting to be sent to {destination}")]
    OutboxFull {
        /// The server.
        destination: ServerName,
    },
    /// A client used an idempotency key for another request before.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The user was deleted: nobody acts as them, or gets their name.
    #[error("the user was deleted")]
    UserDeleted,
    /// A client's access token is not known.
    #[error("unknown access token")]
    UnknownToken,
    /// A device object that a client publishes breaks a rule (LM #int-mls-credentials).
    #[error("{0}")]
    BadDevice(#[from] DeviceObjectError),
    /// A client that is one device acts for another device of its user.
    #[error("the access token is for another device")]
    OtherDevice,
    /// A client acts in a room its user is not in.
    #[error("the user is not in the room")]
    NotInRoom,
    /// The hub refused a local user's event.
    #[error("the room's hub refused the event: {message}")]
    RejectedByHub {
        /// The hub's sentence.
        message: String,
        /// The epoch of the room's group, if the hub says that the event was a commit for another.
        current_epoch: Option<u64>,
    },
    /// A file is larger than files may be.
    #[error("a file may have at most {limit} bytes")]
    MediaTooLarge {
        /// How many bytes.
        limit: u64,
    },
    /// A user's files take as much as they may.
    #[error("the files of one user may take at most {limit} bytes{}", if retry_after.is_some() { " a day" } else { "" })]
    OverQuota {
        /// How many bytes.
        limit: u64,
        /// For what may be uploaded in a day: when there will be room again.
        retry_after: Option<Duration>,
    },
    /// The folder of users' files failed.
    #[error("the storage of files failed")]
    Disk(#[source] Arc<std::io::Error>),
    /// What a hub has to say for itself in a room of MIMI cannot be signed: its key is not for the room's cipher suite, or fails.
    #[error("the hub's key cannot sign for the room's cipher suite")]
    HubKeyUnfit,
    /// The server is being stopped.
    #[error("the server is shutting down")]
    ShuttingDown,
}

/// What does not exist.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Missing {
    /// A room.
    Room,
    /// An event.
    Event,
    /// A user.
    User,
    /// A device of a user.
    Device,
    /// A commit of the room's MLS group.
    Commit,
    /// A file.
    Media,
}

impl ServiceError {
    /// The code a federation peer hears. HTTP statuses follow from it, except where the endpoint says otherwise.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unauthenticated(_)
            | Self::PolicyRefused { .. }
            | Self::ForeignUser { .. }
            | Self::InviteRefused
            | Self::UnknownToken
            | Self::UserDeleted
            | Self::NotInRoom
            | Self::OtherDevice
            | Self::RejectedByHub { .. } => ErrorCode::Forbidden,
            Self::Refused(refusal) => code_of_refusal(refusal),
            Self::Dropped(dropped) => code_of_dropped(dropped),
            Self::KeyReused => ErrorCode::BadState,
            Self::OutboxFull { .. } | Self::OverQuota { .. } => ErrorCode::LimitExceeded,
            Self::NotFound(_) => ErrorCode::NotFound,
            Self::BadJson(_) | Self::BadId(_) | Self::BadDevice(_) => ErrorCode::BadJson,
            Self::TooLarge(_) | Self::MediaTooLarge { .. } => ErrorCode::TooLarge,
            Self::InvalidParam(_) | Self::ExperimentalSuite { .. } => ErrorCode::InvalidParam,
            Self::LimitExceeded { .. } => ErrorCode::LimitExceeded,
            Self::TransactionInProgress => ErrorCode::BadState,
            Self::WrongServer { .. } => ErrorCode::WrongServer,
            Self::IncompatibleRoomVersion { .. } => ErrorCode::IncompatibleRoomVersion,
            Self::Proxied { .. }
            | Self::PeerFailed { .. }
            | Self::BadAnswer { .. }
            | Self::RoomTooBusy
            | Self::GapOpen
            | Self::Store(_)
            | Self::Disk(_)
            | Self::HubKeyUnfit
            | Self::ShuttingDown => ErrorCode::Unknown,
        }
    }

    /// Whether the database holds something else than the decision was made on: load and decide again.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(error) if matches!(**error, StoreError::Conflict { .. } | StoreError::MimiConflict { .. }))
    }

    /// Whether another room with fixed membership has the same users.
    pub(crate) fn is_fixed_members_taken(&self) -> bool {
        matches!(self, Self::Store(error) if matches!(**error, StoreError::FixedMembersTaken { .. }))
    }

    /// Whether a profile was changed by somebody else meanwhile.
    pub(crate) fn is_profile_changed(&self) -> bool {
        matches!(self, Self::Store(error) if matches!(**error, StoreError::ProfileChanged { .. }))
    }

    /// Whether the store keeps no more devices of another server's user.
    pub(crate) fn is_too_many_devices(&self) -> bool {
        matches!(self, Self::Store(error) if matches!(**error, StoreError::TooManyDevices { .. }))
    }

    /// Whether trying the same again later may succeed without anybody doing anything differently.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::LimitExceeded { .. }
            | Self::TransactionInProgress
            | Self::RoomTooBusy
            | Self::OutboxFull { .. }
            | Self::Store(_)
            | Self::Disk(_)
            | Self::ShuttingDown => true,
            Self::PeerFailed { error, .. } => error.is_transient(),
            Self::Dropped(dropped) => dropped.is_for_want_of_keys(),
            _ => false,
        }
    }
}

impl From<Refusal> for ServiceError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotHub { hub } => Self::WrongServer { hub: Some(hub) },
            Refusal::Dropped(dropped) => Self::Dropped(Arc::new(dropped)),
            other => Self::Refused(Arc::new(other)),
        }
    }
}

impl From<Dropped> for ServiceError {
    fn from(dropped: Dropped) -> Self {
        Self::Dropped(Arc::new(dropped))
    }
}

impl From<std::io::Error> for ServiceError {
    fn from(error: std::io::Error) -> Self {
        Self::Disk(Arc::new(error))
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::AccountDeleted { .. } => Self::UserDeleted,
            error => Self::Store(Arc::new(error)),
        }
    }
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Room => "room",
            Self::Event => "event",
            Self::User => "user",
            Self::Device => "device",
            Self::Commit => "commit",
            Self::Media => "file",
        })
    }
}

fn code_of_refusal(refusal: &Refusal) -> ErrorCode {
    match refusal {
        Refusal::Unbuildable(BuildError::CommitTooLarge { .. }) => ErrorCode::TooLarge,
        Refusal::UnfitForEndpoint { .. } | Refusal::Unbuildable(_) => ErrorCode::BadJson,
        Refusal::IncompatibleRoomVersion { .. } => ErrorCode::IncompatibleRoomVersion,
        Refusal::NotHub { .. } => ErrorCode::WrongServer,
        Refusal::Commit(CommitRefusal::Group(GroupRefusal::WrongEpoch { .. })) => ErrorCode::BadState,
        Refusal::Commit(
            CommitRefusal::StateEvent | CommitRefusal::NoString { .. } | CommitRefusal::NotBase64 { .. },
        ) => ErrorCode::BadJson,
        _ => ErrorCode::Forbidden,
    }
}

/// A signature we could not accept is the caller's forbidden act; everything else about an event is its shape.
fn code_of_dropped(dropped: &Dropped) -> ErrorCode {
    match dropped {
        Dropped::NotSigned { .. }
        | Dropped::BadSignature { .. }
        | Dropped::KeyExpired { .. }
        | Dropped::KeysUnavailable { .. } => ErrorCode::Forbidden,
        Dropped::TooLarge { .. } | Dropped::CommitTooLarge { .. } => ErrorCode::TooLarge,
        _ => ErrorCode::BadJson,
    }
}
