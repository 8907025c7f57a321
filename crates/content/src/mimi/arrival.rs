//! Values that make no sense and are most likely malicious (MC #general-handling): such a message is logged and discarded.
//!
//! What shows in the bytes alone, [`super::MimiContent::decode`] refuses: an unknown hash algorithm in a message ID, a long
//! `topicId`, too many parts or levels, unknown semantics. Here is what needs to know more. A message ID seen before is found by
//! [`super::timeline::Timeline::insert`]. What is *not* malicious, by the draft: references to unknown messages, and unknown
//! dispositions, media types and languages.

use std::time::Duration;

use nabe_types::UnixMillis;

use super::content::{Expiration, MimiContent};

/// What a receiver knows about a message besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// When the hub accepted it, by the hub's word.
    pub accepted: UnixMillis,
    /// The receiver's own time.
    pub now: UnixMillis,
    /// When the room was created, if the receiver knows.
    pub room_created: Option<UnixMillis>,
    /// Whether the sender is a member of the MLS group.
    pub sender_is_member: bool,
}

/// Why a message is most likely malicious.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Suspicion {
    /// Its sender is no member.
    #[error("sender is not a member of the group")]
    NotAMember,
    /// It was accepted later than now, by more than [`MAX_CLOCK_SKEW`].
    #[error("accepted in the future")]
    FromTheFuture,
    /// It was accepted before this format existed.
    #[error("accepted before the format existed")]
    BeforeTheFormat,
    /// It was accepted before the room was created.
    #[error("accepted before the room was created")]
    BeforeTheRoom,
    /// It expired more than a year ago.
    #[error("expired more than a year ago")]
    ExpiredLongAgo,
    /// It expires in more than a year.
    #[error("expires in more than a year")]
    ExpiresTooLate,
    /// A message with this ID was there before.
    #[error("duplicate message ID")]
    DuplicateId,
}

/// Whether a message makes sense, where and when it arrived.
pub fn check(content: &MimiContent, arrival: &Arrival) -> Result<(), Suspicion> {
    let Arrival {
        accepted,
        now,
        room_created,
        sender_is_member,
    } = *arrival;
    if !sender_is_member {
        return Err(Suspicion::NotAMember);
    }
    if accepted > now.plus(MAX_CLOCK_SKEW) {
        return Err(Suspicion::FromTheFuture);
    }
    if accepted < FORMAT_PUBLISHED {
        return Err(Suspicion::BeforeTheFormat);
    }
    if room_created.is_some_and(|created| accepted < created) {
        return Err(Suspicion::BeforeTheRoom);
    }
    match content.expires {
        Some(Expiration::Relative { seconds }) if Duration::from_secs(seconds.into()) > YEAR => {
            Err(Suspicion::ExpiresTooLate)
        }
        Some(Expiration::Absolute { seconds }) => {
            let moment = UnixMillis::ZERO.plus(Duration::from_secs(seconds.into()));
            if moment < now.minus(YEAR) {
                Err(Suspicion::ExpiredLongAgo)
            } else if moment > now.plus(YEAR) {
                Err(Suspicion::ExpiresTooLate)
            } else {
                Ok(())
            }
        }
        _ => Ok(()),
    }
}

/// How far clocks may differ: the draft's "few minutes".
pub const MAX_CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// 366 days: nobody's year is longer.
pub const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// 8 July 2024, 00:00 UTC: revision -03, the first with a concrete syntax.
pub const FORMAT_PUBLISHED: UnixMillis = UnixMillis::new(1_720_396_800_000);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mimi::{NestedPart, Origin, Salt};

    const NOW: UnixMillis = UnixMillis::new(1_790_000_000_000);
    const NOW_SECONDS: u32 = 1_790_000_000;
    const YEAR_SECONDS: u32 = 366 * 24 * 60 * 60;

    fn content(expires: Option<Expiration>) -> MimiContent {
        let origin = Origin::new("mimi://a.example/u/alice", "mimi://a.example/r/fish").unwrap();
        let mut content = MimiContent::new(Salt::from_random([1; 16]), &origin, NestedPart::text("x"));
        content.expires = expires;
        content
    }

    fn arrival() -> Arrival {
        Arrival {
            accepted: NOW,
            now: NOW,
            room_created: Some(UnixMillis(NOW.0 - 1000)),
            sender_is_member: true,
        }
    }

    #[test]
    fn a_message_that_makes_sense_passes() {
        assert_eq!(check(&content(None), &arrival()), Ok(()));
        let early = Arrival {
            accepted: NOW.plus(MAX_CLOCK_SKEW),
            ..arrival()
        };
        assert_eq!(check(&content(None), &early), Ok(()));
    }

    #[test]
    fn each_nonsensical_value_is_named() {
        let cases = [
            (
                Arrival {
                    sender_is_member: false,
                    ..arrival()
                },
                Suspicion::NotAMember,
            ),
            (
                Arrival {
                    accepted: UnixMillis(NOW.0 + 300_001),
                    ..arrival()
                },
                Suspicion::FromTheFuture,
            ),
            (
                Arrival {
                    accepted: UnixMillis(FORMAT_PUBLISHED.0 - 1),
                    room_created: None,
                    ..arrival()
                },
                Suspicion::BeforeTheFormat,
            ),
            (
                Arrival {
                    accepted: UnixMillis(NOW.0 - 1001),
                    ..arrival()
                },
                Suspicion::BeforeTheRoom,
            ),
        ];
        for (arrival, expected) in cases {
            assert_eq!(check(&content(None), &arrival), Err(expected));
        }
    }

    #[test]
    fn expiry_more_than_a_year_away_is_nonsense() {
        let absolute = |seconds| content(Some(Expiration::Absolute { seconds }));
        let relative = |seconds| content(Some(Expiration::Relative { seconds }));
        for (content, expected) in [
            (absolute(NOW_SECONDS - YEAR_SECONDS), Ok(())),
            (absolute(NOW_SECONDS - YEAR_SECONDS - 1), Err(Suspicion::ExpiredLongAgo)),
            (absolute(NOW_SECONDS + YEAR_SECONDS), Ok(())),
            (absolute(NOW_SECONDS + YEAR_SECONDS + 1), Err(Suspicion::ExpiresTooLate)),
            (relative(YEAR_SECONDS), Ok(())),
            (relative(YEAR_SECONDS + 1), Err(Suspicion::ExpiresTooLate)),
        ] {
            assert_eq!(check(&content, &arrival()), expected);
        }
    }
}
