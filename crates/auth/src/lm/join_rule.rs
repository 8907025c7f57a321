//! Who may join uninvited. LM #int-ev-join-rules.

use nabe_signing::json::Json;

use super::{JOIN_RULES, RoomState};

/// The room's join rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum JoinRule {
    /// Anyone may join.
    Public,
    /// Invited users may join, and anyone may ask for an invite.
    Knock,
    /// Invited users may join.
    Invite,
    /// A value the draft does not know, or none: nobody joins or knocks.
    Unknown,
}

impl JoinRule {
    /// The current join rule.
    // LM #int-ev-join-rules (deviation): the draft leaves open what holds without a join rules event; `invite` is the safe reading.
    pub fn of(state: &impl RoomState) -> Self {
        let Some(event) = state.get(JOIN_RULES, "") else {
            return Self::Invite;
        };
        match event.content().get("join_rule").and_then(Json::as_str) {
            Some("public") => Self::Public,
            Some("knock") => Self::Knock,
            Some("invite") => Self::Invite,
            _ => Self::Unknown,
        }
    }
}
