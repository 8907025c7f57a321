//! A user's membership. LM #int-ev-member.

use super::{MEMBER, RoomState};

/// The five memberships.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Membership {
    /// Not in the room; also what a user without a member event is.
    Leave,
    /// In the room.
    Join,
    /// Asks to be invited.
    Knock,
    /// Invited.
    Invite,
    /// Barred, and not in the room.
    Ban,
}

impl Membership {
    /// Reads `content.membership`; `None` for a value the draft does not know.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "leave" => Self::Leave,
            "join" => Self::Join,
            "knock" => Self::Knock,
            "invite" => Self::Invite,
            "ban" => Self::Ban,
            _ => return None,
        })
    }

    /// As in `content.membership`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leave => "leave",
            Self::Join => "join",
            Self::Knock => "knock",
            Self::Invite => "invite",
            Self::Ban => "ban",
        }
    }
}

/// The current membership of `user`; [`Membership::Leave`] when there is no member event.
pub fn membership_of(state: &impl RoomState, user: &str) -> Membership {
    let member = state.get(MEMBER, user);
    member
        .and_then(|event| Membership::parse(event.membership()?))
        .unwrap_or(Membership::Leave)
}
