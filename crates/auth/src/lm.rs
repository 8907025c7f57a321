//! The authorization rules of Linearized Matrix. LM #int-auth-rules.

mod create;
mod join_rule;
mod member;
mod membership;
mod power_levels;
mod rejection;
mod rules;
mod selection;
mod state;

#[cfg(test)]
mod tests;

pub use join_rule::JoinRule;
pub use membership::{Membership, membership_of};
pub use power_levels::{Action, PowerLevels};
pub use rejection::AuthRejection;
pub use rules::authorize;
pub use selection::{Rule4Input, auth_types, select_auth_events};
pub use state::{RoomState, StateMap};

const CREATE: &str = "m.room.create";
const JOIN_RULES: &str = "m.room.join_rules";
const MEMBER: &str = "m.room.member";
const POWER_LEVELS: &str = "m.room.power_levels";
