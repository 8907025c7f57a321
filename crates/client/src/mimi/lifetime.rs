//! How long messages of a room last by its policy (MRP #message-expiration, D-expiration). That they end at their time is in `expiry.rs`.
//!
//! A client sends nothing that the policy does not have, and gives what has to expire, and does not say when, the time that the policy prefers.

use std::borrow::Cow;
use std::time::Duration;

use nabe_content::mimi::arrival::{MAX_CLOCK_SKEW, YEAR};
use nabe_content::mimi::status::StatusReport;
use nabe_content::mimi::{Expiration, MimiContent};
use nabe_types::UnixMillis;
use nabe_wire::Message as _;
use nabe_wire::mls::ComponentId;
use nabe_wire::policy::{Expiration as Bounds, MessageExpiration, UnlessForbidden};
use nabe_wire::uri::MimiUri;
use openmls::group::MlsGroup;
use rusqlite::Connection;

use super::group;
use super::store::MimiItem;
use crate::error::StoreError;

/// Why a room does not have a message that expires as this one does, or does not.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ExpiryFault {
    /// No message may expire.
    #[error("no message expires in this room")]
    Forbidden,
    /// Every message has to.
    #[error("every message expires in this room")]
    Required,
    /// It is gone too soon.
    #[error("messages of this room expire after {min} seconds at the earliest")]
    TooShort {
        /// The policy's `min_expiration_duration`.
        min: u32,
    },
    /// It stays too long.
    #[error("messages of this room expire after {max} seconds at the latest")]
    TooLong {
        /// The policy's `max_expiration_duration`.
        max: u32,
    },
}

/// When a message was sent, as far as that is known: what expires at a moment lasts from then on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    at: UnixMillis,
    /// How much earlier or later it may have been.
    give: Duration,
}

impl Sent {
    /// It is about to be.
    pub(super) const fn now(at: UnixMillis) -> Self {
        let give = Duration::ZERO;
        Self { at, give }
    }

    /// It has waited since it was said.
    pub(super) const fn waiting(now: UnixMillis) -> Self {
        Self {
            at: now,
            give: MAX_CLOCK_SKEW,
        }
    }

    /// The hub has taken it, by its own clock.
    pub(super) fn accepted(at: UnixMillis) -> Self {
        Self {
            at,
            give: MAX_CLOCK_SKEW * 2,
        }
    }

    fn seconds_until(self, moment: u32) -> [u64; 2] {
        let moment = UnixMillis::ZERO.plus(Duration::from_secs(moment.into()));
        let until = |from: UnixMillis| moment.as_u64().saturating_sub(from.as_u64()) / 1000;
        [until(self.at.plus(self.give)), until(self.at.minus(self.give))]
    }
}

/// What of a message's expiry the room's policy does not have. A version of another message ends with that one, and reports of messages'
/// status are none: they expire as they like.
pub(super) fn fault(
    connection: &Connection,
    group: &MlsGroup,
    room: &MimiUri,
    content: &MimiContent,
    sent: Sent,
) -> Result<Option<ExpiryFault>, StoreError> {
    let Some(policy) = policy_of(group).filter(|_| !is_report(content)) else {
        return Ok(None);
    };
    if let Some(of) = &content.replaces
        && MimiItem::of_message(connection, room, of)?.is_some()
    {
        return Ok(None);
    }
    let (bounds, expires) = match (policy.expiring_messages, content.expires) {
        (UnlessForbidden::Forbidden, Some(_)) => return Ok(Some(ExpiryFault::Forbidden)),
        (UnlessForbidden::Required(_), None) => return Ok(Some(ExpiryFault::Required)),
        (_, None) => return Ok(None),
        (UnlessForbidden::Optional(bounds) | UnlessForbidden::Required(bounds), Some(expires)) => (bounds, expires),
    };
    let [shortest, longest] = match expires {
        Expiration::Relative { seconds } => [seconds.into(), seconds.into()],
        Expiration::Absolute { seconds } => sent.seconds_until(seconds),
    };
    let (min, max) = (bounds.min_expiration_duration, bounds.max_expiration_duration);
    // A version of what is not here may be of something that is about to end.
    let is_too_short = longest < min.into() && content.replaces.is_none();
    Ok(if is_too_short {
        Some(ExpiryFault::TooShort { min })
    } else if max != 0 && shortest > max.into() {
        Some(ExpiryFault::TooLong { max })
    } else {
        None
    })
}

/// The message with the expiry that the policy prefers, if it has to expire and does not say when: so long after it was read. Without a
/// preference that is as long as it may.
pub(super) fn as_preferred<'c>(group: &MlsGroup, content: &'c MimiContent) -> Cow<'c, MimiContent> {
    let unsaid = content.expires.is_none() && content.replaces.is_none() && !is_report(content);
    let policy = policy_of(group).filter(|_| unsaid);
    let Some(UnlessForbidden::Required(bounds)) = policy.map(|policy| policy.expiring_messages) else {
        return Cow::Borrowed(content);
    };
    let mut content = content.clone();
    let seconds = preferred(&bounds);
    content.expires = Some(Expiration::Relative { seconds });
    Cow::Owned(content)
}

fn preferred(bounds: &Bounds) -> u32 {
    let year = u32::try_from(YEAR.as_secs()).unwrap_or(u32::MAX);
    let longest = match bounds.max_expiration_duration {
        0 => year,
        max => max.min(year),
    };
    let preferred = bounds.default_expiration_duration.unwrap_or(longest);
    preferred.max(bounds.min_expiration_duration).min(longest)
}

fn policy_of(group: &MlsGroup) -> Option<MessageExpiration> {
    let data = group::component(group, ComponentId::MESSAGE_EXPIRATION_POLICY)?;
    MessageExpiration::from_bytes(data).ok()
}

fn is_report(content: &MimiContent) -> bool {
    StatusReport::from_part(&content.body).is_some()
}
