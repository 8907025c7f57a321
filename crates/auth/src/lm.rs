//! The authorization rules of Linearized Matrix (LM #int-auth-rules), and which devices a commit may add to or remove from the
//! room's MLS group (LM #int-mls-add-remove).

mod create;
mod group;
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

pub use group::{GroupRejection, authorize_group_change};
pub use join_rule::JoinRule;
pub use membership::{Membership, membership_of};
pub use power_levels::{Action, PowerLevels};
pub use rejection::AuthRejection;
pub use rules::authorize;
pub use selection::{Rule4Input, auth_types, select_auth_events};
pub use state::{RoomState, StateMap};

const CREATE: &str = "m.room.create";
const HISTORY_VISIBILITY: &str = "m.room.history_visibility";
const JOIN_RULES: &str = "m.room.join_rules";
const MEMBER: &str = "m.room.member";
const POWER_LEVELS: &str = "m.room.power_levels";
