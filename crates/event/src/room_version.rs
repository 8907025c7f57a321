//! What differs between the room versions this server speaks, as data. LM #int-room-versions.

use nabe_types::RoomVersionId;

/// The rules of one room version. Every supported version shares all algorithms but the ones named here.
#[derive(Debug, Eq, PartialEq)]
pub struct RoomVersionRules {
    /// The identifier; `m.room.create` must carry exactly this in `content.room_version` (LM #int-auth-rules, rule 3.3).
    pub id: &'static str,
    /// Rule 9.8: when another user's power level entry is out of the sender's reach.
    pub user_level_change: PowerLevelUserRule,
}

/// Which entries of `users` in `m.room.power_levels` a sender may not change or remove, their own excepted
/// (LM #int-auth-rules, rule 9.8).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PowerLevelUserRule {
    /// Entries higher than the sender's own level: what the draft says.
    GreaterThan,
    /// Entries at or above the sender's own level: what deployed servers of the unstable version enforce.
    AtLeast,
}

impl RoomVersionRules {
    /// `I.1`, the version the draft defines.
    pub const I1: Self = Self {
        id: "I.1",
        user_level_change: PowerLevelUserRule::GreaterThan,
    };

    /// The draft's unstable name for the same algorithms, as deployed implementations use it.
    // LM #int-auth-rules (deviation): rule 9.8 with "at or above", because both known implementations enforce that.
    pub const UNSTABLE_02: Self = Self {
        id: "org.matrix.i-d.ralston-mimi-linearized-matrix.02",
        user_level_change: PowerLevelUserRule::AtLeast,
    };

    /// Every version this server can take part in, the preferred one first.
    pub const SUPPORTED: &'static [&'static Self] = &[&Self::I1, &Self::UNSTABLE_02];

    /// The rules of the version `id`, or `None` when it is not supported.
    pub fn for_id(id: &RoomVersionId) -> Option<&'static Self> {
        Self::SUPPORTED.iter().copied().find(|rules| rules.id == id.as_str())
    }
}
