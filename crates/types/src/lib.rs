//! The vocabulary of Linearized Matrix: identifiers, limits, time and error codes.
//!
//! Text from a peer becomes one of these types once, at the edge; nothing further in checks a grammar again.
//! There is no JSON here, no cryptography and no clock.

mod error_code;
pub mod fuzzing;
mod id;
pub mod limits;
mod media;
mod membership;
mod policy;
mod time;

pub use error_code::{ErrorCode, UnknownErrorCode};
pub use id::{
    DeviceId, EventId, IdKind, IdRule, InvalidId, KeyId, RoomId, RoomVersionId, ServerName, TransactionId, UserId,
};
pub use media::{InvalidMediaId, MediaId};
pub use membership::{DeviceRef, MembershipDelta};
pub use policy::{InvalidServerPattern, ServerPattern, ServerPolicy};
pub use time::{LogPosition, UnixMillis};
