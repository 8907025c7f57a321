//! Who may read an event. The draft names `m.room.history_visibility` and leaves the calculation open
//! (LM #int-calc-event-visibility); this is Matrix's calculation, and its server-level reading for the endpoints servers call.

use nabe_auth::lm::{Membership, RoomState};
use nabe_event::Event;
use nabe_types::{ServerName, UserId};

use crate::State;
use crate::state::{JOIN, MEMBER};

/// How much of an event may be shown.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Access {
    /// Nothing, not even that it exists: 404 `M_NOT_FOUND`.
    Hidden,
    /// Its redacted copy (LM #int-redactions). What the authorization rules read survives that.
    Redacted,
    /// The whole event.
    Full,
}

/// `history_visibility` of `m.room.history_visibility` with an empty state key.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum HistoryVisibility {
    /// From a user's invite on.
    Invited,
    /// From a user's join on.
    Joined,
    /// Everything, to those who join at some time. The default, also for a value we do not know.
    #[default]
    Shared,
    /// Everything, to everyone.
    WorldReadable,
}

impl HistoryVisibility {
    /// Reads the value of `history_visibility`; `None` for one the room version does not know.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "invited" => Self::Invited,
            "joined" => Self::Joined,
            "shared" => Self::Shared,
            "world_readable" => Self::WorldReadable,
            _ => return None,
        })
    }

    /// As in `history_visibility`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invited => "invited",
            Self::Joined => "joined",
            Self::Shared => "shared",
            Self::WorldReadable => "world_readable",
        }
    }

    /// What the room's state says.
    pub fn of(state: &impl RoomState) -> Self {
        let event = state.get("m.room.history_visibility", "");
        event
            .and_then(|event| Self::parse(event.content().get("history_visibility")?.as_str()?))
            .unwrap_or_default()
    }
}

/// What must be known about a server to say what it may read of one event.
#[derive(Clone, Copy, Debug)]
pub struct ServerFacts<'a> {
    /// The server.
    pub server: &'a ServerName,
    /// It has a joined user now.
    pub joined_now: bool,
    /// It had a joined user at some time at or after the event: one of its follower intervals contains the event or begins
    /// after it.
    pub joined_since: bool,
    /// It once had joined users, and the last of them was gone before the event.
    pub left_before: bool,
    /// The room's history visibility is `world_readable` now.
    pub world_readable_now: bool,
}

impl ServerFacts<'_> {
    /// Whether the server may know of the event at all.
    const fn knows_the_room(&self) -> bool {
        self.joined_now || self.joined_since || self.world_readable_now
    }
}

/// What a server may read of an event, given the state before it.
#[must_use]
pub fn access(event: &Event, state_before: &State, facts: &ServerFacts<'_>) -> Access {
    if !facts.knows_the_room() {
        return Access::Hidden;
    }
    let visibility = HistoryVisibility::of(state_before);
    let is_back_or_stayed = facts.joined_now || facts.joined_since;
    if facts.left_before && !is_back_or_stayed && visibility != HistoryVisibility::WorldReadable {
        return Access::Hidden;
    }
    // Commits are needed to follow the group, and say nothing that the member list does not.
    if event.event_type() == MLS_COMMIT {
        return Access::Full;
    }
    let joined = || state_before.joined_users_of(facts.server) > 0 || is_join_by(event, facts.server);
    let invited = || state_before.has_user_of(facts.server, Membership::Invite);
    let full = match visibility {
        HistoryVisibility::WorldReadable | HistoryVisibility::Shared => true,
        HistoryVisibility::Joined => joined(),
        HistoryVisibility::Invited => joined() || invited(),
    };
    if full { Access::Full } else { Access::Redacted }
}

/// What must be known about a user to say whether they may read one event.
#[derive(Clone, Copy, Debug)]
pub struct UserFacts<'a> {
    /// The user.
    pub user: &'a UserId,
    /// They were joined at some time at or after the event.
    pub joined_since: bool,
}

/// What a local user may read of an event, given the state before it: [`Access::Full`] or [`Access::Hidden`].
#[must_use]
pub fn user_access(event: &Event, state_before: &State, facts: &UserFacts<'_>) -> Access {
    let before = state_before.membership(facts.user);
    let is_about_them = event.is_state_of(MEMBER, facts.user.as_str());
    let readable = match HistoryVisibility::of(state_before) {
        _ if before == Membership::Join || is_about_them => true,
        HistoryVisibility::WorldReadable => true,
        HistoryVisibility::Shared => facts.joined_since,
        HistoryVisibility::Invited if before == Membership::Invite => true,
        HistoryVisibility::Invited | HistoryVisibility::Joined => {
            facts.joined_since && event.event_type() == MLS_COMMIT
        }
    };
    if readable { Access::Full } else { Access::Hidden }
}

fn is_join_by(event: &Event, server: &ServerName) -> bool {
    event.event_type() == MEMBER
        && event.membership() == Some(JOIN)
        && event
            .state_key()
            .and_then(|user| UserId::parse(user).ok())
            .is_some_and(|user| user.server_name() == server)
}

const MLS_COMMIT: &str = "m.mls.commit";
