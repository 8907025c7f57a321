//! Why something did not work in a MIMI room, as the user of a client hears it.

use std::error::Error;

use nabe_auth::mimi::Rejection;
use nabe_content::mimi::external::{OpenError, TooLarge};
use nabe_content::mimi::status::MessageStatus;
use nabe_content::mimi::{Malformed, WrongReference};
use nabe_wire::DecodeError;
use nabe_wire::key_material::KeyMaterialUserCode;
use nabe_wire::policy::Capability;
use nabe_wire::update::UpdateResponseCode;
use nabe_wire::uri::MimiUri;

use super::lifetime::ExpiryFault;
use super::oblivious::ObliviousError;
use crate::error::StoreError;
use crate::keys::KeysError;
use crate::transport::TransportError;

/// Why an operation of a [`MimiClient`](crate::mimi::MimiClient) failed.
#[derive(Debug, thiserror::Error)]
pub enum MimiError {
    /// The state on disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The provider, or the way to it.
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
    /// The provider's answer is not the struct that it has to be.
    #[error("the provider's answer makes no sense")]
    Answer(#[from] DecodeError),
    /// A message that cannot be written.
    #[error(transparent)]
    Content(#[from] Malformed),
    /// The URI is none of a user's client, `mimi://host/d/<user>/<device>`.
    #[error("{0} is no client of a user")]
    NotAClient(MimiUri),
    /// The URI is none of a user, `mimi://host/u/<user>`.
    #[error("{0} is no user")]
    NotAUser(MimiUri),
    /// The state on disk is another client's.
    #[error("this state is of {found}, not of {expected}")]
    OtherClient {
        /// Who was expected.
        expected: MimiUri,
        /// Whose it is.
        found: String,
    },
    /// The client knows no such room.
    #[error("{0} is not one of your rooms")]
    UnknownRoom(MimiUri),
    /// The client knows the room already.
    #[error("{0} is one of your rooms already")]
    KnownRoom(MimiUri),
    /// This client is not in the room's group.
    #[error("this client is not in the group of {0} (yet)")]
    NotInGroup(MimiUri),
    /// The user is leaving the room.
    #[error("you are leaving {0}")]
    Leaving(MimiUri),
    /// A room is founded at its own hub.
    #[error("{room} is a room of another provider than yours")]
    NotOurRoom {
        /// The room.
        room: MimiUri,
    },
    /// There is no such participant.
    #[error("{user} does not take part in {room}")]
    NoSuchParticipant {
        /// The user.
        user: String,
        /// The room.
        room: MimiUri,
    },
    /// No key packages, and why.
    #[error("{user} cannot be added: {}", status.name().unwrap_or("for a reason that is not known"))]
    KeyMaterial {
        /// Whose.
        user: String,
        /// What their provider says.
        status: KeyMaterialUserCode,
    },
    /// The hub hands out no GroupInfo to this client.
    #[error("the hub of {0} does not let you join")]
    NotAuthorized(MimiUri),
    /// What the hub hands out to joiners is not sound.
    #[error("what the hub of {room} hands out to joiners is not sound: {fault}")]
    UnsoundGroup {
        /// The room.
        room: MimiUri,
        /// What is wrong.
        fault: GroupFault,
    },
    /// No role is open to this client.
    #[error("no role in {0} is open to you")]
    NoRoleOpen(MimiUri),
    /// The hub refused a change.
    #[error("the hub refused the change: {description} ({})", code.name().unwrap_or("an unknown code"))]
    Refused {
        /// Its code.
        code: UpdateResponseCode,
        /// Its words.
        description: String,
    },
    /// The hub says that the room is in an epoch that this client has left behind.
    #[error("the hub says that the room is in epoch {theirs}, and this client has seen it in {ours}")]
    HubBehind {
        /// What the hub says.
        theirs: u64,
        /// What the client has seen.
        ours: u64,
    },
    /// The hub refused a message.
    #[error("the hub refused the message")]
    MessageRefused,
    /// A change lost so many races that the client gave up.
    #[error("gave up after {attempts} attempts: others changed the room each time")]
    LostTooOften {
        /// How often it was tried.
        attempts: u32,
    },
    /// The hub has not answered yet. What was begun goes on in later calls of `sync`.
    #[error("the hub has not answered yet; it goes on with the next sync")]
    NotConfirmed,
    /// A message that names another sender or another room.
    #[error("the message names another sender or room than this")]
    OtherOrigin,
    /// A part refers to one that is not there, or to several (MC #message-bodies).
    #[error(transparent)]
    WrongReference(#[from] WrongReference),
    /// An answer that leads back to what it takes the place of (MC #message-behavior-fields).
    #[error("the answer would be, by way of others, an answer to itself")]
    ReplyLoop,
    /// What the message says about its file is that it is no longer valid (MC #external).
    #[error("by its sender's word what lies at the file's URL is no longer the file")]
    FileExpired,
    /// There is no such message, or it cannot be read.
    #[error("there is no such message")]
    NoSuchMessage,
    /// The user's role does not let them say this.
    #[error("your role in the room lacks {}", capability.name().unwrap_or("a capability"))]
    NotPermitted {
        /// What it would take.
        capability: Capability,
    },
    /// The room has no messages that expire as this one does, or does not.
    #[error("the room's policy: {0}")]
    Expiry(#[source] ExpiryFault),
    /// The room has no previews that senders make of links.
    #[error("the room's policy forbids previews of links")]
    PreviewForbidden,
    /// The room's policy does not let this be told.
    #[error("the room's policy forbids to tell that a message is {status}")]
    StatusForbidden {
        /// What.
        status: MessageStatus,
    },
    /// A report tells of 4,096 messages at most.
    #[error("more than 4096 messages in one report")]
    TooManyStatuses,
    /// A message without a file.
    #[error("the message has no file")]
    NoFile,
    /// A file is larger than one may be.
    #[error(transparent)]
    FileTooLarge(#[from] TooLarge),
    /// What lies where a message says is not its file, or cannot be opened.
    #[error("the file: {0}")]
    File(#[from] OpenError),
    /// Oblivious HTTP.
    #[error(transparent)]
    Oblivious(#[from] ObliviousError),
    /// The room's policy about files.
    #[error("the room's policy: {0}")]
    FilePolicy(#[source] Rejection),
    /// A report is about one user.
    #[error("the messages are not all of one user")]
    SeveralSenders,
    /// A message that no hub has franked cannot be reported.
    #[error("the message has no genuine frank, so it proves nothing")]
    NotFranked,
}

/// What makes a group unsound for a member-to-be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GroupFault {
    /// The answer is not signed by its own key, or not for this room.
    #[error("the answer is not signed for this room")]
    Signature,
    /// It does not open with the key that it was asked for with.
    #[error("it was sealed for another key")]
    Sealing,
    /// The tree is not there.
    #[error("the tree is missing")]
    NoTree,
    /// The first external sender is not who answers, or not the room's provider.
    #[error("the hub is not the group's first external sender")]
    NotTheHub,
    /// The group has an ID that is another group's, or another provider's to give, or a room's of Linearized Matrix.
    #[error("the group's ID is not this room's to have")]
    GroupId,
    /// The group is one of another room, or of no room.
    #[error("the group is not this room's")]
    OtherRoom,
    /// The suite is none of this client's.
    #[error("the suite is none of this client's")]
    Suite,
    /// Its policy does not read.
    #[error("its policy does not read")]
    Policy,
}

impl From<KeysError> for MimiError {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Mls { doing, source } => Self::Mls { doing, source },
            KeysError::Store(error) => Self::Store(error),
        }
    }
}

/// Turns any error of OpenMLS into ours.
pub(crate) trait Doing<T> {
    /// Says what was being done.
    fn doing(self, doing: &'static str) -> Result<T, MimiError>;
}

impl<T, E: Error + Send + Sync + 'static> Doing<T> for Result<T, E> {
    fn doing(self, doing: &'static str) -> Result<T, MimiError> {
        self.map_err(|error| MimiError::Mls {
            doing,
            source: Box::new(error),
        })
    }
}

/// OpenMLS handed over something else than what it was asked for.
#[derive(Debug, thiserror::Error)]
#[error("something else was made")]
pub(crate) struct Unexpected;
