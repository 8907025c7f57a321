//! Why a message cannot be read, in words for whoever wanted to read it (LM #int-ev-encrypted, #int-mls-considerations).

use nabe_types::UserId;
use serde::{Deserialize, Serialize};

/// Why an `m.room.encrypted` event cannot be decrypted.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Undecryptable {
    /// No keys for this room at all. If a Welcome comes, the message may become readable.
    #[error("this device was not in the room's group when the message arrived")]
    NotInGroup,
    /// It is older than this device's membership.
    #[error("sent before this device joined the group")]
    SentBeforeJoining,
    /// Its keys were deleted, as they are after a number of later commits.
    #[error("its keys were deleted, because the group has moved on too far since it was encrypted (epoch {epoch})")]
    EpochGone {
        /// The message's epoch.
        epoch: u64,
    },
    /// It is from an epoch that this device has not reached.
    #[error("it needs keys of epoch {epoch}, and this device has followed the group to epoch {ours} only")]
    EpochUnknown {
        /// The message's epoch.
        epoch: u64,
        /// Ours.
        ours: u64,
    },
    /// LM #int-mls-considerations: an algorithm other than the room's MUST be treated as undecryptable.
    #[error("encrypted with another algorithm than the room's")]
    OtherAlgorithm,
    /// LM #int-ev-encrypted: the content is not what it must be.
    #[error("the event is malformed")]
    Malformed,
    /// Its key was used, or is older than those kept for messages out of order.
    #[error("its key was used before, or deleted as too old (a repeated or much delayed message)")]
    Replayed,
    /// More of the sender's messages would have been skipped than is allowed.
    #[error("too many of the sender's messages before it are missing")]
    SkippedTooMany,
    /// It was damaged, or made for another group state.
    #[error("it does not decrypt with the key it names: it was changed on the way")]
    Corrupt,
    /// It decrypts, but its signature is wrong.
    #[error("the sender's signature does not verify")]
    BadSignature,
    /// The leaf it claims to be from is empty.
    #[error("its sender is not in the group")]
    SenderNotInGroup,
    /// The event says one user, the encrypted message another.
    #[error("the event claims another sender than {actual}, whose device encrypted it")]
    OtherSender {
        /// Whose device encrypted it.
        actual: UserId,
    },
    /// It is for another group.
    #[error("encrypted for another group")]
    OtherGroup,
    /// It decrypts to something that is not an application message.
    #[error("it holds no message")]
    NotAMessage,
    /// This device encrypted it and no longer has the text.
    #[error("this device sent it and did not keep the text")]
    OwnMessage,
    /// Anything else.
    #[error("MLS: {what}")]
    Other {
        /// OpenMLS's words.
        what: String,
    },
}
